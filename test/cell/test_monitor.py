"""The real safety monitor in its own process: what it lets in, what it lets out, what it says."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from cells import TABLETOP
from diagnostic_msgs.msg import DiagnosticStatus
from oracle import Oracle
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rig import MONITOR, PAN, PERIOD, Rig, changed_cell, rig, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray

from smolvla_ros.cli.bystander import Bystander
from smolvla_ros.ros import messages, qos


def level(arm: Rig) -> bytes:
    return arm.status[MONITOR][0]


# -- who else is there --------------------------------------------------------------------


def test_f30_a_publisher_beside_the_monitor_stops_the_arm_and_is_named(domain, tmp_path):
    with rig(domain, tmp_path) as (_, arm):
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing())
        wait_until(lambda: np.ptp(arm.rows[:, 0]) > 0.05, 5, "moving")
        rogue = arm.node.create_publisher(JointTrajectory, "arm/joint_trajectory", qos.STREAM_OUT)
        arm.wait_for_words("stopped", "/cell_watcher publishes on /arm/joint_trajectory")
        assert arm.text("stop") == "bypass" and level(arm) == DiagnosticStatus.ERROR
        success, message = arm.trigger("reset")
        assert not success and "/cell_watcher" in message, "the cause stands"
        arm.node.destroy_publisher(rogue)
        wait_until(lambda: arm.trigger("reset")[0], 5, "reset once it has gone")
        arm.enabled()
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)


def test_f30_a_watched_topic_that_somebody_writes_keeps_the_arm_from_being_enabled(
    domain, tmp_path
):
    cell = changed_cell(tmp_path, watch=["controller/commands"])
    with rig(domain, tmp_path, cell) as (_, arm):
        rogue = arm.node.create_publisher(Float64MultiArray, "controller/commands", qos.STREAM_OUT)
        arm.wait_for_words("disabled", "/cell_watcher publishes on /controller/commands")
        success, message = arm.enable()
        assert not success and "/controller/commands" in message
        arm.node.destroy_publisher(rogue)
        arm.enabled()


def test_f30_a_controller_that_another_node_commands_is_named_when_the_arm_is_enabled(
    domain, tmp_path
):
    topic = "joint_trajectory_controller/joint_trajectory"
    with (
        rig(domain, tmp_path) as (_, arm),
        Bystander("joint_trajectory_controller", domain) as controller,
    ):
        controller.start()
        controller.node.create_subscription(JointTrajectory, topic, print, qos.NEWEST_IN)
        rogue = arm.node.create_publisher(JointTrajectory, topic, qos.STREAM_OUT)
        wait_until(lambda: rogue.get_subscription_count() == 1, 10, "the controller hears it")
        said = ""

        def named() -> bool:
            nonlocal said
            said = arm.enable()[1]
            arm.enable(False)
            return "publishes" in said

        wait_until(named, 10, f"named: {said}")
    assert said.startswith("enabled; command: /cell_watcher publishes on /joint_trajectory_contr")


def test_f40_an_output_that_no_arm_hears_is_not_enabled(domain, tmp_path):
    remap = ["-r", "arm/joint_trajectory:=somewhere/else"]
    with rig(domain, tmp_path, arguments=remap) as (_, arm):
        success, message = arm.enable()
        assert not success and "nobody subscribes to /somewhere/else" in message
        assert not len(arm.rows)


def test_f29_of_two_publishers_on_an_input_the_first_one_is_heard(domain, tmp_path):
    with rig(domain, tmp_path) as (_, arm):
        first, second = arm.publisher(), arm.publisher()
        arm.enabled()
        start = arm.rows[-1].copy()
        first.publish(arm.swing(0.2))
        wait_until(lambda: arm.rows[-1][0] > start[0] + 0.05, 5, "moving")
        for _ in range(5):
            second.publish(arm.swing(-0.5))
            time.sleep(0.05)
        wait_until(lambda: arm.counts("refused").get("second_publisher") == 5, 3, "all refused")
        assert arm.rows[-1][0] > start[0] + 0.05, "the second one turned nothing round"
        arm.wait_for_words("/policy/joint_trajectory has 2 publishers")
        assert level(arm) == DiagnosticStatus.WARN
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)


def test_f32_an_arm_that_asks_for_another_qos_is_told(domain, tmp_path):
    with rig(domain, tmp_path) as (_, arm):
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        arm.node.create_subscription(
            JointTrajectory, "arm/joint_trajectory", lambda _: None, latched
        )
        arm.wait_for_words("disabled", "arm/joint_trajectory: a subscription asks for a QoS")
        assert level(arm) == DiagnosticStatus.ERROR


@pytest.mark.parametrize(
    ("reliability", "durability"),
    [
        (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
        (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE),
    ],
    ids=["latched", "best effort"],
)
def test_f32_f34_commands_are_heard_from_any_publisher_but_never_from_the_past(
    domain, tmp_path, reliability, durability
):
    profile = QoSProfile(depth=10, reliability=reliability, durability=durability)
    cell = changed_cell(tmp_path, sources={"other": {"topic": "other/joint_trajectory"}})
    with rig(domain, tmp_path, cell) as (nodes, arm):
        made = arm.node.create_publisher(JointTrajectory, "other/joint_trajectory", profile)
        arm.wait_for_listener(made)
        arm.enabled()
        made.publish(arm.swing())
        wait_until(lambda: np.ptp(arm.rows[:, 0]) > 0.05, 5, "moving")
        ended = nodes.processes.pop(MONITOR)
        ended.terminate()
        assert ended.wait(timeout=10) == 0
        arm.status.clear()
        nodes.start(MONITOR)
        arm.wait_for_words("disabled", seconds=20.0)
        arm.wait_for_listener(made)
        time.sleep(1.2)
        assert arm.counts("refused") == {}, "it was told nothing old"


# -- what comes in --------------------------------------------------------------------------


def test_f16_f18_what_nobody_can_read_is_refused_and_delays_no_tick(domain, tmp_path):
    cell = changed_cell(tmp_path, sources={"other": {"topic": "other/joint_trajectory"}})
    with rig(domain, tmp_path, cell) as (_, arm):
        made = arm.publisher(topic="other/joint_trajectory")
        arm.enabled()
        start = len(arm.rows)
        none = serialize_message(JointTrajectory(joint_names=["a"])).rstrip(b"\0")
        head = none + bytes(-len(none) % 4)
        huge = head + (20_000).to_bytes(4, "little") + bytes(24 * 20_000)  # of empty points
        # Half a megabyte at once may not fit the socket of a reader that asks for no repeats.
        until = time.monotonic() + 5
        while arm.counts("refused").get("too_long", 0) < 2:
            assert time.monotonic() < until, arm.counts("refused")
            made.publish(huge)
            time.sleep(0.1)
        for data in (b"\x00\x01\x00\x00" + b"\xff" * 40, b"\x00"):
            made.publish(data)
            time.sleep(0.1)
        made.publish(JointTrajectory(joint_names=["/shoulder_pan", "\u00e9", ""]))
        wait_until(lambda: arm.counts("refused").get("empty"), 3, "the last one is refused")
        refused = arm.counts("refused")
        assert refused["malformed"] >= 1, refused
        assert arm.words.startswith("holding")
        assert len(arm.rows) - start > 30, "set-points go on"
        # Reading the huge one as a message would have held the interpreter for 0.2 s.
        assert arm.value(MONITOR, "tick_period_s/max") < 0.1
        made.publish(arm.swing())
        wait_until(lambda: np.ptp(arm.rows[:, 0]) > 0.02, 5, "a good one is taken as ever")


def test_in_shadow_mode_the_gate_says_what_it_would_do_and_the_arm_gets_nothing(domain, tmp_path):
    cell = changed_cell(tmp_path, shadow=True)
    with rig(domain, tmp_path, cell, up="shadow: disabled") as (_, arm):
        would: list[JointTrajectory] = []
        arm.node.create_subscription(
            JointTrajectory, "shadow/arm/joint_trajectory", would.append, qos.EVENT
        )
        # Somebody else may move the arm meanwhile.
        arm.node.create_publisher(JointTrajectory, "arm/joint_trajectory", qos.STREAM_OUT)
        made = arm.publisher()
        wait_until(lambda: arm.text("against_enabling") == "", 10, "nothing against enabling")
        success, message = arm.enable()
        assert success, message
        wait_until(lambda: would, 5, "what would be sent")
        start = np.array(would[0].points[0].positions)
        t = np.arange(60) * PERIOD
        made.publish(arm.chunk(start + np.outer(0.4 * t, PAN)))
        wait_until(lambda: would[-1].points[0].positions[0] > start[0] + 0.5, 5, "it would move")
        assert arm.words.startswith("shadow: ") and arm.text("tracking_error_rad") < "0.1"
        made.publish(arm.chunk(start + np.outer(40.0 * t, PAN)))  # and would be held back
        wait_until(lambda: arm.counts("checks").get("velocity"), 5, "and says why")
        assert arm.text("shadow") == "True" and not arm.text("stop")
        success, message = arm.enable(False)
        assert success, message
        wait_until(lambda: "disabled" in arm.words, 5, "disabled")
        time.sleep(0.2)
        assert arm.enable()[0], "from where the arm is again"
        n = len(would)
        wait_until(lambda: len(would) > n, 5, "what would be sent")
        assert np.allclose(would[-1].points[0].positions, start, atol=1e-6)
        assert not len(arm.rows), "nothing was sent to the arm"


def test_f80_a_stop_that_cannot_be_read_stops(domain, tmp_path):
    with rig(domain, tmp_path) as (_, arm):
        stop = arm.publisher(Bool, "stop")
        arm.enabled()
        stop.publish(b"\x00\x01\x00\x00")
        arm.wait_for_words("stopped")


def test_f43_joint_states_in_parts_and_in_any_order_are_one_arm(domain, tmp_path):
    names = ["gripper", "wrist_roll", "wrist_flex"], ["shoulder_lift", "elbow_flex", "shoulder_pan"]
    with rig(domain, tmp_path, parts=names) as (_, arm):
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing())
        wait_until(lambda: np.ptp(arm.rows[:, 0]) > 0.1, 5, "moving")
        assert arm.words.startswith("following")
        arm._parts.pop(0)  # one of the drivers dies
        arm.wait_for_words("stopped", "joint_states")
        assert arm.text("stop") == "joint_state_age" and arm.text("oldest_joint") in names[0]


SOURCES = {
    "teleop": {"topic": "teleop/joints", "type": "JointState", "priority": 10, "timeout": 0.3},
    "script": {
        "topic": "script/commands",
        "type": "Float64MultiArray",
        "timeout": 0.3,
        "joints": ["gripper", "wrist_roll", "wrist_flex", "elbow_flex", "shoulder_lift",
                   "shoulder_pan"],
    },
}  # fmt: skip


def stream(arm: Rig, send, seconds: float, speed: float = 0.1, rate: float = 100.0) -> None:
    """Set-points at the gate's rate, from where the arm is sent."""
    start, began = arm.rows[-1].copy(), time.monotonic()
    while (t := time.monotonic() - began) < seconds:
        q = start.copy()
        q[0] += speed * (t - 0.2 * (1.0 - math.exp(-t / 0.2)))  # from rest
        send(q)
        time.sleep(1.0 / rate)


def test_any_named_source_moves_the_arm_and_the_higher_one_takes_over(domain, tmp_path):
    cell = changed_cell(tmp_path, sources=SOURCES, output={"type": "Float64MultiArray"})
    with rig(domain, tmp_path, cell) as (_, arm):
        teleop = arm.publisher(JointState, "teleop/joints")
        script = arm.publisher(Float64MultiArray, "script/commands")
        arm.enabled()
        start = arm.rows[-1][0]
        stream(arm, lambda q: script.publish(Float64MultiArray(data=q[::-1])), 1.0)
        wait_until(lambda: arm.rows[-1][0] > start + 0.05, 2, "the array moves it")
        assert arm.text("source") in ("script", "")
        # Of the wrong length: refused, whatever it holds.
        script.publish(Float64MultiArray(data=[0.0] * 7))
        wait_until(lambda: arm.counts("refused").get("wrong_length"), 3, "refused")
        wait_until(arm.at_rest, 3, "silence brakes")
        turn = arm.rows[-1][0]

        def both(q) -> None:
            teleop.publish(arm.state_message(q))
            script.publish(Float64MultiArray(data=arm.rows[-1][::-1] + 0.1))

        stream(arm, both, 1.0, speed=-0.1)
        wait_until(lambda: arm.rows[-1][0] < turn - 0.05, 2, "teleop moves it the other way")
        wait_until(lambda: arm.counts("refused").get("lower_priority"), 3, "the other must wait")
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)


# -- clocks -----------------------------------------------------------------------------------


def test_f22_simulated_time_that_stands_still_stops_no_tick(domain, tmp_path):
    with rig(domain, tmp_path, arguments=["-p", "use_sim_time:=true"]) as (_, arm):
        clock = arm.node.create_publisher(Clock, "/clock", qos.STREAM_OUT)
        made = arm.publisher()
        arm.wait_for_listener(clock)
        for k in range(20):
            clock.publish(Clock(clock=messages.time_msg(50.0 + 0.01 * k)))
            time.sleep(0.01)
        arm.enabled()
        for k in range(100):  # time runs at half its pace
            clock.publish(Clock(clock=messages.time_msg(50.2 + 0.005 * k)))
            if k % 30 == 0:
                message = arm.swing(0.1, 2.0)
                message.header.stamp = messages.time_msg(50.2 + 0.005 * k)
                made.publish(message)
            time.sleep(0.01)
        assert np.ptp(arm.rows[:, 0]) > 0.02, "it moves"
        assert "clock_jump" not in arm.counts("checks")
        wait_until(lambda: arm.counts("checks").get("command_timeout"), 5, "silence brakes")
        wait_until(arm.at_rest, 3, "holds")
        before, told = len(arm.rows), arm.text("ticks")
        time.sleep(1.0)
        assert 80 <= len(arm.rows) - before <= 120, "set-points go on at full rate"
        assert arm.text("ticks") != told, "and so do the diagnostics"
        clock.publish(Clock(clock=messages.time_msg(20.0)))  # the simulation begins anew
        arm.wait_for_words("simulated time jumped by -30.")


# -- obstacles ----------------------------------------------------------------------------------


def ball(x: float, y: float, z: float, frame: str = "base_link") -> MarkerArray:
    marker = Marker(ns="ball", id=1, type=Marker.SPHERE, action=Marker.ADD)
    marker.header.frame_id = frame
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = x, y, z
    marker.scale.x = marker.scale.y = marker.scale.z = 0.08
    return MarkerArray(markers=[marker])


def test_f58_an_obstacle_in_the_way_is_not_hit_and_its_silence_brakes(domain, tmp_path):
    cell = changed_cell(tmp_path, obstacles={"topic": "obstacles", "timeout": 0.5})
    with rig(domain, tmp_path, cell) as (_, arm):
        seen = arm.publisher(MarkerArray, "obstacles")
        made = arm.publisher()
        start = arm.q.copy()
        tip = arm.robot.frame_position(start + np.array([0.6, 0, 0, 0, 0, 0]), "gripper_frame_link")
        success, message = arm.enable()
        assert not success and "obstacles" in message, "none was ever heard of"
        here = {"message": ball(*map(float, tip))}
        arm.node.create_timer(0.05, lambda: here and seen.publish(here["message"]))
        wait_until(lambda: arm.enable()[0], 5, "enabled once they are heard of")
        wait_until(lambda: len(arm.rows), 5, "set-points")
        until = time.monotonic() + 4.0
        while time.monotonic() < until and not arm.counts("checks").get("obstacle"):
            made.publish(arm.swing(0.4, 3.0))
            time.sleep(0.3)
        assert arm.counts("checks").get("obstacle"), arm.counts("checks")
        arm.wait_for_words("ball")
        assert arm.rows[-1][0] < start[0] + 0.55
        # In a frame that moves: refused, and so they grow old.
        here["message"] = ball(*map(float, tip), frame="gripper_link")
        wait_until(lambda: arm.counts("refused").get("obstacle"), 3, "refused")
        wait_until(lambda: arm.counts("checks").get("obstacles_stale"), 3, "stale ones brake")
        here.clear()
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)


# -- another configuration -----------------------------------------------------------------------


def set_parameter(arm: Rig, name: str, value) -> tuple[bool, str]:
    if isinstance(value, list):
        given = ParameterValue(type=ParameterType.PARAMETER_DOUBLE_ARRAY, double_array_value=value)
    else:
        given = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    request = SetParameters.Request(parameters=[Parameter(name=name, value=given)])
    (result,) = arm.call(f"{MONITOR}/set_parameters", SetParameters, request).results
    return result.successful, result.reason


def parameter(arm: Rig, name: str) -> ParameterValue:
    request = GetParameters.Request(names=[name])
    return arm.call(f"{MONITOR}/get_parameters", GetParameters, request).values[0]


def test_f38_tighter_at_any_time_looser_only_while_disabled(domain, tmp_path):
    cell = changed_cell(tmp_path)
    with rig(domain, tmp_path, cell) as (processes, arm):
        wait_until(lambda: arm.text("configuration"), 5, "it says what counts")
        first = arm.text("configuration")
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing(0.1))
        # Tighter, in motion.
        changed_cell(tmp_path, limits__every_joint__velocity=1.0, margin=0.012)
        success, message = arm.trigger("reload")
        assert success and "margin" in message and "limits.every_joint.velocity" in message
        assert set_parameter(arm, "zones.table.size", [0.9, 1.0, 0.041]) == (True, "")
        time.sleep(1.2)  # diagnostics come once a second
        assert arm.text("configuration") != first
        assert arm.value(MONITOR, "margin_m") == 0.012
        assert parameter(arm, "margin").double_value == 0.012, "parameters show what counts"
        second = arm.text("configuration")
        # Looser: not while enabled, from neither side.
        changed_cell(tmp_path, margin=0.005)
        success, message = arm.trigger("reload")
        assert not success and "disable" in message and "margin" in message
        success, message = set_parameter(arm, "limits.position_margin", 0.0)
        assert not success and "disable" in message
        # Other keys: never.
        for name, value in (("rate", 50.0), ("command_timeout", 9.0), ("tracking_error", 9.0)):
            success, message = set_parameter(arm, name, value)
            assert not success and f"{name}: cannot change" in message
        # No cell at all.
        good = cell.read_text()
        cell.write_text(good.replace("margin:", "margn:", 1))
        success, message = arm.trigger("reload")
        assert not success and "margn: unknown key" in message
        cell.write_text(good)
        time.sleep(1.1)
        assert arm.text("configuration") == second and arm.words.startswith(("follow", "hold"))
        assert arm.value(MONITOR, "tick_period_s/max") < 0.1
        # While disabled anything goes that is a cell.
        assert arm.enable(False)[0]
        wait_until(lambda: arm.words.startswith("disabled"), 3, "disabled")
        success, message = arm.trigger("reload")
        assert success, message
        wait_until(lambda: arm.value(MONITOR, "margin_m") == 0.005, 3, "the file counts")
        assert arm.text("configuration") not in (first, second)
        log = processes.log(MONITOR).read_text()
    assert f"configuration is now {second[:12]}" in log and "margin: 0.01 -> 0.012" in log


def test_what_a_command_line_has_set_survives_a_reload(domain, tmp_path):
    cell = changed_cell(tmp_path)
    with rig(domain, tmp_path, cell, arguments=["-p", "margin:=0.02"]) as (_, arm):
        changed_cell(tmp_path, margin=0.005, limits__position_margin=0.03)
        success, message = arm.trigger("reload")
        assert success and message == "changed: limits.position_margin"
        wait_until(lambda: arm.value(MONITOR, "margin_m") == 0.02, 3, "the command line counts")


# -- recording --------------------------------------------------------------------------------


def test_a_stop_leaves_a_file_that_can_be_run_again(domain, tmp_path):
    from smolvla_ros.cell import load_cell, load_gate, load_robot
    from smolvla_ros.safety.offline import Replay, read_lines

    out = tmp_path / "recorded"
    cell = changed_cell(tmp_path, recording={"directory": str(out), "seconds": 2.0})
    with rig(domain, tmp_path, cell) as (_, arm):
        made = arm.publisher()
        arm.enabled()
        for _ in range(3):  # longer than the ring: it begins in mid-motion
            made.publish(arm.swing(0.2, 1.3))
            time.sleep(1.0)
        arm.trigger("stop")
        wait_until(lambda: list(out.glob("stop_*_stop.jsonl")), 5, "a file")
        wait_until(lambda: arm.text("recording").endswith("_stop.jsonl"), 3, "and it says so")
        end = arm.rows[-1]
    (path,) = out.glob("*.jsonl")
    raw = [json.loads(line) for line in path.read_text().splitlines()]
    assert 1.5 < raw[-1]["t"] - raw[0]["t"] < 2.5
    config = load_cell(cell).safety_monitor
    robot = load_robot(config.robot, cell)
    gate = load_gate(config, robot, cell)
    last = None
    for _, output in Replay(gate, read_lines(path.open(), path.name)):
        last = output
    assert gate.stop_check == "stop"
    assert not gate.refusals, "what was taken is taken again"
    np.testing.assert_allclose(last.positions, end, atol=0.02)


def test_f82_a_disk_that_takes_nothing_is_told_and_changes_nothing(domain, tmp_path):
    (tmp_path / "full").write_text("")
    cell = changed_cell(
        tmp_path, recording={"directory": str(tmp_path / "full" / "disk"), "seconds": 2.0}
    )
    with rig(domain, tmp_path, cell) as (_, arm):
        arm.enabled()
        arm.trigger("stop")
        arm.wait_for_words("stopped", "full/disk")
        assert arm.trigger("reset")[0]
        arm.enabled()


# -- what it says ------------------------------------------------------------------------------


def test_diagnostics_hold_what_one_needs_to_find_a_fault(domain, tmp_path):
    with rig(domain, tmp_path) as (processes, arm):
        made = arm.publisher()
        arm.enabled()
        for _ in range(3):
            made.publish(arm.swing(0.2, 2.0))
            time.sleep(0.5)
        wait_until(lambda: arm.text("source") == "policy", 3, "who has the arm")
        ticks = int(arm.text("ticks"))
        wait_until(lambda: int(arm.text("ticks")) > ticks, 3, "the loop counts on")
        values = arm.status[MONITOR][2]
        assert values["security"] == "off" and values["scheduling"]
        assert len(values["configuration"]) == 64
        assert 0.0 <= float(values["joint_state_age_s"]) < 0.2
        assert 0.0 <= float(values["command_age_s"]) < 1.2
        assert 0.0 < float(values["min_clearance_m"]) < 0.3
        assert sum(arm.counts("chunk_jump_rad").values()) >= 2
        assert {"late_ticks", "blocked_s", "tracking_error_rad", "overruns"} <= set(values)
        assert "link" in processes.log(MONITOR).read_text(), "what the checks see is in the log"
        made.publish(JointTrajectory(joint_names=list(arm.joints), points=[
            JointTrajectoryPoint(positions=[math.nan] * 6)]))  # fmt: skip
        wait_until(lambda: "not_finite" in arm.text("last_refusal"), 3, "why one was refused")


def test_markers_show_zones_and_what_is_near(domain, tmp_path):
    got: list[MarkerArray] = []
    with rig(domain, tmp_path) as (_, arm):
        arm.enabled()
        arm.node.create_subscription(MarkerArray, f"{MONITOR}/markers", got.append, qos.EVENT)
        wait_until(lambda: len(got) >= 5, 5, "markers")
        began, n = time.monotonic(), len(got)
        wait_until(lambda: len(got) >= n + 10, 5, "five a second")
        assert time.monotonic() - began == pytest.approx(2.0, abs=0.5)
        shown = {m.ns for m in got[-1].markers}
    assert {"table", "bin", "workspace", "low"} <= shown
