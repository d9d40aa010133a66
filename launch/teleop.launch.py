"""A teleoperator through LeRobot, beside a running cell: a source of its safety monitor."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import CONFIG_ERROR, cell_arguments, end_all


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/teleop is read", "the node"),
            DeclareLaunchArgument(
                "joint_states",
                default_value="joint_states",
                description="Topic of measured joint states, in.",
            ),
            DeclareLaunchArgument(
                "teleop_command",
                default_value="teleop/joint_states",
                description="Topic of the set-points, out: a source of the safety monitor.",
            ),
            Node(
                package="smolvla_ros",
                executable="teleop_node",
                name="teleop",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                remappings=[
                    ("joint_states", LaunchConfiguration("joint_states")),
                    ("teleop/joint_states", LaunchConfiguration("teleop_command")),
                ],
                output="screen",
                # Silent, it has let the arm go: nothing has to end with it.
                on_exit=end_all("the teleoperator's configuration is wrong", CONFIG_ERROR),
            ),
        ]
    )
