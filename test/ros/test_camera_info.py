"""CameraInfo from a calibration file."""

from __future__ import annotations

import pytest

from smolvla_ros.ros.camera_info import read_camera_info
from smolvla_ros.schema import ConfigError

WHOLE = """
image_width: 640
image_height: 480
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [600, 0, 320, 0, 601.5, 240, 0, 0, 1]}
distortion_model: rational_polynomial
distortion_coefficients: {rows: 1, cols: 8, data: [1, 2, 3, 4, 5, 6, 7, 8]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [600, 0, 320, 0, 0, 601.5, 240, 0, 0, 0, 1, 0]}
"""


def test_a_calibration_is_read_whole(tmp_path):
    path = tmp_path / "front.yaml"
    path.write_text(WHOLE)
    info = read_camera_info(path)
    assert (info.width, info.height, info.distortion_model) == (640, 480, "rational_polynomial")
    assert (info.k[4], info.p[5], list(info.d)) == (601.5, 601.5, [1, 2, 3, 4, 5, 6, 7, 8])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("image_width: 640\n", "", "image_width: missing"),
        ("0, 1]}\nd", "0]}\nd", "camera_matrix.data: has 8 values for 3x3"),
        (
            "rows: 3, cols: 3, data: [600, 0, 320, ",
            "rows: 2, cols: 3, data: [",
            "has 6 values, not",
        ),
        ("camera_name", "name", "name: unknown key"),
    ],
    ids=["no width", "short", "another size", "unknown"],
)
def test_what_is_no_calibration_is_named(tmp_path, old, new, words):
    path = tmp_path / "front.yaml"
    assert old in WHOLE
    path.write_text(WHOLE.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        read_camera_info(path)
    assert any(str(path) in p and words in p for p in error.value.problems)


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: no such file; write it with ROS's camera_c"):
        read_camera_info(tmp_path / "none.yaml")
