"""``smolvla-ros demonstrate``: the scripted expert's episodes → a LeRobotDataset."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from smolvla_ros.cell import load_cell
from smolvla_ros.learn.trials import HELD_OUT
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

_EPISODES = 1000


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "demonstrate",
        help="let the scripted expert make a LeRobotDataset in the simulator",
        description="A scripted expert, which reads the simulator's state, touches and picks up "
        "blocks in varied scenes, through the gate. What the policy would have seen and what the "
        "gate sent becomes a LeRobotDataset; episodes that fail are not kept.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the dataset")
    parser.add_argument("--cell", type=Path, metavar="FILE", help="cell YAML (default: tabletop)")
    parser.add_argument(
        "--episodes", type=int, default=_EPISODES, metavar="N", help=f"to keep ({_EPISODES})"
    )
    parser.add_argument(
        "--seed", type=int, default=50000, metavar="S",
        help="of the first scene (50000); those from 100000 on are for evaluation",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="append to the dataset in DIR")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Demonstrate. Returns 0.

    Raises:
        ConfigError: what cannot be made, a line each.
    """
    if arguments.episodes < 1:
        raise ConfigError(f"--episodes: is {arguments.episodes}; write 1 or more")
    if arguments.seed < 0:
        raise ConfigError(f"--seed: is {arguments.seed}; write 0 or more")
    if arguments.seed + arguments.episodes > HELD_OUT:
        raise ConfigError(
            f"--seed: {arguments.episodes} episodes from there reach scene {HELD_OUT}; "
            "those are for evaluation alone: write a smaller one"
        )
    cell = load_cell(arguments.cell or share("config", "so101_tabletop.yaml"))
    # Slow to import, and needs a simulator.
    from tqdm import tqdm

    from smolvla_ros.learn.demonstrate import demonstrate

    with tqdm(total=arguments.episodes, unit="episode", file=sys.stderr) as bar:

        def told(kept: int, counts: Counter[str]) -> None:
            bar.set_postfix(dict(sorted(counts.items())), refresh=False)
            bar.update(kept - bar.n)

        counts = demonstrate(
            cell, arguments.out, arguments.episodes, arguments.seed, arguments.resume, told
        )
    print(", ".join(f"{n} {word}" for word, n in sorted(counts.items())))
    return 0
