"""The safety monitor alone: beside an arm's own driver or ros2_control."""

from launch.actions import DeclareLaunchArgument, EmitEvent
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def _end_cell(event, context):
    # Nothing may run on without its monitor. During a shutdown there is nothing to end.
    return [] if context.is_shutdown else [EmitEvent(event=Shutdown(reason="monitor ended"))]


def generate_launch_description():
    share = FindPackageShare("smolvla_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "cell",
                default_value=PathJoinSubstitution([share, "config", "so101_tabletop.yaml"]),
                description="Cell file; its /**/safety_monitor section is read.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Of the node."),
            DeclareLaunchArgument(
                "joint_states", default_value="joint_states", description="Measured joint states."
            ),
            DeclareLaunchArgument(
                "policy_command",
                default_value="policy/joint_trajectory",
                description="Proposed motion, in.",
            ),
            DeclareLaunchArgument(
                "arm_command",
                default_value="arm/joint_trajectory",
                description="Gated set-points, out: the arm's or its controller's topic.",
            ),
            Node(
                package="smolvla_ros",
                executable="safety_monitor",
                name="safety_monitor",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                remappings=[
                    ("joint_states", LaunchConfiguration("joint_states")),
                    ("policy/joint_trajectory", LaunchConfiguration("policy_command")),
                    ("arm/joint_trajectory", LaunchConfiguration("arm_command")),
                ],
                output="screen",
                on_exit=_end_cell,
            ),
        ]
    )
