"""The keeper's thread on an emulated bus: set-points through, losses and torque without a jump."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from feetech_bus import (
    GOAL,
    OFFSET,
    OVERLOAD,
    STATUS,
    SYNC_READ,
    TEMPERATURE,
    TICKS,
    TORQUE,
    magnitude,
)  # fmt: skip

from smolvla_ros.arm.watchdog import Mode, Watchdog

VELOCITY, OVER = 2.0, 0.05  # rad/s, s: a tick may be 0.1 rad
STEP = VELOCITY * OVER + 1.0 / TICKS
WAY = np.array([1.0, 1.0, 1.0, -1.0, 1.0, 1.0])  # where every joint has room


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


class Kept:
    """A keeper on the bench's arm."""

    def __init__(self, bench, torque: bool = True, arm=None):
        from smolvla_ros.arm.keeper import Keeper

        self.bench = bench
        self.arm = arm or bench.make()
        self.watchdog = Watchdog(
            np.full(6, VELOCITY), timeout=1.0, takeover=0.15, resolution=self.arm.resolution
        )
        self.states: list[np.ndarray] = []
        self.said: list[str] = []
        self.failures: list[BaseException] = []
        self.keeper = Keeper(
            self.arm, self.watchdog, rate=50.0, lost_after=1.0, torque=torque,
            heard=lambda ago, q, *_: self.states.append(q),
            say=self.said.append, failed=self.failures.append,
        )  # fmt: skip

    def __enter__(self) -> Kept:
        self.arm.connect()
        self.keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.keeper.close()
        assert not self.failures

    def at(self, q: np.ndarray) -> bool:
        return bool(np.abs(self.bench.plant.q - q).max() < 3 / TICKS)

    def steps(self) -> float:
        """rad between two goals that a servo got one after the other, at most."""
        rows = np.array([[row[i] for i in range(1, 7)] for _, row in self.bench.bus.goals])
        return float(np.abs(np.diff(rows, axis=0)).max() / TICKS)


@pytest.fixture
def kept(bench):
    with Kept(bench) as made:
        yield made


def test_set_points_reach_the_servos_in_steps_of_a_tick(kept) -> None:
    for i in range(1, 6):
        goal = kept.bench.ready + 0.1 * i * WAY
        kept.keeper.offer(goal, OVER)
        wait_for(partial(kept.at, goal), "the arm is there")
    assert kept.watchdog.mode is Mode.FOLLOWING and kept.states
    wait_for(lambda: np.abs(kept.states[-1] - goal).max() < 0.01, "it is seen")
    assert kept.steps() <= STEP


def test_set_points_that_are_lost_on_the_line_are_not_made_good_in_one_step(kept) -> None:
    kept.bench.bus.faults.corrupt_in, kept.bench.bus.faults.corrupt = 0.2, 0.01
    began = time.monotonic()
    while kept.watchdog.lost < 5:
        assert time.monotonic() < began + 60.0
        way = 0.5 - abs(VELOCITY * (time.monotonic() - began) % 1.0 - 0.5)  # there and back
        kept.keeper.offer(kept.bench.ready + way * WAY, OVER)
        time.sleep(OVER / 2)
    goal = kept.bench.ready + 0.25 * WAY

    def arrived() -> bool:
        kept.keeper.offer(goal, OVER)
        return kept.at(goal)

    wait_for(arrived, "the arm is there")
    assert kept.steps() <= STEP


def test_set_points_that_are_far_off_do_not_move_it(kept) -> None:
    kept.keeper.offer(kept.bench.ready + 0.5 * WAY, OVER)
    wait_for(lambda: kept.keeper.report.away > 0.4, "it says so")
    assert kept.at(kept.bench.ready)


def test_silence_holds(kept) -> None:
    goal = kept.bench.ready + 0.1 * WAY
    kept.keeper.offer(goal, OVER)
    wait_for(lambda: kept.at(goal), "the arm is there")
    wait_for(lambda: kept.watchdog.timeouts == 1, "it holds")
    assert kept.watchdog.mode is Mode.HOLDING
    assert kept.at(goal) and all(kept.bench.bus.torque().values())


def test_a_lost_bus_is_found_again_and_what_was_sent_meanwhile_does_not_move_it(kept) -> None:
    held = kept.bench.ready + 0.1 * WAY
    kept.keeper.offer(held, OVER)
    wait_for(lambda: kept.at(held), "the arm is there")
    kept.bench.bus.unplug()
    wait_for(lambda: kept.keeper.report.mode is Mode.LOST, "it is lost")
    wait_for(lambda: "no such device" in kept.keeper.report.trouble, "why")
    assert any(words.startswith("the arm is lost: ") for words in kept.said)
    kept.keeper.offer(held + 0.5 * WAY, OVER)
    kept.bench.bus.plug()
    wait_for(lambda: kept.keeper.report.mode is Mode.HOLDING, "it is back")
    kept.keeper.offer(held + 0.5 * WAY, OVER)
    wait_for(lambda: kept.keeper.report.away > 0.4, "it says so")
    assert kept.at(held) and kept.keeper.report.losses == 1
    kept.keeper.offer(held + 0.1 * WAY, OVER)
    wait_for(lambda: kept.at(held + 0.1 * WAY), "it follows")
    assert kept.steps() <= STEP


def test_torque_goes_and_comes_where_the_arm_is_by_then(kept) -> None:
    assert kept.keeper.set_torque(False, 60.0) == ""
    assert not any(kept.bench.bus.torque().values())
    kept.keeper.offer(kept.bench.ready + 0.1 * WAY, OVER)
    kept.bench.plant.q = by_hand = kept.bench.ready + np.array([0.3, 0.2, -0.2, -0.3, 0.5, 0.2])
    wait_for(lambda: np.abs(kept.states[-1] - by_hand).max() < 0.01, "it is seen")
    assert kept.at(by_hand)
    assert kept.keeper.set_torque(True, 60.0) == ""
    assert all(kept.bench.bus.torque().values()) and kept.at(by_hand)
    assert kept.keeper.report.mode is Mode.HOLDING


def test_servos_that_lost_their_power_wait_for_somebody_to_ask(kept) -> None:
    kept.bench.bus.lose_power()
    wait_for(lambda: kept.keeper.report.mode is Mode.OFF, "it is noticed")
    assert any("torque went off by itself" in words for words in kept.said)
    kept.keeper.offer(kept.bench.ready + 0.1 * WAY, OVER)
    time.sleep(0.3)
    assert not any(kept.bench.bus.torque().values())
    assert kept.keeper.set_torque(True, 60.0) == ""
    assert kept.at(kept.bench.ready)


def test_torque_that_comes_back_by_itself_is_held_and_followed(kept) -> None:
    kept.bench.bus.lose_power()
    wait_for(lambda: kept.keeper.report.mode is Mode.OFF, "it is noticed")
    for servo, q in zip(kept.bench.bus.servos, kept.bench.ready, strict=True):
        servo.put(GOAL, 2, magnitude(round(servo.zero + q * TICKS), 15))
        servo.put(TORQUE, 1, 1)
    wait_for(lambda: kept.keeper.report.mode is Mode.HOLDING, "that too")
    assert kept.keeper.report.torque and not kept.keeper.report.limp
    goal = kept.bench.ready + 0.1 * WAY
    kept.keeper.offer(goal, OVER)
    wait_for(lambda: kept.at(goal), "the arm is there")


def test_what_was_asked_of_a_silent_arm_and_given_up_is_not_done_later(kept) -> None:
    kept.bench.bus.faults.dead = set(range(1, 7))
    time.sleep(0.1)
    assert kept.keeper.set_torque(False, 0.2) == "no answer within 0.2 s; it is not done any more"
    kept.bench.bus.faults.dead = set()
    reads = kept.keeper.report.reads
    wait_for(lambda: kept.keeper.report.reads > reads + 20, "it reads again")
    assert all(kept.bench.bus.torque().values())
    assert kept.keeper.report.mode is Mode.HOLDING


def test_what_takes_long_is_said_to_be_under_way_and_comes_to_its_end(kept) -> None:
    assert kept.keeper.set_torque(False, 60.0) == ""
    until = time.monotonic() + 60.0
    while "under way" not in (said := kept.keeper.set_torque(True, 0.05)):
        assert "not done" in said and not any(kept.bench.bus.torque().values())
        assert time.monotonic() < until
    assert said.startswith("still under way after 0.05 s: the arm may yet take its torque")
    wait_for(lambda: kept.keeper.report.mode is Mode.HOLDING, "it holds")
    assert all(kept.bench.bus.torque().values())


def test_an_arm_may_be_watched_without_torque(bench) -> None:
    with Kept(bench, torque=False) as kept:
        wait_for(lambda: len(kept.states) > 3, "states")
        assert not any(bench.bus.torque().values()) and not bench.bus.goals
        assert kept.keeper.report.mode is Mode.OFF


def test_an_arm_that_has_given_way_under_an_alarm_does_not_leap_back(kept) -> None:
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=75)
    wait_for(lambda: kept.keeper.report.alarms, "the alarm is seen")
    fallen = kept.bench.ready + np.array([0.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    kept.bench.plant.q = fallen.copy()
    wait_for(lambda: any("given way" in words for words in kept.said), "it is held there")
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=40)
    wait_for(lambda: not kept.keeper.report.alarms, "it has cooled down")
    assert np.abs(kept.bench.plant.q - fallen).max() < 0.02
    assert kept.watchdog.mode is Mode.HOLDING


SUNK = np.array([0.0, 0.5, 0.0, 0.0, 0.0, 0.0])


def is_guarded_and_does_not_leap(kept) -> None:
    """The arm has sunk under a motor that is too hot; it cools down."""
    sunk = kept.bench.plant.q.copy()
    wait_for(lambda: any("given way" in words for words in kept.said), "it is held there")
    assert kept.keeper.report.alarms == ["shoulder_lift: over-temperature"]
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=40)
    assert np.abs(kept.bench.plant.q - sunk).max() < 0.02
    wait_for(lambda: not kept.keeper.report.alarms, "it has cooled down")
    assert kept.watchdog.mode is Mode.HOLDING
    assert np.abs(kept.bench.plant.q - sunk).max() < 0.02


def test_a_held_arm_that_has_sunk_while_it_was_lost_is_guarded_and_does_not_leap(kept) -> None:
    kept.bench.bus.unplug()
    wait_for(lambda: kept.keeper.report.mode is Mode.LOST, "it is lost")
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=75)
    kept.bench.plant.q = kept.bench.ready + SUNK
    kept.bench.bus.plug()
    wait_for(lambda: kept.keeper.report.mode is Mode.HOLDING, "it is back")
    assert kept.keeper.report.alarms, "known at once: it may cool down at any moment"
    is_guarded_and_does_not_leap(kept)


def test_a_driver_that_begins_with_a_held_arm_that_has_sunk_guards_it_too(bench) -> None:
    with Kept(bench):
        pass
    bench.bus.raise_alarm("shoulder_lift", temperature=75)
    bench.plant.q = bench.ready + SUNK
    with Kept(bench) as kept:
        is_guarded_and_does_not_leap(kept)


@pytest.mark.parametrize(("odd", "gives_way"), [(2, False), (3, True)])
def test_an_arm_has_given_way_when_it_is_seen_three_times_in_a_row(kept, odd, gives_way) -> None:
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=75)
    wait_for(lambda: kept.keeper.report.alarms, "the alarm is seen")
    read, left = kept.arm.read, iter(range(odd))

    def seen():
        q, v, e = read()
        return q + (SUNK if next(left, None) is not None else 0.0), v, e

    goals, states = len(kept.bench.bus.goals), len(kept.states)
    kept.arm.read = seen
    wait_for(lambda: len(kept.states) > states + 10, "reads go on")
    assert any("given way" in words for words in kept.said) == gives_way
    sent = np.array([row[2] for _, row in kept.bench.bus.goals[goals:]]) / TICKS
    assert (np.ptp(sent) > 0.4) == gives_way


def test_a_hot_motor_is_guarded_though_another_is_limp(kept) -> None:
    kept.bench.bus.servo("gripper").lose_power()
    wait_for(lambda: kept.keeper.report.limp == ["gripper"], "it is noticed")
    kept.bench.bus.servo("gripper").eager = True
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=75)
    wait_for(lambda: kept.keeper.report.alarms, "the alarm is seen")
    kept.bench.plant.q = sunk = kept.bench.ready + SUNK
    wait_for(lambda: any("given way" in words for words in kept.said), "it is held there")
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=40)
    time.sleep(0.2)
    assert np.abs(kept.bench.plant.q - sunk).max() < 0.02
    held = [joint for joint, on in kept.bench.bus.torque().items() if on]
    assert "gripper" not in held and len(held) == 5


def test_a_motor_that_is_too_hot_for_a_moment_leaps_no_further_than_set_points_may(kept) -> None:
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=71)
    for _ in range(40):  # it sinks for 0.8 s
        kept.bench.plant.q = kept.bench.plant.q + SUNK / 40
        time.sleep(0.02)
    low = kept.bench.plant.q.copy()
    wait_for(lambda: np.abs(kept.watchdog.written - low).max() < 0.16, "it is held about there")
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=69)
    time.sleep(0.1)
    assert np.abs(kept.bench.plant.q - low).max() < 0.2


def test_an_arm_that_has_given_way_and_then_lost_its_power_gets_no_goal(kept) -> None:
    for servo in kept.bench.bus.servos:
        servo.eager = True
    kept.bench.bus.raise_alarm("shoulder_lift", temperature=75)
    wait_for(lambda: kept.keeper.report.alarms, "the alarm is seen")
    kept.bench.bus.lose_power(start=0.05)
    kept.bench.plant.q = fallen = kept.bench.ready + SUNK - 0.3 * WAY
    wait_for(lambda: kept.keeper.report.mode is Mode.OFF, "it is noticed")
    time.sleep(0.3)
    np.testing.assert_array_equal(kept.bench.plant.q, fallen)
    assert not any(kept.bench.bus.torque().values())


@pytest.mark.parametrize("asked", [STATUS, GOAL, TORQUE])
def test_servos_that_lose_their_power_while_the_arm_is_taken_up_are_sent_nowhere(
    kept, asked
) -> None:
    """Started again, they say that they were sent to tick 0."""
    for servo in kept.bench.bus.servos:
        servo.eager = True
    kept.bench.bus.unplug()
    wait_for(lambda: kept.keeper.report.mode is Mode.LOST, "it is lost")
    obey, fallen = kept.bench.bus._obey, kept.bench.ready + SUNK

    def flickers(identity, instruction, parameters):
        if instruction == SYNC_READ and parameters[0] == asked:
            kept.bench.bus._obey = obey
            kept.bench.bus.lose_power(start=0.15)
            kept.bench.plant.q = fallen
        return obey(identity, instruction, parameters)

    kept.bench.bus._obey = flickers
    goals = len(kept.bench.bus.goals)
    kept.bench.bus.plug()
    wait_for(lambda: kept.keeper.report.mode is Mode.OFF, "it is back")
    time.sleep(0.3)
    assert len(kept.bench.bus.goals) == goals
    np.testing.assert_array_equal(kept.bench.plant.q, fallen)


def test_a_robot_whose_torque_nobody_can_switch_stays_where_it_was_sent(bench) -> None:
    arm, robot = bench.plain()
    robot.sag = 3.0  # degrees: what it measures is not where it was sent
    with Kept(bench, arm=arm) as kept:
        goal = kept.watchdog.written + 0.05 * WAY
        kept.keeper.offer(goal, OVER)
        wait_for(lambda: (kept.watchdog.written == goal).all(), "it is sent")
        for _ in range(3):
            said = kept.keeper.set_torque(False, patience=60.0)
            assert said == "plain: LeRobot has no way to set its torque"
        np.testing.assert_array_equal(kept.watchdog.written, goal)


def test_torque_that_went_off_was_a_success_whatever_comes_after_it(kept) -> None:
    relax = kept.arm._buses[""].relax

    def relax_and_fall_silent():
        relax()
        kept.bench.bus.faults.dead = set(range(1, 7))

    kept.arm._buses[""].relax = relax_and_fall_silent
    assert kept.keeper.set_torque(False, patience=60.0) == ""
    assert not any(kept.bench.bus.torque().values())


@pytest.mark.parametrize("error", [SystemExit, KeyError])
def test_what_ends_the_thread_is_told_and_so_is_who_waits_for_it(kept, error) -> None:
    def fails(*_):
        raise error("a maker's own")

    kept.arm.set_torque = fails
    assert kept.keeper.set_torque(False, 60.0).startswith("the driver failed: ")
    wait_for(lambda: kept.failures, "it is told")
    assert isinstance(kept.failures.pop(), error)


class Following:
    """A gate that sends where the arm is, again and again."""

    def __init__(self, kept):
        self._kept, self._ends = kept, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ends.wait(0.01):
            self._kept.keeper.offer(self._kept.bench.ready, OVER)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()


def test_servos_that_start_again_while_they_are_followed_get_no_goal_until_somebody_asks(
    kept,
) -> None:
    """Some take torque with a goal, wherever the arm has fallen to by then."""
    for servo in kept.bench.bus.servos:
        servo.eager = True
    with Following(kept):
        wait_for(lambda: kept.watchdog.mode is Mode.FOLLOWING, "it follows")
        kept.bench.bus.lose_power(start=0.2)
        kept.bench.plant.q = fallen = kept.bench.ready + SUNK
        wait_for(lambda: kept.keeper.report.mode is Mode.OFF, "it is noticed")
        time.sleep(0.3)
        assert not any(kept.bench.bus.torque().values())
    np.testing.assert_array_equal(kept.bench.plant.q, fallen)
    assert kept.keeper.report.losses == 0, "it was not even lost"
    assert any("torque went off by itself" in words for words in kept.said)


def test_set_points_beyond_the_motors_range_are_followed_to_its_end(bench) -> None:
    end = bench.make().reach()["elbow_flex"][1]
    bench.plant.q[2] = end - 0.05
    with Kept(bench) as kept:
        beyond = bench.plant.q.copy()
        beyond[2] = end + 0.1
        kept.keeper.offer(beyond, OVER)
        wait_for(lambda: kept.watchdog.written[2] == end, "it is there")
        writes = kept.keeper.report.writes
        wait_for(lambda: kept.keeper.report.writes > writes + 3, "and is kept there")
        assert kept.watchdog.written[2] == end and kept.watchdog.lost == 0


def test_torque_goes_off_where_one_motor_is_silent_and_the_answer_says_which(kept) -> None:
    kept.bench.bus.faults.dead = {3}
    said = kept.keeper.set_torque(False, patience=60.0)
    assert "motor elbow_flex (id 3): does not say that it let go" in said
    assert "; shoulder_pan, shoulder_lift, wrist_flex, wrist_roll, gripper did" in said
    held = [joint for joint, on in kept.bench.bus.torque().items() if on]
    assert held == ["elbow_flex"]


def test_torque_goes_off_while_the_arm_is_lost(kept) -> None:
    kept.bench.bus.faults.dead = {3}
    wait_for(lambda: kept.keeper.report.mode is Mode.LOST, "it is lost")
    assert kept.keeper.set_torque(True, 60.0).startswith("the arm does not answer: ")
    assert "elbow_flex (id 3): does not say" in kept.keeper.set_torque(False, patience=60.0)
    held = [joint for joint, on in kept.bench.bus.torque().items() if on]
    assert held == ["elbow_flex"] and kept.keeper.report.mode is Mode.LOST
    # It answers again, and is not this arm: none that could be used, but let go of.
    kept.bench.bus.servo("gripper").put(OFFSET, 2, 7)
    kept.bench.bus.faults.dead = set()
    wait_for(lambda: "another arm" in kept.keeper.report.trouble, "why")
    assert kept.keeper.set_torque(False, patience=60.0) == ""
    assert not any(kept.bench.bus.torque().values())
    assert kept.keeper.report.mode is Mode.LOST and not kept.keeper.report.torque


def test_torque_that_stays_on_is_said(kept) -> None:
    stubborn = kept.bench.bus.servo("wrist_flex")
    write = stubborn.write
    stubborn.write = lambda address, data: None if address == TORQUE else write(address, data)
    said = kept.keeper.set_torque(False, patience=60.0)
    assert "motor wrist_flex (id 4): keeps its torque; shoulder_pan, " in said
    assert [j for j, on in kept.bench.bus.torque().items() if on] == ["wrist_flex"]


def test_looks_at_the_motors_health_keep_no_joint_state_waiting(kept) -> None:
    obey = kept.bench.bus._obey

    def deaf(identity, instruction, parameters):
        health = instruction == SYNC_READ and parameters[0] in (TORQUE, TEMPERATURE, STATUS)
        return b"" if health else obey(identity, instruction, parameters)

    kept.bench.bus._obey = deaf
    errors, seen = kept.arm.errors["read"], len(kept.states)
    wait_for(lambda: kept.arm.errors["read"] > errors + 4, "they are counted")
    wait_for(lambda: len(kept.states) > seen + 15, "and joint states go on")
    assert kept.keeper.report.losses == 0


@pytest.mark.parametrize("motor", ["shoulder_pan", "elbow_flex"])
def test_torque_goes_off_whatever_a_motor_complains_of(kept, motor) -> None:
    kept.bench.bus.raise_alarm(motor, bits=OVERLOAD)
    assert kept.keeper.set_torque(False, patience=60.0) == ""
    assert not any(kept.bench.bus.torque().values())


def test_a_gripper_that_is_overloaded_goes_on_gripping_and_no_other_joint_gives_way(kept) -> None:
    """An object keeps it open: its goal is far inside, and must stay there."""
    goal = kept.bench.ready.copy()
    goal[5] -= 0.1
    kept.keeper.offer(goal, OVER)
    wait_for(lambda: kept.at(goal), "it grips")
    kept.bench.bus.raise_alarm("gripper", bits=OVERLOAD)
    wait_for(lambda: kept.keeper.report.alarms, "the alarm is seen")
    kept.bench.plant.q = kept.bench.ready + np.array([0.0, 0.1, 0.0, 0.0, 0.0, 0.4])
    before, seen = kept.watchdog.written.copy(), len(kept.states)
    wait_for(lambda: len(kept.states) > seen + 30, "reads go on")
    np.testing.assert_array_equal(kept.watchdog.written, before)
    assert not any("given way" in words for words in kept.said)
