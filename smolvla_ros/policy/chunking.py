"""How chunks follow each other: pace, join, seam and the way to rest. Pure arithmetic.

An inference that takes ``L`` seconds answers an observation taken ``L`` ago, and the next
answer comes ``L`` later still. So a chunk must last ``2 L`` for the arm never to run out of
motion. Where it does not, its rows are spread in time (*pace*): slower motion, none missing.
"""

from __future__ import annotations

import math

import numpy as np

from smolvla_ros.chunk import ActionChunk

RESERVE = 1.1  # of the chunk that two inferences may take, at least, when rows are few
REST_ROWS = 10  # rows on the way to rest


def end_of(chunk: ActionChunk) -> float:
    """When its last row is meant for, s."""
    return chunk.stamp + (len(chunk.positions) - 1) * chunk.dt


def sample(chunk: ActionChunk, times: np.ndarray, run_on: bool = False) -> np.ndarray:
    """``[M, D]`` where ``chunk`` is at ``times`` (``[M]``, s): straight between its rows.

    Before the first row it is there. After the last one it rests there or, with ``run_on``,
    goes on with the slope of the last two rows.
    """
    rows = chunk.positions
    place = np.maximum((np.asarray(times, dtype=float) - chunk.stamp) / chunk.dt, 0.0)
    if not run_on:
        place = np.minimum(place, len(rows) - 1.0)
    if len(rows) == 1:
        return np.repeat(rows, len(place), axis=0)
    low = np.clip(place.astype(int), 0, len(rows) - 2)
    share = (place - low)[:, None]
    return rows[low] * (1.0 - share) + rows[low + 1] * share


def fade_rows(rows: int, horizon: int) -> int:
    """Rows over which a chunk of ``rows`` joins the one before: a quarter of it at most, so
    that inference keeps most of it."""
    return max(1, min(horizon, (rows - 1) // 4))


def unbounded_pace(rows: int, dt: float, latency: float, fade: int) -> float:
    """The share of the data's speed at which a chunk outlasts two inferences and a join; may
    exceed 1.

    Args:
        rows: in a chunk, ``dt`` seconds apart. latency: s from observation to chunk.
        fade: rows of the join.
    """
    if rows < 2 or latency <= 0.0:
        return math.inf
    room = min(max(rows - 1 - fade, 0.5 * (rows - 1)), (rows - 1) / RESERVE)
    return room * dt / (2.0 * latency)


def join(
    answer: np.ndarray,
    stamp: float,
    dt: float,
    old: ActionChunk,
    first: int,
    fade: int,
) -> np.ndarray:
    """``[N, D]`` the rows of ``answer``, taking over from ``old`` while that is in motion.

    Rows to ``first`` are those of ``old``: the new chunk arrives before that one. Over the
    next ``fade`` rows one goes over into the other along a smoothstep (3 u² - 2 u³): each
    row lies between the two, and the seam adds at most 1.5 times their distance over the
    fade's duration in speed. An ``old`` that ends within the fade runs on meanwhile.

    Args:
        answer: ``[N, D]`` rad, row k meant for ``stamp + k * dt``.
    """
    count = min(first + fade, len(answer))
    kept = _share_of_the_old(count, first, fade)
    alive = stamp + first * dt <= end_of(old)
    before = sample(old, stamp + dt * np.arange(count), run_on=alive)
    joined = answer.copy()
    joined[:count] = kept * before + (1.0 - kept) * answer[:count]
    return joined


def start_from(rest: np.ndarray, answer: np.ndarray, first: int, fade: int) -> np.ndarray:
    """``[first + N, D]`` from an arm at rest at ``rest`` (``[D]``): it waits there until the
    chunk arrives, ``first`` rows, and then goes through the whole of ``answer``."""
    rows = np.vstack([np.repeat(rest[None], first, axis=0), answer])
    count = min(first + fade, len(rows))
    kept = _share_of_the_old(count, first, fade)
    rows[:count] = kept * rest + (1.0 - kept) * rows[:count]
    return rows


def _share_of_the_old(count: int, first: int, fade: int) -> np.ndarray:
    u = np.clip((np.arange(count) - first) / fade, 0.0, 1.0)
    return (1.0 - u * u * (3.0 - 2.0 * u))[:, None]


def come_to_rest(chunk: ActionChunk, now: float, within: float) -> ActionChunk | None:
    """Along ``chunk`` from where it is at ``now`` (s) to rest ``within`` seconds, its clock
    slowing evenly; None where it has ended."""
    if now >= end_of(chunk):
        return None
    dt = within / REST_ROWS
    passed = dt * np.arange(REST_ROWS + 1)
    rows = sample(chunk, now + passed - passed**2 / (2.0 * within))
    # Twice the last row: at rest there, and not only through it.
    return ActionChunk(now, dt, chunk.names, np.vstack([rows, rows[-1:]]))


def seam(
    old: ActionChunk, answer: ActionChunk, new: ActionChunk, at: float, over: float, tick: float
) -> tuple[float, float]:
    """How hard ``new`` takes over from ``old`` at ``at`` (s): what the arm is told beyond what
    the two chunks do by themselves.

    Between two ticks a set-point makes a step, and from one step to the next its velocity
    changes. Where these lie between those of the old plan (at rest after its end) and those of
    ``answer``, what the policy said before it was joined, the seam adds nothing; else their
    distance from that range counts.

    Args:
        new: ``answer`` as joined; the same, where nothing was. over: s after ``at`` that are
            looked at, every ``tick`` seconds.

    Returns:
        The largest of a step (rad) and of a change of velocity (rad/s).
    """
    times = at + tick * np.arange(-2, math.ceil(over / tick) + 1)
    plan, raw = sample(old, times), sample(answer, times)
    done = np.where((times < at - 1e-9)[:, None], plan, sample(new, times))
    found = []
    for n in (1, 2):
        of_plan, of_raw, of_done = (np.diff(rows, n=n, axis=0) for rows in (plan, raw, done))
        low, high = np.minimum(of_plan, of_raw), np.maximum(of_plan, of_raw)
        found.append(np.maximum(low - of_done, of_done - high).max())
    return max(0.0, float(found[0])), max(0.0, float(found[1])) / tick
