"""Pictures as tensors: LeRobot's own values at less than half its price."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lerobot.policies.utils import prepare_observation_for_inference

from smolvla_ros.policy.images import to_tensor

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def lerobot_s(rgb: np.ndarray) -> torch.Tensor:
    made = prepare_observation_for_inference({"image": rgb.copy()}, torch.device("cpu"))
    return made["image"][0]


def test_a_tensor_has_lerobot_s_own_values() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for rgb in (RGB, every):
        made = to_tensor(rgb)
        assert (made.dtype, made.shape) == (torch.float32, (3, *rgb.shape[:2]))
        assert torch.equal(made, lerobot_s(rgb))


def test_pictures_of_several_times_keep_their_axis() -> None:
    several = np.stack([RGB, RGB[::-1]])
    made = to_tensor(several)
    assert made.shape == (2, 3, 5, 7)
    for one, rgb in zip(made, several, strict=True):
        assert torch.equal(one, lerobot_s(rgb))


def test_an_array_that_may_not_be_written_and_a_view_will_do() -> None:
    fixed = np.frombuffer(RGB.tobytes(), np.uint8).reshape(RGB.shape)
    assert not fixed.flags.writeable
    assert torch.equal(to_tensor(fixed), lerobot_s(RGB))
    assert torch.equal(to_tensor(RGB[:, :, ::-1]), lerobot_s(RGB[:, :, ::-1]))
    assert torch.equal(to_tensor(RGB[1:4, 2:]), lerobot_s(RGB[1:4, 2:]))


@pytest.mark.parametrize(
    "wrong", [RGB[:, :, :2], RGB[0], RGB.astype(np.float32), RGB.transpose(2, 0, 1)]
)
def test_what_is_no_picture_is_refused_with_its_shape(wrong) -> None:
    with pytest.raises(ValueError, match=rf"{wrong.dtype} of shape \({wrong.shape[0]}"):
        to_tensor(wrong)


def test_it_takes_at_most_half_the_time_of_cv_bridge_and_lerobot() -> None:
    pytest.importorskip("cv_bridge", reason="needs cv_bridge to compare with")
    from smolvla_ros.cli.benchmark.images import image_costs

    found = image_costs(rounds=60)
    assert set(found["encodings"]) == {"rgb8", "bgr8"}
    assert found["ratio"] == max(c["ratio"] for c in found["encodings"].values())
    assert found["ratio"] <= 0.5
    for costs in found["encodings"].values():
        assert costs["ratio"] == pytest.approx(costs["ours_ms"] / costs["stock_ms"], abs=0.01)
        # A float tensor of 640x480 is 3.7 MB.
        assert 3.6 < costs["ours_mb"] < 0.5 * costs["stock_mb"]
