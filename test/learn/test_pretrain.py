"""Stage one, end to end on a few views: it learns, goes on after a kill, and loads anywhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

from smolvla_ros.cli.main import main
from smolvla_ros.learn import pretrain
from smolvla_ros.learn.models import CAMERAS, SMALL
from smolvla_ros.learn.pretrain import MASK, TOKENS, Pretraining, Recipe
from smolvla_ros.learn.tasks import COLOURS, TASKS
from smolvla_ros.learn.views import Views
from smolvla_ros.policy.checkpoint import find_checkpoint, load_checkpoint

COUNT = 320


@pytest.fixture(scope="module")
def views() -> Views:
    """Made up: the pictures' brightness is the chunk, so there is something to learn."""
    draw = np.random.default_rng(0)
    level = draw.uniform(0.0, 1.0, COUNT)
    pictures = np.broadcast_to(
        (level * 255).astype(np.uint8)[:, None, None, None], (COUNT, 64, 64, 3)
    ).copy()
    actions = np.repeat((20 * level)[:, None, None], SMALL.chunk, 1).repeat(6, 2)
    return Views(
        dict.fromkeys(CAMERAS, pictures),
        draw.normal(0.0, 10.0, (COUNT, 6)).astype(np.float32),
        (actions + draw.normal(0.0, 0.1, actions.shape)).astype(np.float32),
        draw.normal(0.0, 0.1, (COUNT, 3, 3)).astype(np.float32),
        draw.integers(-1, len(TASKS), COUNT),
        np.zeros(COUNT, int),
    )


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def labelled(views) -> Views:
    named = np.where(views.task < 0, -1, np.arange(COUNT) % len(COLOURS))
    return Views(views.images, views.state, views.actions, views.blocks, views.task, named)


def test_the_loss_falls(labelled, tmp_path):
    recipe = Recipe(steps=12, batch=8)
    work = Pretraining(labelled, tmp_path / "out", recipe, lambda line: None, every=4)
    assert work.run()
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").open()]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_a_run_that_goes_on_ends_where_a_whole_one_ends(labelled, tmp_path):
    recipe = Recipe(steps=8, batch=8)
    whole = Pretraining(labelled, tmp_path / "whole", recipe, lambda line: None, every=4)
    whole.run()
    first = Pretraining(labelled, tmp_path / "parts", recipe, lambda line: None, every=4)

    def stop_after_four(line: str) -> None:
        raise KeyboardInterrupt

    first._say = stop_after_four
    with pytest.raises(KeyboardInterrupt):
        first.run()
    first.save_progress()
    second = Pretraining(labelled, tmp_path / "parts", recipe, lambda line: None, every=4)
    second.load_progress()
    assert second.step == 4
    assert second.run()
    for name, value in whole.policy.state_dict().items():
        torch.testing.assert_close(second.policy.state_dict()[name], value, msg=name)


def test_progress_of_another_recipe_is_refused(labelled, tmp_path):
    work = Pretraining(labelled, tmp_path, Recipe(steps=8, batch=8), lambda line: None)
    work.save_progress()
    other = Pretraining(labelled, tmp_path, Recipe(steps=9, batch=8), lambda line: None)
    with pytest.raises(ValueError, match=r"was begun with .*'steps': 8"):
        other.load_progress()


def test_words_are_those_of_lerobots_own_preprocessor(labelled, tmp_path):
    work = Pretraining(labelled, tmp_path, Recipe(steps=1, batch=8), lambda line: None)
    tokens, mask = work._words.draw(np.array([1]), np.array([2]), np.random.default_rng(0))
    words = tokens[0][mask[0]]
    step = pretrain._tokenizing(work._preprocess)
    text = step.input_tokenizer.decode(words)
    assert text.endswith("\n")
    observation = {camera: torch.zeros(3, 128, 128) for camera in CAMERAS}
    observation |= {"observation.state": torch.zeros(6), "task": text.rstrip("\n")}
    seen = work._preprocess(observation)
    assert seen[TOKENS][0].tolist() == words.tolist()
    assert seen[MASK].all()


def test_what_is_written_loads_in_lerobot_and_here(labelled, tmp_path):
    out = tmp_path / "out"
    work = Pretraining(labelled, out, Recipe(steps=2, batch=8), lambda line: None)
    work.run()
    learned = {n: v.clone() for n, v in work.policy.state_dict().items()}
    work.finish()
    assert not (out / "progress.pt").exists()
    assert not any(str(tmp_path).encode() in f.read_bytes() for f in out.rglob("*") if f.is_file())
    config = PreTrainedConfig.from_pretrained(out)
    config.vlm_model_name = str(out / "vlm")
    plain = SmolVLAPolicy.from_pretrained(out, config=config)
    for name, value in plain.state_dict().items():
        assert (learned[name] == value).all(), name
    checkpoint = load_checkpoint(find_checkpoint(str(out), tmp_path))
    assert checkpoint.chunk_size == SMALL.chunk


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "0"], "--steps: is 0; write 1 or more"),
        (["--threads", "-1"], "--threads: is -1; write 1 or more"),
    ],
)
def test_wrong_numbers_are_refused(words, said, tmp_path, capsys):
    assert main(["pretrain", "--out", str(tmp_path / "new"), *words]) == 2
    assert said in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path, capsys):
    (tmp_path / "mine").write_text("x")
    assert main(["pretrain", "--out", str(tmp_path)]) == 2
    assert "is there and not empty; --resume goes on with it" in capsys.readouterr().err


def test_the_command_goes_on_after_a_kill(tmp_path):
    out = tmp_path / "out"
    words = ["--out", str(out), "--views", "330", "--batch-size", "8", "--threads", "1"]
    words += ["--steps", "40", "--save-every", "20"]
    command = [sys.executable, "-m", "smolvla_ros.cli.main", "pretrain", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while not (out / "progress.pt").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    done = subprocess.run([*command, "--resume"], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on after step" in done.stderr
    assert (out / "model.safetensors").is_file()
