"""Set-points as messages."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from smolvla_ros.cell import OutputConfig
from smolvla_ros.ros.messages import seconds
from smolvla_ros.ros.output import Output
from smolvla_ros.schema import ConfigError

JOINTS = ["a", "b"]


def sent(kind: str, order=(), ahead: float = 0.01):
    """The message of one set-point."""
    messages: list = []
    publisher = SimpleNamespace(publish=messages.append)
    node = SimpleNamespace(create_publisher=lambda *_, **__: publisher)
    output = Output(node, kind, "arm", JOINTS, order, ahead, lambda said: None)
    output.publish(np.array([0.1, 0.2]), np.array([1.0, 2.0]), Time(sec=7))
    (message,) = messages
    return message


@pytest.mark.parametrize("ahead", [0.01, 0.03])
def test_a_point_is_due_so_long_after_its_stamp(ahead) -> None:
    message = sent("JointTrajectory", ahead=ahead)
    (point,) = message.points
    assert message.header.stamp.sec == 7 and seconds(point.time_from_start) == pytest.approx(ahead)
    assert list(message.joint_names) == JOINTS
    assert list(point.positions) == [0.1, 0.2] and list(point.velocities) == [1.0, 2.0]


def test_an_array_has_its_own_order() -> None:
    assert list(sent("Float64MultiArray", order=["b", "a"]).data) == [0.2, 0.1]


def test_when_an_array_is_due_cannot_be_said() -> None:
    with pytest.raises(ConfigError, match="ahead: a Float64MultiArray says no time"):
        OutputConfig(type="Float64MultiArray", ahead=0.03)
