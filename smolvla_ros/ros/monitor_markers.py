"""Everything the safety monitor shows in RViz."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from visualization_msgs.msg import MarkerArray

from smolvla_ros.robot import RobotModel
from smolvla_ros.ros.markers import (
    closest_marker,
    obstacle_markers,
    stopping_path_marker,
    zone_markers,
)
from smolvla_ros.safety import Gate, State, Zone
from smolvla_ros.safety.obstacles import Obstacle
from smolvla_ros.safety.zones import with_mesh_paths

_NEAREST = 5  # pairs that are shown
_STANDING = (State.WAITING, State.DISABLED)


def all_markers(
    gate: Gate,
    lock: threading.Lock,
    robot: RobotModel,
    zones: Mapping[str, Zone],
    folder: Path,
    obstacles: Sequence[Obstacle],
) -> MarkerArray:
    """Zones and obstacles, and while the arm is commanded the nearest pairs and the way of
    the arm's last link to rest.

    Args:
        gate: read under ``lock``. zones: the cell's; mesh files relative to ``folder``.
    """
    root = robot.links[0]
    shown = zone_markers(with_mesh_paths(zones, folder), root)
    shown.markers += obstacle_markers(obstacles, root).markers
    with lock:
        if gate.state in _STANDING:
            return shown
        closest = gate.clearance.closest(_NEAREST)
        path = np.vstack([gate.motion.q[None], gate.motion.stop_rows])
    shown.markers.append(closest_marker(closest, root))
    shown.markers.append(stopping_path_marker(robot, robot.links[-1], path, root))
    return shown
