"""What the ROS graph says of bypasses and missing ends."""

from __future__ import annotations

import pytest

from smolvla_ros.ros.graph import judge

US, OUT, CONTROLLER = "/cell/safety_monitor", "/cell/arm/joint_trajectory", "/controller/commands"
IN = "/cell/policy/joint_trajectory"


def look(on_output=(US,), on_controller=(), listeners=1, on_input=("/cell/vla",)):
    writers = {OUT: list(on_output), CONTROLLER: list(on_controller)}
    return judge(writers, US, OUT, listeners, {IN: list(on_input)})


def test_a_cell_as_it_should_be() -> None:
    findings = look()
    assert (findings.bypass, findings.unheard, findings.crowded) == ([], "", [])
    assert findings.against_enabling == ""


# F30
@pytest.mark.parametrize(
    ("writers", "said"),
    [
        ({"on_output": [US, "/rogue"]}, [f"/rogue publishes on {OUT}"]),
        ({"on_output": ["/rogue"]}, [f"/rogue publishes on {OUT}"]),  # ours is not up yet
        ({"on_output": [US, US]}, [f"{US} publishes on {OUT}"]),  # a second monitor
        ({"on_controller": ["/teleop"]}, [f"/teleop publishes on {CONTROLLER}"]),
        ({"on_controller": [US]}, [f"{US} publishes on {CONTROLLER}"]),
        ({"on_output": [US, "/a", "/a"], "on_controller": ["/b"]}, ["/a publishes", "/b publish"]),
    ],
)
def test_whoever_else_writes_to_the_arm_is_named(writers, said) -> None:
    findings = look(**writers)
    assert len(findings.bypass) == len(said)
    for line, start in zip(findings.bypass, said, strict=True):
        assert line.startswith(start)
        assert line in findings.against_enabling


# F40
def test_an_output_that_nobody_hears_speaks_against_enabling() -> None:
    findings = look(listeners=0)
    assert findings.bypass == []
    assert OUT in findings.against_enabling and "nobody subscribes" in findings.against_enabling


# F29
def test_two_voices_on_one_input_are_told_but_do_not_keep_it_from_enabling() -> None:
    findings = look(on_input=["/cell/vla", "/teleop"])
    assert findings.crowded == [f"{IN} has 2 publishers: /cell/vla, /teleop"]
    assert findings.against_enabling == ""
