"""Pictures as cameras send them → RGB arrays. Free of ROS and of torch."""

from __future__ import annotations

import io
from collections.abc import Buffer
from typing import Any

import numpy as np

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC3": 3}
"""Encodings that have one meaning as a colour picture (8UC3 is read as bgr8), with their
bytes a pixel."""

_DEPTH = ("16UC1", "32FC1", "mono16", "compressedDepth")
_MAX_PIXELS = 2**26  # a few bytes of PNG can claim to be gigabytes


def decode(encoding: str, height: int, width: int, step: int, data: Buffer) -> np.ndarray:
    """An uncompressed picture, as of sensor_msgs/Image, → ``[H, W, 3]`` uint8 RGB.

    Args:
        step: bytes from one row to the next, padding included. data: ``height * step`` bytes;
            the array may lie in them.

    Raises:
        ValueError: an encoding that is no colour picture, or data that does not fit it.
    """
    if encoding not in CHANNELS:
        raise ValueError(
            f"encoding {encoding!r} is no colour picture; supported: {', '.join(CHANNELS)}"
        )
    channels = CHANNELS[encoding]
    row = width * channels
    size = memoryview(data).nbytes
    if not height or not width:
        raise ValueError(f"an empty {encoding} picture ({width}x{height})")
    if step < row:
        raise ValueError(
            f"rows of {step} bytes; {width} pixels of {encoding} need {row} ({width}x{height})"
        )
    if size != step * height:
        raise ValueError(
            f"{size} bytes for {height} rows of {step} bytes ({width}x{height} {encoding})"
        )
    rows = np.frombuffer(data, np.uint8).reshape(height, step)
    pixels = rows[:, :row].reshape(height, width, channels)
    if encoding == "rgb8":
        return pixels
    import cv2  # here: a safety monitor reads no pictures and may do without it

    code = {
        "bgr8": cv2.COLOR_BGR2RGB,
        "8UC3": cv2.COLOR_BGR2RGB,
        "rgba8": cv2.COLOR_RGBA2RGB,
        "bgra8": cv2.COLOR_BGRA2RGB,
        "mono8": cv2.COLOR_GRAY2RGB,
    }
    return cv2.cvtColor(pixels, code[encoding])


def decode_compressed(format: str, data: Buffer) -> np.ndarray:
    """A JPEG or PNG, as of sensor_msgs/CompressedImage, → ``[H, W, 3]`` uint8 RGB.

    What is cut short or breaks its own structure is refused. A JPEG has no checksum: damage
    that still is a valid picture is not seen.

    Args:
        format: as image_transport writes it (``bgr8; jpeg compressed bgr8``), or ``jpeg``,
            ``png``. data: the file.

    Raises:
        ValueError: another format, depth, or a file that is cut short or corrupt.
    """
    if any(word in format for word in _DEPTH):
        raise ValueError(f"format {format!r} is depth, no colour picture; supported: jpeg, png")
    if not any(word in format.lower() for word in ("jpeg", "jpg", "png")):
        raise ValueError(f"format {format!r} is none that is read; supported: jpeg, png")
    from PIL import Image  # here: as cv2 above

    size = memoryview(data).nbytes
    what = f"{format!r} picture of {size} bytes"
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
            if picture.mode not in ("RGB", "RGBA", "L", "LA", "P"):
                raise ValueError(f"pixels of type {picture.mode} are no 8-bit colours")
            return np.asarray(picture.convert("RGB"))
    except Image.UnidentifiedImageError as error:
        start = bytes(memoryview(data)[:4]).hex(" ") or "nothing"
        raise ValueError(f"{what} is no JPEG or PNG; it begins with {start}") from error
    # PIL lets what its parsers raise through; PNG chunks that are broken are a SyntaxError.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what} cannot be read: {error}") from error


def of_image(message: Any) -> np.ndarray:
    """``[H, W, 3]`` uint8 RGB of a sensor_msgs/Image, whichever library read it; the array may
    lie in the message.

    Raises:
        ValueError: as :func:`decode`.
    """
    m = message
    return decode(m.encoding, m.height, m.width, m.step, m.data)


def of_compressed(message: Any) -> np.ndarray:
    """``[H, W, 3]`` uint8 RGB of a sensor_msgs/CompressedImage, whichever library read it.

    Raises:
        ValueError: as :func:`decode_compressed`.
    """
    return decode_compressed(message.format, message.data)


DECODERS = {"raw": of_image, "compressed": of_compressed}
"""A camera's transport → its messages to RGB."""
