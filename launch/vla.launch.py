"""The policy node alone: on the machine with the GPU, for example."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from smolvla_ros.launching import (
    CONFIG_ERROR,
    cell_arguments,
    end_cell,
    remappings,
    topic_arguments,
)

TOPICS = ("joint_states", "policy_command")


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/vla is read"),
            *topic_arguments(*TOPICS),
            LifecycleNode(
                package="smolvla_ros",
                executable="vla_node",
                name="vla",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                remappings=remappings(*TOPICS),
                output="screen",
                # A policy that dies later does not take the monitor along: that one brakes
                # the arm and holds it.
                on_exit=end_cell("the policy's configuration is wrong", CONFIG_ERROR),
            ),
        ]
    )
