"""Who else is on the monitor's topics: what the ROS graph says of bypasses and missing ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.topic_endpoint_info import TopicEndpointInfo


@dataclass(frozen=True)
class Findings:
    """What a look at the graph found.

    Attributes:
        bypass: one line for every publisher that writes to the arm beside the monitor.
        unheard: why nobody would hear a set-point; empty while somebody does.
        crowded: one line for every command topic with more than one publisher.
    """

    bypass: list[str] = field(default_factory=list)
    unheard: str = ""
    crowded: list[str] = field(default_factory=list)

    @property
    def against_enabling(self) -> str:
        """Why the arm must not be enabled; empty where nothing speaks against it."""
        return "; ".join([*self.bypass, self.unheard] if self.unheard else self.bypass)


def judge(
    writers: Mapping[str, list[str]],
    own: str,
    output: str,
    listeners: int,
    inputs: Mapping[str, list[str]],
) -> Findings:
    """Judge the endpoints of the graph.

    Args:
        writers: topic that moves the arm → full node names of its publishers.
        own: the monitor's full node name; it has one publisher on ``output`` and none on
            the others, so a second node of that name is as foreign as any other.
        output: the monitor's own output topic. listeners: its subscriptions.
        inputs: command topic → full node names of its publishers.
    """
    bypass = []
    for topic, nodes in writers.items():
        foreign = list(nodes)
        if topic == output and own in foreign:
            foreign.remove(own)
        bypass += [
            f"{n} publishes on {topic}"
            + (" (a monitor that was killed stays listed for some 20 s)" if n == own else "")
            for n in sorted(set(foreign))
        ]
    unheard = "" if listeners else f"nobody subscribes to {output}; is it remapped to the arm?"
    crowded = [
        f"{topic} has {len(nodes)} publishers: {', '.join(sorted(nodes))}"
        for topic, nodes in inputs.items()
        if len(nodes) > 1
    ]
    return Findings(bypass, unheard, crowded)


class GraphWatch:
    """Looks at the graph around one output.

    Args:
        node: the monitor. output: its publisher to the arm.
        watched: further topics that move the arm, which nobody may write.
        inputs: resolved names of the command topics.
        shadow: whether the output moves nothing: nobody need hear it.

    Attributes:
        moving: the topics that move the arm, the output first.
    """

    def __init__(
        self,
        node: Node,
        output: Publisher,
        watched: Iterable[str],
        inputs: Iterable[str],
        shadow: bool = False,
    ):
        self._node = node
        self._output = output
        self._shadow = shadow
        self.moving = dict.fromkeys(
            [output.topic_name, *(node.resolve_topic_name(t) for t in watched)]
        ).keys()
        self._inputs = list(inputs)

    def look(self) -> Findings:
        """What is there now. A publisher is seen once the middleware has discovered it, in
        well under a second on one network, and until its lease ends where it was killed."""
        return judge(
            {topic: self._publishers(topic) for topic in self.moving},
            self._node.get_fully_qualified_name(),
            self._output.topic_name,
            self._shadow or self._output.get_subscription_count(),
            {topic: self._publishers(topic) for topic in self._inputs},
        )

    def _publishers(self, topic: str) -> list[str]:
        return [full_name(i) for i in self._node.get_publishers_info_by_topic(topic)]


def full_name(info: TopicEndpointInfo) -> str:
    """The node behind an endpoint, with its namespace."""
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
