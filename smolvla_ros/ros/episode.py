"""How an episode goes, as the simulator says it: diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

if TYPE_CHECKING:
    from smolvla_ros.sim.judge import Judgement


@dataclass(frozen=True)
class Episode:
    """A word on an episode.

    Attributes:
        number: counts the resets, from 1. seed, task: what it is of. time: simulated s since
            the reset.
        success, at, lost, touched, lifted, contacts: as of a ``Judgement``.
    """

    number: int
    seed: int
    task: str
    time: float
    success: bool
    at: float | None
    lost: bool
    touched: tuple[str, ...]
    lifted: tuple[str, ...]
    contacts: dict[str, int]


def to_message(
    name: str, number: int, seed: int, task: str, time: float, judgement: Judgement
) -> DiagnosticStatus:
    """``name``: the simulator's. Values are JSON."""
    j = judgement
    message = "success" if j.success else "failed" if j.lost else "running"
    values = {
        "number": number,
        "seed": seed,
        "task": task,
        "time": round(time, 6),
        "success": j.success,
        "at": j.at,
        "lost": j.lost,
        "touched": j.touched,
        "lifted": j.lifted,
        "contacts": j.contacts,
    }
    return DiagnosticStatus(
        level=DiagnosticStatus.OK,
        name=f"{name}: episode",
        message=message,
        hardware_id="smolvla_ros",
        values=[KeyValue(key=k, value=json.dumps(v)) for k, v in values.items()],
    )


def from_message(message: DiagnosticStatus) -> Episode:
    """The other way."""
    values = {v.key: json.loads(v.value) for v in message.values}
    for name in ("touched", "lifted"):
        values[name] = tuple(values[name])
    return Episode(**values)
