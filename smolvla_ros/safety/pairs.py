"""Which two things must keep their distance, and what measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from smolvla_ros.robot import Geometry, RobotModel
from smolvla_ros.safety.inside import InsidePairs, signed_distance
from smolvla_ros.safety.obstacles import Obstacle
from smolvla_ros.safety.scene import Scene
from smolvla_ros.safety.zones import GUARDS, PlacedZone


@dataclass(frozen=True)
class Pair:
    """Two shapes whose distance matters.

    ``name`` is for people (``link ~ link``, ``link ~ zone`` or ``link ~ obstacle``),
    ``check`` the counter's word (``self_collision``, ``keep_out``, ``keep_in``,
    ``obstacle``, ``slow``, ``approach``), ``margin`` in metres, ``zone`` the name of the
    zone or obstacle.
    """

    name: str
    check: str
    margin: float
    zone: str = ""


class Meter(Protocol):
    """What measures pairs, by the number that it gave each."""

    def distance(self, pair: int) -> float:
        """Metres; negative where they overlap."""

    def closest(self, pair: int) -> tuple[float, np.ndarray, np.ndarray]:
        """The distance and the nearest point ``[3]`` of either, in the root frame."""


class Row(NamedTuple):
    """A pair, and how it is measured.

    ``number`` is the pair's at its ``meter``. ``reach`` ``[D]``: how far the two can travel
    against each other per unit of each joint; ``swing`` ``[D]``: how far each can, added up.
    ``walled``: the shape of the arm is kept inside a convex set (a half-space is one), so
    that along a straight way its clearance is nowhere smaller than at both ends.
    """

    pair: Pair
    meter: Meter
    number: int
    reach: np.ndarray
    swing: np.ndarray
    walled: bool = False


ObstacleRows = tuple[Scene, list[int], list[Row]]
"""A scene of obstacles, the index of each there, and its pairs with the arm."""


def arm_rows(
    robot: RobotModel, placed: Mapping[str, PlacedZone], margin: float
) -> tuple[Scene, list[Row], list[Row]]:
    """The arm against itself and its zones: the scene that places them, the guarded pairs, and
    those that only slow the arm down."""
    scene = Scene(robot)
    inside = InsidePairs(scene)
    guards: list[Row] = []
    slowing: list[Row] = []
    for a, b in robot.self_collision_pairs():
        reach = robot.relative_reach(a, b)
        if reach.any():  # else both stand still, or move as one
            pair = Pair(f"{a.link} ~ {b.link}", "self_collision", margin)
            number = scene.add_pair(a.index, b.index)
            guards.append(Row(pair, scene, number, reach, robot.reach(a) + robot.reach(b)))
    for name, here in placed.items():
        zone, parts = here.zone, here.parts()
        into = guards if zone.kind in GUARDS else slowing
        own = zone.own_margin(margin)
        selected = [
            (g, Pair(f"{g.link} ~ {name}", zone.kind, own, name), reach)
            for g, reach in moving(robot)
            if zone.selects(g.link)
        ]
        if parts is None:
            signed = signed_distance(zone.shape, zone.size, here.hull)
            for g, pair, reach in selected:
                shape = robot.geometry.geometryObjects[g.index].geometry
                number = inside.add(g.index, shape, here.pose, signed)
                into.append(Row(pair, inside, number, reach, reach, walled=True))
            continue
        walled = zone.kind == "keep_in" or zone.shape == "half_space"
        for k, (shape, placement) in enumerate(parts):
            index = scene.add_shape(f"zone/{name}/{k}", shape, placement)
            for g, pair, reach in selected:
                number = scene.add_pair(g.index, index)
                into.append(Row(pair, scene, number, reach, reach, walled))
    scene.finish()
    return scene, guards, slowing


def obstacle_rows(robot: RobotModel, obstacles: Sequence[Obstacle], margin: float) -> ObstacleRows:
    """The arm against obstacles: their scene, the index of each there, and the pairs, all of
    one obstacle together."""
    scene = Scene(robot)
    carried = moving(robot)
    indices, rows = [], []
    for o in obstacles:
        ((shape, placement),) = o.parts()
        index = scene.add_shape(f"obstacle/{o.id}", shape, o.pose * placement)
        indices.append(index)
        for g, reach in carried:
            pair = Pair(f"{g.link} ~ {o.id}", "obstacle", margin, o.id)
            rows.append(Row(pair, scene, scene.add_pair(g.index, index), reach, reach))
    scene.finish()
    return scene, indices, rows


def moving(robot: RobotModel) -> list[tuple[Geometry, np.ndarray]]:
    """The shapes that a joint carries, each with its reach ``[D]``. One that none carries (the
    base on its table) cannot be kept away from anything by a gate."""
    found = [(g, robot.reach(g)) for g in robot.geometries]
    return [(g, reach) for g, reach in found if reach.any()]
