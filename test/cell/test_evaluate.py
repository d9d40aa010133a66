"""``smolvla-ros evaluate`` through the real nodes, and the simulator's episodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from cells import TABLETOP
from std_srvs.srv import Trigger

from smolvla_ros.cell import load_cell, load_robot
from smolvla_ros.cli.processes import CellProcesses
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.learn.loop import CellLoop
from smolvla_ros.ros import episode

SEED = 62000
COMMAND = [sys.executable, "-m", "smolvla_ros.cli.main", "evaluate"]


def run(tmp_path, *words: str) -> dict:
    done = subprocess.run(
        [*COMMAND, "--seed", str(SEED), "--json", tmp_path / "out.json", *words],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / "out.json").read_text())


def test_an_evaluation_through_the_nodes_reports_every_episode(tmp_path) -> None:
    found = run(tmp_path, "--episodes", "2", "--language", "1", "--limit", "3", "--video", tmp_path)
    assert found["mode"] == "nodes" and found["gate"] == "on"
    assert found["tasks"]["touch"]["n"] == found["tasks"]["pick"]["n"] == 1
    assert found["language"]["no_block"]["n"] == 1
    assert found["limit_violations"] == found["clearance_breaches"] == 0
    assert found["min_clearance_m"] >= 0.01 - 0.001
    assert sum(found["interventions"]["ticks"].values()) > 100  # it was asked to move
    assert found["interventions"]["stops"] == {}
    assert len(found["per_episode"]) == 4
    assert 0.0 < found["health"]["real_time"] < 1.1 and found["health"]["latency_s"] > 0.0
    assert 0.0 < found["simulated_s"] < 4 * 4.0
    assert len(list(tmp_path.glob("*.mp4"))) == 4 and (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("gate", ["off", "shadow"])
def test_the_arm_may_follow_the_policy_itself_in_the_simulator(tmp_path, gate) -> None:
    found = run(tmp_path, "--episodes", "1", "--language", "0", "--limit", "2", "--gate", gate)
    assert found["gate"] == gate
    assert found["min_clearance_m"] is not None  # the arm got set-points
    assert bool(found["interventions"]["ticks"]) == (gate == "shadow")


def test_nodes_that_do_not_start_end_it_with_their_words(tmp_path) -> None:
    text = TABLETOP.read_text().replace("scene: tabletop_scene.yaml", "scene: no_scene.yaml")
    text = text.replace("../", f"{TABLETOP.parent.parent}/")
    path = tmp_path / "cell.yaml"
    path.write_text(text)
    done = subprocess.run(
        [*COMMAND, "--cell", path, "--episodes", "1"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "no_scene.yaml: no such file" in done.stderr and "Traceback" not in done.stderr


class Simulator(Watcher):
    """A running sim node, spoken to as an evaluation does."""

    def reset(self) -> int:
        return int(self.call("sim/reset", Trigger, Trigger.Request()).message)

    def until(self, condition) -> episode.Episode:
        end = time.monotonic() + 60.0
        while self.episode is None or not condition(self.episode):
            assert time.monotonic() < end, self.episode
            time.sleep(0.02)
        return self.episode


@pytest.fixture
def simulator(domain, tmp_path):
    cell = load_cell(TABLETOP)
    robot = load_robot(cell.sim.robot, cell.path)
    with (
        CellProcesses(TABLETOP, ("sim",), domain, tmp_path),
        Simulator(robot.names, domain) as simulator,
    ):
        end = time.monotonic() + 120.0
        while not simulator.recording.measured:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield simulator


def test_a_reset_begins_the_episode_that_the_parameters_say(simulator) -> None:
    simulator.set_parameters("sim", seed=SEED, vary=True, task="touch green")
    number = simulator.reset()
    first = simulator.until(lambda e: e.number == number and e.time > 0.2)
    assert (first.seed, first.task, first.success, first.lost) == (
        SEED,
        "touch green",
        False,
        False,
    )
    # The same scene as in one process: the arm starts at the same place, to the last digit
    # but for what it sags.
    loop = CellLoop(load_cell(TABLETOP))
    loop.reset(SEED)
    _, measured = simulator.recording.measured[-1]
    np.testing.assert_allclose(measured, loop.world.joint_positions(), atol=0.03)
    simulator.set_parameters("sim", seed=SEED + 1, task="pick red")
    again = simulator.reset()
    second = simulator.until(lambda e: e.number == again)
    assert again == number + 1 and second.time < first.time
    assert (second.seed, second.task) == (SEED + 1, "pick red")


def test_the_simulator_refuses_what_it_cannot_do(simulator) -> None:
    for values, said in (
        ({"task": "push red"}, "task: is 'push red'; write touch or pick and one of red, green"),
        ({"task": "touch pink"}, "task: is 'touch pink'"),
        ({"seed": -1}, "seed: is -1; write 0 or above"),
        ({"camera_rate": 5.0}, "camera_rate: cannot change while the node runs"),
    ):
        with pytest.raises(RuntimeError, match=re.escape(said)):
            simulator.set_parameters("sim", **values)


def test_a_task_that_cannot_be_judged_ends_the_simulator(tmp_path, domain) -> None:
    text = TABLETOP.read_text().replace("../", f"{TABLETOP.parent.parent}/")
    text = text.replace(
        "scene: tabletop_scene.yaml",
        f"scene: {TABLETOP.parent}/tabletop_scene.yaml\n    task: touch pink",
    )
    path = tmp_path / "cell.yaml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "smolvla_ros.nodes.sim_node", "--ros-args", "--params-file", path],
        capture_output=True, text=True, timeout=60,
        env=os.environ | {"ROS_DOMAIN_ID": str(domain)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "sim.task: is 'touch pink'; write touch or pick and one of red" in done.stderr
