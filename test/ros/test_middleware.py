"""Which transports a process asks for, and that a choice of the user's stands."""

from pathlib import Path

import pytest

from smolvla_ros.ros.middleware import leave_shared_memory

LOCAL = "ROS_AUTOMATIC_DISCOVERY_RANGE"


def profile(made):
    """The one profile that both names of the variable lead to."""
    assert len(made) == 2
    (text,) = {Path(path).read_text() for path in made.values()}
    assert "<non_blocking_send>true<" in text and "<useBuiltinTransports>false<" in text
    return text


def test_a_process_on_a_network_keeps_to_udp():
    made = {LOCAL: "SUBNET"}
    leave_shared_memory(made)
    assert made.pop(LOCAL) == "SUBNET"
    assert "interfaceWhiteList" not in profile(made)


@pytest.mark.parametrize("local", [{LOCAL: "LOCALHOST"}, {"ROS_LOCALHOST_ONLY": "1"}])
def test_a_process_that_keeps_to_this_machine_gets_a_profile_that_does(local):
    made = dict(local)
    leave_shared_memory(made)
    assert made.pop(LOCAL) == "SYSTEM_DEFAULT"
    assert "<interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList>" in profile(made)


@pytest.mark.parametrize("chosen", ["FASTDDS_BUILTIN_TRANSPORTS", "FASTRTPS_DEFAULT_PROFILES_FILE"])
def test_what_the_user_chose_stands(chosen):
    made = {chosen: "mine", LOCAL: "LOCALHOST"}
    leave_shared_memory(made)
    assert made == {chosen: "mine", LOCAL: "LOCALHOST"}
