"""Cameras through LeRobot: pictures and camera_info out."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import CONFIG_ERROR, cell_arguments, end_cell


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/camera is read", shipped=None),
            Node(
                package="smolvla_ros",
                executable="camera_node",
                name="camera",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                output="screen",
                # A policy without pictures acts no more: nothing has to end with the cameras.
                on_exit=end_cell("the cameras' configuration is wrong", CONFIG_ERROR),
            ),
        ]
    )
