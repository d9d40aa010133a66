"""A whole cell in one process and in simulated time: the rooms, without the nodes.

The world, the gate and whoever proposes motion are the ones that the nodes run; only the
messages between them are left out. One seed gives one course of events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smolvla_ros.cell import Cell, beside, load_gate, load_joint_map, load_robot, make_sources
from smolvla_ros.chunk import ActionChunk
from smolvla_ros.learn.trials import GATES
from smolvla_ros.policy import chunking
from smolvla_ros.policy.engine import Engine, Guide
from smolvla_ros.policy.observation import Observation
from smolvla_ros.policy.runtime import Runtime
from smolvla_ros.safety.gate import Gate, Output
from smolvla_ros.schema import ConfigError
from smolvla_ros.sim.grain import add_grain
from smolvla_ros.sim.scene import load_scene
from smolvla_ros.sim.world import Cameras, World

if TYPE_CHECKING:
    from smolvla_ros.policy.loading import Policy

_BEGINNING = 1.0  # s that a clock shows when a scene begins


class CellLoop:
    """The simulated arm, its cameras and its gate. One thread uses it: it draws.

    Args:
        cell: with the sections of the simulator, the policy and the monitor.
        gate: one of :data:`~smolvla_ros.learn.trials.GATES`.

    Attributes:
        robot, joint_map, world: as the nodes have them. gate: None when it is off.
        pictured: the policy's feature → the scene's camera.
        time: s since the scene began, and a second. setpoint: ``[D]`` rad that the arm was
            sent last. dt: s a tick.

    Raises:
        ConfigError: a section is missing, or something in one is wrong.
    """

    def __init__(self, cell: Cell, gate: str = "on"):
        if gate not in GATES:
            raise ConfigError(f"gate: {gate!r} is none; write one of {', '.join(GATES)}")
        missing = [n for n in ("sim", "vla", "safety_monitor") if getattr(cell, n) is None]
        if missing:
            raise ConfigError(
                f"{cell.path}: no section {', '.join(missing)}; a simulated cell needs it"
            )
        self.cell, self._mode = cell, gate
        self.robot = load_robot(cell.sim.robot, cell.path)
        self.joint_map = load_joint_map(cell.vla, self.robot, cell.path)
        scene = load_scene(beside(cell.path, cell.sim.scene))
        start = self.robot.pose(cell.sim.start)
        self.world = World(self.robot, scene, cell.sim.seed, start, cell.sim.physics_rate)
        self.dt = 1.0 / cell.safety_monitor.rate
        self.pictured = {
            camera.feature: _scene_camera(name, camera.topic, cell, scene.cameras)
            for name, camera in cell.vla.cameras.items()
        }
        self._order = [self.robot.names.index(n) for n in self.joint_map.names]
        self._first_gate = load_gate(cell.safety_monitor, self.robot, cell.path)
        self._cameras: Cameras | None = None
        self.gate: Gate | None = None
        self.reset(cell.sim.seed, vary=False)

    def reset(self, seed: int, vary: bool = True) -> None:
        """Begin a scene: the gate is enabled and holds the arm where it starts."""
        self.world.reset(seed, vary=vary)
        self._begin(seed)

    def start_at(self, q: np.ndarray) -> None:
        """Begin the present scene anew with the arm at ``q`` ``[D]`` rad."""
        self.world.place(q)
        self._begin(self._seed)

    def _begin(self, seed: int) -> None:
        self._seed = seed
        self._grain = np.random.default_rng([seed, 2])
        self.time = _BEGINNING
        self.setpoint = self.world.joint_positions()
        self._chunk: ActionChunk | None = None
        if self._mode != "off":
            first, sources = self._first_gate, make_sources(self.cell.safety_monitor)
            self.gate = Gate(first.limits, first.clearance, first.settings, sources)
            self.gate.measure(self.time, self.setpoint)
            self.gate.enable(self.time)

    def observe(self, instruction: str) -> Observation:
        """What a policy is shown now."""
        if self._cameras is None:
            self._cameras = Cameras(self.world)
        self._cameras.see(self.world)
        images = {}
        for feature, camera in self.pictured.items():
            images[feature] = self._cameras.render(camera)
            add_grain(images[feature], self._grain)
        state = self.joint_map.to_policy(self.world.joint_positions()[self._order])
        stamps = dict.fromkeys((*images, "joint_states"), self.time)
        return Observation(images, state, instruction, stamps)

    def setpoint_in_policy_units(self) -> np.ndarray:
        """``[D]`` what the arm was sent last, in the policy's units and order."""
        return self.joint_map.to_policy(self.setpoint[self._order])

    def send(self, chunk: ActionChunk, source: str = "policy") -> None:
        """Propose motion; the gate says for itself what it refuses."""
        self._chunk = chunk
        if self.gate is not None:
            times = chunk.dt * np.arange(len(chunk.positions))
            self.gate.offer(self.time, source, chunk.stamp, chunk.names, times, chunk.positions)

    def step(self) -> Output | None:
        """One tick of gate, servos and physics. None where there is no gate."""
        output = None
        if self.gate is not None:
            self.gate.measure(self.time, self.world.joint_positions())
            output = self.gate.tick(self.time)
        if self._mode == "on":
            if output.positions is not None:
                self.setpoint = output.positions
        elif self._chunk is not None:
            rows = chunking.sample(self._chunk, np.array([self.time]))[0]
            by_name = dict(zip(self._chunk.names, rows, strict=True))
            self.setpoint = np.array([by_name[name] for name in self.robot.names])
        self.world.command(self.setpoint, self.dt)
        self.world.step(self.dt)
        self.time += self.dt
        return output

    def close(self) -> None:
        """Free the GL contexts."""
        if self._cameras is not None:
            self._cameras.close()


class PolicySource:
    """The deployed runtime on a loop's simulated time.

    Args:
        policy: loaded and warm. latency: s that an inference is taken to last.
    """

    def __init__(self, loop: CellLoop, policy: Policy, latency: float):
        self._loop, self._latency = loop, latency
        self._engine = policy.engine
        self.restart()

    def restart(self) -> None:
        """For a new scene: nothing was published, no inference is under way."""
        loop, config = self._loop, self._loop.cell.vla
        self._instruction = ""
        self._inferring = _Inferring(self._engine, self._latency)
        self._pending: tuple[float, ActionChunk | None] | None = None
        self.runtime = Runtime(
            self._inferring,
            lambda: loop.time + self._inferring.spent,
            self._latency,
            lambda: self._instruction,
            config.period,
            config.execution_horizon,
            config.slowest_pace,
            config.chunking != "blend",
        )

    def step(self, instruction: str) -> None:
        """Once a tick, before :meth:`CellLoop.step`: deliver what was inferred, observe and
        infer when it is time."""
        self._instruction = instruction
        loop = self._loop
        if self._pending is not None:
            if loop.time < self._pending[0] - 1e-9:
                return
            chunk = self._pending[1]
            self._pending = None
            if chunk is not None:
                loop.send(chunk)
        if not instruction or self.runtime.due(loop.time) > 1e-9:
            return
        self._inferring.spent = 0.0
        chunk = self.runtime.step(loop.observe(instruction))
        self._pending = (loop.time + self._latency, chunk)
        self._inferring.spent = 0.0


class _Inferring(Engine):
    """An engine whose inferences take ``latency`` s of simulated time, in ``spent``."""

    def __init__(self, engine: Engine, latency: float):
        self._engine, self._latency = engine, latency
        self.names, self.rows, self.dt = engine.names, engine.rows, engine.dt
        self.guided = engine.guided
        self.spent = 0.0

    def infer(self, observation: Observation, guide: Guide | None = None) -> ActionChunk:
        """As the engine under it."""
        answer = self._engine.infer(observation, guide)
        self.spent += self._latency
        return answer

    def measured(self, observation: Observation) -> np.ndarray | None:
        """As the engine under it."""
        return self._engine.measured(observation)


def _scene_camera(name: str, topic: str, cell: Cell, known) -> str:
    camera = topic.strip("/").split("/")[0]
    if camera not in known:
        raise ConfigError(
            f"{cell.path}: vla.cameras.{name}.topic: {topic!r} is no picture of the scene; it has "
            + ", ".join(f"{c}/image_raw" for c in known)
        )
    return camera
