"""The policy node as a process: what it is told, what it sees, and what it says of it."""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import threading
import time

import numpy as np
import pytest
import yaml
from cells import ROOT, TABLETOP, tabletop
from PIL import Image as Picture
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rig import wait_until
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from smolvla_ros.cli.processes import CellProcesses
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import qos

IDLE = "no observation: instruction: none given"
ACTING = "publishing chunks"


@contextlib.contextmanager
def running(domain, tmp_path, cell=TABLETOP, idle=IDLE):
    """Simulator and policy, and a watcher; the policy is up and idle."""
    _, robot = tabletop()
    with (
        CellProcesses(cell, ("sim", "vla"), domain, tmp_path) as nodes,
        Watcher(robot.names, domain) as watcher,
    ):
        wait_until(lambda: idle in watcher.says("vla") or nodes.check(), 90, "policy up")
        yield nodes, watcher
        nodes.check()


def act(watcher, chunks=2):
    """Give an instruction until chunks come."""
    goal = len(watcher.recording.chunks) + chunks
    wait_until(
        lambda: watcher.instruct("touch the red block") or len(watcher.recording.chunks) >= goal,
        30, "chunks",
    )  # fmt: skip


def at(chunk, when):
    """``[D]`` rad where a chunk has the arm at a time, s."""
    _, stamp, times, rows = chunk
    return np.array([np.interp(when, stamp + times, column) for column in rows.T])


def test_it_stops_acting_at_once_along_its_way_and_goes_on_when_told(domain, tmp_path):
    with running(domain, tmp_path) as (nodes, watcher):
        beats = []
        watcher.node.create_subscription(Bool, "vla/heartbeat", beats.append, qos.EVENT)

        def rests(tell, said):
            act(watcher, 3)
            before = len(watcher.recording.chunks)
            tell()
            wait_until(lambda: said in watcher.says("vla"), 5, said)
            time.sleep(1.0)
            after = watcher.recording.chunks[before - 1 :]
            # An answer that was under way is not sent: after the last one comes the rest, alone.
            hold = after[-1]
            assert hold[2][-1] <= 0.5 and np.ptp(hold[3][-2:], axis=0).max() == 0.0
            assert np.abs(hold[3][0] - at(after[-2], hold[1])).max() < 1e-3, "along its way"
            time.sleep(1.0)
            assert watcher.recording.chunks[-1] is hold, "and nothing after it"

        rests(lambda: watcher.instruct(""), IDLE)
        pause = lambda: watcher.call("vla/pause", Trigger, Trigger.Request())  # noqa: E731
        rests(pause, "paused")
        watcher.instruct("touch the blue block")
        time.sleep(1.0)
        assert watcher.says("vla") == "paused"
        answer = watcher.call("vla/start", Trigger, Trigger.Request())
        assert answer.success, answer.message
        wait_until(lambda: watcher.says("vla").startswith(ACTING), 10, "goes on")
        assert beats and not any(beat.data for beat in beats), "as a stop heartbeat has it"
        figures = watcher.status["vla"][2]
        assert figures["type"] == "smolvla" and len(figures["hash"]) >= 8
        assert float(figures["inference_s/p95"]) > 0 and float(figures["rate_hz/front"]) > 10
        assert figures["instruction"] == "touch the blue block"
        nodes.processes["vla"].send_signal(signal.SIGTERM)
        wait_until(lambda: nodes.processes["vla"].poll() is not None, 15, "ended")
        assert nodes.processes.pop("vla").returncode == 0
        assert "ending; was: publishing chunks" in nodes.log("vla").read_text()
        hold = watcher.recording.chunks[-1]
        assert hold[2][-1] <= 0.5, "it comes to rest before it goes"


def test_a_new_instruction_is_answered_by_the_next_chunk(domain, tmp_path):
    with running(domain, tmp_path) as (_, watcher):
        act(watcher, 3)
        said = watcher.now()
        before = len(watcher.recording.chunks)
        watcher.instruct("wave")
        wait_until(lambda: len(watcher.recording.chunks) > before + 1, 5, "answers")
        received, stamp, _, _ = watcher.recording.chunks[before]
        assert stamp > said - 0.1 and received - said < 0.4 + 3 * 0.2, "no old answer between"
        assert watcher.values("vla", "dropped").keys() <= {"instruction", "late", "held"}


def test_parameters_that_cannot_change_say_so_and_the_instruction_can(domain, tmp_path):
    with running(domain, tmp_path) as (_, watcher):

        def put(name, value):
            request = SetParameters.Request(
                parameters=[Parameter(name, value=value).to_parameter_msg()]
            )
            return watcher.call("vla/set_parameters", SetParameters, request).results[0]

        refused = put("chunk_rate", 10.0)
        assert not refused.successful and "chunk_rate" in refused.reason
        assert put("instruction", "touch the red block").successful
        wait_until(lambda: watcher.says("vla").startswith(ACTING), 10, "it acts")


@pytest.fixture
def compressed(tmp_path):
    """The shipped cell with its front camera compressed."""
    for name in ("config", "urdf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "models").symlink_to(ROOT / "models")
    document = yaml.safe_load(TABLETOP.read_text())
    front = document["/**/vla"]["ros__parameters"]["cameras"]["front"]
    front |= {"topic": "front/image_raw/compressed", "transport": "compressed"}
    path = tmp_path / "config" / "compressed.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def test_compressed_pictures_are_seen_and_a_corrupt_one_is_named_until_it_is_over(
    domain, tmp_path, compressed
):
    with running(domain, tmp_path / "logs", compressed, "front: nothing") as (_, watcher):
        camera = watcher.node.create_publisher(
            CompressedImage, "front/image_raw/compressed", qos.STREAM_OUT
        )
        broken, ended = threading.Event(), threading.Event()

        def film():
            rng = np.random.default_rng(0)
            while not ended.wait(1 / 30):
                file = io.BytesIO()
                noise = rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)
                Picture.fromarray(noise).save(file, "JPEG")
                data = file.getvalue()
                message = CompressedImage(format="rgb8; jpeg compressed bgr8")
                message.header.stamp = watcher.node.get_clock().now().to_msg()
                message.data = data[: len(data) // 2] if broken.is_set() else data
                camera.publish(message)

        thread = threading.Thread(target=film)
        thread.start()
        try:
            act(watcher)
            broken.set()
            wait_until(lambda: "front: " in watcher.says("vla"), 5, "the camera is named")
            assert "truncated" in watcher.says("vla") and "bytes" in watcher.says("vla")
            time.sleep(0.5)
            chunks = len(watcher.recording.chunks)
            time.sleep(1.5)
            assert len(watcher.recording.chunks) == chunks, "nothing is invented"
            broken.clear()
            wait_until(lambda: len(watcher.recording.chunks) > chunks, 5, "it recovers")
        finally:
            ended.set()
            thread.join()
