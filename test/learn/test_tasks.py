"""Wordings: what is trained on, what is held out, and what they mean."""

from __future__ import annotations

import re

import numpy as np
import pytest

from smolvla_ros.learn.tasks import (
    COLOURS,
    DEVELOPMENT,
    HELD_OUT,
    TASKS,
    USES,
    Task,
    instruction,
    parse_task,
    training_texts,
    wordings,
)

EVERY = [Task(kind, colour) for kind in TASKS for colour in COLOURS]
EVERY_AND_NONE = [*EVERY, None]


def _kept_back(use):
    return {text for task in EVERY_AND_NONE for text in wordings(task, use)}


def test_no_sentence_has_two_uses():
    trained, developed, held_out = (
        set(training_texts()),
        _kept_back(DEVELOPMENT),
        _kept_back(HELD_OUT),
    )
    assert not trained & developed and not trained & held_out and not developed & held_out


def test_every_word_that_is_kept_back_occurs_in_training():
    known = set(re.findall(r"\w+", " ".join(training_texts())))
    for text in _kept_back(DEVELOPMENT) | _kept_back(HELD_OUT):
        assert set(re.findall(r"\w+", text)) <= known, text


@pytest.mark.parametrize("use", USES)
def test_a_wording_means_its_task_and_no_other(use):
    for task in EVERY_AND_NONE:
        for text in wordings(task, use):
            assert parse_task(text) == task


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("task", [Task("pick", "blue"), None])
def test_drawing_reaches_every_wording(task, use):
    draw = np.random.default_rng(0)
    assert {instruction(task, draw, use) for _ in range(1500)} == set(wordings(task, use))


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="'push'; write one of touch, pick"):
        wordings(Task("push", "red"))
