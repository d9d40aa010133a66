"""The tabletop behind gymnasium's interface; what a policy does there goes through the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from smolvla_ros.cell import load_cell
from smolvla_ros.chunk import ActionChunk
from smolvla_ros.learn.loop import CellLoop
from smolvla_ros.learn.tasks import TASKS
from smolvla_ros.learn.trials import HELD_OUT, plan
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share
from smolvla_ros.sim.judge import Judge

ID = "smolvla_ros/Tabletop-v0"
IMAGES = "observation.images."


class TabletopEnv(gymnasium.Env):
    """A varied scene an episode, one task in words.

    An observation is ``pixels`` (camera → ``[H, W, 3]`` uint8 RGB) and ``agent_pos`` (``[D]``
    measured joints). An action is ``[D]`` joint positions to be reached a step later, and like
    ``agent_pos`` in the policy's units and order. A step lasts a row of the cell's chunks.
    The reward is 1 with the step that fulfils the task. An episode is over when that is done,
    another block than the one to be touched was touched, or the gate has stopped the arm.

    ``reset(seed=S)`` makes scene ``S`` of ``smolvla-ros evaluate``, with its task, its words and
    its judge; without a seed a scene that is not held out.

    Attributes:
        task: as ``touch red``. task_description: the instruction.

    Args:
        cell: YAML; None: the SO-101 tabletop. task: ``touch`` or ``pick``; None: both, by the
            seed. gate: ``on``, ``off`` or ``shadow``. render_mode: ``rgb_array`` or None.

    Raises:
        ConfigError: a task or gate that is none, or something wrong with the cell.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        cell: str | None = None,
        task: str | None = None,
        gate: str = "on",
        render_mode: str | None = None,
    ):
        if task not in (None, *TASKS):
            raise ConfigError(f"task: is {task!r}; write {' or '.join(TASKS)}, or nothing for both")
        cell = load_cell(Path(cell) if cell else share("config", "so101_tabletop.yaml"))
        self._loop = loop = CellLoop(cell, gate)
        self._tasks = (task,) if task else TASKS
        self._map = loop.joint_map
        self._ticks = round(1.0 / (cell.vla.chunk_rate * loop.dt))
        self._judge: Judge | None = None
        self.metadata = self.metadata | {"render_fps": round(cell.vla.chunk_rate)}
        self.render_mode = render_mode
        self.task = self.task_description = ""
        self._pixels, agent_pos = self._look()
        pixels = {n: spaces.Box(0, 255, p.shape, np.uint8) for n, p in self._pixels.items()}
        positions = spaces.Box(-np.inf, np.inf, agent_pos.shape, np.float32)
        self.observation_space = spaces.Dict(
            {"pixels": spaces.Dict(pixels), "agent_pos": positions}
        )
        limits = loop.robot.limits_by_name()
        ends = np.array([limits[name] for name in self._map.names]).T
        ends = np.array([self._map.to_policy(end) for end in ends], dtype=np.float32)
        self.action_space = spaces.Box(ends.min(axis=0), ends.max(axis=0))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; no options are known."""
        super().reset(seed=seed)
        scene = int(self.np_random.integers(HELD_OUT)) if seed is None else seed
        world = self._loop.world
        trial = plan([scene], world.block_names, self._tasks, language=0)[0]
        self.task = f"{trial.task.kind} {trial.task.block}"
        self.task_description = trial.instruction
        self._loop.reset(scene)
        self._judge = Judge(world, trial.task.kind, trial.task.block)
        return self._observation(), self._info(scene)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Propose ``action`` ``[D]`` to the gate and let a step pass."""
        loop = self._loop
        # A single set-point, which the gate reaches when the next is due.
        row = self._map.to_urdf(np.asarray(action, dtype=float))
        loop.send(ActionChunk(loop.time, self._ticks * loop.dt, self._map.names, row[None]))
        for _ in range(self._ticks):
            loop.step()
            self._judge.look()
        found = self._judge.judgement
        over = found.over or bool(loop.gate is not None and loop.gate.stop_check)
        return self._observation(), float(found.success), over, False, self._info()

    def render(self) -> np.ndarray | None:
        """``[H, W, 3]`` uint8 RGB: what the first camera saw last."""
        return next(iter(self._pixels.values())) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the GL contexts."""
        self._loop.close()

    def _look(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        seen = self._loop.observe(self.task_description)
        pixels = {name.removeprefix(IMAGES): picture for name, picture in seen.images.items()}
        return pixels, seen.state.astype(np.float32)

    def _observation(self) -> dict[str, Any]:
        self._pixels, agent_pos = self._look()
        return {"pixels": self._pixels, "agent_pos": agent_pos}

    def _info(self, scene: int | None = None) -> dict[str, Any]:
        found, gate = self._judge.judgement, self._loop.gate
        return {
            "is_success": found.success,
            "touched": " ".join(found.touched),
            "lifted": " ".join(found.lifted),
            "stopped": gate.stop_check if gate is not None else "",
        } | ({} if scene is None else {"scene": scene})
