"""Whether what runs on the network is what a cell needs: types, stamps, names, QoS."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, JointState

from smolvla_ros.cell import MonitorConfig, VlaConfig
from smolvla_ros.finding import Finding
from smolvla_ros.ros import endpoints, messages, qos
from smolvla_ros.ros.commanding import all_named, commanding

DISCOVERY = 1.5  # s after which the publishers of one network are known
_NAMES = 5.0  # s after that in which their nodes' names are, on a busy machine
_KINDS = {
    "raw": (Image, "sensor_msgs/msg/Image", messages.image_to_rgb),
    "compressed": (
        CompressedImage,
        "sensor_msgs/msg/CompressedImage",
        messages.compressed_to_rgb,
    ),
}
_FUTURE = 0.05  # s that a stamp may lie ahead of the clock
_UNITS = 0.5  # of a joint's range beyond its limits: not where an arm can be


class _Heard:
    """What one subscription got."""

    def __init__(self) -> None:
        self.count = 0
        self.began = self.last = 0.0  # steady clock
        self.stamp = 0.0
        self.first: Any = None
        self.message: Any = None
        self.changed = False

    def add(self, message: Any) -> None:
        """Keep it."""
        self.last = time.monotonic()
        # Of parts of an arm, the newest speaks for all of them.
        self.stamp = max(self.stamp, messages.seconds(message.header.stamp))
        if self.first is None:
            self.first, self.began = message, self.last
        elif not self.changed and isinstance(message, Image | CompressedImage):
            self.changed = message.data != self.first.data
        self.count += 1
        self.message = message

    @property
    def rate(self) -> float:
        """Messages a second; 0 from fewer than two."""
        return (self.count - 1) / (self.last - self.began) if self.count > 1 else 0.0


class Look:
    """Listens to a running cell and says what would keep it from working.

    Args:
        node: one that is spun by somebody else. vla, monitor: the cell's sections, at least one
            of them. namespace: of the cell's nodes.
        limits: joint name → (lower, upper) in rad (m).
        sizes: feature name → (height, width), where the checkpoint takes no other.
    """

    def __init__(
        self,
        node: Node,
        vla: VlaConfig | None,
        monitor: MonitorConfig | None,
        limits: Mapping[str, tuple[float, float]],
        sizes: Mapping[str, tuple[int, int]],
        namespace: str = "",
    ):
        self._node, self._vla, self._monitor = node, vla, monitor
        self._limits, self._sizes = limits, sizes
        self._namespace = namespace.strip("/")
        self._cameras = vla.cameras if vla else {}
        self._heard = {name: _Heard() for name in self._cameras}
        self._order = vla.joint_order if vla else list(limits)
        self._max_age = vla.joint_states_max_age if vla else monitor.joint_state_timeout
        self._joints: dict[str, tuple[float, float]] = {}  # name → stamp, position
        self._joint_states = _Heard()

    def take(self, seconds: float) -> list[Finding]:
        """Listen for so long, and say what was found."""
        time.sleep(DISCOVERY)
        if self._node.count_publishers("/clock"):
            self._node.set_parameters([Parameter("use_sim_time", value=True)])
        subscriptions = [
            self._node.create_subscription(
                _KINDS[camera.transport][0],
                self._topic(camera.topic),
                self._heard[name].add,
                qos.pictures(camera.reliability),
            )
            for name, camera in self._cameras.items()
        ]
        subscriptions.append(
            self._node.create_subscription(
                JointState, self._topic("joint_states"), self._on_joint_state, qos.SENSOR_DATA
            )
        )
        time.sleep(seconds)
        until = time.monotonic() + _NAMES
        while not all_named(self._node) and time.monotonic() < until:
            time.sleep(0.05)
        # What comes while it is judged would be ahead of the clock.
        for subscription in subscriptions:
            self._node.destroy_subscription(subscription)
        now = self._node.get_clock().now().nanoseconds * 1e-9
        return [
            *(f for name in self._cameras for f in self._camera(name, now)),
            *self._joint_state(now),
            *(self._of_policy(self._vla) if self._vla else ()),
            *commanding(self._node, self._monitor, self._topic),
        ]

    def _topic(self, name: str) -> str:
        parts = [name] if name.startswith("/") or not self._namespace else [self._namespace, name]
        return self._node.resolve_topic_name("/".join(["", *parts]).replace("//", "/"))

    def _on_joint_state(self, message: JointState) -> None:
        self._joint_states.add(message)
        if len(message.name) == len(message.position):
            stamp = messages.seconds(message.header.stamp)
            self._joints |= {
                name: (stamp, q) for name, q in zip(message.name, message.position, strict=True)
            }

    # -- streams --------------------------------------------------------------------------

    def _camera(self, name: str, now: float) -> Iterator[Finding]:
        camera, heard, subject = self._cameras[name], self._heard[name], f"cameras.{name}"
        _, kind, decode = _KINDS[camera.transport]
        other = {k: transport for transport, (_, k, _) in _KINDS.items() if k != kind}
        profile = qos.pictures(camera.reliability)
        found = list(self._publishers(subject, camera.topic, kind, profile, other))
        found += self._stream(subject, heard, now, camera.max_age, bool(found))
        yield from found
        if heard.message is None:
            return
        try:
            height, width = decode(heard.message).shape[:2]
        except ValueError as error:
            yield Finding("error", subject, str(error), "let the camera send colour pictures")
            return
        wanted = self._sizes.get(camera.feature, (height, width))
        if wanted != (height, width):
            text = f"sends {width}x{height}; the checkpoint takes only {wanted[1]}x{wanted[0]}"
            yield Finding("error", subject, text, "set the camera to that size")
        lasted = heard.last - heard.began
        if heard.count > 2 and not heard.changed:
            level = "error" if lasted > camera.frozen_after else "warning"
            text = f"the same bytes for {lasted:.1f} s"
            yield Finding(level, subject, text, "is the camera frozen?")
        if not found:
            what = getattr(heard.message, "encoding", "") or heard.message.format
            text = f"{what} {width}x{height}, {heard.rate:.1f} Hz, {now - heard.stamp:.3f} s old"
            yield Finding("ok", subject, text)

    def _joint_state(self, now: float) -> Iterator[Finding]:
        subject, order = "joint_states", self._order
        kind = endpoints.JOINT_STATE
        found = list(self._publishers(subject, subject, kind, qos.SENSOR_DATA, {}))
        found += self._stream(subject, self._joint_states, now, self._max_age, bool(found))
        lacks = [name for name in order if name not in self._joints]
        if self._joint_states.message is not None:
            if lacks:
                text = f"no {', '.join(lacks)}; there is: {', '.join(sorted(self._joints))}"
                fix = "joint_order, URDF and driver must use one name"
                found.append(Finding("error", subject, text, fix))
            for name in order:
                if name in self._joints:
                    found += self._joint(name, *self._joints[name], now)
        yield from found
        if not found:
            age = now - min(self._joints[name][0] for name in order)
            text = f"{len(order)} joints, {self._joint_states.rate:.1f} Hz, {age:.3f} s old"
            yield Finding("ok", subject, text)

    def _joint(self, name: str, stamp: float, q: float, now: float) -> Iterator[Finding]:
        subject = f"joint_states.{name}"
        lower, upper = self._limits[name]
        beyond = _UNITS * (upper - lower)
        limit = self._max_age
        if not np.isfinite(q):
            yield Finding("error", subject, f"is {q}", "look at its encoder and driver")
        elif not lower - beyond <= q <= upper + beyond:
            text = f"is at {q:.4g} rad (m); its limits are {lower:.3g} and {upper:.3g}"
            fix = "joint states are in radians: does the driver send degrees?"
            yield Finding("error", subject, text, fix)
        # Of all of them together it has been said.
        if now - stamp > limit >= now - self._joint_states.stamp:
            text = f"{now - stamp:.2f} s old, at most {limit:g} s"
            yield Finding("error", subject, text, "is a part of the arm silent?")

    def _stream(
        self, subject: str, heard: _Heard, now: float, limit: float, explained: bool
    ) -> Iterator[Finding]:
        """``explained``: that nothing comes is no news."""
        age = now - heard.stamp
        if heard.message is None:
            if not explained:
                yield Finding("error", subject, "nothing heard", "is it publishing?")
        elif not heard.stamp:
            fix = "the driver must say when a message was taken"
            yield Finding("error", subject, "its messages carry no stamp", fix)
        elif age > limit:
            fix = "has it stopped, or do two machines' clocks differ? max_age says what is fresh"
            yield Finding("error", subject, f"{age:.2f} s old, at most {limit:g} s", fix)
        elif age < -_FUTURE:
            text = f"stamped {-age:.2f} s ahead of the clock"
            yield Finding("error", subject, text, "synchronise the clocks")
        elif heard.rate and heard.rate * limit < 1:
            text = f"{heard.rate:.1f} Hz: with max_age {limit:g} s it is too old most of the time"
            yield Finding("error", subject, text, "raise its rate or max_age")

    def _of_policy(self, vla: VlaConfig) -> Iterator[Finding]:
        yield from self._skew(vla.max_skew)
        yield from endpoints.instruction(self._node, self._topic("instruction"), vla.instruction)

    def _skew(self, limit: float) -> Iterator[Finding]:
        streams = {**self._heard, "joint_states": self._joint_states}
        stamps = {name: heard.stamp for name, heard in streams.items() if heard.stamp}
        if len(stamps) < 2:
            return
        skew = max(stamps.values()) - min(stamps.values())
        if skew > limit:
            oldest = min(stamps, key=stamps.__getitem__)
            text = f"{oldest} is {skew:.2f} s behind the newest stream, at most {limit:g} s"
            yield Finding("error", "max_skew", text, "synchronise the clocks, or raise it")
        else:
            yield Finding("ok", "max_skew", f"{skew:.3f} s between the streams")

    # -- graph ----------------------------------------------------------------------------

    def _publishers(self, subject: str, topic: str, *kind: Any) -> Iterator[Finding]:
        return endpoints.publishers(self._node, subject, self._topic(topic), *kind)
