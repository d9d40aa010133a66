"""What an evaluation tries, what came of it, and the figures of all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smolvla_ros.learn import tasks as words
from smolvla_ros.learn.statistics import median, rate
from smolvla_ros.learn.tasks import TASKS, Task, instruction

HELD_OUT = 100_000
"""Scenes with this seed and above are for evaluation alone, in wordings kept for it; those below
are asked for in the wordings of development."""

GATES = ("on", "off", "shadow")
"""The gate decides; there is none; or it computes and the arm follows the chunks."""

LIMITS = {"touch": 10.0, "pick": 20.0}
"""Seconds that an episode may take."""

SAME, OTHER, NONE = "same", "other", "none"
# The gate holds because nothing was asked of it, or because the evaluation let go of it.
_WAITING = ("no_command", "disable")


@dataclass(frozen=True)
class Trial:
    """One episode to run.

    Attributes:
        seed: of the scene. task: None where the instruction names no block.
        instruction: in words that no training used. limit: s.
        check: ``same``: the evaluation proper. ``other``: the same scene and task with another
            block named. ``none``: the same scene with no block named.
    """

    seed: int
    task: Task | None
    instruction: str
    limit: float
    check: str = SAME


@dataclass(frozen=True)
class Outcome:
    """What came of a trial; radians, metres, seconds, and events by name.

    Attributes:
        success, seconds: the task was done, and how long after the instruction.
        lasted: s of the episode. touched, lifted: blocks, in the order in which they were.
        contacts: of the arm with ``table``, ``bin`` and ``self``.
        verdicts, checks: the gate's ticks by what it did, and by why. refused: commands that
            it did not take, by why.
        stopped: why the gate stopped, latched; empty if it did not.
        limit_violations, clearance_breaches, min_clearance: of the set-points that the arm
            got, recomputed from them.
    """

    trial: Trial
    success: bool
    seconds: float | None
    lasted: float
    touched: tuple[str, ...] = ()
    lifted: tuple[str, ...] = ()
    contacts: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
    limit_violations: int = 0
    clearance_breaches: int = 0
    min_clearance: float = float("inf")

    @property
    def wrong(self) -> bool:
        """Another block than the named one was touched (where picking was asked for: lifted)
        before success."""
        task = self.trial.task
        if task is None:
            return False
        acted_on = self.touched if task.kind == "touch" else self.lifted
        return any(block != task.block for block in acted_on)

    @property
    def good(self) -> bool:
        """The arm did what it was told; where no block was named, it touched none."""
        return not self.touched if self.trial.task is None else self.success

    @property
    def word(self) -> str:
        """How it ended, in one word."""
        if self.trial.task is None:
            return "touched" if self.touched else "stayed"
        return "success" if self.success else "wrong" if self.wrong else "failure"

    @property
    def name(self) -> str:
        """For files and pictures: ``100003_touch_red``."""
        task, check = self.trial.task, self.trial.check
        words = [str(self.trial.seed), *((task.kind, task.block) if task else ("no_block",))]
        return "_".join(words + ([check] if check == OTHER else []))


def plan(
    seeds: Sequence[int],
    blocks: Sequence[str],
    tasks: Sequence[str] = TASKS,
    language: int | None = None,
    limits: dict[str, float] = LIMITS,
) -> list[Trial]:
    """The trials of an evaluation: one a scene, and two more for the language check.

    Task, colour and words follow from the scene's seed alone; over consecutive seeds tasks
    come in turn, and so do the colours of each.

    Args:
        blocks: of the scene. language: scenes of the language check; None: all.
    """
    trials: list[Trial] = []
    for n, seed in enumerate(seeds):
        kind = tasks[seed % len(tasks)]
        use = words.HELD_OUT if seed >= HELD_OUT else words.DEVELOPMENT
        draw = np.random.default_rng([seed, 2])  # 0 places the blocks, 1 varies the scene
        named = (seed // len(TASKS)) % len(blocks)
        task = Task(kind, blocks[named])
        trials.append(Trial(seed, task, instruction(task, draw, use), limits[kind]))
        if language is not None and n >= language:
            continue
        rest = [b for b in blocks if b != task.block]
        if rest:
            task = Task(kind, rest[int(draw.integers(len(rest)))])
            text = instruction(task, draw, use)
            trials.append(Trial(seed, task, text, limits[kind], OTHER))
        text = instruction(None, draw, use)
        trials.append(Trial(seed, None, text, limits["touch"], NONE))
    return trials


def summarise(outcomes: Iterable[Outcome], tasks: Sequence[str], blocks: Sequence[str]) -> dict:
    """The figures of an evaluation, ready for JSON: shares, seconds, metres, counts.

    ``success`` and the like are shares of ``n``. Every count and ``min_clearance_m`` is over
    all episodes, those of the language check included. ``interventions``: the gate's ticks by
    what it did and by why, without those in which nothing was asked of it.
    """
    outcomes = list(outcomes)
    by_check = {c: [o for o in outcomes if o.trial.check == c] for c in (SAME, OTHER, NONE)}
    summary: dict[str, Any] = {"episodes": len(outcomes), "tasks": {}, "language": {}}
    for kind in tasks:
        summary["tasks"][kind] = _of_task(by_check[SAME], kind, blocks)
    others = {kind: [o for o in by_check[OTHER] if o.trial.task.kind == kind] for kind in tasks}
    if by_check[OTHER]:
        summary["language"]["other_colour"] = {k: _shares(v) for k, v in others.items()}
    if by_check[NONE]:
        touched = sum(bool(o.touched) for o in by_check[NONE])
        found = rate(touched, len(by_check[NONE]))
        found["touched_any"] = found.pop("success")
        summary["language"]["no_block"] = found
    ticks = _added(o.verdicts for o in outcomes)
    checks = _added(o.checks for o in outcomes)
    if waited := sum(checks.pop(word, 0) for word in _WAITING):
        ticks["held"] -= waited
    clearances = [o.min_clearance for o in outcomes if np.isfinite(o.min_clearance)]
    contacts = _added(o.contacts for o in outcomes)
    return summary | {
        "limit_violations": sum(o.limit_violations for o in outcomes),
        "clearance_breaches": sum(o.clearance_breaches for o in outcomes),
        "min_clearance_m": round(min(clearances), 6) if clearances else None,
        "interventions": {
            "ticks": ticks,
            "checks": checks,
            "refused": _added(o.refused for o in outcomes),
            "stops": dict(Counter(o.stopped for o in outcomes if o.stopped)),
        },
        "contacts": {
            name: {"count": n, "episodes": sum(o.contacts.get(name, 0) > 0 for o in outcomes)}
            for name, n in contacts.items()
        },
        "simulated_s": round(sum(o.lasted for o in outcomes), 2),
    }


def _of_task(outcomes: list[Outcome], kind: str, blocks: Sequence[str]) -> dict[str, Any]:
    ours = [o for o in outcomes if o.trial.task.kind == kind]
    colours = {b: [o for o in ours if o.trial.task.block == b] for b in blocks}
    found = _shares(ours)
    found["colours"] = {block: _shares(some) for block, some in colours.items()}
    return found


def _shares(outcomes: list[Outcome]) -> dict[str, Any]:
    n = len(outcomes)
    found = rate(sum(o.success for o in outcomes), n)
    wrong = rate(sum(o.wrong for o in outcomes), n)
    return found | {
        "wrong_colour": wrong["success"],
        "wrong_colour_ci95": wrong["ci95"],
        "seconds_p50": median([o.seconds for o in outcomes if o.success]),
    }


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def describe(outcome: Outcome) -> dict[str, Any]:
    """One episode for JSON."""
    trial = outcome.trial
    return {
        "seed": trial.seed,
        "check": trial.check,
        "task": trial.task.kind if trial.task else None,
        "block": trial.task.block if trial.task else None,
        "instruction": trial.instruction,
        "success": outcome.success,
        "seconds": None if outcome.seconds is None else round(outcome.seconds, 3),
        "touched": list(outcome.touched),
        "lifted": list(outcome.lifted),
        "stopped": outcome.stopped,
        "limit_violations": outcome.limit_violations,
        "clearance_breaches": outcome.clearance_breaches,
        "min_clearance_m": (
            round(outcome.min_clearance, 6) if np.isfinite(outcome.min_clearance) else None
        ),
    }


def table(summary: dict[str, Any]) -> str:
    """The shares of a summary, a line each, for people."""
    lines = [f"{'':24s} {'n':>4s}  success  95 % interval    wrong  median"]
    for kind, found in summary["tasks"].items():
        lines.append(_line(kind, found))
        lines += [_line(f"  {block}", some) for block, some in found["colours"].items()]
    for kind, found in summary["language"].get("other_colour", {}).items():
        lines.append(_line(f"{kind}, another colour", found))
    if found := summary["language"].get("no_block"):
        lines.append(_line("no block named: touched", found | {"success": found["touched_any"]}))
    return "\n".join(lines)


def _line(name: str, found: dict[str, Any]) -> str:
    if not found["n"]:
        return f"{name:24s} {0:4d}"
    low, high = found["ci95"]
    line = f"{name:24s} {found['n']:4d}  {found['success']:6.1%}   {low:5.1%} to {high:6.1%}"
    if "wrong_colour" in found:
        line += f"  {found['wrong_colour']:6.1%}"
    if found.get("seconds_p50") is not None:
        line += f"  {found['seconds_p50']:4.1f} s"
    return line
