"""A whole cell: policy, safety monitor, and the simulated arm unless sim:=false."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description():
    share = FindPackageShare("smolvla_ros")
    arguments = {name: LaunchConfiguration(name) for name in ("cell", "namespace")}

    def include(name, **keywords):
        path = PathJoinSubstitution([share, "launch", f"{name}.launch.py"])
        return IncludeLaunchDescription(path, launch_arguments=arguments.items(), **keywords)

    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "cell",
                default_value=PathJoinSubstitution([share, "config", "so101_tabletop.yaml"]),
                description="Cell file: one YAML with a section a node.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Of every node."),
            DeclareLaunchArgument(
                "sim",
                default_value="true",
                choices=["true", "false"],
                description="Start the simulated arm and cameras; false: yours publish already.",
            ),
            include("safety_monitor"),
            include("vla"),
            include("sim", condition=IfCondition(LaunchConfiguration("sim"))),
        ]
    )
