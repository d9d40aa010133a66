"""Episodes of a recording: when one begins, what ends it, what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from smolvla_ros.learn.aligning import Frame
from smolvla_ros.policy.observation import INSTRUCTION

if TYPE_CHECKING:
    from smolvla_ros.learn.dataset import DatasetWriter

_EARLY = 1e-3  # of a period: what floats make of its multiples


class State(Enum):
    """Of a recording."""

    IDLE = "idle"
    WAITING = "waiting"
    RECORDING = "recording"
    ENDED = "ended"


class Refused(Exception):
    """What was asked for cannot be done now; the text says why."""


class Episodes:
    """Takes a frame at every whole multiple of the data's period, and puts them into episodes.

    So whoever records the same run takes its frames at the same times. An episode begins with
    the first whole frame after :meth:`start`. A frame that is not whole is left out and
    counted; more of them in a row than ``max_gap`` end the episode before them, and so does
    an empty instruction: whether it is kept is to be decided then. Not thread-safe.

    Args:
        take: the frame at a time (s), or why there is none. writer: makes the dataset's writer
            from its first frame.
        dt: s from one frame to the next. max_gap: frames in a row that may be missing.
        max_seconds: s after which an episode ends; None: never.
        split: whether another instruction ends an episode as well.

    Attributes:
        state: as it is. gaps: frames that the running episode lacks. lacking: why the newest
            frame is not whole, a line each. reason: what ended the episode.
    """

    def __init__(
        self,
        take: Callable[[float], Frame | list[str]],
        writer: Callable[[Frame], DatasetWriter],
        dt: float,
        max_gap: int,
        max_seconds: float | None = None,
        split: bool = False,
    ):
        self._take, self._make, self._dt = take, writer, dt
        self._max_gap, self._max_seconds, self._split = max_gap, max_seconds, split
        self._writer: DatasetWriter | None = None
        self._last = 0  # the multiple of the last tick
        self._missing = 0  # in a row
        self._task = ""
        self.state = State.IDLE
        self.gaps = self.kept = self.kept_frames = 0
        self.lacking: Sequence[str] = ()
        self.reason = ""

    @property
    def frames(self) -> int:
        """Of the running episode."""
        return self._writer.frames if self._writer is not None else 0

    @property
    def task(self) -> str:
        """The newest frame's instruction."""
        return self._task

    def due(self, now: float) -> float:
        """The time of the next frame after ``now``, s."""
        return (int(now / self._dt + _EARLY) + 1) * self._dt

    def start(self) -> None:
        """Begin an episode.

        Raises:
            Refused: one has begun, or has not been kept or discarded.
        """
        if self.state in (State.WAITING, State.RECORDING):
            raise Refused("an episode is being recorded: keep or discard it first")
        if self.state is State.ENDED:
            raise Refused("the last episode is neither kept nor discarded")
        self._begin()

    def end(self, reason: str = "") -> None:
        """Take no more frames into the episode.

        Raises:
            Refused: there is none.
        """
        if self.state not in (State.WAITING, State.RECORDING):
            raise Refused("no episode is being recorded")
        self.state = State.ENDED if self.frames else State.IDLE
        self.reason = reason

    def keep(self) -> int:
        """Save the episode, ended or not; returns its frames.

        Raises:
            Refused: there is none, or it has no frame.
            OSError: the disk is full, for one; the episode is lost, the dataset is as it was.
        """
        if self.state is State.IDLE:
            raise Refused("there is no episode to keep")
        if not self.frames:
            raise Refused(f"the episode has no frame yet: {'; '.join(self.lacking) or 'wait'}")
        try:
            count = self._writer.keep()
        finally:
            self.state = State.IDLE
        self.kept, self.kept_frames = self.kept + 1, self.kept_frames + count
        return count

    def discard(self) -> int:
        """Throw the episode away; returns how many frames it had.

        Raises:
            Refused: there is none.
        """
        if self.state is State.IDLE:
            raise Refused("there is no episode to discard")
        count = self.frames
        if self._writer is not None:
            self._writer.discard()
        self.state = State.IDLE
        return count

    def tick(self, now: float) -> None:
        """The time (s) of a frame has come.

        Raises:
            ConfigError: the dataset there is does not fit the first frame.
            OSError: a frame cannot be written; the episode is lost.
        """
        multiple = int(now / self._dt + _EARLY)
        ahead, self._last = multiple - self._last, multiple
        if self.state is State.RECORDING and ahead < 1:
            self.end("the clock was set back")
        elif self.state is State.RECORDING and ahead > 1:
            self._miss(ahead - 1, [f"{ahead - 1} frames were not taken in time"])
        if self.state not in (State.WAITING, State.RECORDING):
            return
        found = self._take(now)
        if isinstance(found, Frame):
            found = self._add(found)
        if found:
            self._miss(1, found)

    def close(self) -> None:
        """Throw the running episode away and end the dataset.

        Raises:
            OSError: as :meth:`keep`.
        """
        self.state = State.IDLE
        if self._writer is not None:
            self._writer.close()

    def _begin(self) -> None:
        self.state = State.WAITING
        self.gaps = self._missing = 0
        self.lacking, self.reason, self._task = (), "", ""

    def _add(self, frame: Frame) -> list[str]:
        """Why it could not be added."""
        if self._split and self._task not in ("", frame.task):
            self.end(f"another instruction: {frame.task}")
            return []
        try:
            if self._writer is None:
                self._writer = self._make(frame)
            self._writer.add(frame.images, frame.state, frame.action, frame.task)
        except ValueError as error:
            return [str(error)]
        except OSError:
            if self._writer is not None:
                self._writer.discard()
            self.state = State.IDLE
            raise
        self.state, self._task, self.lacking = State.RECORDING, frame.task, ()
        self.gaps, self._missing = self.gaps + self._missing, 0
        if self._max_seconds is not None and self.frames * self._dt >= self._max_seconds:
            self.end(f"{self._max_seconds:g} s long, the most that an episode may be")
        return []

    def _miss(self, count: int, reasons: Sequence[str]) -> None:
        self.lacking = reasons
        if self.state is not State.RECORDING:
            return
        self._missing += count
        if [r.split(":")[0] for r in reasons] == [INSTRUCTION]:
            self.end("the instruction was taken back")
        elif self._missing > self._max_gap:
            self.end(f"{self._missing} frames missing: {'; '.join(reasons)}")
