"""Closed-loop evaluation in one process and in simulated time, a process a worker."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np

from smolvla_ros.cell import Cell
from smolvla_ros.chunk import ActionChunk
from smolvla_ros.cli.judge import judge
from smolvla_ros.cli.processes import die_with_parent
from smolvla_ros.learn.expert import Blocks, Expert
from smolvla_ros.learn.loop import CellLoop, PolicySource
from smolvla_ros.learn.sheet import Film
from smolvla_ros.learn.tasks import parse_task
from smolvla_ros.learn.trials import NONE, Outcome, Trial
from smolvla_ros.sim.judge import Judge
from smolvla_ros.sim.world import Cameras


class Source(Protocol):
    """What proposes motion to a loop."""

    def restart(self) -> None:
        """A new scene has begun."""

    def step(self, instruction: str) -> None:
        """Once a tick, before the loop's: propose what is due."""


class ExpertSource:
    """The scripted expert as a source of single set-points: it shows what can be done."""

    PERIOD = 0.05  # s between two looks at where everything is

    def __init__(self, loop: CellLoop):
        self._loop = loop
        self._expert = Expert(loop.robot, loop.world.scene.servo.kp)
        self.restart()

    def restart(self) -> None:
        """As :meth:`Source.restart`."""
        self._look_at, self._goal = -math.inf, None

    def step(self, instruction: str) -> None:
        """As :meth:`Source.step`."""
        loop, world = self._loop, self._loop.world
        task = parse_task(instruction)
        if task is None:
            return
        if loop.time >= self._look_at - 1e-9:
            self._look_at = loop.time + self.PERIOD
            self._goal = self._expert.target(task, world.joint_positions(), Blocks.of(world))
        row = self._expert.advance(loop.setpoint, self._goal, loop.dt)
        loop.send(ActionChunk(loop.time, loop.dt, loop.robot.names, row[None]))


@dataclass(frozen=True)
class Setup:
    """What each worker builds for itself; every field can be pickled.

    Attributes:
        cell: with the sections sim, safety_monitor and vla. gate: ``on``, ``off``, ``shadow``.
        source: ``policy`` or ``expert``. latency: s that an inference is taken to last.
        films: folder for a film of each episode; None: no pictures.
    """

    cell: Cell
    gate: str = "on"
    source: str = "policy"
    latency: float = 0.1
    films: Path | None = None


class FastEpisodes:
    """Runs trials one after the other; one seed gives one course of events.

    Raises:
        ConfigError: something in the cell, or its checkpoint, is wrong.
    """

    def __init__(self, setup: Setup):
        self._setup = setup
        self._loop = CellLoop(setup.cell, setup.gate)
        self._source = self._make_source()
        self._cameras: Cameras | None = None

    def _make_source(self) -> Source:
        loop, setup = self._loop, self._setup
        if setup.source == "expert":
            return ExpertSource(loop)
        from smolvla_ros.policy.loading import load_policy  # torch: the expert needs none

        cell = setup.cell
        # Noise that is drawn anew would make another course of events of the same seed.
        config = replace(cell.vla, seed=cell.vla.seed or 0)
        policy = load_policy(config, loop.robot, loop.joint_map, cell.path)
        return PolicySource(loop, policy, setup.latency)

    def run(self, trial: Trial) -> tuple[Outcome, np.ndarray | None]:
        """One trial: what came of it, and a strip of pictures where films are kept."""
        loop, config = self._loop, self._loop.cell.safety_monitor
        self._seed_noise(trial.seed)
        loop.reset(trial.seed)
        self._source.restart()
        began = loop.time
        task = trial.task
        judge_ = Judge(loop.world, *((task.kind, task.block) if task else ()))
        film = Film(trial.limit) if self._setup.films is not None else None
        rows = [loop.setpoint.copy()]
        verdicts, checks = Counter(), Counter()
        over = False
        while not over and loop.time - began < trial.limit - 1e-9:
            if film is not None and film.due(loop.time):
                film.add(loop.time, self._picture())
            self._source.step(trial.instruction)
            output = loop.step()
            rows.append(loop.setpoint.copy())
            seen = judge_.look()
            over = bool(seen.touched) if trial.check == NONE else seen.over
            if output is not None:
                verdicts[output.verdict.kind.value] += 1
                if output.verdict.check:
                    checks[output.verdict.check] += 1
                over = over or bool(loop.gate.stop_check)
        found = judge(loop.robot, config, np.array(rows), loop.dt)
        outcome = Outcome(
            trial=trial,
            success=seen.success,
            seconds=seen.at,
            lasted=loop.time - began,
            touched=seen.touched,
            lifted=seen.lifted,
            contacts=seen.contacts,
            verdicts=dict(verdicts),
            checks=dict(checks),
            refused=dict(loop.gate.refusals) if loop.gate is not None else {},
            stopped=loop.gate.stop_check if loop.gate is not None else "",
            limit_violations=found.limit_violations,
            clearance_breaches=found.clearance_breaches,
            min_clearance=found.min_clearance,
        )
        if film is None:
            return outcome, None
        film.add(math.inf, self._picture())
        film.save(self._setup.films / f"{outcome.name}_{outcome.word}.mp4")
        return outcome, film.strip()

    def close(self) -> None:
        """Free what draws."""
        if self._cameras is not None:
            self._cameras.close()
        self._loop.close()

    def _seed_noise(self, seed: int) -> None:
        if self._setup.source == "policy":
            import torch

            torch.manual_seed(seed)

    def _picture(self) -> np.ndarray:
        if self._cameras is None:
            self._cameras = Cameras(self._loop.world)
        self._cameras.see(self._loop.world)
        return self._cameras.render(next(iter(self._loop.world.scene.cameras)))


_episodes: FastEpisodes | None = None  # of a worker's process


def _begin(setup: Setup) -> None:
    global _episodes
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    _episodes = FastEpisodes(setup)


def _run(trial: Trial) -> tuple[Outcome, np.ndarray | None]:
    return _episodes.run(trial)


def run_fast(
    setup: Setup, trials: Sequence[Trial], workers: int = 1
) -> Iterator[tuple[Outcome, np.ndarray | None]]:
    """Run every trial; they come as they end.

    Raises:
        ConfigError: as :class:`FastEpisodes`, before the first.
    """
    first = FastEpisodes(setup)  # what is wrong is said here, once
    if workers == 1:
        try:
            yield from map(first.run, trials)
        finally:
            first.close()
        return
    first.close()
    # Spawned: neither torch's threads nor a GL context survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (setup,)) as pool:
        tasks = [pool.submit(_run, trial) for trial in trials]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
