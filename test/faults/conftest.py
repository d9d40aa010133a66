"""Gathers what became of each fault, and judges it by the oracle."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from catalogue import TITLES
from trial import Trial

from smolvla_ros.cli.processes import private_domain

RANK = ("survived", "not_testable", "wrong_reason", "failed")


class WrongReason(AssertionError):
    """The promise was kept, and the reason reported was another one."""


class Fault:
    """Judge of one test. A test that asks nothing of it fails."""

    def __init__(self) -> None:
        self.asked = False

    def judge(self, trial: Trial, expected: str | set[str], got: str | set[str]) -> None:
        """The oracle finds nothing in what left the gate, and the reason is the right one.

        expected, got: check words; a set that is expected must be among a set that is got.
        """
        self.sent(trial.oracle.findings(trial.stream))
        self.reason(expected, got)

    def sent(self, findings: list) -> None:
        """What the oracle found in what left the gate: nothing."""
        self.asked = True
        assert not findings, "; ".join(map(str, findings))

    def reason(self, expected: str | set[str], got: str | set[str]) -> None:
        """The reason alone, where nothing moved or nothing was loaded."""
        self.asked = True
        right = expected == got
        if isinstance(got, set):
            right = ({expected} if isinstance(expected, str) else expected) <= got
        if not right:
            raise WrongReason(f"reason {got!r}, expected {expected!r}")

    def rejected(self, error: BaseException, *words: str) -> None:
        """A description or a cell that is refused says why."""
        self.asked = True
        missing = [w for w in words if w not in str(error)]
        if missing:
            raise WrongReason(f"{str(error)!r} does not name {', '.join(missing)}")


@pytest.fixture
def fault(request):
    request.node.fault = Fault()
    return request.node.fault


@pytest.fixture
def domain():
    """A ROS domain of the test's own."""
    number, lock = private_domain()
    with lock:
        yield number


# -- the table -------------------------------------------------------------------------------

_results: dict[str, list[tuple[str, str]]] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    number = re.match(r"test_(f\d\d)_", item.name)
    if number is None:
        return
    name = number[1].upper()
    judge = getattr(item, "fault", None)
    if report.when == "call" and report.passed and not (judge and judge.asked):
        report.outcome, report.longrepr = "failed", "this test judged nothing"
    if report.skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _results.setdefault(name, []).append(("not_testable", why.removeprefix("Skipped: ")))
    elif report.failed:
        wrong = call.excinfo is not None and call.excinfo.errisinstance(WrongReason)
        text = str(call.excinfo.value) if call.excinfo else str(report.longrepr)
        why = f"{item.name}: {(text.splitlines() or [''])[0]}"
        _results.setdefault(name, []).append(("wrong_reason" if wrong else "failed", why[:300]))
    elif report.when == "call":
        _results.setdefault(name, []).append(("survived", ""))


def table() -> list[dict[str, str]]:
    """One row a fault that was tried; the worst of its tests counts, a skipped one only
    where nothing else was tried."""
    rows = []
    for name, found in sorted(_results.items()):
        tried = [f for f in found if f[0] != "not_testable"] or found
        result, why = max(tried, key=lambda f: RANK.index(f[0]))
        rows.append({"fault": name, "title": TITLES[name], "result": result, "why": why})
    return rows


def pytest_sessionfinish(session):
    path = os.environ.get("SMOLVLA_ROS_FAULTS_REPORT")
    if path:
        Path(path).write_text(json.dumps(table()))
