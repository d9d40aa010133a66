"""The safety monitor alone: beside an arm's own driver or ros2_control."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import cell_arguments, end_cell, remappings, topic_arguments

TOPICS = ("joint_states", "policy_command", "arm_command", "arm_array")


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/safety_monitor is read"),
            *topic_arguments(*TOPICS),
            Node(
                package="smolvla_ros",
                executable="safety_monitor",
                name="safety_monitor",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                remappings=remappings(*TOPICS),
                output="screen",
                # Nothing may run on without its monitor.
                on_exit=end_cell("the safety monitor ended"),
            ),
        ]
    )
