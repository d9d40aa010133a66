"""What the tabletop's policy is asked to do, and in which words.

Some wordings are held out: they are for evaluation, and no training ever uses them. Each of
their words occurs in training; the sentence does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TASKS = ("touch", "pick")
"""touch: the fingertip at a block. pick: the block held above the table."""

COLOURS = ("red", "green", "blue")
THINGS = ("block", "cube")

_TOUCH = (
    "touch the {c} {t}",
    "tap the {c} {t}",
    "please touch the {c} {t}",
    "reach for the {c} {t}",
    "go to the {c} {t}",
    "move to the {c} {t}",
    "put your finger on the {c} {t}",
    "touch the {t} that is {c}",
    "now touch the {c} {t}",
    "can you tap the {c} {t}",
    "point at the {c} {t}",
    "{c} {t}, touch it",
    "please reach for the {c} {t}",
    "please go to the {c} {t}",
    "please move to the {c} {t}",
    "please put your finger on the {c} {t}",
    "now tap the {c} {t}",
    "now reach for the {c} {t}",
    "now move to the {c} {t}",
    "now point at the {c} {t}",
    "can you go to the {c} {t}",
    "can you reach for the {c} {t}",
    "can you point at the {c} {t}",
    "tap the {t} that is {c}",
    "go to the {t} that is {c}",
    "point at the {t} that is {c}",
)
_PICK = (
    "pick up the {c} {t}",
    "grasp the {c} {t}",
    "please pick up the {c} {t}",
    "lift the {c} {t}",
    "take the {c} {t}",
    "grab the {c} {t} and lift it",
    "pick the {c} {t} up",
    "pick up the {t} that is {c}",
    "now pick up the {c} {t}",
    "can you lift the {c} {t}",
    "hold up the {c} {t}",
    "{c} {t}, pick it up",
    "please lift the {c} {t}",
    "please take the {c} {t}",
    "please grab the {c} {t} and lift it",
    "please hold up the {c} {t}",
    "now grasp the {c} {t}",
    "now take the {c} {t}",
    "now grab the {c} {t} and lift it",
    "now hold up the {c} {t}",
    "can you grasp the {c} {t}",
    "can you take the {c} {t}",
    "can you hold up the {c} {t}",
    "grasp the {t} that is {c}",
    "grab the {t} that is {c} and lift it",
    "hold up the {t} that is {c}",
)
_NOTHING = (
    "stop",
    "wait",
    "do nothing",
    "please wait",
    "stay where you are",
    "hold still",
    "do not move",
    "rest now",
    "touch nothing",
    "pick up nothing",
)
_HELD_OUT = {
    "touch": (
        "please tap the {c} {t}",
        "now go to the {c} {t}",
        "can you touch the {c} {t}",
        "put your finger on the {t} that is {c}",
        "reach for the {t} that is {c}",
        "please point at the {c} {t}",
    ),
    "pick": (
        "please grasp the {c} {t}",
        "now lift the {c} {t}",
        "can you pick up the {c} {t}",
        "take the {t} that is {c}",
        "grab the {c} {t}",
        "lift the {t} that is {c}",
    ),
}
_HELD_OUT_NOTHING = (
    "please do nothing",
    "wait where you are",
    "now hold still",
    "please do not move",
    "stay still",
)


@dataclass(frozen=True)
class Task:
    """One of :data:`TASKS` with a block of the scene."""

    kind: str
    block: str


def instruction(task: Task, draw: np.random.Generator, held_out: bool = False) -> str:
    """A wording of ``task``, drawn evenly from those for training or from those held out."""
    return str(draw.choice(wordings(task, held_out)))


def no_block_instruction(draw: np.random.Generator, held_out: bool = False) -> str:
    """A wording that names no block: the arm is to stay where it is."""
    return str(draw.choice(no_block_wordings(held_out)))


def no_block_wordings(held_out: bool = False) -> list[str]:
    """Every wording that names no block."""
    return list(_HELD_OUT_NOTHING if held_out else _NOTHING)


def wordings(task: Task, held_out: bool = False) -> list[str]:
    """Every wording of ``task``.

    Raises:
        ValueError: no such task.
    """
    if task.kind not in TASKS:
        raise ValueError(f"task {task.kind!r}; write one of {', '.join(TASKS)}")
    trained = _TOUCH if task.kind == "touch" else _PICK
    templates = _HELD_OUT[task.kind] if held_out else trained
    return [template.format(c=task.block, t=thing) for template in templates for thing in THINGS]


def training_texts() -> list[str]:
    """Every sentence of training: what a tokenizer may be made from."""
    tasks = [Task(kind, colour) for kind in TASKS for colour in COLOURS]
    return [text for task in tasks for text in wordings(task)] + no_block_wordings()


def parse_task(text: str) -> Task | None:
    """Which task a wording of this module means; None where it names no block."""
    for kind in TASKS:
        for colour in COLOURS:
            task = Task(kind, colour)
            if text in wordings(task) or text in wordings(task, held_out=True):
                return task
    return None
