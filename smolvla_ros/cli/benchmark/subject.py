"""The arm and cell that are measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from smolvla_ros.cell import MonitorConfig, load_clearance, load_gate, load_limits
from smolvla_ros.cli.benchmark.paths import Planner
from smolvla_ros.robot import RobotModel
from smolvla_ros.safety import Gate
from smolvla_ros.schema import ConfigError


@dataclass(frozen=True)
class Subject:
    """A safety monitor's configuration, and how to run it in and out of this process.

    ``section``: what a cell file says, where there is no such file (``path`` is None).
    ``start``: ``[D]`` rad.
    """

    config: MonitorConfig
    path: Path | None
    section: dict[str, Any]
    robot: RobotModel
    start: np.ndarray

    def gate(self) -> Gate:
        """A fresh gate."""
        return load_gate(self.config, self.robot, self.path)

    def planner(self, seed: int) -> Planner:
        """Clear motions from the start on, with a clearance of their own."""
        return Planner(
            self.robot,
            load_limits(self.config, self.robot, self.path),
            load_clearance(self.config, self.robot, self.path),
            self.config.zones,
            1.0 / self.config.rate,
            self.config.braking_ratio,
            self.start,
            seed,
        )

    @property
    def source(self) -> str:
        """The first source."""
        return next(iter(self.config.named_sources()))

    def topics(self) -> tuple[str, str]:
        """Of the first source and of the output.

        Raises:
            ConfigError: they are no JointTrajectory, and the bench speaks nothing else.
        """
        source, output = self.config.named_sources()[self.source], self.config.output
        for what, kind in ((f"sources.{self.source}", source.type), ("output", output.type)):
            if kind != "JointTrajectory":
                raise ConfigError(f"{what}.type: is {kind}; the bench speaks JointTrajectory")
        return source.topic, output.topic_name

    def cell_file(self, folder: Path) -> Path:
        """A cell file that the monitor's process can be started with."""
        if self.path is not None:
            return self.path.absolute()
        path = folder / "cell.yaml"
        section = {"/**/safety_monitor": {"ros__parameters": self.section}}
        path.write_text(yaml.safe_dump(section, sort_keys=False))
        return path
