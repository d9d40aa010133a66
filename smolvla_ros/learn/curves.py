"""Training metrics: a line a measurement in a file, and the curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

STEP, LOSS, RATE = "steps", "loss", "lr"


def read(path: Path, until: int | None = None) -> list[dict[str, float]]:
    """The measurements in a file of JSON lines, oldest first, those after step ``until`` left
    out; none without the file. A last line that a crash cut short is left out as well."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return [row for row in rows if until is None or row[STEP] <= until]


def write(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Replace the file by these measurements."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def append(path: Path, row: Mapping[str, float]) -> None:
    """Add a measurement."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def draw(rows: Sequence[Mapping[str, float]], path: Path, title: str) -> None:
    """Draw loss (with its running mean) and learning rate over the steps, as a PNG.

    Args:
        rows: with :data:`STEP`, :data:`LOSS` and :data:`RATE`; at least one.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter, MaxNLocator

    steps, loss, rate = (np.array([row[k] for row in rows]) for k in (STEP, LOSS, RATE))
    figure = Figure(figsize=(8, 5), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.set_title(title, fontsize=10)
    above.plot(steps, loss, color="#9db8d9", linewidth=1)
    above.plot(steps, _smooth(loss, max(len(loss) // 20, 1)), color="#1f4e8c", linewidth=1.8)
    above.set_yscale("log")
    above.set_ylabel("loss")
    above.yaxis.set_major_formatter(LogFormatter())
    above.yaxis.set_minor_formatter(LogFormatter())
    below.plot(steps, rate, color="#1f4e8c", linewidth=1.2)
    below.set_ylabel("learning rate")
    below.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    below.set_xlabel("step")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (above, below):
        axes.grid(True, which="both", color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _smooth(values: np.ndarray, reach: int) -> np.ndarray:
    """Mean over up to ``reach`` neighbours on each side."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
