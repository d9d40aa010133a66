"""Two cells in namespaces on one network: what one does is no business of the other's."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from cells import TABLETOP, tabletop
from oracle import Oracle
from rig import MONITOR, PAN, PERIOD, changed_cell, wait_until
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.cli.processes import CellProcesses
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import messages, qos

PATIENCE = 30.0  # s


@dataclass
class Side:
    """One cell: its processes and who watches it."""

    nodes: CellProcesses
    watcher: Watcher

    @property
    def words(self) -> str:
        return self.watcher.says(MONITOR)

    @property
    def sent(self) -> np.ndarray:
        return np.array([row for _, row, _ in list(self.watcher.recording.sent)])

    @property
    def at(self) -> np.ndarray:
        """Where the arm is measured, rad."""
        return self.watcher.recording.measured[-1][1]

    def until(self, words: str) -> None:
        wait_until(lambda: self.words.startswith(words), PATIENCE, f"{words}, not {self.words}")

    def enable(self) -> None:
        self.until("disabled")
        # The watcher subscribes to the output as well: that it is heard says little.
        wait_until(lambda: self.watcher.enable()[0], PATIENCE, "enabled")
        wait_until(lambda: len(self.sent), PATIENCE, "set-points")
        wait_until(lambda: self.watcher.recording.measured, PATIENCE, "joint states")

    def swing(self, seconds: float = 1.3, speed: float = 0.4) -> None:
        """One chunk about the first joint, as a policy would send it."""
        made = self.watcher.node.create_publisher(
            JointTrajectory, "policy/joint_trajectory", qos.STREAM_OUT
        )
        wait_until(lambda: made.get_subscription_count() >= 2, PATIENCE, "gate and watcher listen")
        t = np.arange(round(seconds / PERIOD)) * PERIOD
        rows = self.sent[-1] + np.outer(speed * t, PAN)
        chunk = ActionChunk(self.watcher.now(), PERIOD, self.watcher.joints, rows)
        made.publish(messages.chunk_to_trajectory(chunk))


@pytest.fixture
def cells(domain, tmp_path):
    """Left and right: simulated arms and their monitors, from one and the same file."""
    # A busy machine starves one simulator or the other for a moment: no business of this test.
    file = changed_cell(
        tmp_path, joint_state_timeout=1.0, recording__directory=str(tmp_path / "stops")
    )
    with _side(domain, tmp_path, file, "left") as left, _side(domain, tmp_path, file, "right") as r:
        yield left, r


@contextlib.contextmanager
def _side(domain, tmp_path, file, name) -> Iterator[Side]:
    _, robot = tabletop()
    space = ["-r", f"__ns:=/{name}"]
    with (
        CellProcesses(file, (MONITOR, "sim"), domain, tmp_path / name, space) as nodes,
        Watcher(robot.names, domain, namespace=name) as watcher,
    ):
        side = Side(nodes, watcher)
        try:
            yield side
        except AssertionError:
            print(*(nodes.log(n).read_text()[-2000:] for n in nodes.processes), sep="\n")
            raise


def test_what_moves_or_stops_one_arm_leaves_the_other_alone(cells, tmp_path):
    left, right = cells
    right.until("disabled")
    left.enable()
    time.sleep(0.5)
    assert right.words.startswith("disabled") and not len(right.sent), "enabled by itself only"
    right.enable()
    left.swing()
    wait_until(lambda: left.at[0] > 0.3, PATIENCE, "the left arm moves")
    assert np.ptp(right.sent, axis=0).max() == 0.0, "not one set-point of the right arm differs"
    assert abs(right.at[0]) < 0.01, "nor does it turn"
    stop = left.watcher.node.create_publisher(Bool, "stop", qos.SENSOR_DATA)
    wait_until(lambda: stop.get_subscription_count() == 1, PATIENCE, "one gate hears it")
    stop.publish(Bool(data=True))
    left.until("stopped")
    assert right.words.startswith("holding")
    right.swing()
    wait_until(lambda: right.at[0] > 0.3, PATIENCE, "the right arm moves beside a stopped one")
    for side in cells:
        assert not Oracle(TABLETOP).findings(side.sent, stops_every=25)
    right.watcher.trigger("stop")
    files = [tmp_path / "stops" / name for name in ("left", "right")]
    wait_until(lambda: all(list(f.glob("*.jsonl")) for f in files), 10, "a recording each")
    for folder in files:
        (file,) = folder.glob("stop_*.jsonl")
        outputs = [line for line in map(json.loads, file.open()) if "output" in line]
        assert outputs


def test_a_bypass_or_a_dead_monitor_is_that_cells_alone(cells):
    left, right = cells
    left.enable()
    right.enable()
    rogue = left.watcher.node.create_publisher(
        JointTrajectory, "arm/joint_trajectory", qos.STREAM_OUT
    )
    left.until("stopped")
    assert "/left/cell_watcher publishes on /left/arm/joint_trajectory" in left.words
    left.watcher.node.destroy_publisher(rogue)
    left.nodes.processes.pop(MONITOR).send_signal(signal.SIGKILL)
    count, began = len(right.sent), time.monotonic()
    time.sleep(3.0)
    rate = (len(right.sent) - count) / (time.monotonic() - began)
    assert rate == pytest.approx(tabletop()[0].safety_monitor.rate, rel=0.2)
    assert right.words.startswith("holding"), right.words
    right.swing()
    wait_until(lambda: right.at[0] > 0.3, PATIENCE, "the right arm moves")
    assert not Oracle(TABLETOP).findings(right.sent, stops_every=25)
