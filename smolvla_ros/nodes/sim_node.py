"""The simulated cell: cameras, joint_states, and an arm that follows arm/joint_trajectory."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.arm.mujoco import MujocoArm
from smolvla_ros.cell import beside, load_robot
from smolvla_ros.robot import RobotError
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.diagnostics import OK, WARN, Diagnostics, Status
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.run import Fatal, run
from smolvla_ros.safety.command import Refused, read_command
from smolvla_ros.schema import ConfigError
from smolvla_ros.sim.grain import add_grain
from smolvla_ros.sim.scene import load_scene


class SimNode(Node):
    """Physics in one thread, pictures in another, callbacks on the executor's."""

    def __init__(self) -> None:
        super().__init__("sim", automatically_declare_parameters_from_overrides=True)
        # Imported here: without an EGL library this fails, and must fail with a sentence.
        try:
            from smolvla_ros.sim.world import Cameras, World, intrinsics
        except (ImportError, AttributeError) as error:
            raise _cannot_draw(error) from error
        self._config, path = declare(self, "sim")
        robot = load_robot(self._config.robot, path)
        scene = load_scene(beside(path, self._config.scene))
        try:
            start = robot.pose(self._config.start)
        except RobotError as error:
            raise ConfigError(f"{path or 'parameters'}: sim.start: {error}") from error
        self.failure: BaseException | None = None
        self._lock = threading.Lock()  # guards the world
        self._world = World(robot, scene, self._config.seed, start, self._config.physics_rate)
        self._arm = MujocoArm(self._world)
        self._make_cameras = Cameras
        self._late = 0
        self._refused = 0
        self._pictures = 0
        self._states = self.create_publisher(JointState, "joint_states", qos.STREAM_OUT)
        self._infos = {
            name: messages.camera_info(
                intrinsics(pose), pose.width, pose.height, f"{name}_optical_frame"
            )
            for name, pose in scene.cameras.items()
        }
        self._image_pubs = {
            name: self.create_publisher(Image, f"{name}/image_raw", qos.SENSOR_DATA)
            for name in scene.cameras
        }
        self._info_pubs = {
            name: self.create_publisher(CameraInfo, f"{name}/camera_info", qos.SENSOR_DATA)
            for name in scene.cameras
        }
        self.create_subscription(
            JointTrajectory, "arm/joint_trajectory", self._on_setpoint, qos.NEWEST_IN
        )
        self._diagnostics = Diagnostics(self, "sim", self._status)
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=work.__name__, daemon=True)
            for work in (self._run_physics, self._run_cameras)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop both threads."""
        self._closing.set()
        for thread in self._threads:
            thread.join(timeout=2.0)

    def _guard(self, work) -> None:
        try:
            work()
        except Exception as error:  # a dead thread must end the process, not half of it
            if not self._closing.is_set():
                self.failure = error if isinstance(error, Fatal) else Fatal(f"sim: {error!r}")

    def _on_setpoint(self, message: JointTrajectory) -> None:
        try:
            command = read_command(
                0.0,
                message.joint_names,
                [messages.seconds(p.time_from_start) for p in message.points],
                [p.positions for p in message.points],
                self._arm.names,
            )
        except Refused as refusal:
            self._refused += 1
            self.get_logger().warning(
                f"arm/joint_trajectory refused: {refusal}", throttle_duration_sec=5.0
            )
            return
        with self._lock:
            self._arm.write(command.positions[-1], float(command.times[-1]))

    def _run_physics(self) -> None:
        period = 1.0 / self._config.joint_state_rate
        due = time.monotonic()
        while not self._closing.is_set():
            with self._lock:
                self._world.step(period)
                state = messages.joint_state(self._arm.names, *self._arm.read())
            state.header.stamp = self.get_clock().now().to_msg()
            self._states.publish(state)
            due += period
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            elif wait < -0.1:  # too far behind to catch up: let simulated time slip
                self._late += 1
                due = time.monotonic()

    def _run_cameras(self) -> None:
        try:
            cameras = self._make_cameras(self._world)
        except Exception as error:
            raise _cannot_draw(error) from error
        grain = np.random.default_rng(self._config.seed)
        period = 1.0 / self._config.camera_rate
        due = time.monotonic()
        while not self._closing.is_set():
            with self._lock:
                cameras.see(self._world)
                stamp = self.get_clock().now().to_msg()
            for name, publisher in self._image_pubs.items():
                frame_id = f"{name}_optical_frame"
                picture = cameras.render(name)
                add_grain(picture, grain)
                publisher.publish(messages.rgb_to_image(picture, frame_id, stamp))
                info = self._infos[name]
                info.header.stamp = stamp
                self._info_pubs[name].publish(info)
            self._pictures += 1
            due = max(due + period, time.monotonic() - period)
            self._closing.wait(max(0.0, due - time.monotonic()))
        cameras.close()

    def _status(self) -> Status:
        level, message = (WARN, "slower than real time") if self._late else (OK, "running")
        return Status(
            level,
            message,
            lambda: {
                "simulated_s": self._world.time,
                "pictures": self._pictures,
                "late_cycles": self._late,
                "setpoints_refused": self._refused,
            },
        )


def _cannot_draw(error: Exception) -> Fatal:
    return Fatal(
        f"MuJoCo cannot draw without a display: {error}. Install mujoco and an EGL library "
        "(pip install 'smolvla_ros[sim]'; Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri)"
    )


def main() -> int:
    """Entry point of ``sim_node``."""
    return run(SimNode)


if __name__ == "__main__":
    sys.exit(main())
