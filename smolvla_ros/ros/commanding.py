"""Who moves an arm, and who could past its safety monitor: findings of the ROS graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from rclpy.action import get_action_client_names_and_types_by_node
from rclpy.node import Node

from smolvla_ros.cell import MonitorConfig
from smolvla_ros.finding import Finding
from smolvla_ros.ros.graph import full_name

_COMMANDS = ("trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray")
_ACTION = "control_msgs/action/FollowJointTrajectory"
_PROPOSED = "policy/joint_trajectory"
_NAMELESS = "_NODE_NAME_UNKNOWN_"  # rcl's word for a node whose endpoints were discovered first


def all_named(node: Node) -> bool:
    """Whether the nodes behind all endpoints of commands are known by name."""
    return not any(
        info.node_name == _NAMELESS
        for topic, kinds in node.get_topic_names_and_types()
        if set(kinds) & set(_COMMANDS)
        for look in (node.get_publishers_info_by_topic, node.get_subscriptions_info_by_topic)
        for info in look(topic)
    )


def commanding(
    node: Node, monitor: MonitorConfig | None, resolve: Callable[[str], str]
) -> Iterator[Finding]:
    """Whether the policy alone proposes, the monitor alone commands, and nobody goes past it.

    Topics are those that the nodes really write, where they run: they may be remapped.

    Args:
        node: one that has discovered the others. monitor: None where a cell has none.
        resolve: makes a name of the cell absolute.
    """
    policy, gate = resolve("vla"), resolve("safety_monitor")
    for topic in _written(node, policy) or [resolve(_PROPOSED)]:
        yield from _only(node, policy, topic, "it would be taken for the policy")
    if monitor is None:
        return
    sent = _written(node, gate)
    if not sent:
        yield Finding("warning", "command", f"{gate} does not run, or is not this cell's",
                      "start it: nothing gates what moves the arm")  # fmt: skip
        sent = [resolve(monitor.output_topic)]
    for topic in sent:
        yield from _only(node, gate, topic, "nobody else may: end it")
    watched = [resolve(name) for name in monitor.watch]
    for topic in watched:
        yield from _only(node, None, topic, "it moves the arm: end it")
    yield from past(node, {*sent, *watched})
    for topic in sent:
        if not (monitor.shadow or node.count_subscribers(topic)):
            yield Finding("warning", "command", f"nobody subscribes to {topic}",
                          "start the arm, or remap its topic")  # fmt: skip


def _written(node: Node, owner: str) -> list[str]:
    """Topics of commands that a node writes; none where there is no such node."""
    return [
        topic
        for topic, kinds in node.get_topic_names_and_types()
        if set(kinds) & set(_COMMANDS)
        and owner in map(full_name, node.get_publishers_info_by_topic(topic))
    ]


def _only(node: Node, owner: str | None, topic: str, fix: str) -> Iterator[Finding]:
    """Whether nobody but ``owner`` (None: nobody at all), and it once, publishes on a topic."""
    names = sorted(map(full_name, node.get_publishers_info_by_topic(topic)))
    others = list(names)
    if owner in others:
        others.remove(owner)
    for name in others:
        yield Finding("error", "command", f"{name} publishes on {topic}", fix)
    if not others:
        yield Finding("ok", "command", f"{topic}: {', '.join(names) or 'nobody'}")


def past(node: Node, known: Collection[str]) -> Iterator[Finding]:
    """Whoever commands a controller of ros2_control by a topic that is not among the ``known``
    ones, or could by its action. Which arm a controller moves is not to be seen."""
    controllers = dict(_controllers(node))
    for topic, controller in controllers.items():
        if topic in known:
            continue
        for info in node.get_publishers_info_by_topic(topic):
            yield Finding(
                "warning",
                "command",
                f"{full_name(info)} publishes on {topic}, which the controller {controller} hears",
                "if that moves this arm, it goes past the safety monitor: make it a source of the "
                "cell, and name the topic in watch",
            )
    actions = {f"{controller}/follow_joint_trajectory" for controller in controllers.values()}
    for name, namespace in node.get_node_names_and_namespaces():
        try:
            clients = get_action_client_names_and_types_by_node(node, name, namespace)
        except RuntimeError:  # it has just gone
            continue
        for action, kinds in clients:
            if action in actions and _ACTION in kinds:
                yield Finding(
                    "warning",
                    "command",
                    f"{namespace.rstrip('/')}/{name} has a client of {action}",
                    "if that moves this arm, its goals go past the safety monitor: give it the "
                    "monitor's own, a source of type FollowJointTrajectory",
                )


def _controllers(node: Node) -> Iterator[tuple[str, str]]:
    """Topic and name of each controller: one hears commands on topics below its own name."""
    for topic, kinds in node.get_topic_names_and_types():
        if set(kinds) & set(_COMMANDS):
            for info in node.get_subscriptions_info_by_topic(topic):
                if topic.rpartition("/")[0] == full_name(info):
                    yield topic, full_name(info)
