"""The simulated arm and its cameras alone."""

from launch.actions import DeclareLaunchArgument, EmitEvent
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def _end_cell(event, context):
    return [] if context.is_shutdown else [EmitEvent(event=Shutdown(reason="simulator ended"))]


def generate_launch_description():
    share = FindPackageShare("smolvla_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "cell",
                default_value=PathJoinSubstitution([share, "config", "so101_tabletop.yaml"]),
                description="Cell file; its /**/sim section is read.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Of the node."),
            Node(
                package="smolvla_ros",
                executable="sim_node",
                name="sim",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                # Mesa's software renderer would start a thread a core.
                additional_env={"LP_NUM_THREADS": "1"},
                output="screen",
                on_exit=_end_cell,
            ),
        ]
    )
