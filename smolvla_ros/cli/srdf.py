"""``smolvla-ros srdf``: writes a first SRDF for an arm, for a person to look at."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

from smolvla_ros.robot import RobotError, RobotModel
from smolvla_ros.robot.describing import Pairs, often, sort_pairs
from smolvla_ros.schema import ConfigError


def add(subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "srdf",
        help="write a first SRDF: link pairs that need no collision check, and why",
        description="Finds link pairs that need no collision check: joined by a joint, touching "
        "in nearly every posture, or in none that was tried or searched for. That proves nothing: "
        "look at each entry before a gate relies on it.",
    )
    parser.add_argument("--urdf", type=Path, required=True, help="URDF file")
    parser.add_argument(
        "--package-dir", type=Path, action="append", default=[], metavar="DIR",
        help="where package:// meshes are looked for; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--link-without-geometry", action="append", default=[], metavar="LINK",
        help="a link with a body that may go unprotected; may be repeated",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=10000, help="random postures to try")
    parser.add_argument("--out", type=Path, help="file to write; without it, standard output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the SRDF. Returns 0.

    Raises:
        ConfigError: a description that cannot be used, or a file that is there already.
    """
    if arguments.samples < 1:
        raise ConfigError(f"--samples: is {arguments.samples}; try at least one posture")
    if arguments.out is not None and arguments.out.exists():
        raise ConfigError(
            f"--out: {arguments.out} is there already, perhaps with a person's changes; "
            "name another file"
        )
    try:
        robot = RobotModel(
            arguments.urdf,
            package_dirs=arguments.package_dir,
            links_without_geometry=arguments.link_without_geometry,
        )
    except RobotError as error:
        raise ConfigError(str(error).splitlines()) from error
    text = first_srdf(robot, sort_pairs(robot, arguments.samples))
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        arguments.out.write_text(text)
        print(f"{arguments.out}: look at each entry, the nearest pairs first")
    return 0


def first_srdf(robot: RobotModel, found: Pairs) -> str:
    """An SRDF whose entries name their reasons as MoveIt's do: Adjacent, Always, Never."""
    checked = [f"{a} ~ {b} (touch in {often(contact)})" for a, b, contact in found.sometimes]
    lines = [
        '<?xml version="1.0"?>',
        f"<!-- Made by trying {found.samples} random postures, and a search from some of them for",
        "     contacts. Nobody has looked at it yet: take out each entry that could touch, the",
        "     nearest first. -->",
        f"<robot name={quoteattr(robot.model.name)}>",
        "  <!-- Checked: " + ("; ".join(checked) or "no pair").replace("--", "- -") + ". -->",
    ]
    reasons = {"Adjacent": found.adjacent, "Always": found.always, "Never": found.never}
    for reason, entries in reasons.items():
        lines += [
            f"  <disable_collisions link1={quoteattr(a)} link2={quoteattr(b)} "
            f'reason="{reason}"/>  <!-- nearest {contact.nearest * 1e3:.1f} mm -->'
            for a, b, contact in entries
        ]
    return "\n".join([*lines, "</robot>", ""])
