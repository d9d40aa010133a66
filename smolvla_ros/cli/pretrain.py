"""``smolvla-ros pretrain``: stage one of training, the small model's grounding."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from smolvla_ros.cell import load_cell
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

_VIEWS, _STEPS, _EVERY = 48000, 7000, 250


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "pretrain",
        help="ground a small vision-language-action model on views of the simulator",
        description="Stage one: makes views of varied scenes, and teaches a small SmolVLA on them "
        "what the words mean and where the blocks are. DIR becomes a LeRobot checkpoint, from "
        "which stage two (smolvla-ros train) goes on.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the checkpoint")
    parser.add_argument("--cell", type=Path, metavar="FILE", help="cell YAML (default: tabletop)")
    parser.add_argument("--views", type=int, default=_VIEWS, metavar="N", help=f"({_VIEWS})")
    parser.add_argument("--steps", type=int, default=_STEPS, metavar="N", help=f"({_STEPS})")
    parser.add_argument("--batch-size", type=int, default=64, metavar="B", help="views a step (64)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="(0)")
    parser.add_argument(
        "--save-every", type=int, default=_EVERY, metavar="N",
        help=f"steps between two saves, and two lines of progress ({_EVERY})",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, metavar="T",
        help="of torch, and processes that make views (as many as there are cores); 1 on a "
        "machine that does more",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the run in DIR")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Pre-train. Returns 0.

    Raises:
        ConfigError: what cannot be done, a line each.
    """
    out = arguments.out
    _check(arguments)
    cell = load_cell(arguments.cell or share("config", "so101_tabletop.yaml"))
    # Slow to import.
    import torch

    from smolvla_ros.learn.models import SMALL
    from smolvla_ros.learn.pretrain import PROGRESS, Pretraining, Recipe
    from smolvla_ros.learn.views import make_views

    torch.set_num_threads(arguments.threads)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    views = make_views(
        cell, out / "views", arguments.views, arguments.threads, rows=SMALL.chunk,
        pixels=SMALL.pixels, told=lambda made: _say(f"{made}/{arguments.views} views"),
    )  # fmt: skip
    _say(f"views after {time.monotonic() - began:.0f} s")
    recipe = Recipe(steps=arguments.steps, batch=arguments.batch_size, seed=arguments.seed)
    try:
        work = Pretraining(views, out, recipe, _say, arguments.save_every)
        if arguments.resume and (out / PROGRESS).exists():
            work.load_progress()
            _say(f"going on after step {work.step}")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    work.run()
    work.finish()
    _say(f"{out}: a checkpoint, after {time.monotonic() - began:.0f} s")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    problems = [
        f"--{name.replace('_', '-')}: is {value}; write 1 or more"
        for name in ("views", "steps", "batch_size", "save_every", "threads")
        if (value := getattr(arguments, name)) < 1
    ]
    out = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not arguments.resume:
        problems.append(f"--out: {out} is there and not empty; --resume goes on with it")
    if missing := [n for n in ("torch", "lerobot", "mujoco") if not importlib.util.find_spec(n)]:
        problems.append(
            f"{', '.join(missing)}: not installed; pip install 'smolvla_ros[policy,sim]'"
        )
    if problems:
        raise ConfigError(problems)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
