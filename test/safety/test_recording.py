"""The ring of the last seconds and the file it becomes."""

from __future__ import annotations

import json
import math
import time
from array import array

import numpy as np
import pytest

from smolvla_ros.safety.recording import Recorder, Ring, command_line


def state(**joints):
    return {"names": list(joints), "positions": list(joints.values())}


def keys(lines):
    return [next(k for k in line if k != "t") for line in lines]


def written(recorder, count=1, seconds=5.0):
    until = time.monotonic() + seconds
    while True:
        found = sorted(recorder._directory.glob("*.jsonl"))
        if len(found) >= count:
            return found
        assert time.monotonic() < until, recorder.problem
        time.sleep(0.01)


def test_lines_come_out_in_order_as_they_went_in() -> None:
    ring = Ring(10.0)
    ring.add(1.0, "joint_state", state(a=0.5))
    ring.add(1.2, "enable", True)
    ring.add(1.1, "heartbeat", True)  # a callback that a tick overtook
    points = [array("d", [0.1]), array("d", [math.nan])]
    ring.add(1.3, "command", command_line("policy", None, ["a"], [0.0, 0.5], points, "01"))
    ring.add(1.31, "output", {"positions": np.array([0.5]), "state": "following"})
    lines = json.loads(json.dumps(ring.lines()))
    assert keys(lines) == ["joint_state", "heartbeat", "enable", "command", "output"]
    command = lines[3]["command"]
    assert command["points"][0] == {"t": 0.0, "positions": [0.1]}
    assert math.isnan(command["points"][1]["positions"][0]), "what was refused is kept as it was"
    assert "stamp" not in command and command["publisher"] == "01"
    assert lines[4]["output"] == {"positions": [0.5], "state": "following"}


def test_only_the_last_seconds_are_kept() -> None:
    ring = Ring(2.0)
    for k in range(1000):
        ring.add(k * 0.01, "output", {"k": k})
    kept = [line["output"]["k"] for line in ring.lines()]
    assert kept[-1] == 999 and kept == list(range(kept[0], 1000))
    assert 199 <= len(kept) <= 202


def test_a_ring_that_begins_in_mid_motion_says_first_what_was_so_by_then() -> None:
    ring = Ring(1.0)
    ring.add(0.0, "joint_state", state(a=0.1, b=0.2))
    ring.add(0.1, "joint_state", state(b=0.3))  # the arm's joints come in parts
    ring.add(0.2, "enable", True)
    ring.add(0.25, "obstacles", [{"id": "cup"}])
    ring.add(0.26, "hinder", {"check": "gone", "detail": "no word"})
    ring.add(0.27, "hinder", {"check": "late", "detail": "no word"})
    ring.add(0.28, "hinder", {"check": "gone", "detail": ""})
    rows = [[0.1 + 0.1 * k] for k in range(41)]
    ring.add(0.3, "command", command_line("policy", 0.25, ["a"], list(np.arange(41) * 0.1), rows))
    for k in range(4, 30):
        ring.add(k * 0.1, "output", {"k": k})
    lines = ring.lines()
    first = lines[5]["t"]
    wanted = ["joint_state", "obstacles", "enable", "command", "hinder", "output"]
    assert keys(lines[:6]) == wanted, "what hinders comes last, or nothing could be enabled"
    assert lines[4]["hinder"]["check"] == "late"
    assert {line["t"] for line in lines[:5]} == {first}
    assert dict(zip(*lines[0]["joint_state"].values(), strict=True)) == {"a": 0.1, "b": 0.3}
    command = lines[3]["command"]
    assert command["stamp"] == first, "else it would be older than the enabling before it"
    point = command["points"][0]
    assert 0.0 <= point["t"] < 0.1, "what is past is left out"
    # The same place at the same time as in the command that was sent.
    assert point["positions"][0] == pytest.approx(0.1 + (first - 0.25 + point["t"]))
    assert len(command["points"]) + round((first - 0.25) / 0.1 + 0.5) == 41


def test_a_goal_that_was_cancelled_before_the_ring_begins_is_not_begun_again() -> None:
    ring = Ring(1.0)
    ring.add(0.1, "enable", True)
    for source in ("moveit", "policy"):
        ring.add(0.2, "command", command_line(source, 0.2, ["a"], [0.0, 9.0], [[0.1], [0.2]]))
    ring.add(0.3, "cancel", "moveit")
    for k in range(4, 30):
        ring.add(k * 0.1, "output", {})
    commands = [line["command"]["source"] for line in ring.lines() if "command" in line]
    assert commands == ["policy"]


@pytest.mark.parametrize("ending", ["stop", "reset", "disable"])
def test_what_ended_before_the_ring_begins_is_not_begun_again(ending) -> None:
    ring = Ring(1.0)
    ring.add(0.0, "joint_state", state(a=0.1))
    ring.add(0.1, "enable", True)
    ring.add(0.2, "command", command_line("policy", 0.2, ["a"], [0.0, 9.0], [[0.1], [0.2]]))
    ring.add(0.3, *(("enable", False) if ending == "disable" else (ending, True)))
    for k in range(4, 30):
        ring.add(k * 0.1, "output", {})
    assert set(keys(ring.lines())) == {"joint_state", "output"}


def test_a_stop_becomes_a_file_that_names_when_and_why(tmp_path) -> None:
    ring = Ring(1.0)
    ring.add(5.0, "stop", True)
    recorder = Recorder(ring, tmp_path / "new" / "folder", wall=lambda: 86400.0)
    recorder.write("tracking error/hard")
    (path,) = written(recorder)
    assert path.name == "stop_19700102T000000Z_tracking_error_hard.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"t": 5.0, "stop": True}
    ]
    recorder.close()
    assert (recorder.written, recorder.problem) == (str(path), "")
    assert not list(path.parent.glob("*.part"))


def test_a_file_asked_for_at_the_end_is_still_written(tmp_path) -> None:
    ring = Ring(1.0)
    ring.add(5.0, "stop", True)
    recorder = Recorder(ring, tmp_path)
    recorder.write("ending")
    recorder.close()
    assert recorder.written.endswith("_ending.jsonl")


# F82
def test_a_disk_that_takes_nothing_only_shows(tmp_path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    ring = Ring(1.0)
    ring.add(5.0, "stop", True)
    recorder = Recorder(ring, in_the_way / "folder")
    recorder.write("stop")
    until = time.monotonic() + 5.0
    while not recorder.problem:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert str(in_the_way) in recorder.problem and recorder.written == ""
    in_the_way.unlink()  # somebody made room
    recorder.write("stop")
    recorder.close()
    assert recorder.problem == "" and recorder.written


def test_adding_costs_the_tick_nothing_that_counts() -> None:
    ring = Ring(0.5)  # full most of the time: adding also lets go
    q = np.zeros(7)
    costs = []
    for k in range(5000):
        began = time.perf_counter()
        ring.add(k * 0.001, "output", {"positions": q, "velocities": q, "state": "following"})
        costs.append(time.perf_counter() - began)
    assert np.median(costs) < 20e-6
