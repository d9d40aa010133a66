"""One stream a mailbox: its newest messages by header stamp, and why they may not be used."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Buffer, Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypedDict

import numpy as np

FUTURE_TOLERANCE = 0.05  # s a stamp may lie ahead of the clock

STATE = "joint_states"

_STEP_TOLERANCE = 0.6  # of a step an earlier message may be off: half, and some jitter
_RATE_WINDOW = 2.0  # s over which messages are counted
_SAMPLE = 997  # of a picture's bytes one in so many is compared before all are


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What a camera's stream must be.

    Attributes:
        feature: the checkpoint's name for it.
        decode: its messages → ``[H, W, 3]`` uint8 RGB; raises ValueError with the reason why
            one cannot be used.
        max_age: s. frozen_after: s of the same bytes until it counts as old.
        size: the (H, W) the policy wants, where nothing of it resizes; None: any.
        content: the bytes of a message that must differ from one to the next.
    """

    feature: str
    decode: Callable[[Any], np.ndarray]
    max_age: float
    frozen_after: float = math.inf
    size: tuple[int, int] | None = None
    content: Callable[[Any], Buffer] = attrgetter("data")


@dataclass(frozen=True, kw_only=True)
class Joints:
    """What the joint states must be.

    Attributes:
        names: the ``D`` joints, in the policy's order. max_age: s, of each joint.
        convert: ``[..., D]`` rad (m) → the policy's units.
    """

    names: Sequence[str]
    max_age: float
    convert: Callable[[np.ndarray], np.ndarray]


class StreamStatus(TypedDict):
    """How a stream does: seconds since its newest stamp (infinite without one; of its oldest
    joint), messages a second by stamp over the last two seconds, messages in all, and why it
    is no part of an observation, or an empty text."""

    age_s: float
    rate_hz: float
    count: int
    reason: str


def staleness(name: str, stamp: float, now: float, max_age: float) -> str:
    """Why a stream's stamp is out of time, or an empty text.

    Args:
        stamp: header stamp of its newest message, s.
        now: the clock that stamped it, s. max_age: s.
    """
    age = now - stamp
    if age > max_age:
        # Zero is what a header holds that nobody filled in; simulated time starts there too.
        unstamped = " (its stamp is 0: a publisher that does not stamp?)" if stamp == 0.0 else ""
        return f"{name}: {age:.3f} s old, at most {max_age:g} s{unstamped}"
    if age < -FUTURE_TOLERANCE:
        return f"{name}: stamped {-age:.3f} s ahead of the clock"
    return ""


class History:
    """What came in the last ``span`` seconds by stamp, and the last before that."""

    def __init__(self, span: float):
        self._span = span
        self._entries: deque[tuple[float, Any]] = deque()

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def newest(self) -> tuple[float, Any]:
        """Its stamp, s, and what it was."""
        return self._entries[-1]

    def add(self, stamp: float, item: Any) -> None:
        """Keep what came last; what is stamped later came before the clock was set back."""
        while self._entries and self._entries[-1][0] >= stamp:
            self._entries.pop()
        self._entries.append((stamp, item))
        while len(self._entries) > 1 and self._entries[1][0] <= stamp - self._span:
            self._entries.popleft()

    def before(self, stamp: float) -> tuple[float, Any] | None:
        """The last stamped at that time or earlier, with its stamp, s."""
        return next((entry for entry in reversed(self._entries) if entry[0] <= stamp), None)

    def forget_after(self, stamp: float) -> None:
        """Forget what is stamped later."""
        while self._entries and self._entries[-1][0] > stamp:
            self._entries.pop()

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def steps(self, count: int, dt: float) -> list[Any]:
        """The ``count`` items ``dt`` s apart that end with the newest, oldest first.

        Raises:
            ValueError: nothing was stamped near one of those times.
        """
        newest = self._entries[-1][0]
        found = []
        for k in reversed(range(count)):
            stamp, item = min(self._entries, key=lambda e: abs(e[0] - (newest - k * dt)))
            off = abs(stamp - (newest - k * dt))
            if off > _STEP_TOLERANCE * dt:
                raise ValueError(
                    f"nothing from {k * dt:.3f} s before its newest, the nearest is {off:.3f} s "
                    f"off; the policy sees {count} steps of {dt:.3f} s"
                )
            found.append(item)
        return found


class Stream:
    """What all streams have in common. Not thread-safe; times in seconds.

    Args:
        name: as it is called in reasons. steps, dt: how many messages the policy sees, and
            how far apart they are.
    """

    def __init__(self, name: str, steps: int, dt: float):
        self.name = name
        self.count = 0
        self._steps, self._dt = steps, dt
        self._span = (steps - 1) * dt
        self._arrived: deque[float] = deque(maxlen=64)
        self._forgot = ""

    def rate(self, now: float) -> float:
        """Messages a second, by their stamps."""
        recent = [t for t in self._arrived if t > now - _RATE_WINDOW]
        span = max(recent) - min(recent) if recent else 0.0
        return (len(recent) - 1) / span if span > 0 else 0.0

    def _came(self, stamp: float) -> None:
        self.count += 1
        self._arrived.append(stamp)

    def _forget_after(self, stamp: float, words: str) -> None:
        self._arrived = deque((t for t in self._arrived if t <= stamp), maxlen=64)
        self._forgot = words


class CameraStream(Stream):
    """A camera's newest messages, packed as they came."""

    def __init__(self, name: str, camera: Camera, steps: int, dt: float):
        super().__init__(name, steps, dt)
        self.camera = camera
        self._history = History(self._span)
        self._same_since = 0.0

    def put(self, stamp: float, message: Any) -> None:
        """Keep a message."""
        self._came(stamp)
        if math.isfinite(self.camera.frozen_after) and not self._repeats(stamp, message):
            self._same_since = stamp
        self._history.add(stamp, message)

    def stamp(self) -> float:
        """Of its newest message; minus infinity where there is none."""
        return self._history.newest[0] if self._history else -math.inf

    def messages(self) -> list[Any]:
        """As :meth:`History.steps`."""
        return self._history.steps(self._steps, self._dt)

    def reason(self, now: float) -> str:
        """Why its newest message is no part of an observation, or an empty text."""
        if not self._history:
            return f"{self.name}: nothing received{self._forgot}"
        c, stamp = self.camera, self.stamp()
        same = stamp - self._same_since
        if math.isfinite(c.frozen_after) and same > c.frozen_after:
            return (
                f"{self.name}: frozen, the same picture for {same:.2f} s, "
                f"at most {c.frozen_after:g} s"
            )
        return staleness(self.name, stamp, now, c.max_age)

    def forget_after(self, stamp: float, words: str) -> None:
        """Forget what is stamped later; ``words`` say why there may be nothing left."""
        self._forget_after(stamp, words)
        self._history.forget_after(stamp)
        self._same_since = min(self._same_since, self.stamp())

    def _repeats(self, stamp: float, message: Any) -> bool:
        if not self._history:
            return False
        before, last = self._history.newest
        # After a silence nobody knows what was to be seen meanwhile.
        if not 0.0 <= stamp - before <= self.camera.max_age:
            return False
        return _same(self.camera.content(last), self.camera.content(message))


class JointStream(Stream):
    """Every joint's newest positions, merged by name from any number of publishers."""

    def __init__(self, joints: Joints, steps: int, dt: float):
        super().__init__(STATE, steps, dt)
        self.joints = joints
        self._at = {name: i for i, name in enumerate(joints.names)}
        self._histories = [History(self._span) for _ in joints.names]
        self._refused = ""

    def put(self, stamp: float, names: Sequence[str], positions: Sequence[float]) -> None:
        """Take over the joints that a message names, rad (m); other names are not ours."""
        ours = [name for name in names if name in self._at]
        if not ours:
            return
        self._came(stamp)
        if len(names) != len(positions):
            self._refused = f"{len(positions)} positions for {len(names)} names"
        elif len(set(ours)) != len(ours):
            twice = sorted({name for name in ours if ours.count(name) > 1})
            self._refused = f"{', '.join(twice)} named twice"
        else:
            self._refused = ""
            for name, position in zip(names, positions, strict=True):
                if name in self._at:
                    history = self._histories[self._at[name]]
                    if not math.isfinite(position):
                        history.clear()  # so that no earlier step of it is used either
                    history.add(stamp, position)

    def stamp(self) -> float:
        """Of the joint heard longest ago; minus infinity where one was never heard."""
        return min(h.newest[0] if h else -math.inf for h in self._histories)

    def positions(self) -> np.ndarray:
        """``[steps, D]`` in the policy's units.

        Raises:
            ValueError: as :meth:`History.steps`, with the joint's name.
        """
        columns = []
        for name, history in zip(self.joints.names, self._histories, strict=True):
            try:
                columns.append(history.steps(self._steps, self._dt))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return self.joints.convert(np.array(columns, dtype=float).T)

    def reason(self, now: float) -> str:
        """Why the newest positions are no part of an observation, or an empty text."""
        found = self._reason(now)
        if found and self._refused:
            found += f" (last message refused: {self._refused})"
        return found

    def forget_after(self, stamp: float, words: str) -> None:
        """As :meth:`CameraStream.forget_after`."""
        self._forget_after(stamp, words)
        for history in self._histories:
            history.forget_after(stamp)

    def _reason(self, now: float) -> str:
        newest = dict(zip(self.joints.names, self._histories, strict=True))
        silent = [name for name, history in newest.items() if not history]
        if silent:
            of = "" if len(silent) == len(newest) else f" of {', '.join(silent)}"
            return f"{STATE}: nothing received{of}{self._forgot}"
        odd = [f"{n} is {h.newest[1]}" for n, h in newest.items() if not math.isfinite(h.newest[1])]
        if odd:
            return f"{STATE}: {', '.join(odd)}"
        limit = self.joints.max_age
        stale = {n: h.newest[0] for n, h in newest.items() if staleness(n, h.newest[0], now, limit)}
        if not stale:
            return ""
        which = STATE if len(stale) == len(newest) else f"{STATE}: {', '.join(stale)}"
        return staleness(which, max(stale.values(), key=lambda t: abs(now - t)), now, limit)


def _same(a: Buffer, b: Buffer) -> bool:
    one, two = memoryview(a), memoryview(b)
    if one.nbytes != two.nbytes or not one.nbytes:
        return one.nbytes == two.nbytes
    x, y = np.frombuffer(one, np.uint8), np.frombuffer(two, np.uint8)
    # Almost always a few bytes tell; all of them cost as much as a copy.
    return np.array_equal(x[::_SAMPLE], y[::_SAMPLE]) and np.array_equal(x, y)
