"""Gathering what the policy sees: whole and fresh, or not at all."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smolvla_ros.policy.streams import (
    FUTURE_TOLERANCE,
    STATE,
    Camera,
    CameraStream,
    Joints,
    JointStream,
    StreamStatus,
)

if TYPE_CHECKING:
    from smolvla_ros.cell import VlaConfig
    from smolvla_ros.robot import JointMap

INSTRUCTION = "instruction"

_SET_BACK = 0.5  # s by which a clock must fall; less is two threads that read it in turn


@dataclass(frozen=True)
class Observation:
    """Everything the policy is shown at one time; nothing in it is invented.

    Attributes:
        images: the checkpoint's feature name → ``[H, W, 3]`` uint8 RGB.
        state: ``[D]`` joint positions in the policy's units and order.
        instruction: what to do, in words.
        stamps: stream name → header stamp in seconds, of the newest step.

    A policy that sees several steps gets them as a leading axis of every image and of the
    state, ``[steps, ...]``, oldest first.
    """

    images: Mapping[str, np.ndarray]
    state: np.ndarray
    instruction: str
    stamps: Mapping[str, float]

    @property
    def stamp(self) -> float:
        """When it was taken: the stamp of its oldest stream, s."""
        return min(self.stamps.values())


class Streams:
    """The newest messages of every stream a policy needs.

    ``put``, ``put_joints`` and ``set_instruction`` may be called from any thread, cost little
    and never wait for a decoder; ``gather`` decodes, in the caller's thread. All times are
    seconds of the clock that stamps the messages. When that clock is set back (a simulation
    starts anew, a bag is played again), what is from its future is forgotten.

    Args:
        cameras: stream name → what it must be.
        joints: what the joint states must be; each joint has its own stamp and age.
        instruction: what to do until told otherwise; empty: nothing.
        max_skew: s that the streams of one observation may lie apart.
        steps: how many observations the policy sees at once (LeRobot's n_obs_steps).
        step_dt: s between those, the period of its data; needed for more than one.

    Raises:
        ValueError: several steps without a distance between them.
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        joints: Joints,
        instruction: str = "",
        *,
        max_skew: float = math.inf,
        steps: int = 1,
        step_dt: float = 0.0,
    ):
        if steps < 1 or (steps > 1 and not step_dt > 0):
            raise ValueError(f"{steps} steps of {step_dt:g} s; more than one need a time between")
        self._cameras = {n: CameraStream(n, c, steps, step_dt) for n, c in cameras.items()}
        self._joints = JointStream(joints, steps, step_dt)
        self._streams = {**self._cameras, STATE: self._joints}
        self._instruction = instruction.strip()
        self._max_skew, self._steps = max_skew, steps
        self._latest = -math.inf  # that the clock was seen to show
        self._unreadable: dict[str, tuple[Any, str]] = {}  # by stream: the message, and why
        self._lock = threading.Lock()

    def put(self, name: str, stamp: float, message: Any) -> None:
        """Keep a camera's message."""
        with self._lock:
            self._cameras[name].put(stamp, message)

    def put_joints(self, stamp: float, names: Sequence[str], positions: Sequence[float]) -> None:
        """Take over the joints that a joint state names, rad (m); it may name others, and need
        not name all."""
        with self._lock:
            self._joints.put(stamp, names, positions)

    def set_instruction(self, text: str) -> None:
        """What to do from the next observation on; empty: nothing."""
        with self._lock:
            self._instruction = text.strip()

    @property
    def instruction(self) -> str:
        """What to do now."""
        with self._lock:
            return self._instruction

    def gather(self, now: float) -> Observation | list[str]:
        """The observation at ``now``, or why there is none: one line a stream, ``name: …``
        with the numbers."""
        with self._lock:
            self._look_at_clock(now)
            reasons = self._reasons(now)
            if not self._instruction:
                reasons[INSTRUCTION] = f"{INSTRUCTION}: none given"
            taken = {} if reasons else self._take(reasons)
            instruction = self._instruction
            stamps = {name: stream.stamp() for name, stream in self._streams.items()}
        if reasons:
            return list(reasons.values())
        images: dict[str, np.ndarray] = {}
        for name, stream in self._cameras.items():
            try:
                images[stream.camera.feature] = self._decode(name, taken[name])
            except ValueError as error:
                reasons[name] = str(error)
        if reasons:
            return list(reasons.values())
        state = taken[STATE]
        if self._steps == 1:
            images, state = {f: picture[0] for f, picture in images.items()}, state[0]
        return Observation(images, state, instruction, stamps)

    def status(self, now: float) -> dict[str, StreamStatus]:
        """Stream name → how it does at ``now``."""
        with self._lock:
            self._look_at_clock(now)
            reasons = {name: reason for name, (_, reason) in self._unreadable.items()}
            reasons |= self._reasons(now)
            return {
                name: StreamStatus(
                    age_s=now - stream.stamp(),
                    rate_hz=stream.rate(now),
                    count=stream.count,
                    reason=reasons.get(name, ""),
                )
                for name, stream in self._streams.items()
            }

    # -- with the lock held -----------------------------------------------------------------

    def _look_at_clock(self, now: float) -> None:
        if now < self._latest - _SET_BACK:
            words = f" since the clock went back by {self._latest - now:.2f} s"
            for stream in self._streams.values():
                stream.forget_after(now + FUTURE_TOLERANCE, words)
            self._latest = now
        self._latest = max(self._latest, now)

    def _reasons(self, now: float) -> dict[str, str]:
        found = {name: stream.reason(now) for name, stream in self._streams.items()}
        found = {name: reason for name, reason in found.items() if reason}
        if found:
            return found
        stamps = {name: stream.stamp() for name, stream in self._streams.items()}
        first, last = min(stamps, key=stamps.__getitem__), max(stamps, key=stamps.__getitem__)
        skew = stamps[last] - stamps[first]
        if skew > self._max_skew:
            found[first] = (
                f"{first}: {skew:.3f} s older than {last}, at most {self._max_skew:g} s apart"
            )
        return found

    def _take(self, reasons: dict[str, str]) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        for name, stream in self._streams.items():
            try:
                taken[name] = (
                    stream.positions() if isinstance(stream, JointStream) else stream.messages()
                )
            except ValueError as error:
                reasons[name] = f"{name}: {error}"
        return taken

    # -- without it: decoding takes its time ------------------------------------------------

    def _decode(self, name: str, messages: list[Any]) -> np.ndarray:
        """``[steps, H, W, 3]`` uint8 RGB."""
        known, why = self._unreadable.get(name, (None, ""))
        if any(message is known for message in messages):
            raise ValueError(why)  # asked again before a new one came
        camera = self._cameras[name].camera
        pictures: list[np.ndarray] = []
        for message in messages:
            try:
                picture = camera.decode(message)
                _check_size(picture, camera.size or (pictures or [picture])[0].shape[:2])
            except ValueError as error:
                reason = f"{name}: {error}"
                with self._lock:
                    self._unreadable[name] = (message, reason)
                raise ValueError(reason) from error
            pictures.append(picture)
        with self._lock:
            self._unreadable.pop(name, None)
        return pictures[0][None] if len(pictures) == 1 else np.stack(pictures)


def cell_streams(
    config: VlaConfig,
    joint_map: JointMap,
    decoders: Mapping[str, Callable[[Any], np.ndarray]],
    sizes: Mapping[str, tuple[int, int]] | None = None,
    steps: int = 1,
) -> Streams:
    """The streams of a cell, for its policy and for whoever records what one is to see.

    Args:
        decoders: a camera's transport → its messages to ``[H, W, 3]`` uint8 RGB.
        sizes: feature → the (H, W) that is wanted; any where absent. steps: as of Streams.
    """
    cameras = {
        name: Camera(
            feature=camera.feature,
            decode=decoders[camera.transport],
            max_age=camera.max_age,
            frozen_after=camera.frozen_after,
            size=(sizes or {}).get(camera.feature),
        )
        for name, camera in config.cameras.items()
    }
    return Streams(
        cameras,
        Joints(
            names=joint_map.names,
            max_age=config.joint_states_max_age,
            convert=joint_map.to_policy,
        ),
        config.instruction,
        max_skew=config.max_skew,
        steps=steps,
        step_dt=1.0 / config.chunk_rate,
    )


def _check_size(picture: np.ndarray, wanted: tuple[int, ...]) -> None:
    height, width = picture.shape[:2]
    if (height, width) != tuple(wanted):
        raise ValueError(
            f"a picture of {width}x{height} pixels; {wanted[1]}x{wanted[0]} is wanted and nothing "
            "resizes it"
        )
