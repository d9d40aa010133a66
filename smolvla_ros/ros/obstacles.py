"""Obstacles that come and go, as they come in: MarkerArrays to obstacles."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pinocchio as pin
from visualization_msgs.msg import Marker, MarkerArray

from smolvla_ros.ros.intake import unpack
from smolvla_ros.ros.messages import seconds
from smolvla_ros.safety.command import Refused
from smolvla_ros.safety.obstacles import Obstacle, check_obstacles, read_obstacle


class MarkerObstacles:
    """The obstacles that a stream of MarkerArrays has added and not deleted.

    Cubes, spheres and cylinders. What RViz would show as an ellipsoid is taken as the
    sphere or the round cylinder around it.

    Args:
        frame: the place of a frame in the arm's root frame; raises ValueError for one that
            is not rigidly fixed to it.
    """

    def __init__(self, frame: Callable[[str], pin.SE3]):
        self._frame = frame
        self._known: dict[str, tuple[float, Obstacle]] = {}  # id → (until, obstacle)

    def hear(self, now: float, data: bytes) -> None:
        """Take a serialised MarkerArray over, or nothing of it.

        Raises:
            Refused: it cannot be read, or a marker is none of the shapes, is in a frame that
                is not fixed, or has no place or size.
        """
        known = dict(self._known)
        try:
            for marker in unpack(data, MarkerArray).markers:
                name = f"{marker.ns}/{marker.id}"
                if marker.action == Marker.DELETEALL:
                    known.clear()
                elif marker.action == Marker.DELETE:
                    known.pop(name, None)
                elif marker.action == Marker.ADD:  # which is MODIFY
                    lifetime = seconds(marker.lifetime)
                    until = now + lifetime if lifetime > 0 else math.inf
                    known[name] = (until, self._obstacle(name, marker))
                else:
                    raise ValueError(f"obstacle {name!r}: no action {marker.action}")
            check_obstacles([obstacle for _, obstacle in known.values()])
        except ValueError as error:
            if isinstance(error, Refused):
                raise
            raise Refused("obstacle", str(error)) from error
        self._known = known

    def outlived(self, now: float) -> bool:
        """Whether an obstacle's lifetime has ended since :meth:`present` was asked."""
        return any(until <= now for until, _ in self._known.values())

    def present(self, now: float) -> list[Obstacle]:
        """What is there and has not outlived its lifetime."""
        self._known = {n: k for n, k in self._known.items() if k[0] > now}
        return [obstacle for _, obstacle in self._known.values()]

    def _obstacle(self, name: str, marker: Marker) -> Obstacle:
        x, y, z = marker.scale.x, marker.scale.y, marker.scale.z
        if not all(s > 0.0 for s in (x, y, z)):  # the largest of them would hide it
            raise ValueError(f"obstacle {name!r}: scale {(x, y, z)}; write values above 0")
        shapes = {
            Marker.CUBE: ("box", (x, y, z)),
            Marker.SPHERE: ("sphere", (max(x, y, z) / 2,)),
            Marker.CYLINDER: ("cylinder", (max(x, y) / 2, z)),
        }
        if marker.type not in shapes:
            raise ValueError(
                f"obstacle {name!r}: marker type {marker.type} is no cube, sphere or cylinder"
            )
        try:
            frame = self._frame(marker.header.frame_id)
        except ValueError as error:
            raise ValueError(f"obstacle {name!r}: {error}") from error
        p, q = marker.pose.position, marker.pose.orientation
        turn = (q.x, q.y, q.z, q.w)
        return read_obstacle(
            name,
            *shapes[marker.type],
            position=(p.x, p.y, p.z),
            # RViz takes four zeros for no rotation, and many publishers leave them so.
            quaternion=turn if any(turn) else (0.0, 0.0, 0.0, 1.0),
            frame=frame,
        )


def as_plain(obstacles: list[Obstacle]) -> list[dict]:
    """Obstacles in the arm's root frame as a recording holds them: metres, x y z w."""
    return [
        {
            "id": o.id,
            "shape": o.shape,
            "size": list(o.size),
            "position": o.pose.translation.tolist(),
            "quaternion": np.asarray(pin.Quaternion(o.pose.rotation).coeffs()).tolist(),
            **({"vertices": o.vertices} if o.vertices else {}),
        }
        for o in obstacles
    ]
