"""A node's parameters, through the same strict classes as the cell file."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from rclpy.node import Node

from smolvla_ros.cell import load_section
from smolvla_ros.schema import ConfigError

_OF_ROS = ("use_sim_time", "start_type_description_service", "qos_overrides")


def parameter_file(argv: list[str] | None = None) -> Path | None:
    """The first ``--params-file`` of a command line that is not one of launch's temporary
    override files: the cell. Errors name it, relative paths start from its folder."""
    argv = sys.argv if argv is None else argv
    files = [Path(b) for a, b in itertools.pairwise(argv) if a == "--params-file"]
    cells = [f for f in files if not f.name.startswith("launch_params_")]
    return cells[0].resolve() if cells else None


def declare(node: Node, section: str) -> tuple[Any, Path | None]:
    """Check a node's parameters and declare the known ones.

    The node must have been made with ``automatically_declare_parameters_from_overrides``:
    an override that nobody declares would otherwise vanish without a word.

    Returns:
        The section's configuration, and the cell file it came from.

    Raises:
        ConfigError: every problem found, each naming file, key, value and fix.
    """
    path = parameter_file()
    values = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix("").items()
        if name.split(".", 1)[0] not in _OF_ROS
    }
    if not values:
        raise ConfigError(
            f"{path or 'parameters'}: {section}: no parameters for node "
            f"{node.get_fully_qualified_name()}; pass --ros-args --params-file CELL.yaml with a "
            f"section /**/{section}"
        )
    return load_section(section, values, path), path
