"""What the safety monitor says of itself in diagnostics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from smolvla_ros.ros.diagnostics import ERROR, OK, WARN
from smolvla_ros.ros.graph import Findings
from smolvla_ros.safety import Gate, Kind, Output, State

_ALARM = 1.0  # s for which the arm has been pushed against something


def security() -> str:
    """Whether this process asks for SROS 2: without it anybody on the network may write the
    arm's topic."""
    if os.environ.get("ROS_SECURITY_ENABLE", "").lower() != "true":
        return "off"
    return os.environ.get("ROS_SECURITY_STRATEGY", "Permissive")


def level_and_words(
    out: Output, gate: Gate, findings: Findings, alarms: list[str], late: bool
) -> tuple[bytes, str]:
    """The level, and a sentence.

    Args:
        out: the last tick's. findings: the last look at the graph. alarms: what else must
            be told at ERROR. late: whether ticks have come late since the last look.
    """
    words = out.state.value
    why = out.verdict.detail or out.verdict.check
    if why and why != words:
        words += f": {why}"
    errors = [*findings.bypass, *alarms]
    blocked = gate.blocked_for
    warnings = [*findings.crowded]
    if blocked > _ALARM:
        warnings.append(f"blocked for {blocked:.0f} s")
    if late:
        warnings.append("late ticks")
    if errors or warnings:
        words += f" ({'; '.join(errors + warnings)})"
    if out.state is State.STOPPED or errors:
        return ERROR, words
    # A stop that has not come to rest yet is already one.
    if out.verdict.kind is Kind.STOPPED:
        return ERROR, words
    if warnings or out.state in (State.WAITING, State.BRAKING):
        return WARN, words
    return OK, words


def figures(out: Output, gate: Gate, now: float) -> dict[str, Any]:
    """The gate's numbers; the caller holds its lock. Seconds, metres, radians."""
    verdict = out.verdict
    values: dict[str, Any] = {
        "state": out.state.value,
        "verdict": verdict.kind.value,
        "check": verdict.check,
        "detail": verdict.detail,
        "source": out.source,
        "clearance_m": out.clearance,
        "nearest": out.pair,
        "min_clearance_m": gate.min_clearance,
        "tracking_error_rad": gate.tracking_error,
        "blocked_s": gate.blocked_for,
        "late_ticks": gate.late_ticks,
        "stop": gate.stop_check,
        "stop_reason": gate.stop_reason,
    }
    if gate.feedback.whole:
        values["joint_state_age_s"], values["oldest_joint"] = gate.feedback.age(now)
    else:
        values["joints_missing"] = ", ".join(gate.feedback.missing)
    counters: dict[str, Mapping[str, int]] = {
        "verdicts": gate.verdicts,
        "checks": gate.checks,
        "refused": gate.refusals,
        "chunk_jump_rad": gate.chunk_jumps,
    }
    for name, counter in counters.items():
        values |= {f"{name}/{k}": n for k, n in counter.items()}
    return values
