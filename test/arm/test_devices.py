"""LeRobot's devices, by what a cell says of them."""

from __future__ import annotations

import pytest

pytest.importorskip("lerobot", reason="the extra policy is not installed")

from smolvla_ros.arm.devices import decode
from smolvla_ros.schema import ConfigError

CAMERA = "lerobot.cameras.CameraConfig"


def test_settings_become_lerobots_own_configuration():
    config = decode(CAMERA, "opencv", {"index_or_path": "/dev/video4", "fps": 30}, "x")
    assert (str(config.index_or_path), config.fps, config.type) == ("/dev/video4", 30, "opencv")
    leader = decode(
        "lerobot.teleoperators.TeleoperatorConfig", "so101_leader", {"port": "/dev/ttyACM1"}, "x"
    )
    assert leader.port == "/dev/ttyACM1"


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("webcam", {}, "x.type: is 'webcam'; LeRobot and its plug-ins know here: "),
        ("opencv", {}, "x.options: opencv: Missing required field(s) `index_or_path`"),
        ("opencv", {"index_or_path": 0, "fsp": 3}, "`fsp` are not valid"),
        ("opencv", {"index_or_path": 0, "fps": "fast"}, "Couldn't parse 'fast' into an int"),
        ("opencv", {"index_or_path": 0, "fourcc": "MJPEG"}, "must be a 4-character string"),
    ],
    ids=["unknown type", "missing key", "unknown key", "wrong type", "wrong value"],
)
def test_what_lerobot_cannot_use_is_one_line_that_names_it(kind, options, words):
    with pytest.raises(ConfigError) as error:
        decode(CAMERA, kind, options, "x")
    (problem,) = error.value.problems
    assert words in problem
    assert "\n" not in problem
