"""Where shapes are, and how far apart, for many configurations at once.

Pairs that are surely far apart are sorted out with bounds (spheres, sphere against box, and
separating axes of the two boxes around the shapes); what is left is measured by MuJoCo.
"""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np

from oracle.description import Description, Joint, Shape

_RIM = np.stack([f(np.arange(64) * np.pi / 32) for f in (np.cos, np.sin)], axis=1)


class Kinematics:
    """Poses of links for joint positions ``[N, D]``."""

    def __init__(self, description: Description):
        self._order: list[Joint] = []
        self.root = description.root
        placed = {self.root}
        while len(placed) < len(description.links):
            for joint in description.joints:
                if joint.parent in placed and joint.child not in placed:
                    self._order.append(joint)
                    placed.add(joint.child)
        moving = ("revolute", "continuous", "prismatic")
        self.joints = [j for j in self._order if j.kind in moving and j.mimic is None]
        self.names = [j.name for j in self.joints]
        self._column: dict[str, tuple[int, float, float]] = {
            n: (i, 1.0, 0.0) for i, n in enumerate(self.names)
        }
        waiting = [j for j in self._order if j.kind in moving and j.mimic is not None]
        while waiting:
            joint = next(j for j in waiting if j.mimic[0] in self._column)
            column, times, plus = self._column[joint.mimic[0]]
            _, by, offset = joint.mimic
            self._column[joint.name] = (column, by * times, by * plus + offset)
            waiting.remove(joint)
        self.mimics = [(j, *self._column[j.name]) for j in self._order if j.mimic is not None]
        self.moved_by: dict[str, frozenset[int]] = {self.root: frozenset()}
        for joint in self._order:
            own = {self._column[joint.name][0]} if joint.name in self._column else set()
            self.moved_by[joint.child] = self.moved_by[joint.parent] | own

    def links(self, q: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Link -> rotations ``[N, 3, 3]`` and positions ``[N, 3]`` in the root frame."""
        n = len(q)
        out = {self.root: (np.broadcast_to(np.eye(3), (n, 3, 3)), np.zeros((n, 3)))}
        for joint in self._order:
            turn, place = out[joint.parent]
            place = place + turn @ joint.origin[:3, 3]
            turn = turn @ joint.origin[:3, :3]
            if joint.name in self._column:
                i, times, plus = self._column[joint.name]
                value = q[:, i] * times + plus
                if joint.kind == "prismatic":
                    place = place + (turn @ joint.axis) * value[:, None]
                else:
                    x, y, z = joint.axis
                    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
                    s, c = np.sin(value)[:, None, None], np.cos(value)[:, None, None]
                    turn = turn @ (np.eye(3) + s * k + (1 - c) * (k @ k))
            out[joint.child] = (turn, place)
        return out


def box_around(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half edges of the box around a shape, in the shape's own axes."""
    if shape.kind == "hull":
        low, high = shape.points.min(axis=0), shape.points.max(axis=0)
        return (low + high) / 2, (high - low) / 2
    if shape.kind == "box":
        return np.zeros(3), np.array(shape.size)
    if shape.kind == "sphere":
        return np.zeros(3), np.full(3, shape.size[0])
    radius, half = shape.size
    return np.zeros(3), np.array([radius, radius, half + (shape.kind == "capsule") * radius])


def extreme_points(shape: Shape) -> tuple[np.ndarray, float]:
    """Points ``[V, 3]`` and a radius: the shape is the hull of spheres about them.

    A cylinder's rim is taken at 64 places: 0.12 % of its radius inside the true one.
    """
    if shape.kind == "hull":
        return shape.points, 0.0
    if shape.kind == "sphere":
        return np.zeros((1, 3)), shape.size[0]
    if shape.kind == "box":
        corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
        return corners * np.array(shape.size), 0.0
    radius, half = shape.size
    if shape.kind == "capsule":
        return np.array([[0, 0, -half], [0, 0, half]]), radius
    ends = [np.column_stack([_RIM * radius, np.full(64, z)]) for z in (-half, half)]
    return np.vstack(ends), 0.0


class Meter:
    """MuJoCo's distances between shapes placed at will."""

    _KIND = {  # noqa: RUF012
        "box": mujoco.mjtGeom.mjGEOM_BOX,
        "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
        "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
        "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
        "hull": mujoco.mjtGeom.mjGEOM_MESH,
    }

    def __init__(self, shapes: list[Shape]):
        spec = mujoco.MjSpec()
        for i, shape in enumerate(shapes):
            more = {}
            if shape.kind == "hull":
                mesh = spec.add_mesh(name=f"mesh{i}")
                mesh.uservert = shape.points.ravel().tolist()
                mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
                more["meshname"] = mesh.name
            else:
                more["size"] = [*shape.size, 0, 0][:3]
            spec.worldbody.add_geom(name=f"geom{i}", type=self._KIND[shape.kind], **more)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        # MuJoCo moves a mesh to its own centre and axes: where that is, seen from ours.
        self._own: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for i, shape in enumerate(shapes):
            if shape.kind == "hull":
                mesh = self._model.geom(f"geom{i}").dataid[0]
                turn = np.zeros(9)
                mujoco.mju_quat2Mat(turn, self._model.mesh_quat[mesh])
                self._own[i] = turn.reshape(3, 3), self._model.mesh_pos[mesh].copy()

    def distances(self, a, b, turns, places, cap: float) -> np.ndarray:
        """``[K]`` metres between shapes ``a[k]`` and ``b[k]``, negative where they overlap.

        turns, places: for each of the two, ``[K, 3, 3]`` and ``[K, 3]``. cap: what is
        further apart than this comes back as the cap.
        """
        m, d = self._model, self._data
        (turn_a, turn_b), (place_a, place_b) = turns, places
        turn_a, place_a = self._centred(a, turn_a, place_a)
        turn_b, place_b = self._centred(b, turn_b, place_b)
        out = np.empty(len(a))
        measure, xpos, xmat = mujoco.mj_geomDistance, d.geom_xpos, d.geom_xmat
        turn_a, turn_b = turn_a.reshape(-1, 9), turn_b.reshape(-1, 9)
        for k, (i, j) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
            xpos[i], xmat[i], xpos[j], xmat[j] = place_a[k], turn_a[k], place_b[k], turn_b[k]
            out[k] = measure(m, d, i, j, cap, None)
        return out

    def _centred(self, which, turn, place):
        if not self._own:
            return turn, place
        turn, place = turn.copy(), place.copy()
        for i, (own_turn, own_place) in self._own.items():
            k = which == i
            if k.any():
                place[k] += turn[k] @ own_place
                turn[k] = turn[k] @ own_turn
        return turn, place


def box_gap(centre, turn_a, half_a, turn_b, half_b, cross: bool) -> np.ndarray:
    """``[K]`` a lower bound on the distance of two boxes: the widest gap along an axis.

    centre: ``[K, 3]`` from a to b in the common frame. cross: edge directions too.
    """
    r = np.swapaxes(turn_a, 1, 2) @ turn_b  # b's axes seen from a
    size = np.abs(r)
    in_a = np.einsum("kji,kj->ki", turn_a, centre)
    in_b = np.einsum("kji,kj->ki", turn_b, centre)
    gap_a = np.abs(in_a) - half_a - np.einsum("kij,kj->ki", size, half_b)
    gap_b = np.abs(in_b) - half_b - np.einsum("kij,ki->kj", size, half_a)
    best = np.maximum(gap_a.max(axis=1), gap_b.max(axis=1))
    if not cross:
        return best
    for i in range(3):
        for j in range(3):
            axis = np.cross(turn_a[:, :, i], turn_b[:, :, j])
            length = np.linalg.norm(axis, axis=1)
            ok = length > 1e-3
            axis = axis / np.where(ok, length, 1.0)[:, None]
            spread = (np.abs(np.einsum("kji,kj->ki", turn_a, axis)) * half_a).sum(axis=1)
            spread += (np.abs(np.einsum("kji,kj->ki", turn_b, axis)) * half_b).sum(axis=1)
            gap = np.abs(np.einsum("kj,kj->k", centre, axis)) - spread
            best = np.where(ok, np.maximum(best, gap), best)
    return best
