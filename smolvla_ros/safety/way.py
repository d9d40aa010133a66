"""A motion through joint space, and how far it leaves the straight line."""

from __future__ import annotations

import numpy as np

from smolvla_ros.robot import RobotModel


def turning(robot: RobotModel) -> np.ndarray:
    """``[D, D]`` for :class:`Way`: how much each joint's share in bending a point's path takes
    from each joint.

    A point's second derivative is made of ``axis_i x (axis_j x arm_j)`` for joints ``i``
    before ``j``, each at most ``reach_j`` long, and twice for ``i`` other than ``j``. Joints
    are named root to tip. A joint that mimics may lie behind any other; with one of them
    every joint counts as before every other.
    """
    dof = robot.dof
    if not robot.mimics:
        return 2.0 * np.tri(dof, k=-1) + np.eye(dof)
    turns = np.ones(dof)
    for mimic in robot.mimics.values():
        turns[robot.names.index(mimic.joint)] += abs(mimic.multiplier)
    return np.tile(2.0 * turns, (dof, 1))


class Way:
    """Rows of joint positions ``[N, D]``, straight between them; place ``s`` on it is a row's
    number, or lies between two.

    Args:
        points: the rows. turning: what :func:`turning` says of the robot.
    """

    def __init__(self, points: np.ndarray, turning: np.ndarray):
        self._points = points
        self._turning = turning
        self._moved = np.zeros(points.shape)  # what each joint has moved by then, back or forth
        np.abs(points[1:] - points[:-1]).cumsum(axis=0, out=self._moved[1:])
        self.end = float(len(points) - 1)  # the last place
        self.whole = self._moved[-1]  # [D], the travel from the first place to the last

    def at(self, s: float) -> np.ndarray:
        """``[D]`` joint positions at a place."""
        return _between(self._points, s)

    def travel(self, s0: float, s1: float) -> np.ndarray:
        """``[D]`` what each joint moves between two places, back and forth both counted."""
        return _between(self._moved, s1) - _between(self._moved, s0)

    def bow(self, s0: float, s1: float) -> np.ndarray:
        """``[D]`` such that no point of a shape of that ``reach`` leaves the straight line
        between where it is at ``s0`` and at ``s1`` by more than ``reach @ bow``.

        Where joints move straight, a curve leaves its chord by at most an eighth of its
        second derivative. Where they do not, the point is off by what they are off.
        """
        a, b = self.at(s0), self.at(s1)
        c = np.abs(b - a)
        out = c * (self._turning @ c) / 8.0
        rows = slice(int(s0) + 1, int(np.ceil(s1)))
        inner = self._points[rows]
        if len(inner):
            begin = _between(self._moved, s0)
            whole = float((_between(self._moved, s1) - begin).sum())
            share = (self._moved[rows] - begin).sum(axis=1) / max(whole, 1e-12)
            out += np.abs(inner - (a + share[:, None] * (b - a))).max(axis=0)
        return out


def _between(rows: np.ndarray, s: float) -> np.ndarray:
    i = min(int(s), len(rows) - 2)
    return rows[i] + (s - i) * (rows[i + 1] - rows[i])
