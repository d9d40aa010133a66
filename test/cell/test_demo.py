"""``smolvla-ros demo`` as its user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from cells import ROOT, TABLETOP

DEMO = [sys.executable, "-m", "smolvla_ros.cli.main", "demo"]


def nodes_of(process: subprocess.Popen) -> list[str]:
    """Command lines of the nodes a demo started that still run."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        mark = f"SMOLVLA_ROS_TEST={process.args[-1]}".encode()
        if mark in environment and b"smolvla_ros.nodes" in command:
            found.append(command.decode())
    return found


def start(mark: str, *arguments: str) -> subprocess.Popen:
    # The mark rides as the instruction: whoever inherits it was started by this demo.
    return subprocess.Popen(
        [*DEMO, *arguments, "--instruction", mark],
        env=os.environ | {"SMOLVLA_ROS_TEST": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


TEXTS = ["touch the blue block", "pick up the green cube", "pick up the red block"]


def test_a_demo_moves_the_arm_and_reports_it(tmp_path):
    done = subprocess.run(
        [
            *DEMO,
            "--duration",
            "12",
            "--report",
            tmp_path,
            "--json",
            tmp_path / "out.json",
            "--instruction",
            TEXTS[0],
            "--meanwhile",
            TEXTS[1],
            "--instruction",
            TEXTS[2],
        ],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out.json").read_text())
    assert {
        "duration_s", "chunks", "chunk_latency_s", "ticks", "tick_period_s", "gate_step_s",
        "verdicts", "arm_travel_rad", "min_clearance_m", "limit_violations", "first_motion_s",
    } <= set(summary)  # fmt: skip
    assert set(summary["chunk_latency_s"]) == {"p50", "p99"}
    assert set(summary["tick_period_s"]) == set(summary["gate_step_s"]) == {"p50", "p99", "max"}
    assert summary["chunks"] >= 10
    assert summary["arm_travel_rad"] > 0.2
    first, second, third = summary["instructions"]
    share = 12 / 3  # after which the next is given whatever became of the one before
    assert first["given_s"] < 1.0
    assert second["arm_speed_when_given_rad_s"] > 0.3 or second["given_s"] >= share
    assert second["done_s"] is not None or third["given_s"] - second["given_s"] >= share
    assert [i["text"] for i in summary["instructions"]] == TEXTS
    assert summary["limit_violations"] == 0
    assert summary["min_clearance_m"] >= 0.01 - 0.001
    pictures = {p.name for p in tmp_path.glob("*.png")}
    assert {"cell.png", "joints.png", "clearance.png", "front_start.png", "wrist_end.png"} <= (
        pictures
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_node_outlives_its_demo(tmp_path, how):
    demo = start(f"mark {how.name} {os.getpid()}", "--duration", "60")
    until = time.monotonic() + 60
    while len(nodes_of(demo)) < 3:
        assert time.monotonic() < until and demo.poll() is None
        time.sleep(0.1)
    time.sleep(1.0)
    demo.send_signal(how)
    demo.communicate(timeout=30)
    assert demo.returncode != 0
    until = time.monotonic() + 5
    while nodes_of(demo):
        assert time.monotonic() < until, nodes_of(demo)
        time.sleep(0.1)


def changed(tmp_path, change):
    """A copy of the shipped cell, beside its files, with a change made to its document."""
    for folder in ("config", "urdf"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "models").symlink_to(ROOT / "models")
    document = yaml.safe_load(TABLETOP.read_text())
    sections = {k.rsplit("/", 1)[-1]: v["ros__parameters"] for k, v in document.items()}
    change(sections)
    path = tmp_path / "config" / "broken.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def set_key(section, path, value):
    def change(sections):
        *parents, leaf = path.split(".")
        node = sections[section]
        for part in parents:
            node = node[part]
        if value is None:
            del node[leaf]
        else:
            node[leaf] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_key("safety_monitor", "margn", 0.01), ["margn: unknown key", "margin"]),
        (set_key("safety_monitor", "rate", "fast"), ["rate: is 'fast'", "write a number"]),
        (set_key("safety_monitor", "margin", None), ["margin: missing", "give it"]),
        (
            set_key("vla", "joint_order", ["shoulder_pan"]),
            ["joint_map.shoulder_lift", "not in joint_order"],
        ),
        (set_key("safety_monitor", "zones.table.size", [1.0]), ["zones.table.size", "needs 3"]),
        (set_key("**", "robot.urdf", "../urdf/none.urdf"), ["robot.urdf", "none.urdf", "write"]),
        # Found by the node that loads the checkpoint:
        (
            set_key("vla", "checkpoint", "../models/none"),
            ["vla.checkpoint", "'../models/none' is no folder", "write the path"],
        ),
        (
            set_key("vla", "cameras.front.feature", "observation.images.top"),
            ["cameras.front.feature", "'observation.images.top'", "it knows: observation.images"],
        ),
    ],
    ids=[
        "unknown-key", "wrong-type", "missing-key", "missing-joint", "zone-size", "no-urdf",
        "no-checkpoint", "unknown-camera",
    ],
)  # fmt: skip
def test_a_wrong_cell_ends_the_demo_with_a_line_that_helps(tmp_path, change, said):
    cell = changed(tmp_path, change)
    done = subprocess.run(
        [*DEMO, "--cell", str(cell), "--duration", "1"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "error: " in line]
    assert any(all(s in line for s in [*said, "broken.yaml"]) for line in lines), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["safety_monitor", "vla_node", "sim_node"])
def test_a_node_alone_refuses_the_same_way(tmp_path, name):
    section = name.removesuffix("_node")
    cell = changed(tmp_path, set_key(section, "rat", 3))
    done = subprocess.run(
        [sys.executable, "-m", f"smolvla_ros.nodes.{name}",
         "--ros-args", "--params-file", str(cell)],
        capture_output=True, text=True, timeout=60, env=os.environ | {"ROS_DOMAIN_ID": "59"},
    )  # fmt: skip
    assert done.returncode == 2
    assert f"error: {cell}: {section}: rat: unknown key (value 3)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_node_without_a_cell_says_how_to_give_one():
    done = subprocess.run(
        [sys.executable, "-m", "smolvla_ros.nodes.safety_monitor"],
        capture_output=True, text=True, timeout=60, env=os.environ | {"ROS_DOMAIN_ID": "59"},
    )  # fmt: skip
    assert done.returncode == 2 and "--params-file CELL.yaml" in done.stderr
