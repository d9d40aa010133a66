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
class LightVariation:
    """How a varied scene is lit."""

    position: float = key(0.0, doc="m the lamp is off along each axis, at most", at_least=0.0)
    strength: list[float] = key(
        [1.0, 1.0], doc="factors of all light, lowest and highest", length=2, above=0.0
    )


@dataclass(frozen=True, kw_only=True)
class CameraVariation:
    """How a varied scene's cameras stand off their poses."""

    position: float = key(0.0, doc="m, up to this along each axis", at_least=0.0)
    angle: float = key(0.0, doc="rad, up to this about each axis", at_least=0.0)


@dataclass(frozen=True, kw_only=True)
class Variation:
    """What differs from one varied scene to the next, beside where the blocks lie."""

    light: LightVariation = key(LightVariation, doc="lamp and brightness")
    cameras: CameraVariation = key(CameraVariation, doc="camera poses")
    colour: float = key(0.0, doc="0..1 a channel, at most", at_least=0.0)
    start: dict[str, float] = key({}, doc="joint → rad off the start pose, at most")
    start_height: float = key(0.0, doc="m of the fingertip above the table, at least")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything around the arm, in the frame of its root link; metres, radians."""

    table: TableConfig = key(doc="the table")
    blocks: dict[str, BlockConfig] = key(doc="name → cube")
    block_area: AreaConfig = key(doc="where the blocks may lie")
    bin: BinConfig = key(doc="the bin")
    cameras: dict[str, CameraPose] = key(doc="name → camera")
    fingertip: str = key(doc="the link whose origin is the fingertip")
    servo: ServoConfig = key(doc="the arm's servos")
    variation: Variation = key(Variation, doc="what a varied scene draws from its seed")


def load_scene(path: str | Path) -> Scene:
    """Read a scene file.

    Raises:
        ConfigError: every problem found, each line naming file, key, value and fix.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the path of a scene's YAML")
    return load(Scene, read_yaml(path), str(path))
