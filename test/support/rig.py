"""A real safety monitor in its own process, and beside it everything else a test needs."""

from __future__ import annotations

import contextlib
import shutil
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cells import ROOT, TABLETOP, tabletop
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.cli.processes import CellProcesses
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import messages, qos

MONITOR = "safety_monitor"
PERIOD = 1 / 30
ARM_RATE = 100.0  # Hz of the arm's joint states
PAN = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def changed_cell(folder: Path, **changes: Any) -> Path:
    """A copy of the shipped cell, beside its files, with keys of the monitor's section set
    (``limits__position_margin=0.1``: a key in a group; None: deleted)."""
    for name in ("config", "urdf"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    path = folder / "config" / "changed.yaml"
    document = yaml.safe_load((path if path.exists() else TABLETOP).read_text())
    section = document[f"/**/{MONITOR}"]["ros__parameters"]
    for name, value in changes.items():
        *parents, leaf = name.split("__")
        node = section
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            del node[leaf]
        else:
            node[leaf] = value
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


class Rig(Watcher):
    """Watches a monitor and is its arm: one that goes where it is sent, at once.

    Args:
        parts: groups of joint names, each published in a message of its own, from a node of
            its own; absent: all in one.
    """

    def __init__(
        self,
        domain: int,
        arm: bool = True,
        parts: Iterable[Iterable[str]] | None = None,
        namespace: str = "",
    ):
        _, self.robot = tabletop()
        super().__init__(self.robot.names, domain, namespace=namespace)
        self.q = np.array(self.robot.pose("ready"))
        self.arm_lives = True
        self._parts: list[tuple[list[str], Any]] = []
        if not arm:
            return
        groups = [list(p) for p in parts] if parts is not None else [list(self.joints)]
        self._parts = [
            (group, self.node.create_publisher(JointState, "joint_states", qos.STREAM_OUT))
            for group in groups
        ]
        self.node.create_subscription(
            Float64MultiArray, "arm/commands", self._on_array, qos.NEWEST_IN
        )
        self.node.create_timer(1.0 / ARM_RATE, self._speak)

    def _on_sent(self, message: JointTrajectory) -> None:
        super()._on_sent(message)
        self.q = self.recording.sent[-1][1]

    def _on_array(self, message: Float64MultiArray) -> None:
        self.q = np.array(message.data)
        self.recording.sent.append((self.now(), self.q, 0.0))

    def _speak(self) -> None:
        if not self.arm_lives:
            return
        stamp = self.node.get_clock().now().to_msg()
        for group, publisher in self._parts:
            values = [self.q[self.joints.index(name)] for name in group]
            # Some drivers have no velocity and say so with NaN.
            message = JointState(name=group, position=values, velocity=[np.nan] * len(group))
            message.header.stamp = stamp
            publisher.publish(message)

    # -- commands -------------------------------------------------------------------------

    def publisher(self, kind: type = JointTrajectory, topic: str = "policy/joint_trajectory"):
        """A publisher that the monitor has discovered."""
        made = self.node.create_publisher(kind, topic, qos.STREAM_OUT)
        self.wait_for_listener(made)
        return made

    def wait_for_listener(self, publisher) -> None:
        """Until the monitor listens to a publisher."""

        def listens() -> bool:
            found = self.node.get_subscriptions_info_by_topic(publisher.topic_name)
            return MONITOR in [i.node_name for i in found] and (
                publisher.get_subscription_count() >= len(found)
            )

        wait_until(listens, 10, f"the monitor listens to {publisher.topic_name}")

    def chunk(self, rows: np.ndarray, period: float = PERIOD) -> JointTrajectory:
        """Rows from now on."""
        return messages.chunk_to_trajectory(ActionChunk(self.now(), period, self.joints, rows))

    def swing(self, speed: float = 0.3, seconds: float = 5.0, way: np.ndarray = PAN):
        """A chunk that goes from where the arm is sent, at ``speed`` rad/s along ``way``."""
        t = np.arange(round(seconds / PERIOD)) * PERIOD
        return self.chunk(self.rows[-1] + np.outer(speed * t, way))

    def state_message(self, q: np.ndarray) -> JointState:
        """A set-point as a JointState, its names in another order than the arm's."""
        message = JointState(name=list(self.joints)[::-1], position=array("d", q[::-1]))
        message.header.stamp = self.node.get_clock().now().to_msg()
        return message

    # -- what is seen -----------------------------------------------------------------------

    @property
    def rows(self) -> np.ndarray:
        """``[N, D]`` every set-point sent, in rad."""
        return np.array([row for _, row, _ in list(self.recording.sent)])

    @property
    def words(self) -> str:
        """The monitor's newest diagnostic sentence."""
        return self.says(MONITOR)

    def text(self, name: str) -> str:
        """A value of the monitor's newest diagnostics."""
        return self.status[MONITOR][2].get(name, "") if MONITOR in self.status else ""

    def counts(self, prefix: str) -> dict[str, float]:
        """Counters of the monitor."""
        return self.values(MONITOR, prefix)

    def wait_for_words(self, *words: str, seconds: float = 5.0) -> None:
        """Until the monitor's sentence holds all of these."""
        until = time.monotonic() + seconds
        while not all(w in self.words for w in words):
            assert time.monotonic() < until, f"not within {seconds} s: {words}: {self.words}"
            time.sleep(0.01)

    def enabled(self) -> Rig:
        """Enable, and see the first set-point."""
        # The monitor may know the arm before this end does: discovery takes up to 3 s more.
        if not self._parts:
            wait_until(lambda: self.recording.measured, 10, "the arm is heard here too")
        wait_until(lambda: self.text("against_enabling") == "", 10, "nothing against enabling")
        success, message = self.enable()
        assert success, message
        wait_until(lambda: len(self.rows), 5, "set-points")
        return self

    def at_rest(self, ticks: int = 50) -> bool:
        """Whether as many set-points in a row were the same."""
        newest = self.rows[-ticks:]
        return len(newest) == ticks and bool((newest == newest[0]).all())


@contextlib.contextmanager
def rig(
    domain: int,
    logs: Path,
    cell: Path = TABLETOP,
    *,
    arguments: Iterable[str] = (),
    nodes: Iterable[str] = (MONITOR,),
    up: str = "disabled",
    **options: Any,
) -> Iterator[tuple[CellProcesses, Rig]]:
    """A monitor (and other ``nodes``) as processes, and a :class:`Rig` beside them."""
    with (
        CellProcesses(cell, nodes, domain, logs, arguments) as processes,
        Rig(domain, **options) as rig,
    ):
        try:
            wait_until(lambda: rig.words.startswith(up) or processes.check(), 30, f"it is {up}")
            yield processes, rig
            processes.check()
        except AssertionError:
            print(*(processes.log(n).read_text()[-3000:] for n in nodes), sep="\n")
            raise
