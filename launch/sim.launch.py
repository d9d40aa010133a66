"""The simulated arm and its cameras alone."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from smolvla_ros.launching import cell_arguments, end_all


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/sim is read", "the node"),
            Node(
                package="smolvla_ros",
                executable="sim_node",
                name="sim",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("cell")],
                # Mesa's software renderer would start a thread a core.
                additional_env={"LP_NUM_THREADS": "1"},
                output="screen",
                on_exit=end_all("the simulator ended"),
            ),
        ]
    )
