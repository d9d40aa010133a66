"""A real arm through LeRobot alone: joint_states out, set-points in."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import cell_arguments, end_cell, remappings, topic_arguments

TOPICS = ("joint_states", "arm_command")


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/arm is read", shipped=None),
            *topic_arguments(*TOPICS),
            Node(
                package="smolvla_ros",
                executable="arm_node",
                name="arm",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                remappings=remappings(*TOPICS),
                output="screen",
                on_exit=end_cell("the arm's driver ended"),
            ),
        ]
    )
