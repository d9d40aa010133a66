"""Single views of the tabletop, each a scene of its own, with what there is to know of it.

They are what the small vision-language model is grounded on before it sees a demonstration:
two pictures, joint positions, a task, where every block is, and what the expert would do.
No physics runs: the arm is put where it could be, a gripped block into the gripper.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from smolvla_ros.cell import Cell
from smolvla_ros.cli.processes import die_with_parent
from smolvla_ros.learn import expert as skill
from smolvla_ros.learn.expert import JAW, ROLL, Blocks, Expert
from smolvla_ros.learn.loop import CellLoop
from smolvla_ros.learn.tasks import COLOURS, TASKS, Task

_TRIES = 100
_PART = 2000  # views a file
_TOUCHING = 0.002  # m that bodies may overlap in a view
_CLEAR = 0.012  # m from every zone where a demonstration begins


@dataclass(frozen=True)
class Views:
    """``N`` views.

    Attributes:
        images: camera → ``[N, H, W, 3]`` uint8. state: ``[N, D]``, actions: ``[N, rows, D]``,
            both in the policy's units and order. blocks: ``[N, colours, 3]`` m. task: ``[N]``
            index of TASKS, -1 for none; named: ``[N]`` index of COLOURS, -1 for none.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    actions: np.ndarray
    blocks: np.ndarray
    task: np.ndarray
    named: np.ndarray

    def __len__(self) -> int:
        return len(self.state)

    def save(self, path: Path) -> None:
        """As an ``.npz``."""
        pictures = {f"images/{name}": value for name, value in self.images.items()}
        rest = {n: getattr(self, n) for n in ("state", "actions", "blocks", "task", "named")}
        np.savez(path, **pictures, **rest)

    @classmethod
    def load(cls, *paths: Path) -> Views:
        """All views of several files."""
        files = [np.load(path) for path in paths]
        whole = {n: np.concatenate([f[n] for f in files]) for n in files[0].files}
        images = {n.removeprefix("images/"): v for n, v in whole.items() if "/" in n}
        return cls(images, **{n: v for n, v in whole.items() if "/" not in n})


class Viewer:
    """Makes views of a cell's simulated tabletop. One thread uses it: it draws.

    Args:
        rows: in the expert's plan, ``dt`` s apart. pixels: side of the square that pictures
            are averaged down to.
    """

    def __init__(self, loop: CellLoop, rows: int, dt: float, pixels: int):
        self._loop, self._rows, self._dt, self._pixels = loop, rows, dt, pixels
        self._expert = Expert(loop.robot, loop.world.scene.servo.kp)

    def make(self, seeds: range) -> Views:
        """One view a seed."""
        made = [self._make(seed) for seed in seeds]
        cameras = made[0][0]
        return Views(
            {name: np.stack([m[0][name] for m in made]) for name in cameras},
            *(np.array([m[k] for m in made]) for k in range(1, 6)),
        )

    def _make(self, seed: int):
        loop, draw = self._loop, np.random.default_rng([seed, 3])
        loop.world.reset(seed, vary=True)
        names = loop.world.block_names
        kind = draw.choice(3, p=[0.40, 0.55, 0.05])
        task = None
        if kind < 2:
            task = Task(TASKS[kind], str(draw.choice(names)))
        for _ in range(_TRIES):
            loop.world.reset(seed, vary=True)
            q, setpoint, gripped = self._pose(task, draw)
            loop.world.place(q, gripped)
            if loop.world.deepest_contact() > -_TOUCHING or gripped:
                break
        blocks = Blocks.of(loop.world)
        plan = self._expert.plan(task, q, setpoint, blocks, self._rows, self._dt)
        observation = loop.observe("")
        order = [loop.robot.names.index(n) for n in loop.joint_map.names]
        return (
            {n: self._shrink(picture) for n, picture in observation.images.items()},
            observation.state.astype(np.float32),
            loop.joint_map.to_policy(plan[:, order]).astype(np.float32),
            np.array([blocks.poses[c][0] for c in COLOURS], np.float32),
            -1 if task is None else TASKS.index(task.kind),
            -1 if task is None else COLOURS.index(task.block),
        )

    def start(self, task: Task, draw: np.random.Generator) -> np.ndarray | None:
        """``[D]`` rad near the named block, clear of everything, for a demonstration to begin
        at; None where none was found."""
        for _ in range(_TRIES):
            if task.kind == "touch":
                q = self._near_touch(task, draw)
            else:
                q, _, _ = self._near_pick(task, draw, draw.choice([1, 1, 1, 2]))
            q = np.clip(q, self._loop.robot.lower + 0.05, self._loop.robot.upper - 0.05)
            if self._clear(q):
                return q
        return None

    def _clear(self, q: np.ndarray) -> bool:
        gate = self._loop.gate
        if gate is not None and gate.clearance.distances(q).min() < _CLEAR:
            return False
        self._loop.world.place(q)
        arm = set(self._loop.robot.links)
        return not any(arm & set(pair) for pair in self._loop.world.contacts())

    def _shrink(self, picture: np.ndarray) -> np.ndarray:
        """The mean of each little square: what bilinear scaling by a half gives."""
        height, width, _ = picture.shape
        by = height // self._pixels
        if (height, width) != (by * self._pixels,) * 2:
            raise ValueError(
                f"a picture of {width}x{height}; squares of a multiple of {self._pixels} are wanted"
            )
        cut = picture.reshape(self._pixels, by, self._pixels, by, 3)
        return np.round(cut.mean(axis=(1, 3))).astype(np.uint8)

    # -- where the arm could be -----------------------------------------------------------

    def _pose(self, task: Task | None, draw: np.random.Generator):
        """``[D]`` rad measured, ``[D]`` rad of the set-point, and the pose of a gripped block."""
        q = self._loop.world.joint_positions()
        gripped: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        jaw = None
        if task is None:
            if draw.random() < 0.5:  # over some block, told to stay
                stay = Task("touch", str(draw.choice(self._loop.world.block_names)))
                q = self._near_touch(stay, draw)
        elif task.kind == "touch":
            if draw.random() < 0.55:
                q = self._near_touch(task, draw)
        else:
            what = draw.choice(5, p=[0.35, 0.27, 0.16, 0.1, 0.12])
            if what > 0:
                q, gripped, jaw = self._near_pick(task, draw, what)
        q = np.clip(q, self._loop.robot.lower + 0.01, self._loop.robot.upper - 0.01)
        setpoint = q + self._expert.sag(q)
        setpoint[JAW] = q[JAW] if jaw is None else jaw
        return q, setpoint, gripped

    def _near_touch(self, task: Task, draw: np.random.Generator) -> np.ndarray:
        blocks = Blocks.of(self._loop.world)
        centre, half = blocks.poses[task.block][0], blocks.half[task.block]
        spread = draw.choice([0.004, 0.02, 0.05])
        height = draw.choice([0.006, 0.03, 0.09]) * draw.uniform(0.5, 1.3)
        point = centre + np.array([*draw.normal(0.0, spread, 2), half + height])
        q = np.zeros(6)
        q[ROLL] = draw.normal(0.0, 0.3) * min(1.0, height / 0.06)
        q[:4] = self._expert.reach(point, skill.TIP, q[ROLL])
        q[JAW] = max(0.0, skill.CLOSED + draw.exponential(0.15) * min(1.0, height / 0.06))
        q[1:4] += draw.normal(0.0, 0.02, 3) * min(1.0, height / 0.06)
        return q

    def _near_pick(self, task: Task, draw: np.random.Generator, what: int):
        blocks = Blocks.of(self._loop.world)
        (centre, turned), half = blocks.poses[task.block], blocks.half[task.block]
        middle = skill.between_fingers(half)
        roll = self._expert.roll_for(turned, centre)
        q = np.zeros(6)
        if what == 1:  # on the way there
            off, height = draw.choice([0.01, 0.025, 0.05]), draw.uniform(0.02, 0.11)
            q[ROLL] = roll + draw.normal(0.0, 0.3)
            q[JAW] = min(skill.OPEN + draw.normal(0.0, 0.01), skill.OPEN - draw.exponential(0.1))
        elif what == 2:  # going down
            off, height = 0.003, draw.uniform(0.0, 0.05)
            q[ROLL], q[JAW] = roll + draw.normal(0.0, 0.05), skill.OPEN + draw.normal(0.0, 0.015)
        elif what == 3:  # closing
            off, height = 0.002, abs(draw.normal(0.0, 0.002))
            q[ROLL], q[JAW] = roll + draw.normal(0.0, 0.05), draw.uniform(0.16, skill.OPEN)
        else:
            return self._lifting(task, draw, centre, turned, half)
        point = centre + np.array([*draw.normal(0.0, off, 2), height])
        q[:4] = self._expert.reach(point, middle, q[ROLL])
        return q, {}, (max(skill.GRIP, q[JAW] - 0.05) if what == 3 else None)

    def _lifting(self, task, draw, centre, turned, half):
        q = np.zeros(6)
        q[ROLL] = self._expert.roll_for(turned, centre)
        q[ROLL] += draw.normal(0.0, 0.05)
        q[JAW] = draw.normal(0.158, 0.006)
        lift = draw.choice([0.0, draw.uniform(0.0, skill.LIFTED), skill.LIFTED - half])
        point = centre + np.array([0.0, 0.0, lift + abs(draw.normal(0.0, 0.003))])
        at = np.array([skill.PAD + half - 0.001, *draw.normal(0.0, 0.002, 2)])
        at[2] += skill.PALM[2]
        q[:4] = self._expert.reach(point, at, q[ROLL])
        gripper = self._expert.gripper(q)
        return q, {task.block: (gripper.act(at), gripper.rotation)}, skill.GRIP


def make_views(
    cell: Cell,
    folder: Path,
    count: int,
    workers: int,
    *,
    rows: int,
    pixels: int,
    told: Callable[[int], None] = lambda made: None,
) -> Views:
    """``count`` views of scenes 0, 1 … in files of ``folder``; those that are there are kept.

    Args:
        workers: processes. rows: in a plan. pixels: side of the pictures that are kept.
        told: how many there are, now and then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [range(k, min(k + _PART, count)) for k in range(0, count, _PART)]
    paths = {folder / f"{part.start:06d}-{part.stop:06d}.npz": part for part in parts}
    missing = {path: part for path, part in paths.items() if not path.exists()}
    made = sum(len(part) for path, part in paths.items() if path not in missing)
    told(made)
    # A forked process cannot draw.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (cell, rows, pixels)) as pool:
        work = {pool.submit(_make_part, path, part): part for path, part in missing.items()}
        for done in as_completed(work):
            done.result()
            made += len(work[done])
            told(made)
    return Views.load(*paths)


_viewer: Viewer | None = None  # of a worker


def _begin(cell: Cell, rows: int, pixels: int) -> None:
    global _viewer
    die_with_parent()
    _viewer = Viewer(CellLoop(cell, "off"), rows, 1.0 / cell.vla.chunk_rate, pixels)


def _make_part(path: Path, seeds: range) -> None:
    part = path.with_suffix(".part.npz")
    _viewer.make(seeds).save(part)
    part.replace(path)  # whole, or not there
