"""The simulated arm and its cameras alone."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import cell_arguments, end_cell, remappings, topic_arguments

TOPICS = ("joint_states", "arm_command")


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/sim is read"),
            *topic_arguments(*TOPICS),
            Node(
                package="smolvla_ros",
                executable="sim_node",
                name="sim",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                remappings=remappings(*TOPICS),
                # Mesa's software renderer would start a thread a core.
                additional_env={"LP_NUM_THREADS": "1"},
                output="screen",
                on_exit=end_cell("the simulator ended"),
            ),
        ]
    )
