"""``smolvla-ros check``: what can be seen of a real arm's driver without the arm."""

from __future__ import annotations

import importlib.util
import re

import pytest
import yaml
from cells import ROOT, tabletop
from feetech_bus import TICKS, so101_servos, write_calibration

from smolvla_ros.cli.main import main

for name in ("lerobot", "scservo_sdk"):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}: pip install 'smolvla_ros[arm]'", allow_module_level=True)


@pytest.fixture
def calibration():
    return so101_servos(tabletop()[1])[1]


@pytest.fixture
def check(tmp_path, calibration, capsys):
    """The shipped cell of a real arm with this calibration: exit code and what is said, its
    spaces as one."""

    def run(**arm: object) -> tuple[int, str]:
        file = write_calibration(tmp_path / "calibration", "mine", calibration)
        document = yaml.safe_load((ROOT / "config" / "so101.yaml").read_text())
        robot = document["/**"]["ros__parameters"]["robot"]
        for key, path in robot.items():
            robot[key] = str((ROOT / "config" / path).resolve())
        section = document["/**/arm"]["ros__parameters"]
        section["options"] |= {"id": "mine", "calibration_dir": str(file.parent)}
        section |= arm
        path = tmp_path / "cell.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        code = main(["check", "--cell", str(path)])
        return code, re.sub(r"\s+", " ", capsys.readouterr().out)

    return run


def test_a_calibrated_arm_is_said_with_its_file(check, tmp_path) -> None:
    code, said = check()
    assert code == 0 and "warn limits" not in said
    assert "ok arm so101_follower mine on /dev/ttyACM0, 100 Hz" in said
    assert f"ok arm.calibration {tmp_path}/calibration/mine.json" in said


def test_a_range_that_is_wider_than_the_calibrations_is_a_warning(check, calibration) -> None:
    calibration["elbow_flex"]["range_min"] += 200
    calibration["elbow_flex"]["range_max"] -= 200
    code, said = check()
    assert code == 0 and said.count("stays behind there") == 1
    found = re.search(
        r"warn limits.elbow_flex the gate lets it go (\S+) \.\. (\S+) rad, its motor is calibrated "
        r"for (\S+) \.\. (\S+) rad .*; limits.joints.elbow_flex: {lower: (\S+), upper: (\S+)},",
        said,
    )
    lower, upper, low, high, *written = map(float, found.groups())
    assert lower < low < high < upper and written == [low, high]
    names = tabletop()[1].names
    reach = tabletop()[1].upper[names.index("elbow_flex")] - 200 / TICKS
    assert high == pytest.approx(reach, abs=0.005)


def test_what_the_driver_would_refuse_is_an_error_a_line_each(check, calibration) -> None:
    document = yaml.safe_load((ROOT / "config" / "so101.yaml").read_text())
    joints = document["/**/arm"]["ros__parameters"]["joint_map"]
    joints["elbow"] = joints.pop("elbow_flex")
    code, said = check(joint_map=joints)
    assert code == 1 and said.count("ERROR") == 1
    assert "ERROR arm.joint_map.elbow is no joint of the URDF" in said
    code, said = check(type="so102_follower")
    assert code == 1 and said.count("ERROR") == 1 and "ERROR arm.type is 'so102_follower'" in said
    del calibration["gripper"]
    code, said = check()
    assert code == 1 and said.count("ERROR") == 1
    assert "ERROR arm.calibration" in said and "motor gripper is missing" in said
