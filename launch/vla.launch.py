"""The policy node alone: on the machine with the GPU, for example."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from smolvla_ros.launching import CONFIG_ERROR, cell_arguments, end_all


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/vla is read", "the node"),
            DeclareLaunchArgument(
                "joint_states",
                default_value="joint_states",
                description="Topic of measured joint states, in.",
            ),
            DeclareLaunchArgument(
                "policy_command",
                default_value="policy/joint_trajectory",
                description="Topic of action chunks, out.",
            ),
            LifecycleNode(
                package="smolvla_ros",
                executable="vla_node",
                name="vla",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                remappings=[
                    ("joint_states", LaunchConfiguration("joint_states")),
                    ("policy/joint_trajectory", LaunchConfiguration("policy_command")),
                ],
                output="screen",
                # A policy that dies later does not take the monitor along: that one brakes
                # the arm and holds it.
                on_exit=end_all("the policy's configuration is wrong", CONFIG_ERROR),
            ),
        ]
    )
