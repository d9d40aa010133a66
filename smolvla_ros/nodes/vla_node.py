"""The policy: camera topics, joint_states and instruction in, action chunks out."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cell import load_joint_map, load_robot
from smolvla_ros.policy.observation import INSTRUCTION, Streams
from smolvla_ros.policy.streams import STATE, Camera, Joints
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.diagnostics import ERROR, OK, WARN, Diagnostics, Status
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.run import run
from smolvla_ros.ros.scheduling import go_last
from smolvla_ros.ros.timing import Durations
from smolvla_ros.schema import ConfigError


class VlaNode(LifecycleNode):
    """Lifecycle node. Callbacks only fill mailboxes; a worker thread decodes and infers."""

    def __init__(self) -> None:
        super().__init__("vla", automatically_declare_parameters_from_overrides=True)
        self.failure: BaseException | None = None
        self.problems: list[str] = []
        self._config, self._path = declare(self, "vla")
        self._robot = load_robot(self._config.robot, self._path)
        self._joint_map = load_joint_map(self._config, self._robot, self._path)
        self._streams: Streams | None = None
        self._engine = None
        self._chunks = 0
        self._dropped = 0
        self._latencies = Durations()  # observation to chunk
        self._lacking: list[str] = []
        self._error = ""
        self._going = threading.Event()  # set while active
        self._closing = threading.Event()
        self._worker: threading.Thread | None = None
        self._subscribed: list = []
        self._publisher = None
        self._diagnostics = Diagnostics(self, "vla", self._status)

    @property
    def autostart(self) -> bool:
        """Whether to configure and activate without being asked."""
        return self._config.autostart

    # -- lifecycle ----------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check the checkpoint, warm it up, subscribe."""
        try:
            self._load()
        except ConfigError as error:
            self.problems = error.problems
            for line in error.problems:
                self.get_logger().error(line)
            return TransitionCallbackReturn.FAILURE
        c = self._config
        cameras = {
            name: Camera(
                feature=camera.feature,
                decode=messages.image_to_rgb,
                max_age=camera.max_age,
                frozen_after=camera.frozen_after,
            )
            for name, camera in c.cameras.items()
        }
        joints = Joints(
            names=self._joint_map.names,
            max_age=c.joint_states_max_age,
            convert=self._joint_map.to_policy,
        )
        self._streams = Streams(cameras, joints, c.instruction, max_skew=c.max_skew)
        self._publisher = self.create_lifecycle_publisher(
            JointTrajectory, "policy/joint_trajectory", qos.STREAM_OUT
        )
        self._subscribed = [
            # Not the newest alone: parts of the arm may be published by several nodes.
            self.create_subscription(JointState, STATE, self._on_joints, qos.SENSOR_DATA),
            self.create_subscription(String, INSTRUCTION, self._on_instruction, qos.EVENT),
        ] + [
            self.create_subscription(
                Image, camera.topic, partial(self._on_picture, name), qos.SENSOR_DATA
            )
            for name, camera in c.cameras.items()
        ]
        self._closing.clear()
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)
        self._worker.start()
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to infer."""
        self._going.set()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish nothing more; an inference under way is thrown away."""
        self._going.clear()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the checkpoint."""
        self.close()
        for subscription in self._subscribed:
            self.destroy_subscription(subscription)
        self._subscribed = []
        if self._publisher is not None:
            self.destroy_publisher(self._publisher)
        self._engine = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop inferring."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """End the worker; waits for an inference under way for a moment only."""
        self._going.clear()
        self._closing.set()
        if self._worker is not None:
            self._worker.join(timeout=5.0)
            self._worker = None

    def _load(self) -> None:
        # Imported here: torch and lerobot take seconds, and a wrong key should not.
        try:
            import torch

            from smolvla_ros.policy.check import load_checked
            from smolvla_ros.policy.engine import LeRobotEngine
        except ImportError as error:
            raise ConfigError(
                f"the policy needs torch and lerobot ({error}); pip install 'smolvla_ros[policy]'"
            ) from error
        c = self._config
        torch.set_num_threads(c.torch_threads)
        if c.seed is not None:
            torch.manual_seed(c.seed)
        checkpoint, findings = load_checked(c, self._robot, self._path)
        for finding in findings:
            if finding.level == "warning":
                self.get_logger().warning(str(finding))
        engine = LeRobotEngine(checkpoint, self._joint_map, 1.0 / c.chunk_rate)
        took = engine.warm_up(np.zeros(len(c.joint_order)))
        self.get_logger().info(
            f"checkpoint {checkpoint.folder}: {checkpoint.chunk_size} actions a chunk, first "
            f"inference {took:.2f} s"
        )
        self._engine = engine

    # -- mailboxes ----------------------------------------------------------------------

    def _on_picture(self, camera: str, message: Image) -> None:
        self._streams.put(camera, messages.seconds(message.header.stamp), message)

    def _on_joints(self, message: JointState) -> None:
        stamp = messages.seconds(message.header.stamp)
        self._streams.put_joints(stamp, message.name, message.position)

    def _on_instruction(self, message: String) -> None:
        self._streams.set_instruction(message.data)

    # -- worker -------------------------------------------------------------------------

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _work(self) -> None:
        while not self._closing.is_set():
            if not self._going.wait(timeout=0.1):
                continue
            started = time.monotonic()
            try:
                wait = self._once()
                self._error = ""
            except Exception as error:  # the process lives on and says why
                self._error = f"inference failed: {error}"
                self.get_logger().error(self._error, throttle_duration_sec=5.0)
                wait = self._config.period
            self._closing.wait(max(0.0, started + wait - time.monotonic()))

    def _once(self) -> float:
        """Gather, infer, publish; returns seconds from its start until the next time."""
        observation = self._streams.gather(self._now())
        if isinstance(observation, list):
            self._lacking = observation
            return 0.02
        self._lacking = []
        chunk = self._engine.infer(observation)
        self._latencies.add(self._now() - observation.stamp)
        if self._going.is_set() and self._streams.instruction == observation.instruction:
            self._publisher.publish(messages.chunk_to_trajectory(chunk))
            self._chunks += 1
        else:
            self._dropped += 1
        return self._config.period

    def _status(self) -> Status:
        if self._engine is None:
            level = ERROR if self.problems else OK
            return Status(level, "; ".join(self.problems) or "not configured", self._values)
        if not self._going.is_set():
            return Status(OK, "inactive", self._values)
        if self._error:
            return Status(ERROR, self._error, self._values)
        if self._lacking:
            only_idle = len(self._lacking) == 1 and self._lacking[0].startswith(INSTRUCTION)
            level = OK if only_idle else WARN
            return Status(level, f"no observation: {'; '.join(self._lacking)}", self._values)
        return Status(OK, "publishing chunks", self._values)

    def _values(self) -> dict[str, object]:
        values: dict[str, object] = {
            "checkpoint": self._config.checkpoint,
            "chunks": self._chunks,
            "chunks_dropped": self._dropped,
        }
        values |= {f"latency_s/{k}": v for k, v in self._latencies.summary().items()}
        if self._streams is not None:
            values["instruction"] = self._streams.instruction
            for name, found in self._streams.status(self._now()).items():
                values |= {f"age_s/{name}": found["age_s"], f"rate_hz/{name}": found["rate_hz"]}
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
