"""A whole cell: policy, safety monitor, and the simulated arm unless sim:=false."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from smolvla_ros.launching import cell_arguments


def generate_launch_description():
    arguments = {name: LaunchConfiguration(name) for name in ("cell", "namespace")}

    def include(name, **keywords):
        path = PathJoinSubstitution([FindPackageShare("smolvla_ros"), "launch", name])
        return IncludeLaunchDescription(path, launch_arguments=arguments.items(), **keywords)

    return LaunchDescription(
        [
            *cell_arguments("one YAML with a section a node", "every node"),
            DeclareLaunchArgument(
                "sim",
                default_value="true",
                choices=["true", "false"],
                description="Start the simulated arm and cameras; false: yours publish already.",
            ),
            include("safety_monitor.launch.py"),
            include("vla.launch.py"),
            include("sim.launch.py", condition=IfCondition(LaunchConfiguration("sim"))),
        ]
    )
