"""The recorder beside a running cell: what it sees and what its arm is sent, into a dataset."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from smolvla_ros.launching import CONFIG_ERROR, cell_arguments, end_all


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its sections /**/recorder, /**/vla and more are read", "the node"),
            DeclareLaunchArgument(
                "out", description="Folder of the dataset, absolute or relative to where you are."
            ),
            DeclareLaunchArgument(
                "resume",
                default_value="false",
                choices=["true", "false"],
                description="Append to the dataset that is there.",
            ),
            DeclareLaunchArgument(
                "joint_states",
                default_value="joint_states",
                description="Topic of measured joint states, in.",
            ),
            DeclareLaunchArgument(
                "arm_command",
                default_value="arm/joint_trajectory",
                description="Topic of what the arm is sent, in.",
            ),
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
                remappings=[
                    ("joint_states", LaunchConfiguration("joint_states")),
                    ("arm/joint_trajectory", LaunchConfiguration("arm_command")),
                ],
                output="screen",
                on_exit=end_all("the recorder's configuration is wrong", CONFIG_ERROR),
            ),
        ]
    )
