"""Who is on a topic: findings of the ROS graph for a person who sets up a cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from smolvla_ros.finding import Finding
from smolvla_ros.ros.graph import full_name

JOINT_STATE = "sensor_msgs/msg/JointState"
_STRING = "std_msgs/msg/String"


def publishers(
    node: Node,
    subject: str,
    topic: str,
    kind: str,
    profile: QoSProfile,
    transports: Mapping[str, str],
) -> Iterator[Finding]:
    """What is wrong with a stream's publishers; nothing where all is well.

    Args:
        topic: resolved. kind: the message type that a subscription with ``profile`` wants.
        transports: other types that a cell could ask for → the transport to write.
    """
    infos = node.get_publishers_info_by_topic(topic)
    if not infos:
        like = [
            t
            for t, kinds in node.get_topic_names_and_types()
            if kind in kinds and node.count_publishers(t)
        ]
        yield Finding(
            "error",
            subject,
            f"nobody publishes on {topic}",
            f"start it, or name another: there is {', '.join(like)}" if like else "start it",
        )
    for info in infos:
        if info.topic_type != kind:
            transport = transports.get(info.topic_type)
            yield Finding(
                "error",
                subject,
                f"{full_name(info)} publishes {info.topic_type} on {topic}",
                f"write transport: {transport}" if transport else f"it must be {kind}",
            )
            continue
        verdict, reason = qos_check_compatible(info.qos_profile, profile)
        if verdict == QoSCompatibility.ERROR:
            yield Finding(
                "error",
                subject,
                f"what {full_name(info)} offers on {topic} does not reach the policy "
                f"({' '.join(reason.split())})",
                "write reliability: best_effort, or let it offer more",
            )
    # Parts of an arm may come from several nodes, pictures of one camera may not.
    if len(infos) > 1 and kind != JOINT_STATE:
        yield Finding(
            "warning",
            subject,
            f"{topic} has {len(infos)} publishers: {_names(infos)}",
            "one camera, one topic",
        )


def instruction(node: Node, topic: str, default: str) -> Iterator[Finding]:
    """Whether words reach the policy; ``default`` is what it does until there are some."""
    wrong = [i for i in node.get_publishers_info_by_topic(topic) if i.topic_type != _STRING]
    for info in wrong:
        yield Finding(
            "error",
            "instruction",
            f"{full_name(info)} publishes {info.topic_type} on {topic}",
            f"it must be {_STRING}",
        )
    if not wrong:
        said = f"{default!r} until told otherwise" if default else "none until somebody says one"
        yield Finding("ok", "instruction", said)


def _names(infos: Sequence[TopicEndpointInfo]) -> str:
    return ", ".join(sorted(full_name(info) for info in infos))
