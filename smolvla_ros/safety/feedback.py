"""What the arm says of itself: joint states merged by name, each joint with its age."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smolvla_ros.safety.command import MAX_VALUE, Refused

_OUTLIERS = 3  # as many in a row are no glitch
_STILL = 1e-9  # rad: a real encoder is never this quiet under motion


class Feedback:
    """The newest measured position of every joint.

    Not thread-safe: the gate's lock is held around every call.

    Args:
        names: the ``D`` joints. velocity: ``[D]`` limits, rad/s. jump: rad beyond what the
            limit allows that one message may differ from the last.
    """

    def __init__(self, names: Sequence[str], velocity: np.ndarray, jump: float):
        self._names = {name: i for i, name in enumerate(names)}
        self.velocity, self._jump = velocity, jump
        self.positions = np.full(len(names), np.nan)
        self._heard_at = np.full(len(names), -np.inf)
        self._fresh_at = np.full(len(names), -np.inf)  # the same, less what is excused
        self._moved_at = -np.inf
        self._outliers = np.zeros(len(names), dtype=int)
        self.not_finite = ""  # the joints whose newest value is no number
        self.jumped = ""  # what was no glitch: a text until :meth:`settle`

    def hear(self, now: float, names: Sequence[str], positions: Sequence[float]) -> None:
        """Merge one message; names that are not ours belong to others.

        Raises:
            Refused: the message is not taken at all (nothing of it, if it has a joint twice
                or other lengths), or only in part (a joint's value is no number that a
                joint can have, or one no motion explains: a glitch).
        """
        if len(names) != len(positions):
            raise Refused("wrong_length", f"{len(positions)} positions, {len(names)} names")
        ours = [(self._names[n], n, float(p)) for n, p in zip(names, positions, strict=True)
                if n in self._names]  # fmt: skip
        if len({i for i, _, _ in ours}) != len(ours):
            raise Refused("duplicate_joint", "a joint is named twice")
        # A first value has nothing to be a glitch against.
        bad = [
            n
            for i, n, p in ours
            if not np.isfinite(p) or (abs(p) > MAX_VALUE and np.isnan(self.positions[i]))
        ]
        self.not_finite = ", ".join(bad)
        glitches = []
        for i, name, position in ours:
            if name in bad:
                continue
            far = abs(position - self.positions[i])
            # A first value compares as NaN: never an outlier.
            if far > self._jump + 1.5 * self.velocity[i] * (now - self._heard_at[i]):
                self._outliers[i] += 1
                if self._outliers[i] < _OUTLIERS:
                    glitches.append(f"{name} by {far:.2f} rad")
                    continue
                self.jumped = f"{name} jumped by {far:.2f} rad and stayed there"
                if abs(position) > MAX_VALUE:
                    continue
            self._outliers[i] = 0
            if not far <= _STILL:
                self._moved_at = now
            self.positions[i] = position
            self._heard_at[i] = self._fresh_at[i] = now
        if bad:
            raise Refused("joint_state_not_finite", f"no number: {self.not_finite}")
        if glitches:
            raise Refused("joint_state_jump", f"jumped: {', '.join(glitches)}")

    def settle(self) -> None:
        """Take the arm where it is measured to be: an earlier jump is past."""
        self.jumped = ""

    def excuse(self, now: float, seconds: float) -> None:
        """Nobody could listen for so long until now: ages do not count it."""
        self._fresh_at = np.minimum(self._fresh_at + seconds, now)

    @property
    def whole(self) -> bool:
        """True once every joint has been heard."""
        return bool(np.isfinite(self._heard_at).all())

    @property
    def missing(self) -> list[str]:
        """Joints that were never heard."""
        return [n for n, i in self._names.items() if not np.isfinite(self._heard_at[i])]

    def age(self, now: float) -> tuple[float, str]:
        """Seconds since the joint that was heard longest ago, and its name."""
        i = int(np.argmin(self._fresh_at))
        return now - self._fresh_at[i], list(self._names)[i]

    def still_for(self, now: float) -> float:
        """Seconds in which no joint's value has changed at all."""
        return now - self._moved_at
