"""Any LeRobot camera as a stream of pictures that says when each was taken, and that comes
back by itself after the camera was gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from smolvla_ros.arm.devices import Lost, decode
from smolvla_ros.arm.errors import one_line
from smolvla_ros.schema import ConfigError

_RETRY = 1.0  # s from a failure to the next try
_PATIENCE = 2.0  # s for a driver to end a read
_SPAN = 30  # pictures over which the rate is taken

log = logging.getLogger(__name__)

CONNECTING = "connecting"
"""What a stream says before its camera was first there."""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        rgb: ``[H, W, 3]`` uint8. captured: ``time.perf_counter()`` seconds at which the driver
            had it.
    """

    rgb: np.ndarray
    captured: float


class LerobotCamera:
    """One camera that LeRobot can make. One thread uses it.

    Args:
        kind: LeRobot's word for it. options: that type's keys. where: the cell's key of it.
        timeout: seconds without a picture after which the camera counts as lost.

    Raises:
        ConfigError: a type or options that LeRobot does not know.
    """

    def __init__(self, kind: str, options: Mapping[str, Any], where: str, timeout: float):
        self._config = decode("lerobot.cameras.CameraConfig", kind, options, where)
        self._where, self._timeout = where, timeout
        self._device: Any = None
        self._last = -float("inf")

    def open(self) -> None:
        """Connect.

        Raises:
            Lost: it is not there, or does not do what its options ask for.
            ConfigError: the maker's library is not installed.
        """
        from lerobot.cameras import make_cameras_from_configs

        try:
            self._device = make_cameras_from_configs({"it": self._config})["it"]
            if self._config.type == "opencv":
                # Its own warm-up releases the device when no picture comes: see close().
                self._device.connect(warmup=False)
                self._warm_up(self._config.warmup_s)
            else:
                self._device.connect()
        except ImportError as error:
            raise ConfigError(f"{self._where}: {error}") from error
        except Lost:
            raise
        except Exception as error:  # drivers and plug-ins raise what they like
            raise Lost(one_line(error)) from error

    def _warm_up(self, seconds: float) -> None:
        """Exposure and white balance settle."""
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            self._read(self._timeout + until - now)

    def read(self) -> Picture:
        """The newest picture that was not read before; waits for it.

        Raises:
            Lost: none came.
        """
        return self._read(self._timeout)

    def _read(self, timeout: float) -> Picture:
        while True:
            try:
                rgb = self._device.async_read(timeout_ms=timeout * 1e3)
            except Exception as error:
                raise Lost(one_line(error)) from error
            rgb, captured = _newest(self._device) or (rgb, time.perf_counter())
            if captured != self._last:  # else it came between reading and looking at the time
                break
        self._last = captured
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise Lost(f"gives {rgb.dtype} {rgb.shape}, no colour picture")
        if getattr(self._device, "color_mode", "rgb") == "bgr":
            rgb = rgb[..., ::-1]
        return Picture(rgb, captured)

    def close(self, seconds: float) -> bool:
        """Disconnect, if it is connected.

        Returns:
            False while its driver is still inside a read, after so many seconds: to release
            OpenCV's device under a read that hangs is a segmentation fault.
        """
        device = self._device
        reader, stop = (getattr(device, name, None) for name in ("thread", "stop_event"))
        if reader is not None and stop is not None:
            stop.set()
            reader.join(seconds)
            if reader.is_alive():
                return False
        self._device = None
        try:
            if device is not None:
                device.disconnect()
        except Exception as error:  # a camera that has gone cannot be said goodbye to
            log.info("%s: disconnecting: %s", self._where, error)
        return True


class Pace:
    """Lets pictures through, ``rate`` Hz at most; None: all."""

    def __init__(self, rate: float | None):
        self._period = 1.0 / rate if rate else 0.0
        self._due = -float("inf")

    def lets(self, captured: float) -> bool:
        """Whether a picture of this time goes on."""
        if captured < self._due:
            return False
        # A quarter of a period of grace: a camera at the very rate must not lose every other.
        self._due = max(self._due + self._period, captured + 0.75 * self._period)
        return True


class CameraStream:
    """Reads a camera in a thread of its own, for as long as it lives: connects, reads, and
    after a failure connects again.

    Args:
        camera: what is read. use: called with every picture, in that thread; what it raises
            ends the stream, but for a Lost. rate: Hz at most; None: every picture.
    """

    def __init__(
        self, camera: LerobotCamera, use: Callable[[Picture], None], rate: float | None = None
    ):
        self._camera, self._use = camera, use
        self._pace = Pace(rate)
        self._closing = threading.Event()
        self._times: list[float] = []  # of the newest pictures
        self.lost = CONNECTING
        """Why there are no pictures; empty while there are."""
        self.losses = 0
        """How often it was lost since it was first there."""
        self.pictures = 0
        self.failure: Exception | None = None
        """What ended the stream."""
        self._thread = threading.Thread(target=self._guard, name="camera", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, seconds: float = 3.0) -> None:
        """End, waiting at most so long: a driver may hang."""
        self._closing.set()
        self._thread.join(timeout=seconds)

    @property
    def age(self) -> float:
        """Seconds since the newest picture; infinite before the first."""
        times = self._times
        return time.perf_counter() - times[-1] if times else float("inf")

    @property
    def rate(self) -> float:
        """Hz over the newest pictures; 0 while it is lost."""
        times = self._times
        if self.lost or len(times) < 2 or times[-1] <= times[0]:
            return 0.0
        return (len(times) - 1) / (times[-1] - times[0])

    def _guard(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._camera.open()
                    self._read_on()
                except Lost as error:
                    self.losses += not self.lost
                    self.lost = str(error)
                finally:
                    while not self._camera.close(_PATIENCE) and not self._closing.is_set():
                        log.warning("%s; its driver hangs", self.lost)
                self._closing.wait(_RETRY)
        except Exception as error:  # a dead thread must not look like a camera that is silent
            self.failure = error
            self.lost = str(error)

    def _read_on(self) -> None:
        self._times = []
        while not self._closing.is_set():
            picture = self._camera.read()
            if not self._pace.lets(picture.captured):
                continue
            self._use(picture)
            self._times = [*self._times[-_SPAN:], picture.captured]
            self.pictures += 1
            self.lost = ""


def _newest(device: Any) -> tuple[np.ndarray, float] | None:
    """LeRobot's cameras keep the newest picture beside the time they had it; a plug-in's need
    not."""
    if not hasattr(device, "frame_lock") or not hasattr(device, "latest_timestamp"):
        return None
    with device.frame_lock:
        rgb = getattr(device, "latest_color_frame", None)  # RealSense, which has depth as well
        rgb = getattr(device, "latest_frame", None) if rgb is None else rgb
        at = device.latest_timestamp
    return None if rgb is None or at is None else (rgb, at)
