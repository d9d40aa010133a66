"""A whole cell: safety monitor, policy and arm; by arguments teleoperation, MoveIt and RViz too."""

from launch import LaunchDescription
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration

from smolvla_ros.launching import (
    cell_arguments,
    composition,
    describe,
    include,
    topic_arguments,
)

CELL = ("cell", "namespace")
OURS = ("sim", "lerobot")  # hardware that no other launch file describes to the transforms


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("one YAML with a section a node"),
            *composition(),
            *topic_arguments("joint_states", "policy_command", "arm_command"),
            OpaqueFunction(function=_compose),
        ]
    )


def _compose(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    cell, hardware = describe(context), value("hardware")
    state_publisher = value("state_publisher")
    if state_publisher == "auto":
        state_publisher = str(hardware in OURS).lower()
    commands = ("joint_states", "policy_command")
    if value("moveit_config"):  # first: its package may have faults that only reading it shows
        yield include("moveit", [*CELL, "joint_states", "moveit_config", "moveit_controllers"])
    if hardware == "ros2_control":
        yield include("ros2_control", [*CELL, *commands, "controller"])
    else:
        yield include("safety_monitor", [*CELL, *commands, "arm_command"])
    if hardware == "sim":
        yield include("sim", [*CELL, "joint_states", "arm_command"])
    if hardware == "lerobot":
        yield include("arm", [*CELL, "joint_states", "arm_command"])
        if "camera" in cell.sections:
            yield include("camera", CELL)
    if value("policy") == "true":
        yield include("vla", [*CELL, *commands])
    if value("teleop") == "true":
        yield include("teleop", [*CELL, "joint_states"])
    yield include(
        "description", [*CELL, "joint_states", "rviz"], {"state_publisher": state_publisher}
    )
