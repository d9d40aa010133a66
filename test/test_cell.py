"""The cell file: the shipped one is whole, and a broken one says file, key, value and fix."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import yaml

from smolvla_ros.cell import (
    SECTIONS,
    beside,
    load_cell,
    load_gate,
    load_joint_map,
    load_robot,
    load_section,
)
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

SHIPPED = share("config", "so101_tabletop.yaml")
HELD = [n for n in SECTIONS if f"/**/{n}" in yaml.safe_load(SHIPPED.read_text())]  # there
GATE = "safety_monitor"
JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]


def shipped() -> dict:
    """The shipped cell as nested data that may be stored in any folder."""
    document = yaml.safe_load(SHIPPED.read_text())
    robot = document["/**"]["ros__parameters"]["robot"]
    for name, file in robot.items():
        robot[name] = str(beside(SHIPPED, file))
    limits = document[f"/**/{GATE}"]["ros__parameters"]["limits"]
    limits["joints"] = {"gripper": {"velocity": 2.5, "acceleration": 30.0}}
    return document


def parameters(document: dict, section: str) -> dict:
    return document[section if section == "/**" else f"/**/{section}"]["ros__parameters"]


def save(document, folder: Path) -> Path:
    path = folder / "cell.yaml"
    text = document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
    path.write_text(text)
    return path


def bring_up(path: Path):
    """Everything that is checked before the nodes start."""
    cell = load_cell(path)
    robot = load_robot(cell.safety_monitor.robot, path)
    return (
        cell,
        robot,
        load_joint_map(cell.vla, robot, path),
        load_gate(cell.safety_monitor, robot, path),
    )


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        bring_up(path)
    return caught.value.problems


def test_the_shipped_cell_is_whole() -> None:
    cell, robot, joint_map, _ = bring_up(SHIPPED)
    assert cell.vla.joint_order == JOINTS == list(joint_map.names) == list(robot.names)
    assert set(cell.safety_monitor.zones) == {"table", "bin", "workspace", "low"}
    for file in (cell.vla.checkpoint, cell.sim.scene):
        assert beside(SHIPPED, file).exists()
    assert robot.pose(cell.sim.start).shape == (6,)


def test_the_gate_gets_the_tightest_limits_with_the_margin_inward(tmp_path) -> None:
    document = shipped()
    parameters(document, GATE)["limits"] = {
        "every_joint": {"velocity": 1.5, "acceleration": 8.0, "lower": -1.7},
        "joints": {"gripper": {"velocity": 2.5, "acceleration": 4.0, "upper": 1.0}},
        "position_margin": 0.02,
    }
    _, robot, _, gate = bring_up(save(document, tmp_path))
    limits = gate.limits
    np.testing.assert_allclose(limits.lower, np.maximum(robot.lower, -1.7) + 0.02)
    np.testing.assert_allclose(limits.upper, [*robot.upper[:5] - 0.02, 0.98])
    np.testing.assert_allclose(limits.velocity, [1.5] * 6)
    np.testing.assert_allclose(limits.acceleration, [8.0] * 5 + [4.0])


def test_sections_left_out_are_none_and_relative_paths_start_at_the_file(tmp_path) -> None:
    document = shipped()
    del document["/**/vla"], document["/**/sim"]
    (tmp_path / "arm").mkdir()
    for name in ("urdf", "srdf"):
        text = Path(parameters(document, "/**")["robot"][name]).read_text()
        (tmp_path / "arm" / f"so101.{name}").write_text(text)
        parameters(document, "/**")["robot"][name] = f"arm/so101.{name}"
    path = save(document, tmp_path)
    cell = load_cell(path)
    assert (cell.vla, cell.sim) == (None, None)
    robot = load_robot(cell.safety_monitor.robot, path)
    assert robot.urdf_path == tmp_path / "arm" / "so101.urdf"


def test_a_section_after_the_shared_one_overrides_a_key_and_keeps_the_others(tmp_path) -> None:
    document = shipped()
    document = {"/**": document.pop("/**"), **document}
    robot = parameters(document, "/**")["robot"]
    parameters(document, "safety_monitor")["robot.urdf"] = "other.urdf"  # ROS's flat spelling
    parameters(document, "vla")["robot"] = {"urdf": "third.urdf"}
    cell = load_cell(save(document, tmp_path))
    found = {name: getattr(cell, name).robot for name in HELD}
    assert {name: r.srdf for name, r in found.items()} == dict.fromkeys(HELD, robot["srdf"])
    assert found["safety_monitor"].urdf == "other.urdf"
    assert found["vla"].urdf == "third.urdf"
    assert found["sim"].urdf == robot["urdf"]  # and no override leaks into another section


@pytest.mark.parametrize("section", HELD)
def test_flat_ros_parameters_give_the_same_section_as_the_file(section) -> None:
    document = yaml.safe_load(SHIPPED.read_text())

    def flat(tree: dict, prefix: str = "") -> dict:
        out = {}
        for name, value in tree.items():
            nested = isinstance(value, dict)
            out |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
        return out

    values = flat(parameters(document, "/**")) | flat(parameters(document, section))
    assert load_section(section, values, SHIPPED) == getattr(load_cell(SHIPPED), section)


def put(section: str, dotted: str, value):
    """A mutation: set one key, deep in a section; a value of None deletes it."""

    def mutate(document: dict) -> None:
        *parents, leaf = dotted.split("/")
        node = parameters(document, section)
        for name in parents:
            node = node[name]
        if value is None:
            del node[leaf]
        else:
            node[leaf] = value

    return mutate


def together(*mutations):
    def mutate(document: dict) -> None:
        for one in mutations:
            one(document)

    return mutate


IN_FILE = {
    "two_sources_on_a_topic": (
        put(GATE, "sources", {"a": {"topic": "x"}, "b": {"topic": "x"}}),
        "sources.b.topic",
        "'x'",
        "a's topic too",
    ),
    "source_on_the_output": (
        put(GATE, "sources", {"a": {"topic": "arm/joint_trajectory"}}),
        "sources.a.topic",
        "arm/joint_trajectory",
        "the output's topic",
    ),
    "array_without_an_order": (
        put(GATE, "sources", {"a": {"topic": "x", "type": "Float64MultiArray"}}),
        "sources.a.joints",
        "Float64MultiArray",
        "needs the order",
    ),
    "payload_of_another_size": (
        put(
            GATE,
            "robot",
            {"payload": {"cup": {"link": "wrist_link", "shape": "box", "size": [0.1]}}},
        ),
        "robot.payload.cup.size",
        "1 values",
        "x, y, z",
    ),
    "silent_heartbeat": (put(GATE, "stop_heartbeat", 0.0), "stop_heartbeat", "0.0", "above 0"),
    "unknown_key": (put(GATE, "margn", 0.1), "safety_monitor: margn", "0.1", "'margin'"),
    "unknown_zone_key": (
        put(GATE, "zones/table/sizes", [1.0]),
        "zones.table.sizes",
        "[1.0]",
        "'size'",
    ),
    "wrong_type": (put("vla", "period", "fast"), "vla: period", "'fast'", "write a number"),
    "text_for_a_bool": (put("vla", "autostart", "yes"), "vla: autostart", "'yes'", "true or false"),
    "missing_key": (
        put(GATE, "margin", None),
        "safety_monitor: margin",
        "missing",
        "m of clearance",
    ),
    "rate_too_low": (put(GATE, "rate", 1.0), "safety_monitor: rate", "1.0", "at least 10"),
    "negative_margin": (
        put(GATE, "margin", -0.01),
        "safety_monitor: margin",
        "-0.01",
        "at least 0",
    ),
    "zero_acceleration": (
        put(GATE, "limits/every_joint/acceleration", 0.0),
        "limits.every_joint.acceleration",
        "0.0",
        "above 0",
    ),
    "joint_without_a_unit": (
        together(put("vla", "joint_order", JOINTS), put("vla", "joint_map/gripper", None)),
        "vla: joint_order",
        "'gripper'",
        "describe it",
    ),
    "joint_missing_in_the_order": (
        put("vla", "joint_order", JOINTS[:-1]),
        "vla: joint_map.gripper",
        "gripper",
        "add it",
    ),
    "unknown_unit": (
        put("vla", "joint_map/gripper/unit", "turns"),
        "joint_map.gripper.unit",
        "'turns'",
        "degrees, radians, percent",
    ),
    "sign_of_two": (
        put("vla", "joint_map/gripper/sign", 2),
        "joint_map.gripper.sign",
        "2",
        "1, -1",
    ),
    "wrong_zone_size": (
        put(GATE, "zones/table/size", [0.9, 1.0]),
        "zones.table.size",
        "2 values",
        "x, y, z",
    ),
    "flat_zone": (
        put(GATE, "zones/table/size", [0.9, 0.0, 1.0]),
        "zones.table.size[1]",
        "0.0",
        "above 0",
    ),
    "unknown_shape": (
        put(GATE, "zones/bin/shape", "cone"),
        "zones.bin.shape",
        "'cone'",
        "box, sphere",
    ),
    "slow_zone_without_a_ratio": (
        put(GATE, "zones/low/speed_ratio", None),
        "zones.low.speed_ratio",
        "slow zones",
        "need speed_ratio or speed",
    ),
    "links_and_except_links": (
        put(GATE, "zones/low/except_links", ["base_link"]),
        "zones.low.links",
        "except_links",
        "not both",
    ),
    "missing_urdf": (
        put("/**", "robot/urdf", "no.urdf"),
        "robot.urdf",
        "'no.urdf'",
        "relative to the cell",
    ),
    "missing_srdf": (
        put("/**", "robot/srdf", "no.srdf"),
        "robot.srdf",
        "'no.srdf'",
        "relative to the cell",
    ),
    "unknown_joint_in_the_order": (
        together(
            put("vla", "joint_order", [*JOINTS, "tail"]),
            put("vla", "joint_map/tail", {"unit": "degrees"}),
        ),
        "vla.joint_order",
        "'tail'",
        "shoulder_pan, shoulder_lift",
    ),
    "joint_left_out": (
        together(put("vla", "joint_order", JOINTS[1:]), put("vla", "joint_map/shoulder_pan", None)),
        "vla.joint_order",
        "'shoulder_pan'",
        "add it",
    ),
}
AT_THE_GATE = {
    "unknown_zone_link": (
        put(GATE, "zones/low/links", ["hand_link"]),
        "zones.low.links",
        "'hand_link'",
        "gripper_link",
    ),
    "unknown_excepted_link": (
        put(GATE, "zones/table/except_links", ["feet"]),
        "zones.table.except_links",
        "'feet'",
        "base_link",
    ),
    "unknown_limit_joint": (
        put(GATE, "limits/joints/tail", {"velocity": 1.0}),
        "limits.joints.tail",
        "no such joint",
        "shoulder_pan",
    ),
    "array_of_unknown_joints": (
        put(GATE, "output", {"joints": [*JOINTS, "tail"]}),
        "output.joints",
        "'tail'",
        "the URDF has",
    ),
    "joint_limits_that_are_not_there": (
        put(GATE, "limits/joint_limits", "nowhere.yaml"),
        "limits.joint_limits",
        "'nowhere.yaml'",
        "relative to the cell file",
    ),
    "margin_that_eats_the_range": (
        put(GATE, "limits/position_margin", 1.0),
        "limits.joints.gripper",
        "0.8",
        "smaller",
    ),
}


@pytest.mark.parametrize(("mutate", "key_", "value", "fix"), IN_FILE.values(), ids=IN_FILE)
def test_a_mistake_in_the_file_is_one_line(tmp_path, mutate, key_, value, fix) -> None:
    document = shipped()
    mutate(document)
    path = save(document, tmp_path)
    (line,) = problems(path)
    assert line.startswith(f"{path}: ")
    assert f"{key_}: " in line
    assert value in line
    assert fix in line


@pytest.mark.parametrize(
    ("mutate", "key_", "value", "fix"),
    AT_THE_GATE.values(),
    ids=AT_THE_GATE,
)
def test_limits_and_zones_that_do_not_fit_the_arm_are_one_line(
    tmp_path, mutate, key_, value, fix
) -> None:
    document = shipped()
    mutate(document)
    path = save(document, tmp_path)
    (line,) = problems(path)
    assert line.startswith(f"{path}: safety_monitor.{key_}: ")
    assert value in line
    assert fix in line.split(";", 1)[1]


def test_an_acceleration_that_nobody_gave_is_asked_for_and_never_guessed(tmp_path) -> None:
    document = shipped()
    put(GATE, "limits/every_joint/acceleration", None)(document)
    lines = problems(save(document, tmp_path))
    assert [line.split(": ")[1] for line in lines] == [
        f"safety_monitor.limits.joints.{name}.acceleration" for name in JOINTS if name != "gripper"
    ]
    assert all("limits.every_joint.acceleration" in line for line in lines)


def test_mistakes_of_every_section_are_reported_at_once(tmp_path) -> None:
    document = shipped()
    put(GATE, "rate", 1.0)(document)
    put(GATE, "zones/table/size", [1.0])(document)
    put("vla", "periodd", 1.0)(document)
    put("sim", "seed", -1)(document)
    document["/**/webcam"] = {"ros__parameters": {}}
    lines = problems(save(document, tmp_path))
    for part in ("rate", "zones.table.size", "periodd", "seed", "/**/webcam"):
        assert sum(f"{part}: " in line for line in lines) == 1, part
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("text", "say"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("a: [1\n", "not YAML"),
        ("\t- x", "not YAML"),
        ("/**/vla: {ros_parameters: {}}", "ros__parameters"),
        ("/**/vla: 3", "ros__parameters"),
        ("/**/vla: {ros__parameters: {a: 1}, b: 2}", "ros__parameters"),
        ("/**/vlaa: {ros__parameters: {a: 1}}", "unknown section"),
    ],
)
def test_a_file_that_is_no_cell_is_refused_by_its_name(tmp_path, text, say) -> None:
    path = save(text, tmp_path)
    (line,) = problems(path)
    assert line.startswith(f"{path}: ")
    assert say in line


def test_a_missing_file_is_named(tmp_path) -> None:
    path = tmp_path / "no.yaml"
    (line,) = problems(path)
    assert line == f"{path}: no such file; give the path of a cell's YAML"


def test_bytes_that_are_no_text_are_refused_by_the_files_name(tmp_path) -> None:
    path = tmp_path / "cell.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    (line,) = problems(path)
    assert line.startswith(f"{path}: ")


def test_a_key_that_is_a_number_is_an_unknown_key(tmp_path) -> None:
    document = shipped()
    parameters(document, "vla")[5] = 1.0
    path = save(document, tmp_path)
    (line,) = problems(path)
    assert line.startswith(f"{path}: vla: 5: unknown key")


def test_a_zone_named_twice_is_refused_and_none_of_the_two_vanishes(tmp_path) -> None:
    zone = "{kind: keep_out, shape: sphere, size: [0.1]}"
    text = yaml.safe_dump(shipped(), sort_keys=False)
    twice = f"    zones:\n      post: {zone}\n      post: {zone}\n"
    assert "    zones:\n" in text
    path = save(text.replace("    zones:\n", twice, 1), tmp_path)
    (line,) = problems(path)
    assert line.startswith(f"{path}: ")
    assert "post" in line


@pytest.mark.parametrize(
    ("mutate", "key_"),
    [
        (put(GATE, "zones/low/except_links", []), "zones.low.except_links"),
        (put(GATE, "limits/joints", {}), "limits.joints"),
        (put(GATE, "zones/table/size", [1, 1.0, 0.04]), "zones.table.size"),
        (lambda d: parameters(d, GATE).update(stop_heartbeat=None), "stop_heartbeat"),
    ],
    ids=["empty_list", "empty_group", "mixed_list", "nothing"],
)
def test_what_yaml_can_say_and_ros_parameters_cannot_is_refused(tmp_path, mutate, key_) -> None:
    # rcl's reader dies on each of these with a line that names no key, or (null) hands the
    # text "null" on: the command line must not accept a file that the nodes cannot read.
    document = shipped()
    mutate(document)
    path = save(document, tmp_path)
    (line,) = problems(path)
    assert line.startswith(f"{path}: safety_monitor: {key_}: ")


def test_loading_does_not_change_what_it_was_given() -> None:
    document = shipped()
    values = parameters(document, "/**") | parameters(document, "vla")
    before = copy.deepcopy(values)
    load_section("vla", values, SHIPPED)
    assert values == before
