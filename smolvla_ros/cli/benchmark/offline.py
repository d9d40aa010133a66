"""What a gate costs and what it changes, in this process: no ROS."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pinocchio as pin

from smolvla_ros.cli.benchmark.drive import Drive, milliseconds, no_collections
from smolvla_ros.cli.benchmark.subject import Subject
from smolvla_ros.safety.offline import Replay, read_lines, row
from smolvla_ros.safety.rehearsal import rehearse
from smolvla_ros.safety.zones import check_zones

_SAME = 1e-9  # rad: rounding


def decision(subject: Subject, ticks: int = 12_000) -> dict[str, Any]:
    """How long a tick in motion takes, and how long the bare distances of the same pairs.

    The motions are chunks, by turns clear ones and ones at random goals that nobody has
    looked at: the gate has to find out. Beside the times on the clock stand those on the
    CPU, which other processes of the machine do not lengthen; the ratio is of these.
    """
    planner, wild = subject.planner(seed=1), subject.planner(seed=2)
    rehearse(subject.gate())
    drive = Drive(subject.gate(), subject.start, subject.source)
    met: Counter[str] = Counter()
    with no_collections():
        while len(drive.seconds) < ticks:
            clear = planner.path()
            there = clear[-1]
            for rows in (clear, wild.anywhere(there)):
                for output, _ in drive.chunks(rows):
                    met[output.verdict.kind.value] += 1
            # The way back from where a wild goal has led may be barred: begin anew.
            again = Drive(subject.gate(), there, subject.source)
            again.take_over(drive)
            drive = again
    visited = drive.visited[:: max(1, len(drive.visited) // 4000)]
    wall, cpu, pairs = bare_distances(subject, visited)
    times = {
        "decision_ms": milliseconds(drive.seconds),
        "limit_ms": milliseconds(wall),
        "decision_cpu_ms": milliseconds(drive.cpu_seconds),
        "limit_cpu_ms": milliseconds(cpu),
    }
    return {
        **times,
        "decision_over_limit": {
            p: round(times["decision_cpu_ms"][p] / times["limit_cpu_ms"][p], 3)
            for p in ("p50", "p99")
        },
        "decision_ticks": len(drive.seconds),
        "pairs": pairs,
        "verdicts": dict(met),
    }


def bare_distances(
    subject: Subject, visited: Iterable[np.ndarray]
) -> tuple[list[float], list[float], int]:
    """Seconds, and CPU seconds, of kinematics and every distance in one call of pinocchio and
    coal, without anything of ours; and the number of pairs. A keep-in zone that is no box has
    no pairs."""
    robot, config = subject.robot, subject.config
    geometry = pin.GeometryModel(robot.geometry)
    geometry.removeAllCollisionPairs()
    for a, b in robot.self_collision_pairs():
        geometry.addCollisionPair(pin.CollisionPair(a.index, b.index))
    moving = [g for g in robot.geometries if robot.reach(g).any()]
    for name, zone in check_zones(config.zones, robot, config.margin).items():
        for k, (shape, place) in enumerate(zone.parts() or ()):
            index = geometry.addGeometryObject(
                pin.GeometryObject(f"{name}/{k}", 0, 0, place, shape)
            )
            for g in moving:
                if zone.zone.selects(g.link):
                    geometry.addCollisionPair(pin.CollisionPair(g.index, index))
    data, answers = robot.model.createData(), geometry.createData()
    wall, cpu = [], []
    with no_collections():
        for q in visited:
            whole = robot.configuration(q)
            started, own = time.perf_counter(), time.thread_time()
            pin.computeDistances(robot.model, data, geometry, answers, whole)
            cpu.append(time.thread_time() - own)
            wall.append(time.perf_counter() - started)
    return wall, cpu, len(geometry.collisionPairs)


def whole_tick(subject: Subject, ticks: int = 4000) -> dict[str, Any]:
    """How long a tick of ``smolvla-ros gate`` takes: hearing the lines, the gate, the row."""
    planner = subject.planner(seed=3)
    dt = planner.dt
    text, t = [], 0.0
    while t < ticks * dt:
        rows = planner.path()
        clock = dt * np.arange(len(rows))
        for begin in np.arange(0.0, clock[-1], 0.4):
            times = np.arange(50) / 30.0
            points = [
                {"t": s, "positions": [float(np.interp(begin + s, clock, c)) for c in rows.T]}
                for s in times
            ]
            command = {"source": subject.source, "names": subject.robot.names, "points": points}
            text.append(json.dumps({"t": t + float(begin), "command": command}))
        t += float(clock[-1]) + 0.5
    seconds = []
    replay = Replay(subject.gate(), read_lines(text, "benchmark"), subject.start)
    with no_collections():
        before = time.perf_counter()
        for at, output in replay:
            json.dumps(row(at, output), allow_nan=False)
            now = time.perf_counter()
            seconds.append(now - before)
            before = now
    return {"tick_ms": milliseconds(seconds)}


def legal(subject: Subject, steps: int = 72_000) -> dict[str, Any]:
    """Clear motions inside every limit, half of the steps as single set-points at the gate's
    rate and half as chunks of 30 Hz: which of them leave altered?

    A single set-point is compared with what was sent, a step of a chunk with the chunk's own
    smooth curve at that instant (``chunk_path_rad`` says how far that curve is from the motion
    the rows were taken from).
    """
    found: dict[str, Any] = {}
    checks: Counter[str] = Counter()
    first = ""
    off_path = altered_by = 0.0
    for way in ("single", "chunks"):
        planner = subject.planner(seed=4)
        drive = Drive(subject.gate(), subject.start, subject.source)
        counted = altered = 0
        while counted < steps // 2:
            rows = planner.path()
            for output, there in getattr(drive, way)(rows):
                wanted = there if way == "single" else output.wanted
                if wanted is None:
                    continue
                if way == "chunks":
                    off_path = max(off_path, float(np.abs(output.positions - there).max()))
                counted += 1
                off = float(np.abs(output.positions - wanted).max())
                if off > _SAME:
                    altered += 1
                    altered_by = max(altered_by, off)
                    checks[output.verdict.check or output.verdict.kind.value] += 1
                    first = first or f"{way}, step {counted}: {output.verdict}"
            # What an alteration leaves behind must not make the next motion illegal.
            if np.abs(drive.q - rows[-1]).max() > 1e-6:
                drive = Drive(subject.gate(), rows[-1], subject.source)
        found |= {f"legal_steps_{way}": counted, f"legal_altered_{way}": altered}
    return {
        "legal_steps": found["legal_steps_single"] + found["legal_steps_chunks"],
        "legal_altered": found["legal_altered_single"] + found["legal_altered_chunks"],
        **found,
        "legal_altered_by": dict(checks),
        "legal_altered_first": first,
        "legal_altered_rad": altered_by,
        "chunk_path_rad": off_path,
    }
