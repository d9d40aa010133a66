"""Objects of several shapes, and what stands for a mesh and a plane."""

from __future__ import annotations

import coal
import numpy as np
import pinocchio as pin
import pytest

from smolvla_ros.safety.bodies import Body, Part, along_plane, around_points
from smolvla_ros.safety.obstacles import MAX_VERTICES

HERE = pin.SE3.Identity()


def at(x, y=0.0, z=0.0, yaw=0.0):
    return pin.SE3(pin.rpy.rpyToMatrix(0.0, 0.0, yaw), np.array([x, y, z], dtype=float))


def places(body):
    return [o.pose.translation.round(9).tolist() for o in body.obstacles("b")]


def test_a_body_moves_as_one() -> None:
    body = Body(at(1), (Part("sphere", (0.1,), at(0.2)), Part("box", (0.1,) * 3, at(0, 0.3))))
    assert [o.id for o in body.obstacles("b")] == ["b/0", "b/1"]
    assert places(body) == [[1.2, 0, 0], [1, 0.3, 0]]
    assert places(body.moved(at(0, 0, 2, yaw=np.pi / 2))) == [[0, 0.2, 2], [-0.3, 0, 2]]
    assert places(body.moved(at(1), [at(0), at(0.5)])) == [[1, 0, 0], [1.5, 0, 0]]
    with pytest.raises(ValueError, match="1 poses for 2 shapes"):
        body.moved(at(1), [at(0)])
    more = body.with_parts([Part("sphere", (0.2,), at(0))], at(2))
    assert places(more) == [[2.2, 0, 0], [2, 0.3, 0], [2, 0, 0]]


def test_a_mesh_is_its_convex_hull() -> None:
    corners = np.array([[0, 0, 0], [0.4, 0, 0], [0, 0.4, 0], [0, 0, 0.4]])
    inside = np.full((1, 3), 0.05)
    part = around_points(np.vstack([inside, corners]), at(0, 0, 1))
    (hull,) = Body(at(10), (part,)).obstacles("m")
    assert hull.shape == "hull" and sorted(hull.vertices) == sorted(map(tuple, corners.tolist()))
    np.testing.assert_allclose(hull.pose.translation, [10, 0, 1])
    ((shape, _),) = hull.parts()
    # Nearer than its box: along the diagonal, which the slope leaves free.
    ball, there, request = coal.Sphere(0.01), at(10.3, 0.3, 1.3), coal.DistanceRequest()
    found = coal.distance(
        shape, coal.Transform3s(hull.pose.rotation, hull.pose.translation),
        ball, coal.Transform3s(there.rotation, there.translation), request, coal.DistanceResult(),
    )  # fmt: skip
    assert found == pytest.approx((0.9 - 0.4) / np.sqrt(3) - 0.01, abs=1e-6)


def test_a_flat_mesh_has_a_thickness_and_a_round_one_of_many_corners_is_its_box() -> None:
    flat = around_points(np.array([[1.0, 0, 0], [2.0, 0.5, 0], [1.5, 0.25, 0]]), HERE)
    assert flat.shape == "hull" and np.ptp(flat.vertices, axis=0)[2] < 1e-3
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3 * MAX_VERTICES, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    box = around_points(points, HERE)
    assert box.shape == "box" and box.size == pytest.approx((2.0, 2.0, 2.0), abs=0.01)
    for wrong in (np.zeros((0, 3)), np.full((3, 3), np.nan)):
        with pytest.raises(ValueError, match="vertices"):
            around_points(wrong, HERE)


@pytest.mark.parametrize("scale", [1.0, -2.5])
def test_a_plane_is_a_plate_that_has_the_root_over_its_middle(scale) -> None:
    body, pose = at(3, 4, 5, yaw=0.7), at(1, -2, 0.5, yaw=-0.2)
    normal = body.rotation @ pose.rotation @ np.array([0.6, 0.0, 0.8])
    part = along_plane(np.array([0.6, 0.0, 0.8, -0.4]) * scale, pose, body)
    (plate,) = Body(body, (part,)).obstacles("p")
    assert plate.size[0] >= 20 and plate.size[2] <= 0.002
    np.testing.assert_allclose(abs(plate.pose.rotation[:, 2] @ normal), 1.0)
    middle = plate.pose.translation
    inside = (body * pose).actInv(middle)
    assert inside @ [0.6, 0.0, 0.8] == pytest.approx(0.4), "it lies in the plane"
    np.testing.assert_allclose(np.cross(middle, normal), 0.0, atol=1e-9)
    with pytest.raises(ValueError, match="no direction"):
        along_plane([0, 0, 0, 1], HERE, HERE)
    with pytest.raises(ValueError, match="no direction"):
        along_plane([0, 0, np.nan, 1], HERE, HERE)
