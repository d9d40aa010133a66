"""The files for ros2_control and RViz name what there is, and keep an arm behind them safe."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from cells import ROOT, tabletop

EXAMPLES = {
    "joint_trajectory_controller": "joint_trajectory_controller/JointTrajectoryController",
    "forward_position_controller": "forward_command_controller/ForwardCommandController",
}


def example(name: str) -> dict[str, dict[str, Any]]:
    """Parameters of a file's sections, by node."""
    text = (ROOT / "config" / "ros2_control" / f"{name}.yaml").read_text()
    # With the wildcard a file counts in every namespace.
    return {
        key.removeprefix("/**/"): body["ros__parameters"]
        for key, body in yaml.safe_load(text).items()
        if key.startswith("/**/")
    }


@pytest.mark.parametrize(("name", "type"), EXAMPLES.items())
def test_an_example_drives_positions_of_the_shipped_arm_at_the_gates_rate(name, type) -> None:
    cell, robot = tabletop()
    sections = example(name)
    assert set(sections) == {"controller_manager", "joint_state_broadcaster", name}
    assert sections["controller_manager"]["update_rate"] >= cell.safety_monitor.rate
    controller = sections[name]
    assert controller["type"] == type
    assert controller["joints"] == list(robot.names)
    written = controller.get("command_interfaces", [controller.get("interface_name")])
    assert written == ["position"], "a velocity that nobody takes back goes on"


def test_a_joint_trajectory_controller_takes_set_points_and_gives_them_up() -> None:
    gate = tabletop()[0].safety_monitor
    controller = example("joint_trajectory_controller")["joint_trajectory_controller"]
    assert controller["allow_nonzero_velocity_at_trajectory_end"] is True
    assert controller["interpolate_from_desired_state"] is True
    # Ignored where it is not longer than the goal's time; and not by a gate that is only late.
    assert controller["cmd_timeout"] > controller["constraints"]["goal_time"]
    assert gate.stall < controller["cmd_timeout"] <= 0.5


def test_rviz_shows_the_arm_and_the_markers_of_its_own_namespace() -> None:
    manager = yaml.safe_load((ROOT / "rviz" / "cell.rviz").read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == tabletop()[1].links[0]
    displays = {d["Name"]: d for d in manager["Displays"]}
    markers = displays["Safety monitor"]
    assert markers["Class"] == "rviz_default_plugins/MarkerArray" and markers["Enabled"]
    topics = [markers["Topic"], displays["Arm"]["Description Topic"]]
    assert [t["Value"] for t in topics] == ["safety_monitor/markers", "robot_description"]
    node = (ROOT / "smolvla_ros" / "nodes" / "safety_monitor.py").read_text()
    assert re.search(r'MarkerArray, "~/markers"', node)
    assert topics[1]["Durability Policy"] == "Transient Local", "it is published once"
