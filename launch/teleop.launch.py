"""A teleoperator through LeRobot, beside a running cell: a source of its safety monitor."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import (
    CONFIG_ERROR,
    cell_arguments,
    end_cell,
    remappings,
    topic_arguments,
)

TOPICS = ("joint_states", "teleop_command")


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/teleop is read", shipped=None),
            *topic_arguments(*TOPICS),
            Node(
                package="smolvla_ros",
                executable="teleop_node",
                name="teleop",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                remappings=remappings(*TOPICS),
                output="screen",
                # Silent, it has let the arm go: nothing has to end with it.
                on_exit=end_cell("the teleoperator's configuration is wrong", CONFIG_ERROR),
            ),
        ]
    )
