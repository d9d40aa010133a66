"""What people see of a policy: a level, a sentence, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smolvla_ros.ros.diagnostics import ERROR, OK, WARN


def level_and_words(
    state: str, failed: str, lacking: Sequence[str], warning: str
) -> tuple[bytes, str]:
    """The level, and a sentence.

    Args:
        state: "inactive", "paused" or, while it acts, an empty text. failed: why inference
            failed. lacking: why there is no observation. warning: what inference costs.
    """
    if state:
        return OK, state
    if failed:
        return ERROR, failed
    if lacking:
        idle = len(lacking) == 1 and lacking[0].startswith("instruction: ")
        return (OK if idle else WARN), f"no observation: {'; '.join(lacking)}"
    if warning:
        return WARN, f"publishing chunks; {warning}"
    return OK, "publishing chunks"


def stream_values(streams: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Age, rate and what is wrong of each stream: ``age_s``, ``rate_hz`` and ``reason``."""
    values: dict[str, Any] = {}
    for name, found in streams.items():
        values |= {f"age_s/{name}": found["age_s"], f"rate_hz/{name}": found["rate_hz"]}
        if found["reason"]:
            values[f"reason/{name}"] = found["reason"]
    return values


class Told:
    """Keeps a log to one line a reason: while it lasts, its numbers are in the diagnostics."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def news(self, reasons: Sequence[str]) -> list[str]:
        """Those of ``reasons`` that were not there the last time, whatever their numbers."""
        kinds = {"".join(c for c in reason if not c.isdigit()): reason for reason in reasons}
        new = [reason for kind, reason in kinds.items() if kind not in self._told]
        self._told = set(kinds)
        return new
