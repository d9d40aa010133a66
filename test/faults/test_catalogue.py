"""Every fault has a test, or says why it has none; and the table is what happened."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from catalogue import NOT_TESTABLE, TITLES

HERE = Path(__file__).parent


def test_every_fault_is_tried_or_says_why_not():
    text = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    tried = {m.upper() for m in re.findall(r"def test_(f\d\d)_", text)}
    assert tried | set(NOT_TESTABLE) == set(TITLES) == {f"F{n:02}" for n in range(1, 83)}


def test_f31_action_and_service_bypass():
    pytest.skip(NOT_TESTABLE["F31"])


def test_f33_middleware_without_deadlines():
    pytest.skip(NOT_TESTABLE["F33"])


def test_f77_who_may_reset():
    pytest.skip(NOT_TESTABLE["F77"])


def test_f81_power_off_drops_the_arm():
    pytest.skip(NOT_TESTABLE["F81"])


def faults(*arguments):
    from smolvla_ros.cli import faults as command

    program = (
        "import argparse, sys; from smolvla_ros.cli import faults;"
        "p = argparse.ArgumentParser(); faults.add(p.add_subparsers());"
        "a = p.parse_args(sys.argv[1:]); sys.exit(a.run(a))"
    )
    assert command.RESULTS
    return subprocess.run(
        [sys.executable, "-c", program, "faults", *arguments], capture_output=True, text=True
    )


def test_the_command_prints_what_became_of_each_fault():
    ran = faults("--json", "-k", "f03 or f20 or f33")
    found = json.loads(ran.stdout)
    assert ran.returncode == 0
    assert {r["fault"]: r["result"] for r in found["faults"]} == {
        "F03": "survived",
        "F20": "survived",
        "F33": "not_testable",
    }
    assert (found["survived"], found["not_testable"], found["failed"]) == (2, 1, 0)
    assert "rmw_zenoh" in found["faults"][-1]["why"]


def test_a_gate_that_breaks_its_promise_does_not_survive(tmp_path):
    """The table is not blind: a broken test of each kind shows as what it is."""
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text())
    (tmp_path / "test_broken.py").write_text(
        "from trial import Trial\nimport numpy as np\n"
        "def test_f01_leaps(fault):\n"
        "    trial = Trial().enable()\n    trial.ticks(10)\n"
        "    trial.stream.positions[5] = trial.stream.positions[5] + 0.1\n"
        "    fault.judge(trial, set(), trial.checks)\n"
        "def test_f02_says_something_else(fault):\n"
        "    trial = Trial().enable()\n    trial.ticks(10)\n"
        "    fault.judge(trial, 'keep_out', trial.checks)\n"
        "def test_f03_judges_nothing(fault):\n    pass\n"
        "def test_f04_is_fine(fault):\n"
        "    trial = Trial().enable()\n    trial.ticks(10)\n"
        "    fault.judge(trial, 'no_command', trial.checks)\n"
    )
    report = tmp_path / "report.json"
    path = [str(HERE.parent / "support"), str(HERE.parent)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path),
         "-o", f"pythonpath={' '.join(path)}", "--rootdir", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SMOLVLA_ROS_FAULTS_REPORT": str(report)},
    )  # fmt: skip
    assert ran.returncode == 1
    found = {r["fault"]: r["result"] for r in json.loads(report.read_text())}
    assert found == {
        "F01": "failed", "F02": "wrong_reason", "F03": "failed", "F04": "survived",
    }  # fmt: skip
