"""A checkpoint is loaded whole, from any folder, or refused by what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lerobot.policies.act.configuration_act import ACTConfig
from safetensors.torch import load_file, save_file

from smolvla_ros.policy.checkpoint import (
    CheckpointError,
    check_features,
    find_checkpoint,
    load_checkpoint,
)

CAMERAS = {"front": "observation.images.front", "wrist": "observation.images.wrist"}
STATISTICS = {
    "preprocessor": "policy_preprocessor_step_5_normalizer_processor.safetensors",
    "postprocessor": "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
}


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(find_checkpoint(str(folder), Path("/")))
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_the_shipped_checkpoint_loads_from_another_folder(loaded) -> None:
    assert loaded.folder.name == "mine"
    assert set(loaded.images) == set(CAMERAS.values())
    assert (loaded.state_size, loaded.action_size, loaded.chunk_size) == (6, 6, 50)
    assert not loaded.policy.training
    assert check_features(loaded, CAMERAS, 6) == []


def test_the_un_normaliser_is_applied_with_the_checkpoints_own_statistics(loaded) -> None:
    table = load_file(loaded.folder / STATISTICS["postprocessor"])
    mean, std = table["action.mean"], table["action.std"]
    assert std.max() > 2.0  # degrees: what leaves un-normalised would be told apart
    for z in (0.0, 1.0, -0.5):
        out = loaded.postprocess(torch.full((1, 50, 6), z))
        torch.testing.assert_close(out, (mean + z * std).expand(1, 50, 6))


def test_the_normaliser_is_applied_to_the_state(loaded) -> None:
    table = load_file(loaded.folder / STATISTICS["preprocessor"])
    mean, std = table["observation.state.mean"], table["observation.state.std"]
    batch = {name: torch.zeros(3, 240, 320) for name in CAMERAS.values()}
    out = loaded.preprocess(batch | {"observation.state": mean + 2 * std, "task": "pick"})
    torch.testing.assert_close(out["observation.state"], torch.full((1, 6), 2.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json"],
)
def test_a_missing_file_is_named(copy, name) -> None:
    (copy / name).unlink()
    assert f"lacks {name}; save policy and processors together" in refused(copy)


@pytest.mark.parametrize("name", STATISTICS.values())
def test_a_missing_statistics_file_is_named(copy, name) -> None:
    (copy / name).unlink()
    assert name in refused(copy)


def test_a_missing_tensor_is_named(copy) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.action_out_proj.weight"]
    save_file(weights, copy / "model.safetensors")
    assert '"model.action_out_proj.weight"' in refused(copy)


def test_a_tensor_too_many_is_named(copy) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"model.other.weight": torch.zeros(2)}, copy / "model.safetensors")
    assert '"model.other.weight"' in refused(copy)


def test_a_download_cut_short_is_refused(copy) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(copy)


@pytest.mark.parametrize(
    ("pipeline", "key", "other"),
    [
        # lerobot/smolvla_base's way: statistics a dataset, none that LeRobot would find.
        ("postprocessor", "action", "so100.buffer.action"),
        ("preprocessor", "observation.state", "so100.buffer.observation.state"),
    ],
)
def test_statistics_under_another_key_are_refused(copy, pipeline, key, other) -> None:
    path = copy / STATISTICS[pipeline]
    table = {name.replace(key, other): t for name, t in load_file(path).items()}
    save_file(table, path)
    said = refused(copy)
    assert f"no statistics mean and std under '{key}'" in said
    assert other in said


def test_half_of_the_statistics_are_refused(copy) -> None:
    path = copy / STATISTICS["postprocessor"]
    table = load_file(path)
    del table["action.std"]
    save_file(table, path)
    assert "no statistics mean and std under 'action'" in refused(copy)


@pytest.mark.parametrize(
    ("pipeline", "kind", "key"),
    [("postprocessor", "ACTION", "action"), ("preprocessor", "STATE", "observation.state")],
)
def test_a_processor_that_does_not_use_its_statistics_is_refused(copy, pipeline, kind, key) -> None:
    # The processor's own file, not the policy's configuration, decides what LeRobot applies.
    path = copy / f"policy_{pipeline}.json"
    document = json.loads(path.read_text())
    (step,) = [s for s in document["steps"] if "norm_map" in s["config"]]
    step["config"]["norm_map"][kind] = "IDENTITY"
    path.write_text(json.dumps(document))
    assert f"under '{key}'" in refused(copy)


def test_a_post_processor_without_un_normaliser_is_refused(copy) -> None:
    path = copy / "policy_postprocessor.json"
    document = json.loads(path.read_text())
    document["steps"] = [s for s in document["steps"] if "norm_map" not in s["config"]]
    path.write_text(json.dumps(document))
    assert "under 'action'" in refused(copy)


def test_a_policy_of_another_type_is_refused(copy) -> None:
    ACTConfig(device="cpu").save_pretrained(copy)
    assert "policy type 'act'; this release runs 'smolvla'" in refused(copy)


@pytest.mark.parametrize("text", ["", "{", '{"type": "nonsense"}', "[]"])
def test_a_configuration_that_is_none_is_refused(copy, text) -> None:
    (copy / "config.json").write_text(text)
    assert "config.json" in refused(copy)


def test_a_folder_that_is_not_there_is_named_and_a_hub_id_is_not_asked_for(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"'\.\./no' is no folder"):
        find_checkpoint("../no", tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"'owner/name': no such folder.*hub"):
        find_checkpoint("owner/name", tmp_path)


@pytest.mark.parametrize(
    ("cameras", "joints", "says"),
    [
        (
            {"front": "observation.images.front", "wrist": "observation.images.hand"},
            6,
            ["cameras.wrist.feature: the checkpoint knows no 'observation.images.hand'; it knows",
             "cameras: no camera feeds the checkpoint's 'observation.images.wrist'; add one"],
        ),
        (
            {"front": "observation.images.front"},
            6,
            ["cameras: no camera feeds the checkpoint's 'observation.images.wrist'; add one"],
        ),
        (
            CAMERAS | {"side": "observation.images.front"},
            6,
            ["cameras: 'observation.images.front' is fed by several cameras"],
        ),
        (
            CAMERAS,
            7,
            ["joint_order: has 7 joints; the checkpoint's state has 6 entries",
             "joint_order: has 7 joints; the checkpoint's action has 6 entries"],
        ),
    ],
    ids=["unknown_feature", "missing_camera", "two_for_one", "wrong_joints"],
)  # fmt: skip
def test_a_cell_that_does_not_fit_is_told_each_difference(loaded, cameras, joints, says) -> None:
    found = check_features(loaded, cameras, joints)
    assert len(found) == len(says)
    for line, wanted in zip(found, says, strict=True):
        assert line.startswith(wanted)
