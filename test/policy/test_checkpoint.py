"""A checkpoint is loaded whole, from any folder, or refused by what is wrong with it."""

from __future__ import annotations

import importlib
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import FRONT, make
from safetensors.torch import load_file, save_file

from smolvla_ros.policy.checkpoint import CheckpointError, find_checkpoint, load_checkpoint

IMAGES = ["observation.images.front", "observation.images.wrist"]
STATISTICS = {
    "preprocessor": "policy_preprocessor_step_5_normalizer_processor.safetensors",
    "postprocessor": "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
}


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(find_checkpoint(str(folder), Path("/")))
    assert str(folder) in str(caught.value)
    return str(caught.value)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def rename(path: Path, old: str, new: str) -> None:
    save_file({n.replace(old, new): t for n, t in load_file(path).items()}, path)


def test_the_shipped_checkpoint_loads_from_another_folder(loaded) -> None:
    assert loaded.folder.name == "mine"
    assert loaded.images == IMAGES
    assert (loaded.state_size, loaded.action_size, loaded.chunk_size) == (6, 6, 16)
    assert not loaded.policy.training
    assert (loaded.type, loaded.observation_steps) == ("smolvla", 1)
    assert loaded.supports_rtc and loaded.resizes
    assert loaded.image_sizes == dict.fromkeys(IMAGES, (128, 128))
    assert loaded.tokenizers == [str(loaded.folder / "vlm")]


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
    batch = {name: torch.zeros(3, 240, 320) for name in IMAGES}
    out = loaded.preprocess(batch | {"observation.state": mean + 2 * std, "task": "pick"})
    torch.testing.assert_close(out["observation.state"], torch.full((1, 6), 2.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("config.json", "save policy and processors together"),
        ("model.safetensors", "save policy and processors together"),
        ("policy_preprocessor.json", "migrate_policy_normalization"),
        ("policy_postprocessor.json", "migrate_policy_normalization"),
    ],
)
def test_a_missing_file_is_named(copy, name, fix) -> None:
    (copy / name).unlink()
    said = refused(copy)
    assert f"lacks {name}; " in said and fix in said
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        load_checkpoint(copy)


def test_pickled_weights_are_not_read(copy) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "lacks model.safetensors; pytorch_model.bin could run code" in refused(copy)


@pytest.mark.parametrize("name", STATISTICS.values())
def test_a_missing_statistics_file_is_named(copy, name) -> None:
    (copy / name).unlink()
    assert name in refused(copy)


def test_a_missing_tensor_is_named(copy) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.action_out_proj.weight"]
    save_file(weights, copy / "model.safetensors")
    assert 'missing tensors: "model.action_out_proj.weight"' in refused(copy)


def test_a_tensor_too_many_is_named(copy) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"model.other.weight": torch.zeros(2)}, copy / "model.safetensors")
    assert 'unexpected tensors: "model.other.weight"' in refused(copy)


def test_a_renamed_tensor_is_named_by_both_names(copy) -> None:
    rename(copy / "model.safetensors", "action_out_proj.weight", "out.weight")
    said = refused(copy)
    assert 'missing tensors: "model.action_out_proj.weight"' in said
    assert 'unexpected tensors: "model.out.weight"' in said


def test_a_tensor_of_another_shape_is_named(copy) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.action_out_proj.weight"] = torch.zeros(3, 3)
    save_file(weights, copy / "model.safetensors")
    said = refused(copy)
    assert "model.action_out_proj.weight" in said and "size mismatch" in said


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


def test_a_configuration_of_another_type_is_refused_by_the_tensors_it_lacks(copy, tmp_path) -> None:
    other = make("act", tmp_path / "act")
    (copy / "config.json").write_bytes((other / "config.json").read_bytes())
    said = refused(copy)
    assert "model.safetensors: missing tensors" in said and "unexpected tensors" in said


def test_a_type_that_lerobot_has_not_is_named(copy) -> None:
    edit(copy / "config.json", lambda document: document.update(type="smolvla3"))
    assert "'smolvla3'" in refused(copy)


def test_an_adapter_is_refused(copy) -> None:
    edit(copy / "config.json", lambda document: document.update(use_peft=True))
    assert "is an adapter (use_peft)" in refused(copy)


@pytest.mark.parametrize("text", ["", "{", '{"type": "nonsense"}', "[]"])
def test_a_configuration_that_is_none_is_refused(copy, text) -> None:
    (copy / "config.json").write_text(text)
    assert "config.json" in refused(copy)


def test_a_folder_that_is_not_there_is_named_and_a_hub_id_is_not_asked_for(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"'\.\./no' is no folder"):
        find_checkpoint("../no", tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"'owner/name': no such folder.*hub"):
        find_checkpoint("owner/name", tmp_path)


# -- other policies -------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "rows", "steps"), [("act", 20, 1), ("diffusion", 8, 2)])
def test_another_policy_of_lerobot_loads_and_says_what_it_is(tmp_path, kind, rows, steps) -> None:
    checkpoint = load_checkpoint(make(kind, tmp_path / kind))
    assert (checkpoint.type, checkpoint.chunk_size) == (kind, rows)
    assert checkpoint.observation_steps == steps
    assert checkpoint.image_sizes == {FRONT: (96, 96)}
    assert not checkpoint.resizes and not checkpoint.supports_rtc
    assert checkpoint.tokenizers == []
    shape = (1, steps) if steps > 1 else (1,)
    batch = {
        FRONT: torch.rand(*shape, 3, 96, 96),
        "observation.state": torch.zeros(*shape, 6),
    }
    with torch.no_grad():
        actions = checkpoint.policy.predict_action_chunk(checkpoint.preprocess(batch))
    assert checkpoint.postprocess(actions).shape == (1, rows, 6)


def test_the_rows_of_a_planner_are_its_horizon(tmp_path) -> None:
    folder = make("tdmpc", tmp_path / "tdmpc", ("observation.image",), (64, 64))
    assert load_checkpoint(folder).chunk_size == 5


def test_a_policy_without_state_has_a_state_of_no_entries(tmp_path) -> None:
    assert load_checkpoint(make("act", tmp_path / "act", state=False)).state_size == 0


def test_weights_that_the_checkpoint_overwrites_are_not_fetched(tmp_path, copy) -> None:
    # Both would be downloaded, the first as a pickle.
    act = make("act", tmp_path / "act")
    name = "ResNet18_Weights.IMAGENET1K_V1"
    edit(act / "config.json", lambda d: d.update(pretrained_backbone_weights=name))
    load_checkpoint(act)
    edit(copy / "config.json", lambda d: d.update(load_vlm_weights=True))
    stored = load_file(copy / "model.safetensors")
    for key, tensor in load_checkpoint(copy).policy.state_dict().items():
        assert torch.equal(tensor, stored[key]) and tensor.dtype == stored[key].dtype


def test_pictures_without_statistics_are_refused_where_the_policy_normalises_them(tmp_path) -> None:
    act = make("act", tmp_path / "act")
    (path,) = act.glob("policy_preprocessor*.safetensors")
    rename(path, FRONT, "observation.images.top")
    assert f"no statistics mean and std under '{FRONT}'" in refused(act)


def test_the_hash_is_that_of_what_counts(copy, loaded) -> None:
    assert load_checkpoint(copy).hash == loaded.hash
    (copy / "README.md").write_text("other words")
    assert load_checkpoint(copy).hash == loaded.hash
    path = copy / STATISTICS["postprocessor"]
    save_file(load_file(path) | {"action.mean": torch.ones(6)}, path)
    assert load_checkpoint(copy).hash != loaded.hash


# -- code that a checkpoint would run -------------------------------------------------------


def test_a_step_that_names_a_class_is_refused_and_not_imported(copy, tmp_path, monkeypatch) -> None:
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Step: pass")
    monkeypatch.syspath_prepend(tmp_path)
    step = {"class": "trap.Step", "config": {}}
    edit(copy / "policy_postprocessor.json", lambda d: d["steps"].append(step))
    assert "policy_postprocessor.json: a step names the class 'trap.Step'" in refused(copy)
    assert not (tmp_path / "sprung").exists()


def test_a_step_that_nobody_registered_is_named(copy) -> None:
    step = {"registry_name": "other_processor", "config": {}}
    edit(copy / "policy_preprocessor.json", lambda d: d["steps"].append(step))
    assert "policy_preprocessor.json: step 'other_processor' is registered by" in refused(copy)


def test_trust_in_remote_code_is_refused(copy) -> None:
    step = {
        "registry_name": "action_tokenizer_processor",
        "config": {"action_tokenizer_name": "a/b", "trust_remote_code": True},
    }
    edit(copy / "policy_preprocessor.json", lambda d: d["steps"].append(step))
    assert "asks for trust_remote_code" in refused(copy)


def test_trust_that_lerobot_gives_by_default_runs_nothing(copy, tmp_path) -> None:
    # The step's own default is to trust: the model's repository brings a module and names it.
    model = copy / "fast"
    model.mkdir()
    (model / "trap.py").write_text(
        f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Trap:\n    from_pretrained = None"
    )
    (model / "processor_config.json").write_text('{"auto_map": {"AutoProcessor": "trap.Trap"}}')
    step = {
        "registry_name": "action_tokenizer_processor",
        "config": {"action_tokenizer_name": "fast"},
    }
    edit(copy / "policy_preprocessor.json", lambda d: d["steps"].append(step))
    assert "code from a model's repository" in refused(copy)
    assert not (tmp_path / "sprung").exists()


def test_statistics_from_elsewhere_or_pickled_are_refused(copy, tmp_path) -> None:
    path = copy / "policy_postprocessor.json"
    for name in ("../statistics.safetensors", "statistics.pkl", "/etc/statistics.safetensors"):
        edit(path, lambda d, name=name: d["steps"][0].update(state_file=name))
        assert f"its state_file {name!r} is no safetensors file" in refused(copy)


PLUGIN = """
from lerobot.policies.act.modeling_act import ACTPolicy
from safetensors.torch import load_file
import torch
from configuration_careless import CarelessConfig

class CarelessPolicy(ACTPolicy):
    config_class, name = CarelessConfig, "careless"

    @classmethod
    def from_pretrained(cls, folder, *, config, strict=True, **_):
        policy = cls(config)
        try:
            policy.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=strict)
        except Exception as error:
            print(f"Warning: could not load: {error}")
        HOOK
        return policy
"""


@pytest.fixture
def careless(tmp_path, monkeypatch):
    """A policy from outside LeRobot that goes on where its weights do not fit, as some of
    LeRobot's own do; returns a function from a line of its loader to a checkpoint of it."""
    from lerobot.configs import PreTrainedConfig

    def make_one(hook: str = "") -> Path:
        (tmp_path / "modeling_careless.py").write_text(PLUGIN.replace("HOOK", hook))
        (tmp_path / "configuration_careless.py").write_text(
            "from dataclasses import dataclass\n"
            "from lerobot.configs import PreTrainedConfig\n"
            "from lerobot.policies.act.configuration_act import ACTConfig\n"
            "@PreTrainedConfig.register_subclass('careless')\n"
            "@dataclass\n"
            "class CarelessConfig(ACTConfig):\n    pass\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        importlib.import_module("configuration_careless")
        folder = make("act", tmp_path / "checkpoint")
        edit(folder / "config.json", lambda d: d.update(type="careless"))
        return folder

    yield make_one
    PreTrainedConfig._choice_registry.pop("careless", None)
    for name in ("configuration_careless", "modeling_careless"):
        sys.modules.pop(name, None)


def test_a_policy_from_outside_lerobot_loads(careless) -> None:
    checkpoint = load_checkpoint(careless())
    assert checkpoint.type == "careless"
    assert type(checkpoint.policy).__name__ == "CarelessPolicy"


def test_weights_that_a_policy_would_do_without_are_refused(careless) -> None:
    folder = careless()
    weights = load_file(folder / "model.safetensors")
    del weights["model.action_head.weight"]
    save_file(weights, folder / "model.safetensors")
    assert 'missing tensors: "model.action_head.weight"' in refused(folder)


def test_a_policy_that_reads_no_weights_at_all_is_refused(careless) -> None:
    folder = careless("policy = cls(config)")
    (folder / "model.safetensors").write_bytes(b"none")
    assert "read none of its tensors" in refused(folder)


def test_a_policy_that_unpickles_is_refused(careless, tmp_path) -> None:
    (tmp_path / "weights.pt").write_bytes(pickle.dumps({}))
    folder = careless(f"torch.load({str(tmp_path / 'weights.pt')!r}, weights_only=False)")
    load = torch.load
    assert "asks for pickled weights" in refused(folder)
    assert torch.load is load


# -- statistics of several data sets --------------------------------------------------------


def several(folder: Path) -> Path:
    """Statistics as lerobot/smolvla_base has them: each data set's under its own name."""
    for name in STATISTICS.values():
        found = load_file(folder / name)
        named = {
            f"{prefix}.buffer.{key}": tensor + shift
            for prefix, shift in (("so100", 0.0), ("so100-red", 1.0))
            for key, tensor in found.items()
        }
        save_file(named, folder / name)
    return folder


def test_the_data_set_whose_statistics_count_must_be_named(copy) -> None:
    said = refused(several(copy))
    assert "no statistics mean and std under 'action'" in said
    assert "so100-red.buffer.action" in said
    assert "`statistics: so100-red.buffer` would select one (or so100.buffer)" in said


@pytest.mark.parametrize(("prefix", "shift"), [("so100.buffer", 0.0), ("so100-red.buffer", 1.0)])
def test_the_named_data_set_s_statistics_are_used(copy, loaded, prefix, shift) -> None:
    checkpoint = load_checkpoint(several(copy), statistics=prefix)
    mean, std = (loaded.statistics("action")[name] + shift for name in ("mean", "std"))
    out = checkpoint.postprocess(torch.full((1, 16, 6), 2.0))
    assert out[0, 0].tolist() == pytest.approx(list(mean + 2 * std), rel=1e-5)
    batch = {name: torch.zeros(3, 128, 128) for name in IMAGES}
    at_rest, spread = (
        loaded.statistics("observation.state")[name] + shift for name in ("mean", "std")
    )
    state = torch.tensor(at_rest - spread, dtype=torch.float32)
    seen = checkpoint.preprocess(batch | {"observation.state": state, "task": "pick"})
    assert seen["observation.state"][0].tolist() == pytest.approx([-1.0] * 6, abs=1e-4)
    assert checkpoint.statistics("action")["mean"] == pytest.approx(mean, rel=1e-6)


def test_a_state_as_lerobot_s_older_buffers_write_it_is_selected_as_well(copy) -> None:
    for name in STATISTICS.values():
        rename(copy / name, "observation.state", "so100.buffer.observation_state")
        rename(copy / name, "action", "so100.buffer.action")
    assert "`statistics: so100.buffer` would select one" in refused(copy)
    checkpoint = load_checkpoint(copy, statistics="so100.buffer")
    assert {"mean", "std"} <= set(checkpoint.statistics("observation.state"))


def test_a_data_set_that_is_not_there_is_refused_with_those_that_are(copy) -> None:
    with pytest.raises(CheckpointError, match=r"no statistics of a data set 'so101'; it has .*red"):
        load_checkpoint(several(copy), statistics="so101")


def test_statistics_that_are_no_numbers_or_too_few_are_refused(copy) -> None:
    path = copy / STATISTICS["postprocessor"]
    whole = load_file(path)
    save_file(whole | {"action.std": torch.full((6,), torch.nan)}, path)
    assert "statistics std under 'action' are no numbers" in refused(copy)
    save_file(whole | {"action.mean": torch.zeros(5)}, path)
    assert "statistics mean under 'action' have 5 entries; it has 6" in refused(copy)


def test_a_missing_tokenizer_is_named(copy) -> None:
    shutil.rmtree(copy / "vlm")
    assert "tokenizer 'vlm': neither in this folder nor to be had from the hub" in refused(copy)
