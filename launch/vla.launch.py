"""The policy node alone: on the machine with the GPU, for example."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description():
    share = FindPackageShare("smolvla_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "cell",
                default_value=PathJoinSubstitution([share, "config", "so101_tabletop.yaml"]),
                description="Cell file; its /**/vla section is read.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Of the node."),
            DeclareLaunchArgument(
                "joint_states", default_value="joint_states", description="Measured joint states."
            ),
            DeclareLaunchArgument(
                "policy_command",
                default_value="policy/joint_trajectory",
                description="Action chunks, out.",
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
            ),
        ]
    )
