"""Goals of an action on the shipped cell: carried out, ended, and what they say of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from cells import TABLETOP, Run
from oracle import Oracle
from scipy.interpolate import BPoly
from trial import Trial, write_cell
from turret import CONTACTS, TURRET

from smolvla_ros.cell import SourceConfig
from smolvla_ros.safety import Refused, State
from smolvla_ros.safety.command import MAX_POINTS
from smolvla_ros.safety.goal import (
    End,
    ErrorCode,
    Execution,
    Goal,
    on_the_arms_turn,
    read_tolerance,
    refused,
    with_derivatives,
)
from smolvla_ros.safety.offline import Line, Replay

PAN = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
LIFT = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
SOURCES = {
    "policy": SourceConfig(topic="policy", priority=0),
    "moveit": SourceConfig(
        topic="follow",
        type="FollowJointTrajectory",
        priority=5,
        timeout=1.0,
        missing_joints="hold",
    ),
    "teleop": SourceConfig(topic="teleop", priority=10, timeout=0.3),
}


@pytest.fixture(scope="module")
def oracle():
    return Oracle(TABLETOP)


class Cell(Run):
    """A gate, and a client of an action beside it."""

    def __init__(self, **changes):
        super().__init__(sources=SOURCES, **changes)
        self.enable()

    def goal(self, way=PAN, far=0.5, seconds=2.0, names=None, path=0.2, end=0.05, time=1.0):
        """From where the arm is, at rest at both ends."""
        names = list(self.robot.names) if names is None else names
        columns = [self.robot.names.index(n) for n in names]
        t = np.linspace(0.0, seconds, 21)
        share = 3 * (t / seconds) ** 2 - 2 * (t / seconds) ** 3
        rows = self.q[columns] + np.outer(far * share, way[columns])
        return Goal(
            names, t, rows, read_tolerance([], names, path), read_tolerance([], names, end), time
        )

    def send(self, goal):
        refusal = self.gate.offer(self.now, "moveit", None, goal.names, goal.times, goal.positions)
        assert refusal is None, refusal
        return Execution(self.gate, "moveit", goal, self.now)

    def carry_out(self, execution, seconds=6.0, stuck=()):
        """Run on to the outcome. ``stuck``: joints that do not move."""
        for _ in range(round(seconds / self.dt)):
            before = self.q
            self.ticks(1)
            for joint in stuck:
                self.q = np.where(np.arange(len(self.q)) == joint, before, self.q)
            outcome = execution.step(self.now)
            if outcome is not None:
                return outcome
        raise AssertionError("no outcome")


def test_a_goal_is_carried_out_though_its_source_says_nothing_more(oracle):
    cell = Cell()
    start = cell.q.copy()
    outcome = cell.carry_out(cell.send(cell.goal(seconds=4.0)))
    assert outcome.end is End.SUCCEEDED and outcome.code is ErrorCode.SUCCESSFUL
    assert cell.now - 100.0 == pytest.approx(4.0, abs=0.2), "at its own pace"
    np.testing.assert_allclose(cell.q, start + 0.5 * PAN, atol=1e-6)
    assert not oracle.findings(cell.stream, stops_every=100)


def test_joints_that_a_goal_leaves_out_stay_where_they_are():
    cell = Cell()
    start = cell.q.copy()
    outcome = cell.carry_out(cell.send(cell.goal(names=[cell.robot.names[0]])))
    assert outcome.end is End.SUCCEEDED
    np.testing.assert_allclose(cell.q, start + 0.5 * PAN, atol=1e-6)


def test_a_cancelled_goal_ends_once_the_arm_is_at_rest(oracle):
    cell = Cell()
    execution = cell.send(cell.goal())
    cell.ticks(100)
    assert cell.gate.motion.v[0] > 0.2
    execution.cancel()
    assert execution.step(cell.now) is None, "it still moves"
    outcome = cell.carry_out(execution)
    assert outcome.end is End.CANCELED and not cell.gate.motion.v.any()
    assert cell.gate.active_source == "moveit", "the arm is let go of by silence"
    cell.ticks(110)
    assert cell.gate.active_source == ""
    assert not oracle.findings(cell.stream, stops_every=100)


def test_a_goal_into_a_zone_is_aborted_with_what_the_gate_says(oracle):
    cell = Cell()
    outcome = cell.carry_out(cell.send(cell.goal(LIFT, far=1.5, seconds=3.0)))
    assert outcome.end is End.ABORTED and outcome.code is ErrorCode.PATH_TOLERANCE_VIOLATED
    assert "keep_out" in outcome.text and "table" in outcome.text
    cell.ticks(100)
    assert cell.gate.state is State.HOLDING and not cell.gate.motion.v.any()
    assert not oracle.findings(cell.stream, stops_every=100)


def test_a_goal_through_a_slow_zone_takes_longer_and_succeeds():
    low = Cell().q + 0.62 * LIFT
    cell = Cell(start=low)
    outcome = cell.carry_out(cell.send(cell.goal(far=0.9, seconds=1.0)))
    assert outcome.end is End.SUCCEEDED, outcome
    assert "slowed" in {o.state.value for o in cell.outputs} and cell.now - 100.0 > 1.3


def test_an_arm_that_does_not_follow_aborts_the_goal():
    cell = Cell(tracking_error=1.0, tracking_error_hard=2.0)
    outcome = cell.carry_out(cell.send(cell.goal(path=0.1)), stuck=[0])
    assert outcome.code is ErrorCode.PATH_TOLERANCE_VIOLATED
    assert outcome.text.startswith("off the path: shoulder_pan by 0.1")
    assert cell.gate.held[0] == "cancelled", "the rest of the way is not gone"


def test_an_arm_that_ends_beside_the_goal_has_missed_it_after_the_goal_time():
    cell = Cell(tracking_error=1.0, tracking_error_hard=2.0)
    goal = cell.goal(seconds=1.0, path=np.inf, time=0.3)
    outcome = cell.carry_out(cell.send(goal), stuck=[0])
    assert outcome.code is ErrorCode.GOAL_TOLERANCE_VIOLATED
    assert outcome.text.startswith("short of the goal: shoulder_pan by 0.5")
    assert cell.now - 100.0 > 1.3


def test_a_goal_keeps_the_arm_until_it_is_judged_however_long_that_takes():
    cell = Cell(tracking_error=1.0, tracking_error_hard=2.0)
    execution = cell.send(cell.goal(seconds=1.0, path=np.inf, time=3.0))
    command = (cell.robot.names, [0.0], [cell.q])

    def refusal_of_the_policy():
        before = cell.q[0]
        cell.ticks(1)
        cell.q[0] = before  # it does not come there
        return cell.gate.offer(cell.now, "policy", None, *command)

    outcome = None
    while outcome is None:
        assert refusal_of_the_policy().check == "lower_priority"
        outcome = execution.step(cell.now)
    assert outcome.text.startswith("short of the goal"), "and nobody has taken it over"
    assert cell.now - 100.0 > 1.0 + 3.0 > 1.0 + SOURCES["moveit"].timeout
    for _ in range(110):
        refusal = refusal_of_the_policy()
    assert refusal is None, "then it is free"


def test_a_tolerance_of_speed_is_judged_by_what_was_measured():
    cell = Cell(tracking_error=1.0, tracking_error_hard=2.0)
    goal = cell.goal()
    slow = read_tolerance([("shoulder_pan", -1.0, 0.1, 0.0)], goal.names, 0.2)
    outcome = cell.carry_out(cell.send(replace(goal, path=slow)), stuck=[0])
    assert outcome.code is ErrorCode.PATH_TOLERANCE_VIOLATED and "rad/s" in outcome.text


@pytest.mark.parametrize(
    ("come_between", "words"),
    [
        (lambda gate: gate.stop("somebody called"), "somebody called"),
        (lambda gate: gate.disable(), "disable"),
        (lambda gate: gate.brake("obstacles_stale", "obstacles are old"), "obstacles are old"),
    ],
)
def test_what_comes_between_is_the_reason(come_between, words):
    cell = Cell()
    execution = cell.send(cell.goal())
    cell.ticks(100)
    come_between(cell.gate)
    outcome = cell.carry_out(execution)
    assert outcome.end is End.ABORTED and outcome.code is ErrorCode.INVALID_GOAL
    assert words in outcome.text


def test_teleoperation_takes_a_goal_over_and_the_policy_waits_for_its_end(oracle):
    cell = Cell()
    names = cell.robot.names
    chunk = (names, [0.0, 1.0], [cell.q, cell.q - 0.2 * PAN])
    assert cell.gate.offer(cell.now, "policy", None, *chunk) is None
    cell.ticks(40)
    execution = cell.send(cell.goal())
    cell.ticks(60)
    assert cell.gate.active_source == "moveit"
    assert execution.step(cell.now) is None
    refusal = cell.gate.offer(cell.now, "policy", None, names, [0.0], [cell.q])
    assert refusal.check == "lower_priority"
    there = (names, [0.0, 1.0], [cell.q, cell.q + 0.2 * LIFT])
    assert cell.gate.offer(cell.now, "teleop", None, *there) is None
    outcome = cell.carry_out(execution)
    assert outcome.end is End.ABORTED and "teleop has taken the arm over" in outcome.text
    cell.ticks(200)
    assert cell.gate.active_source == ""
    again = (names, [0.0, 1.0], [cell.q, cell.q - 0.1 * PAN])
    assert cell.gate.offer(cell.now, "policy", None, *again) is None
    cell.ticks(150)
    assert not oracle.findings(cell.stream, stops_every=100), "no jump at any hand-over"


def test_the_policy_gets_the_arm_back_once_a_goal_is_done():
    cell = Cell()
    assert cell.carry_out(cell.send(cell.goal())).end is End.SUCCEEDED
    command = (cell.robot.names, [0.0], [cell.q])
    assert cell.gate.offer(cell.now, "policy", None, *command).check == "lower_priority"
    cell.ticks(110)
    assert cell.gate.offer(cell.now, "policy", None, *command) is None


def test_a_newer_goal_takes_over_in_mid_motion(oracle):
    cell = Cell()
    first = cell.send(cell.goal())
    cell.ticks(100)
    second = cell.send(cell.goal(far=-0.4))
    assert "newer goal" in first.replaced().text
    start = cell.q.copy()
    outcome = cell.carry_out(second)
    assert outcome.end is End.SUCCEEDED
    np.testing.assert_allclose(cell.q[0], start[0] - 0.4, atol=1e-6)
    assert not oracle.findings(cell.stream, stops_every=100)


def test_a_goal_that_begins_elsewhere_leaves_the_one_that_is_carried_out():
    cell = Cell()
    execution = cell.send(cell.goal())
    cell.ticks(50)
    for _ in range(5):
        far = cell.q + PAN
        names = cell.robot.names
        refusal = cell.gate.offer(cell.now, "moveit", None, names, [0.0, 1.0], [far, far])
        assert refused(refusal).code is ErrorCode.INVALID_GOAL and "start_pose" in str(
            refused(refusal).text
        )
        nothing = cell.gate.offer(cell.now, "moveit", None, names, [], [])
        assert nothing.check == "empty"
    assert cell.carry_out(execution).end is End.SUCCEEDED


def test_a_goal_of_one_point_is_reached_in_the_time_that_it_gives():
    cell = Cell()
    there = cell.q + 0.4 * PAN
    names = list(cell.robot.names)
    loose = read_tolerance([], names, 0.2)
    cell.carry_out(cell.send(Goal(names, [2.0], [there], loose, loose, 1.0)))
    assert cell.now - 100.0 == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize(
    ("check", "code"),
    [
        ("unknown_joint", ErrorCode.INVALID_JOINTS),
        ("missing_joint", ErrorCode.INVALID_JOINTS),
        ("too_old", ErrorCode.OLD_HEADER_TIMESTAMP),
        ("time_order", ErrorCode.INVALID_GOAL),
        ("not_enabled", ErrorCode.INVALID_GOAL),
    ],
)
def test_a_refusal_has_the_code_that_clients_know(check, code):
    outcome = refused(Refused(check, "so and so"))
    assert (outcome.end, outcome.code) == (End.ABORTED, code)
    assert outcome.text == f"{check}: so and so"


def test_tolerances_are_given_by_name_and_zero_is_the_default():
    found = read_tolerance([("b", 0.3, 0.0, 0.0), ("c", -1.0, 0.5, -1.0)], ["a", "b", "c"], 0.1)
    assert found.position.tolist() == [0.1, 0.3, np.inf]
    assert found.velocity.tolist() == [np.inf, np.inf, 0.5]


@pytest.mark.parametrize(
    ("given", "check"),
    [
        (("d", 0.1, 0.0, 0.0), "unknown_joint"),
        (("a", np.nan, 0.0, 0.0), "not_finite"),
        (("a", 0.1, 0.0, 1.0), "tolerance"),
    ],
)
def test_a_tolerance_that_cannot_be_kept_is_refused(given, check):
    with pytest.raises(Refused) as refusal:
        read_tolerance([given], ["a"], 0.1)
    assert refusal.value.check == check


NONE = [[], []]


def test_velocities_say_how_the_path_goes_between_its_points():
    times, rows = with_derivatives([0.0, 2.0], [[0.0], [1.0]], [[0.0], [0.0]], NONE)
    t = np.array(times)
    np.testing.assert_allclose(np.array(rows)[:, 0], 3 * (t / 2) ** 2 - 2 * (t / 2) ** 3)
    assert len(times) == 101
    long = np.linspace(0.0, 500.0, 300)
    rates = np.full((300, 1), 1e-3)
    times, rows = with_derivatives(long, long[:, None] * 1e-3, rates, [[]] * 300)
    assert 300 < len(times) <= MAX_POINTS and (np.diff(times) > 0).all()
    np.testing.assert_allclose(np.array(rows)[:, 0], np.array(times) * 1e-3, atol=1e-9)


def test_accelerations_say_more_of_it():
    def path(t):  # of fifth degree: three values at each end say all of it
        return np.stack([1 + 2 * t - t**3 + 0.25 * t**5, np.exp(0 * t) - t**4], axis=-1)

    ends = np.array([0.5, 2.0])
    d = [path(ends + h) for h in (-1e-4, 0.0, 1e-4)]
    velocities, accelerations = (d[2] - d[0]) / 2e-4, (d[2] - 2 * d[1] + d[0]) / 1e-8
    times, rows = with_derivatives(ends, d[1], velocities, accelerations)
    np.testing.assert_allclose(rows, path(np.array(times)), atol=1e-5)
    _, cubic = with_derivatives(ends, d[1], velocities, NONE)
    assert np.abs(np.array(cubic) - rows).max() > 0.01


def test_a_path_goes_through_many_uneven_points_with_their_derivatives():
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.uniform(0.021, 0.06, 300))
    q, v, a = rng.normal(size=(3, 300, 6))
    for more in (NONE * 150, a):
        dense, rows = with_derivatives(times, q, v, more)
        dense, rows = np.array(dense), np.array(rows)
        at = np.searchsorted(dense, times)
        np.testing.assert_allclose(rows[at], q, atol=1e-9)
        with_a = len(more[0]) > 0
        known = [q, v, a][: 2 + with_a]
        ours = BPoly.from_derivatives(times, np.stack(known, axis=1))(dense)
        np.testing.assert_allclose(rows, ours, atol=1e-8)


def test_a_plan_within_half_a_turn_is_taken_on_the_turn_on_which_the_arm_is(tmp_path):
    sources = {"moveit": replace(SOURCES["moveit"], start_tolerance=0.1)}
    cell = write_cell(tmp_path, TURRET, CONTACTS)
    there = np.array([3.5, 0.0, 0.0])
    trial = Trial(there, cell=cell, sources=sources).enable()
    names, turn = list(trial.robot.names), trial.names.index("turn")
    times = np.linspace(0.0, 1.0, 11).tolist()
    rows = np.tile(there, (11, 1))
    rows[:, turn] += 0.2 * np.array(times) ** 2 * (3 - 2 * np.array(times)) - math.tau
    any_ = read_tolerance([], names, 1.0)
    goal = Goal(names, times, rows.tolist(), any_, any_, 1.0)
    refusal = trial.say(times, goal.positions, source="moveit", stamp=None)
    assert refusal.check == "start_pose", "a gate takes numbers as they are"
    turned = on_the_arms_turn(goal, {"turn": 3.5})
    np.testing.assert_allclose(np.array(turned.positions)[[0, -1], turn], [3.5, 3.7], atol=1e-9)
    assert trial.say(times, turned.positions, source="moveit", stamp=None) is None
    trial.ticks(150)
    assert trial.q[turn] == pytest.approx(3.7, abs=1e-3)
    # What cannot be read stays as it is: the gate says why.
    for odd in ([], [[1.0]], [[np.nan] * 3, [0.0] * 3]):
        same = replace(goal, positions=odd)
        assert on_the_arms_turn(same, {"turn": 3.5}) is same
    assert on_the_arms_turn(goal, {}) is goal


def test_a_goal_that_nobody_has_any_more_ends():
    cell = Cell(tracking_error=1.0, tracking_error_hard=2.0)
    execution = cell.send(cell.goal(seconds=1.0, path=np.inf, time=np.inf))
    for _ in range(150):
        before = cell.q[0]
        cell.ticks(1)
        cell.q[0] = before
        assert execution.step(cell.now) is None
    cell.gate.disable()
    cell.gate.tick(cell.now)
    cell.gate.enable(cell.now)
    outcome = execution.step(cell.now)
    assert outcome.end is End.ABORTED and "it has lost the arm" in outcome.text


def test_a_cancel_says_who_has_the_arm_where_it_is_another():
    cell = Cell()
    execution = cell.send(cell.goal())
    cell.ticks(60)
    there = (cell.robot.names, [0.0, 1.0], [cell.q, cell.q + 0.2 * LIFT])
    assert cell.gate.offer(cell.now, "teleop", None, *there) is None
    cell.ticks(1)
    execution.cancel()
    outcome = execution.step(cell.now)
    assert (outcome.end, outcome.text) == (End.CANCELED, "cancelled; teleop has the arm")


def test_without_velocities_the_points_stay_as_they_are():
    given = ([0.0, 1.0], [[0.0], [1.0]])
    assert with_derivatives(*given, NONE, NONE) == given
    assert with_derivatives(*given, NONE, [[1.0], [1.0]]) == given


@pytest.mark.parametrize(
    ("values", "check"),
    [([[0.0], []], "wrong_length"), ([[0.0], [np.nan]], "not_finite")],
)
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_that_are_none_are_refused(order, values, check):
    zero = [[0.0], [0.0]]
    with pytest.raises(Refused) as refusal:
        with_derivatives(
            [0.0, 1.0], [[0.0], [1.0]], *((values, NONE) if order == 1 else (zero, values))
        )
    assert refusal.value.check == check


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_recorded_goal_is_carried_out_and_cancelled_again(cancelled):
    cell = Cell()
    goal = cell.goal(seconds=2.0)
    points = [
        {"t": t, "positions": row.tolist()}
        for t, row in zip(goal.times, goal.positions, strict=True)
    ]
    command = {"source": "moveit", "names": goal.names, "points": points}
    lines = [Line(0.0, {"enable": True}), Line(0.1, {"command": command})]
    # An input that says nothing, so that the run goes on.
    lines += [Line(1.0, {"cancel": "moveit"} if cancelled else {"heartbeat": True})]
    fresh = Run(sources=SOURCES)
    places = [
        o.positions[0]
        for _, o in Replay(fresh.gate, lines, start=cell.q)
        if o.positions is not None
    ]
    end = cell.q[0] + 0.5
    assert (places[-1] < end - 0.1) if cancelled else places[-1] == pytest.approx(end, abs=1e-6)
