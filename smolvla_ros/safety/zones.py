"""Zones of a cell: where links must not go, must stay, or must be slow."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pinocchio as pin

from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.hull import Hull
from smolvla_ros.safety.shapes import SHAPES, Parts, mesh_hull, walls
from smolvla_ros.schema import ConfigError, key

KINDS = ("keep_out", "keep_in", "slow", "approach")
GUARDS = ("keep_out", "keep_in")  # the others only slow the arm down
HYSTERESIS = 0.005  # m
_FARTHEST = 100.0  # m
_TURN = 6.2832  # rad; degrees by mistake do not get past it

# Which kinds a key is for; where it stands in another zone it would do nothing.
_FOR = {
    "speed_ratio": ("slow", "approach"),
    "speed": ("slow",),
    "distance": ("approach",),
    "hysteresis": ("slow",),
}


@dataclass(frozen=True, kw_only=True)
class Zone:
    """One zone, in the frame of the robot's root link or of one fixed to it.

    ``keep_out``: no selected link comes nearer than the margin. ``keep_in``: no selected
    link comes nearer to the outside than the margin.
    ``slow``: while a selected link touches it (or is nearer than its ``margin``, where it
    has one), joint speeds are at most ``speed_ratio`` of their limits, or no point of a
    selected link is faster than ``speed``.
    ``approach``: while a selected link comes nearer, joint speeds are at most a share of
    their limits that falls from all of them at ``distance`` to ``speed_ratio`` at the
    margin. It stops nothing: a keep_out zone of the same shape does.
    """

    kind: str = key(doc="what the zone does", choices=KINDS)
    shape: str = key(doc="its shape", choices=(*SHAPES, "mesh"))
    size: list[float] = key([], doc="m; box: x y z; sphere: radius; cylinder, capsule: radius "
                            "length; half_space, mesh: none",
                            above=0.0, at_most=_FARTHEST)  # fmt: skip
    mesh: str | None = key(None, doc="mesh: file relative to this one; its convex hull counts")
    scale: float | None = key(None, doc="mesh: m per unit of the file; absent: 1.0",
                              above=0.0, at_most=1000.0)  # fmt: skip
    frame: str | None = key(None, doc="link that position and rpy are in, fixed to the root link; "
                            "absent: the root link")  # fmt: skip
    position: list[float] = key([0.0, 0.0, 0.0], doc="m, centre in the frame", length=3,
                                at_least=-_FARTHEST, at_most=_FARTHEST)  # fmt: skip
    rpy: list[float] = key([0.0, 0.0, 0.0], doc="rad, fixed-axis roll pitch yaw in the frame",
                           length=3, at_least=-_TURN, at_most=_TURN)  # fmt: skip
    margin: float | None = key(None, doc="m; absent: the monitor's margin, for slow zones 0",
                               at_least=0.0, at_most=_FARTHEST)  # fmt: skip
    links: list[str] = key([], doc="only these links; absent: all")
    except_links: list[str] = key([], doc="all but these links")
    speed_ratio: float | None = key(None, doc="slow, approach: share of joint speed limits",
                                    above=0.0, at_most=1.0)  # fmt: skip
    speed: float | None = key(None, doc="slow: m/s of any point of a selected link",
                              above=0.0, at_most=_FARTHEST)  # fmt: skip
    distance: float | None = key(None, doc="approach: m of clearance where slowing down begins",
                                 above=0.0, at_most=_FARTHEST)  # fmt: skip
    hysteresis: float | None = key(None, doc="slow: m of clearance at which an entered zone is "
                                   "left; absent: 0.005",
                                   at_least=0.0, at_most=1.0)  # fmt: skip

    def __post_init__(self) -> None:
        problems = [*self._shape_problems(), *self._kind_problems()]
        if self.links and self.except_links:
            problems.append("links: give links or except_links, not both")
        if problems:
            raise ConfigError(problems)

    def _shape_problems(self) -> list[str]:
        problems = []
        names = SHAPES[self.shape][0] if self.shape in SHAPES else ()
        if len(self.size) != len(names):
            problems.append(
                f"size: has {len(self.size)} values; a {self.shape} needs {len(names)}"
                + (f" ({', '.join(names)})" if names else "")
            )
        if not all(math.isfinite(x) and 0 < x <= _FARTHEST for x in self.size):
            problems.append(f"size: is {self.size}; write values above 0, at most {_FARTHEST} m")
        for name, bound in (("position", _FARTHEST), ("rpy", _TURN)):
            value = getattr(self, name)
            if len(value) != 3 or not all(math.isfinite(x) and abs(x) <= bound for x in value):
                problems.append(f"{name}: is {value}; write 3 values between -{bound} and {bound}")
        if (self.shape == "mesh") != (self.mesh is not None):
            problems.append("mesh: zones of shape mesh need a file, others have none")
        if self.scale is not None and self.shape != "mesh":
            problems.append("scale: only zones of shape mesh have one")
        return problems

    def _kind_problems(self) -> list[str]:
        problems = [
            f"{name}: only {' and '.join(kinds)} zones have it"
            for name, kinds in _FOR.items()
            if self.kind not in kinds and getattr(self, name) is not None
        ]
        if self.kind == "slow" and (self.speed_ratio is None) == (self.speed is None):
            problems.append("speed_ratio: slow zones need speed_ratio or speed, and not both")
        if self.kind == "approach":
            problems += [
                f"{name}: approach zones need it"
                for name in ("speed_ratio", "distance")
                if getattr(self, name) is None
            ]
        return problems

    def selects(self, link: str) -> bool:
        """True where the zone is about this link."""
        return link in self.links if self.links else link not in self.except_links

    @property
    def leave_at(self) -> float:
        """Metres beyond its margin at which a slow zone is left."""
        return HYSTERESIS if self.hysteresis is None else self.hysteresis

    def own_margin(self, margin: float) -> float:
        """Metres that count as the zone's margin; ``margin`` is the monitor's."""
        if self.margin is not None:
            return self.margin
        return 0.0 if self.kind == "slow" else margin


@dataclass(frozen=True)
class PlacedZone:
    """A zone in the frame of the robot's root link; ``hull`` is its mesh, if it has one."""

    zone: Zone
    pose: pin.SE3
    hull: Hull | None

    def parts(self) -> Parts | None:
        """coal shapes that links are held away from (or are slow near), in the root frame;
        None where there are none: the outside of a round or meshed keep-in zone."""
        zone = self.zone
        if zone.kind == "keep_in":
            if zone.shape not in ("box", "half_space"):
                return None
            shapes = walls(zone.shape, zone.size)
        elif self.hull is not None:
            shapes = [(self.hull.shape(), pin.SE3.Identity())]
        else:
            shapes = SHAPES[zone.shape][1](zone.size)
        return [(shape, self.pose * placement) for shape, placement in shapes]


def with_mesh_paths(zones: Mapping[str, Zone], folder: Path) -> dict[str, Zone]:
    """The same zones, mesh files named relative to ``folder`` made absolute."""
    return {
        name: zone
        if zone.mesh is None
        else replace(zone, mesh=os.path.normpath(folder / Path(zone.mesh).expanduser()))
        for name, zone in zones.items()
    }


def fixed_frame(robot: RobotModel, frame: str | None) -> pin.SE3:
    """Where a link that is fixed to the root link lies in it; None: the root link. The frame
    of the SRDF's fixed virtual joint (``world``, mostly) is where that joint's link is.

    Raises:
        ValueError: no such link (it lists them), or one that a joint moves.
    """
    if frame is None:
        return pin.SE3.Identity()
    if frame not in robot.links:
        frame = robot.srdf.frames.get(frame, frame)
    if frame not in robot.links:
        raise ValueError(f"no frame {frame!r}; the URDF has: {', '.join(robot.links)}")
    found = robot.model.frames[robot.model.getFrameId(frame)]
    joint = found.parentJoint
    if joint == 0:
        return found.placement
    while robot.model.parents[joint] != 0:
        joint = robot.model.parents[joint]
    raise ValueError(
        f"{frame!r} moves with joint {robot.model.names[joint]!r}; name a link that is fixed to "
        f"{robot.links[0]!r}"
    )


def check_zones(
    zones: Mapping[str, Zone], robot: RobotModel, margin: float
) -> dict[str, PlacedZone]:
    """The zones in the root frame, each checked against the robot.

    Raises:
        ConfigError: every problem of the set, by key: links, frames and mesh files that are
            not there, a zone that guards nothing, a distance inside the margin.
    """
    problems: list[str] = []
    placed: dict[str, PlacedZone] = {}
    worn = {g.link for g in robot.geometries}
    moving = {g.link for g in robot.geometries if robot.reach(g).any()}
    for name, zone in zones.items():
        where = f"zones.{name}"
        found = _link_problems(zone, robot.links, worn, moving)
        pose, hull = pin.SE3(pin.rpy.rpyToMatrix(*zone.rpy), np.array(zone.position)), None
        try:
            pose = fixed_frame(robot, zone.frame) * pose
        except ValueError as error:
            found.append(f"frame: {error}")
        if zone.mesh is not None:
            try:
                hull = mesh_hull(zone.mesh, 1.0 if zone.scale is None else zone.scale)
            except ValueError as error:
                found.append(f"mesh: {error}")
        own = zone.own_margin(margin)
        if zone.distance is not None and zone.distance <= own:
            found.append(f"distance: is {zone.distance}; write more than the margin, {own}")
        problems += [f"{where}.{p}" for p in found]
        placed[name] = PlacedZone(zone, pose, hull)
    if problems:
        raise ConfigError(problems)
    return placed


def _link_problems(zone: Zone, links: list[str], worn: set[str], moving: set[str]) -> list[str]:
    """``worn``: links with collision geometry; ``moving``: those that a joint carries."""
    unknown = [
        f"{field}: no link {link!r}; the URDF has: {', '.join(links)}"
        for field in ("links", "except_links")
        for link in getattr(zone, field)
        if link not in links
    ]
    unseen = [
        f"links: {link!r} has no collision geometry; the zone would not see it"
        for link in zone.links
        if link in links and link not in worn
    ]
    if unknown or unseen:
        return unknown + unseen
    if not any(zone.selects(link) for link in moving):
        return ["links: selects no link that moves; the zone would do nothing"]
    return []
