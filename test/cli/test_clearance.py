"""``smolvla-ros clearance``: known motions of an arm whose every corner is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import cos, sin

import numpy as np
import pytest
import yaml
from turret import CONTACTS, TURRET

from smolvla_ros.cli.main import main

ZONES = {
    "floor": {"kind": "keep_out", "shape": "box", "size": [4.0, 4.0, 0.1],
              "position": [0.0, 0.0, -0.05], "links": ["beam", "left", "right"]},
    "high": {"kind": "slow", "shape": "half_space", "position": [0.0, 0.0, 0.6],
             "rpy": [3.141592653589793, 0.0, 0.0], "speed_ratio": 0.5},
}  # fmt: skip


def lowest(lift: float) -> float:
    """Height of the fingers' lowest corner, by the description's own numbers."""
    return 0.45 + 0.51 * sin(lift) - 0.01 * cos(lift)


@pytest.fixture
def clearance(tmp_path, capsys):
    """Run the command on lines: (figures, what it printed)."""
    (tmp_path / "arm.urdf").write_text(TURRET)
    (tmp_path / "arm.srdf").write_text(CONTACTS)
    (tmp_path / "zones.yaml").write_text(yaml.safe_dump(ZONES))
    words = [
        "--urdf", str(tmp_path / "arm.urdf"), "--srdf", str(tmp_path / "arm.srdf"),
        "--acceleration", "5", "--zones", str(tmp_path / "zones.yaml"), "--margin", "0.02",
    ]  # fmt: skip

    def run(lines) -> tuple[dict, str]:
        given, out = tmp_path / "in.jsonl", tmp_path / "out.json"
        given.write_text("\n".join(map(json.dumps, lines)))
        code = main(["clearance", *words, "--in", str(given), "--json", str(out)])
        said = capsys.readouterr()
        return (json.loads(out.read_text()), said.out) if code == 0 else ({}, said.err)

    return run


def measured(t: float, **joints: float) -> dict:
    return {"t": t, "joint_state": {"names": list(joints), "positions": list(joints.values())}}


def test_the_nearest_moment_of_a_dive_and_how_long_it_was_too_near(clearance):
    # At 100 Hz down to -1 rad, and back up.
    way = np.concatenate([np.linspace(0.0, -1.0, 101), np.linspace(-0.99, 0.0, 100)])
    rows = [(5.0 + 0.01 * k, lift) for k, lift in enumerate(way)]
    found, said = clearance([measured(t, turn=0.0, lift=q, grip=0.0) for t, q in rows])
    floor = found["zones"]["floor"]
    assert floor["kind"] == "keep_out" and floor["margin_m"] == 0.02
    near = floor["measured"]
    assert near["clearance_m"] == pytest.approx(lowest(-1.0), abs=1e-5)
    assert near["at_s"] == pytest.approx(1.0) and near["link"] in ("left", "right")
    too_near = 0.01 * sum(lowest(q) < 0.02 - 0.001 for q in way)  # less the slack
    assert 0.0 < too_near == pytest.approx(near["below_margin_s"], abs=0.011)
    assert "sent" not in floor and found["positions"] == {"measured": 201}
    assert found["zones"]["high"]["measured"]["below_margin_s"] == 0.0, "never in the slow zone"
    assert f"{lowest(-1.0) * 1e3:.1f} mm {near['link']} at 1.00 s" in said
    assert "column ~ left" in said, "the arm against itself, too"


def test_what_was_sent_and_what_was_measured_are_told_apart(clearance):
    lines = []
    for k in range(20):
        lines.append({"t": 0.01 * k, "output": {"positions": [0.0, -0.6, 0.0], "state": "holding"}})
        lines.append(measured(0.01 * k + 0.001, turn=0.0, lift=-0.65, grip=0.0))
    found, said = clearance(lines)
    floor = found["zones"]["floor"]
    assert floor["sent"]["clearance_m"] == pytest.approx(lowest(-0.6), abs=1e-5)
    assert floor["measured"]["clearance_m"] == pytest.approx(lowest(-0.65), abs=1e-5)
    assert "20 measured, 20 sent positions" in said


def test_the_space_that_the_links_took_is_a_box_that_holds_them_with_the_margin(clearance):
    lines = [measured(2.0 * k, turn=q, lift=0.0, grip=0.03) for k, q in enumerate((0.0, np.pi / 2))]
    found, _ = clearance(lines)
    # The finger mimics: 30 mm out, 10 mm wide on its centre line 20 mm off the axis.
    np.testing.assert_allclose(found["space"]["left"]["high"], [0.57, 0.57, 0.46], atol=1e-9)
    np.testing.assert_allclose(found["space"]["left"]["low"], [-0.06, 0.04, 0.44], atol=1e-9)
    low = np.min([box["low"] for box in found["space"].values()], axis=0)
    high = np.max([box["high"] for box in found["space"].values()], axis=0)
    size, position = np.array(found["keep_in"]["size"]), np.array(found["keep_in"]["position"])
    assert (position - size / 2 <= low - 0.02 + 1e-9).all()
    assert (position + size / 2 >= high + 0.02 - 1e-9).all()
    assert (size - (high - low + 0.04) < 0.02 + 1e-9).all(), "and not much larger"


def test_parts_count_together_and_what_no_gate_would_take_is_left_out(clearance):
    lines = [
        measured(0.0, turn=0.0, lift=-0.2),
        measured(0.1, grip=0.0),
        measured(0.15, turn=0.0, lift=-37.0),  # a glitch: no motion explains it
        {"t": 0.2, "joint_state": {"names": ["lift"], "positions": [float("nan")]}},
        {"t": 0.3, "joint_state": {"names": ["lift", "turn"], "positions": [0.5]}},
        {"t": 0.35, "joint_state": {"names": "lift"}},
        {"t": 0.4, "command": {"source": "policy"}},
        {"t": 0.5, "output": {"positions": None}},
        {"t": 0.5, "output": {"positions": [0.0, 0.0]}},
        {"t": 0.5, "output": {"positions": [0.0, float("nan"), 0.0]}},
        measured(0.6, wheel=7.0),
        measured(20.0, lift=-0.1),
    ]
    found, _ = clearance(lines)
    assert found["positions"] == {"measured": 3}
    assert found["zones"]["floor"]["measured"]["clearance_m"] == pytest.approx(
        lowest(-0.2), abs=1e-5
    )
    assert found["duration_s"] == pytest.approx(19.9)


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path):
    (tmp_path / "arm.urdf").write_text(TURRET)
    words = ["srdf", "--urdf", str(tmp_path / "arm.urdf"), "--samples", "10"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "smolvla_ros.cli.main", *words],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_input_without_a_whole_position_is_an_error(clearance):
    found, said = clearance([measured(0.0, turn=0.0, lift=0.0)])
    assert not found and "no joint state" in said and "grip" in said
