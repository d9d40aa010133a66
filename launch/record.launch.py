"""The recorder beside a running cell: what it sees and what its arm is sent, into a dataset."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from smolvla_ros.launching import (
    CONFIG_ERROR,
    cell_arguments,
    end_cell,
    remappings,
    switch,
    topic_arguments,
)

TOPICS = ("joint_states", "arm_command")


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its sections /**/recorder, /**/vla and more are read"),
            DeclareLaunchArgument(
                "out", description="Folder of the dataset, absolute or relative to where you are."
            ),
            switch("resume", False, "Append to the dataset that is there."),
            *topic_arguments(*TOPICS),
            Node(
                package="smolvla_ros",
                executable="recorder_node",
                name="recorder",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    LaunchConfiguration("cell"),
                    {
                        "out": ParameterValue(LaunchConfiguration("out"), value_type=str),
                        "resume": ParameterValue(LaunchConfiguration("resume"), value_type=bool),
                    },
                ],
                remappings=remappings(*TOPICS),
                output="screen",
                on_exit=end_cell("the recorder's configuration is wrong", CONFIG_ERROR),
            ),
        ]
    )
