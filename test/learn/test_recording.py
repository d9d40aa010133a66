"""Training and deployment see the same numbers: one stream of bytes, both ways."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from cells import tabletop
from lerobot.datasets import LeRobotDataset
from PIL import Image

pytest.importorskip("rosbags", reason="the extra bags is not installed")

import bags
import checkpoints
from bags import BEGIN

from smolvla_ros.cell import RecorderConfig, load_joint_map
from smolvla_ros.learn.recording import Recording
from smolvla_ros.pictures import DECODERS
from smolvla_ros.policy.checkpoint import find_checkpoint, load_checkpoint
from smolvla_ros.policy.engine import LeRobotEngine
from smolvla_ros.policy.loading import make_streams
from smolvla_ros.schema import ConfigError

FRONT, WRIST = checkpoints.FRONT, checkpoints.WRIST


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What LeRobot's reader keeps of every file it reads."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def cell():
    """The shipped cell with its wrist camera compressed."""
    cell, robot = tabletop()
    cameras = dict(cell.vla.cameras)
    cameras["wrist"] = replace(cameras["wrist"], transport="compressed")
    return replace(cell, vla=replace(cell.vla, cameras=cameras)), robot


@pytest.fixture(scope="module")
def engine(cell, tmp_path_factory):
    """A policy with every processor that training uses."""
    config, robot = cell
    base = tmp_path_factory.mktemp("policies")
    checkpoints.make("act", base / "act", (FRONT, WRIST), size=bags.SIZE)
    joint_map = load_joint_map(config.vla, robot, config.path)
    checkpoint = load_checkpoint(find_checkpoint("act", base))
    return LeRobotEngine(checkpoint, joint_map, 1.0 / config.vla.chunk_rate)


def jpeg(k: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(bags.pixels(k)).save(file, "JPEG", quality=80)
    return file.getvalue()


def feed(streams, k: int) -> None:
    """The k-th of everything, the same objects for whoever asks; the arm comes in two parts,
    and the wrist camera lags behind."""
    t = BEGIN + k / 20
    streams.put("front", t, bags.picture(t, 2 * k, "bgr8", padding=3))
    streams.put("wrist", t - 0.03, bags.compressed(t - 0.03, jpeg(2 * k + 1), "jpeg"))
    state = bags.joint_state(t - 0.01, bags.measured(k))
    for part in (slice(0, 2), slice(2, 6)):
        streams.put_joints(t - 0.01, state.name[part], state.position[part])


def test_a_recorded_frame_is_to_the_trainer_what_the_observation_was_to_the_policy(
    cell, engine, tmp_path
):
    config, robot = cell
    recording = Recording(config, RecorderConfig(out=str(tmp_path / "set")))
    live = make_streams(
        config.vla,
        SimpleNamespace(checkpoint=engine._checkpoint),
        load_joint_map(config.vla, robot, config.path),
        DECODERS,
    )
    episodes, dt = recording.episodes, 1.0 / config.vla.chunk_rate
    episodes.start()
    shown, now = [], BEGIN
    for k in range(1, 60):
        for streams in (live, recording.streams):
            streams.set_instruction("touch the red block")
            feed(streams, k)
        recording.sent.put(0.0, bags.setpoint(BEGIN + k / 20 - 0.035, bags.sent(k)))
        recording.sent.put(0.0, bags.setpoint(BEGIN + k / 20 - 0.001, bags.sent(k) + 1.0))
        while now <= BEGIN + k / 20 + 0.04:
            episodes.tick(now)
            observation = live.gather(now)
            if episodes.frames > len(shown):
                shown.append((k, observation))
            now += dt
    assert episodes.keep() == len(shown) >= 25
    episodes.close()
    found = LeRobotDataset("local/test", root=tmp_path / "set")
    sent_way = load_joint_map(config.vla, robot, config.path)
    for i, (k, observation) in enumerate(shown):
        item = found[i]
        seen = {key: item[key] for key in (FRONT, WRIST, "observation.state", "task")}
        trained = engine._checkpoint.preprocess(seen)
        acted = engine._batch(observation)
        for key in (FRONT, WRIST, "observation.state"):
            assert trained[key].dtype == acted[key].dtype == torch.float32
            assert torch.equal(trained[key], acted[key]), key
        assert trained["task"] == acted["task"]
        # Row 0 of a chunk is meant for the observation's stamp, the oldest stream's.
        assert observation.stamp == pytest.approx(BEGIN + k / 20 - 0.03)
        np.testing.assert_array_equal(
            item["action"].numpy(), sent_way.to_policy(bags.sent(k)).astype(np.float32)
        )
        assert np.abs(item[FRONT].numpy()).max() > 0.5


def test_what_cannot_be_recorded_is_said_before_anything_is(cell, tmp_path):
    config, _ = cell
    with pytest.raises(ConfigError, match=r"recorder.out: missing"):
        Recording(config, RecorderConfig())
    with pytest.raises(ConfigError, match=r"no section /\*\*/vla, /\*\*/safety_monitor"):
        Recording(replace(config, vla=None, safety_monitor=None), RecorderConfig(out="x"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("keep me")
    with pytest.raises(ConfigError, match="nothing is written over"):
        Recording(config, RecorderConfig(out=str(tmp_path / "there")))
    with pytest.raises(ConfigError, match="there is no dataset to resume"):
        Recording(config, RecorderConfig(out=str(tmp_path / "nowhere"), resume=True))
    assert not (tmp_path / "nowhere").exists()


def test_what_the_arm_follows_is_recorded_in_shadow_mode_too(cell, tmp_path):
    config, _ = cell
    monitor = replace(config.safety_monitor, shadow=True)
    recording = Recording(
        replace(config, safety_monitor=monitor), RecorderConfig(out=str(tmp_path / "set"))
    )
    assert recording.sent_topic == "arm/joint_trajectory"
