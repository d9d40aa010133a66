"""What inference delay does to motion: sync, naive asynchronous and our runtime.

The shipped policy infers for real; its time is replaced by a delay, a share of what a chunk
lasts, on a simulated clock. The arm is where its set-points are. Every mode sees the same
pictures and draws the same noise.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from smolvla_ros.cell import load_cell, load_joint_map, load_robot
from smolvla_ros.chunk import ActionChunk
from smolvla_ros.policy import Observation, chunking
from smolvla_ros.policy.checkpoint import find_checkpoint, load_checkpoint
from smolvla_ros.policy.engine import Engine, Guide, LeRobotEngine
from smolvla_ros.policy.runtime import SEAM, Runtime
from smolvla_ros.share import share

DELAYS = (0.1, 0.3, 0.5, 0.8)
MODES = ("sync", "naive_async", "rtc")
INSTRUCTION = "put the red block into the bin"


class Delayed(Engine):
    """An engine whose inferences take ``delay`` seconds of a simulated clock, ``now``."""

    def __init__(self, engine: Engine, delay: float, seed: int):
        self._engine, self._delay, self._seed = engine, delay, seed
        self.names, self.rows, self.dt = engine.names, engine.rows, engine.dt
        self.guided = engine.guided
        self.now = 0.0
        self._count = 0

    def infer(self, observation: Observation, guide: Guide | None = None) -> ActionChunk:
        """As the engine under it, with noise that depends on the count of inferences only."""
        torch.manual_seed(self._seed + self._count)
        self._count += 1
        self.answer = self._engine.infer(observation, guide)
        self.now += self._delay
        return self.answer

    def measured(self, observation: Observation) -> np.ndarray | None:
        """As the engine under it."""
        return self._engine.measured(observation)


class Trial:
    """One mode at one delay.

    Attributes:
        arrived: when a chunk arrived (s), the chunk, and what the policy meant: the same
            where nothing joined it to the one before.
    """

    def __init__(self, engine: Delayed, start: np.ndarray, observe, period: float):
        self._engine, self._start, self._observe = engine, start, observe
        self._period = period
        self.arrived: list[tuple[float, ActionChunk, ActionChunk]] = []

    def position(self, now: float) -> np.ndarray:
        """``[D]`` rad: the set-point at ``now``."""
        for at, chunk, _ in reversed(self.arrived):
            if at <= now:
                return chunking.sample(chunk, np.array([now]))[0]
        return self._start

    def sync(self, seconds: float) -> None:
        """Infer when nothing is left; the arm waits meanwhile."""
        while self._engine.now < seconds:
            answer = self._engine.infer(self._observe(self, self._engine.now))
            now = self._engine.now
            chunk = replace(answer, stamp=now)
            self.arrived.append((now, chunk, chunk))
            self._engine.now = chunking.end_of(chunk)

    def naive_async(self, seconds: float) -> None:
        """The newest chunk replaces the old one at once, at its own time."""
        while (seen := self._engine.now) < seconds:
            answer = self._engine.infer(self._observe(self, seen))
            self.arrived.append((self._engine.now, answer, answer))
            self._engine.now = max(self._engine.now, seen + self._period)

    def rtc(self, seconds: float, delay: float) -> None:
        """Our runtime."""
        engine = self._engine
        runtime = Runtime(
            engine, lambda: engine.now, delay, lambda: INSTRUCTION, period=self._period
        )
        while engine.now < seconds:
            chunk = runtime.step(self._observe(self, engine.now))
            if chunk is not None:
                meant = engine.answer.positions
                # A chunk that starts from rest waits there first.
                begins = chunk.stamp + (len(chunk.positions) - len(meant)) * chunk.dt
                self.arrived.append(
                    (engine.now, chunk, ActionChunk(begins, chunk.dt, chunk.names, meant))
                )
            engine.now += runtime.due(engine.now)

    def figures(self, seconds: float, tick: float) -> dict[str, float | int]:
        """Starved ticks from the first arrival on, and the worst seam of all take-overs."""
        starved, seams = 0, []
        following = [*self.arrived[1:], None]
        for (at, chunk, _), after in zip(self.arrived, following, strict=True):
            until = min(after[0] if after else seconds, seconds)
            starved += max(0, round((until - max(at, chunking.end_of(chunk))) / tick))
            if after and after[0] < seconds:
                begins, new, meant = after
                seams.append(chunking.seam(chunk, meant, new, begins, SEAM, tick))
        worst = np.max(seams, axis=0)
        return {"starved": starved, "seam_dq": float(worst[0]), "seam_dv": float(worst[1])}


def delays(
    shares: tuple[float, ...] = DELAYS, seconds: float = 12.0, seed: int = 0, period: float = 0.4
) -> list[dict[str, float | int | str]]:
    """Rows {delay (share of a chunk), mode, starved (ticks of the data's rate), seam_dq (rad),
    seam_dv (rad/s)}: ``seconds`` of simulated motion for each delay and mode."""
    engine, start, observe = _subject(seed)
    lasts = engine.rows * engine.dt
    rows = []
    for share_of_chunk in shares:
        for mode in MODES:
            delay = share_of_chunk * lasts
            trial = Trial(Delayed(engine, delay, seed), start, observe, period)
            if mode == "rtc":
                trial.rtc(seconds, delay)
            else:
                getattr(trial, mode)(seconds)
            rows.append({"delay": share_of_chunk, "mode": mode} | trial.figures(seconds, engine.dt))
    return rows


def _subject(seed: int):
    """The shipped cell's policy, where its arm starts, and how it is observed."""
    path: Path = share("config", "so101_tabletop.yaml")
    config = load_cell(path).vla
    robot = load_robot(config.robot, path)
    joint_map = load_joint_map(config, robot, path)
    torch.set_num_threads(config.torch_threads)
    checkpoint = load_checkpoint(find_checkpoint(config.checkpoint, path.parent))
    engine = LeRobotEngine(checkpoint, joint_map, 1.0 / config.chunk_rate)
    ready = robot.pose("ready")
    start = np.array([ready[robot.names.index(n)] for n in joint_map.names])
    engine.warm_up(joint_map.to_policy(start))
    noise = np.random.default_rng(seed)
    pictures = {
        name: noise.integers(0, 255, (*feature.shape[1:], 3), np.uint8)
        for name, feature in checkpoint.config.image_features.items()
    }

    def observe(trial: Trial, now: float) -> Observation:
        state = joint_map.to_policy(trial.position(now))
        return Observation(pictures, state, INSTRUCTION, {"joint_states": now})

    return engine, start, observe
