"""Two cells on one machine, each in a namespace of its own; neither ends with the other.

What they are made of is the same for both: otherwise launch each by itself, with a namespace.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from smolvla_ros.launching import check_moveit, composition, describe, include, shipped_file

CELLS = ("left_cell", "right_cell")
NAMESPACES = ("left_namespace", "right_namespace")


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(
            name,
            default_value=shipped_file("config", "so101_tabletop.yaml"),
            description="Cell file of one arm.",
        )
        for name in CELLS
    ]
    arguments += [
        DeclareLaunchArgument(
            name,
            default_value=name.removesuffix("_namespace"),
            description="Namespace of its nodes and topics.",
        )
        for name in NAMESPACES
    ]
    return LaunchDescription([*arguments, *composition(), OpaqueFunction(function=_both)])


def _both(context):
    handed_on = [argument.name for argument in composition()]
    names = [LaunchConfiguration(argument).perform(context) for argument in NAMESPACES]
    if len({f"/{name.strip('/')}" for name in names} - {"/"}) < 2:
        raise RuntimeError(f"namespaces {names[0]!r} and {names[1]!r}: give two different ones")
    cells = [describe(context, argument) for argument in CELLS]
    if moveit_config := LaunchConfiguration("moveit_config").perform(context):
        for cell in cells:
            check_moveit(moveit_config, cell)
    return [
        include("cell", handed_on, {"cell": str(cell.path), "namespace": name})
        for cell, name in zip(cells, names, strict=True)
    ]
