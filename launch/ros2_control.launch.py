"""The safety monitor between whoever commands and a controller of ros2_control, by remap alone.

The controller manager is not started here: it runs already, with a controller as in
config/ros2_control/.
"""

from launch import LaunchDescription
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration

from smolvla_ros.launching import cell_arguments, controller, include, topic_arguments

TOPICS = ("joint_states", "policy_command")


def generate_launch_description():
    return LaunchDescription(
        [
            *cell_arguments("its section /**/safety_monitor is read"),
            controller(),
            *topic_arguments(*TOPICS),
            OpaqueFunction(function=_between),
        ]
    )


def _between(context):
    name = LaunchConfiguration("controller").perform(context)
    output = {"arm_command": f"{name}/joint_trajectory", "arm_array": f"{name}/commands"}
    return [include("safety_monitor", ["cell", "namespace", *TOPICS], output)]
