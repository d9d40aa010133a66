"""Transforms of a cell's arm from its URDF, and RViz with the safety monitor's markers.

In a namespace both keep to its tf and tf_static, since two arms may have the same frames.
"""

from launch import LaunchDescription
from launch.actions import LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from smolvla_ros.launching import (
    TF,
    cell_arguments,
    describe,
    installed,
    remappings,
    shipped_file,
    switch,
    topic_arguments,
)


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its robot.urdf is read"),
            switch("state_publisher", True, "Start robot_state_publisher with the cell's URDF."),
            switch("rviz", False, "Start RViz, with the safety monitor's markers."),
            *topic_arguments("joint_states"),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context):
    def wanted(name):
        return LaunchConfiguration(name).perform(context) == "true"

    namespace = LaunchConfiguration("namespace")
    if wanted("state_publisher"):
        if installed("robot_state_publisher"):
            urdf = describe(context).urdf.read_text()
            yield Node(
                package="robot_state_publisher",
                executable="robot_state_publisher",
                namespace=namespace,
                # As a text: launch would read it as YAML.
                parameters=[{"robot_description": ParameterValue(urdf, value_type=str)}],
                remappings=[*TF, *remappings("joint_states")],
                output="screen",
            )
        else:
            yield _missing("robot_state_publisher", "there are no transforms of the arm")
    if wanted("rviz"):
        if installed("rviz2"):
            yield Node(
                package="rviz2",
                executable="rviz2",
                namespace=namespace,
                arguments=["-d", shipped_file("rviz", "cell.rviz"), "-f", describe(context).root],
                remappings=TF,
                output="log",
            )
        else:
            yield _missing("rviz2", "nothing is shown")


def _missing(package, consequence):
    apt = package.replace("_", "-")
    return LogInfo(
        msg=f"{package} is not installed: {consequence} (sudo apt install ros-$ROS_DISTRO-{apt})"
    )
