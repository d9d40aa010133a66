"""Policy units and URDF radians: there and back, and the numbers of a real arm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvla_ros.robot import JointMap, JointUnit

LIMITS = {"a": (-1.0, 3.0), "b": (0.5, 0.75), "c": (-math.inf, math.inf)}
number = st.floats(-1e3, 1e3)


@given(
    units=st.lists(
        st.builds(
            JointUnit,
            joint=st.sampled_from(["a", "b"]),
            unit=st.sampled_from(["degrees", "radians", "percent"]),
            sign=st.sampled_from([1, -1]),
            offset=st.floats(-10, 10),
        ),
        min_size=1,
        max_size=2,
        unique_by=lambda u: u.joint,
    ),
    rows=st.lists(st.tuples(number, number), min_size=1, max_size=4),
)
def test_there_and_back_gives_the_same_numbers(units, rows) -> None:
    joints = JointMap(units, LIMITS)
    policy = np.array(rows)[:, : len(units)]
    np.testing.assert_allclose(joints.to_policy(joints.to_urdf(policy)), policy, atol=1e-8)
    np.testing.assert_allclose(joints.to_urdf(joints.to_policy(policy)), policy, atol=1e-8)
    np.testing.assert_array_equal(joints.to_urdf(policy)[0], joints.to_urdf(policy[0]))


@pytest.mark.parametrize(
    ("unit", "policy", "urdf"),
    [
        (JointUnit("a"), 0.7, 0.7),
        (JointUnit("a", "radians", -1, 0.1), 0.7, -0.6),
        (JointUnit("a", "degrees"), 90.0, math.pi / 2),
        (JointUnit("a", "degrees", -1), 90.0, -math.pi / 2),
        (JointUnit("a", "degrees", 1, 0.1), -180.0, 0.1 - math.pi),
        (JointUnit("a", "degrees", -1, 0.1), 0.0, 0.1),
        (JointUnit("a", "percent"), 0.0, -1.0),
        (JointUnit("a", "percent"), 100.0, 3.0),
        (JointUnit("a", "percent"), 25.0, 0.0),
        (JointUnit("a", "percent", -1), 0.0, 3.0),
        (JointUnit("a", "percent", -1), 100.0, -1.0),
        (JointUnit("a", "percent", 1, 0.2), 100.0, 3.2),
        (JointUnit("b", "percent"), 50.0, 0.625),
        (JointUnit("c", "degrees"), 720.0, 4 * math.pi),
    ],
)
def test_known_numbers(unit, policy, urdf) -> None:
    joints = JointMap([unit], LIMITS)
    np.testing.assert_allclose(joints.to_urdf([policy]), [urdf], atol=1e-12)
    np.testing.assert_allclose(joints.to_policy([urdf]), [policy], atol=1e-9)


def test_the_order_is_the_policys_and_each_joint_keeps_its_own_unit() -> None:
    joints = JointMap([JointUnit("b", "percent"), JointUnit("a", "degrees")], LIMITS)
    assert joints.names == ("b", "a")
    np.testing.assert_allclose(
        joints.to_urdf([[100.0, 180.0], [0.0, 0.0]]), [[0.75, math.pi], [0.5, 0.0]]
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: JointUnit("a", "turns"), "a: unit 'turns'.*degrees, radians, percent"),
        (lambda: JointUnit("a", sign=0), "a: sign 0; write 1 or -1"),
        (lambda: JointMap([JointUnit("a"), JointUnit("a")], LIMITS), "twice: a, a"),
        (lambda: JointMap([JointUnit("c", "percent")], LIMITS), "c: percent needs"),
        (lambda: JointMap([JointUnit("z", "percent")], LIMITS), "z: percent needs"),
    ],
)
def test_units_that_mean_nothing_are_refused_by_joint(make, says) -> None:
    with pytest.raises(ValueError, match=says):
        make()
