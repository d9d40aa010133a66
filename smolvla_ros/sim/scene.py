"""The scene file: what stands around the arm, checked strictly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smolvla_ros.schema import ConfigError, key, load, read_yaml


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """A slab; its upper face is ``surface``."""

    surface: float = key(doc="m, z of the table's top")
    size: list[float] = key(doc="m, x y z", length=3, above=0.0)
    centre: list[float] = key(doc="m, x y", length=2)
    rgba: list[float] = key(doc="0..1", length=4, at_least=0.0, at_most=1.0)


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """A cube."""

    edge: float = key(doc="m", above=0.0)
    rgba: list[float] = key(doc="0..1", length=4, at_least=0.0, at_most=1.0)


@dataclass(frozen=True, kw_only=True)
class AreaConfig:
    """Where blocks may lie at the start."""

    min: list[float] = key(doc="m, x y", length=2)
    max: list[float] = key(doc="m, x y", length=2)
    spacing: float = key(doc="m between centres", above=0.0)
    mass: float = key(doc="kg a block", above=0.0)


@dataclass(frozen=True, kw_only=True)
class BinConfig:
    """An open box on the table."""

    centre: list[float] = key(doc="m, x y", length=2)
    size: list[float] = key(doc="m, outer x y z", length=3, above=0.0)
    wall: float = key(doc="m", above=0.0)
    rgba: list[float] = key(doc="0..1", length=4, at_least=0.0, at_most=1.0)


@dataclass(frozen=True, kw_only=True)
class CameraPose:
    """A pinhole camera looking at a point, in the frame of ``link``."""

    position: list[float] = key(doc="m", length=3)
    look_at: list[float] = key(doc="m", length=3)
    fovy: float = key(doc="rad, vertical field of view", above=0.0, at_most=3.0)
    width: int = key(doc="pixels", at_least=16, at_most=4096)
    height: int = key(doc="pixels", at_least=16, at_most=4096)
    link: str | None = key(None, doc="the link that carries it; absent: fixed in the world")


@dataclass(frozen=True, kw_only=True)
class ServoConfig:
    """One position servo a joint; force is limited by the URDF's effort."""

    kp: float = key(doc="N.m/rad", above=0.0)
    damping: float = key(doc="N.m.s/rad", at_least=0.0)
    armature: float = key(doc="kg.m2", at_least=0.0)
    frictionloss: float = key(doc="N.m", at_least=0.0)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything around the arm, in the frame of its root link; metres, radians."""

    table: TableConfig = key(doc="the table")
    blocks: dict[str, BlockConfig] = key(doc="name → cube")
    block_area: AreaConfig = key(doc="where the blocks may lie")
    bin: BinConfig = key(doc="the bin")
    cameras: dict[str, CameraPose] = key(doc="name → camera")
    servo: ServoConfig = key(doc="the arm's servos")


def load_scene(path: str | Path) -> Scene:
    """Read a scene file.

    Raises:
        ConfigError: every problem found, each line naming file, key, value and fix.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the path of a scene's YAML")
    return load(Scene, read_yaml(path), str(path))
