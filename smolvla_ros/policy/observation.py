"""Gathering what the policy sees: whole and fresh, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FUTURE_TOLERANCE = 0.05  # s a stamp may lie ahead of the clock

STATE = "joint_states"
INSTRUCTION = "instruction"


@dataclass(frozen=True)
class Observation:
    """Everything the policy is shown at one time; nothing in it is invented.

    Attributes:
        images: the checkpoint's feature name → ``[H, W, 3]`` uint8 RGB.
        state: ``[D]`` joint positions in the policy's units and order.
        instruction: what to do, in words.
        stamps: stream name → header stamp in seconds.
    """

    images: Mapping[str, np.ndarray]
    state: np.ndarray
    instruction: str
    stamps: Mapping[str, float]

    @property
    def stamp(self) -> float:
        """When it was taken: the stamp of its oldest stream, s."""
        return min(self.stamps.values())


def staleness(name: str, stamp: float | None, now: float, max_age: float) -> str:
    """Why a stream is no part of an observation, or an empty text.

    Args:
        stamp: header stamp of its newest message, s, or None if there was none.
        now: the clock that stamped it, s. max_age: s.
    """
    if stamp is None:
        return f"{name}: nothing received"
    age = now - stamp
    if age > max_age:
        return f"{name}: {age:.2f} s old, at most {max_age:g} s"
    if age < -FUTURE_TOLERANCE:
        return f"{name}: stamped {-age:.2f} s ahead of the clock"
    return ""


class Streams:
    """The newest message of every stream a policy needs.

    ``put`` and ``set_instruction`` may be called from any thread and never wait for a
    decoder; ``gather`` decodes, in the caller's thread.

    Args:
        images: stream name → (feature name, max_age in s, decoder to ``[H, W, 3]`` uint8).
        state: (max_age in s, decoder to ``[D]`` in policy units); a decoder raises
            ValueError with the reason why a message cannot be used.
        instruction: what to do until told otherwise; empty: nothing.
    """

    def __init__(
        self,
        images: Mapping[str, tuple[str, float, Callable[[Any], np.ndarray]]],
        state: tuple[float, Callable[[Any], np.ndarray]],
        instruction: str = "",
    ):
        self._images = dict(images)
        self._state = state
        self._instruction = instruction.strip()
        self._newest: dict[str, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def put(self, name: str, stamp: float, message: Any) -> None:
        """Keep a stream's newest message; ``stamp`` in seconds."""
        with self._lock:
            self._newest[name] = (stamp, message)

    def set_instruction(self, text: str) -> None:
        """What to do from the next observation on; empty: nothing."""
        with self._lock:
            self._instruction = text.strip()

    @property
    def instruction(self) -> str:
        """What to do now."""
        with self._lock:
            return self._instruction

    def lacking(self, now: float) -> list[str]:
        """Why there is no observation at ``now`` (s): one reason a stream, or none."""
        with self._lock:
            newest, instruction = dict(self._newest), self._instruction
        return self._lacking(newest, instruction, now)

    def gather(self, now: float) -> Observation | list[str]:
        """The observation at ``now`` (s), or the reasons why there is none."""
        with self._lock:
            newest, instruction = dict(self._newest), self._instruction
        reasons = self._lacking(newest, instruction, now)
        if reasons:
            return reasons
        images: dict[str, np.ndarray] = {}
        state = np.zeros(0)
        for name, (feature, _, decode) in self._images.items():
            try:
                images[feature] = decode(newest[name][1])
            except ValueError as error:
                reasons.append(f"{name}: {error}")
        try:
            state = self._state[1](newest[STATE][1])
        except ValueError as error:
            reasons.append(f"{STATE}: {error}")
        if reasons:
            return reasons
        stamps = {name: newest[name][0] for name in (*self._images, STATE)}
        return Observation(images, state, instruction, stamps)

    def ages(self, now: float) -> dict[str, float]:
        """Seconds since each stream's newest stamp; infinite where there was none."""
        with self._lock:
            newest = dict(self._newest)
        return {
            name: now - newest[name][0] if name in newest else float("inf")
            for name in (*self._images, STATE)
        }

    def _lacking(self, newest, instruction: str, now: float) -> list[str]:
        limits = {name: age for name, (_, age, _) in self._images.items()} | {STATE: self._state[0]}
        found = [
            staleness(name, newest[name][0] if name in newest else None, now, max_age)
            for name, max_age in limits.items()
        ]
        if not instruction:
            found.append(f"{INSTRUCTION}: none given")
        return [reason for reason in found if reason]
