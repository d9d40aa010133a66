"""Chunk after chunk without a gap: the next is inferred while the present one is executed."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable

import numpy as np

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.policy import chunking
from smolvla_ros.policy.engine import Engine, Guide, OutputError
from smolvla_ros.policy.observation import Observation

MEMORY = 16  # inferences whose slowest one sets the pace
KEPT = 1024  # inferences that the statistics are of
REST_WITHIN = 0.3  # s from "stop acting" to rest
CHANGE_WITHIN = 0.2  # s over which motion of another instruction fades out
SEAM = 0.5  # s after a take-over that count as its seam
TRANSPORT = 0.01  # s from a chunk to the gate that uses it


class Runtime:
    """Turns observations into chunks that follow from each other.

    What was published is taken for what the arm does. A new chunk keeps the rows of the old one
    that pass before it arrives, and goes over into its own from there: guided by the engine
    where that can be, blended in any case. An arm at rest starts at the new chunk's first row
    when it arrives. Where inference takes too long for the rows to last, they are spread in
    time (``pace`` below 1): the arm moves slower and does not stop.

    One thread calls ``step``; ``hold_chunk``, ``forget``, ``due`` and ``stats`` may be called
    from any.

    Args:
        engine: warmed up. clock: the clock of the observations' stamps, s.
        latency: s from an observation to its chunk, until it is measured.
        instruction: what is wanted now: a chunk for anything else is dropped.
        period: s from one observation to the next; shorter where inference needs it.
        horizon: rows over which a chunk joins; a quarter of the chunk at most.
        slowest_pace: of the data's speed; slower than this it never gets.
        guided: let the engine continue the motion under way, where it can.
        tolerance: rad (m) between the plan and the measured arm, from which on the arm is
            taken not to follow the plan: the next chunk starts from where the arm is.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], float],
        latency: float,
        instruction: Callable[[], str],
        period: float = 0.4,
        horizon: int = 10,
        slowest_pace: float = 0.2,
        guided: bool = True,
        tolerance: float = 0.15,
    ):
        self._engine, self._clock, self._instruction = engine, clock, instruction
        self._period, self._horizon, self._slowest = period, horizon, slowest_pace
        self._guided, self._tolerance = guided, tolerance
        self._recent = deque([latency], maxlen=MEMORY)
        self._inferences: deque[float] = deque(maxlen=KEPT)
        self._rows = engine.rows
        self._lock = threading.Lock()
        self._plan: ActionChunk | None = None  # what was published last
        self._plan_for = ""  # the instruction that it answers
        self._endless = False  # whether it ought to be followed by another without a gap
        self._epoch = 0  # a change throws away the inference under way
        self._observed = -math.inf
        self._dropped: Counter[str] = Counter()
        self._why = ""
        self._chunks = 0
        self._starved = 0.0
        self._seams: tuple[float, float] = (0.0, 0.0)
        self._worst_seam: tuple[float, float] = (0.0, 0.0)
        self._delay_rows = 0

    # -- time ---------------------------------------------------------------------------

    @property
    def latency(self) -> float:
        """Seconds from an observation to its chunk: the slowest of the recent ones."""
        return max(self._recent)

    @property
    def pace(self) -> float:
        """The share of the data's speed at which motion is published now."""
        return min(1.0, max(self._slowest, self._wanted_pace()))

    def _wanted_pace(self) -> float:
        fade = chunking.fade_rows(self._rows, self._horizon)
        return chunking.unbounded_pace(self._rows, self._engine.dt, self.latency, fade)

    @property
    def warning(self) -> str:
        """What inference costs the motion, or an empty text."""
        wanted = self._wanted_pace()
        if wanted >= 1.0:
            return ""
        text = (
            f"inference takes {self.latency:.2f} s and a chunk lasts "
            f"{(self._rows - 1) * self._engine.dt:.2f} s: motion at {self.pace:.0%} of its speed"
        )
        if wanted < self._slowest:
            text += ", and standstill between chunks"
        return text

    @property
    def plan(self) -> ActionChunk | None:
        """What was published last, or is to be; None once it is forgotten."""
        with self._lock:
            return self._plan

    @property
    def answers(self) -> str:
        """The instruction that ``plan`` answers; empty for none."""
        with self._lock:
            return self._plan_for

    def due(self, now: float) -> float:
        """Seconds until the next observation should be taken, 0 for at once."""
        with self._lock:
            plan, observed = (self._plan if self._endless else None), self._observed
        at = observed + self._period
        if plan is not None:
            # Early enough that the join lies within what is published.
            join = chunking.fade_rows(self._rows, self._horizon) * plan.dt
            at = min(at, chunking.end_of(plan) - self.latency - join)
        return min(max(0.0, at - now), self._period)  # a clock may have been set back

    # -- chunks -------------------------------------------------------------------------

    def step(self, observation: Observation) -> ActionChunk | None:
        """Infer and join. The chunk to publish, or None where it was dropped (``stats`` says
        why). Takes as long as inference does.

        Raises:
            Exception: whatever the engine raises but OutputError, which drops the chunk.
        """
        start = observation.stamp
        measured = self._engine.measured(observation)
        pace = self.pace
        dt = self._engine.dt / pace
        with self._lock:
            epoch = self._epoch
            plan = self._plan = self._followed(start, measured)
            changed = plan is not None and observation.instruction != self._plan_for
            self._observed = start
        moving = plan is not None and start < chunking.end_of(plan) - dt
        fade = chunking.fade_rows(self._rows, self._horizon)
        guide = self._guide(plan, start, dt, 0 if changed else fade) if moving else None
        if changed:
            fade = max(1, min(fade, math.ceil(CHANGE_WITHIN / dt)))
        began = self._clock()
        try:
            answer = self._engine.infer(observation, guide)
            if not np.isfinite(answer.positions).all():
                raise OutputError("the chunk is not finite")
        except OutputError as error:
            return self._drop("output", str(error))
        arrived = self._clock()
        with self._lock:
            self._inferences.append(arrived - began)
            self._recent.append(max(0.0, arrived - start))
            self._rows = len(answer.positions)
        first = max(0, math.floor((arrived + TRANSPORT - start) / dt) + 1)
        rest = None if moving else measured if plan is None else plan.positions[-1]
        left = len(answer.positions) - (first if rest is None else 0)
        if left < min(fade + 1, len(answer.positions)):
            return self._drop(
                "late",
                f"came {arrived - start:.2f} s after its observation; {max(left, 0)} of "
                f"{len(answer.positions)} rows left",
            )
        # As the policy meant it, were nothing joined.
        meant = ActionChunk(
            start + (0.0 if rest is None else first * dt), dt, answer.names, answer.positions
        )
        if moving:
            rows = chunking.join(answer.positions, start, dt, plan, first, fade)
        elif rest is not None:
            rows = chunking.start_from(rest, answer.positions, first, fade)
        else:
            rows = answer.positions
        return self._publish(
            ActionChunk(start, dt, answer.names, rows), meant, observation, epoch, arrived, first
        )

    def hold_chunk(self, now: float) -> ActionChunk | None:
        """The chunk to publish when nothing more is to be done: to rest within 0.3 s along what
        was published. None where that has ended or was forgotten. An inference under way is
        dropped."""
        with self._lock:
            self._epoch += 1
            self._endless = False
            if self._plan is None:
                return None
            held = chunking.come_to_rest(self._plan, now, REST_WITHIN)
            if held is not None:
                self._plan, self._plan_for = held, ""
            return held

    def forget(self) -> None:
        """What was published is not what the arm does (any more): join nothing to it. An
        inference under way is dropped."""
        with self._lock:
            self._epoch += 1
            self._plan, self._endless = None, False

    def _followed(self, start: float, measured: np.ndarray | None) -> ActionChunk | None:
        """The plan, if time and the arm are where it has them."""
        if self._plan is None or start < self._plan.stamp:
            self._endless = False
            return None
        if measured is not None:
            there = chunking.sample(self._plan, np.array([start]))[0]
            if np.abs(there - measured).max() > self._tolerance:
                self._endless = False
                return None
        return self._plan

    def _guide(self, plan: ActionChunk, start: float, dt: float, fade: int) -> Guide | None:
        if not (self._guided and self._engine.guided):
            return None
        count = min(self._rows, math.floor((chunking.end_of(plan) - start) / dt) + 1)
        rows = chunking.sample(plan, start + dt * np.arange(count))
        committed = min(count, math.ceil((self.latency + TRANSPORT) / dt))
        return Guide(rows, committed, min(count, committed + fade))

    def _publish(
        self,
        chunk: ActionChunk,
        meant: ActionChunk,
        observation: Observation,
        epoch: int,
        arrived: float,
        first: int,
    ) -> ActionChunk | None:
        with self._lock:
            wanted = self._instruction()
            if wanted == observation.instruction and epoch == self._epoch:
                if self._plan is not None:
                    self._seams = chunking.seam(
                        self._plan, meant, chunk, arrived, SEAM, self._engine.dt
                    )
                    self._worst_seam = tuple(map(max, self._worst_seam, self._seams))
                    if self._endless:
                        self._starved += max(0.0, arrived - chunking.end_of(self._plan))
                self._plan, self._plan_for, self._endless = chunk, observation.instruction, True
                self._delay_rows, self._why = first, ""
                self._chunks += 1
                return chunk
        if wanted != observation.instruction:
            return self._drop("instruction", f"answers {observation.instruction!r}")
        return self._drop("held", "motion was held or forgotten while it was inferred")

    def _drop(self, reason: str, why: str) -> None:
        with self._lock:
            self._dropped[reason] += 1
            self._why = f"{reason}: {why}"

    def stats(self) -> dict[str, object]:
        """For diagnostics: seconds, radians, rad/s; ``dropped/<reason>`` counts; ``seam`` as
        :func:`chunking.seam` has it; ``starved_ticks`` in rows of the data."""
        with self._lock:
            took = np.array(self._inferences)
            found: dict[str, object] = {
                "chunks": self._chunks,
                "pace": round(self.pace, 3),
                "guided": self._guided and self._engine.guided,
                "latency_s": self.latency,
                "delay_rows": self._delay_rows,
                "starved_s": self._starved,
                "starved_ticks": math.ceil(self._starved / self._engine.dt - 1e-9),
                "seam_dq/last": self._seams[0],
                "seam_dq/max": self._worst_seam[0],
                "seam_dv/last": self._seams[1],
                "seam_dv/max": self._worst_seam[1],
                "dropped": sum(self._dropped.values()),
                "dropped_last": self._why,
            }
            found |= {f"dropped/{reason}": n for reason, n in sorted(self._dropped.items())}
            if len(took):
                p50, p95 = np.percentile(took, [50, 95])
                found |= {
                    "inference_s/p50": float(p50),
                    "inference_s/p95": float(p95),
                    "inference_s/max": float(took.max()),
                }
            return found
