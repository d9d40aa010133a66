"""Joint states merged by name: partial, late, broken."""

import numpy as np
import pytest

from smolvla_ros.safety import Refused
from smolvla_ros.safety.feedback import Feedback

NAMES = ("a", "b", "c")


@pytest.fixture
def feedback():
    return Feedback(NAMES, np.full(3, 1.0), jump=0.3)


def test_messages_of_several_publishers_make_one_state(feedback):
    feedback.hear(1.0, ["c", "lamp"], [0.3, 9.0])
    assert not feedback.whole and feedback.missing == ["a", "b"]
    feedback.hear(1.1, ["b", "a"], [0.2, 0.1])
    assert feedback.whole and np.array_equal(feedback.positions, [0.1, 0.2, 0.3])
    age, name = feedback.age(1.5)
    assert (round(age, 6), name) == (0.5, "c"), "each joint has its own age"


@pytest.mark.parametrize(
    ("check", "names", "positions"),
    [
        ("wrong_length", ["a", "b"], [0.1]),
        ("duplicate_joint", ["a", "a"], [0.1, 0.2]),
        ("joint_state_not_finite", ["a", "b"], [0.1, np.nan]),
        ("joint_state_not_finite", ["a", "b"], [0.1, 1e200]),
    ],
)
def test_what_is_no_joint_state_is_refused(feedback, check, names, positions):
    with pytest.raises(Refused) as refused:
        feedback.hear(1.0, names, positions)
    assert refused.value.check == check


def test_one_glitch_is_left_out_and_what_stays_is_told(feedback):
    feedback.hear(1.0, NAMES, [0.0, 0.0, 0.0])
    with pytest.raises(Refused, match="b by 2"):
        feedback.hear(1.01, NAMES, [0.0, 2.0, 0.0])
    assert feedback.positions[1] == 0.0
    feedback.hear(1.02, NAMES, [0.0, 0.01, 0.0])
    assert not feedback.jumped
    for _ in range(2):
        with pytest.raises(Refused):
            feedback.hear(1.03, NAMES, [0.0, 2.0, 0.0])
    feedback.hear(1.04, NAMES, [0.0, 2.0, 0.0])
    assert "b jumped" in feedback.jumped and feedback.positions[1] == 2.0


def test_a_frozen_state_is_told_from_a_moving_one(feedback):
    for k in range(100):
        feedback.hear(k * 0.01, NAMES, [0.0, 0.0, 0.0])
    assert feedback.still_for(0.99) == pytest.approx(0.99)
    feedback.hear(1.0, NAMES, [0.0, 1e-4, 0.0])
    assert feedback.still_for(1.0) == 0.0


def test_what_nobody_could_hear_is_not_old_and_may_have_moved(feedback):
    feedback.hear(1.0, NAMES, [0.0, 0.0, 0.0])
    feedback.excuse(3.0, 1.9)
    assert feedback.age(3.0)[0] == pytest.approx(0.1)
    feedback.hear(3.0, NAMES, [2.5, 0.0, 0.0])
    feedback.excuse(3.0, 1.9)
    assert feedback.age(3.0)[0] == 0.0, "never younger than now"
