"""What the gate hears from ROS: subscriptions that hand over, and never fail."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from visualization_msgs.msg import MarkerArray

from smolvla_ros.cell import FOLLOW_JOINT_TRAJECTORY, MonitorConfig, SourceConfig
from smolvla_ros.robot import RobotModel
from smolvla_ros.ros import intake, qos
from smolvla_ros.ros.follow_joint_trajectory import TrajectoryAction
from smolvla_ros.ros.obstacles import MarkerObstacles, as_plain
from smolvla_ros.ros.planning_scene import CHECK, PlanningScene
from smolvla_ros.ros.timing import steady_clock
from smolvla_ros.safety import Gate, Refused
from smolvla_ros.safety.obstacles import Obstacle
from smolvla_ros.safety.offline import as_if_followed
from smolvla_ros.safety.recording import Ring, command_line
from smolvla_ros.safety.zones import PlacedZone, fixed_frame

_CLOCK_PERIOD = 0.1  # s between two looks at the ROS clock
_SWEEP_PERIOD = 0.1  # s between two looks for obstacles that have outlived their lifetime


class Inputs:
    """Subscribes a gate to its sources, joint states, stop channel, obstacles and clock.

    Callbacks run on the executor's thread, a planning scene's on its own. Nothing that comes in
    raises: what cannot be read is refused, counted and logged.

    Args:
        node: the monitor. gate: told everything, under ``lock``. ring: hears everything too.
        zones: those that count now.
    """

    def __init__(
        self,
        node: Node,
        gate: Gate,
        lock: threading.Lock,
        config: MonitorConfig,
        robot: RobotModel,
        ring: Ring,
        zones: Callable[[], Mapping[str, PlacedZone]],
    ):
        self._node, self._gate, self._lock, self._ring = node, gate, lock, ring
        self._heartbeat = config.stop_heartbeat is not None
        self._shadow = config.shadow
        self.last_refusal = ""
        self.commanded_at: float | None = None
        self._hindrances: dict[str, str] = {}
        self._subscriptions: list[Subscription] = []
        self.topics: list[str] = []  # resolved, of the sources
        self.actions: dict[str, TrajectoryAction] = {}  # source name → action
        for name, source in config.named_sources().items():
            if source.type == FOLLOW_JOINT_TRAJECTORY:
                self.actions[name] = TrajectoryAction(
                    node, name, source, gate, lock, ring,
                    self._steady_stamp, self._taken, self.refused, config.shadow,
                )  # fmt: skip
                continue
            kind, read = intake.READERS[source.type]
            callback = partial(self._on_command, name, source, read)
            self.topics.append(self._listen(kind, source.topic, callback, qos.NEWEST_IN))
        # Parts of the arm may be published by several nodes: a depth of one would let one
        # publisher's message push out another's.
        self._listen(JointState, "joint_states", self._on_joint_state, qos.SENSOR_DATA)
        # A reliable and a best-effort reader: a stop is heard from whoever publishes it.
        for profile in (qos.EVENT, qos.NEWEST_IN):
            self._listen(Bool, "stop", self._on_stop, profile)
        self._obstacles = MarkerObstacles(partial(fixed_frame, robot))
        self._obstacle_lock = threading.RLock()  # of all that is said of obstacles
        self._obstacles_at: float | None = None
        self._scene_objects: list[Obstacle] = []
        self.obstacles: list[Obstacle] = []  # those that are there
        if config.obstacles is not None:
            self._listen(MarkerArray, config.obstacles.topic, self._on_obstacles, qos.SENSOR_DATA)
            node.create_timer(_SWEEP_PERIOD, self._sweep_obstacles, clock=steady_clock())
        self._watch_clock(config.clock_tolerance)
        self._scene: PlanningScene | None = None
        if config.planning_scene is not None:
            self._scene = PlanningScene(
                node, config.planning_scene, robot, zones, self.hear_scene,
                partial(self.hinder, CHECK), self.refused,
            )  # fmt: skip

    def close(self) -> None:
        """End what has a thread of its own."""
        if self._scene is not None:
            self._scene.close()

    @property
    def statuses(self) -> dict[str, str]:
        """What those inputs say of themselves that may be off."""
        found = {f"action/{name}": action.status for name, action in self.actions.items()}
        return found if self._scene is None else found | {"planning_scene": self._scene.status}

    def _listen(
        self, kind: type, topic: str, callback: Callable[..., None], profile: QoSProfile
    ) -> str:
        subscription = self._node.create_subscription(
            kind,
            topic,
            callback,
            profile,
            raw=True,
        )
        self._subscriptions.append(subscription)
        return subscription.topic_name

    # -- callbacks ------------------------------------------------------------------------

    def _on_command(
        self,
        name: str,
        source: SourceConfig,
        read: Callable[..., intake.Reading],
        data: bytes,
        info: dict[str, Any],
    ) -> None:
        now = time.monotonic()
        try:
            reading = read(data, source.joints or self._gate.names)
        except Refused as refusal:
            with self._lock:
                self._gate.refuse(now, refusal, name)
            self._ring.add(now, "command", {"source": name, "unreadable": str(refusal)})
            self.refused(source.topic, refusal)
            return
        stamp = self._steady_stamp(now, reading.stamp)
        values = (name, stamp, reading.names, reading.times, reading.positions)
        publisher = intake.publisher_id(info)
        with self._lock:
            refusal = self._gate.offer(now, *values, publisher)
        self._ring.add(now, "command", command_line(*values, publisher))
        if refusal is not None:
            self.refused(source.topic, refusal)
        else:
            self._taken(now)

    def _taken(self, now: float) -> None:
        self.commanded_at = now

    def _on_joint_state(self, data: bytes) -> None:
        now = time.monotonic()
        try:
            names, positions = intake.read_joint_state(data)
        except Refused as refusal:
            with self._lock:
                self._gate.refuse(now, refusal)
            self.refused("joint_states", refusal)
            return
        with self._lock:
            if self._shadow:
                positions = as_if_followed(self._gate, names, positions)
            refusal = self._gate.hear_joint_state(now, names, positions)
        self._ring.add(now, "joint_state", {"names": names, "positions": positions})
        if refusal is not None:
            self.refused("joint_states", refusal)

    def _on_stop(self, data: bytes) -> None:
        # With a heartbeat, false says "all is well"; without one any message stops, and so
        # does one that cannot be read.
        now = time.monotonic()
        try:
            well = self._heartbeat and not intake.unpack(data, Bool).data
        except Refused:
            well = False
        with self._lock:
            self._gate.hear_stop_channel(now)
            if not well:
                self._gate.stop("message on stop")
        self._ring.add(now, "heartbeat" if well else "stop", True)

    def _on_obstacles(self, data: bytes) -> None:
        now = time.monotonic()
        with self._obstacle_lock:
            try:
                self._obstacles.hear(now, data)
            except Refused as refusal:
                # The ones before stay; that they are not renewed brakes the arm soon.
                with self._lock:
                    self._gate.refuse(now, refusal)
                self.refused("obstacles", refusal)
                return
            self._obstacles_at = now
            self._set_obstacles()

    def _sweep_obstacles(self) -> None:
        with self._obstacle_lock:
            if self._obstacles_at is not None and self._obstacles.outlived(time.monotonic()):
                self._set_obstacles()

    def hear_scene(self, objects: list[Obstacle]) -> None:
        """The objects of a planning scene, all of them: obstacles beside the markers'."""
        with self._obstacle_lock:
            self._scene_objects = objects
            self._set_obstacles()

    def hinder(self, check: str, detail: str) -> None:
        """As the gate's; the gate and the recording hear of changes only."""
        with self._obstacle_lock:
            if self._hindrances.get(check, "") == detail:
                return
            self._hindrances[check] = detail
            with self._lock:
                self._gate.hinder(check, detail)
            self._ring.add(time.monotonic(), "hinder", {"check": check, "detail": detail})

    def _set_obstacles(self) -> None:
        now = time.monotonic()
        present = self._obstacles.present(now) + self._scene_objects
        # Word of others, or none, makes the markers' no younger.
        heard_at = -math.inf if self._obstacles_at is None else self._obstacles_at
        try:
            made = self._gate.make_obstacles(present)  # no tick waits for it
            with self._lock:
                self._gate.set_obstacles(heard_at, present, made)
        except ValueError as error:  # too many of both together; those before stay
            self.hinder("obstacle", str(error))
            return
        self.hinder("obstacle", "")
        self.obstacles = present
        self._ring.add(now, "obstacles", as_plain(present))

    def refused(self, topic: str, refusal: Refused) -> None:
        """Something on a topic was not taken: for people."""
        self.last_refusal = f"{topic}: {refusal.check}: {refusal}"[:300]
        self._node.get_logger().warning(f"refused: {self.last_refusal}", throttle_duration_sec=5.0)

    # -- clocks ---------------------------------------------------------------------------

    def _steady_stamp(self, now: float, stamp: float | None) -> float | None:
        """A sender's ROS stamp on the steady clock."""
        if stamp is None:
            return None
        return now - (self._node.get_clock().now().nanoseconds * 1e-9 - stamp)

    def _watch_clock(self, tolerance: float) -> None:
        clock = self._node.get_clock()
        if not clock.ros_time_is_active:

            def look() -> None:
                with self._lock:
                    self._gate.hear_clock(time.monotonic(), clock.now().nanoseconds * 1e-9)

            self._node.create_timer(_CLOCK_PERIOD, look, clock=steady_clock())
            return

        # Simulated time runs at a pace of its own and stands still while nobody simulates.
        # Only a jump makes stamps from before and after it those of two clocks.
        def jumped(jump: TimeJump) -> None:
            with self._lock:
                seconds = jump.delta.nanoseconds * 1e-9
                self._gate.brake("clock_jump", f"simulated time jumped by {seconds:+.3f} s")

        threshold = JumpThreshold(
            min_forward=Duration(seconds=tolerance), min_backward=Duration(seconds=-tolerance)
        )
        # Held on to: the handle ends with its last reference.
        self._jumps = clock.create_jump_callback(threshold, post_callback=jumped)
