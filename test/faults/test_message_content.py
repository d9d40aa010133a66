"""A: what a command holds. A refused message changes nothing; what is taken stays legal."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from cells import TABLETOP
from trial import PERIOD, Trial

from smolvla_ros.cell import SourceConfig, load_cell, load_robot
from smolvla_ros.schema import ConfigError

NAN, INF = math.nan, math.inf


def chunk(trial, seconds=1.2):
    t = np.arange(0.0, seconds, PERIOD)
    return t, np.tile(trial.q, (len(t), 1))


def unharmed(fault, word, bad, **how):
    """A moving arm goes on exactly as without the message, which is refused as ``word``."""
    trial, twin = Trial(**how).moving(), Trial(**how).moving()
    refusal = bad(trial)
    assert refusal is not None, "it was taken"
    assert trial.gate.refusals == {refusal.check: 1}
    for t in (trial, twin):
        t.ticks(60)
    assert np.array_equal(trial.rows, twin.rows), "a refused message changed the motion"
    fault.judge(trial, word, refusal.check)


def spoiled(row, column, value):
    def bad(trial):
        t, rows = chunk(trial)
        rows[row, column] = value
        return trial.say(t, rows, legal=False)

    return bad


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (20, 3), (-1, 5)])
def test_f01_a_a_position_that_is_not_finite(fault, value, row, column):
    unharmed(fault, "not_finite", spoiled(row, column, value))


@pytest.mark.parametrize("value", [NAN, INF])
def test_f01_b_a_time_or_stamp_that_is_not_finite(fault, value):
    def bad_time(trial):
        t, rows = chunk(trial)
        t[7] = value
        return trial.say(t, rows, legal=False)

    unharmed(fault, "not_finite", bad_time)
    unharmed(fault, "not_finite", lambda r: r.say(*chunk(r), stamp=value, legal=False))


def test_f01_c_three_in_a_row_brake(fault):
    trial = Trial().moving()
    for _ in range(3):
        assert spoiled(4, 2, NAN)(trial) is not None
        trial.ticks(3)
    assert trial.at_rest(60)
    assert trial.gate.refusals["not_finite"] == 3
    fault.judge(trial, "refused_in_a_row", trial.checks)


def test_f01_d_nothing_else_for_a_second_brakes(fault):
    trial = Trial(command_timeout=3.0)
    trial.enable()
    t = np.arange(0.0, 4.0, PERIOD)
    trial.say(t, trial.swing(t))
    trial.ticks(70)
    spoiled(4, 2, NAN)(trial)
    trial.ticks(110)
    spoiled(4, 2, NAN)(trial)
    assert trial.at_rest(60)
    fault.judge(trial, "refused_in_a_row", trial.checks)


def test_f01_e_a_good_one_between_bad_ones_goes_on(fault):
    trial = Trial().moving()
    began = trial.now - 0.7
    t = np.arange(0.0, 1.6, PERIOD)
    for _ in range(6):
        assert spoiled(4, 2, NAN)(trial) is not None
        trial.ticks(10)
        ago = trial.now - began
        assert trial.say(t, trial.swing(t + ago - 0.05), age=0.05) is None
        trial.ticks(10)
    fault.judge(trial, {"passed"}, {o.verdict.kind.value for o in trial.outputs})


@pytest.mark.parametrize("value", [1e308, -1e308, 1e9, 1001.0])
def test_f02_a_a_huge_value(fault, value):
    unharmed(fault, "out_of_range", spoiled(3, 1, value))


@pytest.mark.parametrize("value", [5e-324, -0.0, -1e-310])
def test_f02_b_denormals_and_minus_zero_are_numbers(fault, value):
    trial, twin = Trial().enable(), Trial().enable()
    t = np.arange(0.0, 1.0, PERIOD)
    for run, zero in ((trial, value), (twin, 0.0)):
        rows = run.swing(t)
        rows[:, 0] = zero
        assert run.say(t, rows) is None
        run.ticks(120)
    assert np.abs(trial.rows - twin.rows).max() < 1e-12
    fault.judge(trial, {"passed"}, {o.verdict.kind.value for o in trial.outputs})


@pytest.mark.parametrize("width", [5, 7, 0])
@pytest.mark.parametrize("where", [0, 17])
def test_f03_a_row_of_another_length(fault, width, where):
    def bad(trial):
        t, rows = chunk(trial)
        ragged = [list(r) for r in rows]
        ragged[where] = [0.1] * width
        return trial.say(t, ragged, legal=False)

    unharmed(fault, "wrong_length", bad)


def test_f03_b_times_and_rows_of_different_number(fault):
    unharmed(fault, "wrong_length", lambda r: r.say([0.1, 0.2], chunk(r)[1], legal=False))


def test_f04_a_a_missing_joint_is_refused(fault):
    def bad(trial):
        t, rows = chunk(trial)
        return trial.say(t, rows[:, :5], names=trial.names[:5], legal=False)

    unharmed(fault, "missing_joint", bad)


def test_f04_b_or_held_where_it_is_commanded_to_be(fault):
    hold = SourceConfig(topic="policy", start_tolerance=np.inf, missing_joints="hold")
    trial = Trial(sources={"policy": hold}).enable()
    t = np.arange(0.0, 1.2, PERIOD)
    keep = [0, 1, 3]
    assert trial.say(t, trial.swing(t)[:, keep], names=[trial.names[i] for i in keep]) is None
    trial.ticks(110)
    rest = [i for i in range(6) if i not in keep]
    assert np.ptp(trial.rows[:, rest], axis=0).max() == 0.0
    assert np.ptp(trial.rows[:, keep], axis=0).min() > 0.01
    fault.judge(trial, {"passed"}, {o.verdict.kind.value for o in trial.outputs})


def test_f05_a_an_unknown_joint_is_refused(fault):
    def bad(trial):
        t, rows = chunk(trial)
        more = np.hstack([rows, rows[:, :1]])
        return trial.say(t, more, names=[*trial.names, "elbow"], legal=False)

    unharmed(fault, "unknown_joint", bad)


def test_f05_b_unless_it_is_on_the_list_of_those_to_ignore(fault):
    policy = SourceConfig(topic="policy", start_tolerance=np.inf, ignore_joints=["torso"])
    trial, twin = Trial(sources={"policy": policy}).enable(), Trial().enable()
    t = np.arange(0.0, 1.2, PERIOD)
    torso = np.full((len(t), 1), 400.0)
    rows = np.hstack([torso, trial.swing(t)])
    assert trial.say(t, rows, names=["torso", *trial.names]) is None
    assert twin.say(t, twin.swing(t)) is None
    trial.ticks(110), twin.ticks(110)
    assert np.array_equal(trial.rows, twin.rows)
    fault.judge(trial, {"passed"}, {o.verdict.kind.value for o in trial.outputs})


def test_f06_the_order_of_names_does_not_matter(fault):
    rng = np.random.default_rng(6)
    sent = []
    for _ in range(4):
        trial = Trial().enable()
        order = rng.permutation(6)
        t = np.arange(0.0, 1.3, PERIOD)
        rows = trial.q + np.outer(t / 1.3, [0.3, 1.0, 0, 0, 0.5, 0.2])  # ends in the table
        assert trial.say(t, rows[:, order], names=[trial.names[i] for i in order]) is None
        trial.ticks(200)
        fault.judge(trial, "keep_out", trial.checks)
        sent.append(trial.rows)
    assert all(np.array_equal(rows, sent[0]) for rows in sent)


def test_f07_a_joint_named_twice(fault):
    def bad(trial):
        t, rows = chunk(trial)
        return trial.say(t, rows, names=[*trial.names[:5], trial.names[0]], legal=False)

    unharmed(fault, "duplicate_joint", bad)


def test_f08_a_values_without_names_need_an_order(fault):
    with pytest.raises(ConfigError) as error:
        SourceConfig(topic="policy", type="Float64MultiArray")
    fault.rejected(error.value, "joints", "order")


def test_f08_b_their_number_must_be_that_of_the_order(fault):
    unharmed(fault, "wrong_length", lambda r: r.say([0.0], [[0.1] * 5], stamp=None, legal=False))


def test_f09_empty_points_or_names(fault):
    unharmed(fault, "empty", lambda r: r.say([], [], legal=False))
    unharmed(fault, "empty", lambda r: r.say([0.1], [[]], names=[], legal=False))


@pytest.mark.parametrize(
    "times", [[0.1, 0.3, 0.2], [0.1, 0.2, 0.2], [-0.1, 0.1, 0.2], [0.2, 0.1, 0.0]]
)
def test_f10_a_times_out_of_order(fault, times):
    unharmed(fault, "time_order", lambda r: r.say(times, np.tile(r.q, (3, 1)), legal=False))


def test_f10_b_a_first_point_now_must_be_where_the_arm_is(fault):
    near = SourceConfig(topic="policy", start_tolerance=0.1)
    trial = Trial(sources={"policy": near}).enable()
    t = np.arange(0.0, 1.0, PERIOD)
    refusal = trial.say(t, trial.swing(t) + 0.2, legal=False)
    assert refusal is not None
    assert trial.at_rest(5)
    assert trial.say(t, trial.swing(t)) is None
    trial.ticks(80)
    assert np.abs(trial.q - trial.start).max() > 0.05
    fault.judge(trial, "start_pose", refusal.check)


@pytest.mark.parametrize("dt", [1e-9, 1e-6, 1e-3])
def test_f11_a_points_absurdly_close_in_time(fault, dt):
    trial = Trial().enable()
    rows = trial.q + np.outer(np.arange(30) / 30, [0.8, -0.2, 0.1, -0.3, 1.0, 0.5])
    assert trial.say(0.3 + np.arange(30) * dt, rows) is None
    trial.ticks(150)
    fault.judge(trial, {"acceleration"}, trial.checks)


def test_f11_b_points_absurdly_far_in_time(fault):
    trial = Trial().enable()
    assert trial.say([0.0, 1e6, 2e6], trial.q + np.outer([0, 0.3, 0.6], np.ones(6))) is None
    trial.ticks(250)
    assert np.abs(trial.q - trial.start).max() < 1e-3
    fault.judge(trial, "command_timeout", trial.checks)


def test_f12_a_degrees(fault):
    trial = Trial().moving()
    t = np.arange(0.0, 1.2, PERIOD)
    refusal = trial.say(t, np.degrees(trial.swing(t)), legal=False)
    assert refusal is not None
    assert trial.at_rest(60)
    assert trial.gate.state == "stopped" and "degrees" in trial.gate.stop_reason
    fault.judge(trial, "units", trial.gate.stop_check)


def test_f12_b_percent_for_the_gripper_alone_stays_inside_its_limits(fault):
    trial = Trial().moving()
    t = np.arange(0.0, 1.2, PERIOD)
    rows = np.tile(trial.q, (len(t), 1))
    rows[:, 5] = 3.0
    for _ in range(16):
        assert trial.say(t, rows) is None
        trial.ticks(50)
    assert trial.oracle.upper[5] - 0.01 < trial.q[5] <= trial.oracle.upper[5] + 1e-9
    fault.judge(trial, {"position"}, trial.checks)


def test_f13_a_actions_of_a_hundred(fault):
    trial = Trial().moving()
    t = np.arange(0.0, 1.2, PERIOD)
    rows = np.linspace(-100, 100, 6) + 0 * t[:, None]
    refusal = trial.say(t, rows, legal=False)
    assert refusal is not None and trial.at_rest(60)
    fault.judge(trial, "units", trial.gate.stop_check)


def test_f13_b_actions_of_one_do_not_begin_where_the_arm_is(fault):
    trial = Trial(sources={"policy": SourceConfig(topic="policy")}).enable()
    t = np.arange(0.0, 1.2, PERIOD)
    refusal = trial.say(t, np.full((len(t), 6), 0.5), legal=False)
    assert refusal is not None and trial.at_rest(20)
    fault.judge(trial, "start_pose", refusal.check)


def test_f14_a_description_that_is_not_the_approved_one(fault, tmp_path):
    cell = load_cell(TABLETOP)
    config = cell.safety_monitor.robot
    good = load_robot(config, cell.path).fingerprint
    text = (TABLETOP.parent / config.urdf).read_text()
    (tmp_path / "so101.urdf").write_text(
        text.replace('xyz="0.03884 0 0.0624"', 'xyz="0.04 0 0.06"')
    )
    (tmp_path / "so101.srdf").write_text((TABLETOP.parent / config.srdf).read_text())
    other = type(config)(urdf="so101.urdf", srdf="so101.srdf", fingerprint=good)
    with pytest.raises(ConfigError) as error:
        load_robot(other, tmp_path / "cell.yaml")
    fault.rejected(error.value, "fingerprint", good)
    approved = type(config)(urdf=config.urdf, srdf=config.srdf, fingerprint=good)
    assert load_robot(approved, cell.path).fingerprint == good


@pytest.mark.parametrize(
    ("amplitude", "word"), [(0.25, "tracking_error"), (0.6, "tracking_error_hard")]
)
def test_f15_a_mirrored_joint_is_seen_by_its_tracking_error(fault, amplitude, word):
    trial = Trial()
    mirror = np.array([-1.0, 1, 1, 1, 1, 1])
    trial.follow = lambda q: trial.start + mirror * (q - trial.start)
    trial.enable()
    t = np.arange(0.0, 4.0, PERIOD)
    trial.say(t, trial.swing(t, amplitude))
    trial.ticks(140)
    t = np.arange(0.0, 4.0, PERIOD)
    trial.say(t, trial.swing(t + 1.4, amplitude))
    assert trial.at_rest(150)
    fault.judge(trial, word, trial.checks)


@pytest.mark.parametrize("points", [1001, 1_000_000])
def test_f16_a_a_huge_message(fault, points):
    rows, t = np.zeros((points, 6)), np.arange(points) * 1e-3
    spent = []

    def bad(trial):
        began = time.perf_counter()
        refusal = trial.say(t, rows, legal=False)
        spent.append(time.perf_counter() - began)
        return refusal

    unharmed(fault, "too_long", bad)
    assert max(spent) < 0.02, "it must be refused before it is looked at"


def test_f16_b_a_huge_number_of_names(fault):
    names = [f"j{i}" for i in range(100_000)]
    unharmed(
        fault, "too_long", lambda r: r.say([0.1], [[0.0] * len(names)], names=names, legal=False)
    )


def test_f17_velocities_and_efforts_of_a_message_are_not_used(fault):
    pytest.importorskip("rclpy", reason="needs the ROS messages")
    from rclpy.serialization import serialize_message
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    from smolvla_ros.ros import intake

    def message(wild):
        made = JointTrajectory(joint_names=trial.names)
        for at, row in zip(t, trial.swing(t), strict=True):
            point = JointTrajectoryPoint(positions=row.tolist())
            if wild:
                point.velocities, point.effort = [1e9] * 6, [NAN] * 6
                point.accelerations = [INF] * 2
            at = divmod(round(at * 1e9), 10**9)
            point.time_from_start.sec, point.time_from_start.nanosec = at
            made.points.append(point)
        return serialize_message(made)

    sent = []
    t = np.arange(0.0, 1.2, PERIOD)
    for wild in (False, True):
        trial = Trial().enable()
        read = intake.read_trajectory(message(wild), trial.names)
        assert trial.say(read.times, read.positions, names=read.names, stamp=read.stamp) is None
        trial.ticks(110)
        fault.judge(trial, {"passed"}, {o.verdict.kind.value for o in trial.outputs})
        sent.append(trial.rows)
    assert np.array_equal(*sent)


@pytest.mark.parametrize(
    "odd", ["/shoulder_pan", "shoulder_pan/", "Shoulder_pan", "shoulder_pan ", "", "\udcff",
            "shoulder_pan\0", "ѕhoulder_pan"]
)  # fmt: skip
def test_f18_names_must_fit_exactly(fault, odd):
    def bad(trial):
        t, rows = chunk(trial)
        return trial.say(t, rows, names=[odd, *trial.names[1:]], legal=False)

    unharmed(fault, "unknown_joint", bad)
