"""A cell to measure in: ten zones around any arm, made from its own reach."""

from __future__ import annotations

from typing import Any

import numpy as np

from smolvla_ros.robot import RobotModel
from smolvla_ros.safety import Clearance, Limits, Zone
from smolvla_ros.schema import load
from smolvla_ros.share import share

_FREE = 0.03  # m that the start keeps from every zone beyond the margin
_SAMPLES = 150


def so101() -> dict[str, Any]:
    """The safety monitor's section for the SO-101 without zones, at 250 Hz."""
    return {
        "robot": {
            "urdf": str(share("urdf", "so101.urdf")),
            "srdf": str(share("urdf", "so101.srdf")),
        },
        "limits": {"every_joint": {"velocity": 1.5, "acceleration": 15.0}, "position_margin": 0.02},
        "rate": 250.0,
        "margin": 0.01,
        "tracking_error": 0.25,
        "tracking_error_hard": 0.6,
    }


def ten_zones(
    robot: RobotModel, limits: Limits, start: np.ndarray, margin: float, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Seven keep-out zones, a keep-in zone and two slow ones, as a cell would write them.

    Each keep-out zone is hit by some of the arm's configurations and is well clear of
    ``start`` ``[D]``. The same arm gives the same zones.
    """
    rng = np.random.default_rng(seed)
    poses = configurations(limits, rng, _SAMPLES)
    tips = np.array([robot.frame_position(q, robot.links[-1]) for q in poses])
    reach = float(np.linalg.norm(tips, axis=1).max())
    zones: dict[str, dict[str, Any]] = {}
    shapes = ("box", "sphere", "cylinder", "capsule", "box", "cylinder", "box")
    for shape in shapes:
        zones[f"obstacle_{len(zones)}"] = _obstacle(
            shape, reach, robot, poses, tips, start, margin, rng
        )
    zones["workspace"] = {
        "kind": "keep_in", "shape": "box", "size": [round(3.2 * reach, 4)] * 3,
    }  # fmt: skip
    for k in range(2):
        zone = _obstacle("box", reach, robot, poses, tips, start, margin, rng)
        zones[f"slow_{k}"] = zone | {"kind": "slow", "speed_ratio": 0.5}
    return zones


def configurations(limits: Limits, rng: np.random.Generator, n: int) -> np.ndarray:
    """``[n, D]`` rad: anywhere inside the limits, one turn of a continuous joint."""
    return rng.uniform(
        np.maximum(limits.lower, -np.pi), np.minimum(limits.upper, np.pi), (n, len(limits.lower))
    )


def _obstacle(shape, reach, robot, poses, tips, start, margin, rng) -> dict[str, Any]:
    """A keep-out zone that 1 to 15 % of the poses violate, and the start does not."""
    words = {"box": 3, "sphere": 1, "cylinder": 2, "capsule": 2}[shape]
    for _ in range(200):
        zone = {
            "kind": "keep_out",
            "shape": shape,
            "size": [round(float(s) * reach, 4) for s in rng.uniform(0.08, 0.25, words)],
            "position": [round(float(x), 4) for x in tips[rng.integers(len(tips))]],
            "rpy": [round(float(x), 4) for x in rng.uniform(-1.5, 1.5, 3)],
        }
        alone = {"zone": load(Zone, zone, "zone")}
        world = Clearance(robot, alone, margin, 0.001)
        pairs = [i for i, pair in enumerate(world.pairs) if pair.zone]
        if world.distances(start)[pairs].min() < margin + _FREE:
            continue
        hit = np.mean([world.distances(q)[pairs].min() < margin for q in poses])
        if 0.01 <= hit <= 0.15:
            return zone
    raise RuntimeError(f"found no place for a {shape} around this arm; give --zones")
