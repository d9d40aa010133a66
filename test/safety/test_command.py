"""A message becomes a command whole, or is refused whole with the right word."""

import numpy as np
import pytest

from smolvla_ros.safety import Refused, read_command

JOINTS = ("a", "b", "c")
GOOD = {"names": ["a", "b", "c"], "times": [0.0, 0.1], "positions": [[1, 2, 3], [4, 5, 6]]}


def read(**changes):
    return read_command(10.0, **(GOOD | changes), joints=JOINTS)


def test_columns_go_by_name_never_by_index():
    command = read(names=["c", "a", "b"], positions=[[3, 1, 2], [6, 4, 5]])
    assert np.array_equal(command.positions, [[1, 2, 3], [4, 5, 6]])
    assert command.end == pytest.approx(10.1)


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("empty", {"positions": [], "times": []}),
        ("empty", {"names": []}),
        ("missing_joint", {"names": ["a", "b"], "positions": [[1, 2], [4, 5]]}),
        ("unknown_joint", {"names": ["a", "b", "/c"]}),
        ("duplicate_joint", {"names": ["a", "b", "b"]}),
        ("wrong_length", {"positions": [[1, 2, 3], [4, 5]]}),
        ("wrong_length", {"times": [0.0]}),
        ("not_finite", {"positions": [[1, 2, 3], [4, float("nan"), 6]]}),
        ("not_finite", {"positions": [[1, 2, 3], [4, float("inf"), 6]]}),
        ("not_finite", {"times": [0.0, float("nan")]}),
        ("out_of_range", {"positions": [[1, 2, 3], [4, 1e308, 6]]}),
        ("time_order", {"times": [0.1, 0.0]}),
        ("time_order", {"times": [0.1, 0.1]}),
        ("time_order", {"times": [-0.1, 0.1]}),
        ("time_order", {"times": [0.0, 1e-310]}),
        ("out_of_range", {"times": [0.0, 1e300]}),
        ("malformed", {"times": [[0.0], [0.1]]}),
        ("malformed", {"positions": [[[1], [2], [3]], [[4], [5], [6]]]}),
        ("malformed", {"positions": [["1", "2", "3"], ["4", "5", "6"]]}),
        ("malformed", {"names": ["a", ["b"], "c"]}),
        ("too_long", {"positions": [[1, 2, 3]] * 1001, "times": list(range(1001))}),
    ],
)
def test_malformed_messages_are_refused_by_name(check, changes):
    with pytest.raises(Refused) as refused:
        read(**changes)
    assert refused.value.check == check
