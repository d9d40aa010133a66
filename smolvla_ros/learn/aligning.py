"""What a policy would have seen and what the arm was sent then: one frame of a dataset."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smolvla_ros.policy.observation import Streams
from smolvla_ros.policy.streams import History, staleness
from smolvla_ros.robot import JointMap

_SPAN = 5.0  # s of set-points that are kept: an observation is never older


@dataclass(frozen=True)
class Frame:
    """One frame, whole: nothing in it is invented.

    Attributes:
        time: of the observation, s. images: feature → ``[H, W, 3]`` uint8 RGB.
        state, action: ``[D]`` in the policy's units and order. task: the instruction.
    """

    time: float
    images: Mapping[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    task: str


class Sent:
    """The set-points that an arm was sent. Any thread may call.

    Args:
        topic: as it is called in reasons. joint_map: between its radians and the policy's
            units. order: joints of a message that does not name them.
        max_age: s; an older set-point is none.
    """

    def __init__(self, topic: str, joint_map: JointMap, order: Sequence[str], max_age: float):
        self._topic, self._map, self._max_age = topic, joint_map, max_age
        self._order = tuple(order)
        self._history = History(_SPAN)
        self._refused = ""
        self._lock = threading.Lock()

    def put(self, received: float, message: Any) -> None:
        """A trajectory_msgs/JointTrajectory of one point, or a std_msgs/Float64MultiArray,
        whichever library read it. It counts from its stamp, or from ``received`` (s) where it
        has none."""
        at, names, positions = received, self._order, None
        if hasattr(message, "points"):
            stamp = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
            at, names = stamp or received, tuple(message.joint_names)
            positions = message.points[0].positions if message.points else None
        else:
            positions = message.data
        with self._lock:
            self._refused = _refusal(names, positions, self._map.names)
            if not self._refused:
                by_name = dict(zip(names, positions, strict=True))
                self._history.add(at, np.array([by_name[n] for n in self._map.names]))

    def at(self, time: float) -> np.ndarray:
        """``[D]`` in the policy's units: what had been sent last at that time, s.

        Raises:
            ValueError: nothing, or nothing fresh; the text says what.
        """
        with self._lock:
            found, refused = self._history.before(time), self._refused
        reason = f"{self._topic}: nothing sent"
        if found is not None:
            reason = staleness(self._topic, found[0], time, self._max_age)
        if reason:
            raise ValueError(reason + (f" (last message refused: {refused})" if refused else ""))
        return self._map.to_policy(found[1])


class Aligner:
    """Takes frames from a cell's streams, exactly as its policy would take observations.

    The action of a frame is what the arm had been sent last at the observation's stamp, the
    time for which the first row of a policy's chunk is meant.
    """

    def __init__(self, streams: Streams, sent: Sent):
        self._streams, self._sent = streams, sent

    def take(self, now: float) -> Frame | list[str]:
        """The frame at ``now`` (s), or why there is none, a line each."""
        seen = self._streams.gather(now)
        reasons = seen if isinstance(seen, list) else []
        try:
            action = self._sent.at(now if reasons else seen.stamp)
        except ValueError as error:
            return [*reasons, str(error)]
        if reasons:
            return reasons
        return Frame(seen.stamp, seen.images, seen.state, action, seen.instruction)


def _refusal(names: Sequence[str], positions: Any, wanted: Sequence[str]) -> str:
    if positions is None:
        return "a trajectory without a point"
    if len(names) != len(positions):
        return f"{len(positions)} positions for {len(names)} joints"
    if missing := [name for name in wanted if name not in names]:
        return f"lacks {', '.join(missing)}"
    if not all(math.isfinite(position) for position in positions):
        return "not all positions are finite"
    return ""
