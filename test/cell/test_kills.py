"""Processes of a cell that die or hang: the arm stands, and what is left says why."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cells import TABLETOP
from oracle import Oracle
from rig import MONITOR, Rig, rig, wait_until

from smolvla_ros.cli.processes import environment

POLICY = Path(__file__).parents[1] / "support" / "policy_process.py"
NODES = ("sim", MONITOR)


def moving(arm: Rig) -> None:
    start = arm.rows[-1].copy()
    wait_until(lambda: np.abs(arm.rows[-1] - start).max() > 0.05, 10, "moving")


def stands(arm: Rig, seconds: float = 1.0) -> np.ndarray:
    """Where the measured arm stands, after watching that it does."""
    before = len(arm.recording.measured)
    time.sleep(seconds)
    rows = np.array([q for _, q in arm.recording.measured[before:]])
    assert len(rows) > 50 * seconds and np.ptp(rows, axis=0).max() < 0.005
    return rows[-1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_f27_a_policy_that_dies_or_hangs_leads_to_a_hold_at_full_rate(domain, tmp_path, how):
    with rig(domain, tmp_path, nodes=NODES, arm=False) as (_, arm):
        arm.enabled()
        policy = subprocess.Popen([sys.executable, POLICY], env=environment(domain))
        try:
            moving(arm)
            policy.send_signal(how)
            wait_until(lambda: arm.counts("checks").get("command_timeout"), 5, "silence brakes")
            wait_until(arm.at_rest, 3, "holds")
            before = len(arm.rows)
            time.sleep(2.0)
            held = arm.rows[before:]
            assert 160 <= len(held) <= 220 and np.ptp(held, axis=0).max() == 0.0
            assert arm.words.startswith("holding")
            if how is signal.SIGSTOP:
                policy.send_signal(signal.SIGCONT)
                moving(arm)  # what it observes from now on counts as ever
        finally:
            policy.kill()
            policy.wait()
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)


def test_the_monitor_shares_no_memory_that_another_process_could_leave_locked(domain, tmp_path):
    with rig(domain, tmp_path, nodes=NODES, arm=False) as (nodes, arm):
        arm.enabled()
        shared = {
            name: re.findall(r"/shm/fast\S+", Path(f"/proc/{process.pid}/maps").read_text())
            for name, process in nodes.processes.items()
        }
    assert not shared[MONITOR]
    if not shared["sim"]:
        pytest.skip("needs a middleware that shares memory, as Fast DDS does")


def test_f35_f36_a_killed_monitor_leaves_a_standing_arm_and_comes_back_disabled(domain, tmp_path):
    with rig(domain, tmp_path, nodes=NODES, arm=False) as (nodes, arm):
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing(0.5))
        moving(arm)
        dead = nodes.processes.pop(MONITOR)
        dead.kill()
        dead.wait()
        last = arm.rows[-1]
        arm.status.clear()
        nodes.start(MONITOR)
        time.sleep(0.5)  # it goes to the last set-point
        standing = stands(arm)
        assert np.abs(standing - last).max() < 0.1, "the arm holds the last set-point"
        arm.wait_for_words("disabled", seconds=20.0)
        sent = len(arm.rows)
        for _ in range(10):  # the policy has noticed nothing
            made.publish(arm.swing(0.5))
            time.sleep(0.1)
        assert len(arm.rows) == sent, "nothing is commanded before it is enabled again"
        wait_until(lambda: arm.counts("refused").get("not_enabled"), 3, "refused")
        success, message = arm.enable()
        assert success or "a monitor that was killed stays listed" in message
        # The middleware forgets a process that was killed after its lease of 20 s.
        wait_until(lambda: success or arm.enable()[0], 40, "enabled")
        wait_until(lambda: len(arm.rows) > sent, 5, "set-points")
        assert np.abs(arm.rows[sent] - standing).max() < 0.01, "from where the arm is measured"
        before, after = arm.rows[:sent], arm.rows[sent:]
    assert not Oracle(TABLETOP).findings(before, stops_every=25)
    assert not Oracle(TABLETOP).findings(after, stops_every=25)


def test_f25_a_monitor_that_hung_in_motion_brakes_when_it_goes_on(domain, tmp_path):
    with rig(domain, tmp_path, nodes=NODES, arm=False) as (nodes, arm):
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing(0.4))
        moving(arm)
        nodes.processes[MONITOR].send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        stands(arm)  # and is heard: nobody waits for a lock of the one that hangs
        nodes.processes[MONITOR].send_signal(signal.SIGCONT)
        wait_until(lambda: arm.counts("checks").get("overrun"), 3, "it knows")
        wait_until(arm.at_rest, 3, "and brakes")
        assert not arm.text("stop"), "nothing is latched"
        made.publish(arm.swing(0.2))
        moving(arm)
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)


def test_a_killed_arm_stops_the_gate_for_as_long_as_it_is_gone(domain, tmp_path):
    with rig(domain, tmp_path, nodes=NODES, arm=False) as (nodes, arm):
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing(0.3))
        moving(arm)
        dead = nodes.processes.pop("sim")
        dead.kill()
        dead.wait()
        arm.wait_for_words("stopped: joint_states")
        assert arm.text("stop") == "joint_state_age"
        success, message = arm.trigger("reset")
        assert not success and "joint_states" in message
        nodes.start("sim")  # it stands somewhere else: where it starts
        wait_until(lambda: arm.trigger("reset")[0], 20, "reset once it is heard again")
        heard = len(arm.recording.measured)
        wait_until(lambda: len(arm.recording.measured) > heard + 10, 10, "heard here too")
        time.sleep(1.0)  # the simulated arm swings a little when it starts
        measured = stands(arm)
        stopped = len(arm.rows)
        arm.enabled()
        wait_until(lambda: len(arm.rows) > stopped, 3, "set-points")
        assert np.abs(arm.rows[-1] - measured).max() < 0.02, "taken where it is, not where it was"
        rows = arm.rows[:stopped]
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)
