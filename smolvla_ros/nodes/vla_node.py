"""The policy: camera topics, joint_states and instruction in, action chunks out."""

from __future__ import annotations

import sys
import threading

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cell import load_joint_map, load_robot
from smolvla_ros.pictures import DECODERS
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.diagnostics import ERROR, OK, Diagnostics, Status
from smolvla_ros.ros.observing import Observing
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.policy_status import Told, level_and_words, stream_values
from smolvla_ros.ros.run import run
from smolvla_ros.ros.scheduling import go_last
from smolvla_ros.ros.timing import steady_clock
from smolvla_ros.schema import ConfigError

_POLL = 0.02  # s between two looks for an observation that was not whole
_HEARTBEAT = 0.2  # s


class VlaNode(LifecycleNode):
    """Lifecycle node. Callbacks only fill mailboxes; a worker thread decodes and infers.

    While active it acts; ``~/pause`` brings it to rest and ``~/start`` goes on.
    """

    def __init__(self) -> None:
        super().__init__("vla", automatically_declare_parameters_from_overrides=True)
        self.failure: BaseException | None = None
        self.problems: list[str] = []
        self._config, self._path = declare(self, "vla")
        self._robot = load_robot(self._config.robot, self._path)
        self._joint_map = load_joint_map(self._config, self._robot, self._path)
        self._observing: Observing | None = None
        self._checkpoint = self._streams = self._runtime = None
        self._lacking: list[str] = []
        self._failed = ""
        self._told = Told()
        self._active = self._paused = False
        self._going = threading.Event()  # active, and not paused
        self._look = threading.Event()  # there may be something new: do not wait
        self._closing = threading.Event()
        self._sending = threading.Lock()  # what is sent is what the runtime last decided on
        self._worker: threading.Thread | None = None
        self._publisher = None
        self.create_service(Trigger, "~/start", self._serve_start)
        self.create_service(Trigger, "~/pause", self._serve_pause)
        self._heartbeat = self.create_publisher(Bool, "~/heartbeat", qos.EVENT)
        self.create_timer(_HEARTBEAT, self._beat, clock=steady_clock())
        if not self.has_parameter("instruction"):
            self.declare_parameter("instruction", self._config.instruction)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._diagnostics = Diagnostics(self, "vla", self._status)

    @property
    def autostart(self) -> bool:
        """Whether to configure and activate without being asked."""
        return self._config.autostart

    # -- lifecycle ----------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check the checkpoint, warm it up, subscribe."""
        self.problems = []
        try:
            self._load()
        except ConfigError as error:
            self.problems = error.problems
            for line in error.problems:
                self.get_logger().error(line)
            return TransitionCallbackReturn.FAILURE
        self._publisher = self.create_lifecycle_publisher(
            JointTrajectory, "policy/joint_trajectory", qos.STREAM_OUT
        )
        self._closing.clear()
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)
        self._worker.start()
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to act, unless paused."""
        self._active = True
        done = super().on_activate(state)
        self._go()
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Come to rest, then publish nothing more; an inference under way is thrown away."""
        self._active = False
        self._rest()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the checkpoint."""
        self.close()
        if self._publisher is not None:
            self.destroy_publisher(self._publisher)
        self._publisher = self._runtime = self._streams = None
        self._checkpoint = self._observing = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Come to rest and stop inferring."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Come to rest and end the worker; waits for an inference under way a moment only."""
        if self._going.is_set():
            status = self._status()
            self.get_logger().info(f"ending; was: {status.message}")
            self._diagnostics.publish(status)
        self._rest()
        self._closing.set()
        if self._worker is not None:
            self._worker.join(timeout=5.0)
            self._worker = None
        if self._observing is not None:
            self._observing.close()

    def _load(self) -> None:
        # Imported here: torch and lerobot take seconds, and a wrong key should not.
        try:
            from smolvla_ros.policy.loading import load_policy, make_streams
            from smolvla_ros.policy.runtime import Runtime
        except ImportError as error:
            raise ConfigError(
                f"the policy needs torch and lerobot ({error}); pip install 'smolvla_ros[policy]'"
            ) from error
        c = self._config
        policy = load_policy(c, self._robot, self._joint_map, self._path)
        for line in policy.warnings:
            self.get_logger().warning(line)
        checkpoint = self._checkpoint = policy.checkpoint
        self.get_logger().info(
            f"checkpoint {checkpoint.folder} ({checkpoint.type}, {checkpoint.hash}): "
            f"{policy.engine.rows} actions a chunk, one inference {policy.inference:.2f} s"
        )
        streams = self._streams = make_streams(c, policy, self._joint_map, DECODERS)
        streams.set_instruction(self.get_parameter("instruction").value)
        self._observing = Observing(self, c, streams, self._on_instruction)
        self._runtime = Runtime(
            policy.engine, self._now, policy.inference, lambda: streams.instruction, c.period,
            c.execution_horizon, c.slowest_pace, c.chunking != "blend",
        )  # fmt: skip

    # -- acting or not ------------------------------------------------------------------

    def _go(self) -> None:
        if self._going.is_set():
            return  # what is under way goes on as it is
        if self._active and not self._paused and self._runtime is not None:
            self._runtime.forget()
            self._observing.look()
            self._going.set()
            self._look.set()

    def _rest(self) -> None:
        """Whatever acts comes to rest on the way it was going."""
        self._going.clear()
        if self._observing is not None:
            self._observing.look_away()
        self._hold()

    def _hold(self) -> None:
        if self._runtime is None:
            return
        with self._sending:
            chunk = self._runtime.hold_chunk(self._now())
            if chunk is not None:
                self._publisher.publish(messages.chunk_to_trajectory(chunk))

    def _serve_start(self, _request, response):
        self._paused = False
        self._go()
        response.success = self._going.is_set()
        response.message = "acting" if response.success else "not active: activate the node first"
        return response

    def _serve_pause(self, _request, response):
        self._paused = True
        self._rest()
        response.success, response.message = True, "paused"
        return response

    def _on_instruction(self, text: str) -> None:
        if not text:
            self._hold()
        self._look.set()

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "use_sim_time":
                continue
            if parameter.name != "instruction" or not isinstance(parameter.value, str):
                return SetParametersResult(
                    successful=False,
                    reason=f"{parameter.name}: cannot change while the node runs; change the cell "
                    "file and start the node again (instruction can: a text)",
                )
            if self._observing is not None:
                self._streams.set_instruction(parameter.value)
                self._on_instruction(self._streams.instruction)
        return SetParametersResult(successful=True)

    # -- worker -------------------------------------------------------------------------

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _work(self) -> None:
        while not self._closing.is_set():
            if not self._going.wait(timeout=0.1):
                continue
            try:
                wait = self._once()
                self._failed = ""
            except Exception as error:  # the process lives on and says why
                self._failed = f"inference failed: {error}"
                self.get_logger().error(self._failed, throttle_duration_sec=5.0)
                wait = self._config.period
            self._look.wait(timeout=min(wait, 1.0))
            self._look.clear()

    def _once(self) -> float:
        """Gather, infer, publish; returns seconds until the next look."""
        due = self._runtime.due(self._now())
        if due > 0.0 and self._runtime.answers == self._streams.instruction:
            return due
        observation = self._streams.gather(self._now())
        self._lacking = observation if isinstance(observation, list) else []
        for reason in self._told.news(self._lacking):
            self.get_logger().info(f"no observation: {reason}")
        if self._lacking:
            return _POLL
        chunk = self._runtime.step(observation)
        with self._sending:
            if chunk is not None and self._runtime.plan is chunk:
                self._publisher.publish(messages.chunk_to_trajectory(chunk))
        return 0.0

    # -- what people see ----------------------------------------------------------------

    def _beat(self) -> None:
        # As the safety monitor's stop_heartbeat has it: false says that all is well.
        self._heartbeat.publish(Bool(data=False))

    def _status(self) -> Status:
        if self._runtime is None:
            level = ERROR if self.problems else OK
            return Status(level, "; ".join(self.problems) or "not configured", self._values)
        state = "" if self._going.is_set() else "paused" if self._active else "inactive"
        words = level_and_words(state, self._failed, self._lacking, self._runtime.warning)
        return Status(*words, self._values)

    def _values(self) -> dict[str, object]:
        values: dict[str, object] = {"checkpoint": self._config.checkpoint}
        if self._runtime is not None:
            values |= {"type": self._checkpoint.type, "hash": self._checkpoint.hash}
            values |= self._runtime.stats()
            values["instruction"] = self._streams.instruction
            values |= stream_values(self._streams.status(self._now()))
        return values


def make() -> VlaNode:
    """The node, configured and active where its cell says autostart."""
    node = VlaNode()
    if node.autostart:
        node.trigger_configure()
        if node.problems:
            node.destroy_node()
            raise ConfigError(node.problems)
        node.trigger_activate()
    return node


def main() -> int:
    """Entry point of ``vla_node``."""
    go_last()
    return run(make)


if __name__ == "__main__":
    sys.exit(main())
