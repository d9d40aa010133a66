"""Pictures from bytes: the same colours from every encoding, and nothing from what is broken."""

from __future__ import annotations

import io
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smolvla_ros.pictures import CHANNELS, decode, decode_compressed


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """A picture that JPEG hardly changes, its colours apart."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / (width - 1), 255 * y / (height - 1), 40 + 0 * x]
    return np.stack(planes, axis=-1).astype(np.uint8)


def packed(kind: str, picture: np.ndarray | None = None, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(smooth() if picture is None else picture).save(file, kind, **options)
    return file.getvalue()


JPEG, PNG = packed("JPEG", quality=95), packed("PNG")


def test_an_rgb_picture_is_not_copied() -> None:
    data = array("B", smooth().tobytes())
    rgb = decode("rgb8", 48, 64, 192, data)
    np.testing.assert_array_equal(rgb, smooth())
    data[0] = 123
    assert rgb[0, 0, 0] == 123


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: array("B", b)])
@pytest.mark.parametrize("encoding", CHANNELS)
def test_any_buffer_will_do(kind, encoding) -> None:
    data = bytes(range(2 * 3 * CHANNELS[encoding]))
    rgb = decode(encoding, 2, 3, 3 * CHANNELS[encoding], kind(data))
    assert (rgb.shape, rgb.dtype) == ((2, 3, 3), np.uint8)


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "size", "reason"),
    [
        ("16UC1", 2, 3, 6, 12, "'16UC1' is no colour picture; supported: rgb8, bgr8"),
        ("32FC1", 2, 3, 12, 24, "'32FC1' is no colour picture"),
        ("nonsense", 2, 3, 9, 18, "'nonsense' is no colour picture"),
        ("rgb8", 2, 3, 8, 16, r"rows of 8 bytes; 3 pixels of rgb8 need 9 \(3x2\)"),
        ("bgra8", 2, 3, 9, 18, r"rows of 9 bytes; 3 pixels of bgra8 need 12"),
        ("rgb8", 2, 3, 0, 0, r"rows of 0 bytes; 3 pixels of rgb8 need 9"),
        ("rgb8", 2, 3, 9, 17, r"17 bytes for 2 rows of 9 bytes \(3x2 rgb8\)"),
        ("mono8", 2, 3, 3, 7, r"7 bytes for 2 rows of 3 bytes \(3x2 mono8\)"),
        ("rgb8", 0, 3, 9, 0, r"an empty rgb8 picture \(3x0\)"),
        ("rgb8", 2, 0, 0, 0, r"an empty rgb8 picture \(0x2\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(
    encoding, height, width, step, size, reason
) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(encoding, height, width, step, bytes(size))


# As image_transport, the usual drivers and a web camera's own JPEGs name them.
@pytest.mark.parametrize(
    "format", ["jpeg", "jpg", "JPEG", "rgb8; jpeg compressed bgr8", "yuyv; jpeg compressed rgb8"]
)
def test_a_jpeg_has_the_colours_it_was_made_of(format) -> None:
    rgb = decode_compressed(format, JPEG)
    assert (rgb.shape, rgb.dtype) == ((48, 64, 3), np.uint8)
    assert np.abs(rgb.astype(int) - smooth()).mean() < 2.0


@pytest.mark.parametrize("format", ["png", "bgr8; png compressed bgr8"])
def test_a_png_is_exact(format) -> None:
    np.testing.assert_array_equal(decode_compressed(format, array("B", PNG)), smooth())


def test_grey_and_alpha_become_rgb() -> None:
    grey = smooth()[:, :, 0]
    for data in (packed("PNG", grey), packed("JPEG", grey, quality=100)):
        rgb = decode_compressed("mono8; jpeg compressed ; png", data)
        assert np.abs(rgb.astype(int) - grey[:, :, None]).max() <= 2
    alpha = np.dstack([smooth(), np.full((48, 64), 7, np.uint8)])
    np.testing.assert_array_equal(decode_compressed("png", packed("PNG", alpha)), smooth())


@pytest.mark.parametrize(
    ("format", "data", "reason"),
    [
        ("16UC1; compressedDepth png", PNG, "'16UC1; compressedDepth png' is depth"),
        ("16UC1; png compressed ", PNG, "is depth, no colour picture; supported: jpeg, png"),
        ("h264", JPEG, "format 'h264' is none that is read; supported: jpeg, png"),
        ("", JPEG, "format '' is none that is read"),
        ("jpeg", b"", r"'jpeg' picture of 0 bytes is no JPEG or PNG; it begins with nothing"),
        ("jpeg", b"GIF89a" * 9, "picture of 54 bytes is no JPEG or PNG; it begins with 47 49"),
        ("jpeg", JPEG[:-1], rf"of {len(JPEG) - 1} bytes cannot be read: image file is truncated"),
        ("jpeg", JPEG[:-100], "cannot be read: image file is truncated"),
        ("jpeg", JPEG[:100], "'jpeg' picture of 100 bytes (cannot be read|is no JPEG)"),
        ("png", PNG[: len(PNG) // 2], "cannot be read: .*[Tt]runcated"),
        ("png", packed("PNG", smooth()[:, :, 0].astype(np.uint16) * 200), "pixels of type I;16"),
    ],
)
def test_a_file_that_is_no_whole_colour_picture_is_refused(format, data, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_compressed(format, data)


def test_a_png_that_claims_to_be_huge_is_refused_before_it_is_unpacked() -> None:
    huge = packed("PNG", np.zeros((9000, 9000), np.uint8))
    with pytest.raises(ValueError, match="9000x9000 pixels are too many"):
        decode_compressed("png", huge)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([("jpeg", JPEG), ("png", PNG)]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    st.floats(0, 1),
)
def test_whatever_is_broken_raises_nothing_else(file, changes, share) -> None:
    format, data = file[0], bytearray(file[1])
    for at, byte in changes:
        data[int(at * len(data))] = byte
    try:
        rgb = decode_compressed(format, bytes(data[: int(share * len(data)) or None]))
    except ValueError as refusal:
        assert f"{format!r} picture of" in str(refusal)
    else:
        assert (rgb.dtype, rgb.shape[2]) == (np.uint8, 3)
