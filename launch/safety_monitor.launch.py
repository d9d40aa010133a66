"""The safety monitor alone: beside an arm's own driver or ros2_control."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import cell_arguments, end_all


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/safety_monitor is read", "the node"),
            DeclareLaunchArgument(
                "joint_states",
                default_value="joint_states",
                description="Topic of measured joint states, in.",
            ),
            DeclareLaunchArgument(
                "policy_command",
                default_value="policy/joint_trajectory",
                description="Topic of proposed motion, in.",
            ),
            DeclareLaunchArgument(
                "arm_command",
                default_value="arm/joint_trajectory",
                description="Topic of gated set-points, out: the arm's or its controller's.",
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
                # Nothing may run on without its monitor.
                on_exit=end_all("the safety monitor ended"),
            ),
        ]
    )
