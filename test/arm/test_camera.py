"""LeRobot's own OpenCV camera behind ours: on a pipe that is a device, and on video files."""

from __future__ import annotations

import sys
import textwrap
import time

import numpy as np
import pytest
from rig import wait_until
from video import RATE, Pipe, number, write_file

pytest.importorskip("lerobot", reason="the extra policy is not installed")

# Takes seconds, which must not count in a test.
from lerobot.cameras.opencv import OpenCVCamera  # noqa: F401

from smolvla_ros.arm import devices
from smolvla_ros.arm.camera import CameraStream, LerobotCamera, Pace
from smolvla_ros.arm.devices import Lost
from smolvla_ros.schema import ConfigError

PLUGIN = """
    from dataclasses import dataclass

    import numpy as np
    from lerobot.cameras import Camera, CameraConfig


    @CameraConfig.register_subclass("grey_wall")
    @dataclass
    class GreyWallConfig(CameraConfig):
        grey: int = 0


    class GreyWall(Camera):
        color_mode = "bgr"

        def __init__(self, config):
            super().__init__(config)
            self._picture = np.full((4, 6, 3), (config.grey, 0, 0), np.uint8)
            self._there = False

        is_connected = property(lambda self: self._there)

        @staticmethod
        def find_cameras():
            return []

        def connect(self, warmup=True):
            self._there = True

        def read(self):
            return self._picture

        def async_read(self, timeout_ms=200):
            return self._picture

        def disconnect(self):
            self._there = False
"""


def opencv(path, timeout=1.0):
    options = {"index_or_path": str(path), "warmup_s": 0}
    return LerobotCamera("opencv", options, "camera.cameras.front", timeout)


class Seen(list):
    """What a stream hands over: (number, captured, time of handing over)."""

    def __call__(self, picture):
        self.append((number(picture.rgb), picture.captured, time.perf_counter()))


@pytest.fixture
def pipe(tmp_path):
    with Pipe(tmp_path / "device.y4m") as pipe:
        yield pipe


@pytest.fixture
def streams():
    """Starts streams, and ends them."""
    started = []

    def start(camera, use, **options):
        started.append(CameraStream(camera, use, **options))
        started[-1].start()
        return started[-1]

    yield start
    for stream in started:
        stream.close()


def test_every_picture_comes_once_in_order_with_the_time_it_was_there(pipe, streams):
    seen = Seen()
    stream = streams(opencv(pipe.path), seen)
    wait_until(lambda: len(seen) >= 60, 20, "60 pictures")
    numbers, captured, _ = map(np.array, zip(*seen, strict=True))
    assert (np.diff(numbers) > 0).all() and (np.diff(captured) > 0).all()
    assert len(numbers) >= 0.8 * (numbers[-1] - numbers[0]), "few are missing on a busy machine"
    late = captured - [pipe.written[k][1] for k in numbers]
    assert late.min() >= 0, "no picture was there before it was sent"
    assert np.median(late) < 0.5 / RATE
    assert (stream.lost, stream.losses) == ("", 0) and 0 < stream.rate <= 1.3 * RATE


def test_a_picture_that_is_fetched_late_keeps_the_time_it_was_there(pipe):
    camera = opencv(pipe.path)
    camera.open()
    camera.read()
    time.sleep(3 / RATE)
    pipe.frozen = True
    time.sleep(0.5)
    newest = camera.read()
    age = time.perf_counter() - newest.captured
    assert not camera.close(0.1), "not under a read that hangs"
    pipe.pull_out()
    assert camera.close(5.0)
    assert age > 0.4
    assert newest.captured - pipe.written[number(newest.rgb)][1] < 0.1


def test_a_camera_that_is_pulled_out_and_plugged_in_again_comes_back(pipe, streams):
    seen = Seen()
    stream = streams(opencv(pipe.path), seen)
    wait_until(lambda: len(seen) > 5, 20, "pictures")
    pipe.pull_out()
    wait_until(lambda: stream.lost, 20, "it is lost")
    assert stream.rate == 0.0 and stream.losses == 1
    assert "front" not in stream.lost and "OpenCVCamera" in stream.lost
    before = len(seen)
    pipe.plug_in()
    wait_until(lambda: len(seen) > before + 5, 30, "pictures again")
    assert stream.lost == "" and stream.losses == 1
    numbers = [k for k, _, _ in seen]
    assert numbers == sorted(set(numbers))


def test_a_camera_that_is_silent_but_there_is_lost(pipe, streams):
    seen = Seen()
    stream = streams(opencv(pipe.path, timeout=0.3), seen)
    wait_until(lambda: len(seen) > 5, 20, "pictures")
    pipe.frozen = True
    wait_until(lambda: "Timed out waiting for frame" in stream.lost, 10, "it is lost")
    time.sleep(3.0)  # longer than LeRobot waits for its own thread before it releases the device
    pipe.frozen = False
    before = len(seen)
    wait_until(lambda: len(seen) > before + 5, 30, "pictures again")


@pytest.mark.parametrize(("rate", "share"), [(None, 1), (30, 1), (60, 1), (15, 1 / 2), (10, 1 / 3)])
def test_a_rate_is_never_more_and_not_half_of_it_where_the_camera_has_that_rate(rate, share):
    pace = Pace(rate)
    jitter = np.random.default_rng(0).uniform(-0.1, 0.1, 600)
    times = (np.arange(600) + jitter) / 30
    through = np.array([t for t in times if pace.lets(t)])
    assert len(through) == pytest.approx(600 * share, abs=2)
    assert rate is None or np.diff(through).min() > 0.7 / rate


def test_a_stream_keeps_its_pace(pipe, streams):
    seen = Seen()
    stream = streams(opencv(pipe.path), seen, rate=5.0)
    wait_until(lambda: len(seen) >= 8, 30, "pictures")
    assert stream.rate <= 5.5 and stream.pictures == len(seen)


def test_a_camera_that_is_not_there_is_said_and_tried_again(tmp_path, streams):
    seen = Seen()
    path = tmp_path / "device.y4m"
    stream = streams(opencv(path), seen)
    wait_until(lambda: stream.lost.startswith("Failed to open"), 20, "it is not there")
    assert stream.losses == 0, "it was never there"
    with Pipe(path):
        wait_until(lambda: seen, 20, "it has come")


def test_options_that_the_device_does_not_take_are_said(tmp_path):
    path = write_file(tmp_path / "film.y4m", 10)
    options = {"index_or_path": str(path), "fps": 60}
    camera = LerobotCamera("opencv", options, "camera.cameras.front", 1.0)
    with pytest.raises(Lost, match=r"failed to set fps=60 \(actual_fps=30"):
        camera.open()
    assert camera.close(1.0)


def test_what_fails_in_the_use_of_a_picture_ends_the_stream_and_is_kept(pipe, streams):
    def fail(picture):
        raise ConfigError("camera.cameras.front.calibration: of another size")

    stream = streams(opencv(pipe.path), fail)
    wait_until(lambda: stream.failure is not None, 20, "it ended")
    assert "of another size" in stream.lost


def test_a_plug_in_is_found_by_its_name_and_its_colours_are_right(tmp_path, monkeypatch):
    name = "lerobot_camera_grey_wall"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PLUGIN))
    about = tmp_path / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    devices._known.cache_clear()
    try:
        camera = LerobotCamera("grey_wall", {"grey": 77}, "camera.cameras.front", 1.0)
        camera.open()
        before = time.perf_counter()
        picture = camera.read()
        assert camera.close(1.0)
    finally:
        sys.modules.pop(name, None)
        devices._known.cache_clear()
    assert picture.rgb.shape == (4, 6, 3) and tuple(picture.rgb[0, 0]) == (0, 0, 77)
    assert before <= picture.captured <= time.perf_counter()


def test_a_camera_whose_library_is_absent_says_what_to_install():
    pytest.importorskip("lerobot.cameras.realsense")
    with pytest.raises(ImportError):
        import pyrealsense2  # noqa: F401
    camera = LerobotCamera("intelrealsense", {"serial_number_or_name": "1"}, "camera.front", 1.0)
    with pytest.raises(ConfigError, match=r"^camera.front: 'pyrealsense2' is required"):
        camera.open()
