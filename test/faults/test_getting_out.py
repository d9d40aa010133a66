"""How many starts in the wrong place find their way home, where there is a straight one.

Starts are random: in a zone, in self-collision, outside a limit, or at rest at a border after
a command into it. ``SMOLVLA_ROS_STARTS`` of each (12). The way home is straight, loses no
clearance that is too small already, and keeps all others. Figures with ``-s``.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from trial import PERIOD, Trial

STARTS = int(os.environ.get("SMOLVLA_ROS_STARTS", "12"))


def way_home(oracle, rng, q):
    """A free pose that a straight way leads to, or None."""
    line = np.linspace(0, 1, 80)[:, None]
    outside = np.maximum(oracle.lower - q, q - oracle.upper) > 0
    for _ in range(40):
        goal = q + rng.normal(size=6) * rng.choice([0.15, 0.4])
        goal = np.where(outside, np.clip(q, oracle.lower + 0.05, oracle.upper - 0.05), goal)
        if (goal < oracle.lower + 0.01).any() or (goal > oracle.upper - 0.01).any():
            continue
        rooms = np.minimum(oracle.scene.rooms(q + line * (goal - q)), 0.02)
        gains = np.diff(rooms, axis=0) > -1e-7
        if rooms[-1].min() > 0.004 and ((rooms[:-1] > 0.002) | gains).all():
            return goal
    return None


def start_in(kind, oracle, rng):
    while True:
        q = rng.uniform(oracle.lower, oracle.upper)
        if kind == "limit":
            joint = rng.integers(6)
            side = rng.choice([-1.0, 1.0])
            edge = (oracle.lower if side < 0 else oracle.upper)[joint]
            q[joint] = edge + side * rng.uniform(0.005, 0.1)
            if oracle.room(q) > 0.005:
                return q
            continue
        rooms = oracle.rooms(q)
        rule = oracle.scene.rules[int(np.argmin(rooms))]
        if kind == "border":
            if rooms.min() > 0.01:
                return q
        elif -0.03 < rooms.min() < -0.0005 and (rule.check == "self_collision") == (kind == "self"):
            return q


def pushed(trial, rng):
    """Sent into something until it stands before it."""
    for _ in range(30):
        goal = trial.q + rng.normal(size=6) * rng.choice([0.3, 1.0])
        if trial.oracle.room(goal) < -0.002:
            break
    t = np.arange(0.0, 1.4, PERIOD)
    trial.say(t, trial.q + np.outer(np.clip(t / 1.3, 0, 1), goal - trial.q))
    trial.ticks(260)
    return trial


@pytest.mark.parametrize("kind", ["zone", "self", "limit", "border"])
def test_f55_d_share_of_blocked_starts_that_come_home(fault, kind):
    rng = np.random.default_rng(55)
    oracle = Trial().oracle
    home = tried = 0
    while tried < STARTS:
        q = start_in(kind, oracle, rng)
        trial = Trial(q).enable()
        if kind == "border":
            goal, q = q, pushed(trial, rng).q.copy()
            line = q + np.linspace(0, 1, 80)[:, None] * (goal - q)
            if np.abs(goal - q).max() < 0.02 or oracle.scene.rooms(line).min() < -1e-6:
                continue  # it was not stopped, or the way back is another one
        else:
            goal = way_home(oracle, rng, q)
            if goal is None:
                continue
        tried += 1
        t = np.arange(0.0, 1.5, PERIOD)
        for _ in range(16):
            trial.say(t, trial.q + np.outer(np.clip(t, 0, 1), goal - trial.q))
            trial.ticks(130)
            if np.abs(trial.q - goal).max() < 1e-4:
                home += 1
                break
        fault.judge(trial, set(), trial.checks)
    print(f"{kind}: {home} of {tried} came home")
    assert home >= 0.9 * tried
