"""The recorder as a process beside a cell: told by services and keys, killed, resumed."""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import datasets
import numpy as np
import pytest
import yaml
from cells import ROOT, TABLETOP, tabletop
from rig import wait_until
from std_srvs.srv import Trigger

pytest.importorskip("rosbags", reason="the extra bags is not installed")

import bags
from lerobot.datasets import LeRobotDataset
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cell import load_cell
from smolvla_ros.cli.main import main
from smolvla_ros.cli.processes import die_with_parent, environment
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.learn.dataset import check_dataset, describe
from smolvla_ros.ros import qos

PERIOD = 0.5  # s: nothing comes within a quarter of a second of a frame's time
PATIENCE = 120  # s for a process that imports torch on a machine that does other things too
TOPICS = {
    "/front/image_raw": Image,
    "/wrist/image_raw": Image,
    "/joint_states": JointState,
    "/arm/joint_trajectory": JointTrajectory,
    "/instruction": String,
}


@pytest.fixture
def cell(tmp_path):
    """The shipped cell at a rate that any machine keeps."""
    for name in ("config", "urdf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    document = yaml.safe_load(TABLETOP.read_text())
    vla = document["/**/vla"]["ros__parameters"]
    vla |= {"chunk_rate": 1 / PERIOD, "max_skew": 1.2, "joint_states_max_age": 1.2}
    for camera in vla["cameras"].values():
        camera["max_age"] = 1.2
    document["/**/recorder"]["ros__parameters"] |= {"action_max_age": 1.2}
    path = tmp_path / "config" / "slow.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


class Publisher:
    """Publishes the k-th of everything in the middle between two frames, and bags it: the same
    bytes both ways."""

    def __init__(self, watcher):
        self._made = {
            topic: watcher.node.create_publisher(kind, topic, qos.STREAM_OUT)
            for topic, kind in TOPICS.items()
        }
        self.rows: list[bags.Row] = []
        self.silent: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def say(self, text):
        self._send("/instruction", bags.say(text))

    def _run(self):
        k = 0
        while not self._ended.wait(PERIOD - (time.time() + PERIOD / 2) % PERIOD):
            k, t = k + 1, time.time()
            self._send("/front/image_raw", bags.picture(t, 2 * k))
            self._send("/wrist/image_raw", bags.picture(t, 2 * k + 1, "bgr8", padding=5))
            self._send("/joint_states", bags.joint_state(t, bags.measured(k)))
            self._send("/arm/joint_trajectory", bags.setpoint(t, bags.sent(k)))

    def _send(self, topic, message):
        if topic not in self.silent:
            self.rows.append((time.time(), topic, message))
            self._made[topic].publish(bytes(bags.STORE.serialize_cdr(message, message.__msgtype__)))


@contextlib.contextmanager
def recorder(cell, out, domain, log, *words):
    """``smolvla-ros record``, up and idle or ended."""
    command = [sys.executable, "-m", "smolvla_ros.cli.main", "record"]
    with log.open("ab") as said:
        process = subprocess.Popen(
            [*command, "--cell", str(cell), "--out", str(out), *words],
            env=environment(domain),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def press(process, key):
    process.stdin.write(f"{key}\n")
    process.stdin.flush()


def frames(out):
    """Of every frame (episode, what the trainer gets)."""
    found = LeRobotDataset("local/test", root=out)
    return [(int(found[i]["episode_index"]), found[i]) for i in range(len(found))]


def which(item):
    """The number of the arm's state in a frame."""
    state = item["observation.state"].numpy()
    return round(np.radians(state[0]) / 0.001)


def assert_is(item, k):
    """That it holds the k-th of everything."""
    for feature, number in (("front", 2 * k), ("wrist", 2 * k + 1)):
        seen = np.rint(item[f"observation.images.{feature}"].numpy() * 255).transpose(1, 2, 0)
        np.testing.assert_array_equal(seen, bags.pixels(number))
    assert item["action"].numpy()[0] == pytest.approx(np.degrees(bags.sent(k)[0]), abs=1e-4)


@pytest.mark.timeout(900)
def test_a_recording_from_its_first_episode_over_a_kill_to_the_same_out_of_a_bag(
    domain, tmp_path, cell, monkeypatch
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    out, log = tmp_path / "set", tmp_path / "recorder.log"
    _, robot = tabletop()

    def call(name):
        answer = watcher.call(f"recorder/{name}", Trigger, Trigger.Request())
        return answer.success, answer.message

    def at_rest():
        wait_until(lambda: watcher.says("recorder") == "idle", 20, "idle")

    def recorded(count):
        def enough():
            values = watcher.status["recorder"][2]
            return values["state"] == "recording" and int(values["frames"]) >= count

        wait_until(enough, 60, f"{count} frames")

    with Watcher(robot.names, domain) as watcher, Publisher(watcher) as publisher:
        up = lambda: watcher.says("recorder") == "idle" or process.poll() is not None  # noqa: E731
        with recorder(cell, out, domain, log) as process:
            wait_until(up, PATIENCE, "recorder up")
            assert call("keep") == (False, "there is no episode to keep")
            success, _ = call("start")
            assert success
            waiting = "waiting: no frame: instruction: none given"
            wait_until(lambda: watcher.says("recorder") == waiting, 20, "says what it lacks")
            publisher.say("touch the red block")
            recorded(4)
            success, words = call("keep")
            assert success and "episode 1 of this recording" in words

            at_rest()
            # A limit on the size of files fails where a full disk does.
            limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, -1))
            call("start")
            recorded(1)
            success, words = call("keep")
            assert not success and words.startswith("the episode is lost: [Errno 27]"), words
            wait_until(lambda: watcher.says("recorder") == words, 20, "and stays told")
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
            assert describe(out).episodes == 1

            press(process, "")  # Enter starts
            recorded(2)
            press(process, "d")
            at_rest()
            call("start")
            recorded(2)
            publisher.silent.add("/front/image_raw")
            ended = lambda: watcher.says("recorder").startswith("ended: 2 frames missing: front")  # noqa: E731
            wait_until(ended, 30, "a gap ends it")
            publisher.silent.clear()
            assert call("start") == (False, "the last episode is neither kept nor discarded")
            success, words = call("keep")
            assert success and "it had ended: 2 frames missing: front: " in words

            at_rest()
            call("start")
            recorded(2)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert describe(out).episodes == 2
        after_kill = frames(out)

        with recorder(cell, out, domain, log) as process:
            assert process.wait(PATIENCE) == 2
        assert "nothing is written over: resume it to append" in log.read_text()

        watcher.status.pop("recorder")
        with recorder(cell, out, domain, log, "--resume") as process:
            wait_until(up, PATIENCE, "recorder up again")
            call("start")
            publisher.say("touch the blue block")
            recorded(3)
            press(process, "")  # Enter keeps
            wait_until(lambda: "kept 1 episodes" in log.read_text(), 20, "kept")
            press(process, "q")
            assert process.wait(30) == 0
    found = frames(out)
    assert describe(out).episodes == 3
    assert check_dataset(out, load_cell(cell)) == []
    assert [which(item) for _, item in found[: len(after_kill)]] == [
        which(item) for _, item in after_kill
    ]
    assert {item["task"] for e, item in found if e < 2} == {"touch the red block"}
    for e, item in found:
        if e != 1:  # in which a camera was silent, and others went on
            assert_is(item, which(item))

    bag = bags.write(tmp_path / "bag", publisher.rows)
    assert main(["convert", str(bag), "--cell", str(cell), "--out", str(tmp_path / "other")]) == 0
    converted = {which(item): item for _, item in frames(tmp_path / "other")}
    for _, item in found:
        same = converted[which(item)]
        for key in ("observation.images.front", "observation.images.wrist", "observation.state"):
            assert (item[key] == same[key]).all(), key
        assert (item["action"] == same["action"]).all()
