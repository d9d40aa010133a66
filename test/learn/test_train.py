"""``smolvla-ros train``: LeRobot's trainer on a tiny dataset, killed, resumed, refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cells import TABLETOP, tabletop
from checkpoints import FRONT, MEAN, STD, WRIST
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.datasets import LeRobotDataset
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors
from lerobot.processor import TokenizerProcessorStep
from PIL import Image

from smolvla_ros.cell import load_joint_map
from smolvla_ros.cli.main import main
from smolvla_ros.learn import card, curves
from smolvla_ros.learn.dataset import DatasetWriter
from smolvla_ros.learn.memory_dataset import MemoryDataset, keeps_out
from smolvla_ros.learn.models import make_vlm
from smolvla_ros.policy.loading import load_policy

SIZE = (48, 64)  # height, width
LENGTHS = (20, 1, 9)  # frames an episode; chunks have 8 rows
CHUNK = 8
STEPS = 12
RATE = 10


def write_dataset(folder: Path, cameras=(FRONT, WRIST), video: bool = False, fps=RATE) -> Path:
    cell, _ = tabletop()
    rng = np.random.default_rng(0)
    writer = DatasetWriter(
        folder,
        fps=fps,
        joints=cell.vla.joint_order,
        cameras=dict.fromkeys(cameras, SIZE),
        robot_type="so101",
        units={name: cell.vla.joint_map[name].unit for name in cell.vla.joint_order},
        video=video,
    )
    for number, length in enumerate(LENGTHS):
        for _ in range(length):
            state, action = (rng.normal(MEAN, STD).clip(MEAN - STD, MEAN + STD) for _ in "sa")
            pictures = {c: rng.integers(0, 256, (*SIZE, 3), np.uint8) for c in cameras}
            writer.add(pictures, state, action, f"touch the {('red', 'blue')[number % 2]} block")
        writer.keep()
    writer.close()
    return folder


def write_checkpoint(folder: Path) -> Path:
    """A SmolVLA with random weights and no statistics, as a first stage of training has it."""
    make_vlm(folder / "vlm")
    vlm = json.loads((folder / "vlm" / "config.json").read_text())
    pixels = vlm["vision_config"]["image_size"]
    config = SmolVLAConfig(
        input_features={
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(6,)),
            FRONT: PolicyFeature(type=FeatureType.VISUAL, shape=(3, *SIZE)),
            WRIST: PolicyFeature(type=FeatureType.VISUAL, shape=(3, *SIZE)),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(6,))},
        device="cpu",
        push_to_hub=False,
        vlm_model_name=str(folder / "vlm"),
        freeze_vision_encoder=False,
        train_expert_only=False,
        num_vlm_layers=2,
        resize_imgs_with_padding=(pixels, pixels),
        chunk_size=CHUNK,
        n_action_steps=CHUNK,
        num_steps=2,
        max_state_dim=6,
        max_action_dim=6,
    )
    torch.manual_seed(0)
    policy = SmolVLAPolicy(config)
    parts = make_smolvla_pre_post_processors(config, None)
    step = next(s for s in parts[0].steps if isinstance(s, TokenizerProcessorStep))
    policy.config.vlm_model_name = step.tokenizer_name = "vlm"
    for part in (policy, *parts):
        part.save_pretrained(folder)
    return folder


def command(*words: object) -> list[str]:
    """A subprocess: the trainer takes the whole process for itself."""
    return [sys.executable, "-m", "smolvla_ros.cli.main", "train", *map(str, words)]


def run(*words: object) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(command(*words), capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("start") / "start")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset") / "blocks")


@pytest.fixture(scope="module")
def recipe(start, dataset) -> list[object]:
    return [
        "--dataset", dataset, "--from", start, "--steps", STEPS, "--batch-size", 4,
        "--threads", 1, "--seed", 3,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, recipe) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    done = run(*recipe, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"step {STEPS}/{STEPS}  loss " in done.stderr
    assert "steps/s" in done.stderr and "min left" in done.stderr
    return out


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("episodes", [None, [0, 2]])
def test_memory_gives_what_lerobot_gives(tmp_path, video, episodes) -> None:
    folder = write_dataset(tmp_path / "set", cameras=(FRONT,), video=video)
    steps = [i / RATE for i in range(CHUNK)]
    theirs = LeRobotDataset(
        "local/set",
        root=folder,
        episodes=episodes,
        # A SmolVLA asks for these; -1 tries the other end of an episode as well.
        delta_timestamps={"action": steps, "observation.state": [-1 / RATE, 0.0], FRONT: [0.0]},
        return_uint8=True,
        video_backend="pyav",
    )
    assert keeps_out(theirs) is None
    ours = MemoryDataset(theirs)
    assert len(ours) == len(theirs) == (sum(LENGTHS) if episodes is None else 29)
    together = ours.__getitems__(list(range(len(ours))))
    padded = 0
    for index in range(len(theirs)):
        wanted = theirs[index]
        padded += int(wanted["action_is_pad"].any())
        for item in (ours[index], together[index]):
            assert item.keys() == wanted.keys()
            for key, value in wanted.items():
                found = item[key]
                if isinstance(value, str):
                    assert found == value
                    continue
                if found.dtype == torch.uint8 and value.dtype != torch.uint8:
                    found = found.to(dtype=torch.float32) / 255.0  # as LeRobot's trainer does
                assert found.dtype == value.dtype and found.shape == value.shape, key
                assert torch.equal(found, value), (index, key)
    assert padded >= CHUNK - 1  # episodes' ends were among them
    for name in ("episodes", "num_frames", "num_episodes", "absolute_to_relative_idx"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_what_does_not_fit_into_memory_stays_on_disk(tmp_path, monkeypatch) -> None:
    import psutil

    folder = write_dataset(tmp_path / "set", cameras=(FRONT,))
    free = psutil.virtual_memory()._replace(available=2 << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    why = keeps_out(LeRobotDataset("local/set", root=folder))
    assert why is not None and "0.0 GB are free" in why


def test_what_comes_out_is_whole_and_loads_everywhere(trained, start) -> None:
    folder = trained / "policy"
    assert json.loads((folder / "config.json").read_text())["vlm_model_name"] == "vlm"
    for file in (f for f in folder.rglob("*") if f.is_file()):
        for path in (trained, start):
            assert str(path).encode() not in file.read_bytes(), file
    before, after = ((d / "model.safetensors").read_bytes() for d in (start, folder))
    assert len(before) == len(after) and before != after
    moved = trained.parent / "elsewhere"
    folder.rename(moved)
    try:
        _loads_in_lerobot(moved)
        _loads_in_the_runtime(moved)
    finally:
        moved.rename(folder)


def _loads_in_lerobot(folder: Path) -> None:
    config = PreTrainedConfig.from_pretrained(folder)
    config.vlm_model_name = f"{folder}/vlm"
    policy = SmolVLAPolicy.from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(
        config,
        pretrained_path=str(folder),
        preprocessor_overrides={"tokenizer_processor": {"tokenizer_name": f"{folder}/vlm"}},
    )
    picture = torch.zeros(3, *SIZE)
    batch = before(
        {
            "observation.state": torch.tensor(MEAN, dtype=torch.float32),
            FRONT: picture,
            WRIST: picture,
            "task": "touch the red block",
        }
    )
    chunk = after(policy.predict_action_chunk(batch))
    assert chunk.shape == (1, CHUNK, 6)
    # In degrees, by the dataset's statistics: z-scores would all be near 0.
    assert abs(float(chunk[0, :, 3].mean()) - MEAN[3]) < 4 * STD[3]
    assert abs(float(chunk[0, :, 3].mean())) > 10


def _loads_in_the_runtime(folder: Path) -> None:
    cell, robot = tabletop()
    config = replace(cell.vla, checkpoint=str(folder), chunk_rate=float(RATE), period=0.2)
    policy = load_policy(config, robot, load_joint_map(config, robot, cell.path), cell.path)
    assert policy.checkpoint.chunk_size == CHUNK
    assert policy.checkpoint.statistics("action")["mean"] == pytest.approx(MEAN, abs=10)


def test_metrics_and_curves(trained) -> None:
    rows = curves.read(trained / "metrics.jsonl")
    assert [row["steps"] for row in rows] == list(range(1, STEPS + 1))
    assert all(row["loss"] > 0 and row["seconds"] > 0 for row in rows)
    with Image.open(trained / "curves.png") as picture:
        assert picture.width > 500
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50  # something is drawn
    assert "Creating policy" in (trained / "train.log").read_text()
    # A line that a crash cut short is no row.
    cut = trained / "cut.jsonl"
    cut.write_text((trained / "metrics.jsonl").read_text()[:-5])
    assert len(curves.read(cut)) == STEPS - 1


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(trained, recipe, tmp_path) -> None:
    out = tmp_path / "out"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command(*recipe, "--out", out), stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stderr:
            if f"step 8/{STEPS}" in line:
                process.kill()
                break
    assert process.returncode == -9
    assert not (out / "policy").exists()
    saved = (out / "run" / "checkpoints" / "last").resolve()
    assert 4 <= int(saved.name) <= 8
    moved = out.rename(tmp_path / "moved")
    done = run("--resume", "--out", moved)
    assert done.returncode == 0, done.stderr
    assert f"going on after step {int(saved.name)} of {STEPS}" in done.stderr
    whole, resumed = (curves.read(d / "metrics.jsonl") for d in (trained, moved))
    assert [row["steps"] for row in resumed] == list(range(1, STEPS + 1))
    assert [row["loss"] for row in resumed] == [row["loss"] for row in whole]
    assert (moved / "policy" / "model.safetensors").read_bytes() == (
        trained / "policy" / "model.safetensors"
    ).read_bytes()


def test_a_run_killed_before_anything_was_saved_starts_anew(trained, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained, out, ignore=shutil.ignore_patterns("checkpoints", "policy"))
    done = run("--resume", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "starting anew" in done.stderr
    assert [row["steps"] for row in curves.read(out / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert (out / "policy" / "model.safetensors").read_bytes() == (
        trained / "policy" / "model.safetensors"
    ).read_bytes()


def test_minutes_bound_the_steps(recipe, tmp_path) -> None:
    out = tmp_path / "out"
    words = [10_000 if word == STEPS else word for word in recipe]
    done = run(*words, "--out", out, "--minutes", 0.12)
    assert done.returncode == 0, done.stderr
    made = json.loads((out / "recipe.json").read_text())["steps"]
    assert 1 <= made < 5_000
    summary = json.loads((out / "summary.json").read_text())
    assert summary["steps"] == made and summary["seconds"] < 60


def refusal(capsys, *words: object) -> list[str]:
    assert main(["train", *map(str, words)]) == 2
    return capsys.readouterr().err.strip().splitlines()


def test_another_dataset_is_refused_with_each_difference(start, dataset, tmp_path, capsys) -> None:
    one = write_dataset(tmp_path / "one", cameras=(FRONT,), fps=5)
    out = tmp_path / "out"
    lines = refusal(capsys, "--dataset", one, "--from", start, "--out", out, "--cell", TABLETOP)
    said = "\n".join(lines)
    assert all(line.startswith("error: ") for line in lines)
    assert f"cameras are {FRONT} 48x64; {start} has {FRONT} 48x64, {WRIST} 48x64" in said
    assert "rate: 5 Hz, the cell has" in said
    assert not out.exists()
    info = dataset / "meta" / "info.json"
    text = info.read_text()
    document = json.loads(text)
    names = document["features"]["action"]["names"]
    names[0], names[1] = names[1], names[0]
    document["features"]["observation.state"]["shape"] = [7]
    document["features"]["observation.state"]["names"] = [*sorted(names), "more.pos"]
    try:
        info.write_text(json.dumps(document))
        said = "\n".join(refusal(
            capsys, "--dataset", dataset, "--from", start, "--out", out, "--cell", TABLETOP
        ))  # fmt: skip
    finally:
        info.write_text(text)
    assert f"observation.state has 7 numbers, {start} has 6" in said
    assert "joint order of action: shoulder_lift, shoulder_pan" in said


def test_nothing_is_written_over_and_nothing_guessed(
    trained, start, dataset, tmp_path, capsys
) -> None:
    same = ["--dataset", dataset, "--from", start]
    assert "not empty, nothing is written over" in refusal(capsys, *same, "--out", trained)[0]
    said = refusal(capsys, "--resume", "--out", trained, "--steps", 500)
    assert said == [
        f"error: {trained}: steps of this run is {STEPS}, not 500; leave it out to go on"
    ]
    out = tmp_path / "new"
    assert "no recipe.json" in refusal(capsys, "--resume", "--out", out)[0]
    said = refusal(capsys, "--out", out, "--steps", 0)
    assert said[0] == "error: --steps: is 0; write more than 0"
    assert "--dataset: is needed" in said[1] and "--from: is needed" in said[2]
    said = refusal(capsys, *same, "--out", out, "--", "--output_dir=x")
    assert said == ["error: --output_dir: give it to smolvla-ros train as --out"]
    assert "is no LeRobotDataset" in refusal(capsys, *same[2:], "--dataset", out, "--out", out)[0]
    assert "is no folder" in refusal(capsys, *same[:2], "--from", out, "--out", out)[0]
    assert not out.exists()


def test_the_card_says_what_was_done_and_measured(trained, start, tmp_path) -> None:
    text = (trained / "policy" / "README.md").read_text()
    assert "3 episodes, 30 frames at 10 Hz" in text and "Not evaluated yet." in text
    assert f"{STEPS} steps of 4 frames, seed 3" in text
    assert "`shoulder_pan`, `shoulder_lift`" in text
    shares = {"n": 50, "success": 0.98, "ci95": [0.895, 0.9965], "wrong_colour": 0.0}
    results = tmp_path / "results.json"
    results.write_text(json.dumps({
        "tasks": {"touch": shares | {"seconds_p50": 2.5, "colours": {"red": shares}}},
        "language": {"no_block": {"n": 50, "touched_any": 0.04, "ci95": [0.01, 0.13]}},
        "limit_violations": 0,
        "clearance_breaches": 0,
    }))  # fmt: skip
    left = start / "stage_one.json"
    left.write_text(json.dumps({"views": 48000}))
    card.main(["--run", str(trained), "--out", str(tmp_path / "first.md")])
    assert "| views | 48000 |" in (tmp_path / "first.md").read_text()
    left.unlink()
    before = tmp_path / "before.json"
    before.write_text(json.dumps({"scenes": 4000}))
    out = tmp_path / "README.md"
    card.main([
        "--run", str(trained), "--evaluation", str(results), "--before", str(before),
        "--title", "A SmolVLA that touches", "--out", str(out),
    ])  # fmt: skip
    text = out.read_text()
    assert "# A SmolVLA that touches" in text and "| scenes | 4000 |" in text
    assert "| touch | all | 50 | 98.0 % | 89.5 to 99.7 | 0.0 % | 2.5 |" in text
    assert "touched in 4.0 % of 50 scenes" in text
