"""The shipped cell, and gates made from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from smolvla_ros.cell import Cell, SourceConfig, load_cell, load_gate, load_robot
from smolvla_ros.robot import RobotModel
from smolvla_ros.safety import Command, Gate, Output, read_command

ROOT = Path(__file__).resolve().parents[2]
TABLETOP = ROOT / "config" / "so101_tabletop.yaml"


def tabletop() -> tuple[Cell, RobotModel]:
    """The shipped cell and its arm."""
    cell = load_cell(TABLETOP)
    return cell, load_robot(cell.safety_monitor.robot, cell.path)


class Run:
    """A gate in simulated time, with an arm that follows perfectly.

    ``start_tolerance``: rad; commands may begin anywhere, or the hard ones would be refused
    before they try anything. ``changes``: keys of the monitor's section, other than the cell's.
    """

    def __init__(
        self,
        start: np.ndarray | str = "ready",
        start_tolerance: float = np.inf,
        **changes: object,
    ):
        cell, self.robot = tabletop()
        policy = SourceConfig(topic="policy", start_tolerance=start_tolerance)
        config = replace(cell.safety_monitor, **{"sources": {"policy": policy}, **changes})
        self.gate: Gate = load_gate(config, self.robot, cell.path)
        self.dt = 1.0 / config.rate
        self.now = 100.0
        self.rows: list[np.ndarray] = []
        self.outputs: list[Output] = []
        self.q = self.robot.pose(start) if isinstance(start, str) else np.array(start, dtype=float)

    def enable(self) -> Run:
        """Measure and enable; the first row of the record is the start."""
        self.gate.measure(self.now, self.q)
        self.gate.enable(self.now)
        self.rows.append(self.q.copy())
        return self

    def command(self, times, positions, age: float = 0.0) -> Command:
        """A command in this gate's joint order, stamped ``age`` seconds ago."""
        return read_command(self.now - age, self.robot.names, times, positions, self.robot.names)

    def propose(self, times, positions, age: float = 0.0) -> None:
        """Offer a trajectory."""
        self.gate.propose(self.now, self.command(times, positions, age))

    def ticks(self, n: int, measure: bool = True) -> Output:
        """Run on; returns the last output."""
        output = None
        for _ in range(n):
            self.now += self.dt
            if measure:
                self.gate.measure(self.now, self.q)
            output = self.gate.tick(self.now)
            self.outputs.append(output)
            if output.positions is not None:
                self.q = output.positions
                self.rows.append(output.positions)
        return output

    @property
    def stream(self) -> np.ndarray:
        """``[N, D]`` everything that was sent, after the start."""
        return np.array(self.rows)
