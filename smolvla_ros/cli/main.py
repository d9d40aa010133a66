"""``smolvla-ros``: the command line."""

from __future__ import annotations

import argparse
import os
import sys

from smolvla_ros import __version__
from smolvla_ros.cli import (
    bench,
    check,
    clearance,
    convert,
    demo,
    demonstrate,
    evaluate,
    faults,
    gate,
    init,
    pretrain,
    record,
    srdf,
    train,
)
from smolvla_ros.schema import ConfigError

COMMANDS = (
    demo, record, convert, demonstrate, pretrain, train, evaluate, init, check, gate, clearance,
    srdf, faults, bench,
)  # fmt: skip
"""One module a subcommand, each with ``add(subparsers)`` that sets ``run`` to its function."""


def make_parser() -> argparse.ArgumentParser:
    """Every subcommand's arguments."""
    parser = argparse.ArgumentParser(prog="smolvla-ros", description=__doc__)
    parser.add_argument("--version", action="version", version=f"smolvla-ros {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand. Returns 0, 1 for a failed run, 2 for a wrong configuration, 130 where
    somebody pressed Ctrl-C."""
    arguments = make_parser().parse_args(argv)
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # as of `| head`: nobody wants the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ConfigError as error:
        for line in error.problems:
            print(f"error: {line}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
