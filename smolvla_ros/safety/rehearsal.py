"""Running a gate once before it counts."""

from __future__ import annotations

import numpy as np

from smolvla_ros.safety.command import Command
from smolvla_ros.safety.gate import Gate


def rehearse(gate: Gate, source: str = "policy") -> None:
    """Take a gate that nobody else uses through a short motion, and throw it away.

    ``source``: one of its sources.

    The first tick that follows a command runs code that is not in memory yet: from a cold
    disk that took 60 ms, many ticks of an arm in motion. Here it moves nothing.
    """
    q = np.clip(np.zeros(len(gate.names)), gate.limits.lower, gate.limits.upper)
    dt = gate.settings.dt
    gate.hear_stop_channel(0.0)
    gate.set_obstacles(0.0, ())
    gate.measure(0.0, q)
    gate.enable(0.0)
    times = dt * np.arange(8)
    gate.propose(0.0, Command(0.0, times, q + 0.01 * np.outer(times, np.ones_like(q))), source)
    for k in range(12):
        gate.measure(k * dt, q)
        gate.tick(k * dt)
