"""What the launch files share: the arguments of a cell, and how a cell ends.

Imports launch alone: the Python that runs ``ros2 launch`` need not have what the nodes need.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from launch import LaunchContext
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    SetLaunchConfiguration,
)
from launch.event import Event
from launch.events import Shutdown
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

CONFIG_ERROR = 2
"""Exit code of a node whose configuration is wrong: that of ``smolvla_ros.ros.run``."""


def cell_arguments(section: str, nodes: str) -> list[LaunchDescriptionEntity]:
    """The arguments ``cell`` and ``namespace``, and a check that the cell file is there.

    Args:
        section: what of the file is read, for people. nodes: whose namespace it is.
    """
    shipped = [FindPackageShare("smolvla_ros"), "config", "so101_tabletop.yaml"]
    return [
        DeclareLaunchArgument(
            "cell",
            default_value=PathJoinSubstitution(shipped),
            description=f"Cell file, absolute or relative to where you are: {section}.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description=f"Namespace of {nodes} and its topics."
        ),
        OpaqueFunction(function=_find_cell),
    ]


def end_all(reason: str, code: int | None = None) -> Callable[[Event, LaunchContext], list]:
    """For a node's ``on_exit``: end the whole launch, where ``code`` is given only if the
    node ended with it."""

    def on_exit(event: Event, context: LaunchContext) -> list:
        # During a shutdown there is nothing left to end, and launch fails on a second one.
        if context.is_shutdown or code not in (None, event.returncode):
            return []
        return [EmitEvent(event=Shutdown(reason=reason))]

    return on_exit


def _find_cell(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    # Launch itself only warns of a parameter file that is missing, and starts the node.
    path = Path(LaunchConfiguration("cell").perform(context)).expanduser().absolute()
    if not path.is_file():
        raise RuntimeError(f"cell:={path}: no such file; give the path of a cell's YAML")
    return [SetLaunchConfiguration("cell", str(path))]
