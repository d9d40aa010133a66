"""The simulated arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from smolvla_ros.sim.world import World


class MujocoArm:
    """:class:`smolvla_ros.arm.ArmDriver` on a simulated world's servos."""

    def __init__(self, world: World):
        self._world = world
        self.names = world.robot.names

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``[D]`` rad, rad/s, N.m."""
        w = self._world
        return w.joint_positions(), w.joint_velocities(), w.joint_efforts()

    def write(self, positions: np.ndarray, over: float) -> None:
        """Drive the servos there, ramped over ``over`` seconds."""
        self._world.command(positions, over)
