"""Inference: one observation in, one action chunk out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import numpy as np
import torch

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.policy.checkpoint import Checkpoint
from smolvla_ros.policy.observation import Observation
from smolvla_ros.robot import JointMap


class Engine(ABC):
    """Turns observations into chunks. One thread uses it, from warm-up to the end."""

    @abstractmethod
    def infer(self, observation: Observation) -> ActionChunk:
        """The chunk that answers ``observation``, in radians by joint name, stamped with
        the observation's time. Takes as long as it takes.

        Raises:
            ValueError: the policy's output is not finite.
        """


class LeRobotEngine(Engine):
    """A LeRobot policy with its own processors.

    Args:
        checkpoint: policy and processors. joint_map: policy units → radians.
        dt: seconds between the rows of a chunk: the period of the data it learned from.
    """

    def __init__(self, checkpoint: Checkpoint, joint_map: JointMap, dt: float):
        self._checkpoint = checkpoint
        self._map = joint_map
        self._dt = dt

    def infer(self, observation: Observation) -> ActionChunk:
        """As :meth:`Engine.infer`; on the device that the checkpoint was loaded to."""
        c = self._checkpoint
        batch: dict[str, object] = {
            "observation.state": torch.from_numpy(np.asarray(observation.state, dtype=np.float32)),
            "task": observation.instruction,
        }
        for feature, picture in observation.images.items():
            # LeRobot's convention: [3, H, W] float in 0..1.
            tensor = torch.from_numpy(np.ascontiguousarray(picture))
            batch[feature] = tensor.permute(2, 0, 1).to(torch.float32) / 255.0
        # no_grad, not inference_mode: guided chunking differentiates through the model.
        with torch.no_grad():
            actions = c.policy.predict_action_chunk(c.preprocess(batch))
            # Normalised until here.
            actions = c.postprocess(actions)
        policy_units = actions.squeeze(0).to("cpu", torch.float64).numpy()
        if not np.isfinite(policy_units).all():
            raise ValueError("the policy's output is not finite")
        return ActionChunk(
            stamp=observation.stamp,
            dt=self._dt,
            names=self._map.names,
            positions=self._map.to_urdf(policy_units),
        )

    def warm_up(self, state: np.ndarray) -> float:
        """Infer once on grey pictures, throw the result away; the first inference of a
        process is several times slower than the rest. Returns its seconds."""
        shapes = {n: f.shape for n, f in self._checkpoint.config.image_features.items()}
        grey = {n: np.full((s[1], s[2], 3), 127, np.uint8) for n, s in shapes.items()}
        started = time.monotonic()
        self.infer(Observation(grey, state, "warm up", {"warm_up": 0.0}))
        return time.monotonic() - started
