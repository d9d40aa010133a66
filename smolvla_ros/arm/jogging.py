"""An arm moved by what somebody holds down: keys for joints, or steps of a link in space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from smolvla_ros.arm.devices import Lost
from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError

_STEPS = ("delta_x", "delta_y", "delta_z")
# LeRobot's gripper. Any other number is none of its words: keyboard_ee says -1 once the key that
# closes was let go of.
_CLOSES, _STAYS, _OPENS = 0.0, 1.0, 2.0
_DAMPING = 0.03  # m/rad: near a singularity the link is slow, and no joint fast
_TURN_DAMPING = 0.1
_SINGULAR = 0.1  # of the largest singular value; what is less leads nowhere


class Jogging(ABC):
    """Set-points that go on from where the arm was when it was taken, to the joints' ends.

    Args:
        robot: the arm. names: the ``D`` joints of it that are moved or held.
        ahead: rad (m) by which a set-point may be ahead of the arm, where something keeps the arm
            from following.
    """

    def __init__(self, robot: RobotModel, names: Collection[str], ahead: float):
        self.names = tuple(names)
        limits = robot.limits_by_name()
        self._lower, self._upper = np.array([limits[name] for name in names]).T
        self._ahead = ahead
        self._q: np.ndarray | None = None

    def rest(self) -> None:
        """Begin anew where the arm is."""
        self._q = None

    def move(self, action: Mapping[Any, Any], measured: np.ndarray, dt: float) -> np.ndarray:
        """``[D]`` rad (m): where the joints have been moved to, from the first call on.

        Args:
            action: what LeRobot's teleoperator says. measured: ``[D]`` rad (m) of the arm.
            dt: s since the last call.

        Raises:
            ConfigError: a teleoperator of another kind. Lost: no numbers.
        """
        q = measured if self._q is None else self._q
        q = q + dt * self.velocity(action, q)
        # An arm that is beyond an end already is not pulled in by itself.
        low, high = np.minimum(self._lower, measured), np.maximum(self._upper, measured)
        low, high = (
            np.maximum(low, measured - self._ahead),
            np.minimum(high, measured + self._ahead),
        )
        self._q = np.clip(q, low, high)
        return self._q

    @abstractmethod
    def velocity(self, action: Mapping[Any, Any], q: np.ndarray) -> np.ndarray:
        """``[D]`` rad/s (m/s) that are asked for at ``q``; raises as :meth:`move`."""


class KeyJogging(Jogging):
    """Keys that are held move joints, each at its speed.

    Args:
        keys: key → (joint, rad/s), as LeRobot names keys: characters, or pynput's names.
        robot, ahead: as of :class:`Jogging`.
    """

    def __init__(self, robot: RobotModel, keys: Mapping[str, tuple[str, float]], ahead: float):
        super().__init__(robot, dict.fromkeys(joint for joint, _ in keys.values()), ahead)
        self._speeds = {}
        for key, (joint, speed) in keys.items():
            self._speeds[key] = np.zeros(len(self.names))
            self._speeds[key][self.names.index(joint)] = speed

    def velocity(self, action: Mapping[Any, Any], q: np.ndarray) -> np.ndarray:
        """The sum of the keys that are held."""
        held = {getattr(key, "name", key) for key in action}
        return sum((v for key, v in self._speeds.items() if key in held), np.zeros(len(q)))


class TipJogging(Jogging):
    """Steps in space (``delta_x``, ``delta_y``, ``delta_z``) move a link, which turns as little as
    the arm lets it; ``gripper`` opens and closes.

    The joints' velocities are damped least squares (Wampler 1986): first of the link's velocity,
    then, in what that leaves free (its null space: Siciliano and Slotine 1991), of its turning.

    Args:
        robot: the arm, all of whose joints are moved or held. link: the URDF's.
        speed: m/s of a step of 1. yaw: rad about the root link's z axis from its x axis to the
            teleoperator's. gripper: joint and rad/s (m/s) with which it opens; None: no joint.
        ahead: as of :class:`Jogging`. where: the cell's key.
    """

    def __init__(
        self,
        robot: RobotModel,
        link: str,
        speed: float,
        yaw: float,
        gripper: tuple[str, float] | None,
        ahead: float,
        where: str,
    ):
        super().__init__(robot, robot.names, ahead)
        self._robot, self._link, self._where = robot, link, where
        c, s = speed * np.cos(yaw), speed * np.sin(yaw)
        self._turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, speed]])
        self._opening = np.zeros(robot.dof)
        if gripper is not None:
            self._opening[robot.names.index(gripper[0])] = gripper[1]

    def velocity(self, action: Mapping[Any, Any], q: np.ndarray) -> np.ndarray:
        """Of all joints, none faster than the URDF has it."""
        absent = [k for k in _STEPS if k not in action]
        if absent:
            raise ConfigError(
                f"{self._where}.tip: the teleoperator gives no {', '.join(absent)}; it gives: "
                f"{', '.join(map(str, action)) or 'nothing'}"
            )
        step = np.array([action[k] for k in _STEPS], dtype=float)
        if not np.isfinite(step).all():
            raise Lost("a step is no number")
        rows, wanted = self._robot.frame_jacobian(q, self._link), np.clip(step, -1.0, 1.0)
        free = np.ones(len(q), dtype=bool)
        while True:
            found = free * _resolved(rows * free, self._turn @ wanted)
            # What a joint at its end cannot do, the others do.
            ended = ((q <= self._lower) & (found < 0)) | ((q >= self._upper) & (found > 0))
            if not ended.any():
                break
            free &= ~ended
        gripper = float(action.get("gripper", _STAYS))
        found = found + self._opening * {_OPENS: 1.0, _CLOSES: -1.0}.get(gripper, 0.0)
        return found / max(1.0, float((np.abs(found) / self._robot.velocity).max()))


def _resolved(jacobian: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """``[D]`` joint velocities for the ``wanted`` ``[3]`` m/s of a link, turning it little."""
    moves, turns = jacobian[:3], jacobian[3:]
    first = _damped(moves, wanted, _DAMPING)
    spare = np.eye(moves.shape[1]) - np.linalg.pinv(moves, rcond=_SINGULAR) @ moves
    return first + spare @ _damped(turns @ spare, -turns @ first, _TURN_DAMPING)


def _damped(rows: np.ndarray, wanted: np.ndarray, damping: float) -> np.ndarray:
    square = rows @ rows.T + damping**2 * np.eye(len(rows))
    return rows.T @ np.linalg.solve(square, wanted)
