"""Observations: whole and fresh, or the reasons why there is none; nothing is invented."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from smolvla_ros.policy import Observation, Streams
from smolvla_ros.policy.observation import FUTURE_TOLERANCE, staleness

NOW = 100.0


def picture(message) -> np.ndarray:
    if message is None:
        raise ValueError("no picture in it")
    return np.full((2, 3, 3), message, np.uint8)


def state(message) -> np.ndarray:
    if len(message) != 2:
        raise ValueError(f"{len(message)} joints")
    return np.array(message)


def streams(instruction: str = "pick") -> Streams:
    return Streams(
        {
            "front": ("observation.images.front", 0.2, picture),
            "wrist": ("observation.images.wrist", 0.5, picture),
        },
        (0.1, state),
        instruction,
    )


def filled(instruction: str = "pick", **stamps: float) -> Streams:
    s = streams(instruction)
    s.put("front", stamps.get("front", NOW - 0.05), 1)
    s.put("wrist", stamps.get("wrist", NOW - 0.02), 2)
    s.put("joint_states", stamps.get("joint_states", NOW - 0.01), [0.1, 0.2])
    return s


def test_whole_and_fresh_streams_make_an_observation_of_the_newest_messages() -> None:
    s = filled()
    s.put("wrist", NOW - 0.01, 7)
    seen = s.gather(NOW)
    assert isinstance(seen, Observation)
    assert {name: int(p[0, 0, 0]) for name, p in seen.images.items()} == {
        "observation.images.front": 1,
        "observation.images.wrist": 7,
    }
    np.testing.assert_array_equal(seen.state, [0.1, 0.2])
    assert seen.instruction == "pick"
    assert seen.stamps == {"front": NOW - 0.05, "wrist": NOW - 0.01, "joint_states": NOW - 0.01}
    assert seen.stamp == NOW - 0.05  # of its oldest part
    assert s.lacking(NOW) == []


@pytest.mark.parametrize("name", ["front", "wrist", "joint_states"])
def test_one_stream_that_never_came_is_no_observation(name) -> None:
    s = streams()
    for other, message in (("front", 1), ("wrist", 2), ("joint_states", [0.1, 0.2])):
        if other != name:
            s.put(other, NOW, message)
    assert s.gather(NOW) == s.lacking(NOW) == [f"{name}: nothing received"]
    assert s.ages(NOW)[name] == float("inf")


@pytest.mark.parametrize(
    ("name", "stamp", "reason"),
    [
        ("front", NOW - 0.25, "front: 0.25 s old, at most 0.2 s"),
        ("wrist", NOW - 0.55, "wrist: 0.55 s old, at most 0.5 s"),
        ("joint_states", NOW - 0.15, "joint_states: 0.15 s old, at most 0.1 s"),
        ("front", 0.0, "front: 100.00 s old, at most 0.2 s"),
        ("wrist", NOW + 0.2, "wrist: stamped 0.20 s ahead of the clock"),
        ("joint_states", NOW + 1e6, "joint_states: stamped 1000000.00 s ahead of the clock"),
    ],
)
def test_one_stream_out_of_time_is_no_observation(name, stamp, reason) -> None:
    assert filled(**{name: stamp}).gather(NOW) == [reason]


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
        s.put("front", later, 1)
        s.put("joint_states", later, [0.1, 0.2])
        assert [r.split(":")[0] for r in s.gather(later)] == ["wrist"]


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


def test_messages_that_cannot_be_decoded_name_their_streams() -> None:
    s = filled()
    s.put("front", NOW, None)
    s.put("joint_states", NOW, [0.1])
    assert s.gather(NOW) == ["front: no picture in it", "joint_states: 1 joints"]


def test_a_slow_decoder_does_not_hold_up_the_streams() -> None:
    busy, go_on = threading.Event(), threading.Event()

    def slow(message) -> np.ndarray:
        busy.set()
        assert go_on.wait(5.0)
        return picture(message)

    s = Streams({"front": ("f", 0.2, slow)}, (0.1, state), "pick")
    s.put("front", NOW, 1)
    s.put("joint_states", NOW, [0.1, 0.2])
    seen: list = []
    reader = threading.Thread(target=lambda: seen.append(s.gather(NOW)))
    reader.start()
    try:
        assert busy.wait(5.0)
        s.put("front", NOW + 1.0, 9)  # would wait for the decoder's lock if there were one
        s.set_instruction("stop")
        assert s.instruction == "stop"
        assert not seen
    finally:
        go_on.set()
        reader.join(5.0)
    # The observation is of one moment: nothing that came during the decoding is in it.
    assert (seen[0].instruction, seen[0].stamps["front"]) == ("pick", NOW)
    assert int(seen[0].images["f"][0, 0, 0]) == 1
