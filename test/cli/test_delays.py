"""The shipped policy's motion at injected inference delays, on a simulated clock."""

from __future__ import annotations

import pytest

pytest.importorskip("lerobot")

from smolvla_ros.cli.benchmark.delays import MODES, delays


@pytest.fixture(scope="module")
def rows():
    return {(r["delay"], r["mode"]): r for r in delays(shares=(0.3, 0.8), seconds=6.0, seed=1)}


def test_every_delay_is_tried_in_every_mode(rows) -> None:
    assert set(rows) == {(d, m) for d in (0.3, 0.8) for m in MODES}


@pytest.mark.parametrize("delay", [0.3, 0.8])
def test_our_runtime_never_starves_and_joins_better_than_half_of_naive(rows, delay) -> None:
    ours, naive = rows[delay, "rtc"], rows[delay, "naive_async"]
    assert ours["starved"] == 0
    assert 0.0 < ours["seam_dq"] <= 0.5 * naive["seam_dq"]
    assert 0.0 < ours["seam_dv"] <= 0.5 * naive["seam_dv"]


def test_the_measure_sees_an_arm_that_starves(rows) -> None:
    # Of 16 rows: 4 to 5 a chunk while sync infers; naive waits from the 16th to the 26th.
    assert rows[0.3, "sync"]["starved"] >= 8
    assert rows[0.8, "naive_async"]["starved"] >= 10
