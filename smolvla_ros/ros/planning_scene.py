"""MoveIt's planning scene and the gate, each told of the other's objects.

moveit_msgs is looked for when a cell asks for a planning scene, and only then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pinocchio as pin
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future

from smolvla_ros.cell import PlanningSceneConfig
from smolvla_ros.robot import RobotModel
from smolvla_ros.ros.collision_objects import SceneBook, allow, collision_object
from smolvla_ros.ros.intake import unpack
from smolvla_ros.ros.timing import steady_clock
from smolvla_ros.safety.command import Refused
from smolvla_ros.safety.obstacles import Obstacle
from smolvla_ros.safety.solids import exempt_links, solids
from smolvla_ros.safety.zones import PlacedZone, fixed_frame

OFF = "off: moveit_msgs is not installed (sudo apt install ros-$ROS_DISTRO-moveit-msgs)"
CHECK = "planning_scene"  # the counter's word

_LOOK = 0.2  # s between two looks at what is there
_ASK = 1.0  # s between two questions for the whole scene
_PATIENCE = 2.0  # s for an answer
_MAX_BYTES = 500_000  # of a change: reading it keeps the interpreter for 0.1 s
_SLOW = 0.05  # s of reading a whole scene that are told of
_SAME = 1e-4  # m, and of a rotation
# MoveIt publishes with a depth of 100. A diff that is lost is made good by the next answer.
_RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class PlanningScene:
    """What one monitor takes from a planning scene and gives to it.

    What is published of changes is heard at once; move_group's service is asked for the whole
    scene every second, which finds what was lost, was there before or is another's, and says
    that move_group lives.

    All of it runs on a node and a thread of its own, and so do ``zones``, ``heard``, ``hinder``
    and ``refused``: a scene may hold meshes that take longer to read than a joint state may take
    to be heard. Nothing that comes in raises.

    Args:
        monitor: whose topics and names these are. zones: those that count now.
        heard: told the scene's objects when they have changed. hinder: told why the scene is
            not known; empty where it is. refused: told the topic's name and why a scene was
            not taken.
    """

    def __init__(
        self,
        monitor: Node,
        config: PlanningSceneConfig,
        robot: RobotModel,
        zones: Callable[[], Mapping[str, PlacedZone]],
        heard: Callable[[list[Obstacle]], None],
        hinder: Callable[[str], None],
        refused: Callable[[str, Refused], None],
    ):
        self._config, self._robot, self._zones = config, robot, zones
        self._heard, self._hinder, self._refused = heard, hinder, refused
        # Two monitors may have zones of one name in one scene.
        self._own = f"{monitor.get_fully_qualified_name().lstrip('/')}/"
        self._book = SceneBook(self._frame, self._own if config.give else "", config.except_objects)
        self._trouble = ""
        self._known_at: float | None = None  # when the scene was last known to be the book's
        self._asked: tuple[Future, float, int] | None = None  # its time, and the book's changes
        self._ask_at = 0.0
        self._answered_at = -np.inf  # when that service did last
        self._worked = 0.0  # s that this thread had worked for when it asked
        self._read_for = 0.0  # and from then to the answer
        self._wanted_of: Mapping[str, PlacedZone] | None = None
        self._wanted: dict[str, Any] = {}  # name in the scene → CollisionObject
        self._exempt: list[tuple[str, str]] = []  # names in the scene that may touch links
        self._left_out: list[str] = []
        self._all_given = False
        self._unlike = ""  # why an object that was given cannot be read back
        try:
            from moveit_msgs import msg, srv
        except ImportError:
            self._off = True
            monitor.get_logger().warning(f"planning_scene: {OFF}")
            if config.take:  # without what the cell counts on the arm stays where it is
                hinder(OFF)
            return
        self._off = False
        self._msg, self._srv = msg, srv
        self._node = node = Node(
            f"{monitor.get_name()}_scene",
            context=monitor.context,
            namespace=monitor.get_namespace(),
            cli_args=_remappings(),
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._topic = config.name("monitored_planning_scene")
        self._client = node.create_client(srv.GetPlanningScene, config.name("get_planning_scene"))
        if config.give:
            self._publisher = node.create_publisher(
                msg.PlanningScene, config.name("planning_scene"), _RELIABLE
            )
        if config.take:
            self._judge(time.monotonic())
            self._subscription = node.create_subscription(
                msg.PlanningScene, self._topic, self._on_scene, _RELIABLE, raw=True
            )
        node.create_timer(_LOOK, self._look, clock=steady_clock())
        self._executor = SingleThreadedExecutor(context=monitor.context)
        self._executor.add_node(node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="planning_scene", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and its node."""
        if self._off:
            return
        self._closing.set()
        self._thread.join(timeout=2.0)
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._executor.spin_once(timeout_sec=0.1)
        except Exception as error:
            if not self._closing.is_set():
                # What nobody watches any more must not look as if it were known.
                self._trouble = f"planning scene: its thread died: {error!r}"
                self._node.get_logger().error(self._trouble)
                self._judge(time.monotonic())

    @property
    def status(self) -> str:
        """A sentence for diagnostics."""
        if self._off:
            return OFF
        book, words = self._book, []
        if self._config.take:
            words.append(self._unknown(time.monotonic()) or f"{len(book.names)} objects taken")
            if book.attached:
                held = ", ".join(sorted(book.attached))
                words.append(f"held by the arm and not guarded: {held[:200]}")
            if book.octomap:
                words.append("its octomap is not taken")
        if self._read_for > _SLOW:
            words.append(
                f"reading the scene keeps everything waiting for {self._read_for:.2f} s, once a "
                "second: simplify its meshes"
            )
        if self._config.give:
            words.append(self._giving())
        return "; ".join(words)

    def _giving(self) -> str:
        if self._wanted_of is None:
            return "no zones given: get_planning_scene has not answered"
        silent = time.monotonic() - self._answered_at
        if silent > self._config.timeout:
            return f"zones not given: get_planning_scene has been silent for {silent:.0f} s"
        words = f"{len(self._wanted)} zones {'given' if self._all_given else 'on their way'}"
        if self._unlike:
            words += f" ({self._unlike})"
        if self._left_out:
            words += f", without {', '.join(self._left_out)}: the outside of a round shape"
        return words

    def _frame(self, name: str) -> pin.SE3:
        config = self._config
        if not name or name != config.frame:
            return fixed_frame(self._robot, name)
        root = pin.SE3(pin.rpy.rpyToMatrix(*config.rpy), np.array(config.position))
        return root.inverse()

    # -- hearing --------------------------------------------------------------------------

    def _on_scene(self, data: bytes) -> None:
        try:
            scene = unpack(data, self._msg.PlanningScene, _MAX_BYTES)
        except Refused as refusal:
            self._book.whole = False
            self._not_taken(refusal)
        else:
            # Other nodes of MoveIt keep scenes of their own and publish them there when they
            # start, empty ones mostly: the whole scene is move_group's, that is asked for it.
            if scene.is_diff:
                self._hear(scene)
            else:
                self._ask_at = 0.0
        if not self._book.whole:
            self._ask_at = 0.0

    def _hear(self, scene: Any, known_at: float | None = None) -> None:
        """Take over a diff, or a whole scene, that was so at ``known_at``."""
        before = self._book.changes
        try:
            self._book.hear(scene)
        except Refused as refusal:
            self._not_taken(refusal)
            return
        except Exception as error:  # nothing that comes in ends this thread
            self._book.whole = False
            self._not_taken(Refused(CHECK, f"cannot be read: {error!r}"))
            return
        if not self._book.whole:
            return
        self._trouble = ""
        if known_at is not None:
            self._known_at = known_at
        if self._config.take:
            if self._book.changes != before:
                self._heard(self._book.present)
            self._judge(time.monotonic())

    def _not_taken(self, refusal: Refused) -> None:
        self._trouble = f"{refusal.check}: {refusal}" if refusal.check != CHECK else str(refusal)
        self._refused(self._topic, refusal)
        self._judge(time.monotonic())

    def _judge(self, now: float) -> None:
        if self._config.take:
            self._hinder(self._unknown(now))

    def _unknown(self, now: float) -> str:
        """Why the scene is not known; empty where it is."""
        if self._trouble:
            return f"not taken: {self._trouble}"
        if self._known_at is None:
            return f"no whole planning scene yet from {self._client.srv_name}"
        if now - self._known_at > self._config.timeout:
            return f"no word of the planning scene for {self._config.timeout} s"
        return ""

    # -- asking ---------------------------------------------------------------------------

    def _look(self) -> None:
        now = time.monotonic()
        if self._asked is not None and now - self._asked[1] > _PATIENCE:
            self._client.remove_pending_request(self._asked[0])
            self._asked = None
        if self._asked is None and now >= self._ask_at and self._client.service_is_ready():
            self._ask(now)
        self._judge(now)

    def _ask(self, now: float) -> None:
        kinds = self._msg.PlanningSceneComponents
        request = self._srv.GetPlanningScene.Request()
        request.components.components = (
            kinds.WORLD_OBJECT_GEOMETRY
            | kinds.ROBOT_STATE_ATTACHED_OBJECTS
            | (kinds.ALLOWED_COLLISION_MATRIX if self._config.give else 0)
        )
        self._worked = time.thread_time()
        future = self._client.call_async(request)
        self._asked, self._ask_at = (future, now, self._book.changes), now + _ASK
        future.add_done_callback(self._on_answer)

    def _on_answer(self, future: Future) -> None:
        if self._asked is None or future is not self._asked[0]:
            return
        _, asked_at, changes = self._asked
        self._asked = None
        if future.exception() is not None:
            self._node.get_logger().warning(
                f"get_planning_scene: {future.exception()}", throttle_duration_sec=5.0
            )
            return
        scene = future.result().scene
        self._answered_at = time.monotonic()
        self._read_for = time.thread_time() - self._worked
        if self._config.give:
            self._give(scene)
        if not self._config.take:
            return
        if self._book.changes != changes:
            self._ask_at = 0.0  # of before what was heard meanwhile
            return
        scene.is_diff = scene.robot_state.is_diff = False
        # MoveIt has not been asked for it, and the topic told of it.
        octomap = self._book.octomap
        self._hear(scene, asked_at)
        self._book.octomap = octomap

    # -- giving ---------------------------------------------------------------------------

    def _give(self, scene: Any) -> None:
        """Make good what the scene lacks of the zones, or has too much."""
        there = {o.id: o for o in scene.world.collision_objects if o.id.startswith(self._own)}
        zones = self._zones()
        if zones is not self._wanted_of:
            self._want(zones)
        wanted, self._unlike = self._wanted, ""
        update = self._msg.PlanningScene(is_diff=True)
        update.robot_state.is_diff = True
        kind = self._msg.CollisionObject
        changes = [o for o in wanted.values() if not self._same(o, there.get(o.id))]
        changes += [kind(id=i, operation=kind.REMOVE) for i in there if i not in wanted]
        update.world.collision_objects = changes
        matrix = scene.allowed_collision_matrix
        if allow(matrix, self._msg.AllowedCollisionEntry, self._exempt):
            update.allowed_collision_matrix = matrix
        self._all_given = not changes and not update.allowed_collision_matrix.entry_names
        if not self._all_given:
            self._publisher.publish(update)

    def _want(self, zones: Mapping[str, PlacedZone]) -> None:
        """What the scene should hold of these zones."""
        root, kind = self._robot.links[0], self._msg.CollisionObject
        self._wanted_of = zones
        self._wanted, self._exempt, self._left_out = {}, [], []
        for name, placed in zones.items():
            parts = solids(placed, self._config.padding)
            if parts:
                given = collision_object(kind, self._own + name, root, parts)
                self._wanted[given.id] = given
                self._exempt += [(given.id, link) for link in exempt_links(placed, self._robot)]
            elif placed.zone.kind == "keep_in":
                self._left_out.append(name)

    def _same(self, ours: Any, theirs: Any) -> bool:
        """Whether an object of the scene is what was given."""
        if theirs is None:
            return False
        found = []
        for thing in (ours, theirs):
            book = SceneBook(self._frame)
            scene = self._msg.PlanningScene()
            scene.world.collision_objects = [thing]
            try:
                book.hear(scene)
            except Refused as refusal:
                self._unlike = str(refusal)
                return False
            found.append(book.present)
        return len(found[0]) == len(found[1]) and all(
            a.shape == b.shape
            and np.allclose(a.size, b.size, atol=_SAME)
            and len(a.vertices) == len(b.vertices)
            and np.allclose(a.vertices, b.vertices, atol=_SAME)
            and np.allclose(a.pose.homogeneous, b.pose.homogeneous, atol=_SAME)
            for a, b in zip(*found, strict=True)
        )


def _remappings() -> list[str]:
    """What the command line renames, but for the monitor itself."""
    words = sys.argv[sys.argv.index("--ros-args") :] if "--ros-args" in sys.argv else []
    rules = [rule for flag, rule in pairwise(words) if flag in ("-r", "--remap")]
    kept = [rule for rule in rules if not rule.startswith("__")]
    return ["--ros-args", *(word for rule in kept for word in ("-r", rule))]
