"""Zones as solids: what a planner that keeps out of them keeps the gate from refusing."""

from __future__ import annotations

import coal
import numpy as np
import pinocchio as pin
import pytest
from cells import tabletop

from smolvla_ros.safety.clearance import Clearance
from smolvla_ros.safety.solids import exempt_links, solids
from smolvla_ros.safety.zones import Zone, check_zones

PLACE = {"position": [0.3, 0.1, 0.25], "rpy": [0.3, -0.2, 0.9]}
SIZES = {
    "box": [0.2, 0.1, 0.3],
    "sphere": [0.12],
    "cylinder": [0.1, 0.2],
    "capsule": [0.08, 0.2],
    "half_space": [],
}


def of(robot, **zone):
    return check_zones({"z": Zone(**{"kind": "keep_out", **PLACE, **zone})}, robot, 0.0)["z"]


def shape(solid):
    if solid.shape == "mesh":
        points, triangles = coal.StdVec_Vec3s(), coal.StdVec_Triangle()
        points.extend(list(solid.vertices))
        triangles.extend([coal.Triangle(*face) for face in solid.faces.tolist()])
        return coal.Convex(points, triangles)
    kinds = {"box": coal.Box, "sphere": coal.Sphere, "cylinder": coal.Cylinder}
    return kinds[solid.shape](*solid.size)


def distance(parts, point):
    """Metres from the solids; negative inside."""
    probe, ball = pin.SE3(np.eye(3), np.asarray(point, dtype=float)), coal.Sphere(1e-6)
    found = [
        coal.distance(shape(s), _pose(s.pose), ball, _pose(probe),
                      coal.DistanceRequest(), coal.DistanceResult())
        for s in parts
    ]  # fmt: skip
    return min(found)


def _pose(at):
    return coal.Transform3s(at.rotation, at.translation)


def mesh_file(folder):
    """A wedge, as text STL."""
    a, b, c, d, e, f = [
        np.array(p) for p in ((0, 0, 0), (0.2, 0, 0), (0.2, 0.15, 0), (0, 0.15, 0),
                              (0, 0, 0.1), (0, 0.15, 0.1))
    ]  # fmt: skip
    lines = ["solid wedge"]
    for face in ((a, c, b), (a, d, c), (a, b, e), (d, f, c), (a, e, f), (a, f, d), (b, c, f),
                 (b, f, e)):  # fmt: skip
        lines += ["facet normal 0 0 0", "outer loop"]
        lines += ["vertex " + " ".join(map(str, p)) for p in face]
        lines += ["endloop", "endfacet"]
    path = folder / "wedge.stl"
    path.write_text("\n".join([*lines, "endsolid wedge"]))
    return str(path)


@pytest.mark.parametrize("padding", [0.0, 0.02])
@pytest.mark.parametrize("kind", [*SIZES, "mesh"])
def test_a_zone_s_solids_are_the_zone_and_its_padding(kind, padding, tmp_path) -> None:
    _, robot = tabletop()
    size = {"mesh": mesh_file(tmp_path)} if kind == "mesh" else {"size": SIZES[kind]}
    placed = of(robot, shape=kind, **size)
    bare, parts = placed.parts(), solids(placed, padding)
    rng, seen = np.random.default_rng(1), set()
    points = np.vstack([rng.uniform(-0.5, 0.9, (200, 3)), rng.uniform(-0.16, 0.16, (200, 3))])
    points[200:] += placed.pose.translation
    for point in points:
        probe, ball = pin.SE3(np.eye(3), point), coal.Sphere(1e-6)
        far = min(
            coal.distance(s, _pose(at), ball, _pose(probe), coal.DistanceRequest(),
                          coal.DistanceResult())
            for s, at in bare
        )  # fmt: skip
        near = distance(parts, point)
        # A plate stands for a half-space: below it is beyond where an arm comes from.
        if kind == "half_space" and far < -0.1:
            continue
        seen.add(far < padding)
        if far < 0.0:
            assert near < 1e-4
        else:  # at its corners what is padded is larger than a margin would be
            assert near <= far - padding + 1e-4
            assert far <= max(near, 0.0) + 2.0 * padding + 1e-4
    assert seen == {True, False}


def test_the_walls_around_a_workspace() -> None:
    _, robot = tabletop()
    placed = of(robot, kind="keep_in", shape="box", size=[0.6, 0.8, 0.5])
    parts = solids(placed, 0.02)
    assert len(parts) == 6
    half = np.array([0.3, 0.4, 0.25]) - 0.02
    rng = np.random.default_rng(2)
    for inside in rng.uniform(-1.25, 1.25, (300, 3)) * half:
        room = (half - np.abs(inside)).min()
        if room > -0.05:
            near = distance(parts, placed.pose.act(inside))
            assert near == pytest.approx(room, abs=1e-4) if room > 0 else near < 1e-4
    for outside in (np.eye(3) * (half + 0.1)).tolist():
        assert distance(parts, placed.pose.act(np.array(outside))) < 0.0
    floor = of(robot, kind="keep_in", shape="half_space", rpy=[0.0, 0.0, 0.0])
    assert distance(solids(floor, 0.0), [0.3, 0.1, 0.35]) < 0.0, "above is out"
    assert distance(solids(floor, 0.0), [0.3, 0.1, 0.15]) == pytest.approx(0.1, abs=1e-4)


def test_what_a_planner_has_no_word_for_is_not_given() -> None:
    _, robot = tabletop()
    ball = {"shape": "sphere", "size": [0.5]}
    assert solids(of(robot, kind="keep_in", **ball), 0.0) == []
    assert solids(of(robot, kind="slow", speed_ratio=0.5, **ball), 0.0) == []
    assert solids(of(robot, kind="approach", speed_ratio=0.5, distance=0.2, **ball), 0.0) == []


def test_links_that_may_touch_are_those_that_the_gate_lets_touch() -> None:
    cell, robot = tabletop()
    config = cell.safety_monitor
    clearance = Clearance(robot, config.zones, config.margin, config.slack)
    worn = {g.link for g in robot.geometries}
    for name, placed in check_zones(config.zones, robot, config.margin).items():
        guarded = {p.name.split(" ~ ")[0] for p in clearance.pairs if p.zone == name}
        assert guarded and set(exempt_links(placed, robot)) == worn - guarded, name
