"""Messages ⇄ numpy. Times are float seconds of the clock that stamped the message."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration as DurationMsg
from builtin_interfaces.msg import Time as TimeMsg
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from smolvla_ros import pictures
from smolvla_ros.chunk import ActionChunk


def seconds(stamp: TimeMsg | DurationMsg) -> float:
    """A stamp or duration message as float seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


def time_msg(t: float) -> TimeMsg:
    """Float seconds (not negative) as a stamp."""
    nanoseconds = round(t * 1e9)
    return TimeMsg(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def duration_msg(t: float) -> DurationMsg:
    """Float seconds as a duration."""
    nanoseconds = round(t * 1e9)
    return DurationMsg(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


image_to_rgb = pictures.of_image
compressed_to_rgb = pictures.of_compressed


def rgb_to_image(rgb: np.ndarray, frame_id: str, stamp: TimeMsg) -> Image:
    """``[H, W, 3]`` uint8 RGB → an rgb8 Image."""
    height, width, _ = rgb.shape
    # An array('B') is taken as it is; of anything else rclpy looks at every byte.
    data = array("B", rgb.tobytes())
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=data)
    message.header.frame_id = frame_id
    message.header.stamp = stamp
    return message


def rgb_to_jpeg(rgb: np.ndarray, quality: int, frame_id: str, stamp: TimeMsg) -> CompressedImage:
    """``[H, W, 3]`` uint8 RGB → a JPEG, as image_transport's compressed plug-in writes it."""
    import cv2  # here: a safety monitor reads no pictures and may do without it

    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array("B", jpeg.tobytes()))
    message.header.frame_id = frame_id
    message.header.stamp = stamp
    return message


def camera_info(k: np.ndarray, width: int, height: int, frame_id: str) -> CameraInfo:
    """CameraInfo of an ideal pinhole camera; ``k`` is ``[3, 3]`` in pixels."""
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.header.frame_id = frame_id
    message.k = k.ravel().tolist()
    message.d = [0.0] * 5
    message.r = np.eye(3).ravel().tolist()
    message.p = np.hstack([k, np.zeros((3, 1))]).ravel().tolist()
    return message


def joint_positions(message: JointState, names: Sequence[str]) -> np.ndarray | None:
    """``[len(names)]`` rad by name, or None where the message lacks a joint or a number."""
    if len(message.position) != len(message.name):
        return None
    at = {name: i for i, name in enumerate(message.name)}
    if any(name not in at for name in names):
        return None
    found = np.array([message.position[at[name]] for name in names])
    return found if np.isfinite(found).all() else None


def joint_state(
    names: Sequence[str], positions: np.ndarray, velocities: np.ndarray, efforts: np.ndarray
) -> JointState:
    """JointState without a stamp; rad, rad/s, N.m (m, m/s, N)."""
    return JointState(
        name=list(names),
        position=array("d", positions),
        velocity=array("d", velocities),
        effort=array("d", efforts),
    )


def chunk_to_trajectory(chunk: ActionChunk) -> JointTrajectory:
    """The whole chunk; ``header.stamp`` is the observation's time, row k at k * dt."""
    message = JointTrajectory(joint_names=list(chunk.names))
    message.header.stamp = time_msg(chunk.stamp)
    message.points = [
        JointTrajectoryPoint(positions=array("d", row), time_from_start=duration_msg(k * chunk.dt))
        for k, row in enumerate(chunk.positions)
    ]
    return message


def setpoint_to_trajectory(
    names: Sequence[str],
    positions: np.ndarray,
    velocities: np.ndarray,
    ahead: float,
    stamp: TimeMsg,
) -> JointTrajectory:
    """One set-point to be reached ``ahead`` seconds after the stamp."""
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = stamp
    message.points = [
        JointTrajectoryPoint(
            positions=array("d", positions),
            velocities=array("d", velocities),
            time_from_start=duration_msg(ahead),
        )
    ]
    return message
