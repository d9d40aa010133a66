"""Collision objects of a planning scene, to and from plain bodies.

moveit_msgs comes in with the messages alone: nothing of it is imported here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pinocchio as pin
from geometry_msgs.msg import Point, Pose

from smolvla_ros.safety.bodies import Body, Part, along_plane, around_points
from smolvla_ros.safety.command import Refused
from smolvla_ros.safety.obstacles import Obstacle, check_obstacles
from smolvla_ros.safety.solids import Solid

_ADD, _REMOVE, _APPEND, _MOVE = range(4)  # CollisionObject.operation
_SIZES = {1: 3, 2: 1, 3: 2, 4: 2}  # SolidPrimitive.type: box, sphere, cylinder, cone → sizes


class SceneBook:
    """The objects of a planning scene, kept up with what MoveIt publishes of it.

    Boxes, spheres and cylinders as they are; a cone as the cylinder around it, a mesh as its
    convex hull, a plane as a thin plate. What the arm holds is no obstacle to it.

    Args:
        frame: the place of a frame in the arm's root frame; raises ValueError for one that
            is not rigidly fixed to it. own: how the names of objects begin that are not taken,
            since the arm is kept from them anyway; empty: none. except_objects: patterns of
            further names that are not taken.
    """

    def __init__(
        self, frame: Callable[[str], pin.SE3], own: str = "", except_objects: Sequence[str] = ()
    ):
        self._frame, self._own, self._except = frame, own, tuple(except_objects)
        self._bodies: dict[str, Body] = {}
        self.attached: set[str] = set()  # names of what the arm holds
        self.octomap = False  # whether the scene has one, which is not taken
        self.whole = False  # whether a whole scene was heard, and all that came after it taken
        self.changes = 0

    def hear(self, scene: Any) -> None:
        """Take a PlanningScene over, or nothing of it; before a whole one, nothing of a diff.

        Raises:
            Refused: an object has a shape, a frame, a place or a size that is none, or there
                are too many. The objects before stay; from here on the book is not whole.
        """
        if scene.is_diff and not self.whole:
            return
        bodies = dict(self._bodies) if scene.is_diff else {}
        attached = set(self.attached) if scene.robot_state.is_diff else set()
        octomap = scene.world.octomap.octomap
        try:
            for held in scene.robot_state.attached_collision_objects:
                self._attach(bodies, attached, held.object)
            for thing in scene.world.collision_objects:
                self._take(bodies, thing)
            check_obstacles(_parts(bodies))
        except (ValueError, OverflowError) as error:
            self.whole = False
            raise Refused("planning_scene", str(error)) from error
        self.changes += self._bodies != bodies or self.attached != attached
        self._bodies, self.attached, self.whole = bodies, attached, True
        if not scene.is_diff or octomap.id:  # MoveIt's word for one that is gone is "cleared"
            self.octomap = bool(octomap.id and len(octomap.data))

    @property
    def present(self) -> list[Obstacle]:
        """What is there, in the root frame."""
        return _parts(self._bodies)

    @property
    def names(self) -> list[str]:
        """The names of what is there."""
        return list(self._bodies)

    def _attach(self, bodies: dict[str, Body], attached: set[str], thing: Any) -> None:
        """What the arm takes hold of goes from the world without a word of its own."""
        if _operation(thing) == _REMOVE:
            attached.discard(thing.id) if thing.id else attached.clear()
        else:
            attached.add(thing.id)
            bodies.pop(thing.id, None)

    def _take(self, bodies: dict[str, Body], thing: Any) -> None:
        """One object, as MoveIt's PlanningScene::processCollisionObjectMsg takes it."""
        name, operation = thing.id, _operation(thing)
        if operation == _REMOVE:  # without a name: everything
            bodies.pop(name, None) if name else bodies.clear()
            return
        if (self._own and name.startswith(self._own)) or any(
            fnmatchcase(name, pattern) for pattern in self._except
        ):
            return
        try:
            place = self._frame(thing.header.frame_id) * read_pose(thing.pose)
            if operation == _MOVE:
                if name not in bodies:
                    raise ValueError("is moved, and was never added")
                poses = [*thing.primitive_poses, *thing.mesh_poses, *thing.plane_poses]
                bodies[name] = bodies[name].moved(place, [read_pose(p) for p in poses])
                return
            if operation not in (_ADD, _APPEND):
                raise ValueError(f"no operation {operation}")
            body = _body(thing, place)
            if operation == _APPEND and name in bodies:
                body = bodies[name].with_parts(body.parts, body.pose)
            body.obstacles(name)
            bodies[name] = body
        except ValueError as error:
            raise ValueError(f"object {name[:60]!r}: {error}") from error


def _parts(bodies: dict[str, Body]) -> list[Obstacle]:
    return [part for name, body in bodies.items() for part in body.obstacles(f"scene/{name}")]


def _operation(thing: Any) -> int:
    value = thing.operation  # a byte: in Python bytes of length 1
    return value[0] if isinstance(value, bytes) else int(value)


def _body(thing: Any, place: pin.SE3) -> Body:
    """An object's shapes, each with its pose or, where there are fewer poses, none.

    Raises:
        ValueError: no shape, more poses than shapes, or a shape that is none.
    """
    shapes = [
        *_with_poses(thing.primitives, thing.primitive_poses, "primitives", _primitive),
        *_with_poses(thing.meshes, thing.mesh_poses, "meshes", _mesh),
        *_with_poses(
            thing.planes, thing.plane_poses, "planes", lambda s, at: along_plane(s.coef, at, place)
        ),
    ]
    if not shapes:
        raise ValueError("has no shape")
    if len(shapes) == 1 and _is_empty(thing.pose):
        # MoveIt takes the pose of a lone shape for the object's, which a later move replaces.
        (part,) = shapes
        return Body(place * part.pose, (replace(part, pose=pin.SE3.Identity()),))
    return Body(place, tuple(shapes))


def _with_poses(
    shapes: Sequence[Any], poses: Sequence[Pose], what: str, read: Callable[[Any, pin.SE3], Part]
) -> list[Part]:
    if len(poses) > len(shapes):
        raise ValueError(f"{len(poses)} poses for {len(shapes)} {what}")
    places = [read_pose(p) for p in poses]
    places += [pin.SE3.Identity()] * (len(shapes) - len(poses))
    return [read(s, at) for s, at in zip(shapes, places, strict=True)]


def _primitive(primitive: Any, at: pin.SE3) -> Part:
    size = [float(x) for x in primitive.dimensions]
    if len(size) != _SIZES.get(primitive.type, -1):
        raise ValueError(
            f"primitive of type {primitive.type} with {len(size)} sizes is no box, sphere, "
            "cylinder or cone"
        )
    if len(size) == 2:  # height, radius
        return Part("cylinder", (size[1], size[0]), at)
    return Part("box" if len(size) == 3 else "sphere", tuple(size), at)


def _mesh(mesh: Any, at: pin.SE3) -> Part:
    return around_points(np.array([(v.x, v.y, v.z) for v in mesh.vertices]).reshape(-1, 3), at)


def _is_empty(pose: Pose) -> bool:
    p, q = pose.position, pose.orientation
    return (p.x, p.y, p.z, q.x, q.y, q.z, q.w) == (0, 0, 0, 0, 0, 0, 1)


def read_pose(pose: Pose) -> pin.SE3:
    """A pose; four zeros are no rotation, as to MoveIt.

    Raises:
        ValueError: values that are no numbers, or a quaternion that is not of length 1.
    """
    p, q = pose.position, pose.orientation
    place, turn = np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
    if not turn.any():
        turn[3] = 1.0
    norm = float(np.linalg.norm(turn))
    if not (np.isfinite(place).all() and abs(norm - 1.0) < 0.01):
        raise ValueError(f"position {place.tolist()}, quaternion {turn.tolist()} are no pose")
    return pin.SE3(pin.Quaternion(turn / norm).toRotationMatrix(), place)


def pose_msg(at: pin.SE3) -> Pose:
    """A pose as a message."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = at.translation.tolist()
    q = pose.orientation
    q.x, q.y, q.z, q.w = (float(x) for x in pin.Quaternion(at.rotation).coeffs())
    return pose


def collision_object(kind: type, name: str, frame_id: str, parts: Sequence[Solid]) -> Any:
    """Solids as one CollisionObject (``kind``) to be added.

    Args:
        frame_id: the arm's root link, which the solids are in.
    """
    from shape_msgs.msg import Mesh, MeshTriangle, SolidPrimitive  # comes with moveit_msgs

    thing = kind(id=name, operation=kind.ADD)
    thing.header.frame_id = frame_id
    for solid in parts:
        at = pose_msg(solid.pose)
        if solid.shape == "mesh":
            mesh = Mesh(vertices=[Point(x=x, y=y, z=z) for x, y, z in solid.vertices.tolist()])
            mesh.triangles = [MeshTriangle(vertex_indices=f) for f in solid.faces.tolist()]
            thing.meshes.append(mesh)
            thing.mesh_poses.append(at)
            continue
        types = {
            "box": SolidPrimitive.BOX,
            "sphere": SolidPrimitive.SPHERE,
            "cylinder": SolidPrimitive.CYLINDER,
        }
        size = solid.size[::-1] if solid.shape == "cylinder" else solid.size  # height, radius
        primitive = SolidPrimitive(type=types[solid.shape], dimensions=array("d", size))
        thing.primitives.append(primitive)
        thing.primitive_poses.append(at)
    return thing


def allow(matrix: Any, entry: type, wanted: Sequence[tuple[str, str]]) -> bool:
    """Let pairs of names touch in an AllowedCollisionMatrix; True where that changed it.

    Args:
        matrix: complete, as MoveIt gives it: a diff with a matrix replaces MoveIt's whole one.
        entry: AllowedCollisionEntry.
    """
    names = list(matrix.entry_names)
    rows = [list(e.enabled) for e in matrix.entry_values]
    if any(len(column) != len(names) for column in (rows, *rows)):
        return False  # no matrix
    before = [list(row) for row in rows]
    for name in dict.fromkeys(n for pair in wanted for n in pair):
        if name not in names:
            names.append(name)
            for row in rows:
                row.append(False)
            rows.append([False] * len(names))
    index = {name: k for k, name in enumerate(names)}
    for a, b in wanted:
        rows[index[a]][index[b]] = rows[index[b]][index[a]] = True
    matrix.entry_names = names
    matrix.entry_values = [entry(enabled=row) for row in rows]
    return rows != before
