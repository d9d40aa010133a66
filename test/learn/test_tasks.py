"""Wordings: what is trained on, what is held out, and what they mean."""

from __future__ import annotations

import re

import numpy as np
import pytest

from smolvla_ros.learn.tasks import (
    COLOURS,
    TASKS,
    Task,
    instruction,
    no_block_instruction,
    no_block_wordings,
    parse_task,
    training_texts,
    wordings,
)

EVERY = [Task(kind, colour) for kind in TASKS for colour in COLOURS]


def test_what_is_held_out_is_in_no_training_text():
    trained = set(training_texts())
    for task in EVERY:
        assert not trained & set(wordings(task, held_out=True))
    assert not trained & set(no_block_wordings(held_out=True))


def test_every_word_that_is_held_out_occurs_in_training():
    known = set(re.findall(r"\w+", " ".join(training_texts())))
    held_out = [t for task in EVERY for t in wordings(task, held_out=True)]
    for text in [*held_out, *no_block_wordings(held_out=True)]:
        assert set(re.findall(r"\w+", text)) <= known, text


@pytest.mark.parametrize("held_out", [False, True])
def test_a_wording_means_its_task_and_no_other(held_out):
    for task in EVERY:
        for text in wordings(task, held_out):
            assert parse_task(text) == task
    for text in no_block_wordings(held_out):
        assert parse_task(text) is None


@pytest.mark.parametrize("held_out", [False, True])
def test_drawing_reaches_every_wording(held_out):
    draw = np.random.default_rng(0)
    task = Task("pick", "blue")
    drawn = {instruction(task, draw, held_out) for _ in range(500)}
    assert drawn == set(wordings(task, held_out))
    stays = {no_block_instruction(draw, held_out) for _ in range(300)}
    assert stays == set(no_block_wordings(held_out))


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="'push'; write one of touch, pick"):
        wordings(Task("push", "red"))
