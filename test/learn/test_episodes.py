"""Frames out of streams, and episodes out of frames, at times of the test's own."""

from __future__ import annotations

import contextlib
import resource
import signal
from types import SimpleNamespace as Message

import numpy as np
import pyarrow.parquet as pq
import pytest
from cells import tabletop

from smolvla_ros.cell import load_joint_map
from smolvla_ros.learn.aligning import Aligner, Frame, Sent
from smolvla_ros.learn.dataset import DatasetWriter
from smolvla_ros.learn.episodes import Episodes, Refused, State
from smolvla_ros.pictures import DECODERS
from smolvla_ros.policy.observation import cell_streams

DT = 0.1
BEGIN = 1_700_000_000.0


# -- frames ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cell():
    return tabletop()


class Arm:
    """Streams of the shipped cell, filled by hand; ``q`` in rad."""

    def __init__(self, cell):
        config, robot = cell
        self.vla, self.robot = config.vla, robot
        self.map = load_joint_map(config.vla, robot, config.path)
        self.streams = cell_streams(config.vla, self.map, DECODERS)
        self.sent = Sent("arm/joint_trajectory", self.map, robot.names, 0.1)
        self.aligner = Aligner(self.streams, self.sent)
        self.streams.set_instruction("touch")

    def see(self, t: float, shade: int = 7) -> None:
        for name in self.vla.cameras:
            data = np.full((4, 6, 3), shade, np.uint8)
            data[0, 0] = round(t * 1000) % 251  # no two alike
            picture = Message(encoding="rgb8", height=4, width=6, step=18, data=data.tobytes())
            self.streams.put(name, t, picture)
        self.streams.put_joints(t, self.robot.names, np.full(6, 0.1))

    def send(self, t: float, q: np.ndarray, names=None, stamp: float | None = None) -> None:
        at = t if stamp is None else stamp
        header = Message(stamp=Message(sec=int(at), nanosec=round((at - int(at)) * 1e9)))
        points = [Message(positions=list(q))]
        self.sent.put(
            t, Message(header=header, joint_names=names or self.robot.names, points=points)
        )


def test_the_action_is_what_had_been_sent_when_the_observation_was_taken(cell) -> None:
    arm = Arm(cell)
    for k in range(11):
        arm.send(BEGIN + 0.01 * k, np.full(6, 0.01 * k))
    arm.see(BEGIN + 0.055)
    frame = arm.aligner.take(BEGIN + 0.1)
    assert frame.time == BEGIN + 0.055
    np.testing.assert_allclose(arm.map.to_urdf(frame.action), np.full(6, 0.05), atol=1e-12)
    np.testing.assert_allclose(arm.map.to_urdf(frame.state), np.full(6, 0.1), atol=1e-12)
    assert frame.task == "touch"
    assert {p.shape for p in frame.images.values()} == {(4, 6, 3)}


def test_joints_are_sorted_by_name_and_further_ones_left_alone(cell) -> None:
    arm = Arm(cell)
    arm.see(BEGIN)
    names = ["rail", *arm.robot.names[::-1]]
    arm.send(BEGIN, np.arange(7) / 10, names)
    wanted = dict(zip(names, np.arange(7) / 10, strict=True))
    action = arm.map.to_urdf(arm.aligner.take(BEGIN).action)
    np.testing.assert_allclose(action, [wanted[name] for name in arm.map.names])


def test_an_array_counts_from_when_it_came_in_the_order_that_is_configured(cell) -> None:
    arm = Arm(cell)
    order = arm.robot.names[::-1]
    sent = Sent("commands", arm.map, order, 0.1)
    sent.put(BEGIN, Message(data=np.arange(6) / 10))
    by_name = dict(zip(order, np.arange(6) / 10, strict=True))
    action = arm.map.to_urdf(sent.at(BEGIN + 0.05))
    np.testing.assert_allclose(action, [by_name[name] for name in arm.map.names])
    with pytest.raises(ValueError, match="commands: nothing sent"):
        sent.at(BEGIN - 0.001)


def test_a_frame_that_is_not_whole_says_all_that_it_lacks(cell) -> None:
    arm = Arm(cell)
    assert arm.aligner.take(BEGIN) == [
        "front: nothing received", "wrist: nothing received", "joint_states: nothing received",
        "arm/joint_trajectory: nothing sent",
    ]  # fmt: skip
    arm.see(BEGIN)
    arm.send(BEGIN - 0.3, np.zeros(6))
    assert arm.aligner.take(BEGIN) == ["arm/joint_trajectory: 0.300 s old, at most 0.1 s"]
    arm.send(BEGIN, np.zeros(6))
    assert isinstance(arm.aligner.take(BEGIN), Frame)
    arm.send(BEGIN + 0.1, np.zeros(6))
    assert arm.aligner.take(BEGIN + 0.15) == ["joint_states: 0.150 s old, at most 0.1 s"]


@pytest.mark.parametrize(
    ("names", "positions", "words"),
    [
        (None, np.zeros(5), "5 positions for 6 joints"),
        (["shoulder_pan"], np.zeros(1), "lacks shoulder_lift, "),
        (None, np.full(6, np.nan), "not all positions are finite"),
    ],
)
def test_a_set_point_that_cannot_be_one_is_not_taken(cell, names, positions, words) -> None:
    arm = Arm(cell)
    arm.see(BEGIN)
    arm.send(BEGIN, positions, names)
    (reason,) = arm.aligner.take(BEGIN)
    assert reason.startswith("arm/joint_trajectory: nothing sent (last message refused: ")
    assert words in reason


# -- episodes -------------------------------------------------------------------------------


class Play:
    """Episodes fed by a script: what there is to see at frame k."""

    def __init__(self, out, script=None, **options):
        self.out, self.made = out, 0
        self.script = script or {}
        self.episodes = Episodes(self._take, self._make, DT, **({"max_gap": 1} | options))

    def _make(self, frame):
        self.made += 1
        return DatasetWriter(
            self.out,
            fps=10,
            joints=("a", "b"),
            cameras={"observation.images.front": (4, 6)},
            robot_type="test",
            units={},
        )

    def _take(self, now):
        k = round((now - BEGIN) / DT)
        found = self.script.get(k, "touch")
        if isinstance(found, list):
            return found
        value = np.nan if found == "odd" else float(k)
        images = {"observation.images.front": np.zeros((4, 6, 3), np.uint8)}
        return Frame(now, images, np.full(2, value), np.zeros(2), found)

    def ticks(self, first, last):
        for k in range(first, last):
            self.episodes.tick(BEGIN + k * DT)

    def kept(self):
        """The script's frames in the dataset, an episode a list."""
        found = {}
        for path in sorted(self.out.glob("data/*/*.parquet")):
            rows = pq.read_table(path, columns=["episode_index", "observation.state"])
            for row in rows.to_pylist():
                numbers = found.setdefault(row["episode_index"], [])
                numbers.append(int(row["observation.state"][0]))
        return list(found.values())


@pytest.fixture
def play(tmp_path):
    return lambda *script, **options: Play(tmp_path / "set", *script, **options)


@contextlib.contextmanager
def full_disk():
    """Nothing can be written: a limit on the size of files fails where a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


GONE = ["front: 0.300 s old, at most 0.2 s"]


def test_frames_lie_at_whole_multiples_of_the_period(play) -> None:
    episodes = play().episodes
    assert episodes.due(BEGIN + 0.05) == pytest.approx(BEGIN + 0.1)
    assert episodes.due(BEGIN) == pytest.approx(BEGIN + 0.1)
    for rate in (10.0, 30.0, 50.0, 200.0):
        episodes = play().episodes
        episodes._dt = 1 / rate
        t, seen = BEGIN, []
        for _ in range(1000):
            t = episodes.due(t)
            seen.append(round(t * rate))
        assert seen == list(range(seen[0], seen[0] + 1000)), rate


def test_episodes_start_end_and_are_kept_or_discarded(play) -> None:
    recorder = play()
    e = recorder.episodes
    recorder.ticks(0, 3)
    assert (e.state, recorder.made) == (State.IDLE, 0)
    for action in (e.keep, e.discard, e.end):
        with pytest.raises(Refused):
            action()
    e.start()
    with pytest.raises(Refused, match="no frame yet"):
        e.keep()
    recorder.ticks(3, 6)
    assert (e.state, e.frames, e.task) == (State.RECORDING, 3, "touch")
    with pytest.raises(Refused, match="keep or discard it first"):
        e.start()
    assert e.keep() == 3
    e.start()
    recorder.ticks(6, 8)
    e.end()
    recorder.ticks(8, 10)
    assert (e.state, e.frames) == (State.ENDED, 2)
    with pytest.raises(Refused, match="neither kept nor discarded"):
        e.start()
    assert e.discard() == 2
    e.start()
    recorder.ticks(10, 12)
    assert e.keep() == 2
    e.close()
    assert recorder.kept() == [[3, 4, 5], [10, 11]]
    assert (e.kept, e.kept_frames, recorder.made) == (2, 5, 1)


def test_an_episode_begins_with_the_first_whole_frame(play) -> None:
    recorder = play({0: GONE, 1: GONE, 2: GONE})
    recorder.episodes.start()
    recorder.ticks(0, 3)
    assert recorder.episodes.state is State.WAITING and recorder.episodes.lacking == GONE
    recorder.ticks(3, 5)
    assert recorder.episodes.keep() == 2
    assert recorder.kept() == [[3, 4]]


def test_a_short_gap_is_counted_and_a_long_one_ends_the_episode_before_it(play) -> None:
    recorder = play({2: GONE, 5: GONE, 6: GONE}, max_gap=1)
    e = recorder.episodes
    e.start()
    recorder.ticks(0, 5)
    assert (e.frames, e.gaps, e.state) == (4, 1, State.RECORDING)
    recorder.ticks(5, 9)
    assert (e.state, e.gaps) == (State.ENDED, 1)
    assert e.reason == f"2 frames missing: {GONE[0]}"
    assert e.keep() == 4
    assert recorder.kept() == [[0, 1, 3, 4]], "nothing is put where one is missing"


def test_with_no_gap_allowed_the_first_one_ends_it(play) -> None:
    recorder = play({2: GONE}, max_gap=0)
    recorder.episodes.start()
    recorder.ticks(0, 4)
    assert (recorder.episodes.state, recorder.episodes.frames) == (State.ENDED, 2)


def test_frames_that_came_too_late_are_a_gap_too(play) -> None:
    recorder = play()
    e = recorder.episodes
    e.start()
    recorder.ticks(0, 2)
    e.tick(BEGIN + 3 * DT)
    assert (e.gaps, e.frames, e.state) == (1, 3, State.RECORDING)
    e.tick(BEGIN + 6 * DT)
    assert e.state is State.ENDED and "2 frames were not taken in time" in e.reason


def test_a_frame_that_the_dataset_refuses_is_missing(play) -> None:
    recorder = play({1: "odd"})
    recorder.episodes.start()
    recorder.ticks(0, 3)
    assert (recorder.episodes.gaps, recorder.episodes.frames) == (1, 2)


def test_no_instruction_ends_it_at_once(play) -> None:
    recorder = play({3: ["instruction: none given"]})
    recorder.episodes.start()
    recorder.ticks(0, 6)
    assert recorder.episodes.reason == "the instruction was taken back"
    assert recorder.episodes.keep() == 3


def test_a_clock_that_is_set_back_ends_it(play) -> None:
    recorder = play()
    recorder.episodes.start()
    recorder.ticks(5, 8)
    recorder.ticks(2, 4)
    assert (recorder.episodes.state, recorder.episodes.frames) == (State.ENDED, 3)
    assert recorder.episodes.reason == "the clock was set back"


def test_another_instruction_is_in_the_same_episode(play) -> None:
    script = dict.fromkeys(range(3, 9), "pick")
    whole = play(script)
    whole.episodes.start()
    whole.ticks(0, 5)
    assert whole.episodes.keep() == 5
    assert whole.episodes.task == "pick"


def test_another_instruction_ends_it_where_that_is_wanted(play) -> None:
    split = play(dict.fromkeys(range(3, 9), "pick"), split=True)
    split.episodes.start()
    split.ticks(0, 5)
    assert split.episodes.reason == "another instruction: pick"
    assert split.episodes.keep() == 3
    split.episodes.start()
    split.ticks(4, 6)
    split.episodes.keep()
    assert split.kept() == [[0, 1, 2], [4, 5]]


def test_an_episode_is_no_longer_than_allowed(play) -> None:
    recorder = play(max_seconds=0.5)
    recorder.episodes.start()
    recorder.ticks(0, 20)
    assert (recorder.episodes.state, recorder.episodes.frames) == (State.ENDED, 5)
    assert "0.5 s long" in recorder.episodes.reason


@pytest.mark.parametrize("when", ["frame", "keep"])
def test_a_full_disk_loses_the_episode_and_the_next_one_can_begin(play, when) -> None:
    recorder = play()
    e = recorder.episodes
    e.start()
    recorder.ticks(0, 3)
    e.keep()
    e.start()
    recorder.ticks(3, 5)
    with full_disk(), pytest.raises(OSError):
        if when == "frame":
            recorder.ticks(5, 2000)  # what a file's buffer holds is written later
        e.keep()
    assert (e.state, e.frames, e.kept) == (State.IDLE, 0, 1)
    e.start()
    recorder.ticks(3000, 3002)
    assert e.keep() == 2
    assert recorder.kept() == [[0, 1, 2], [3000, 3001]]


def test_a_disk_that_is_full_before_the_first_frame_begins_no_episode(play) -> None:
    recorder = play()
    e = recorder.episodes
    e.start()
    with full_disk(), pytest.raises(OSError):
        recorder.ticks(0, 1)
    assert e.state is State.IDLE
