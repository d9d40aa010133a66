"""``smolvla-ros evaluate``: does the arm do what it is told, and what did the gate have to do?"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smolvla_ros.cell import Cell, beside
from smolvla_ros.cli.demo import check_cell
from smolvla_ros.cli.processes import CellProcesses, NodeDied, private_domain
from smolvla_ros.learn import trials as t
from smolvla_ros.learn.tasks import TASKS
from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share
from smolvla_ros.sim.scene import load_scene

SOURCES = ("policy", "expert")
LATENCY = 0.1  # s
KEPT_UP = 0.95  # of real time, below which a machine is too slow to judge a policy on

Ended = Iterator[tuple[t.Outcome, np.ndarray | None]]


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure in the simulator whether a policy does what it is told",
        description="Runs episodes on scenes that no training has seen, with wordings that no "
        "training has seen, and judges them by the simulator's state: through the cell's nodes, "
        "or with --fast the same in one process and in simulated time. Then the same scenes with "
        "another colour named, and with no block named. Exit code 1 if a node died or the "
        "gate's promise was broken; 2 if something given is wrong.",
    )
    number = {"type": int, "metavar": "N"}
    parser.add_argument("--cell", type=Path, help="cell YAML (default: the SO-101 tabletop)")
    parser.add_argument("--checkpoint", metavar="DIR", help="another one than the cell names")
    parser.add_argument("--episodes", default=100, help="scenes (default 100)", **number)
    parser.add_argument(
        "--seed", default=t.HELD_OUT, help="of the first scene (default %(default)s)", **number
    )
    parser.add_argument("--task", metavar="TASK", help="touch or pick (default: both, in turn)")
    parser.add_argument(
        "--gate", default="on", metavar="HOW",
        help="on; off: the arm follows the chunks; shadow: it does, and the gate computes",
    )  # fmt: skip
    parser.add_argument("--fast", action="store_true", help="one process, simulated time")
    parser.add_argument(
        "--workers", default=1, help="processes side by side, with --fast", **number
    )
    parser.add_argument("--language", help="scenes of the language check (default: all)", **number)
    parser.add_argument(
        "--limit", type=float, metavar="S", help="of an episode (default: touch 10, pick 20)"
    )
    parser.add_argument(
        "--latency", type=float, metavar="S",
        help=f"that an inference is taken to last, with --fast (default {LATENCY})",
    )  # fmt: skip
    parser.add_argument(
        "--source", default="policy", metavar="WHO",
        help="policy; expert: the scripted one, with --fast, shows what can be done",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--video", type=Path, metavar="DIR", help="write a film an episode and a contact sheet here"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the evaluation. Returns the exit code."""
    _check(arguments)
    try:
        path = arguments.cell or share("config", "so101_tabletop.yaml")
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    cell, robot = check_cell(path)
    if arguments.checkpoint:
        folder = Path(arguments.checkpoint).expanduser()
        name = str(folder.resolve()) if folder.is_dir() else arguments.checkpoint
        cell = replace(cell, vla=replace(cell.vla, checkpoint=name))
    blocks = tuple(load_scene(beside(cell.path, cell.sim.scene)).blocks)
    tasks = (arguments.task,) if arguments.task else TASKS
    limits = dict.fromkeys(t.LIMITS, arguments.limit) if arguments.limit else t.LIMITS
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    planned = t.plan(seeds, blocks, tasks, arguments.language, limits)
    if arguments.seed < t.HELD_OUT:
        print(f"note: scenes below {t.HELD_OUT} may be in the data of a training")
    # A SIGTERM ends what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    health: dict[str, float | None] = {}
    if arguments.fast:
        ended = _fast(arguments, cell, planned)
    else:
        ended = _through_nodes(arguments, cell, robot, planned, health)
    began = time.monotonic()
    outcomes, strips, failure = _collect(ended, len(planned))
    summary = {
        "mode": "fast" if arguments.fast else "nodes",
        "source": arguments.source,
        "gate": arguments.gate,
        "checkpoint": cell.vla.checkpoint if arguments.source == "policy" else None,
        "seed": arguments.seed,
        **t.summarise(outcomes, tasks, blocks),
        "seconds": round(time.monotonic() - began, 2),
    }
    if health:
        summary["health"] = health
    if failure:
        summary["failure"] = failure
    return _finish(arguments, summary, outcomes, strips)


def _check(arguments: argparse.Namespace) -> None:
    """Everything about the arguments that is wrong without looking at the cell."""
    choices = (("task", TASKS), ("gate", t.GATES), ("source", SOURCES))
    problems = [
        f"--{name}: is {value!r}; write one of {', '.join(known)}"
        for name, known in choices
        if (value := getattr(arguments, name)) is not None and value not in known
    ]
    least = {"episodes": 1, "seed": 0, "workers": 1, "language": 0}
    problems += [
        f"--{name}: is {value}; write {low} or above"
        for name, low in least.items()
        if (value := getattr(arguments, name)) is not None and value < low
    ]
    for name in ("limit", "latency"):
        value = getattr(arguments, name)
        if value is not None and not 0.0 < value < 1000.0:
            problems.append(f"--{name}: is {value}; write seconds above 0")
    if not arguments.fast:
        for name, given, usual in (
            ("workers", arguments.workers, 1),
            ("latency", arguments.latency, None),
            ("source", arguments.source, "policy"),
        ):
            if given != usual:
                problems.append(f"--{name}: is {given}; the nodes run as they are: add --fast")
    needed = {"mujoco": "sim", "lerobot": "policy"}
    if arguments.video:
        needed["av"] = "policy"
    if not arguments.fast:
        needed["rclpy"] = "ros"
    problems += [
        f"{module}: not installed; pip install 'smolvla_ros[{extra}]'"
        for module, extra in needed.items()
        if importlib.util.find_spec(module) is None
    ]
    if problems:
        raise ConfigError(problems)


def _fast(arguments, cell: Cell, planned: list[t.Trial]) -> Ended:
    from smolvla_ros.learn.evaluate import Setup, run_fast  # MuJoCo: --help needs none

    latency = LATENCY if arguments.latency is None else arguments.latency
    setup = Setup(cell, arguments.gate, arguments.source, latency, arguments.video)
    yield from run_fast(setup, planned, arguments.workers)


def _through_nodes(
    arguments, cell: Cell, robot: RobotModel, planned: list[t.Trial], health: dict
) -> Ended:
    from smolvla_ros.cli.episodes import NodeEpisodes, arguments_of, nodes_of  # rclpy

    domain, lock = private_domain()
    with lock, tempfile.TemporaryDirectory(prefix="smolvla_ros_") as logs:
        nodes = CellProcesses(
            cell.path.resolve(), nodes_of(arguments.gate), domain, Path(logs),
            arguments_of(arguments.gate, cell.vla.checkpoint if arguments.checkpoint else None),
        )  # fmt: skip
        filming = arguments.video is not None
        with nodes, NodeEpisodes(cell, robot, nodes, domain, arguments.gate, filming) as episodes:
            print(
                f"cell {cell.path}, ROS_DOMAIN_ID={domain}; waiting for the nodes ...", flush=True
            )
            episodes.wait_until_up()
            for trial in planned:
                outcome, film = episodes.run(trial)
                health |= episodes.health()
                if film is not None:
                    film.save(arguments.video / f"{outcome.name}_{outcome.word}.mp4")
                yield outcome, film.strip() if film is not None else None


def _collect(ended: Ended, count: int) -> tuple[list[t.Outcome], list[np.ndarray | None], str]:
    """Every outcome by seed, its strip, and what kept the rest from being run."""
    from tqdm import tqdm

    found: list[tuple[t.Outcome, np.ndarray | None]] = []
    failure = ""
    every = 0.1 if sys.stderr.isatty() else 30.0  # s; a log needs no moving picture
    with tqdm(total=count, unit="episode", dynamic_ncols=True, mininterval=every) as bar:
        try:
            for outcome, strip in ended:
                found.append((outcome, strip))
                done = [o.success for o, _ in found if o.trial.check == t.SAME]
                bar.set_postfix_str(f"{sum(done)} of {len(done)} succeeded", refresh=False)
                bar.update()
        except (NodeDied, TimeoutError) as error:
            failure = str(error)
        except KeyboardInterrupt:
            failure = "interrupted"
    order = {check: k for k, check in enumerate((t.SAME, t.OTHER, t.NONE))}
    found.sort(key=lambda f: (f[0].trial.seed, order[f[0].trial.check]))
    return [o for o, _ in found], [s for _, s in found], failure


def _finish(arguments, summary: dict, outcomes: list[t.Outcome], strips) -> int:
    if arguments.video and outcomes:
        from smolvla_ros.learn.sheet import Row, choose, write_sheet

        shown = choose([o.good for o in outcomes])
        rows = [Row(_line(outcomes[i]), outcomes[i].good, strips[i]) for i in shown]
        write_sheet(arguments.video / "sheet.png", rows)
        print(f"picture: {arguments.video / 'sheet.png'}")
    print(t.table(summary))
    print(
        f"limit violations {summary['limit_violations']}, clearance breaches "
        f"{summary['clearance_breaches']}, interventions {summary['interventions']['checks']}"
    )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        whole = summary | {"per_episode": [t.describe(o) for o in outcomes]}
        arguments.json.write_text(json.dumps(whole, indent=2) + "\n")
    if summary.get("health", {}).get("real_time", 1.0) < KEPT_UP:
        print(
            f"note: the machine did not keep up, {summary['health']['real_time']:.0%} of real "
            "time: the policy answers late, and success is lower for it; --fast does not mind"
        )
    failures = [summary["failure"]] if "failure" in summary else []
    broken = summary["limit_violations"] or summary["clearance_breaches"]
    if arguments.gate == "on" and broken:
        first = next(o for o in outcomes if o.limit_violations or o.clearance_breaches)
        failures.append(f"the gate's promise was broken, first in {first.name}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 130 if failures[:1] == ["interrupted"] else 1 if failures else 0


def _line(outcome: t.Outcome) -> str:
    words = [str(outcome.trial.seed), repr(outcome.trial.instruction), outcome.word]
    if outcome.seconds is not None:
        words.append(f"{outcome.seconds:.1f} s")
    for what, blocks in (("touched", outcome.touched), ("lifted", outcome.lifted)):
        if blocks:
            words.append(f"{what}: {', '.join(blocks)}")
    return "   ".join(words)
