"""Cameras that LeRobot can read, as ROS topics."""

from __future__ import annotations

import sys
import time
from functools import partial

from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from smolvla_ros.arm.camera import CONNECTING, CameraStream, LerobotCamera, Picture
from smolvla_ros.arm.devices import Lost
from smolvla_ros.cell import beside
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.camera_info import read_camera_info
from smolvla_ros.ros.diagnostics import ERROR, OK, WARN, Diagnostics, Status
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.policy_status import Told
from smolvla_ros.ros.run import Fatal, run
from smolvla_ros.ros.timing import steady_clock
from smolvla_ros.schema import ConfigError


class CameraNode(Node):
    """Publishes ``<camera>/image_raw``, ``<camera>/image_raw/compressed`` and
    ``<camera>/camera_info``; a thread a camera. Nobody hears a topic: nothing is spent on it.
    """

    def __init__(self) -> None:
        super().__init__("camera", automatically_declare_parameters_from_overrides=True)
        self.failure: BaseException | None = None
        self._config, path = declare(self, "camera")
        self._told = Told()
        self._streams: dict[str, CameraStream] = {}
        self._infos: dict[str, CameraInfo | None] = {}
        self._out: dict[str, tuple] = {}
        problems: list[str] = []
        for name, config in self._config.cameras.items():
            where = f"{path or 'parameters'}: camera.cameras.{name}"
            try:
                camera = LerobotCamera(config.type, config.options, where, config.timeout)
                calibration = config.calibration and beside(path, config.calibration)
                self._infos[name] = read_camera_info(calibration) if calibration else None
            except ConfigError as error:
                problems += error.problems
                continue
            self._out[name] = (
                self.create_publisher(Image, f"{name}/image_raw", qos.SENSOR_DATA),
                self.create_publisher(
                    CompressedImage, f"{name}/image_raw/compressed", qos.SENSOR_DATA
                ),
                self.create_publisher(CameraInfo, f"{name}/camera_info", qos.SENSOR_DATA),
            )
            self._streams[name] = CameraStream(camera, partial(self._publish, name), config.rate)
        if problems:
            raise ConfigError(problems)
        self._diagnostics = Diagnostics(self, "camera", self._status)
        self._timer = self.create_timer(0.2, self._look, clock=steady_clock())
        for stream in self._streams.values():
            stream.start()

    def close(self) -> None:
        """Let the cameras go."""
        for stream in self._streams.values():
            stream.close()

    def _publish(self, name: str, picture: Picture) -> None:
        """One picture, in its camera's thread."""
        config = self._config.cameras[name]
        age = time.perf_counter() - picture.captured + config.latency
        stamp = (self.get_clock().now() - Duration(nanoseconds=round(age * 1e9))).to_msg()
        frame_id = config.frame_id or f"{name}_optical_frame"
        height, width, _ = picture.rgb.shape
        info = self._infos[name] or CameraInfo(width=width, height=height)
        if (info.width, info.height) != (width, height):
            raise Lost(
                f"{config.calibration} is of {info.width}x{info.height} pictures, the camera gives "
                f"{width}x{height}; calibrate at that size, or set the device's"
            )
        raw, compressed, infos = self._out[name]
        if raw.get_subscription_count():
            raw.publish(messages.rgb_to_image(picture.rgb, frame_id, stamp))
        if compressed.get_subscription_count():
            compressed.publish(
                messages.rgb_to_jpeg(picture.rgb, config.jpeg_quality, frame_id, stamp)
            )
        if infos.get_subscription_count():
            info.header.frame_id, info.header.stamp = frame_id, stamp
            infos.publish(info)

    def _look(self) -> None:
        for name, stream in self._streams.items():
            if stream.failure is not None:
                error = stream.failure
                wrong = isinstance(error, ConfigError)
                self.failure = error if wrong else Fatal(f"{name}: its thread died: {error!r}")
        lost = [
            f"{name}: {stream.lost}"
            for name, stream in self._streams.items()
            if stream.lost not in ("", CONNECTING)
        ]
        for text in self._told.news(lost):
            self.get_logger().warning(text)

    def _status(self) -> Status:
        lost = {name: stream.lost for name, stream in self._streams.items() if stream.lost}
        words = "; ".join(f"{name}: {why}" for name, why in lost.items())
        if any(why != CONNECTING for why in lost.values()):
            return Status(ERROR, f"no pictures: {words}", self._values)
        return Status(WARN if lost else OK, words or "publishing pictures", self._values)

    def _values(self) -> dict[str, object]:
        values: dict[str, object] = {}
        for name, stream in self._streams.items():
            values |= {
                f"age_s/{name}": stream.age,
                f"rate_hz/{name}": stream.rate,
                f"pictures/{name}": stream.pictures,
                f"losses/{name}": stream.losses,
            }
        return values


def main() -> int:
    """Entry point of ``camera_node``."""
    return run(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
