"""The simulated cell: cameras, joint_states, and an arm that follows arm/joint_trajectory."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.arm.mujoco import MujocoArm
from smolvla_ros.cell import beside, load_robot
from smolvla_ros.robot import RobotError
from smolvla_ros.ros import episode, messages, qos
from smolvla_ros.ros.diagnostics import OK, WARN, Diagnostics, Status
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.run import Fatal, run
from smolvla_ros.safety.command import Command, Refused, read_command
from smolvla_ros.schema import ConfigError
from smolvla_ros.sim.grain import add_grain
from smolvla_ros.sim.judge import Judge, read_task
from smolvla_ros.sim.scene import load_scene

_EPISODE_PERIOD = 0.1  # s of simulated time between two words on an episode


class SimNode(Node):
    """Physics in one thread, pictures in another, callbacks on the executor's.

    ``~/reset`` begins an episode: a new scene by the parameters ``seed`` and ``vary``, judged
    by ``task``. How it goes is on ``~/episode``.
    """

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
            read_task(self._config.task, tuple(scene.blocks))
        except (RobotError, ValueError) as error:
            key = "start" if isinstance(error, RobotError) else "task"
            raise ConfigError(f"{path or 'parameters'}: sim.{key}: {error}") from error
        self.failure: BaseException | None = None
        self._lock = threading.Lock()  # guards the world, its judge and what it plays
        self._world = World(robot, scene, self._config.seed, start, self._config.physics_rate)
        if self._config.vary:
            self._world.reset(self._config.seed, vary=True)
        self._arm = MujocoArm(self._world)
        self._playing: Command | None = None  # its stamp is ROS time
        self._judge: Judge | None = None
        self._number, self._seed, self._task = 0, self._config.seed, self._config.task
        self._told = ("", 0.0)
        for name in ("seed", "vary", "task"):
            if not self.has_parameter(name):
                self.declare_parameter(name, getattr(self._config, name))
        self.add_on_set_parameters_callback(self._on_parameters)
        self.add_post_set_parameters_callback(self._after_parameters)
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
        self._setpoints = self.create_publisher(JointTrajectory, "~/setpoint", qos.STREAM_OUT)
        self._episodes = self.create_publisher(DiagnosticStatus, "~/episode", qos.EVENT)
        self.create_service(Trigger, "~/reset", self._serve_reset)
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

    # -- episodes -----------------------------------------------------------------------

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "use_sim_time":
                continue
            reason = self._against(parameter.name, parameter.value)
            if reason:
                return SetParametersResult(successful=False, reason=f"{parameter.name}: {reason}")
        return SetParametersResult(successful=True)

    def _against(self, name: str, value: Any) -> str:
        if name not in ("seed", "vary", "task"):
            return "cannot change while the node runs (seed, vary and task can)"
        if name == "seed" and value < 0:
            return f"is {value}; write 0 or above"
        if name == "task":
            try:
                read_task(value, self._world.block_names)
            except ValueError as error:
                return str(error)
        return ""

    def _after_parameters(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == "task":
                with self._lock:
                    self._judge_anew(parameter.value)

    def _judge_anew(self, task: str) -> None:
        self._judge = Judge(self._world, *read_task(task, self._world.block_names))
        self._task, self._told = task, ("", 0.0)

    def _serve_reset(self, _request, response):
        seed, vary, task = (self.get_parameter(n).value for n in ("seed", "vary", "task"))
        with self._lock:
            self._playing = None
            self._world.reset(seed, vary=vary)
            self._judge_anew(task)
            self._number, self._seed = self._number + 1, seed
        response.success, response.message = True, str(self._number)
        return response

    def _tell(self) -> None:
        """A word on the episode, now and then and whenever there is news."""
        judgement, now = self._judge.look(), self._world.time
        word = f"{judgement.over} {judgement.touched} {judgement.lifted}"
        if word == self._told[0] and now - self._told[1] < _EPISODE_PERIOD:
            return
        self._told = (word, now)
        self._episodes.publish(
            episode.to_message("sim", self._number, self._seed, self._task, now, judgement)
        )

    # -- the arm ------------------------------------------------------------------------

    def _on_setpoint(self, message: JointTrajectory) -> None:
        try:
            command = read_command(
                messages.seconds(message.header.stamp) or self._now(),
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
            several = len(command.times) > 1
            self._playing = command if several else None
            if not several:
                self._arm.write(command.positions[0], float(command.times[0]))

    def _play(self, period: float) -> None:
        """The next set-point of a trajectory of several, which keep their own times, as
        joint_trajectory_controller has it."""
        command, at = self._playing, self._now() + period - self._playing.stamp
        row = np.array([np.interp(at, command.times, column) for column in command.positions.T])
        self._arm.write(row, period)
        if at >= command.times[-1]:
            self._playing = None
        self._setpoints.publish(
            messages.setpoint_to_trajectory(
                self._arm.names, row, (), period, self.get_clock().now().to_msg()
            )
        )

    # -- threads ------------------------------------------------------------------------

    def _run_physics(self) -> None:
        period = 1.0 / self._config.joint_state_rate
        due = time.monotonic()
        while not self._closing.is_set():
            with self._lock:
                if self._playing is not None:
                    self._play(period)
                self._world.step(period)
                state = messages.joint_state(self._arm.names, *self._arm.read())
                if self._judge is not None:
                    self._tell()
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

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

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
