"""Inference: one observation in, one action chunk out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch
from lerobot.policies.rtc import RTCConfig
from lerobot.policies.utils import populate_queues
from lerobot.processor import (
    NormalizerProcessorStep,
    TransitionKey,
    UnnormalizerProcessorStep,
    create_transition,
)
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_IMAGES, OBS_STATE

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.policy.checkpoint import Checkpoint
from smolvla_ros.policy.images import to_tensor
from smolvla_ros.policy.observation import Observation
from smolvla_ros.robot import JointMap

ROUND_TRIP = 1e-3  # of a standard deviation: what the way to radians and back may lose


class OutputError(ValueError):
    """A policy's output that is no motion: not finite, or not of the arm's shape."""


@dataclass(frozen=True)
class Guide:
    """The motion under way, for a policy that can continue it.

    Attributes:
        positions: ``[M, D]`` rad in the order of the chunk's names; row 0 at the observation's
            time, rows as far apart as the answer's will be executed.
        committed: rows that pass before the answer arrives: it should equal them.
        horizon: rows, those included, over which guidance fades out.
    """

    positions: np.ndarray
    committed: int
    horizon: int


class Engine(ABC):
    """Turns observations into chunks. One thread uses it, from warm-up to the end.

    Attributes:
        names: joints of a chunk, in order. rows: in a chunk. dt: s between them in the data
            that it learned from.
        guided: whether it continues a motion under way (real-time chunking).
    """

    names: tuple[str, ...]
    rows: int
    dt: float
    guided: bool = False

    @abstractmethod
    def infer(self, observation: Observation, guide: Guide | None = None) -> ActionChunk:
        """The chunk that answers ``observation``, in radians by joint name, stamped with
        the observation's time. Takes as long as it takes.

        Raises:
            OutputError: the policy's output is not finite.
        """

    @abstractmethod
    def measured(self, observation: Observation) -> np.ndarray | None:
        """``[D]`` rad where ``observation`` has the arm; None for a policy without state."""


class LeRobotEngine(Engine):
    """A LeRobot policy of any type, with its own processors.

    Args:
        checkpoint: policy and processors. joint_map: policy units → radians.
        dt: seconds between the rows of a chunk: the period of the data it learned from.
        rtc: guide it where LeRobot can (``guided`` says whether, after the warm-up).
    """

    def __init__(self, checkpoint: Checkpoint, joint_map: JointMap, dt: float, rtc: bool = True):
        self._checkpoint = checkpoint
        self._map = joint_map
        self.names, self.rows, self.dt = joint_map.names, checkpoint.chunk_size, dt
        policy, config = checkpoint.policy, checkpoint.config
        # Guidance works on actions as the policy samples them; with Aloha's own encoding
        # those are not what comes out.
        self.guided = (
            rtc and checkpoint.supports_rtc and not getattr(config, "adapt_to_pi_aloha", False)
        )
        if checkpoint.supports_rtc:
            rtc_config = getattr(config, "rtc_config", None) or RTCConfig()
            config.rtc_config = replace(rtc_config, enabled=True) if self.guided else None
            policy.init_rtc_processor()
        # Guidance runs under enable_grad: without this it would record all of the model.
        policy.requires_grad_(False)
        self._normalizer = self._inverse_of_the_unnormalizer()

    def infer(self, observation: Observation, guide: Guide | None = None) -> ActionChunk:
        """As :meth:`Engine.infer`; on the device that the checkpoint was loaded to."""
        rows = self._to_radians(self._predict(observation, guide))
        return ActionChunk(observation.stamp, self.dt, self.names, rows)

    def measured(self, observation: Observation) -> np.ndarray | None:
        """As :meth:`Engine.measured`."""
        state = np.asarray(observation.state, dtype=float)
        return self._map.to_urdf(state.reshape(-1, len(self.names))[-1]) if state.size else None

    def warm_up(self, state: np.ndarray) -> float:
        """Infer on grey pictures until it is as fast as it will be, and throw the results away;
        the first inference of a process is several times slower than the rest.

        Whether a chunk finds its way back into the model's own units is tried on the first
        one: where it does not (actions relative to the state, for one) there is no guidance.

        Args:
            state: ``[D]`` in policy units.

        Returns:
            Seconds of one inference from now on.
        """
        sizes = self._checkpoint.image_sizes
        grey = {n: np.full((*size, 3), 127, np.uint8) for n, size in sizes.items()}
        steps = self._checkpoint.observation_steps
        if steps > 1:
            grey = {n: np.repeat(p[None], steps, axis=0) for n, p in grey.items()}
            state = np.repeat(state[None], steps, axis=0)
        observation = Observation(grey, state, "warm up", {"warm_up": 0.0})
        raw = self._predict(observation, None)
        rows = self._to_radians(raw.clone())
        self.rows = len(rows)
        guide = None
        if self.guided:
            lost = (self._to_model(rows) - raw.squeeze(0).to("cpu")).abs().max()
            self.guided = bool(lost < ROUND_TRIP)
            guide = Guide(rows, len(rows) // 4, len(rows) // 2) if self.guided else None
        began = time.monotonic()
        self.infer(observation, guide)
        return time.monotonic() - began

    def _predict(self, observation: Observation, guide: Guide | None) -> torch.Tensor:
        """``[1, N, D]`` actions in the model's own units."""
        policy = self._checkpoint.policy
        # no_grad, not inference_mode: guided chunking differentiates.
        with torch.no_grad():
            batch = self._batch(observation)
            if guide is not None and self.guided:
                actions = policy.predict_action_chunk(
                    batch,
                    inference_delay=guide.committed,
                    # LeRobot counts it from row 0, so it must reach past the delay.
                    execution_horizon=guide.horizon,
                    prev_chunk_left_over=self._to_model(guide.positions).to(
                        self._checkpoint.config.device
                    ),
                )
            else:
                actions = policy.predict_action_chunk(batch)
        if actions.ndim == 3 and actions.shape[0] > 1 == actions.shape[1]:
            actions = actions.transpose(0, 1)  # TD-MPC has its rows before the batch
        wanted = (1, len(self.names))
        if actions.ndim != 3 or (actions.shape[0], actions.shape[2]) != wanted:
            raise OutputError(
                f"the policy's output has shape {list(actions.shape)}; wanted [1, N, {wanted[1]}]"
            )
        if not torch.isfinite(actions).all():
            raise OutputError("the policy's output is not finite")
        return actions

    def _batch(self, observation: Observation) -> dict[str, object]:
        """What the policy's predict_action_chunk takes, where it keeps observations in queues
        of its own with those filled."""
        policy, config = self._checkpoint.policy, self._checkpoint.config
        steps = self._checkpoint.observation_steps
        state = np.asarray(observation.state, dtype=np.float32)
        raw: dict[str, object] = {"task": observation.instruction}
        if state.size:
            raw[OBS_STATE] = torch.from_numpy(state)
        for feature, picture in observation.images.items():
            raw[feature] = to_tensor(picture)
        if steps > 1:
            raw["task"] = [observation.instruction] * steps
        batch = self._checkpoint.preprocess(raw)
        queues = getattr(policy, "_queues", {})
        if not any(key != ACTION for key in queues):
            return batch
        # The steps went through the processors as a batch. Some policies read only what
        # select_action has put into their queues, and that would infer at every step.
        policy.reset()
        pictures = [batch[feature] for feature in config.image_features if feature in batch]
        if pictures and OBS_IMAGES in policy._queues:
            batch[OBS_IMAGES] = torch.stack(pictures, dim=-4)
        elif pictures and OBS_IMAGE in policy._queues:
            batch[OBS_IMAGE] = pictures[0]
        tensors = {k: v for k, v in batch.items() if k in policy._queues and k != ACTION}
        for step in range(steps):
            now = {k: v[step : step + 1] for k, v in tensors.items()}
            policy._queues = populate_queues(policy._queues, now, exclude_keys=[ACTION])
        last = slice(steps - 1, steps)
        return {
            k: v[last] if isinstance(v, torch.Tensor) else v
            for k, v in batch.items()
            if k != ACTION  # the processors put an empty one in
        }

    def _inverse_of_the_unnormalizer(self) -> NormalizerProcessorStep | None:
        for step in self._checkpoint.postprocess.steps:
            if isinstance(step, UnnormalizerProcessorStep):
                return NormalizerProcessorStep(
                    features=step.features, norm_map=step.norm_map, stats=step.stats, eps=step.eps
                )
        return None

    def _to_radians(self, actions: torch.Tensor) -> np.ndarray:
        """``[1, N, D]`` in the model's own units → ``[N, D]`` rad."""
        policy_units = self._checkpoint.postprocess(actions).squeeze(0)
        return self._map.to_urdf(policy_units.to("cpu", torch.float64).numpy())

    def _to_model(self, positions: np.ndarray) -> torch.Tensor:
        """``[M, D]`` rad → the model's own units, on the CPU."""
        actions = torch.from_numpy(self._map.to_policy(positions).astype(np.float32))
        if self._normalizer is None:
            return actions
        return self._normalizer(create_transition(action=actions))[TransitionKey.ACTION]
