"""The policy on one machine, the monitor and the arm on another, and the link between them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from subprocess import DEVNULL

import numpy as np
import pytest
import yaml
from cells import ROOT, TABLETOP
from oracle import Oracle
from rig import MONITOR, Rig, changed_cell, wait_until

from smolvla_ros.cli.benchmark import cameras
from smolvla_ros.cli.processes import CellProcesses, environment

# As the README has it. Without shared memory, too: it would pass by the link.
NETWORK = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4?non_blocking=true",
}
POLICY_HOST, ARM_HOST = (f"smolvla_{host}_{os.getpid()}" for host in ("policy", "arm"))
LISTENER = Path(__file__).parents[1] / "support" / "listener_process.py"
LINK = "cable"
ALONE = "SMOLVLA_ROS_TEST_ALONE"
MAX_AGE = 0.1  # s that the cell lets joint states be old
TIMEOUT = 1.0  # s after the last chunk until the arm brakes: before the chunk ends


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def plug(host: str) -> None:
    ip("-n", host, "link", "set", LINK, "up")
    # Discovery is by multicast. A link that went down has lost it, as on any machine.
    ip("-n", host, "route", "add", "default", "dev", LINK)


def unplug(host: str) -> None:
    ip("-n", host, "link", "set", LINK, "down")


@contextlib.contextmanager
def on(host: str) -> Iterator[None]:
    """This thread, and what it starts, on one of the two machines."""
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{host}") as there:
        os.setns(there.fileno(), os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(before.fileno(), os.CLONE_NEWNET)


@pytest.fixture
def link(monkeypatch) -> Iterator[None]:
    """Two machines with a cable between them; the test itself is on the arm's."""
    for name, value in NETWORK.items():
        monkeypatch.setenv(name, value)
    with contextlib.ExitStack() as stack:
        try:
            for host in (POLICY_HOST, ARM_HOST):
                ip("netns", "add", host)
                stack.callback(ip, "netns", "del", host)
            ip("link", "add", LINK, "netns", POLICY_HOST, "type", "veth",
               "peer", "name", LINK, "netns", ARM_HOST)  # fmt: skip
        except OSError as error:
            pytest.skip(f"two network namespaces need root and iproute2: {error}")
        for number, host in enumerate((POLICY_HOST, ARM_HOST), start=1):
            ip("-n", host, "address", "add", f"10.77.0.{number}/24", "dev", LINK)
            ip("-n", host, "link", "set", "lo", "up")
            plug(host)
        with on(ARM_HOST):
            yield


def cell_of_two(folder: Path) -> Path:
    """The shipped cell with compressed cameras on the policy's machine; the simulator's own
    are there for nobody."""
    keep = {"directory": str(folder), "seconds": 60.0}
    path = changed_cell(folder, command_timeout=TIMEOUT, recording=keep)
    document = yaml.safe_load(path.read_text())
    vla = document["/**/vla"]["ros__parameters"]
    vla["checkpoint"] = str(ROOT / "models" / "so101_tabletop")
    for name, camera in vla["cameras"].items():
        camera |= {"topic": f"{name}/image_raw/compressed", "transport": "compressed"}
    document["/**/sim"]["ros__parameters"]["camera_rate"] = 1.0
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


@contextlib.contextmanager
def two_machines(cell: Path, domain: int, logs: Path) -> Iterator[tuple[Rig, Path]]:
    """Simulator and monitor on the arm's machine, cameras and policy on the other, all up; and
    a file with what somebody there hears the policy say."""
    heard = logs / "heard.txt"
    with contextlib.ExitStack() as stack:
        with on(POLICY_HOST):
            start = partial(subprocess.Popen, env=environment(domain) | NETWORK, stdin=DEVNULL)
            pictures = start([sys.executable, "-m", cameras.__name__, "--cell", str(cell)])
            stack.callback(end, pictures)
            with heard.open("wb") as out:
                stack.callback(end, start([sys.executable, LISTENER], stdout=out))
            policy = stack.enter_context(
                CellProcesses(cell, ("vla",), domain, logs, variables=NETWORK)
            )
        here = stack.enter_context(CellProcesses(cell, ("sim",), domain, logs, variables=NETWORK))
        # The monitor makes its own choice.
        own = NETWORK | {"FASTDDS_BUILTIN_TRANSPORTS": ""}
        gate = stack.enter_context(CellProcesses(cell, (MONITOR,), domain, logs, variables=own))
        arm = stack.enter_context(Rig(domain, arm=False))

        def up() -> bool:
            policy.check()
            here.check()
            gate.check()
            return arm.words.startswith("disabled") and arm.says("vla").endswith("none given")

        try:
            wait_until(up, 90, "both machines are up")
            yield arm, heard
        except AssertionError:
            print(arm.words, arm.says("vla"), heard.read_text()[-500:], sep="\n")
            raise
        policy.check()
        here.check()
        gate.check()
        assert pictures.poll() is None


def changes(arm: Rig) -> np.ndarray:
    """Stamps of the set-points that are not where the one before was, s."""
    sent = list(arm.recording.sent)
    moved = (np.diff([row for _, row, _ in sent], axis=0) != 0).any(axis=1)
    return np.array([at for at, _, _ in sent[1:]])[moved]


def after(back: float, lines: list[dict]) -> tuple[list[float], list[float]]:
    """From a monitor's recording: when set-points moved after ``back``, and when chunks came
    whose observations were made after it; steady clock, s."""
    outputs = [(line["t"], line["output"]["positions"]) for line in lines if "output" in line]
    moves = [t for (_, p), (t, q) in pairwise(outputs) if t > back and p != q]
    commands = [(line["t"], line["command"]["stamp"]) for line in lines if "command" in line]
    return moves, [t for t, stamp in commands if stamp > back - MAX_AGE]


@pytest.fixture
def alone(request) -> None:
    """Has the test run in a process of its own: Fast DDS asks once a process which interfaces
    there are, and another test may have asked on another machine."""
    if os.environ.get(ALONE):
        return
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, request.node.nodeid],
        cwd=request.config.rootpath,
        env=os.environ | {ALONE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if skipped := [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]:
        pytest.skip(skipped[0].split(": ", 1)[-1])
    assert done.returncode == 0, done.stdout[-8000:]


@pytest.mark.parametrize("seconds", [3.0, 25.0], ids=["short", "longer_than_the_lease_of_dds"])
def test_a_link_cut_in_motion_leads_to_a_hold_until_a_fresh_chunk(
    alone, request, tmp_path, seconds
):
    if not os.environ.get(ALONE):
        return  # it has passed there
    request.getfixturevalue("link")
    domain = request.getfixturevalue("domain")
    with two_machines(cell_of_two(tmp_path), domain, tmp_path) as (arm, heard):
        arm.enabled()
        begin = arm.rows[-1].copy()

        def moving() -> bool:
            arm.instruct("touch the red block")
            far = np.abs(arm.rows[-1] - begin).max() > 0.1
            return far and arm.now() - changes(arm)[-1] < 0.05

        wait_until(moving, 20, "moving")
        unplug(POLICY_HOST)
        cut = arm.now()
        wait_until(arm.at_rest, TIMEOUT + 2.0, "brakes and holds")
        assert arm.words.startswith("holding")
        before = changes(arm)
        stood = before[-1]
        assert -0.1 < stood - cut < TIMEOUT + 0.5, "in time"
        time.sleep(seconds)
        assert "joint_states: " in heard.read_text().splitlines()[-1], "it says why it waits"
        assert len(changes(arm)) == len(before), "nothing moves while the link is cut"
        held = [at for at, _, _ in arm.recording.sent if at > stood]
        assert len(held) > 85 * (held[-1] - stood), "held at full rate"

        back = time.monotonic()
        plug(POLICY_HOST)
        wait_until(lambda: len(changes(arm)) > len(before), 30, "goes on by itself")
        moved = changes(arm)[len(before)]
        wait_until(lambda: changes(arm)[-1] > moved + 1.0, 10, "and keeps going")
        assert arm.trigger("stop")[0]
        wait_until(arm.at_rest, 5, "stopped")
        wait_until(lambda: list(tmp_path.glob("stop_*.jsonl")), 10, "the monitor's recording")
        rows = arm.rows
    (recording,) = tmp_path.glob("stop_*.jsonl")
    moves, fresh = after(back, [json.loads(line) for line in recording.read_text().splitlines()])
    assert moves[0] > fresh[0], "nothing moves before a chunk that has seen the arm stand"
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)
