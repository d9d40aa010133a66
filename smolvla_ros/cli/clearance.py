"""``smolvla-ros clearance``: how near a recorded motion came to each zone, and what it took up."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pinocchio as pin

from smolvla_ros.cli import arm
from smolvla_ros.cli.gate import read_input
from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.reach import extreme_points
from smolvla_ros.safety import Clearance
from smolvla_ros.safety.feedback import Feedback
from smolvla_ros.safety.offline import Line
from smolvla_ros.schema import ConfigError

_GRID = 0.01  # m to which a box is rounded, outwards
_GAP = 0.5  # s: a longer silence counts as no time at all
_NEAREST = 3  # pairs of links that are shown


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "clearance",
        help="how near a recorded motion came to each zone, and what space it took",
        description="Reads measured joint states, and what the monitor sent, from a rosbag2 "
        "folder, an MCAP file or the JSON lines of a stop's recording, and says for each zone of "
        "the cell the smallest clearance, of which link and when, and for how long it was under "
        "the margin (by more than the slack); then the space that the links took. At the recorded "
        "positions alone, not between them; obstacles are not looked at. Exit code 2 if the input "
        "or the cell is wrong.",
    )
    arm.add_arguments(parser)
    parser.add_argument(
        "--in", dest="input", required=True, metavar="IN",
        help="rosbag2 folder, .db3, .mcap, or JSON lines (- for standard input)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables. Returns 0.

    Raises:
        ConfigError: a cell or an input that cannot be read, or no joint state of every joint.
    """
    config, path = arm.load_config(arguments)
    robot, gate = arm.load_arm(config, path)
    lines = read_input(arguments.input, config, sent=True)
    moved = motions(lines, gate.feedback, robot.names, config.output.joints)
    found = survey(robot, gate.clearance, moved)
    if not found["positions"]:
        raise ConfigError(
            f"--in: {arguments.input}: no joint state, and nothing sent, of every joint: "
            + ", ".join(robot.names)
        )
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    print(tables(found))
    return 0


@dataclass(frozen=True)
class Positions:
    """Where the arm was: ``times`` ``[N]`` s, ``rows`` ``[N, D]`` rad (m)."""

    times: np.ndarray
    rows: np.ndarray


def motions(
    lines: Iterable[Line], feedback: Feedback, names: tuple[str, ...], output_joints: list[str]
) -> dict[str, Positions]:
    """``measured`` and ``sent`` positions of recorded lines, where there are any.

    Args:
        feedback: fresh; hears joint states as a gate does: parts of the arm in messages of their
            own, no glitches. names: the joints of a row. output_joints: the order of what was
            sent without names; empty: that of ``names``.
    """
    found: dict[str, list[tuple[float, list[float]]]] = {"measured": [], "sent": []}
    for line in lines:
        state, sent = line.body.get("joint_state"), line.body.get("output")
        # What a gate would not take, or is no set-point of every joint, was not the arm.
        with contextlib.suppress(TypeError, ValueError, KeyError, OverflowError, AttributeError):
            if state is not None:
                feedback.hear(line.t, state["names"], state["positions"])
                if feedback.whole:
                    found["measured"].append((line.t, feedback.positions.tolist()))
            if sent is not None:
                given = sent.get("names") or output_joints or names
                values = dict(zip(given, sent["positions"], strict=True))
                row = [float(values[name]) for name in names]
                if all(map(math.isfinite, row)):
                    found["sent"].append((line.t, row))
    return {
        kind: Positions(np.array([t for t, _ in rows]), np.array([q for _, q in rows], dtype=float))
        for kind, rows in found.items()
        if rows
    }


def survey(robot: RobotModel, clearance: Clearance, moved: dict[str, Positions]) -> dict[str, Any]:
    """How near it came to what, as a JSON object: seconds, metres."""
    starts = [p.times[0] for p in moved.values()]
    ends = [p.times[-1] for p in moved.values()]
    begin = min(starts, default=0.0)
    found: dict[str, Any] = {
        "positions": {kind: len(p.times) for kind, p in moved.items()},
        "begin_s": begin,
        "duration_s": max(ends, default=0.0) - begin,
        "zones": {},
        "links": {},
    }
    for pair in clearance.pairs:
        kind, about = ("links", {}) if not pair.zone else ("zones", {"kind": pair.check})
        name = pair.zone or pair.name
        found[kind].setdefault(name, {**about, "margin_m": pair.margin})
    for kind, positions in moved.items():
        distances = np.array([clearance.distances(q) for q in positions.rows])
        for name, near in _nearest(clearance, distances, positions.times, begin).items():
            found["zones" if name in found["zones"] else "links"][name][kind] = near
    if moved:
        taken = moved.get("measured") or moved["sent"]
        found["space"] = space(robot, taken.rows)
        found["keep_in"] = _box(found["space"], clearance.margin)
    return found


def _nearest(
    clearance: Clearance, distances: np.ndarray, times: np.ndarray, begin: float
) -> dict[str, dict[str, Any]]:
    """Zone or pair of links → its smallest clearance; ``distances`` ``[N, P]`` m."""
    lasts = np.append(np.diff(times), 0.0)
    lasts[lasts > _GAP] = 0.0
    columns: dict[str, list[int]] = {}
    for i, pair in enumerate(clearance.pairs):
        columns.setdefault(pair.zone or pair.name, []).append(i)
    found = {}
    for name, group in columns.items():
        of_group = distances[:, group]
        row, column = np.unravel_index(np.argmin(of_group), of_group.shape)
        pair = clearance.pairs[group[column]]
        below = of_group.min(axis=1) < pair.margin - clearance.slack
        found[name] = {
            "clearance_m": float(of_group[row, column]),
            "link": pair.name.split(" ~ ")[0],
            "at_s": float(times[row] - begin),
            "below_margin_s": float(lasts[below].sum()),
        }
    return found


def space(robot: RobotModel, rows: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """Link → the box, ``low`` and ``high`` corner in the root frame (m), that its collision
    shapes took over positions ``[N, D]``; only links that a joint moves."""
    data, placed = robot.model.createData(), pin.GeometryData(robot.geometry)
    shapes = [
        (g.index, g.link, *extreme_points(robot.geometry.geometryObjects[g.index].geometry))
        for g in robot.geometries
        if robot.reach(g).any()
    ]
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    for q in np.unique(rows, axis=0):
        pin.updateGeometryPlacements(
            robot.model, data, robot.geometry, placed, robot.configuration(q)
        )
        for index, link, points, radius in shapes:
            at = placed.oMg[index]
            there = points @ at.rotation.T + at.translation
            low[link] = np.minimum(low.get(link, np.inf), there.min(axis=0) - radius)
            high[link] = np.maximum(high.get(link, -np.inf), there.max(axis=0) + radius)
    return {link: {"low": low[link].tolist(), "high": high[link].tolist()} for link in low}


def _box(taken: dict[str, dict[str, list[float]]], margin: float) -> dict[str, list[float]]:
    """The keep_in box that all of it fits into, with the margin."""
    low = np.min([box["low"] for box in taken.values()], axis=0) - margin
    high = np.max([box["high"] for box in taken.values()], axis=0) + margin
    low, high = np.floor(low / _GRID) * _GRID, np.ceil(high / _GRID) * _GRID
    return {
        "size": np.round(high - low, 3).tolist(),
        "position": np.round((low + high) / 2, 4).tolist(),
    }


def tables(found: dict[str, Any]) -> str:
    """The figures for people: millimetres, seconds from the first position."""
    kinds = list(found["positions"])
    counted = ", ".join(f"{n} {kind}" for kind, n in found["positions"].items())
    lines = [f"{counted} positions, {found['duration_s']:.1f} s"]
    by_clearance = sorted(
        found["links"].items(), key=lambda item: min(item[1][k]["clearance_m"] for k in kinds)
    )
    heading = "nearest, link, when, under the margin for"
    rows = [["", "", "margin", *(f"{kind}: {heading}" for kind in kinds)]]
    for name, about in [*found["zones"].items(), *by_clearance[:_NEAREST]]:
        row = [name, about.get("kind", "self_collision"), f"{about['margin_m'] * 1e3:.0f} mm"]
        for kind in kinds:
            near = about[kind]
            link = "" if name in found["links"] else f" {near['link']}"
            below = near["below_margin_s"]
            row.append(
                f"{near['clearance_m'] * 1e3:.1f} mm{link} at {near['at_s']:.2f} s"
                + (f", {below:.2f} s" if below else "")
            )
        rows.append(row)
    lines += ["", *_aligned(rows)]
    rows = [["space taken", "x", "y", "z"]]
    for link, box in found["space"].items():
        ends = zip(box["low"], box["high"], strict=True)
        rows.append([link, *(f"{a * 1e3:.0f} .. {b * 1e3:.0f} mm" for a, b in ends)])
    box = found["keep_in"]
    lines += ["", *_aligned(rows), ""]
    lines.append(f"as a keep_in box, margin included: size: {box['size']}, "
                 f"position: {box['position']}")  # fmt: skip
    return "\n".join(lines)


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
