"""Chunk after chunk on a simulated clock, with a policy whose answers are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.policy import Observation, chunking
from smolvla_ros.policy.engine import Engine, Guide
from smolvla_ros.policy.runtime import CHANGE_WITHIN, REST_WITHIN, Runtime

DT, ROWS = 1 / 30, 50
SPEED = 0.3  # rad/s
TASK = "go on"


class Line(Engine):
    """Goes on at 0.3 rad/s from where it saw the arm, a little beside it each time; back,
    where it is told anything but TASK."""

    names, rows, dt = ("a", "b"), ROWS, DT

    def __init__(self, delays=lambda count: 0.3, beside=0.02, guided=False):
        self.now, self.count, self.guided = 0.0, 0, guided
        self._delays, self._beside = delays, beside
        self.guides: list[Guide | None] = []
        self.meanwhile = lambda: None
        self.spoil = False

    def infer(self, observation: Observation, guide: Guide | None = None) -> ActionChunk:
        side = self._beside * (1, 1, -1, -1)[self.count % 4]
        speed = SPEED if observation.instruction == TASK else -SPEED
        rows = observation.state + speed * DT * np.arange(ROWS)[:, None] + side
        self.guides.append(guide)
        self.now += self._delays(self.count)
        self.count += 1
        self.meanwhile()
        return ActionChunk(observation.stamp, DT, self.names, rows * (np.nan if self.spoil else 1))

    def measured(self, observation: Observation) -> np.ndarray | None:
        return observation.state if observation.state.size else None


class Cell:
    """A runtime whose arm is where the newest published chunk has it."""

    def __init__(self, engine: Line, **settings):
        self.engine = engine
        self.wanted = TASK
        self.runtime = Runtime(
            engine, lambda: engine.now, settings.pop("latency", 0.3), lambda: self.wanted,
            **settings,
        )  # fmt: skip
        self.published: list[tuple[float, ActionChunk]] = []

    def position(self, now: float) -> np.ndarray:
        for at, chunk in reversed(self.published):
            if at <= now:
                return chunking.sample(chunk, np.array([now]))[0]
        return np.zeros(2)

    def see(self, task: str | None = None, **changes) -> Observation:
        now = changes.pop("stamp", self.engine.now)
        state = changes.pop("state", self.position(now))
        return Observation({}, state, task or self.wanted, {"joint_states": now})

    def step(self, **changes) -> ActionChunk | None:
        chunk = self.runtime.step(self.see(**changes))
        if chunk is not None:
            self.published.append((self.engine.now, chunk))
        return chunk

    def run(self, seconds: float) -> None:
        while self.engine.now < seconds:
            self.step()
            self.engine.now += self.runtime.due(self.engine.now)

    def starved(self) -> float:
        pairs = zip(self.published, self.published[1:], strict=False)
        return sum(max(0.0, b[0] - chunking.end_of(a[1])) for a, b in pairs)


@given(share=st.floats(0.01, 0.95), guided=st.booleans(), jitter=st.floats(0.0, 0.5))
@settings(max_examples=60, deadline=None)
def test_the_arm_never_runs_dry_while_inference_takes_less_than_a_chunk(
    share, guided, jitter
) -> None:
    longest = share * ROWS * DT
    rng = np.random.default_rng(0)
    engine = Line(lambda _: longest * (1.0 - jitter * rng.random()), guided=guided)
    cell = Cell(engine, latency=longest)
    cell.run(20.0)
    stats = cell.runtime.stats()
    assert cell.starved() == stats["starved_s"] == stats["starved_ticks"] == 0
    assert stats["dropped"] == 0
    # And it moves all along, at the pace and no faster than that and a join allow.
    times = np.arange(cell.published[0][0] + 0.4, 20.0, DT)
    steps = np.diff([cell.position(t)[0] for t in times]) / DT
    assert steps.min() > 0.0
    assert steps.max() < SPEED + 1.6 * 0.04 / (10 * DT)


@given(share=st.floats(0.05, 0.9))
@settings(max_examples=30, deadline=None)
def test_set_points_never_jump_from_chunk_to_chunk(share) -> None:
    cell = Cell(Line(lambda _: share * ROWS * DT), latency=share * ROWS * DT)
    cell.run(10.0)
    for (_, old), (at, new) in zip(cell.published, cell.published[1:], strict=False):
        apart = chunking.sample(old, np.array([at])) - chunking.sample(new, np.array([at]))
        assert np.abs(apart).max() < 1e-3  # rows are straight in between
    assert cell.runtime.stats()["seam_dq/max"] < 1.6 * 0.04 / 10


def test_where_inference_is_slow_motion_is_slowed_and_said_to_be() -> None:
    fast, slow = Cell(Line(lambda _: 0.2), latency=0.2), Cell(Line(lambda _: 1.3), latency=1.3)
    for cell in (fast, slow):
        cell.run(15.0)
    assert fast.runtime.pace == 1.0
    assert fast.runtime.warning == ""
    assert 0.3 < slow.runtime.pace < 0.6
    assert "inference takes 1.30 s and a chunk lasts 1.63 s" in slow.runtime.warning
    assert slow.published[-1][1].dt == pytest.approx(DT / slow.runtime.pace)
    way = slow.position(14.0) - slow.position(6.0)
    assert way[0] == pytest.approx(8.0 * SPEED * slow.runtime.pace, rel=0.1)


def test_slower_than_the_slowest_pace_it_does_not_get_and_says_that_it_stands_still() -> None:
    cell = Cell(Line(lambda _: 4.0), latency=4.0, slowest_pace=0.5)
    cell.run(30.0)
    assert cell.runtime.pace == 0.5
    assert "standstill between chunks" in cell.runtime.warning
    stats = cell.runtime.stats()
    assert stats["starved_s"] == pytest.approx(cell.starved())
    assert stats["starved_s"] > 1.0
    # Each motion begins at rest, where the arm is, and not further on in the chunk.
    for at, chunk in cell.published:
        assert np.abs(
            chunking.sample(chunk, np.array([at]))[0] - cell.position(at - 1e-6)
        ).max() < (1e-6)


def test_one_slow_inference_slows_the_next_ones_for_a_while() -> None:
    cell = Cell(Line(lambda count: 1.2 if count == 5 else 0.2), latency=0.2)
    cell.run(6.0)
    assert cell.runtime.pace < 1.0
    cell.run(25.0)
    assert cell.runtime.pace == 1.0
    assert cell.starved() == 0.0


def test_the_first_motion_starts_at_its_first_row_when_it_arrives() -> None:
    cell = Cell(Line(lambda _: 0.5, beside=0.0))
    chunk = cell.step(stamp=0.0, state=np.array([0.1, -0.2]))
    assert chunk.stamp == 0.0
    np.testing.assert_allclose(chunking.sample(chunk, np.array([0.5]))[0], [0.1, -0.2])
    assert chunking.end_of(chunk) == pytest.approx(0.5 + (ROWS - 1) * DT, abs=2 * DT)


def test_the_engine_is_guided_along_what_was_published() -> None:
    cell = Cell(Line(lambda _: 0.3, guided=True), latency=0.3)
    cell.run(2.0)
    assert cell.engine.guides[0] is None  # nothing to go on from
    before, seen = cell.published[-1][1], cell.engine.now
    cell.step()
    guide = cell.engine.guides[-1]
    times = seen + DT * np.arange(len(guide.positions))
    np.testing.assert_allclose(guide.positions, chunking.sample(before, times))
    assert times[-1] <= chunking.end_of(before)
    assert guide.committed * DT >= 0.3
    assert guide.horizon == guide.committed + 10


def test_guidance_can_be_left_out() -> None:
    cell = Cell(Line(guided=True), guided=False)
    cell.run(3.0)
    assert set(cell.engine.guides) == {None}


def test_a_new_instruction_is_guided_by_nothing_but_what_passes_anyway() -> None:
    cell = Cell(Line(lambda _: 0.3, guided=True), latency=0.3)
    cell.run(2.0)
    cell.wanted = "go back"
    chunk = cell.step()
    guide = cell.engine.guides[-1]
    assert guide.horizon == guide.committed
    # The old way is left as soon as the chunk is there, as softly as in any join.
    steps = np.diff(chunk.positions[:, 0]) / chunk.dt
    passed = int((cell.engine.now - chunk.stamp) / chunk.dt) + 1
    assert (steps[:passed] > 0).all()
    np.testing.assert_allclose(steps[passed + int(CHANGE_WITHIN / chunk.dt) + 1 :], -SPEED)


def test_an_answer_to_what_is_no_longer_wanted_is_dropped_and_counted() -> None:
    cell = Cell(Line())
    cell.run(1.0)
    count = len(cell.published)
    cell.engine.meanwhile = lambda: setattr(cell, "wanted", "")
    assert cell.step(task=TASK) is None
    stats = cell.runtime.stats()
    assert (stats["dropped"], stats["dropped/instruction"]) == (1, 1)
    assert TASK in stats["dropped_last"]
    assert len(cell.published) == count


def test_an_answer_that_is_not_finite_is_dropped_and_the_next_one_is_not() -> None:
    cell = Cell(Line())
    cell.run(1.0)
    cell.engine.spoil = True
    assert cell.step() is None
    assert cell.runtime.stats()["dropped/output"] == 1
    assert "not finite" in cell.runtime.stats()["dropped_last"]
    cell.engine.spoil = False
    assert cell.step() is not None
    assert cell.runtime.stats()["dropped_last"] == ""


def test_a_chunk_that_comes_too_late_is_dropped_and_the_next_is_paced_for_it() -> None:
    cell = Cell(Line(lambda count: 1.6 if count == 4 else 0.2), latency=0.2)
    while cell.engine.count < 4:
        cell.step()
    assert cell.step() is None
    assert cell.runtime.stats()["dropped/late"] == 1
    assert (
        "came 1.60 s after its observation; 1 of 50 rows left"
        in (cell.runtime.stats()["dropped_last"])
    )
    assert cell.step() is not None
    assert cell.runtime.stats()["starved_s"] == pytest.approx(cell.starved())


def test_holding_comes_to_rest_on_the_path_and_drops_what_is_under_way() -> None:
    cell = Cell(Line())
    cell.run(2.0)
    held: list[ActionChunk] = []
    cell.engine.meanwhile = lambda: held.append(cell.runtime.hold_chunk(cell.engine.now))
    assert cell.step() is None
    assert cell.runtime.stats()["dropped/held"] == 1
    (stop,) = held
    path = cell.published[-1][1]
    np.testing.assert_allclose(stop.positions[0], cell.position(stop.stamp))
    last = chunking.sample(path, np.array([stop.stamp + REST_WITHIN / 2]))[0]
    np.testing.assert_allclose(stop.positions[-1], last)
    # Standing still was meant: it is no starvation, and motion starts anew from there.
    cell.published.append((stop.stamp, stop))
    cell.engine.meanwhile = lambda: None
    cell.engine.now += 5.0
    chunk = cell.step()
    np.testing.assert_allclose(chunking.sample(chunk, np.array([cell.engine.now]))[0], last)
    assert cell.runtime.stats()["starved_s"] == 0.0


def test_there_is_nothing_to_hold_before_the_first_chunk_nor_after_rest() -> None:
    cell = Cell(Line())
    assert cell.runtime.hold_chunk(0.0) is None
    cell.step()
    assert cell.runtime.hold_chunk(60.0) is None


def test_what_was_forgotten_is_joined_to_no_more() -> None:
    cell = Cell(Line(guided=True))
    cell.run(2.0)
    cell.runtime.forget()
    chunk = cell.step(state=np.array([0.9, 0.9]))
    assert cell.engine.guides[-1] is None
    np.testing.assert_allclose(chunking.sample(chunk, np.array([cell.engine.now]))[0], [0.9, 0.9])


def test_an_arm_that_does_not_follow_is_started_from_where_it_is() -> None:
    cell = Cell(Line(guided=True), tolerance=0.2)
    cell.run(2.0)
    behind = cell.position(cell.engine.now) - 0.25
    chunk = cell.step(state=behind)
    assert cell.engine.guides[-1] is None
    np.testing.assert_allclose(chunking.sample(chunk, np.array([cell.engine.now]))[0], behind)


def test_a_clock_that_was_set_back_starts_anew() -> None:
    cell = Cell(Line())
    cell.run(5.0)
    cell.engine.now = 1.0
    assert cell.runtime.due(1.0) <= 0.4
    chunk = cell.step(state=np.array([0.5, 0.5]))
    assert chunk.stamp == 1.0
    np.testing.assert_allclose(chunk.positions[0], [0.5, 0.5])


def test_observations_come_by_the_period_and_sooner_where_the_chunk_would_end() -> None:
    cell = Cell(Line(lambda _: 0.1), latency=0.1, period=0.4)
    cell.step()
    assert cell.runtime.due(cell.engine.now) == pytest.approx(0.3)
    lazy = Cell(Line(lambda _: 0.1), latency=0.1, period=10.0)
    lazy.run(20.0)
    assert lazy.starved() == 0.0
    assert len(lazy.published) > 10


def test_a_policy_without_state_starts_at_once() -> None:
    class Blind(Line):
        def infer(self, observation, guide=None):
            seen = Observation({}, np.zeros(2), observation.instruction, observation.stamps)
            return super().infer(seen, guide)

    cell = Cell(Blind(lambda _: 0.3, beside=0.0))
    chunk = cell.step(state=np.zeros(0))
    assert len(chunk.positions) == ROWS
    np.testing.assert_allclose(chunk.positions[:, 0], SPEED * DT * np.arange(ROWS))


def test_the_statistics_say_how_long_inference_takes() -> None:
    cell = Cell(Line(lambda count: 0.2 + 0.1 * (count == 3)))
    cell.run(5.0)
    stats = cell.runtime.stats()
    assert stats["inference_s/p50"] == pytest.approx(0.2)
    assert stats["inference_s/max"] == pytest.approx(0.3)
    assert stats["chunks"] == len(cell.published)
    assert stats["delay_rows"] == 7
