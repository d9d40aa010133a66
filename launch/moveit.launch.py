"""MoveIt's move_group beside a running cell: it drives through the safety monitor's action.

From the moveit_config package come kinematics, planners and limits; the robot is the cell's, the
controllers are those of the argument.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import (
    TF,
    cell_arguments,
    check_moveit,
    describe,
    moveit_controllers,
    remappings,
    topic_arguments,
)


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its robot and sources are read"),
            DeclareLaunchArgument("moveit_config", description="moveit_config package of the arm."),
            moveit_controllers(),
            *topic_arguments("joint_states"),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context):
    package, cell = LaunchConfiguration("moveit_config").perform(context), describe(context)
    check_moveit(package, cell)
    from moveit_configs_utils import MoveItConfigsBuilder  # there is none without MoveIt

    if not cell.actions:
        yield LogInfo(
            msg="the cell has no source of type FollowJointTrajectory: MoveIt plans, and nothing "
            "carries it out"
        )
    controllers = Path(LaunchConfiguration("moveit_controllers").perform(context)).absolute()
    config = (
        MoveItConfigsBuilder(cell.urdf.stem, package_name=package)
        .robot_description(file_path=str(cell.urdf))
        .robot_description_semantic(file_path=str(cell.srdf))
        .trajectory_execution(file_path=str(controllers))
        .to_moveit_configs()
    )
    yield Node(
        package="moveit_ros_move_group",
        executable="move_group",
        namespace=LaunchConfiguration("namespace"),
        parameters=[config.to_dict(), {"publish_robot_description_semantic": True}],
        remappings=[*TF, *remappings("joint_states")],
        output="screen",
    )
