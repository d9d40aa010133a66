"""Parameters as rclpy hands them over: the same cell, the same words for the same mistakes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.node import Node

from smolvla_ros.cell import SECTIONS, load_cell
from smolvla_ros.ros.parameters import declare, parameter_file
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

CELL = share("config", "so101_tabletop.yaml")


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ([], None),
        (["--ros-args", "-r", "__ns:=/left"], None),
        (["--params-file"], None),
        (["--ros-args", "--params-file", "/a/cell.yaml"], "/a/cell.yaml"),
        (["--params-file", "/a/x/../cell.yaml", "-p", "rate:=50.0"], "/a/cell.yaml"),
        (["--params-file", "/tmp/launch_params_ab12"], None),
        # ros2 launch: the cell first, then what a launch file sets on top of it.
        (
            ["--params-file", "/a/cell.yaml", "--params-file", "/tmp/launch_params_ab12"],
            "/a/cell.yaml",
        ),
        (
            ["--params-file", "/tmp/launch_params_ab12", "--params-file", "/a/cell.yaml"],
            "/a/cell.yaml",
        ),
    ],
)
def test_the_cell_file_of_a_command_line(arguments, file) -> None:
    assert parameter_file(["node", *arguments]) == (None if file is None else Path(file))


def test_a_relative_cell_file_is_found_from_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parameter_file(["node", "--params-file", "cell.yaml"]) == tmp_path / "cell.yaml"


@pytest.fixture
def declared(monkeypatch):
    """``declared(section, *arguments)``: what a real node of that name gets to read."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(100 + os.getpid() % 100))

    def run(section: str, *arguments: str):
        monkeypatch.setattr(sys, "argv", ["node", "--ros-args", *arguments])
        context = Context()
        rclpy.init(args=sys.argv, context=context)
        node = Node(section, context=context, automatically_declare_parameters_from_overrides=True)
        try:
            return declare(node, section)
        finally:
            node.destroy_node()
            context.try_shutdown()

    return run


@pytest.mark.parametrize("section", [n for n in SECTIONS if getattr(load_cell(CELL), n)])
def test_a_node_reads_from_ros_what_the_command_line_reads_from_the_file(declared, section) -> None:
    config, path = declared(section, "--params-file", str(CELL))
    assert path == CELL.resolve()
    assert config == getattr(load_cell(CELL), section)


@pytest.mark.parametrize("shared", ["first", "last"])
def test_of_two_sections_the_later_one_counts_for_both_readers(declared, tmp_path, shared) -> None:
    document = yaml.safe_load(CELL.read_text())
    everyone = document.pop("/**")
    everyone["ros__parameters"]["robot"] = {"urdf": "shared.urdf", "srdf": "shared.srdf"}
    document["/**/sim"]["ros__parameters"]["robot"] = {"urdf": "own.urdf"}
    if shared == "first":
        document = {"/**": everyone, **document}
    else:
        document["/**"] = everyone
    path = tmp_path / "cell.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    config, _ = declared("sim", "--params-file", str(path))
    assert config.robot.urdf == ("own.urdf" if shared == "first" else "shared.urdf")
    assert config.robot.srdf == "shared.srdf"
    assert config == load_cell(path).sim


def test_an_override_on_the_command_line_counts_and_leaves_the_rest(declared) -> None:
    config, path = declared(
        "safety_monitor", "--params-file", str(CELL), "-p", "limits.position_margin:=0.05",
        "-p", "use_sim_time:=true",
    )  # fmt: skip
    assert path == CELL.resolve()
    assert config.limits.position_margin == 0.05
    assert config.zones == load_cell(CELL).safety_monitor.zones


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("margn:=0.1", "safety_monitor: margn: unknown key (value 0.1); did you mean 'margin'?"),
        ("rate:=fast", "safety_monitor: rate: is 'fast'; write a number"),
        ("zones.table.size:=[0.9, 1.0]", "safety_monitor: zones.table.size: has 2 values"),
        ("margin.table:=0.1", "safety_monitor: margin.table: margin is both a value and a group"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_with_the_file(declared, argument, says) -> None:
    with pytest.raises(ConfigError) as caught:
        declared("safety_monitor", "--params-file", str(CELL), "-p", argument)
    (line,) = caught.value.problems
    assert line.startswith(f"{CELL.resolve()}: {says}")


def test_a_node_without_a_section_says_which_it_needs(declared, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"parameters: vla: no parameters.*--params-file CELL"):
        declared("vla")
    document = {"/**/sim": {"ros__parameters": {"seed": 1}}}
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=f"{path}: vla: no parameters.*section /\\*\\*/vla"):
        declared("vla", "--params-file", str(path))
