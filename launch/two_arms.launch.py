"""Two cells on one machine, each in a namespace of its own; neither ends with the other.

What they are made of is the same for both: otherwise launch each by itself, with a namespace.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from smolvla_ros.launching import check_moveit, composition, describe, include, shipped_file

SIDES = ("left", "right")


def generate_launch_description():
    arguments = []
    for side in SIDES:
        arguments += [
            DeclareLaunchArgument(
                f"{side}_cell",
                default_value=shipped_file("config", "so101_tabletop.yaml"),
                description=f"Cell file of the {side} arm.",
            ),
            DeclareLaunchArgument(
                f"{side}_namespace",
                default_value=side,
                description=f"Namespace of the {side} arm's nodes and topics.",
            ),
        ]
    return LaunchDescription([*arguments, *composition(), OpaqueFunction(function=_both)])


def _both(context):
    handed_on = [argument.name for argument in composition()]
    names = [LaunchConfiguration(f"{side}_namespace").perform(context) for side in SIDES]
    if len({f"/{name.strip('/')}" for name in names} - {"/"}) < 2:
        raise RuntimeError(f"namespaces {names[0]!r} and {names[1]!r}: give two different ones")
    cells = [describe(context, f"{side}_cell") for side in SIDES]
    if moveit_config := LaunchConfiguration("moveit_config").perform(context):
        for cell in cells:
            check_moveit(moveit_config, cell)
    return [
        include("cell", handed_on, {"cell": str(cell.path), "namespace": name})
        for cell, name in zip(cells, names, strict=True)
    ]
