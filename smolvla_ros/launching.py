"""What the launch files share: the arguments of a cell, its description, and how it ends.

Imports launch and YAML alone: the Python that runs ``ros2 launch`` need not have what the nodes
need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetLaunchConfiguration,
)
from launch.event import Event
from launch.events import Shutdown
from launch.events.process import ShutdownProcess
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

CONFIG_ERROR = 2
"""Exit code of a node whose configuration is wrong: that of ``smolvla_ros.ros.run``."""

TOPICS = {
    "joint_states": ("joint_states", "Topic of measured joint states."),
    "policy_command": ("policy/joint_trajectory", "Topic of action chunks: proposed motion."),
    "teleop_command": ("teleop/joint_states", "Topic of a teleoperator's set-points."),
    "arm_command": (
        "arm/joint_trajectory",
        "Topic of gated set-points: the arm's, or its controller's.",
    ),
    "arm_array": ("arm/commands", "The same where the cell's output is a Float64MultiArray."),
}
"""Argument → the topic's own name, and what it is."""

_MOVEIT = ("moveit_configs_utils", "moveit_ros_move_group", "moveit_simple_controller_manager")

TF = [("/tf", "tf"), ("/tf_static", "tf_static")]
"""Remappings: a cell in a namespace has transforms of its own, with the URDF's frame names."""


def cell_arguments(
    section: str, shipped: str | None = "so101_tabletop.yaml"
) -> list[LaunchDescriptionEntity]:
    """The arguments ``cell`` and ``namespace``, and a check that the cell file is there.

    Args:
        section: what of the file is read, for people.
        shipped: the cell of this package that is the default; None: there is none.
    """
    default = {} if shipped is None else {"default_value": shipped_file("config", shipped)}
    return [
        DeclareLaunchArgument(
            "cell",
            description=f"Cell file, absolute or relative to where you are: {section}.",
            **default,
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of nodes and topics."
        ),
        OpaqueFunction(function=_find_cell),
    ]


def composition() -> list[DeclareLaunchArgument]:
    """The arguments that say what a cell is made of."""
    return [
        DeclareLaunchArgument(
            "hardware",
            default_value="sim",
            choices=["sim", "lerobot", "ros2_control", "none"],
            description="The arm. sim: simulated, with its cameras; lerobot: real, by the cell's "
            "section /**/arm (and /**/camera, if it has one); ros2_control: the argument "
            "controller, which runs already; none: one that runs already.",
        ),
        controller(),
        switch("policy", True, "Start the policy."),
        switch("teleop", False, "Start the cell's teleoperator."),
        DeclareLaunchArgument(
            "moveit_config",
            default_value="",
            description="Start MoveIt's move_group with this moveit_config package; empty: not.",
        ),
        moveit_controllers(),
        DeclareLaunchArgument(
            "state_publisher",
            default_value="auto",
            choices=["auto", "true", "false"],
            description="Start robot_state_publisher; auto: with hardware sim and lerobot.",
        ),
        switch("rviz", False, "Start RViz, with the safety monitor's markers."),
    ]


def moveit_controllers() -> DeclareLaunchArgument:
    """The argument of a cell beside MoveIt."""
    return DeclareLaunchArgument(
        "moveit_controllers",
        default_value=shipped_file("config", "moveit_simple_controllers.yaml"),
        description="Of MoveIt: file for moveit_simple_controller_manager. The default is for the "
        "SO-101: copy it.",
    )


def controller() -> DeclareLaunchArgument:
    """The argument of an arm under ros2_control."""
    return DeclareLaunchArgument(
        "controller",
        default_value="joint_trajectory_controller",
        description="Of ros2_control: name of the controller of all joints, with its namespace if "
        "that is another one. It gets the gated set-points.",
    )


def topic_arguments(*names: str) -> list[DeclareLaunchArgument]:
    """Arguments of ``TOPICS``."""
    return [
        DeclareLaunchArgument(name, default_value=TOPICS[name][0], description=TOPICS[name][1])
        for name in names
    ]


def remappings(*names: str) -> list[tuple[str, LaunchConfiguration]]:
    """A node's: the topics go by what the arguments say."""
    return [(TOPICS[name][0], LaunchConfiguration(name)) for name in names]


def switch(name: str, default: bool, description: str) -> DeclareLaunchArgument:
    """An argument that is true or false."""
    return DeclareLaunchArgument(
        name,
        default_value=str(default).lower(),
        choices=["true", "false"],
        description=description,
    )


def shipped_file(*parts: str) -> PathJoinSubstitution:
    """A file of this package's share folder."""
    return PathJoinSubstitution([FindPackageShare("smolvla_ros"), *parts])


def include(
    name: str, arguments: Iterable[str] = (), values: Mapping[str, Any] | None = None
) -> GroupAction:
    """Another launch file of this package, which changes no argument of the one it is in.

    Args:
        name: without ``.launch.py``. arguments: those handed on as they are. values: others.
    """
    handed = {argument: LaunchConfiguration(argument) for argument in arguments} | (values or {})
    path = shipped_file("launch", f"{name}.launch.py")
    return GroupAction([IncludeLaunchDescription(path, launch_arguments=handed.items())])


def end_cell(reason: str, code: int | None = None) -> Callable[[Event, LaunchContext], list]:
    """For a node's ``on_exit``: end the cell that it is of, where ``code`` is given only if the
    node ended with it.

    The nodes of a namespace are one cell: those of others go on. Without a namespace, the whole
    launch ends.
    """

    def on_exit(event: Event, context: LaunchContext) -> list:
        # During a shutdown there is nothing left to end, and launch fails on a second one.
        if context.is_shutdown or code not in (None, event.returncode):
            return []
        namespace = _namespace(event.action)
        if namespace in (None, "", "/"):
            return [EmitEvent(event=Shutdown(reason=reason))]
        here = ShutdownProcess(process_matcher=lambda action: _namespace(action) == namespace)
        return [EmitEvent(event=here)]

    return on_exit


def installed(package: str) -> bool:
    """Whether a ROS package is there."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class Description:
    """What launch reads of a cell file, for nodes that are not ours.

    Attributes:
        path: the cell file. urdf, srdf: files; a cell may have no SRDF.
        root: the URDF's root link.
        sections: names of the nodes that the file has a section for.
        actions: topics of the sources that are actions.
    """

    path: Path
    urdf: Path
    srdf: Path | None
    root: str
    sections: frozenset[str]
    actions: tuple[str, ...]


def describe(context: LaunchContext, argument: str = "cell") -> Description:
    """What the file that ``argument`` names says. Its nodes read it strictly, this does not.

    To be called before the first node of a launch: launch leaves those behind that it has started
    when an exception ends it.

    Raises:
        RuntimeError: there is no such file, or it names no URDF, or one that cannot be read.
    """
    path = cell_file(context, argument)
    try:
        document = yaml.safe_load(path.read_text())
        bodies = {
            str(name).rsplit("/", 1)[-1]: body["ros__parameters"] for name, body in document.items()
        }
        robot: dict[str, str] = {}
        for body in bodies.values():  # of two sections, the later one counts
            robot |= body.get("robot", {})
            robot |= {k.removeprefix("robot."): body[k] for k in body if k.startswith("robot.")}
        sources = bodies.get("safety_monitor", {}).get("sources", {}).values()
        actions = tuple(s["topic"] for s in sources if s.get("type") == "FollowJointTrajectory")
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise RuntimeError(f"{path}: is no cell file ({error!r})") from error
    if "urdf" not in robot:
        raise RuntimeError(f"{path}: robot.urdf: is missing; name the URDF")
    urdf = path.parent / robot["urdf"]
    srdf = path.parent / robot["srdf"] if robot.get("srdf") else None
    return Description(path, urdf, srdf, _root(urdf), frozenset(bodies), actions)


def check_moveit(package: str, cell: Description) -> None:
    """Whether MoveIt can run beside a cell, with a moveit_config ``package``; as of ``describe``.

    Raises:
        RuntimeError: it cannot; why.
    """
    missing = [name for name in (*_MOVEIT, package) if not installed(name)]
    if missing:
        raise RuntimeError(
            f"moveit_config:={package}: not installed: {', '.join(missing)} "
            "(sudo apt install ros-$ROS_DISTRO-moveit, and build your moveit_config)"
        )
    if cell.srdf is None:
        raise RuntimeError(f"{cell.path}: robot.srdf: is missing; MoveIt's own SRDF is one")


def cell_file(context: LaunchContext, argument: str = "cell") -> Path:
    """The file that an argument names.

    Raises:
        RuntimeError: it is not there. Launch itself only warns of a parameter file that is
            missing, and starts the node.
    """
    path = Path(LaunchConfiguration(argument).perform(context)).expanduser().absolute()
    if not path.is_file():
        raise RuntimeError(f"{argument}:={path}: no such file; give the path of a cell's YAML")
    return path


def _root(urdf: Path) -> str:
    try:
        robot = ElementTree.fromstring(urdf.read_text())
    except (OSError, ElementTree.ParseError) as error:
        raise RuntimeError(f"{urdf}: cannot be read as a URDF: {error}") from error
    children = {child.get("link") for child in robot.iterfind("joint/child")}
    roots = [n for n in (link.get("name") for link in robot.iterfind("link")) if n not in children]
    if len(roots) != 1:
        raise RuntimeError(f"{urdf}: has {len(roots)} root links; it must have one")
    return roots[0]


def _namespace(action: LaunchDescriptionEntity) -> str | None:
    """Of a node; None of another process."""
    return getattr(action, "expanded_node_namespace", None)


def _find_cell(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    return [SetLaunchConfiguration("cell", str(cell_file(context)))]
