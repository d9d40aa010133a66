"""Demonstrations: through the gate, whole, and what the policy would have seen."""

from __future__ import annotations

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset

from smolvla_ros.cli.main import main
from smolvla_ros.learn.dataset_format import check_dataset
from smolvla_ros.learn.loop import CellLoop
from smolvla_ros.learn.tasks import parse_task, training_texts

SEED = 73000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("demonstrations") / "data"
    assert main(["demonstrate", "--out", str(out), "--episodes", "4", "--seed", str(SEED)]) == 0
    return out


@pytest.fixture(scope="module")
def opened(dataset) -> LeRobotDataset:
    return LeRobotDataset("local/data", root=dataset)


def arrays(opened: LeRobotDataset) -> dict[str, np.ndarray]:
    columns = opened.hf_dataset.with_format("numpy")
    names = ("observation.state", "action", "episode_index")
    return {name: np.array(columns[name][:]) for name in names}


def test_it_is_a_lerobot_dataset_that_fits_the_cell(dataset, opened, tabletop):
    assert check_dataset(dataset, tabletop) == []
    assert opened.num_episodes == 4
    assert opened.fps == tabletop.vla.chunk_rate


def test_instructions_are_those_of_training(opened):
    assert set(opened.meta.tasks.index) <= set(training_texts())


def test_an_action_is_a_set_point_near_where_the_arm_is_and_goes_next(opened):
    columns = arrays(opened)
    state, action = columns["observation.state"], columns["action"]
    # Servos lag and sag, and a gripper that holds something presses.
    assert np.abs(action - state)[:, :5].max() < 12.0
    for index in range(opened.num_episodes):
        rows = columns["episode_index"] == index
        steps = np.abs(np.diff(action[rows], axis=0))
        assert 1.0 < steps.max() < np.degrees(1.5) * 0.1 + 0.5


def test_an_episode_ends_with_a_chunks_length_of_its_task_done(opened):
    columns = arrays(opened)
    for index, length in enumerate(opened.meta.episodes["length"]):
        text = opened.meta.episodes["tasks"][index][0]
        if parse_task(text) is None or length <= 16:
            continue
        rows = columns["episode_index"] == index
        assert np.abs(np.diff(columns["action"][rows][-14:], axis=0)).max() < 2.5


def test_pictures_are_those_of_the_scene(opened, tabletop):
    loop = CellLoop(tabletop)
    loop.reset(SEED)
    first = opened[0]["observation.images.front"].numpy().transpose(1, 2, 0) * 255.0
    seen = loop.observe("").images["observation.images.front"].astype(float)
    loop.close()
    # The arm may begin nearer to its block; table, blocks and light are the same.
    assert np.median(np.abs(first - seen)) <= 1.0


def test_nothing_is_written_over(dataset, capsys):
    assert main(["demonstrate", "--out", str(dataset), "--episodes", "1"]) == 2
    assert str(dataset) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--episodes", "0"], "--episodes: is 0"),
        (["--seed", "-1"], "--seed: is -1"),
        (["--seed", "99990"], "reach scene 100000"),
    ],
)
def test_wrong_numbers_are_refused(words, said, tmp_path, capsys):
    assert main(["demonstrate", "--out", str(tmp_path / "new"), *words]) == 2
    assert said in capsys.readouterr().err
