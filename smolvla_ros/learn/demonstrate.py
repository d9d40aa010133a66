"""The scripted expert's demonstrations → a LeRobotDataset.

The expert acts through the gate, as every source does; what is recorded is what the policy
will see, and what the gate sent. An episode that the simulator's state does not call done is
not kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from smolvla_ros.cell import Cell
from smolvla_ros.learn.dataset import DatasetWriter
from smolvla_ros.learn.evaluate import ExpertSource
from smolvla_ros.learn.loop import CellLoop
from smolvla_ros.learn.tasks import TASKS, Task, instruction
from smolvla_ros.learn.views import Viewer
from smolvla_ros.policy.observation import Observation
from smolvla_ros.sim.judge import Judge

LIMIT = {"touch": 8.0, "pick": 14.0}  # s
STAY = 2.5  # s of an episode that names no block
_SHARE_OF_STAYING = 0.04
_SHARE_NEAR = 0.4  # of episodes that begin near the block: how to mend what went a little wrong
_COMMITTED = 20  # episodes at a time
_HOLD = 16  # frames after it is done: a chunk's length, as no chunk reaches beyond an episode


class Demonstrations:
    """Makes episodes of a simulated cell. One thread uses it: it draws.

    Args:
        cell: with the sections sim, vla and safety_monitor. out: the dataset. resume: append.

    Raises:
        ConfigError: ``out`` is there and not to be resumed, or does not fit the cell.
    """

    def __init__(self, cell: Cell, out: Path, resume: bool = False):
        vla = cell.vla
        loop = self._loop = CellLoop(cell)
        cameras = loop.world.scene.cameras
        self._writer = DatasetWriter(
            out,
            fps=vla.chunk_rate,
            joints=vla.joint_order,
            cameras={
                feature: (cameras[name].height, cameras[name].width)
                for feature, name in loop.pictured.items()
            },
            robot_type=loop.robot.model.name,
            units={name: vla.joint_map[name].unit for name in vla.joint_order},
            resume=resume,
            every=_COMMITTED,
        )
        self._expert = ExpertSource(self._loop)
        self._viewer = Viewer(self._loop, rows=2, dt=0.1, pixels=64)
        self._every = round(1.0 / (cell.vla.chunk_rate * self._loop.dt))

    def make(self, seed: int) -> str:
        """One episode. What became of it: its task, or why it was not kept."""
        loop, draw = self._loop, np.random.default_rng([seed, 4])
        loop.reset(seed)
        self._expert.restart()
        task = None
        if draw.random() >= _SHARE_OF_STAYING:
            task = Task(str(draw.choice(TASKS)), str(draw.choice(loop.world.block_names)))
            if draw.random() < _SHARE_NEAR:
                near = self._viewer.start(task, draw)
                if near is None:
                    loop.reset(seed)
                else:
                    loop.start_at(near)
        done = self._run(task, instruction(task, draw))
        if not done:
            self._writer.discard()
            return f"{task.kind} failed" if task else "stay failed"
        self._writer.keep()
        return task.kind if task else "stay"

    def _run(self, task: Task | None, text: str) -> bool:
        loop = self._loop
        judge = Judge(loop.world, *((task.kind, task.block) if task else ()))
        began = loop.time
        limit = LIMIT[task.kind] if task else STAY
        tick, left = 0, None
        while left is None or left > 0:
            if tick % self._every == 0:
                self._add(loop.observe(text))
                left = None if left is None else left - 1
            self._expert.step(text)
            loop.step()
            tick += 1
            seen = judge.look()
            if loop.gate.stop_check or seen.lost:
                return False
            if left is None and seen.success:
                left = _HOLD
            if left is None and loop.time - began > limit:
                if task is not None:
                    return False
                left = 0
        return True

    def _add(self, seen: Observation) -> None:
        self._writer.add(
            seen.images, seen.state, self._loop.setpoint_in_policy_units(), seen.instruction
        )

    def close(self) -> None:
        """Commit what was kept."""
        self._writer.close()
        self._loop.close()


def demonstrate(
    cell: Cell,
    out: Path,
    episodes: int,
    seed: int,
    resume: bool = False,
    told: Callable[[int, Counter[str]], None] = lambda done, counts: None,
) -> Counter[str]:
    """Make ``episodes`` kept episodes of scenes ``seed``, ``seed + 1`` …

    Args:
        out: the dataset. resume: append to it; give a seed that it has not seen.
        told: after each scene: episodes kept, and how many of what.

    Raises:
        ConfigError: ``out`` is there and not to be resumed, or does not fit.
    """
    counts: Counter[str] = Counter()
    work = Demonstrations(cell, out, resume)
    kept, scene = 0, seed
    try:
        while kept < episodes:
            word = work.make(scene)
            scene += 1
            counts[word] += 1
            kept += not word.endswith("failed")
            told(kept, counts)
    finally:
        work.close()
    return counts
