"""``smolvla-ros bench cells``: a whole cell is measured, and figures are of motion."""

from __future__ import annotations

import json

import pytest

from smolvla_ros.cli.main import main


def test_a_cell_in_motion_is_measured(tmp_path, capsys) -> None:
    pytest.importorskip("rclpy", reason="no ROS here")
    pytest.importorskip("lerobot")
    out = tmp_path / "cells.json"
    words = ["bench", "cells", "--only", "one", "--seconds", "6", "--json", "--out", str(out)]
    assert main(words) == 0, capsys.readouterr().err
    figures = json.loads(out.read_text())
    (name,) = figures["one"]["arms"]
    assert name == "left"
    arm = figures["one"]["arms"][name]
    assert arm["setpoints"] > 200 and arm["rate_hz"] > 30, "set-points went by"
    assert arm["travel_rad"] > 0.2, "it moved"
    assert arm["chunks_hz"] > 0 and arm["chunk_latency_s"]["p50"] > 0
    assert set(arm["cores"]) == {"safety_monitor", "sim", "vla"}
    assert all(0 < share < 3 for share in arm["cores"].values())


@pytest.mark.parametrize("seconds", ["4", "nan"])
def test_a_length_that_is_none_is_refused(seconds, capsys) -> None:
    assert main(["bench", "cells", "--seconds", seconds]) == 2
    assert "--seconds: " in capsys.readouterr().err
