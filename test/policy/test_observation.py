"""Observations: whole and fresh, or the reasons why there is none; nothing is invented."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvla_ros.policy import Camera, Joints, Observation, Streams
from smolvla_ros.policy.streams import FUTURE_TOLERANCE, History, staleness

NOW = 100.0
JOINTS = ("pan", "lift", "grip")


def message(value: int | None, height: int = 2) -> SimpleNamespace:
    return SimpleNamespace(value=value, height=height, data=bytes([value or 0]) * 3000)


def picture(m: SimpleNamespace) -> np.ndarray:
    if m.value is None:
        raise ValueError("no picture in it")
    return np.full((m.height, 3, 3), m.value, np.uint8)


FRONT = Camera(feature="observation.images.front", decode=picture, max_age=0.2)
WRIST = Camera(feature="observation.images.wrist", decode=picture, max_age=0.5)
ARM = Joints(names=JOINTS, max_age=0.1, convert=lambda q: 10.0 * q)


def streams(instruction: str = "pick", **keys) -> Streams:
    return Streams({"front": FRONT, "wrist": WRIST}, ARM, instruction, **keys)


def filled(instruction: str = "pick", *, s: Streams | None = None, **stamps: float) -> Streams:
    s = s or streams(instruction)
    s.put("front", stamps.get("front", NOW - 0.05), message(1))
    s.put("wrist", stamps.get("wrist", NOW - 0.02), message(2))
    s.put_joints(stamps.get("joint_states", NOW - 0.01), JOINTS, [0.1, 0.2, 0.3])
    return s


# -- whole and fresh ------------------------------------------------------------------------


def test_whole_and_fresh_streams_make_an_observation_of_the_newest_messages() -> None:
    s = filled()
    s.put("wrist", NOW - 0.01, message(7))
    seen = s.gather(NOW)
    assert isinstance(seen, Observation)
    assert {name: int(p[0, 0, 0]) for name, p in seen.images.items()} == {
        "observation.images.front": 1,
        "observation.images.wrist": 7,
    }
    assert seen.images["observation.images.front"].shape == (2, 3, 3)
    np.testing.assert_allclose(seen.state, [1.0, 2.0, 3.0])
    assert seen.instruction == "pick"
    assert seen.stamps == {"front": NOW - 0.05, "wrist": NOW - 0.01, "joint_states": NOW - 0.01}
    assert seen.stamp == NOW - 0.05  # of its oldest part


@pytest.mark.parametrize("name", ["front", "wrist", "joint_states"])
def test_one_stream_that_never_came_is_no_observation(name) -> None:
    s = streams()
    for camera in {"front", "wrist"} - {name}:
        s.put(camera, NOW, message(1))
    if name != "joint_states":
        s.put_joints(NOW, JOINTS, [0.0, 0.0, 0.0])
    assert s.gather(NOW) == [f"{name}: nothing received"]
    assert s.status(NOW)[name] == {
        "age_s": math.inf, "rate_hz": 0.0, "count": 0, "reason": f"{name}: nothing received",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "stamp", "reason"),
    [
        ("front", NOW - 0.25, "front: 0.250 s old, at most 0.2 s"),
        ("wrist", NOW - 0.55, "wrist: 0.550 s old, at most 0.5 s"),
        ("joint_states", NOW - 0.15, "joint_states: 0.150 s old, at most 0.1 s"),
        ("front", 0.0, "front: 100.000 s old, at most 0.2 s (its stamp is 0: a publisher that "
         "does not stamp?)"),
        ("wrist", NOW + 0.2, "wrist: stamped 0.200 s ahead of the clock"),
        ("joint_states", NOW + 1e6, "joint_states: stamped 1000000.000 s ahead of the clock"),
    ],
)  # fmt: skip
def test_one_stream_out_of_time_is_no_observation(name, stamp, reason) -> None:
    s = filled(**{name: stamp})
    assert s.gather(NOW) == [reason]
    assert s.status(NOW)[name]["reason"] == reason
    assert [found["reason"] for found in s.status(NOW).values()].count("") == 2


@pytest.mark.parametrize(
    ("stamp", "fresh"),
    [(99.8, True), (99.79, False), (100.0, True), (100.04, True), (100.06, False)],
)
def test_the_edges_of_freshness(stamp, fresh) -> None:
    assert FUTURE_TOLERANCE == 0.05
    assert (staleness("x", stamp, 100.0, 0.2001) == "") == fresh


def test_a_stream_that_falls_silent_ends_the_observations() -> None:
    s = filled()
    assert isinstance(s.gather(NOW), Observation)
    for later in (NOW + 0.5, NOW + 10.0):
        s.put("front", later, message(1))
        s.put_joints(later, JOINTS, [0.1, 0.2, 0.3])
        assert [r.split(":")[0] for r in s.gather(later)] == ["wrist"]


def test_streams_too_far_apart_are_no_observation_though_each_is_fresh() -> None:
    s = filled(s=streams(max_skew=0.1), front=NOW - 0.18, wrist=NOW - 0.02)
    reason = "front: 0.170 s older than joint_states, at most 0.1 s apart"
    assert s.gather(NOW) == [reason]
    assert s.status(NOW)["front"]["reason"] == reason
    s.put("front", NOW - 0.1, message(1))
    assert isinstance(s.gather(NOW), Observation)


# -- the instruction ------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_without_an_instruction_there_is_no_observation(text) -> None:
    assert filled(text).gather(NOW) == ["instruction: none given"]
    s = filled()
    s.set_instruction(text)
    assert s.gather(NOW) == ["instruction: none given"]


def test_a_new_instruction_counts_from_the_next_observation_on() -> None:
    s = filled("")
    s.set_instruction("  put the red block into the bin\n")
    assert s.gather(NOW).instruction == "put the red block into the bin"


def test_every_reason_is_given_at_once() -> None:
    reasons = streams("").gather(NOW)
    assert [r.split(":")[0] for r in reasons] == ["front", "wrist", "joint_states", "instruction"]


# -- pictures that cannot be used -----------------------------------------------------------


def test_messages_that_cannot_be_decoded_name_their_streams_and_a_better_one_recovers() -> None:
    s = filled()
    s.put("front", NOW, message(None))
    assert s.gather(NOW) == ["front: no picture in it"]
    # Between two gathers a newer one may wait: it says why until one was read.
    s.put("front", NOW + 0.01, message(None))
    assert s.status(NOW + 0.01)["front"]["reason"] == "front: no picture in it"
    s.put("front", NOW + 0.02, message(9))
    assert int(s.gather(NOW + 0.02).images[FRONT.feature][0, 0, 0]) == 9
    assert s.status(NOW + 0.02)["front"]["reason"] == ""


def test_what_could_not_be_decoded_is_not_decoded_again() -> None:
    tried = []

    def decode(m: SimpleNamespace) -> np.ndarray:
        tried.append(m)
        return picture(m)

    s = Streams({"front": replace(FRONT, decode=decode)}, ARM, "pick")
    s.put("front", NOW, message(None))
    s.put_joints(NOW, JOINTS, [0.1, 0.2, 0.3])
    for _ in range(5):
        assert s.gather(NOW) == ["front: no picture in it"]
    assert len(tried) == 1


def test_a_wrong_size_is_refused_only_where_nothing_resizes() -> None:
    def seen(size) -> Observation | list[str]:
        s = Streams({"front": replace(FRONT, size=size)}, ARM, "pick")
        s.put("front", NOW, message(1, height=4))
        s.put_joints(NOW, JOINTS, [0.1, 0.2, 0.3])
        return s.gather(NOW)

    assert seen((2, 3)) == ["front: a picture of 3x4 pixels; 3x2 is wanted and nothing resizes it"]
    for size in ((4, 3), None):
        assert seen(size).images[FRONT.feature].shape == (4, 3, 3)


def frozen(values: list[int], *, period: float = 0.1, last: float = NOW) -> Streams:
    camera = replace(FRONT, frozen_after=1.0)
    s = Streams({"front": camera}, ARM, "pick")
    for k, value in enumerate(values):
        s.put("front", last - period * (len(values) - 1 - k), message(value))
    s.put_joints(last, JOINTS, [0.1, 0.2, 0.3])
    return s


def test_a_camera_that_repeats_its_bytes_is_frozen_and_thaws_with_the_next_picture() -> None:
    assert isinstance(frozen([1] * 11).gather(NOW), Observation)  # for 1.0 s
    s = frozen([2] + [1] * 12)
    assert s.gather(NOW) == ["front: frozen, the same picture for 1.10 s, at most 1 s"]
    assert s.status(NOW)["front"]["reason"].startswith("front: frozen")
    s.put("front", NOW + 0.01, message(3))
    assert isinstance(s.gather(NOW + 0.01), Observation)


def test_one_byte_anywhere_tells_a_living_camera() -> None:
    s = frozen([])
    for k in range(30):
        living = message(1)
        living.data = bytearray(living.data)
        living.data[-2] ^= k % 2
        s.put("front", NOW - 0.1 * (29 - k), living)
    assert isinstance(s.gather(NOW), Observation)


def test_the_same_picture_before_and_after_a_silence_is_not_frozen() -> None:
    s = frozen([1] * 5, last=NOW - 30.0)
    s.put("front", NOW, message(1))
    s.put_joints(NOW, JOINTS, [0.1, 0.2, 0.3])
    assert isinstance(s.gather(NOW), Observation)


# -- joint states ---------------------------------------------------------------------------


def test_joint_states_are_merged_by_name_each_with_its_own_age() -> None:
    s = filled(joint_states=NOW - 50.0)
    s.put_joints(NOW - 0.02, ["other", "grip"], [9.0, 0.6])
    assert s.gather(NOW) == ["joint_states: pan, lift: 50.000 s old, at most 0.1 s"]
    assert s.status(NOW)["joint_states"]["age_s"] == 50.0
    s.put_joints(NOW - 0.01, ["lift", "pan"], [0.5, 0.4])
    seen = s.gather(NOW)
    np.testing.assert_allclose(seen.state, [4.0, 5.0, 6.0])
    assert seen.stamps["joint_states"] == NOW - 0.02  # of the joint heard longest ago


def test_a_joint_that_nobody_publishes_is_named() -> None:
    s = streams()
    s.put("front", NOW, message(1))
    s.put("wrist", NOW, message(1))
    s.put_joints(NOW, ["pan"], [0.1])
    assert s.gather(NOW) == ["joint_states: nothing received of lift, grip"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_by_name_until_one_comes(value) -> None:
    s = filled()
    s.put_joints(NOW, JOINTS, [0.1, value, 0.3])
    s.put_joints(NOW, ["gripper_of_another_arm"], [math.nan])
    assert s.gather(NOW) == [f"joint_states: lift is {value}"]
    s.put_joints(NOW + 0.01, ["lift"], [0.2])
    np.testing.assert_allclose(s.gather(NOW + 0.01).state, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("names", "positions", "why"),
    [
        (JOINTS, [0.1, 0.2], "2 positions for 3 names"),
        (JOINTS, [], "0 positions for 3 names"),
        (("pan", "lift", "pan"), [0.1, 0.2, 0.3], "pan named twice"),
    ],
)
def test_a_malformed_joint_state_changes_nothing_and_is_told_once_it_matters(
    names, positions, why
) -> None:
    s = filled()
    s.put_joints(NOW, names, positions)
    np.testing.assert_allclose(s.gather(NOW).state, [1.0, 2.0, 3.0])
    (reason, *_) = [r for r in s.gather(NOW + 0.12) if r.startswith("joint")]
    assert reason == f"joint_states: 0.130 s old, at most 0.1 s (last message refused: {why})"
    s.put_joints(NOW + 0.11, JOINTS, [0.1, 0.2, 0.3])
    assert isinstance(s.gather(NOW + 0.12), Observation)


# -- the clock ------------------------------------------------------------------------------


def test_what_is_from_the_future_of_a_clock_set_back_is_forgotten() -> None:
    s = filled()
    assert isinstance(s.gather(NOW), Observation)
    back = " since the clock went back by 97.00 s"
    assert s.gather(3.0)[:2] == [f"front: nothing received{back}", f"wrist: nothing received{back}"]
    # Without that, a camera that died would be fresh once the clock has come so far again.
    assert [r.split(":")[0] for r in s.gather(NOW)] == ["front", "wrist", "joint_states"]
    assert isinstance(filled(s=s).gather(NOW), Observation)


def test_streams_of_a_simulation_that_starts_anew_recover_at_once() -> None:
    s = filled()
    assert isinstance(s.gather(NOW), Observation)
    filled(s=s, front=0.06, wrist=0.07, joint_states=0.08)  # heard before anybody asks
    seen = s.gather(0.1)
    assert seen.stamps == {"front": 0.06, "wrist": 0.07, "joint_states": 0.08}
    filled(s=s, front=0.16, wrist=0.17, joint_states=0.18)
    assert isinstance(s.gather(0.2), Observation)


def test_two_threads_that_read_the_clock_in_turn_set_nothing_back() -> None:
    s = filled(front=NOW, wrist=NOW, joint_states=NOW)
    s.status(NOW + 0.1)
    assert isinstance(s.gather(NOW), Observation)


def test_a_clock_that_jumps_ahead_makes_everything_old_until_something_new_comes() -> None:
    s = filled()
    assert len(s.gather(NOW + 1000.0)) == 3
    later = NOW + 1000.0
    filled(s=s, front=later, wrist=later, joint_states=later)
    assert isinstance(s.gather(later), Observation)


# -- several steps --------------------------------------------------------------------------

DT = 1 / 30


def two_steps(rate: float = 30.0, drop: int | None = None) -> Streams:
    s = Streams({"front": FRONT}, ARM, "pick", steps=2, step_dt=DT)
    for k in range(20):
        stamp = NOW - (19 - k) / rate
        if k != drop:
            s.put("front", stamp, message(k))
        s.put_joints(stamp, JOINTS, [0.1 * k, 0.0, 0.0])
    return s


def test_a_policy_that_sees_several_steps_gets_them_oldest_first() -> None:
    seen = two_steps().gather(NOW)
    assert seen.images[FRONT.feature].shape == (2, 2, 3, 3)
    assert seen.images[FRONT.feature][:, 0, 0, 0].tolist() == [18, 19]
    np.testing.assert_allclose(seen.state, [[18.0, 0.0, 0.0], [19.0, 0.0, 0.0]])
    assert seen.stamp == NOW


def test_steps_lie_apart_as_in_the_data_whatever_the_camera_s_rate() -> None:
    seen = two_steps(rate=90.0).gather(NOW)
    assert seen.images[FRONT.feature][:, 0, 0, 0].tolist() == [16, 19]
    assert two_steps(rate=10.0).gather(NOW) == [
        "front: nothing from 0.033 s before its newest, the nearest is 0.033 s off; "
        "the policy sees 2 steps of 0.033 s",
        "joint_states: pan: nothing from 0.033 s before its newest, the nearest is 0.033 s off; "
        "the policy sees 2 steps of 0.033 s",
    ]


def test_a_step_that_is_not_there_is_not_made_up() -> None:
    assert [r.split(":")[0] for r in two_steps(drop=18).gather(NOW)] == ["front"]
    s = Streams({"front": FRONT}, ARM, "pick", steps=2, step_dt=DT)
    s.put("front", NOW, message(1))
    s.put_joints(NOW, JOINTS, [0.0, 0.0, 0.0])
    assert [r.split(":")[0] for r in s.gather(NOW)] == ["front", "joint_states"]
    s = two_steps()
    s.put_joints(NOW + 0.001, ["lift"], [math.nan])
    s.put_joints(NOW + 0.002, ["lift"], [0.0])
    (reason,) = s.gather(NOW + 0.003)
    assert reason.startswith("joint_states: lift: nothing from 0.033 s before its newest")


def test_several_steps_need_a_time_between() -> None:
    for steps, dt in ((2, 0.0), (2, -0.1), (0, 0.1)):
        with pytest.raises(ValueError, match=f"{steps} steps of"):
            Streams({"front": FRONT}, ARM, steps=steps, step_dt=dt)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_a_history_is_in_order_ends_with_what_came_last_and_does_not_grow(stamps, span) -> None:
    history = History(span)
    for stamp in stamps:
        history.add(stamp, stamp)
    kept = [t for t, _ in history._entries]
    assert kept == sorted(set(kept))
    assert history.newest == (stamps[-1], stamps[-1])
    assert sum(t <= stamps[-1] - span for t in kept) <= 1


# -- rates, threads -------------------------------------------------------------------------


def test_rates_and_counts_are_of_what_came() -> None:
    s = two_steps(rate=30.0)
    found = s.status(NOW)
    assert found["front"]["rate_hz"] == pytest.approx(30.0)
    assert found["joint_states"]["rate_hz"] == pytest.approx(30.0)
    assert (found["front"]["count"], found["front"]["age_s"]) == (20, 0.0)
    assert s.status(NOW + 5.0)["front"]["rate_hz"] == 0.0
    for k in range(500):
        s.put("front", NOW + 0.005 * k, message(1))
    assert s.status(NOW + 2.5)["front"]["rate_hz"] == pytest.approx(200.0)


def test_a_slow_decoder_does_not_hold_up_the_streams() -> None:
    busy, go_on = threading.Event(), threading.Event()

    def slow(m: SimpleNamespace) -> np.ndarray:
        busy.set()
        assert go_on.wait(5.0)
        return picture(m)

    s = Streams({"front": replace(FRONT, feature="f", decode=slow)}, ARM, "pick")
    s.put("front", NOW, message(1))
    s.put_joints(NOW, JOINTS, [0.1, 0.2, 0.3])
    seen: list = []
    reader = threading.Thread(target=lambda: seen.append(s.gather(NOW)))
    reader.start()
    try:
        assert busy.wait(5.0)
        s.put("front", NOW + 1.0, message(9))  # would wait for the decoder's lock
        s.put_joints(NOW + 1.0, JOINTS, [9.0, 9.0, 9.0])
        s.set_instruction("stop")
        assert s.instruction == "stop"
        assert s.status(NOW)["front"]["count"] == 2
        assert not seen
    finally:
        go_on.set()
        reader.join(5.0)
    # The observation is of one moment: nothing that came during the decoding is in it.
    assert (seen[0].instruction, seen[0].stamps["front"]) == ("pick", NOW)
    assert int(seen[0].images["f"][0, 0, 0]) == 1
    np.testing.assert_allclose(seen[0].state, [1.0, 2.0, 3.0])
