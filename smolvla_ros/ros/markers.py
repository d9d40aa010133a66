"""Zones as RViz markers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pinocchio as pin
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from smolvla_ros.safety.zones import Zone

_COLOURS = {
    "keep_out": (0.9, 0.1, 0.1, 0.35),
    "keep_in": (0.1, 0.7, 0.2, 0.12),
    "slow": (0.95, 0.75, 0.1, 0.25),
}
_PLATE = 4.0  # m: a half-space is shown as a plate of this width


def zone_markers(zones: Mapping[str, Zone], frame_id: str) -> MarkerArray:
    """One marker a zone (a capsule is shown as its cylinder and two spheres)."""
    out = MarkerArray()
    for name, zone in zones.items():
        for i, (kind, scale, offset) in enumerate(_bodies(zone)):
            pose = zone.pose() * pin.SE3(np.eye(3), np.array(offset))
            marker = Marker(ns=name, id=i, type=kind, action=Marker.ADD)
            marker.header.frame_id = frame_id
            marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = map(
                float, pose.translation
            )
            q = pin.Quaternion(pose.rotation)
            marker.pose.orientation.x, marker.pose.orientation.y = float(q.x), float(q.y)
            marker.pose.orientation.z, marker.pose.orientation.w = float(q.z), float(q.w)
            marker.scale.x, marker.scale.y, marker.scale.z = map(float, scale)
            r, g, b, a = _COLOURS[zone.kind]
            marker.color = ColorRGBA(r=r, g=g, b=b, a=a)
            out.markers.append(marker)
    return out


def _bodies(zone: Zone) -> list[tuple[int, tuple[float, ...], tuple[float, float, float]]]:
    """Marker type, scale and offset in the zone's frame of everything that shows a zone."""
    here = (0.0, 0.0, 0.0)
    if zone.shape == "box":
        return [(Marker.CUBE, tuple(zone.size), here)]
    if zone.shape == "half_space":
        return [(Marker.CUBE, (_PLATE, _PLATE, 0.002), here)]
    diameter = 2.0 * zone.size[0]
    if zone.shape == "sphere":
        return [(Marker.SPHERE, (diameter,) * 3, here)]
    length = zone.size[1]
    column = (Marker.CYLINDER, (diameter, diameter, length), here)
    if zone.shape == "cylinder":
        return [column]
    ends = [(Marker.SPHERE, (diameter,) * 3, (0.0, 0.0, s * length / 2)) for s in (-1, 1)]
    return [column, *ends]
