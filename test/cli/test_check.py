"""``smolvla-ros check``: the table, its exit code, the file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from cells import ROOT
from checkpoints import FRONT, WRIST, make

from smolvla_ros.cli import check_arm
from smolvla_ros.cli.main import main
from smolvla_ros.cli.processes import CellProcesses, private_domain


@pytest.fixture
def cell(tmp_path):
    """Writes the shipped cell with changes of its vla section (dots for groups); its files and
    its checkpoint beside it."""
    for name in ("config", "urdf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    checkpoint = tmp_path / "models" / "so101_tabletop"
    checkpoint.parent.mkdir()
    checkpoint.symlink_to(ROOT / "models" / "so101_tabletop")

    def write(**changes: object) -> Path:
        path = tmp_path / "config" / "changed.yaml"
        document = yaml.safe_load((tmp_path / "config" / "so101_tabletop.yaml").read_text())
        section = document["/**/vla"]["ros__parameters"]
        for name, value in changes.items():
            *parents, leaf = name.split("__")
            node = section
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


def test_the_shipped_cell_passes(tmp_path, capsys) -> None:
    out = tmp_path / "found" / "check.json"
    cell = ROOT / "config" / "so101_tabletop.yaml"
    assert main(["check", "--cell", str(cell), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "ok     cameras.front" in said and "ERROR" not in said
    assert said.endswith("0 error(s), 0 warning(s)\n")
    document = json.loads(out.read_text())
    assert (document["errors"], document["warnings"]) == (0, 0)
    assert document["checkpoint"]["type"] == "smolvla"
    assert len(document["checkpoint"]["hash"]) == 12
    assert {f["level"] for f in document["findings"]} == {"ok"}


def test_each_error_is_a_line_with_what_to_change(cell, tmp_path, capsys) -> None:
    path = cell(
        joint_map__shoulder_pan={"unit": "radians"},
        cameras__front__feature="observation.images.top",
    )
    out = tmp_path / "check.json"
    assert main(["check", "--cell", str(path), "--json", str(out)]) == 1
    said = capsys.readouterr().out
    assert "ERROR  cameras.front.feature" in said
    assert "ERROR  joint_map.shoulder_pan" in said
    assert "unit: degrees would fit" in " ".join(said.split())
    document = json.loads(out.read_text())
    assert document["errors"] == 3  # the feature that nobody feeds now, too
    wrong = {f["subject"]: f["fix"] for f in document["findings"] if f["level"] == "error"}
    assert wrong["joint_map.shoulder_pan"] == "unit: degrees would fit"


def test_a_checkpoint_that_cannot_be_loaded_is_one_line(cell, capsys) -> None:
    assert main(["check", "--cell", str(cell(checkpoint="../models/none"))]) == 1
    said = capsys.readouterr().out
    assert re.search(r"^ERROR  checkpoint +'../models/none' is no folder", said, re.M)
    assert said.endswith("1 error(s), 0 warning(s)\n")


def test_a_doubt_is_no_error(cell, tmp_path, capsys) -> None:
    mean, std = np.array([0, -20, 20, 60, 0, 0.5]), np.array([25, 15, 15, 15, 25, 0.3])
    act = make("act", tmp_path / "act", cameras=(FRONT, WRIST), mean=mean, std=std)
    assert main(["check", "--cell", str(cell(checkpoint=str(act)))]) == 0
    said = capsys.readouterr().out
    assert "warn   joint_map.gripper" in said
    assert said.endswith("0 error(s), 1 warning(s)\n")


def test_what_is_left_of_an_arm_is_said_with_all_of_its_policy(cell, capsys) -> None:
    path = cell()
    document = yaml.safe_load(path.read_text())
    monitor = document["/**/safety_monitor"]["ros__parameters"]
    del monitor["limits"]["every_joint"]["acceleration"], monitor["zones"]
    document["/**"]["ros__parameters"]["robot"].pop("srdf")
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["check", "--cell", str(path)]) == 1
    said = capsys.readouterr().out
    assert re.search(r"ERROR  limits.joints.gripper.acceleration +nobody gave it", said)
    assert "ERROR  robot.srdf" in said and "warn   zones" in said
    assert "ok     joint_map.gripper" in said
    assert said.endswith("7 error(s), 1 warning(s)\n")


def test_a_cell_without_a_policy_is_checked_too(cell, tmp_path, capsys) -> None:
    path, out = cell(), tmp_path / "check.json"
    document = yaml.safe_load(path.read_text())
    del document["/**/vla"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["check", "--cell", str(path), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "warn   vla" in said and said.endswith("0 error(s), 1 warning(s)\n")
    assert "1.5 rad/s (limits.every_joint), 15 rad/s²" in " ".join(said.split())
    found = json.loads(out.read_text())
    assert found["checkpoint"] is None and len(found["fingerprint"]) == 64

    # The fingerprint that it says is the one that the cell takes, and another one is not.
    robot = document["/**"]["ros__parameters"]["robot"]
    for fingerprint, code in ((found["fingerprint"], 0), ("0" * 64, 1)):
        robot["fingerprint"] = fingerprint
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        assert main(["check", "--cell", str(path)]) == code
    assert "ERROR  robot.fingerprint" in capsys.readouterr().out
    del document["/**/safety_monitor"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["check", "--cell", str(path)]) == 2
    assert "there is nothing to check" in capsys.readouterr().err


def test_what_is_off_without_an_interface_package_is_said(cell, capsys, monkeypatch) -> None:
    path = cell()
    document = yaml.safe_load(path.read_text())
    section = document["/**/safety_monitor"]["ros__parameters"]
    section["sources"] = {"moveit": {"topic": "a/b", "type": "FollowJointTrajectory"}}
    section["planning_scene"] = {"take": True}
    del document["/**/vla"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    for there in (True, False):
        monkeypatch.setattr(check_arm, "find_spec", lambda _, there=there: there or None)
        assert main(["check", "--cell", str(path)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        for words in (
            "control_msgs is not installed here: the action is off",
            "moveit_msgs is not installed here: it is off, and the arm will not move",
            "sudo apt install ros-$ROS_DISTRO-moveit-msgs",
        ):
            assert (words in said) is not there


def test_an_srdf_that_hides_a_contact_or_lets_nothing_move(cell, capsys) -> None:
    path = cell()
    document = yaml.safe_load(path.read_text())
    del document["/**/vla"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    srdf = path.parent.parent / "urdf" / "so101.srdf"
    ends = {"gripper_link", "moving_jaw_so101_v1_link"}
    lines = [x for x in srdf.read_text().splitlines() if not all(f'"{e}"' in x for e in ends)]
    lines.insert(-1, '<disable_collisions link1="base_link" link2="gripper_link" reason="User"/>')
    srdf.write_text("\n".join(lines))
    assert main(["check", "--cell", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warn robot.srdf base_link ~ gripper_link: touch in" in said
    assert "look at that entry" in said


def test_a_body_without_a_shape_hides_nothing_else(cell, capsys) -> None:
    path = cell()
    document = yaml.safe_load(path.read_text())
    del document["/**/vla"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    urdf = path.parent.parent / "urdf" / "so101.urdf"
    cover = (
        '<link name="cover"><visual><geometry><sphere radius="0.01"/></geometry></visual></link>'
        '<joint name="lid" type="fixed"><parent link="base_link"/><child link="cover"/></joint>'
    )
    urdf.write_text(urdf.read_text().replace("</robot>", f"{cover}</robot>"))
    assert main(["check", "--cell", str(path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "link cover has a body but no <collision>" in said
    assert "ok limits.gripper" in said and "1 error(s)" in said


def test_a_cell_that_cannot_be_read_is_code_2(cell, tmp_path, capsys) -> None:
    assert main(["check", "--cell", str(tmp_path / "none.yaml")]) == 2
    assert main(["check", "--cell", str(cell(perod=0.2))]) == 2
    assert "vla: perod: unknown key" in capsys.readouterr().err
    assert main(["check", "--cell", str(cell()), "--seconds", "0"]) == 2


def test_a_running_cell_is_looked_at(cell, tmp_path, capsys, monkeypatch) -> None:
    path = cell()
    domain, lock = private_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with lock, CellProcesses(path, ["sim", "safety_monitor"], domain, tmp_path) as cell_processes:
        code = 1
        for _ in range(5):  # until the simulator is up
            code = main(["check", "--cell", str(path), "--live", "--seconds", "2"])
            said = capsys.readouterr().out
            cell_processes.check()
            if code == 0:
                break
        assert code == 0, said
        # A cell without a policy has an arm and a monitor to be looked at.
        document = yaml.safe_load(path.read_text())
        del document["/**/vla"]
        other = path.with_name("no_policy.yaml")
        other.write_text(yaml.safe_dump(document, sort_keys=False))
        code = main(["check", "--cell", str(other), "--live", "--seconds", "2"])
        without = capsys.readouterr().out
        assert code == 0, without
        assert re.search("ok +joint_states +6 joints", without) and "cameras" not in without
        assert "/arm/joint_trajectory: /safety_monitor" in without
    for line in ("cameras.front            rgb8 128x128", "joint_states             6 joints"):
        assert f"ok     {line}" in said
    assert "/arm/joint_trajectory: /safety_monitor" in said
    # And without any of them:
    assert main(["check", "--cell", str(path), "--live", "--seconds", "0.5"]) == 1
    said = capsys.readouterr().out
    assert "ERROR  cameras.front            nobody publishes on /front/image_raw" in said
    del document["/**/safety_monitor"]
    other.write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["check", "--cell", str(other), "--live"]) == 2
    assert "--live: " in capsys.readouterr().err
