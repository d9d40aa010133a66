"""Zones of a cell: where links must not go, must stay, or must be slow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from smolvla_ros.safety.shapes import SHAPES, Parts, outside
from smolvla_ros.schema import ConfigError, key

KINDS = ("keep_out", "keep_in", "slow")


@dataclass(frozen=True, kw_only=True)
class Zone:
    """One zone, in the frame of the robot's root link.

    ``keep_out``: no selected link comes nearer than the margin. ``keep_in``: no selected
    link comes nearer to the outside than the margin (a box or a half-space).
    ``slow``: while a selected link touches it, joint speeds are at most ``speed_ratio``
    of their limits.
    """

    kind: str = key(doc="what the zone does", choices=KINDS)
    shape: str = key(doc="its shape", choices=tuple(SHAPES))
    size: list[float] = key([], doc="m; box: x y z; sphere: radius; cylinder, capsule: radius "
                            "length; half_space: none", above=0.0, at_most=100.0)  # fmt: skip
    position: list[float] = key([0.0, 0.0, 0.0], doc="m, centre in the root link", length=3)
    rpy: list[float] = key([0.0, 0.0, 0.0], doc="rad, fixed-axis roll pitch yaw", length=3)
    margin: float | None = key(None, doc="m, instead of the monitor's margin", at_least=0.0)
    links: list[str] = key([], doc="only these links; empty: all")
    except_links: list[str] = key([], doc="all but these links")
    speed_ratio: float | None = key(None, doc="slow zones: share of joint speed limits",
                                    above=0.0, at_most=1.0)  # fmt: skip

    def __post_init__(self) -> None:
        names = SHAPES[self.shape][0]
        problems = []
        if len(self.size) != len(names):
            problems.append(
                f"size: has {len(self.size)} values; a {self.shape} needs {len(names)}"
                + (f" ({', '.join(names)})" if names else "")
            )
        if self.kind == "keep_in" and self.shape not in ("box", "half_space"):
            problems.append(f"shape: a keep_in zone is a box or a half_space, not a {self.shape}")
        if (self.kind == "slow") != (self.speed_ratio is not None):
            problems.append("speed_ratio: slow zones need it, other zones have none")
        if self.links and self.except_links:
            problems.append("links: give links or except_links, not both")
        if problems:
            raise ConfigError(problems)

    def pose(self) -> pin.SE3:
        """Where the zone's own frame lies in the root frame."""
        return pin.SE3(pin.rpy.rpyToMatrix(*self.rpy), np.array(self.position))

    def parts(self) -> Parts:
        """coal shapes that links are held away from (or are slow in), in the root frame."""
        pose = self.pose()
        build = outside(self.shape, self.size) if self.kind == "keep_in" else None
        shapes = build or SHAPES[self.shape][1](self.size)
        return [(shape, pose * placement) for shape, placement in shapes]

    def selects(self, link: str) -> bool:
        """True where the zone is about this link."""
        return link in self.links if self.links else link not in self.except_links


def check_zones(zones: dict[str, Zone], links: list[str]) -> None:
    """Raise ConfigError where a zone names a link that the robot has not."""
    problems = [
        f"zones.{name}.{field}: no link {link!r}; the URDF has: {', '.join(links)}"
        for name, zone in zones.items()
        for field in ("links", "except_links")
        for link in getattr(zone, field)
        if link not in links
    ]
    if problems:
        raise ConfigError(problems)
