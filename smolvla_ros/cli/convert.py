"""``smolvla-ros convert``: a bag of a cell's topics into a LeRobotDataset."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smolvla_ros.cell import Cell, RecorderConfig, load_cell
from smolvla_ros.cli.bags import TYPES, Bag, one_of
from smolvla_ros.schema import ConfigError

_KINDS = {"raw": "Image", "compressed": "CompressedImage"}


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "convert",
        help="convert a rosbag2 of a cell's topics into a LeRobotDataset",
        description="Plays a bag to what records a running cell: the same frames, the same "
        "numbers. An episode lasts as long as one instruction does; without a whole frame for "
        "longer than recorder.max_gap it ends, and another begins. Every bag is whole or "
        "refused: nothing is invented.",
    )
    parser.add_argument(
        "bag", type=Path, metavar="BAG", help="rosbag2 folder (sqlite3 or MCAP), .db3 or .mcap"
    )
    parser.add_argument("--cell", type=Path, required=True, metavar="FILE", help="cell YAML")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the dataset")
    parser.add_argument(
        "--instruction", metavar="TEXT", help="what is done in the bag, where it does not say so"
    )
    parser.add_argument("--resume", action="store_true", help="append to the dataset in DIR")
    parser.add_argument(
        "--video", action="store_true", help="keep pictures as video (lossy) instead of PNG"
    )
    parser.add_argument(
        "--min-seconds", type=float, default=1.0, metavar="S",
        help="shorter episodes are left out (default 1)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert. Returns 0, or 1 where the disk was full.

    Raises:
        ConfigError: a cell, a bag or a dataset that does not fit, or no episode in the bag.
    """
    if not arguments.min_seconds >= 0:
        raise ConfigError(f"--min-seconds: is {arguments.min_seconds:g}; write 0 or more")
    cell = load_cell(arguments.cell)
    missing = [m for m in ("torch", "lerobot", "datasets") if importlib.util.find_spec(m) is None]
    if missing:
        raise ConfigError(
            f"a dataset needs {' and '.join(missing)}; pip install 'smolvla_ros[train]'"
        )
    with Bag(arguments.bag) as bag:
        conversion = Conversion(bag, cell, arguments)
        try:
            conversion.run()
        except OSError as error:
            print(
                f"error: {arguments.out}: {error}; {conversion.kept} episodes are whole in it",
                file=sys.stderr,
            )
            return 1
        finally:
            conversion.close()
    conversion.say()
    return 0


class Conversion:
    """One bag on its way into a dataset.

    Raises:
        ConfigError: the bag lacks a topic of the cell, or the dataset cannot be written.
    """

    def __init__(self, bag: Bag, cell: Cell, arguments: argparse.Namespace):
        from smolvla_ros.learn.recording import Recording

        given = cell.recorder or RecorderConfig()
        config = RecorderConfig(
            out=str(arguments.out),
            resume=arguments.resume,
            video=arguments.video or given.video,
            robot_type=given.robot_type,
            max_gap=given.max_gap,
            action_max_age=given.action_max_age,
        )
        self._bag = bag
        self._recording = Recording(cell, config, split=True)
        self._episodes, self._dt = self._recording.episodes, self._recording.dt
        self._least = arguments.min_seconds
        self._told = arguments.instruction
        if self._told:
            self._recording.streams.set_instruction(self._told)
        self._topics = self._find(cell)
        self._short: list[int] = []
        self._lacking: Counter[str] = Counter()

    @property
    def kept(self) -> int:
        """Episodes in the dataset."""
        return self._episodes.kept

    def run(self) -> None:
        """Play the bag.

        Raises:
            ConfigError: there is no episode in it. OSError: a full disk, for one.
        """
        from tqdm import tqdm

        due = None
        self._episodes.start()
        messages = self._bag.messages(self._topics)
        count = self._bag.count(self._topics)
        for at, topic, message in tqdm(messages, total=count, unit=" messages", disable=None):
            due = self._episodes.due(at) if due is None else due
            # A clock that was set back is for the streams to see.
            due = min(due, self._episodes.due(at))
            while due <= at:
                self._tick(due)
                due = self._episodes.due(due)
            self._topics[topic](at, message)
        self._finish("the bag ends")
        if not self.kept:
            why = "; ".join(f"{n} times {r}" for r, n in self._lacking.most_common(3))
            short = f"; {len(self._short)} were shorter than {self._least:g} s" * bool(self._short)
            raise ConfigError(
                f"{self._bag.path}: there is no episode in it{short}"
                + (f"; frames were missing: {why}" if why else "")
            )

    def say(self) -> None:
        """What came of it."""
        e = self._episodes
        print(f"{e.kept} episodes, {e.kept_frames} frames")
        if self._short:
            print(f"left out: {len(self._short)} episodes shorter than {self._least:g} s")
        for reason, count in self._lacking.most_common(5):
            print(f"no frame: {count} times {reason}")

    def close(self) -> None:
        """End the dataset."""
        self._episodes.close()

    def _tick(self, now: float) -> None:
        from smolvla_ros.learn.episodes import State

        self._episodes.tick(now)
        for reason in self._episodes.lacking:
            self._lacking["".join("#" if c.isdigit() else c for c in reason)] += 1
        if self._episodes.state is State.ENDED:
            self._finish(self._episodes.reason)
            self._episodes.start()
            self._episodes.tick(now)  # which may be the first frame of the next

    def _finish(self, reason: str) -> None:
        frames = self._episodes.frames
        if not frames or frames * self._dt < self._least:
            self._short += [frames] * bool(frames)
            self._episodes.discard()
            return
        task, gaps = self._episodes.task, self._episodes.gaps
        self._episodes.keep()
        lacks = f", {gaps} missing" if gaps else ""
        words = f"episode {self.kept}: {frames} frames{lacks}, {task!r}; then {reason}"
        print(words, file=sys.stderr)

    def _find(self, cell: Cell) -> dict[str, Callable[[float, Any], None]]:
        """Topic in the bag → where its messages go.

        Raises:
            ConfigError: each topic that is not there, and what is there instead.
        """
        streams, recording = self._recording.streams, self._recording

        def picture(name: str) -> Callable[[float, Any], None]:
            return lambda at, m: streams.put(name, _seconds(m.header.stamp), m)

        wanted: list[tuple[str, str, Callable[[float, Any], None]]] = [
            (camera.topic, _KINDS[camera.transport], picture(name))
            for name, camera in cell.vla.cameras.items()
        ]
        wanted += [
            (
                "joint_states",
                "JointState",
                lambda at, m: streams.put_joints(_seconds(m.header.stamp), m.name, m.position),
            ),
            (recording.sent_topic, recording.sent_type, recording.sent.put),
        ]
        if not self._told:
            wanted.append(("instruction", "String", lambda at, m: streams.set_instruction(m.data)))
        topics: dict[str, Callable[[float, Any], None]] = {}
        problems: list[str] = []
        for name, kind, take in wanted:
            found, wrong = one_of(self._bag, name, kind)
            problems += wrong
            if not found and not wrong and not (name == "instruction" and cell.vla.instruction):
                problems.append(self._missing(name, kind))
            topics |= dict.fromkeys(found, take)
        if problems:
            raise ConfigError(problems)
        return topics

    def _missing(self, name: str, kind: str) -> str:
        same = self._bag.holds(kind)
        there = f"of that type it holds {same}" if same != "nothing" else (
            f"it holds {self._bag.holds()}"
        )  # fmt: skip
        fix = "; give --instruction TEXT" if name == "instruction" else ""
        return f"{self._bag.path}: no {name!r} ({TYPES[kind]}) in it{fix}; {there}"


def _seconds(stamp: Any) -> float:
    return stamp.sec + stamp.nanosec * 1e-9
