"""Messages to numbers and back: pictures of every encoding, trajectories, joint states."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Picture
from sensor_msgs.msg import CompressedImage, Image, JointState

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.pictures import CHANNELS
from smolvla_ros.ros import messages
from smolvla_ros.safety.command import read_command

RGB = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
GREY = np.repeat(RGB[:, :, :1], 3, axis=2)
ALPHA = np.full((3, 5, 1), 77, np.uint8)
PIXELS = {
    "rgb8": (RGB, RGB),
    "bgr8": (RGB[:, :, ::-1], RGB),
    "8UC3": (RGB[:, :, ::-1], RGB),
    "rgba8": (np.dstack([RGB, ALPHA]), RGB),
    "bgra8": (np.dstack([RGB[:, :, ::-1], ALPHA]), RGB),
    "mono8": (GREY[:, :, :1], GREY),
}


def image(encoding: str, pixels: np.ndarray, padding: int = 0) -> Image:
    height, width, channels = pixels.shape
    rows = np.full((height, width * channels + padding), 200, np.uint8)
    rows[:, : width * channels] = pixels.reshape(height, -1)
    return Image(
        height=height, width=width, encoding=encoding, step=rows.shape[1], data=rows.tobytes()
    )


# Drivers align rows to 4, 16 or 64 bytes; the padding is no picture.
@pytest.mark.parametrize("padding", [0, 1, 3, 49])
@pytest.mark.parametrize("encoding", CHANNELS)
def test_every_encoding_gives_the_same_colours(encoding, padding) -> None:
    pixels, expected = PIXELS[encoding]
    rgb = messages.image_to_rgb(image(encoding, pixels, padding))
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize(
    "encoding", ["16UC1", "32FC1", "bayer_rggb8", "mono16", "8UC1", "yuv422", "nonsense", ""]
)
def test_what_is_no_colour_picture_is_refused_by_its_encoding(encoding) -> None:
    message = image("rgb8", RGB)
    message.encoding = encoding
    with pytest.raises(ValueError, match=f"encoding '{encoding}' is no colour picture.*rgb8, bgr8"):
        messages.image_to_rgb(message)


@pytest.mark.parametrize("encoding", CHANNELS)
@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m, "data", m.data[:-1]),
        lambda m: setattr(m, "data", m.data[: m.step]),
        lambda m: setattr(m, "data", b""),
        lambda m: setattr(m, "height", 4),
        lambda m: setattr(m, "height", 0),
        lambda m: setattr(m, "width", 6),
        lambda m: setattr(m, "width", 0),
        lambda m: (setattr(m, "step", 2), setattr(m, "data", b"123456")),
    ],
    ids=["a_byte_less", "one_row", "empty", "higher", "flat", "wider", "thin", "short_rows"],
)
def test_data_that_does_not_fit_the_size_is_refused(encoding, change) -> None:
    message = image(encoding, PIXELS[encoding][0])
    change(message)
    with pytest.raises(ValueError, match=encoding):
        messages.image_to_rgb(message)


def test_a_compressed_message_gives_the_picture_that_was_packed() -> None:
    packed = io.BytesIO()
    Picture.fromarray(RGB).save(packed, "PNG")
    message = CompressedImage(format="bgr8; png compressed bgr8", data=packed.getvalue())
    np.testing.assert_array_equal(messages.compressed_to_rgb(message), RGB)
    message.data = packed.getvalue()[:-30]
    with pytest.raises(ValueError, match=r"png compressed bgr8' picture of \d+ bytes cannot be"):
        messages.compressed_to_rgb(message)


def test_a_picture_goes_out_as_it_came_in() -> None:
    message = messages.rgb_to_image(RGB, "front_optical_frame", messages.time_msg(3.25))
    assert (message.encoding, message.header.frame_id) == ("rgb8", "front_optical_frame")
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (3, 250_000_000)
    np.testing.assert_array_equal(messages.image_to_rgb(message), RGB)


@pytest.mark.parametrize("t", [0.0, 1e-9, 0.1, 1.9999999999, 1_763_876_543.123456])
def test_seconds_there_and_back(t) -> None:
    for make in (messages.time_msg, messages.duration_msg):
        message = make(t)
        assert 0 <= message.nanosec < 10**9
        assert messages.seconds(message) == pytest.approx(t, abs=1e-6 if t > 1e6 else 1e-9)


def test_a_chunk_as_a_trajectory_gives_the_gate_the_same_numbers() -> None:
    positions = np.random.default_rng(0).normal(size=(50, 3))
    chunk = ActionChunk(1234.5, 1 / 30, ("a", "b", "c"), positions)
    message = messages.chunk_to_trajectory(chunk)
    assert messages.seconds(message.header.stamp) == 1234.5
    command = read_command(
        messages.seconds(message.header.stamp),
        message.joint_names,
        [messages.seconds(p.time_from_start) for p in message.points],
        [p.positions for p in message.points],
        ("c", "a", "b"),
    )
    np.testing.assert_array_equal(command.positions, positions[:, [2, 0, 1]])
    np.testing.assert_allclose(command.times, np.arange(50) / 30, atol=1e-9)
    assert command.end == pytest.approx(1234.5 + (len(chunk.positions) - 1) * chunk.dt)


def test_a_set_point_is_one_point_ahead_of_its_stamp() -> None:
    message = messages.setpoint_to_trajectory(
        ("a", "b"), np.array([0.1, 0.2]), np.array([1.0, -1.0]), 0.01, messages.time_msg(5.0)
    )
    (point,) = message.points
    assert message.joint_names == ["a", "b"]
    assert (list(point.positions), list(point.velocities)) == ([0.1, 0.2], [1.0, -1.0])
    assert messages.seconds(point.time_from_start) == pytest.approx(0.01)
    assert messages.seconds(message.header.stamp) == 5.0


@pytest.mark.parametrize(
    ("names", "positions", "found"),
    [
        (["a", "b", "c"], [1.0, 2.0, 3.0], [3.0, 1.0]),
        (["c", "b", "a"], [3.0, 2.0, 1.0], [3.0, 1.0]),
        (["x", "c", "y", "a"], [9.0, 3.0, 9.0, 1.0], [3.0, 1.0]),
        (["x", "a", "c"], [float("nan"), 1.0, 3.0], [3.0, 1.0]),  # not ours
        (["a", "b"], [1.0, 2.0], None),
        (["a", "c"], [1.0], None),
        (["a", "c"], [1.0, 2.0, 3.0], None),
        (["a", "c"], [], None),
        ([], [], None),
        (["a", "c"], [float("nan"), 3.0], None),
        (["a", "c"], [1.0, float("inf")], None),
    ],
)
def test_joints_are_found_by_name_in_any_order_or_not_at_all(names, positions, found) -> None:
    q = messages.joint_positions(JointState(name=names, position=positions), ("c", "a"))
    if found is None:
        assert q is None
    else:
        np.testing.assert_array_equal(q, found)


def test_joint_states_there_and_back() -> None:
    message = messages.joint_state(
        ("a", "b"), np.array([0.1, 0.2]), np.array([0.3, 0.4]), np.array([0.5, 0.6])
    )
    np.testing.assert_array_equal(messages.joint_positions(message, ("b", "a")), [0.2, 0.1])
    assert (list(message.velocity), list(message.effort)) == ([0.3, 0.4], [0.5, 0.6])


def test_camera_info_is_an_ideal_pinhole() -> None:
    k = np.array([[300.0, 0.0, 160.0], [0.0, 310.0, 120.0], [0.0, 0.0, 1.0]])
    info = messages.camera_info(k, 320, 240, "front_optical_frame")
    assert (info.width, info.height) == (320, 240)
    assert info.header.frame_id == "front_optical_frame"
    np.testing.assert_array_equal(np.reshape(info.k, (3, 3)), k)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4)), np.column_stack([k, np.zeros(3)]))
    np.testing.assert_array_equal(np.reshape(info.r, (3, 3)), np.eye(3))
    assert info.distortion_model == "plumb_bob"
    assert list(info.d) == [0.0] * 5
