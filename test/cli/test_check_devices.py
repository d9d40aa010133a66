"""``smolvla-ros check``: what can be seen of cameras and teleoperators without them."""

from __future__ import annotations

import pytest
import yaml
from rig import changed_cell

from smolvla_ros.cli.main import main

pytest.importorskip("lerobot", reason="the extra policy is not installed")

CAMERA = {"type": "opencv", "options": {"index_or_path": "/dev/video0"}}
LEADER = {
    "type": "so101_leader",
    "options": {"port": "/dev/ttyACM1", "id": "mine"},
    "joint_map": {"shoulder_pan": {"unit": "degrees"}},
}


@pytest.fixture
def check(tmp_path, capsys):
    """The shipped cell with these sections beside the monitor: exit code and what is said."""

    def run(sources=None, **sections) -> tuple[int, str]:
        path = changed_cell(tmp_path, **({"sources": sources} if sources else {}))
        document = yaml.safe_load(path.read_text())
        everyone = document.pop("/**")
        document = {k: v for k, v in document.items() if k.endswith("safety_monitor")}
        for name, section in sections.items():
            document[f"/**/{name}"] = {"ros__parameters": section}
        path.write_text(yaml.safe_dump(document | {"/**": everyone}, sort_keys=False))
        code = main(["check", "--cell", str(path)])
        return code, " ".join(capsys.readouterr().out.split())

    return run


def test_what_is_right_is_a_line_each(check) -> None:
    heard = {"hand": {"topic": "teleop/joint_states", "type": "JointState", "priority": 10}}
    code, said = check(heard, camera={"cameras": {"front": CAMERA}}, teleop=LEADER)
    assert code == 0, said
    assert "ok camera.cameras.front opencv, not calibrated, on front/image_raw" in said
    assert "ok teleop so101_leader, on teleop/joint_states" in said
    assert "no source of the safety monitor" not in said


def test_a_teleoperator_that_nobody_hears_is_told_of(check) -> None:
    _, said = check(teleop=LEADER)
    assert "warn teleop no source of the safety monitor hears teleop/joint_states" in said


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"camera": {"cameras": {"front": CAMERA | {"type": "opencvv"}}}},
         "ERROR camera.cameras.front.type is 'opencvv'"),
        ({"camera": {"cameras": {"front": CAMERA | {"options": {"indx": 0}}}}},
         "ERROR camera.cameras.front.options opencv: "),
        ({"camera": {"cameras": {"front": CAMERA | {"calibration": "none.yaml"}}}},
         "ERROR camera.cameras.front.calibration "),
        ({"teleop": LEADER | {"type": "so101_leeder"}}, "ERROR teleop.type is 'so101_leeder'"),
        ({"teleop": LEADER | {"options": {"prt": "x"}}}, "ERROR teleop.options so101_leader: "),
        ({"teleop": LEADER | {"joint_map": {"elbow": {"unit": "degrees"}}}},
         "ERROR teleop.joint_map.elbow 'elbow' is no joint of the URDF"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_an_error_that_names_it(check, sections, words) -> None:
    code, said = check(**sections)
    assert code == 1 and words in said, said
