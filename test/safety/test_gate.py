"""The gate's promise for well-formed input on the shipped cell, judged by the oracle."""

from dataclasses import replace

import numpy as np
import pytest
from cells import TABLETOP, Run, tabletop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Oracle

from smolvla_ros.cell import SourceConfig
from smolvla_ros.safety import Clearance, Refused, State, read_command
from smolvla_ros.safety.rehearsal import rehearse

DT = 0.01
PERIOD = 1 / 30


@pytest.fixture(scope="module")
def oracle():
    return Oracle(TABLETOP)


def swing(run, t, amplitude=0.3):
    """A legal motion about the pose that the run started in, which begins at rest."""
    shape = np.array([1.0, 0.2, -0.3, 0.3, 0.8, 0.5])
    return run.rows[0] + amplitude * np.outer((1 - np.cos(1.5 * np.asarray(t))) / 2, shape)


def plunge(run, depth=1.0, seconds=1.3):
    """From where the arm is, down through the table."""
    t = np.arange(0.0, seconds, PERIOD)
    down = np.array([0.0, depth, 0.0, 0.0, 0.0, 0.0])
    return t, run.q + np.outer(t / seconds, down)


# -- transparency ---------------------------------------------------------------------------


def test_a_legal_chunk_leaves_unchanged(oracle):
    run = Run().enable()
    t = np.arange(50) * PERIOD
    run.propose(t, swing(run, t))
    run.ticks(140)
    sent_at = (np.arange(140) + 2) * DT  # what is sent at a tick is meant for the next one
    assert np.abs(run.stream[1:] - swing(run, sent_at)).max() < 2e-4
    assert {o.verdict.kind for o in run.outputs} == {"passed"}
    assert not oracle.findings(run.stream)


def test_legal_chunks_that_overlap_join_without_a_trace(oracle):
    run = Run().enable()
    t = np.arange(50) * PERIOD
    began = run.now
    for _ in range(8):
        age = 0.1 if run.now > began else 0.0
        run.propose(t, swing(run, t + run.now - age - began), age=age)
        run.ticks(40)
    sent_at = (np.arange(320) + 2) * DT
    assert np.abs(run.stream[1:] - swing(run, sent_at)).max() < 1e-3
    assert {o.verdict.kind for o in run.outputs} == {"passed"}
    assert not oracle.findings(run.stream)


def test_streamed_single_set_points_leave_exactly_unchanged(oracle):
    run = Run().enable()
    wanted = []
    for k in range(1, 200):
        wanted.append(swing(run, [k * DT])[0])
        run.propose([DT], [wanted[-1]])
        run.ticks(1)
    assert np.array_equal(run.stream[1:], wanted)
    assert not oracle.findings(run.stream)


# -- the promise ----------------------------------------------------------------------------


def test_a_plunge_into_the_table_stops_above_it(oracle):
    run = Run().enable()
    run.propose(*plunge(run))
    last = run.ticks(300)
    assert not oracle.findings(run.stream)
    assert oracle.room(last.positions) < 0.01, "it came near: the gate does not stop far away"
    assert np.abs(last.velocities).max() == 0.0
    held = [o.verdict for o in run.outputs if o.verdict.kind == "held"]
    assert any(v.check == "keep_out" and "table" in v.detail for v in held)


def test_after_a_plunge_the_arm_comes_away_again(oracle):
    run = Run().enable()
    start = run.q.copy()
    run.propose(*plunge(run))
    run.ticks(250)
    t = np.arange(60) * PERIOD
    for _ in range(3):
        run.propose(t, np.tile(start, (60, 1)))
        run.ticks(100)
    assert np.abs(run.q - start).max() < 1e-6
    assert not oracle.findings(run.stream)


def test_a_step_far_away_is_approached_inside_every_limit(oracle):
    run = Run().enable()
    goal = run.q + np.array([0.8, -0.2, 0.1, -0.3, 1.5, 0.6])
    run.propose([DT], [goal])
    run.ticks(149)
    run.propose([DT], [goal])
    run.ticks(149)
    assert np.array_equal(run.q, goal)
    assert not oracle.findings(run.stream)
    off = np.abs(run.stream - goal)
    last_step = oracle.acceleration * DT**2
    assert (np.diff(off, axis=0) <= last_step).all(), "no joint overshoots by more than that"


def test_positions_beyond_a_limit_end_at_the_limit(oracle):
    run = Run().enable()
    goal = run.q.copy()
    goal[4] = 9.0
    for _ in range(4):
        run.propose([DT], [goal])
        run.ticks(100)
    assert run.q[4] == pytest.approx(oracle.upper[4], abs=1e-6)
    assert not oracle.findings(run.stream)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    amplitude=st.sampled_from([0.05, 0.3, 1.0, 3.0]),
    roughness=st.sampled_from([0.0, 0.02, 0.3]),
    every=st.integers(1, 70),
)
def test_whatever_is_proposed_the_promise_is_kept(oracle, seed, amplitude, roughness, every):
    rng = np.random.default_rng(seed)
    run = Run().enable()
    home = run.q.copy()
    for _ in range(4):
        n = int(rng.integers(1, 60))
        goal = home + rng.normal(size=6) * amplitude
        line = run.q + np.outer(np.linspace(0, 1, n + 1)[1:], goal - run.q)
        rows = line + rng.normal(size=line.shape) * roughness
        # From rest a chunk may not be observed before the gate was enabled.
        age = min(float(rng.uniform(0, 0.1)), run.now - 100.0)
        times = np.arange(n) * rng.choice([0.02, PERIOD, 0.1]) + (0.2 if n == 1 else 0.0)
        run.propose(times, rows, age=age if n > 6 else 0.0)
        run.ticks(every)
    run.ticks(200)
    assert not oracle.findings(run.stream)
    assert np.abs(run.outputs[-1].velocities).max() == 0.0, "no input: at rest"


def test_recovery_from_inside_a_zone_only_ever_gains_clearance(oracle):
    run = Run()
    low = run.q.copy()
    while oracle.room(low) > -0.004:
        low[1] += 0.002
    run = Run(low).enable()
    t = np.arange(60) * PERIOD
    out = low + np.outer(t / t[-1], [0.0, -0.4, 0.0, 0.0, 0.0, 0.0])
    for _ in range(4):
        run.propose(t, out)
        run.ticks(100)
    rooms = [oracle.room(q) for q in run.stream]
    assert rooms[0] < -0.003 and rooms[-1] > 0.0
    inside = [r for r in rooms if r < -1e-4]
    assert (np.diff(inside) > -1e-5).all()
    hurried = Run(low).enable()  # a new chunk every 0.4 s, as a policy sends them
    for _ in range(10):
        hurried.propose(t, np.tile(out[-1], (60, 1)))
        hurried.ticks(40)
    assert oracle.room(hurried.q) > 0.0
    deeper = Run(low).enable()
    deeper.propose(t, low + np.outer(t / t[-1], [0.0, 0.4, 0.0, 0.0, 0.0, 0.0]))
    deeper.ticks(200)
    assert oracle.room(deeper.q) > oracle.room(low) - 2e-4, "further in: not a step"


def test_from_outside_a_position_limit_only_the_way_back_is_open(oracle):
    run = Run()
    beyond = run.q.copy()
    beyond[4] = oracle.upper[4] + 0.05
    run = Run(beyond).enable()
    goal = beyond.copy()
    goal[4] += 0.3
    run.propose([DT], [goal])
    run.ticks(100)
    assert run.q[4] == pytest.approx(run.gate.limits.upper[4]), "as for any goal out there"
    goal[4] = 0.0
    for _ in range(8):
        run.propose([DT], [goal])
        run.ticks(100)
    assert run.q[4] < oracle.upper[4] - 0.1
    roll = run.stream[:, 4]
    outside = roll[:-1] > run.gate.limits.upper[4] + 1e-9
    assert outside.sum() > 20 and (np.diff(roll)[outside] < 0).all()


def test_a_joint_that_rests_beyond_its_limit_does_not_slow_the_others_for_ever(oracle):
    """A gripper at its end, which a position margin puts outside, and is told to stay there."""
    run = Run()
    closed = run.q.copy()
    closed[5] = run.gate.limits.lower[5] - 0.01
    run = Run(closed).enable()
    t = np.arange(0.0, 1.4, PERIOD)
    rows = closed + np.outer(0.25 * (1 - np.cos(np.pi * t / t[-1])), [1, 0, 0, 0, 0, 0])
    run.propose(t, rows)
    run.ticks(180)
    assert run.q[0] == pytest.approx(rows[-1][0], abs=1e-3), "in its own time"
    grip = run.stream[:, 5]
    assert (np.diff(grip) >= 0).all() and grip[-1] == pytest.approx(run.gate.limits.lower[5])
    assert not oracle.findings(run.stream, stops_every=20)


@pytest.mark.parametrize(
    ("n", "first", "every"),
    [
        (5, 0.05, 0.1),
        (5, 0.05, 0.05),
        (5, 0.05, 0.02),
        (5, 0.0, 0.1),
        (2, 0.05, 0.1),
        (20, 0.02, 0.2),
        (20, 0.1, 0.1),
    ],
)
def test_a_path_that_is_sent_again_and_again_is_not_run_past(oracle, n, first, every):
    """As a servo or a planner does it: the newest few points of a ramp that ends and is held."""
    run = Run(sources={"policy": SourceConfig(topic="p")}).enable()
    start, seconds, speed = run.q.copy(), 5.0, 0.8

    def way(t):
        return np.clip(speed * (t - 0.3), 0.0, 1.2)

    for k in range(round(seconds / run.dt)):
        if k % round(every / run.dt) == 0:
            t = first + 0.05 * np.arange(n)
            rows = start + np.outer(way(k * run.dt + t), [1, 0, 0, 0, 0, 0])
            refusal = run.gate.offer(run.now, "policy", run.now, run.robot.names, t, rows)
            assert refusal is None, refusal
        run.ticks(1)
    pan = run.stream[:, 0] - start[0]
    room = speed**2 / run.gate.limits.acceleration[0]  # to brake in, at half of what it can
    assert pan.max() < 1.2 + room and pan[-1] == pytest.approx(1.2, abs=1e-3)
    mean = np.diff(pan)[100:160].mean() / run.dt
    assert mean == pytest.approx(speed, rel=0.05), "nor faster on the way"
    assert not oracle.findings(run.stream, stops_every=50)


def in_slow_zone(run):
    """A run that starts with the gripper in the zone, clear of the table."""
    low = run.q.copy()
    low[1] += 0.62
    return Run(low).enable()


def yaw(run, speed, seconds=1.4):
    """A turn of the whole arm that rises to ``speed`` rad/s and falls again."""
    t = np.arange(0.0, seconds, PERIOD)
    turn = speed * seconds / np.pi * (1 - np.cos(np.pi * t / seconds))
    return t, run.q + np.outer(turn, [1, 0, 0, 0, 0, 0])


def test_a_slow_zone_slows_what_is_too_fast_and_says_so(oracle):
    run = in_slow_zone(Run())
    t, rows = yaw(run, 1.2)  # 0.8 of the limit at its fastest
    run.propose(t, rows)
    run.ticks(145)
    speeds = [np.abs(o.velocities / oracle.velocity).max() for o in run.outputs]
    assert 0.49 < max(speeds) <= 0.5 + 1e-9
    slowed = [o for o in run.outputs if o.state is State.SLOWED]
    assert slowed and all("slow zone low" in o.verdict.detail for o in slowed)
    assert not oracle.findings(run.stream)


def test_a_slow_zone_leaves_alone_what_is_slow_enough(oracle):
    run = in_slow_zone(Run())
    t, rows = yaw(run, 0.6)
    run.propose(t, rows)
    run.ticks(110)
    assert {o.verdict.kind for o in run.outputs} == {"passed"}
    wanted = run.rows[0][0] + 0.6 * 1.4 / np.pi * (1 - np.cos(np.pi * 1.11 / 1.4))
    assert run.q[0] == pytest.approx(wanted, abs=1e-3), "in its own time"


@pytest.mark.parametrize("step", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("n", [2, 50])
def test_a_steep_first_row_does_not_send_the_arm_the_other_way(oracle, step, n):
    run = Run().enable()
    start = run.q.copy()
    up = np.append(0.0, np.full(n - 1, step))
    run.propose(np.arange(n) * PERIOD, start + np.outer(up, [1, 0, 0, 0, 0, 0]))
    run.ticks(149)
    assert (run.stream[:, 0] - start[0]).min() > -0.01
    assert run.q[0] - start[0] > 0.9 * step
    assert not oracle.findings(run.stream)


def test_order_of_names_and_a_second_run_give_the_same_output():
    names = ["gripper", "wrist_roll", "wrist_flex", "elbow_flex", "shoulder_lift", "shoulder_pan"]

    def run_with(order):
        run = Run().enable()
        t, rows = plunge(run)
        index = [run.robot.names.index(n) for n in order]
        command = read_command(run.now, order, t, rows[:, index], run.robot.names)
        run.gate.propose(run.now, command)
        run.ticks(200)
        return run.stream

    first = run_with(names)
    assert np.array_equal(first, run_with(names[::-1]))
    assert np.array_equal(first, run_with(names))


# -- time -----------------------------------------------------------------------------------


def test_silence_brakes_and_then_holds_for_ever(oracle):
    run = Run().enable()
    t = np.arange(100) * 0.1
    run.propose(t, swing(run, t))  # ten seconds of motion, and no further word
    run.ticks(149)
    assert run.outputs[-1].velocities.any()
    run.ticks(60)
    assert run.outputs[-1].state is State.HOLDING
    assert any(o.verdict.check == "command_timeout" for o in run.outputs)
    run.ticks(500)
    held = run.stream[-500:]
    assert (held == held[0]).all() and all(o.positions is not None for o in run.outputs)
    assert not oracle.findings(run.stream)


def test_the_end_of_a_chunk_is_run_out_on_its_own_path(oracle):
    run = Run().enable()
    t = np.arange(31) * PERIOD
    rows = swing(run, t)
    run.propose(t, rows)
    run.ticks(145)
    assert np.abs(run.q - rows[-1]).max() < 1e-6
    assert run.gate.state is State.HOLDING
    assert not oracle.findings(run.stream)


@pytest.mark.parametrize(
    ("age", "check"), [(3.0, "before_enable"), (-0.5, "future"), (1.7, "too_old")]
)
def test_stamps_that_cannot_be_meant_are_refused(age, check):
    run = Run().enable()
    run.ticks(200)
    t = np.arange(80) * PERIOD
    with pytest.raises(Refused) as refused:
        run.propose(t, swing(run, t), age=age)
    assert refused.value.check == check
    assert np.array_equal(run.ticks(10).positions, run.rows[0])


def test_a_chunk_whose_last_row_is_past_is_refused():
    run = Run().enable()
    run.ticks(200)
    t = np.arange(10) * PERIOD
    with pytest.raises(Refused, match="last row"):
        run.propose(t, swing(run, t), age=0.5)


# -- states ---------------------------------------------------------------------------------


def test_nothing_is_commanded_before_it_is_enabled():
    run = Run()
    assert run.ticks(5, measure=False).state is State.WAITING
    assert run.ticks(5).state is State.DISABLED
    assert all(o.positions is None for o in run.outputs)
    with pytest.raises(Refused, match="disabled"):
        run.propose([DT], [run.q])


def test_enabling_takes_the_arm_where_it_is_measured():
    run = Run()
    run.ticks(3)
    run.q = run.q + 0.07
    run.gate.measure(run.now, run.q)
    run.gate.enable(run.now)
    assert np.array_equal(run.ticks(1).positions, run.q)


def test_a_stop_brakes_latches_and_drops_everything(oracle):
    run = Run().enable()
    t = np.arange(60) * PERIOD
    run.propose(t, swing(run, t))
    run.ticks(70)
    assert run.outputs[-1].velocities.any()
    run.gate.stop("test")
    assert run.gate.state is State.BRAKING
    run.ticks(60)
    assert run.gate.state is State.STOPPED and run.gate.stop_reason == "test"
    rest = run.q.copy()
    with pytest.raises(Refused):
        run.propose(t, swing(run, t))
    with pytest.raises(Refused):
        run.gate.enable(run.now)
    run.ticks(50)
    assert np.array_equal(run.q, rest), "publishes the stop position"
    observed_before = run.now
    run.gate.reset(run.now)
    assert run.ticks(1).positions is None
    run.gate.measure(run.now, run.q)
    run.gate.enable(run.now)
    with pytest.raises(Refused) as refused:
        run.propose(t, swing(run, t), age=run.now - observed_before)
    assert refused.value.check == "before_enable"
    run.ticks(20)
    assert np.array_equal(run.q, rest), "a reset does not restart the old motion"
    assert not oracle.findings(run.stream)


def test_a_stop_is_taken_in_every_state():
    for prepare in (lambda r: None, lambda r: r.ticks(1), lambda r: r.enable()):
        run = Run()
        prepare(run)
        run.gate.stop("test")
        run.ticks(2)
        assert run.gate.state is State.STOPPED


def test_old_feedback_stops_and_reset_waits_for_it(oracle):
    run = Run().enable()
    t = np.arange(60) * PERIOD
    run.propose(t, swing(run, t))
    run.ticks(60)
    run.ticks(120, measure=False)
    assert run.gate.state is State.STOPPED and "joint_states" in run.gate.stop_reason
    with pytest.raises(Refused, match="cause stands"):
        run.gate.reset(run.now)
    run.ticks(1)
    run.gate.reset(run.now)
    assert run.gate.state is State.DISABLED
    assert not oracle.findings(run.stream)


def lag(run, off, ticks):
    """An arm that stays ``off`` rad away, and trembles a little."""
    for k in range(ticks):
        run.now += DT
        run.gate.measure(run.now, run.rows[0] + off + 1e-4 * (k % 2))
        run.outputs.append(run.gate.tick(run.now))


def test_an_arm_that_lags_too_long_is_braked_and_may_go_on_when_it_has_caught_up():
    run = Run().enable()
    t = np.arange(60) * PERIOD
    run.propose(t, swing(run, t))
    lag(run, 0.3, 10)
    assert run.outputs[-1].velocities.any()
    lag(run, 0.3, 90)
    assert run.gate.state is State.HOLDING
    assert run.outputs[-1].verdict.check == "tracking_error"
    with pytest.raises(Refused, match="tracking error"):
        run.propose(t, swing(run, t))
    run.ticks(1)
    run.propose(t, swing(run, t))
    assert run.ticks(5).velocities.any()


def test_an_arm_that_is_far_from_where_it_was_sent_stops_the_gate():
    run = Run().enable()
    lag(run, 0.7, 4)  # the first two might be a glitch
    assert run.gate.stop_check == "joint_state_jump"
    run = Run(joint_state_jump=10.0).enable()
    lag(run, 0.7, 2)
    assert run.gate.stop_check == "tracking_error_hard"


def test_disabling_brakes_first(oracle):
    run = Run().enable()
    t = np.arange(60) * PERIOD
    run.propose(t, swing(run, t))
    run.ticks(70)
    run.gate.disable()
    assert run.ticks(1).velocities.any()
    run.ticks(60)
    assert run.gate.state is State.DISABLED and run.outputs[-1].positions is None
    sent = [o for o in run.outputs if o.positions is not None]
    assert not sent[-1].velocities.any(), "the last that a controller hears is at rest"
    assert not oracle.findings(run.stream)


def test_a_rehearsal_leaves_a_second_gate_as_new():
    rehearse(Run().gate)
    run = Run()
    assert run.ticks(1, measure=False).state is State.WAITING and not run.gate.verdicts


def test_a_rehearsal_takes_the_path_of_real_motion():
    gate = Run().gate
    rehearse(gate)
    assert gate.verdicts["passed"] or gate.verdicts["clamped"]


def test_an_old_disable_does_not_outlive_a_stop():
    run = Run().enable()
    t = np.arange(60) * PERIOD
    run.propose(t, swing(run, t))
    run.ticks(70)
    run.gate.disable()
    run.ticks(1)
    run.gate.stop("test")
    run.ticks(60)
    run.gate.reset(run.now)
    run.gate.measure(run.now, run.q)
    run.gate.enable(run.now)
    assert run.ticks(5).state is State.HOLDING


def test_an_arm_that_sags_into_something_stops_and_may_get_out_again(oracle):
    run = Run(tracking_error=1.0, tracking_error_hard=2.0).enable()
    sag = np.array([0.0, 0.01, 0.0, 0.0, 0.0, 0.0])
    k = 0
    while run.gate.state is not State.STOPPED and k < 200:
        k += 1
        run.now += DT
        run.gate.measure(run.now, run.rows[0] + k * sag)
        run.outputs.append(run.gate.tick(run.now))
    assert run.gate.stop_check == "measured_clearance" and "table" in run.gate.stop_reason
    sagged = run.rows[0] + k * sag
    assert -oracle.margin - 0.005 < oracle.room(sagged) <= -oracle.margin + 1e-4
    run.q = sagged
    run.gate.reset(run.now)
    run.gate.measure(run.now, run.q)
    run.gate.enable(run.now)
    t = np.arange(90) * PERIOD
    for _ in range(6):
        run.propose(t, run.q + np.outer(t / t[-1], [0.0, -0.5, 0.0, 0.0, 0.0, 0.0]))
        run.ticks(100)
    assert oracle.room(run.q) > 0.0


@pytest.mark.parametrize(("off", "commanded"), [(0.1, True), (0.4, False)])
def test_an_arm_that_comes_back_elsewhere_is_not_sent_to_the_old_stop_position(off, commanded):
    run = Run().enable()
    run.ticks(100, measure=False)
    assert run.gate.stop_check == "joint_state_age" and run.outputs[-1].positions is not None
    for _ in range(5):
        run.now += DT
        run.gate.measure(run.now, run.rows[0] + off)
        output = run.gate.tick(run.now)
    assert (output.positions is not None) == commanded
    assert output.state is State.STOPPED


PAN = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(("off", "state"), [(0.4, State.HOLDING), (0.7, State.STOPPED)])
def test_an_arm_that_stands_elsewhere_is_not_sent_back_when_its_controller_comes_back(off, state):
    run = Run(tracking_error=0.3, tracking_error_hard=0.6).enable()

    def stands(place: float, ticks: int = 60):
        for _ in range(ticks):
            run.now += DT
            run.gate.measure(run.now, run.rows[0] + place * PAN)
            output = run.gate.tick(run.now)
        return output

    for k in range(60):  # its controller is off, and it sinks
        output = stands(off * k / 60, ticks=1)
    assert output.positions is not None, "for a while it may be off"
    output = stands(off)
    assert output.positions is None and output.state is state
    for k in range(60):
        output = stands(off * (59 - k) / 60, ticks=1)
    np.testing.assert_array_equal(output.positions, run.rows[0])  # it was brought back
    for k in range(60):
        stands(off * k / 60, ticks=1)
    assert stands(off).positions is None
    run.gate.disable() if state is State.HOLDING else run.gate.reset(run.now)
    stands(off)
    run.gate.enable(run.now)
    np.testing.assert_allclose(stands(off).positions, run.rows[0] + off * PAN)


def test_the_same_zones_again_and_again_do_not_let_the_arm_creep_in(oracle):
    run = Run(command_timeout=100.0).enable()
    for k in range(120):
        if k % 4 == 0:
            t, rows = plunge(run)
            run.propose(t, rows)
        old = run.gate.clearance
        again = Clearance(run.robot, tabletop()[0].safety_monitor.zones, old.margin, old.slack)
        run.gate.swap(run.gate.limits, again, None)
        run.ticks(10)
    assert run.gate.blocked_for > 2.0
    assert oracle.room(run.q) > -2e-4


def test_the_same_cause_brakes_every_time(oracle):
    run = Run().enable()
    names = run.robot.names
    for _ in range(3):
        t = np.arange(60) * PERIOD
        run.propose(t, swing(run, t) - run.rows[0] + run.q)
        run.ticks(30)
        assert run.outputs[-1].velocities.any()
        for _ in range(40):
            run.now += DT
            run.gate.hear_joint_state(run.now, names, run.q)
            run.gate.hear_joint_state(run.now, names[-1:], [np.nan])
            run.outputs.append(run.gate.tick(run.now))
            run.rows.append(run.outputs[-1].positions)
            run.q = run.outputs[-1].positions
        assert not run.outputs[-1].velocities.any()
        assert run.outputs[-1].verdict.check == "joint_state_not_finite"
        run.ticks(2)
    assert not oracle.findings(run.stream)


def test_what_hinders_brakes_for_as_long_as_it_stands_and_latches_nothing(oracle):
    run = Run()
    run.gate.measure(run.now, run.q)
    run.gate.hinder("planning_scene", "no scene yet")
    with pytest.raises(Refused, match="planning_scene: no scene yet"):
        run.gate.enable(run.now)
    run.gate.hinder("planning_scene", "")
    run.enable()
    t = np.arange(90) * PERIOD
    run.propose(t, swing(run, t))
    assert run.ticks(60).velocities.any()
    run.gate.hinder("planning_scene", "no word of it")
    out = run.ticks(40)
    assert not out.velocities.any() and out.verdict.check == "planning_scene"
    assert out.state is State.HOLDING
    with pytest.raises(Refused, match="no word of it"):
        run.propose(t, swing(run, t) - run.rows[0] + run.q)
    run.gate.hinder("planning_scene", "")
    run.ticks(2)
    run.propose(t, swing(run, t) - run.rows[0] + run.q)
    assert run.ticks(40).velocities.any(), "no reset is needed"
    assert not oracle.findings(run.stream)


def test_what_lagged_may_be_enabled_again_once_it_is_measured():
    run = Run().enable()
    lag(run, 0.3, 80)
    assert run.outputs[-1].verdict.check == "tracking_error"
    run.gate.disable()
    run.ticks(5)
    run.gate.enable(run.now)
    assert run.ticks(1).state is State.HOLDING


def test_a_failure_inside_a_tick_follows_the_kept_stop_and_latches(oracle, monkeypatch):
    run = Run().enable()
    t = np.arange(60) * PERIOD
    run.propose(t, swing(run, t))
    run.ticks(70)
    assert run.outputs[-1].velocities.any()

    def fail(*_):
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(run.gate, "_next_setpoint", fail)
    run.ticks(60)
    assert run.gate.stop_check == "internal" and "on purpose" in run.gate.stop_reason
    assert run.gate.state is State.STOPPED and not run.outputs[-1].velocities.any()
    assert not oracle.findings(run.stream)


@pytest.mark.parametrize("jerk", [30.0, 150.0])
def test_with_a_jerk_limit_a_goal_is_reached_and_rested_at(jerk):
    cell = tabletop()[0].safety_monitor
    limits = replace(cell.limits, every_joint=replace(cell.limits.every_joint, jerk=jerk))
    run = Run(limits=limits, rate=250.0, command_timeout=100.0).enable()
    goal = run.q + np.array([0.3, -0.1, 0.1, -0.2, 0.4, 0.1])
    for _ in range(1500):
        run.gate.offer(run.now, "policy", None, run.robot.names, [0.0], [goal])
        run.ticks(1)
    assert np.abs(run.stream[-250:] - goal).max() < 1e-5, "and stays"
    assert (run.stream - run.stream[0]).max() < 0.4 + 0.02, "not far past it either"
    differences = np.diff(run.stream, n=3, axis=0, prepend=run.stream[:1].repeat(3, axis=0))
    assert np.abs(differences).max() / run.dt**3 <= jerk * (1 + 1e-6) + 1e-6
