"""A gate in simulated time with an arm that is where it was sent, and its ticks timed."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from smolvla_ros.safety import Gate, Output, State

CHUNK_RATE = 30.0  # Hz of a chunk's rows
CHUNK_ROWS = 50
CHUNK_EVERY = 0.4  # s


class Drive:
    """Enables a fresh gate at ``start`` ``[D]`` rad and sends it motions.

    ``seconds`` holds how long each tick in motion took, ``cpu_seconds`` how much of that was
    its own and not another process's; ``visited`` where it was.
    """

    def __init__(self, gate: Gate, start: np.ndarray, source: str):
        self.gate = gate
        self.now = 1.0
        self.q = np.array(start, dtype=float)
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.visited: list[np.ndarray] = []
        self._source = source
        gate.hear_stop_channel(self.now)
        gate.measure(self.now, self.q)
        gate.enable(self.now)

    def single(self, rows: np.ndarray) -> Iterator[tuple[Output, np.ndarray]]:
        """Send the rows after the first as single set-points, one a tick; gives each tick's
        output with the row that was sent."""
        for row in rows[1:]:
            self._step()
            self._offer([0.0], [row])
            yield self._tick(), row

    def chunks(self, rows: np.ndarray) -> Iterator[tuple[Output, np.ndarray]]:
        """Send the rows (one a tick) in chunks of 30 Hz, a new one every 0.4 s, until the
        arm is at rest; gives each tick's output with where the rows are by then."""
        dt = self.gate.settings.dt
        clock = dt * np.arange(len(rows))
        began, sent = self.now, -np.inf
        while True:
            self._step()
            t = self.now - began
            if t - sent >= CHUNK_EVERY - 1e-9 and t < clock[-1] + CHUNK_EVERY:
                sent = t
                times = np.arange(CHUNK_ROWS) / CHUNK_RATE
                self._offer(times, _at(clock, rows, t + times))
            output = self._tick()
            yield output, _at(clock, rows, np.array([t + dt]))[0]
            if t > clock[-1] and (output.state is State.HOLDING or t > clock[-1] + 5.0):
                return

    def take_over(self, other: Drive) -> None:
        """Go on with the record of another drive."""
        self.seconds, self.cpu_seconds = other.seconds, other.cpu_seconds
        self.visited = other.visited

    def _step(self) -> None:
        self.now += self.gate.settings.dt
        self.gate.hear_stop_channel(self.now)
        self.gate.measure(self.now, self.q)

    def _offer(self, times, positions) -> None:
        self.gate.offer(self.now, self._source, self.now, self.gate.names, times, positions)

    def _tick(self) -> Output:
        started, cpu = time.perf_counter(), time.thread_time()
        output = self.gate.tick(self.now)
        cpu, took = time.thread_time() - cpu, time.perf_counter() - started
        if output.velocities.any():
            self.seconds.append(took)
            self.cpu_seconds.append(cpu)
            self.visited.append(output.positions)
        self.q = output.positions
        return output


def _at(clock: np.ndarray, rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.column_stack([np.interp(times, clock, column) for column in rows.T])


@contextmanager
def no_collections() -> Iterator[None]:
    """As the monitor's own loop runs: collected before, not meanwhile."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and max in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99])
    return {
        "p50": round(1e3 * float(p50), 4),
        "p99": round(1e3 * float(p99), 4),
        "max": round(1e3 * float(max(seconds)), 4),
    }
