"""What a check found: one line a thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``error``: nothing may move; ``warning``: somebody should look; ``ok``.
        subject: the cell's key, or the topic, that it is about.
        text: what is there, with the numbers. fix: what to change; empty where nothing.
    """

    level: Literal["ok", "warning", "error"]
    subject: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" + (f"; {self.fix}" if self.fix else "")


def problem(line: str, path: object) -> Finding:
    """A line of a ConfigError of the file ``path`` as a finding."""
    subject, _, text = line.removeprefix(f"{path}: ").partition(": ")
    text, _, fix = text.partition("; ")
    return Finding("error", subject, text, fix)


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that keep a policy from running."""
    return [f for f in findings if f.level == "error"]
