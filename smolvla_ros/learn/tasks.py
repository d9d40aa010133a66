"""What the tabletop's policy is asked to do, and in which words.

A wording is a verb, an opening and a way to name the block. Of all there are, some are held out
for evaluation and others for development; no training ever uses either. Each of their words
occurs in training; the sentence does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

TASKS = ("touch", "pick")
"""touch: the fingertip at a block. pick: the block held above the table."""

COLOURS = ("red", "green", "blue")
THINGS = ("block", "cube")

TRAINING, DEVELOPMENT, HELD_OUT = USES = ("training", "development", "held_out")
"""What a wording is for: to learn from, to choose a recipe by, and to evaluate the result on."""

_OPENINGS = ("", "please ", "now ", "can you ")
_NAMED = ("the {c} {t}", "the {t} that is {c}")
_VERBS = {
    "touch": (
        "touch {}",
        "tap {}",
        "reach for {}",
        "go to {}",
        "move to {}",
        "point at {}",
        "put your finger on {}",
    ),
    "pick": (
        "pick up {}",
        "grasp {}",
        "lift {}",
        "take {}",
        "hold up {}",
        "grab {}",
        "grab {} and lift it",
    ),
}
_MORE = {
    "touch": ("{c} {t}, touch it", "{c} {t}, tap it"),
    "pick": ("{c} {t}, pick it up", "{c} {t}, lift it", "pick the {c} {t} up"),
}
_STAY = (
    "stop",
    "wait",
    "do nothing",
    "stay where you are",
    "hold still",
    "do not move",
    "rest",
    "stay still",
    "touch nothing",
    "pick up nothing",
)
_KEPT_BACK = {
    DEVELOPMENT: {
        "touch": (
            "can you tap the {c} {t}",
            "now reach for the {c} {t}",
            "please point at the {c} {t}",
            "please touch the {t} that is {c}",
            "now go to the {t} that is {c}",
            "move to the {t} that is {c}",
        ),
        "pick": (
            "please grasp the {c} {t}",
            "now take the {c} {t}",
            "can you lift the {c} {t}",
            "now pick up the {t} that is {c}",
            "please hold up the {t} that is {c}",
            "grab the {t} that is {c}",
        ),
        None: ("please wait", "now do not move", "can you stay still", "please rest"),
    },
    HELD_OUT: {
        "touch": (
            "please reach for the {c} {t}",
            "now put your finger on the {c} {t}",
            "can you move to the {c} {t}",
            "point at the {t} that is {c}",
            "please go to the {t} that is {c}",
            "now tap the {t} that is {c}",
            "can you touch the {t} that is {c}",
        ),
        "pick": (
            "please take the {c} {t}",
            "now hold up the {c} {t}",
            "can you grasp the {c} {t}",
            "hold up the {t} that is {c}",
            "please pick up the {t} that is {c}",
            "now lift the {t} that is {c}",
            "can you grab the {t} that is {c} and lift it",
        ),
        None: ("now wait", "please stay where you are", "can you hold still", "now touch nothing"),
    },
}


def _training(every: list[str], kind: str | None) -> tuple[str, ...]:
    kept_back = {text for use in _KEPT_BACK.values() for text in use[kind]}
    if unknown := kept_back - set(every):
        raise AssertionError(f"{kind}: {unknown} are kept back from nothing")
    return tuple(text for text in every if text not in kept_back)


_TEMPLATES = _KEPT_BACK | {
    TRAINING: {
        kind: _training(
            [o + verb.format(n) for verb, o, n in product(verbs, _OPENINGS, _NAMED)]
            + list(_MORE[kind]),
            kind,
        )
        for kind, verbs in _VERBS.items()
    }
    | {None: _training([o + text for text, o in product(_STAY, _OPENINGS)], None)}
}


@dataclass(frozen=True)
class Task:
    """One of :data:`TASKS` with a block of the scene."""

    kind: str
    block: str


def instruction(task: Task | None, draw: np.random.Generator, use: str = TRAINING) -> str:
    """One of :func:`wordings`, drawn evenly."""
    return str(draw.choice(wordings(task, use)))


def wordings(task: Task | None, use: str = TRAINING) -> list[str]:
    """Every wording of ``task`` for one of :data:`USES`; None: those that name no block, at
    which the arm is to stay where it is.

    Raises:
        ValueError: no such task.
    """
    if task is None:
        return list(_TEMPLATES[use][None])
    if task.kind not in TASKS:
        raise ValueError(f"task {task.kind!r}; write one of {', '.join(TASKS)}")
    templates = _TEMPLATES[use][task.kind]
    return [template.format(c=task.block, t=thing) for template in templates for thing in THINGS]


def training_texts() -> list[str]:
    """Every sentence of training: what a tokenizer may be made from."""
    tasks = [Task(kind, colour) for kind in TASKS for colour in COLOURS]
    return [text for task in [*tasks, None] for text in wordings(task)]


def parse_task(text: str) -> Task | None:
    """Which task a wording of this module means; None where it names no block."""
    for kind in TASKS:
        for colour in COLOURS:
            task = Task(kind, colour)
            if any(text in wordings(task, use) for use in USES):
                return task
    return None
