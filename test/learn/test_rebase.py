"""Other statistics, the same policy."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from smolvla_ros.learn.models import CAMERAS, make_policy, make_vlm
from smolvla_ros.learn.rebase import is_other, rebase
from smolvla_ros.policy.checkpoint import load_checkpoint

OLD = {"mean": np.array([0.0, -5, 3, 80, 0, 30]), "std": np.array([20.0, 15, 15, 9, 20, 12])}
NEW = {"mean": np.array([4.0, -1, 1, 84, 2, 22]), "std": np.array([17.0, 18, 14, 11, 24, 11])}
KEYS = ("observation.state", "action")


def tensors(stats):
    table = {name: torch.tensor(value, dtype=torch.float32) for name, value in stats.items()}
    return dict.fromkeys(KEYS, table)


def written(folder, vlm, stats):
    policy, preprocess, postprocess = make_policy(vlm, 0, tensors(stats))
    step = next(s for s in preprocess.steps if hasattr(s, "tokenizer_name"))
    policy.config.vlm_model_name = step.tokenizer_name = "vlm"
    shutil.copytree(vlm, folder / "vlm")
    for part in (policy, preprocess, postprocess):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The same weights with the old statistics, and with the new ones and then rebased."""
    base = tmp_path_factory.mktemp("rebase")
    make_vlm(base / "vlm")
    old, new = written(base / "old", base / "vlm", OLD), written(base / "new", base / "vlm", NEW)
    shutil.copytree(old, base / "rebased")
    rebase(base / "rebased", dict.fromkeys(KEYS, NEW))
    shutil.copy(base / "rebased" / "model.safetensors", new / "model.safetensors")
    return old, new


def seen(checkpoint):
    observation = {camera: torch.full((3, 128, 128), 0.4) for camera in CAMERAS}
    state = torch.tensor([10.0, -20, 15, 70, -12, 40])
    return checkpoint.preprocess(
        observation | {"observation.state": state, "task": "touch the red block"}
    )


def test_the_state_is_understood_as_before(checkpoints):
    before, after = (load_checkpoint(folder) for folder in checkpoints)
    embedded = [c.policy.model.state_proj(c.policy.prepare_state(seen(c))) for c in (before, after)]
    torch.testing.assert_close(embedded[0], embedded[1], rtol=1e-4, atol=1e-4)


def test_the_same_noise_in_degrees_is_denoised_to_the_same_chunk(checkpoints):
    before, after = (load_checkpoint(folder) for folder in checkpoints)
    noise = torch.randn(1, 16, 6, generator=torch.Generator().manual_seed(0))
    in_degrees = noise * torch.tensor(OLD["std"]) + torch.tensor(OLD["mean"])
    same = (in_degrees - torch.tensor(NEW["mean"])) / torch.tensor(NEW["std"])
    chunks = []
    for checkpoint, start in ((before, noise), (after, same.float())):
        with torch.no_grad():
            raw = checkpoint.policy.predict_action_chunk(seen(checkpoint), noise=start)
        chunks.append(checkpoint.postprocess(raw))
    torch.testing.assert_close(chunks[0], chunks[1], rtol=1e-4, atol=1e-2)


def test_only_other_statistics_are_other(checkpoints):
    old, _ = checkpoints
    assert is_other(old, dict.fromkeys(KEYS, NEW))
    assert not is_other(old, dict.fromkeys(KEYS, OLD))
    assert not is_other(old, {"action": NEW})


def test_a_joint_that_never_moved_changes_no_weight_to_nonsense(checkpoints, tmp_path):
    old, _ = checkpoints
    still = np.array([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    for name, before, after in (
        ("old", OLD | {"std": OLD["std"] * still}, NEW),
        ("new", OLD, NEW | {"std": NEW["std"] * still}),
    ):
        folder = written(tmp_path / name, old / "vlm", before)
        assert is_other(folder, dict.fromkeys(KEYS, after))
        rebase(folder, dict.fromkeys(KEYS, after))
        for weight in load_checkpoint(folder).policy.state_dict().values():
            assert torch.isfinite(weight).all()


def test_a_still_joint_hides_no_change_of_another(checkpoints, tmp_path):
    old, _ = checkpoints
    before, after = ({"mean": OLD["mean"], "std": OLD["std"].copy()} for _ in range(2))
    before["std"][0] = after["std"][0] = 0.0
    folder = written(tmp_path / "old", old / "vlm", before)
    assert not is_other(folder, dict.fromkeys(KEYS, after))
    after["std"][1] *= 30.0
    assert is_other(folder, dict.fromkeys(KEYS, after))
