"""``smolvla-ros faults``: run the fault catalogue and say what became of each fault."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import smolvla_ros
from smolvla_ros.schema import ConfigError

RESULTS = ("survived", "wrong_reason", "failed", "not_testable")


def add(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "faults",
        help="run the fault catalogue",
        description="Runs every fault of the catalogue against the gate, judged by an oracle that "
        "shares no code with it. Needs the package's source tree and its test extra.",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("-k", metavar="WORDS", default="", help="only these: f01, 'f4 or f55', ...")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the catalogue. Returns 0 if every fault that was tried survived, with its reason."""
    folder = catalogue_folder()
    rows = results(folder, arguments.k)
    counts = Counter(row["result"] for row in rows)
    summary = {name: counts[name] for name in RESULTS}
    if arguments.json:
        print(json.dumps({**summary, "faults": rows}, indent=2))
    else:
        for row in rows:
            why = f"  ({row['why']})" if row["why"] else ""
            print(f"{row['fault']}  {row['result']:<12}  {row['title']}{why}")
        print(", ".join(f"{n} {name}" for name, n in summary.items()))
    return int(bool(counts["failed"] or counts["wrong_reason"]))


def catalogue_folder() -> Path:
    """The catalogue's tests in the package's source tree.

    Raises:
        ConfigError: the package was installed without its source tree.
    """
    folder = Path(smolvla_ros.__file__).resolve().parents[1] / "test" / "faults"
    if not (folder / "conftest.py").is_file():
        raise ConfigError(
            f"{folder}: no fault catalogue; it is part of the source tree: clone the repository "
            "and `pip install --editable '.[test]'` there"
        )
    return folder


def results(folder: Path, words: str) -> list[dict[str, str]]:
    """One row a fault: fault, title, result (of ``RESULTS``), why.

    Raises:
        ConfigError: pytest could not run, or found nothing for ``words``.
    """
    with tempfile.TemporaryDirectory() as made:
        report = Path(made) / "faults.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
        ran = subprocess.run(
            [*command, "-k", words] if words else command,
            cwd=folder.parents[1],
            env=os.environ | {"SMOLVLA_ROS_FAULTS_REPORT": str(report)},
            capture_output=True,
            text=True,
        )
        rows = json.loads(report.read_text()) if report.is_file() else []
    if not rows:
        last = (ran.stdout + ran.stderr).strip().splitlines()[-3:]
        raise ConfigError([f"faults: nothing was tried: {line}" for line in last or ["no output"]])
    return rows
