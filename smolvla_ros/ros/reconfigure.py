"""Other limits and zones while the monitor runs: from the cell file, or as ROS parameters."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from smolvla_ros.cell import (
    MonitorConfig,
    config_hash,
    load_cell,
    load_clearance,
    load_limits,
    load_section,
    load_zones,
)
from smolvla_ros.robot import RobotModel
from smolvla_ros.safety import Gate, Refused, State
from smolvla_ros.safety.tightening import limits_loosened, zones_loosened
from smolvla_ros.safety.zones import PlacedZone, check_zones
from smolvla_ros.schema import ConfigError, flatten

CHANGEABLE = ("limits", "zones", "margin")
"""The keys that may change at run time: tighter at any time, anything else while disabled."""

_SECTION = "safety_monitor"
_Values = dict[str, Any]


class Configuration:
    """The configuration that counts, and the one way to another.

    Calls run on the executor's thread: all is built and judged outside the gate's lock, and
    only exchanged under it.

    Args:
        node: the monitor; its parameters show what counts. config: what it started with.
        path: the cell file. gate: guarded by ``lock``.
    """

    def __init__(
        self,
        node: Node,
        config: MonitorConfig,
        path: Path | None,
        robot: RobotModel,
        gate: Gate,
        lock: threading.Lock,
    ):
        self._node, self._path, self._robot = node, path, robot
        self._gate, self._lock = gate, lock
        self.config = config
        self.hash = config_hash(config, robot)
        self._placed: tuple[MonitorConfig | None, dict[str, PlacedZone]] = (None, {})
        self._mirroring = False
        # What a command line or a launch file has set on top of the file stays on top of it.
        self._overrides: _Values = {}
        self._unreadable = ""
        try:
            file = self._file()
        except (ConfigError, Refused) as error:
            self._unreadable = f"the cell file was not readable at the start: {error}"
        else:
            now = _flat(config)
            self._overrides = {k: v for k, v in now.items() if file.get(k) != v}
        node.add_on_set_parameters_callback(self._on_parameters)

    def placed_zones(self) -> dict[str, PlacedZone]:
        """The zones that count, in the arm's root frame; another dict once they are others."""
        config, (known, placed) = self.config, self._placed
        if known is not config:
            placed = check_zones(load_zones(config, self._path), self._robot, config.margin)
            self._placed = config, placed  # at once: any thread may ask
        return placed

    def reload(self) -> str:
        """Read the cell file again; a sentence on what has changed.

        Raises:
            Refused: not a cell, or a change that may not be made now; nothing has changed.
        """
        if self._unreadable:
            raise Refused("reload", self._unreadable)
        before = _flat(self.config)
        try:
            self._change(self._file() | self._overrides)
        except ConfigError as error:
            raise Refused("reload", str(error)) from error
        changed = self._mirror(before, _flat(self.config))
        return f"changed: {', '.join(changed)}" if changed else "nothing has changed"

    def _file(self) -> _Values:
        if self._path is None:
            raise Refused("reload", "the monitor was started without a cell file")
        section = load_cell(self._path).safety_monitor
        if section is None:
            raise Refused("reload", f"{self._path}: has no section {_SECTION}")
        return _flat(section)

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        if self._mirroring:
            return SetParametersResult(successful=True)
        try:
            fixed = [p.name for p in parameters if p.name.split(".")[0] not in CHANGEABLE]
            if fixed:
                raise Refused("parameters", _fixed(fixed))
            gone = [p.name for p in parameters if p.value is None]
            if gone:
                raise Refused("parameters", f"{', '.join(gone)}: give a value")
            self._change(_flat(self.config) | {p.name: p.value for p in parameters})
        except (ConfigError, Refused) as error:
            self._node.get_logger().warning(f"parameters refused: {error}")
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _change(self, values: _Values) -> None:
        new = load_section(_SECTION, values, self._path)
        before, after = _flat(self.config), _flat(new)
        fixed = [k for k in _differing(before, after) if k.split(".")[0] not in CHANGEABLE]
        if fixed:
            raise Refused("reload", _fixed(fixed))
        limits = load_limits(new, self._robot, self._path)
        clearance = load_clearance(new, self._robot, self._path)
        looser = [
            *zones_loosened(self.config.zones, new.zones, self.config.margin, new.margin),
            *limits_loosened(self._gate.limits, limits, self._robot.names),
        ]
        with self._lock:
            state = self._gate.state
            if looser and state not in (State.WAITING, State.DISABLED):
                raise Refused(
                    "reload", f"disable the gate first, it is {state.value}: {'; '.join(looser)}"
                )
            self._gate.swap(limits, clearance, None)
        self.config = new
        if before != after:
            self.hash = config_hash(new, self._robot)
            self._node.get_logger().warning(
                f"configuration is now {self.hash[:12]}: {_difference(before, after)}"
            )

    def _mirror(self, before: _Values, after: _Values) -> list[str]:
        """Let the node's parameters show what counts."""
        changed = _differing(before, after)
        self._mirroring = True
        try:
            for name in changed:
                # Declared anew: its type may be another, 2 where 1.5 was.
                if self._node.has_parameter(name):
                    self._node.undeclare_parameter(name)
                if name in after:
                    self._node.declare_parameter(name, after[name], ignore_override=True)
        finally:
            self._mirroring = False
        return changed


def _flat(config: MonitorConfig) -> _Values:
    """A configuration as ROS parameters: what is absent is left out."""
    return {k: v for k, v in flatten(asdict(config)).items() if v not in (None, [], {}, "")}


def _differing(before: _Values, after: _Values) -> list[str]:
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def _difference(before: _Values, after: _Values) -> str:
    return ", ".join(
        f"{k}: {before.get(k, 'absent')} -> {after.get(k, 'absent')}"
        for k in _differing(before, after)
    )


def _fixed(names: Sequence[str]) -> str:
    return (
        f"{', '.join(names)}: cannot change while the monitor runs; start it again (only "
        f"{', '.join(CHANGEABLE)} can)"
    )
