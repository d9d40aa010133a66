"""``smolvla-ros train``: a checkpoint and a dataset → a trained checkpoint."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from smolvla_ros.cell import load_cell
from smolvla_ros.schema import ConfigError

_STEPS, _BATCH = 3000, 64


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "train",
        help="train a policy on a LeRobotDataset with LeRobot's own trainer",
        description="Trains with LeRobot's own trainer, from a checkpoint, on a LeRobotDataset "
        "that is decoded into memory once. What comes out is DIR/policy, a whole checkpoint; "
        "DIR/metrics.jsonl and DIR/curves.png say how it went. A run that was killed goes on "
        "with --resume --out DIR.",
        epilog="What stands after -- is given to lerobot-train, in its own words, such as "
        "-- --policy.optimizer_lr=1e-4 --policy.device=cuda",
    )
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="folder of a LeRobotDataset")
    parser.add_argument(
        "--from", dest="start", metavar="CHECKPOINT", help="a folder, or a name on the hub"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--cell", type=Path, metavar="FILE", help="cell YAML that the dataset has to fit"
    )
    parser.add_argument("--steps", type=int, metavar="N", help=f"updates (default {_STEPS})")
    parser.add_argument(
        "--batch-size", type=int, metavar="B", help=f"frames an update (default {_BATCH})"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="default 0")
    parser.add_argument(
        "--threads", type=int, metavar="T",
        help="of torch (default: its own choice, all cores); 1 on a machine that does more",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, metavar="M",
        help="fewer steps where N do not fit into these; a few are timed first",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the run in DIR")
    parser.add_argument("more", nargs="*", metavar="-- ARGUMENT", help="for lerobot-train")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train. Returns 0, or 1 where it was interrupted.

    Raises:
        ConfigError: what cannot be trained, a line each.
    """
    _check(arguments)
    cell = None if arguments.cell is None else load_cell(arguments.cell)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "60")  # a file keeps every line of a bar
    # Slow to import.
    import torch

    from smolvla_ros.learn.train import Recipe, resume, train
    from smolvla_ros.policy.checkpoint import CheckpointError, find_checkpoint

    out = arguments.out.resolve()
    given = {
        "dataset": arguments.dataset and str(arguments.dataset.resolve()),
        "steps": arguments.steps,
        "batch_size": arguments.batch_size,
        "seed": arguments.seed,
        "threads": arguments.threads,
        "more": tuple(arguments.more) or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    try:
        if arguments.start is not None:
            given["start"] = str(find_checkpoint(arguments.start, Path.cwd()).resolve())
        if arguments.resume:
            resume(out, cell, given, _say)
        else:
            standard = {
                "steps": _STEPS,
                "batch_size": _BATCH,
                "threads": torch.get_num_threads(),
            }
            train(Recipe(**standard | given), out, cell, arguments.minutes, _say)
    except CheckpointError as error:
        raise ConfigError(error.problems) from error
    except KeyboardInterrupt:
        _say(f"interrupted; smolvla-ros train --resume --out {arguments.out} goes on")
        return 1
    return 0


def _check(arguments: argparse.Namespace) -> None:
    problems = [
        f"--{name.replace('_', '-')}: is {value:g}; write more than 0"
        for name in ("steps", "batch_size", "threads", "minutes")
        if (value := getattr(arguments, name)) is not None and value <= 0
    ]
    if not arguments.resume:
        problems += [
            f"{option}: is needed, unless --resume goes on with a run"
            for option, value in (("--dataset", arguments.dataset), ("--from", arguments.start))
            if value is None
        ]
    elif arguments.minutes is not None:
        problems.append("--minutes: the steps of a run that is resumed are settled; leave it out")
    missing = [m for m in ("torch", "lerobot", "matplotlib") if not importlib.util.find_spec(m)]
    if missing:
        problems.append(f"training needs {', '.join(missing)}; pip install 'smolvla_ros[train]'")
    if problems:
        raise ConfigError(problems)


def _say(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)  # above the bar, not through it
