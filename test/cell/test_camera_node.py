"""The camera node as a process: LeRobot's OpenCV camera on a pipe that is a device."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import rclpy
import yaml
from cells import tabletop
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.publisher import Publisher
from rig import wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from video import HEIGHT, WIDTH, Pipe, number

pytest.importorskip("lerobot", reason="the extra policy is not installed")

from smolvla_ros.cli.processes import CellProcesses, environment
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.nodes.camera_node import CameraNode
from smolvla_ros.ros import messages, qos

PATIENCE = 120  # s for a process that imports LeRobot on a machine that does other things too
CALIBRATION = {
    "image_width": WIDTH,
    "image_height": HEIGHT,
    "camera_name": "front",
    "camera_matrix": {"rows": 3, "cols": 3, "data": [150.0, 0, 80.0, 0, 151.0, 60.0, 0, 0, 1.0]},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.1, -0.2, 0.0, 0.0, 0.0]},
    "rectification_matrix": {"rows": 3, "cols": 3, "data": [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]},
    "projection_matrix": {
        "rows": 3,
        "cols": 4,
        "data": [150.0, 0, 80.0, 0, 0, 151.0, 60.0, 0, 0, 0, 1.0, 0],
    },
}


def write_cell(folder, **cameras):
    path = folder / "cell.yaml"
    document = {"/**/camera": {"ros__parameters": {"cameras": cameras}}}
    path.write_text(yaml.safe_dump(document))
    return path


def device(path, **keys):
    return {"type": "opencv", "options": {"index_or_path": str(path), "warmup_s": 0}, **keys}


@pytest.mark.timeout(400)
def test_pictures_go_out_with_their_time_and_come_back_after_the_camera_was_gone(domain, tmp_path):
    (tmp_path / "front.yaml").write_text(yaml.safe_dump(CALIBRATION))
    _, robot = tabletop()
    with Pipe(tmp_path / "front.y4m") as front, Pipe(tmp_path / "wrist.y4m") as wrist:
        cell = write_cell(
            tmp_path,
            front=device(front.path, calibration="front.yaml", latency=0.05, timeout=1.0),
            wrist=device(wrist.path, frame_id="gripper_camera", timeout=1.0),
        )
        raw, jpegs, infos, others = [], [], [], []
        with (
            Watcher(robot.names, domain) as watcher,
            CellProcesses(cell, ["camera"], domain, tmp_path) as nodes,
        ):
            say = watcher.node.create_subscription
            say(Image, "front/image_raw", raw.append, qos.SENSOR_DATA)
            say(CompressedImage, "front/image_raw/compressed", jpegs.append, qos.SENSOR_DATA)
            say(CameraInfo, "front/camera_info", infos.append, qos.SENSOR_DATA)
            say(CameraInfo, "wrist/camera_info", others.append, qos.SENSOR_DATA)
            all_there = lambda: min(map(len, (raw, jpegs, infos, others))) > 20  # noqa: E731
            wait_until(lambda: all_there() or nodes.check(), PATIENCE, "all topics")
            wait_until(lambda: watcher.says("camera") == "publishing pictures", 5, "says so")

            numbers = [number(messages.image_to_rgb(m)) for m in raw]
            assert numbers == sorted(set(numbers))
            stamps = np.array([messages.seconds(m.header.stamp) for m in raw])
            late = stamps + 0.05 - [front.written[k][0] for k in numbers]
            assert late.min() > -0.005, "the exposure is 0.05 s before the driver has it"
            assert np.median(late) < 0.02

            at = {messages.seconds(m.header.stamp): number(messages.image_to_rgb(m)) for m in raw}
            same = [m for m in jpegs if messages.seconds(m.header.stamp) in at]
            assert len(same) > 10, "one picture, one stamp"
            for message in same:
                picture = messages.compressed_to_rgb(message)
                assert number(picture) == at[messages.seconds(message.header.stamp)]

            info, other = infos[-1], others[-1]
            assert list(info.k) == CALIBRATION["camera_matrix"]["data"]
            assert list(info.d) == CALIBRATION["distortion_coefficients"]["data"]
            assert info.header.frame_id == raw[-1].header.frame_id == "front_optical_frame"
            assert (other.width, other.height, other.header.frame_id) == (
                160,
                120,
                "gripper_camera",
            )
            assert not any(other.k), "not calibrated, as CameraInfo says it"

            front.pull_out()
            wait_until(lambda: "front: " in watcher.says("camera"), 10, "it is lost")
            level, words, values = watcher.status["camera"]
            assert level == DiagnosticStatus.ERROR and words.startswith("no pictures: front: ")
            assert float(values["rate_hz/front"]) == 0.0 and values["losses/front"] == "1"
            before, still = len(raw), len(others)
            time.sleep(1.0)
            assert len(others) > still, "the other camera goes on"
            assert len(raw) == before, "no picture is made up"
            front.plug_in()
            wait_until(lambda: len(raw) > before + 5, 30, "pictures again")
            wait_until(lambda: watcher.says("camera") == "publishing pictures", 5, "says so")
            codes = nodes.end()
        assert codes == {"camera": 0}


@pytest.fixture
def published(monkeypatch):
    """Topics that this process publishes a message on, as often as it does."""
    topics, publish = [], Publisher.publish

    def note(self, message):
        topics.append(self.topic_name)
        publish(self, message)

    monkeypatch.setattr(Publisher, "publish", note)
    return topics


def test_nothing_is_published_that_nobody_hears(domain, tmp_path, published):
    with Pipe(tmp_path / "front.y4m") as pipe:
        cell = write_cell(tmp_path, front=device(pipe.path))
        rclpy.init(args=["--ros-args", "--params-file", str(cell)], domain_id=domain)
        node = CameraNode()
        try:
            stream = node._streams["front"]
            wait_until(lambda: stream.pictures > 10, 60, "pictures")
            assert not [topic for topic in published if topic.startswith("/front")]
            node.create_subscription(CameraInfo, "front/camera_info", print, qos.SENSOR_DATA)
            wait_until(lambda: "/front/camera_info" in published, 10, "what somebody hears")
        finally:
            node.close()
            node.destroy_node()
            rclpy.shutdown()


@pytest.mark.timeout(400)
def test_a_camera_of_another_size_than_its_calibration_gives_nothing_and_the_others_go_on(
    domain, tmp_path
):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CALIBRATION | {"image_width": 80}))
    _, robot = tabletop()
    with Pipe(tmp_path / "front.y4m") as front, Pipe(tmp_path / "wrist.y4m") as wrist:
        cell = write_cell(
            tmp_path, front=device(front.path, calibration="small.yaml"), wrist=device(wrist.path)
        )
        wrong, others = [], []
        with (
            Watcher(robot.names, domain) as watcher,
            CellProcesses(cell, ["camera"], domain, tmp_path) as nodes,
        ):
            say = watcher.node.create_subscription
            say(Image, "front/image_raw", wrong.append, qos.SENSOR_DATA)
            say(Image, "wrist/image_raw", others.append, qos.SENSOR_DATA)
            words = (
                "no pictures: front: small.yaml is of 80x120 pictures, the camera gives 160x120; "
                "calibrate at that size, or set the device's"
            )
            wait_until(lambda: watcher.says("camera") == words or nodes.check(), PATIENCE, words)
            before = len(others)
            wait_until(lambda: len(others) > before + 10, 20, "the other camera goes on")
            assert not wrong, "its matrix would be wrong"
            nodes.check()


def test_a_camera_that_lerobot_does_not_know_ends_the_node_with_one_line(domain, tmp_path):
    cell = write_cell(tmp_path, front=device("/dev/video0") | {"type": "webcam"})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "smolvla_ros.nodes.camera_node"),
            *("--ros-args", "--params-file", str(cell)),
        ],
        env=environment(domain),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert "cameras.front.type: is 'webcam'; LeRobot and its plug-ins know" in line
