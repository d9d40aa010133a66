"""A cell's messages → episodes of a dataset: for the recorder node and for bags alike."""

from __future__ import annotations

from pathlib import Path

from smolvla_ros.cell import Cell, RecorderConfig, load_joint_map, load_robot
from smolvla_ros.learn.aligning import Aligner, Frame, Sent
from smolvla_ros.learn.dataset import DatasetWriter, check_out
from smolvla_ros.learn.dataset_format import of_cell
from smolvla_ros.learn.episodes import Episodes
from smolvla_ros.pictures import DECODERS
from smolvla_ros.policy.observation import cell_streams
from smolvla_ros.schema import ConfigError


class Recording:
    """What a cell's messages go into, and the episodes that come of them.

    Args:
        cell: with the sections of the policy (cameras, joints, rate) and of the monitor (what
            is sent to the arm). config: where to, and how.
        split: whether another instruction ends an episode.

    Attributes:
        streams: takes cameras, joint states and the instruction. sent: takes what the arm is
            sent, of type ``sent_type`` on topic ``sent_topic``.

    Raises:
        ConfigError: a section is missing or wrong, or the dataset cannot be begun or resumed:
            every problem, a line each.
    """

    def __init__(self, cell: Cell, config: RecorderConfig, split: bool = False):
        missing = [n for n in ("vla", "safety_monitor") if getattr(cell, n) is None]
        if missing:
            raise ConfigError(
                f"{cell.path}: no section {', '.join(f'/**/{n}' for n in missing)}; cameras, "
                "joints and rate are in vla's, what is sent to the arm in safety_monitor's"
            )
        if not config.out:
            raise ConfigError(f"{cell.path}: recorder.out: missing; give the dataset's folder")
        vla, output = cell.vla, cell.safety_monitor.output
        robot = load_robot(vla.robot, cell.path)
        joint_map = load_joint_map(vla, robot, cell.path)
        self.sent_topic, self.sent_type = output.topic_name, output.type
        self.streams = cell_streams(vla, joint_map, DECODERS)
        self.sent = Sent(
            self.sent_topic, joint_map, output.joints or robot.names, config.action_max_age
        )
        self._out, self._config = Path(config.out), config
        self._wanted = of_cell(cell, None, config.robot_type or robot.model.name, config.video)
        check_out(self._out, self._wanted, config.resume)
        self.dt = 1.0 / vla.chunk_rate
        self.episodes = Episodes(
            Aligner(self.streams, self.sent).take,
            self._writer,
            self.dt,
            config.max_gap,
            None if split else config.max_seconds,
            split,
        )

    def _writer(self, frame: Frame) -> DatasetWriter:
        """The sizes of the pictures are known with the first frame alone."""
        wanted = self._wanted
        return DatasetWriter(
            self._out,
            fps=wanted.fps,
            joints=wanted.state,
            cameras={f: frame.images[f].shape[:2] for f in wanted.cameras},
            robot_type=wanted.robot,
            units=wanted.units,
            resume=self._config.resume,
            video=self._config.video,
        )
