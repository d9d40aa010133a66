"""``smolvla-ros init``: a first cell for any arm."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from arms import CHAIN, GRIPPER, LIMIT, MASS, bent_plate, joint, link, mesh, write_mesh

from smolvla_ros.cell import load_cell, load_gate, load_robot
from smolvla_ros.cli.main import main
from smolvla_ros.robot.srdf import read_srdf
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

SO101 = share("urdf", "so101.urdf")
FEW = ("--samples", "100")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def write(tmp_path):
    """Write the inside of a <robot>: ``write("a.urdf", body) -> path``."""

    def to(name: str, body: str, head: str = 'name="r"') -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<robot {head}>{body}</robot>")
        return path

    return to


def init(*words: object) -> int:
    return main(["init", *map(str, words), *(() if "--samples" in words else FEW)])


def uncomment(path: Path, first: str, last: str) -> None:
    """Take the # off the lines from the one that matches ``first`` to that with ``last``."""
    lines = path.read_text().splitlines()
    bare = [line.lstrip(" #") for line in lines]
    start = next(i for i, line in enumerate(bare) if re.match(first, line))
    end = next(i for i, line in enumerate(bare) if i >= start and re.match(last, line))
    lines[start : end + 1] = [
        re.sub(r"^( *)# ?", r"\1", line, count=1) for line in lines[start : end + 1]
    ]
    path.write_text("\n".join(lines) + "\n")


def gate_problems(path: Path) -> list[str]:
    cell = load_cell(path)
    robot = load_robot(cell.safety_monitor.robot, path)
    try:
        load_gate(cell.safety_monitor, robot, path)
    except ConfigError as error:
        return error.problems
    return []


def test_a_first_cell_lacks_what_nobody_gave_and_nothing_else(tmp_path, capsys) -> None:
    out = tmp_path / "new" / "my_cell.yaml"
    assert init("--urdf", SO101, "--out", out) == 0
    said = capsys.readouterr().out
    assert "to do: limits: nobody gave the acceleration of any joint" in said
    assert f"next: smolvla-ros check --cell {out}" in said
    assert main(["check", "--cell", str(out)]) == 1
    assert "ERROR  robot.srdf" in capsys.readouterr().out
    problems = gate_problems(out)
    joints = load_robot(load_cell(out).safety_monitor.robot, out).names
    for name in joints:
        assert any(f"limits.joints.{name}.acceleration: nobody gave it" in p for p in problems)
    assert any("robot.srdf: missing" in p for p in problems)
    assert len(problems) == len(joints) + 1

    # A person fills in what is asked for, and the gate starts.
    out.write_text(out.read_text().replace("{acceleration: }", "{acceleration: 12.0}"))
    uncomment(out, "joints:$", f"{joints[-1]}: {{acc")
    uncomment(out, "srdf:", "srdf:")
    assert gate_problems(out) == []
    capsys.readouterr()
    assert main(["check", "--cell", str(out)]) == 0
    said = capsys.readouterr().out
    assert "warn   zones" in said and "warn   vla" in said
    assert read_srdf(out.with_suffix(".srdf")).disabled


def test_what_is_commented_out_is_right_once_it_is_not(tmp_path) -> None:
    out = tmp_path / "c.yaml"
    init("--urdf", SO101, "--out", out)
    uncomment(out, "zones:", "position:")  # the table's
    uncomment(out, "workspace:", "position:")
    uncomment(out, ".*/vla:", "wrist: .topic")
    uncomment(out, "every_joint:", "every_joint:")
    uncomment(out, "payload:", "tool:")
    cell = load_cell(out)
    robot = load_robot(cell.vla.robot, out)
    assert cell.vla.joint_order == list(robot.names)
    assert set(cell.vla.cameras) == {"front", "wrist"}
    zones = cell.safety_monitor.zones
    assert {name: z.kind for name, z in zones.items()} == {
        "table": "keep_out",
        "workspace": "keep_in",
    }
    assert zones["workspace"].size[2] > 0.4
    assert [a.link for a in (g.attachment for g in robot.geometries) if a] == [robot.links[-1]]


def test_the_devices_of_lerobot_are_right_once_they_are_filled_in(tmp_path) -> None:
    out = tmp_path / "c.yaml"
    init("--urdf", SO101, "--out", out)
    untouched = load_cell(out)
    assert (untouched.arm, untouched.camera, untouched.teleop) == (None, None, None)
    uncomment(out, ".*/arm:", "timeout: 0.2")
    uncomment(out, ".*/camera:", "latency:")
    uncomment(out, ".*/teleop:", "gripper: .unit")
    uncomment(out, "sources:$", "teleop: .topic")
    cell = load_cell(out)
    names = set(load_robot(cell.arm.robot, out).names)
    assert set(cell.arm.joint_map) == set(cell.teleop.joint_map) == names
    assert cell.arm.type == "so101_follower" and cell.teleop.type == "so101_leader"
    assert cell.camera.cameras["front"].options["width"] == 640
    assert cell.safety_monitor.sources["teleop"].priority == 10


def test_the_output_s_joints_are_in_place(tmp_path) -> None:
    out = tmp_path / "c.yaml"
    init("--urdf", SO101, "--out", out)
    uncomment(out, "output:$", r".*gripper\]")
    output = load_cell(out).safety_monitor.output
    assert output.type == "Float64MultiArray"
    assert output.joints[0] == "shoulder_pan" and len(output.joints) == 6


def test_a_limit_says_who_gave_it(write, tmp_path, capsys) -> None:
    soft = (
        '<limit lower="-2" upper="2" velocity="0" effort="3"/>'
        '<safety_controller k_velocity="1" soft_lower_limit="-1.5" soft_upper_limit="2.5"/>'
    )
    urdf = write(
        "a.urdf",
        "".join(link(n) for n in "abc")
        + joint("ab", "a", "b", inside=soft)
        + joint("bc", "b", "c", "continuous"),
    )
    limits = tmp_path / "joint_limits.yaml"
    limits.write_text(
        "joint_limits:\n  ab: {has_acceleration_limits: true, max_acceleration: !degrees 90}\n"
    )
    assert init("--urdf", urdf, "--limits", limits, "--out", tmp_path / "c.yaml") == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[:3]}
    assert "-1.5 .. 2 (URDF, soft limit; URDF)  --" in rows["ab"]
    assert rows["ab"].endswith("1.571 (joint_limits.yaml)")
    assert "continuous  no end" in rows["bc"] and rows["bc"].endswith("2 (URDF)  --")
    text = (tmp_path / "c.yaml").read_text()
    assert "joint_limits: joint_limits.yaml" in text
    assert "#   ab: {velocity: }" in text and "#   bc: {acceleration: }" in text
    problems = gate_problems(tmp_path / "c.yaml")
    asked = sorted(m[1] for p in problems if (m := re.search(r"limits\.joints\.(\S+):", p)))
    assert asked == ["ab.velocity", "bc.acceleration"]


def test_joints_that_mimic_are_named_and_so_are_fingers_that_must_close(
    write, tmp_path, capsys
) -> None:
    closing = GRIPPER.replace('lower="0"', 'lower="-0.01"')
    assert init("--urdf", write("g.urdf", closing), "--out", tmp_path / "c.yaml") == 0
    said = capsys.readouterr().out
    assert re.search(r"\+ right_slide +mimics it", said)
    assert "left ~ right: moved by left_slide alone" in said
    assert "hand ~ left" not in said  # joined: no check is needed

    # In an SRDF it is no contact that was hidden.
    srdf = tmp_path / "g.srdf"
    srdf.write_text('<robot name="r"><disable_collisions link1="left" link2="right"/></robot>')
    urdf = tmp_path / "g.urdf"
    assert init("--urdf", urdf, "--srdf", srdf, "--out", tmp_path / "d.yaml") == 0
    assert "left ~ right" not in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
def test_an_arm_with_a_joint_without_end_goes_through_the_gate(write, tmp_path) -> None:
    body = "".join(link(n) for n in "abc") + joint("ab", "a", "b", "continuous")
    out, rows = tmp_path / "c.yaml", tmp_path / "rows.jsonl"
    urdf = write("a.urdf", body + joint("bc", "b", "c", xyz="0.2 0 0"))
    assert init("--urdf", urdf, "--out", out) == 0
    text = out.read_text().replace("{acceleration: }", "{acceleration: 12.0}")
    out.write_text(text.replace("command_timeout: 1.0", "command_timeout: 9.0"))
    uncomment(out, "joints:$", "bc: {acc")
    uncomment(out, "srdf:", "srdf:")
    command = {
        "source": "policy", "stamp": 0.0, "names": ["ab", "bc"],
        "points": [{"t": t, "positions": [9.0 * t / 6, 0.0]} for t in np.linspace(0.1, 6, 60)],
    }  # fmt: skip
    commands = tmp_path / "in.jsonl"
    commands.write_text(json.dumps({"t": 0.0, "command": command}) + "\n")
    words = ["--in", str(commands), "--out", str(rows), "--after", "9"]
    assert main(["gate", "--cell", str(out), *words]) == 0
    last = json.loads(rows.read_text().splitlines()[-1])
    assert last["positions"][0] == pytest.approx(9.0, abs=0.1)  # more than a turn


def test_a_body_that_no_check_can_see_is_left_to_a_person(write, tmp_path, capsys) -> None:
    shell = "<visual><geometry><box size='0.1 0.1 0.1'/></geometry></visual>"
    urdf = write("a.urdf", CHAIN + link("cover", shell) + joint("lid", "d", "cover", "fixed", ""))
    out = tmp_path / "c.yaml"
    assert init("--urdf", urdf, "--out", out) == 0
    assert "no collision geometry on cover" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="link cover has a body but no <collision>"):
        load_robot(load_cell(out).safety_monitor.robot, out)
    uncomment(out, "links_without_geometry:", "links_without_geometry:")
    load_robot(load_cell(out).safety_monitor.robot, out)


def test_an_srdf_is_held_against_what_was_seen(write, tmp_path, capsys) -> None:
    # c folds back onto a; the lid always lies in b.
    wide = '<limit lower="-3.1" upper="3.1" velocity="2" effort="3"/>'
    urdf = write(
        "a.urdf",
        "".join(link(n) for n in "abc")
        + link("lid", '<collision><origin xyz="-0.15 0 0"/><geometry><sphere radius="0.2"/>'
                      "</geometry></collision>")
        + joint("ab", "a", "b", inside=wide, xyz="0.12 0 0")
        + joint("bc", "b", "c", inside=wide, xyz="0.12 0 0")
        + joint("cl", "c", "lid", "fixed", "", xyz="0.15 0 0"),
    )  # fmt: skip
    srdf = tmp_path / "a.srdf"
    srdf.write_text(
        '<robot name="r"><disable_collisions link1="a" link2="c" reason="Never"/>'
        '<disable_collisions link1="a" link2="b" reason="Adjacent"/></robot>'
    )
    assert init("--urdf", urdf, "--srdf", srdf, "--out", tmp_path / "c.yaml") == 0
    said = capsys.readouterr().out
    assert re.search(r"robot.srdf: a ~ c: touch in \d+\.\d% .* look at that entry", said)
    assert re.search(r"robot.srdf: b ~ lid: .* 10 mm in 100% of .* nothing would move", said)
    assert "srdf: a.srdf" in (tmp_path / "c.yaml").read_text()
    assert not (tmp_path / "c.srdf").exists()


def test_names_that_yaml_would_read_as_something_else(write, tmp_path) -> None:
    body = CHAIN.replace('"ab"', '"yes"').replace('"bc"', '"1"').replace('"cd"', '"a: b, #c"')
    out = tmp_path / "c.yaml"
    assert init("--urdf", write("my, arm #1.urdf", body), "--out", out) == 0
    out.write_text(out.read_text().replace("{acceleration: }", "{acceleration: 12.0}"))
    uncomment(out, "joints:$", "'a: b, #c': {acc")
    uncomment(out, "srdf:", "srdf:")
    assert gate_problems(out) == []


XACRO = """<robot xmlns:xacro="http://www.ros.org/wiki/xacro" name="made up">
<xacro:include filename="$(find parts)/urdf/part.xacro"/>
<xacro:arg name="reach" default="0.5"/>
<link name="a"><collision><geometry><box size="0.1 0.1 0.1"/></geometry></collision></link>
<xacro:part name="b" filename="../meshes/own.stl"/>
<xacro:part name="c" filename="package://parts/meshes/c.stl"/>
<xacro:part name="d" filename="file://$(find parts)/meshes/c.stl"/>
JOINTS</robot>"""
PART = """<robot xmlns:xacro="http://www.ros.org/wiki/xacro">
<xacro:macro name="part" params="name filename"><link name="${name}"><collision><geometry>
<mesh filename="${filename}"/></geometry></collision></link></xacro:macro></robot>"""


@pytest.fixture
def workspace(tmp_path):
    """A xacro file in one package, and its parts in another one beside it."""
    pytest.importorskip("xacro")
    src = tmp_path / "ws" / "src"
    # One name begins another's, as with ur and ur_description.
    for name, folder in (("mine", "mine"), ("par", "short"), ("parts", "parts_repository")):
        (src / folder / "urdf").mkdir(parents=True)
        (src / folder / "package.xml").write_text(f"<package><name>{name}</name></package>")
    write_mesh(src / "mine" / "meshes" / "own.stl", *bent_plate())
    write_mesh(src / "parts_repository" / "meshes" / "c.stl", *bent_plate())
    (src / "parts_repository" / "urdf" / "part.xacro").write_text(PART)
    joints = "".join(
        joint(p + c, p, c, xyz="$(arg reach) 0 0").replace("/>", "/>")
        for p, c in ("ab", "bc", "cd")
    )
    path = src / "mine" / "urdf" / "arm.urdf.xacro"
    path.write_text(XACRO.replace("JOINTS", joints))
    return path


def test_a_xacro_file_becomes_a_urdf_beside_the_cell(workspace, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/other")
    monkeypatch.chdir(tmp_path)
    parts = workspace.parents[2] / "parts_repository"
    assert init("--urdf", workspace, "--xacro-arg", "reach:=0.7", "--package-dir", parts) == 0
    out = tmp_path / "made_up.yaml"
    cell = load_cell(out)
    robot = load_robot(cell.safety_monitor.robot, out)
    assert robot.names == ("ab", "bc", "cd") and len(robot.hulls) == 3
    assert robot.model.jointPlacements[1].translation[0] == 0.7
    assert robot.urdf_path == tmp_path / "made_up.urdf"
    assert os.environ["AMENT_PREFIX_PATH"] == "/opt/other"


def test_packages_around_a_xacro_file_are_found_and_a_missing_one_is_named(
    workspace, tmp_path, capsys
) -> None:
    # parts lies beside mine, as in a workspace's src: nobody has to name it.
    out = tmp_path / "c.yaml"
    assert init("--urdf", workspace, "--out", out) == 0
    assert load_robot(load_cell(out).safety_monitor.robot, out).hulls
    assert "package_dirs: [ws/src/parts_repository]" in out.read_text()
    workspace.write_text(workspace.read_text().replace("$(find parts)/urdf", "$(find gone)/urdf"))
    capsys.readouterr()
    assert init("--urdf", workspace, "--out", tmp_path / "d.yaml") == 2
    error = capsys.readouterr().err
    assert "needs package 'gone', which is not found" in error and error.count("\n") == 1
    assert not list(tmp_path.glob("d.*"))


def test_a_package_of_meshes_that_is_found_nowhere_is_one_line(write, tmp_path, capsys) -> None:
    body = (
        link("a", mesh("package://gone/a.stl"))
        + link("b", mesh("package://gone/b.stl"))
        + joint("ab", "a", "b")
    )
    assert init("--urdf", write("a.urdf", body), "--out", tmp_path / "c.yaml") == 2
    error = capsys.readouterr().err
    assert "its meshes lie in package 'gone', which is not found" in error
    assert error.count("\n") == 1

    (tmp_path / "gone").mkdir()
    assert init("--urdf", tmp_path / "a.urdf", "--out", tmp_path / "c.yaml") == 2
    assert "link b: mesh 'package://gone/b.stl': no such file" in capsys.readouterr().err


def test_xacro_that_does_not_go_through_is_one_line(workspace, tmp_path, capsys) -> None:
    workspace.write_text(workspace.read_text().replace("$(arg reach)", "${1 / nothing}"))
    assert init("--urdf", workspace, "--out", tmp_path / "c.yaml") == 2
    error = capsys.readouterr().err
    assert "arm.urdf.xacro: xacro: " in error and "nothing" in error and error.count("\n") == 1


def test_a_xacro_argument_that_the_file_lacks_is_named(workspace, tmp_path, capsys) -> None:
    out = tmp_path / "c.yaml"
    assert init("--urdf", workspace, "--xacro-arg", "raech:=0.7", "--out", out) == 2
    error = capsys.readouterr().err
    assert "--xacro-arg raech: the file has no such argument; it has: reach" in error
    assert error.count("\n") == 1 and not list(tmp_path.glob("c.*"))
    bare = workspace.read_text().replace('<xacro:arg name="reach" default="0.5"/>', "")
    workspace.write_text(bare)
    assert init("--urdf", workspace, "--out", out) == 2
    assert "give --xacro-arg reach:=VALUE" in capsys.readouterr().err


def test_xacro_that_includes_itself_is_one_line(workspace, tmp_path, capsys) -> None:
    text = workspace.read_text().replace("$(find parts)/urdf/part.xacro", workspace.name)
    workspace.write_text(text)
    assert init("--urdf", workspace, "--out", tmp_path / "c.yaml") == 2
    error = capsys.readouterr().err
    assert "arm.urdf.xacro: xacro: " in error and error.count("\n") == 1


def test_a_xacro_srdf_is_expanded_beside_the_cell(workspace, tmp_path, capsys) -> None:
    srdf = tmp_path / "arm.srdf.xacro"
    srdf.write_text(
        '<robot xmlns:xacro="http://www.ros.org/wiki/xacro" name="made up">'
        '<xacro:arg name="first" default="a"/><xacro:macro name="pair" params="x y">'
        '<disable_collisions link1="${x}" link2="${y}" reason="Adjacent"/></xacro:macro>'
        '<xacro:pair x="$(arg first)" y="b"/></robot>'
    )
    out = tmp_path / "c.yaml"
    assert init("--urdf", workspace, "--srdf", srdf, "--out", out) == 0
    robot = load_robot(load_cell(out).safety_monitor.robot, out)
    assert robot.srdf.allows_contact("a", "b") and not robot.srdf.allows_contact("b", "c")
    # A cell that names the xacro file itself would have read it as an SRDF that says nothing.
    out.write_text(out.read_text().replace("srdf: c.srdf", "srdf: arm.srdf.xacro"))
    with pytest.raises(ConfigError, match=r"arm\.srdf\.xacro: is xacro"):
        load_robot(load_cell(out).safety_monitor.robot, out)


def test_an_srdf_of_another_robot_is_told(write, tmp_path, capsys) -> None:
    srdf = tmp_path / "a.srdf"
    srdf.write_text('<robot name="panda"/>')
    assert init("--urdf", write("a.urdf", CHAIN), "--srdf", srdf, "--out", tmp_path / "c.yaml") == 0
    assert "look at: a.srdf is of robot 'panda', not of 'r'" in capsys.readouterr().out


def test_pairs_that_only_a_search_finds_to_touch_are_not_proposed_as_never(
    write, tmp_path, capsys
) -> None:
    """A thin finger that reaches a thin post at one angle of two joints only."""

    def thin(name, far, size):
        box = f'<geometry><box size="{size}"/></geometry>'
        return link(name, f'<collision><origin xyz="{far}"/>{box}</collision>')

    wide = '<limit lower="-3" upper="3" velocity="2" effort="3"/>'
    body = (
        thin("a", "1.5 0.4 0.3", "0.02 0.02 0.02")
        + thin("b", "0 0 0.5", "0.1 0.1 0.1")
        + thin("c", "0 0 0", "0.1 0.1 0.1")
        + thin("d", "1 0 0", "0.02 0.02 0.02")
        + joint("ab", "a", "b", inside=wide, xyz="0 0 0")
        + joint("bc", "b", "c", inside=wide, xyz="0.6 0 0", axis="0 1 0")
        + joint("cd", "c", "d", inside=wide, xyz="0 0 0", axis="0 0 1")
    )
    out = tmp_path / "c.yaml"
    assert init("--urdf", write("a.urdf", body), "--samples", "300", "--out", out) == 0
    text = out.with_suffix(".srdf").read_text()
    assert 'link1="a" link2="d"' not in text and "a ~ d (touch in <0.1%)" in text


def test_a_pair_that_is_checked_and_hardly_ever_far_enough_apart_is_told(
    write, tmp_path, capsys
) -> None:
    """Two fingers with a motor each, 10 mm apart when they are open."""
    slide = '<limit lower="0" upper="0.01" velocity="0.2" effort="9"/>'
    box = '<geometry><box size="0.1 0.02 0.02"/></geometry>'
    finger = '<collision><origin xyz="0 {} 0"/>' + box + "</collision>"
    body = (
        link("base") + link("left", finger.format(0.015)) + link("right", finger.format(-0.015))
        + joint("l", "base", "left", "prismatic", slide, axis="0 -1 0")
        + joint("r", "base", "right", "prismatic", slide, axis="0 1 0")
    )  # fmt: skip
    out = tmp_path / "c.yaml"
    assert init("--urdf", write("a.urdf", body), "--out", out) == 0
    said = capsys.readouterr().out
    assert re.search(r"left ~ right: are checked, and nearer than 10 mm in 100% of", said)


def test_a_robot_without_a_single_shape_is_no_zone_s_business(write, tmp_path) -> None:
    body = link("a", MASS) + link("b", MASS) + joint("ab", "a", "b")
    out = tmp_path / "c.yaml"
    assert init("--urdf", write("a.urdf", body), "--out", out) == 0
    text = out.read_text()
    assert "No link has a collision shape" in text and "inf" not in text and "nan" not in text


def test_nothing_is_written_over_and_nothing_left_behind(write, tmp_path, capsys) -> None:
    out = tmp_path / "c.yaml"
    out.with_suffix(".srdf").write_text("mine")
    assert init("--urdf", SO101, "--out", out) == 2
    assert "c.srdf is there already" in capsys.readouterr().err
    assert out.with_suffix(".srdf").read_text() == "mine" and not out.exists()
    # A joint without limits is the URDF's to mend.
    bad = write("bad.urdf", link("a") + link("b") + joint("ab", "a", "b", inside=""))
    assert init("--urdf", bad, "--out", tmp_path / "d.yaml") == 2
    assert "joint ab: no <limit lower upper>" in capsys.readouterr().err
    assert not list(tmp_path.glob("d.*"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--urdf", "no.urdf"), "--urdf: no.urdf is no file"),
        (("--urdf", SO101, "--srdf", "no.srdf"), "--srdf: no.srdf is no file"),
        (("--urdf", SO101, "--limits", "no.yaml"), "--limits: no.yaml is no file"),
        (("--urdf", SO101, "--package-dir", "nowhere"), "--package-dir: nowhere is no folder"),
        (("--urdf", SO101, "--xacro-arg", "a=b"), "--xacro-arg: 'a=b'; write NAME:=VALUE"),
        (("--urdf", SO101, "--xacro-arg", "a:=b"), "is no xacro file"),
        (("--urdf", SO101, "--samples", "0"), "--samples: is 0"),
        (("--urdf", SO101, "--seconds", "0"), "--seconds: is 0"),
        (("--urdf", SO101, "--out", "c.srdf"), "--out: c.srdf: a cell is YAML"),
        (("--urdf", SO101, "--out", "/proc/none/c.yaml"), "--out: /proc/none: "),
    ],
)
def test_wrong_arguments_are_named(words, line, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert init(*words) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*.yaml"))


def test_a_description_comes_from_a_topic(tmp_path, capsys, monkeypatch) -> None:
    pytest.importorskip("rclpy")
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    from smolvla_ros.cli.bystander import Bystander
    from smolvla_ros.cli.processes import private_domain

    domain, lock = private_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    out = tmp_path / "c.yaml"
    with lock, Bystander("state_publisher", domain) as publisher:
        assert init("--topic", "--seconds", "0.5", "--out", out) == 2
        assert "no description on 'robot_description' within 0.5 s" in capsys.readouterr().err
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        topic = publisher.node.create_publisher(String, "left/robot_description", latched)
        topic.publish(String(data=Path(SO101).read_text()))
        publisher.start()
        assert init("--topic", "left/robot_description", "--seconds", "20", "--out", out) == 0
    robot = load_robot(load_cell(out).safety_monitor.robot, out)
    assert robot.urdf_path == tmp_path / "c.urdf" and robot.dof == 6


def test_ros2_control_joints_without_a_position_command_are_named(write, tmp_path) -> None:
    control = (
        '<ros2_control name="x" type="system"><joint name="ab">'
        '<command_interface name="position"/></joint><joint name="bc">'
        '<command_interface name="velocity"/><state_interface name="position"/></joint>'
        '</ros2_control><ros2_control name="y" type="system"><joint name="fd"/></ros2_control>'
    )
    tool = link("e") + link("f") + joint("de", "d", "e") + joint("fd", "d", "f", xyz="0 1 0",
        inside=LIMIT + '<mimic joint="de"/>')  # fmt: skip
    out = tmp_path / "c.yaml"
    assert init("--urdf", write("a.urdf", CHAIN + tool + control), "--out", out) == 0
    assert "gives no position command to bc (velocity)." in out.read_text()
    load_cell(out)


def test_a_limit_of_a_follower_is_said_to_be_its(write, tmp_path, capsys) -> None:
    body = GRIPPER.replace(
        '<limit lower="0" upper="0.04" velocity="0.2" effort="9"/><mimic',
        '<limit lower="0" upper="0.03" velocity="0.2" effort="9"/><mimic',
    )
    assert LIMIT in body
    assert init("--urdf", write("g.urdf", body), "--out", tmp_path / "c.yaml") == 0
    assert "0 .. 0.03 (URDF; URDF, a joint that mimics it)" in capsys.readouterr().out
