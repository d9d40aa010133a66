"""A camera that is none: a pipe that carries uncompressed video, as a device that OpenCV opens."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, RATE = 160, 120, 30.0
_BITS = 16


def numbered(k: int) -> np.ndarray:
    """Picture ``k``, ``[H, W, 3]`` uint8 RGB: the number in black and white below a red stripe."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:40, :, 0] = 255
    for bit in range(_BITS):
        picture[40:, bit * 10 : bit * 10 + 10] = 255 * (k >> bit & 1)
    return picture


def number(rgb: np.ndarray) -> int:
    """Which picture it is; it has to be one."""
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    red = rgb[20, 80].astype(int)
    assert red[0] > 200 and red[1] < 60 and red[2] < 60, "red is red"
    return sum((1 << bit) for bit in range(_BITS) if rgb[80, bit * 10 + 5, 1] > 128)


def _header() -> bytes:
    return f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{RATE:.0f}:1 Ip A1:1 C420jpeg\n".encode()


def _frame(k: int) -> bytes:
    return b"FRAME\n" + cv2.cvtColor(numbered(k), cv2.COLOR_RGB2YUV_I420).tobytes()


def write_file(path: Path, count: int) -> Path:
    """A video file of pictures 1 to ``count``."""
    path.write_bytes(_header() + b"".join(_frame(k) for k in range(1, count + 1)))
    return path


class Pipe:
    """Pictures at ``RATE`` while it is plugged in; what was not read when it is pulled out is
    lost, as with a cable.

    ``written``: picture → (``time.time()``, ``time.perf_counter()``) at which it was written.
    """

    def __init__(self, path: Path):
        self.path = path
        self.written: dict[int, tuple[float, float]] = {}
        self.frozen = False
        self._k = 0
        self._pulled = threading.Event()
        self._thread: threading.Thread | None = None
        os.mkfifo(path)

    def __enter__(self) -> Pipe:
        self.plug_in()
        return self

    def __exit__(self, *_: object) -> None:
        self.pull_out()

    def plug_in(self) -> None:
        self._pulled.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pull_out(self) -> None:
        if self._thread is not None:
            self._pulled.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._pulled.is_set():
            try:
                fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads yet
                self._pulled.wait(0.01)
                continue
            try:
                os.set_blocking(fd, True)
                os.write(fd, _header())
                self._play(fd)
            except BrokenPipeError:  # the reader has closed it
                pass
            finally:
                os.close(fd)

    def _play(self, fd: int) -> None:
        while not self._pulled.wait(1.0 / RATE):
            if self.frozen:
                continue
            self._k += 1
            data = _frame(self._k)
            self.written[self._k] = (time.time(), time.perf_counter())
            os.write(fd, data)
