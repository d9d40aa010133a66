"""Shares of episodes, and how sure of them one can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def rate(successes: int, n: int) -> dict[str, Any]:
    """``n``, ``success`` (share, None of nothing) and ``ci95``: Wilson's 95 % interval, which
    holds for few episodes and for shares near 0 and 1."""
    if n == 0:
        return {"n": 0, "success": None, "ci95": [0.0, 1.0]}
    from scipy.stats import binomtest  # takes long to import: not for `smolvla-ros --help`

    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return {
        "n": n,
        "success": round(successes / n, 4),
        "ci95": [round(float(interval.low), 4), round(float(interval.high), 4)],
    }


def median(values: Sequence[float]) -> float | None:
    """p50, rounded to a millisecond; None of nothing."""
    return round(float(np.median(values)), 3) if len(values) else None
