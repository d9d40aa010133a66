"""The tabletop as gymnasium and LeRobot see it."""

from __future__ import annotations

import os
import warnings

import gymnasium
import numpy as np
import pytest
from cells import ROOT, TABLETOP
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lerobot.configs import FeatureType, PreTrainedConfig
from lerobot.configs.parser import load_plugin
from lerobot.envs import close_envs, make_env, make_env_pre_post_processors
from lerobot.envs.factory import make_env_config
from lerobot.envs.utils import env_to_policy_features
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.scripts.lerobot_eval import eval_policy_all

from smolvla_ros.cell import load_cell
from smolvla_ros.cli.judge import judge
from smolvla_ros.learn import tabletop_env
from smolvla_ros.learn.evaluate import FastEpisodes, Setup
from smolvla_ros.learn.expert import Blocks, Expert
from smolvla_ros.learn.tasks import Task
from smolvla_ros.learn.trials import HELD_OUT, plan
from smolvla_ros.schema import ConfigError

SEED = 61000


@pytest.fixture(scope="module")
def env():
    env = gymnasium.make(tabletop_env.ID, render_mode="rgb_array")
    yield env
    env.close()


class ByExpert:
    """Actions of the scripted expert, in the policy's units, a step at a time."""

    def __init__(self, env):
        self._loop, self._dt = env.unwrapped._loop, 1.0 / env.metadata["render_fps"]
        self._expert = Expert(self._loop.robot, self._loop.world.scene.servo.kp)
        self._task = Task(*env.unwrapped.task.split())

    def __call__(self) -> np.ndarray:
        loop = self._loop
        rows = self._expert.plan(
            self._task, loop.world.joint_positions(), loop.setpoint, Blocks.of(loop.world), 2,
            self._dt,
        )  # fmt: skip
        order = [loop.robot.names.index(n) for n in loop.joint_map.names]
        return loop.joint_map.to_policy(rows[1][order]).astype(np.float32)


def test_gymnasiums_own_checks_pass(env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of spaces that are no [-1, 1]
        check_env(env.unwrapped)


@pytest.mark.parametrize("seed", [SEED, SEED + 1], ids=["touch", "pick"])
def test_who_knows_the_way_succeeds(env, seed) -> None:
    _, info = env.reset(seed=seed)
    assert info["scene"] == seed and not info["is_success"]
    act, rewards, over = ByExpert(env), [], False
    while not over:
        seen, reward, over, truncated, info = env.step(act())
        rewards.append(reward)
        assert not truncated
    assert info["is_success"] and info["stopped"] == ""
    assert rewards[-1] == 1.0 and sum(rewards) == 1.0
    assert env.observation_space.contains(seen)
    np.testing.assert_array_equal(env.render(), next(iter(seen["pixels"].values())))


def test_a_seed_is_the_scene_and_the_words_of_the_evaluation(env) -> None:
    env.reset(seed=SEED)
    blocks = env.unwrapped._loop.world.block_names
    trial = plan([SEED], blocks)[0]
    assert env.get_wrapper_attr("task_description") == trial.instruction
    assert env.get_wrapper_attr("task") == f"{trial.task.kind} {trial.task.block}"
    here = [env.unwrapped._loop.world.block_position(b) for b in blocks]
    other = FastEpisodes(Setup(load_cell(TABLETOP), source="expert"))
    other._loop.reset(SEED)
    np.testing.assert_array_equal(here, [other._loop.world.block_position(b) for b in blocks])


def test_without_a_seed_no_held_out_scene_comes(env) -> None:
    scenes = [env.reset()[1]["scene"] for _ in range(5)]
    assert len(set(scenes)) == 5 and max(scenes) < HELD_OUT


def test_actions_go_through_the_gate(env) -> None:
    """Straight down through the table: what the arm is sent keeps the promise."""
    seen, _ = env.reset(seed=SEED)
    loop = env.unwrapped._loop
    sent, step = [loop.setpoint.copy()], loop.step

    def recorded():
        output = step()
        sent.append(loop.setpoint.copy())
        return output

    start = seen["agent_pos"]
    down = {"shoulder_lift": 60.0, "elbow_flex": 30.0, "wrist_flex": 40.0}
    goal = [down.get(n, q) for n, q in zip(loop.joint_map.names, start, strict=True)]
    loop.step = recorded
    try:
        for share in np.minimum(np.linspace(0.0, 1.5, 45), 1.0):
            env.step((start + share * (goal - start)).astype(np.float32))
    finally:
        loop.step = step
    found = judge(loop.robot, loop.cell.safety_monitor, np.array(sent), loop.dt)
    assert found.limit_violations == found.clearance_breaches == 0
    assert loop.gate.checks["keep_out"] > 0  # it was needed


def test_success_reaches_a_vector_environment_as_lerobot_reads_it() -> None:
    def make():
        return gymnasium.make(tabletop_env.ID, task="touch", disable_env_checker=True)

    vector = SyncVectorEnv([make], autoreset_mode=AutoresetMode.SAME_STEP)
    vector.reset(seed=[SEED])
    inner, done = vector.envs[0], [False]
    act = ByExpert(inner)
    while not done[0]:
        _, _, done, _, info = vector.step(act()[None])
    assert bool(info["final_info"]["is_success"][0])
    vector.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"task": "push"}, "task: is 'push'; write touch or pick"),
        ({"gate": "of"}, "gate: 'of' is none; write one of on, off, shadow"),
        ({"cell": "none.yaml"}, "none.yaml: no such file"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said) -> None:
    with pytest.raises(ConfigError, match=said):
        tabletop_env.TabletopEnv(**arguments)


def test_lerobots_evaluation_runs_on_it(monkeypatch, tmp_path) -> None:
    """What lerobot-eval does with --env.type=smolvla_ros_tabletop and the shipped policy."""
    load_plugin("smolvla_ros.learn.tabletop_env")
    config = make_env_config("smolvla_ros_tabletop", task="touch", episode_length=6)
    features = env_to_policy_features(config)
    folder = ROOT / "models" / "so101_tabletop"
    monkeypatch.chdir(folder)  # the checkpoint names its language model relative to itself
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    policy_config = PreTrainedConfig.from_pretrained(".")
    policy_config.pretrained_path, policy_config.device = folder, "cpu"
    assert set(policy_config.input_features) <= set(features)
    assert features["action"].type is FeatureType.ACTION
    environments = make_env(config, n_envs=1)
    policy = make_policy(policy_config, env_cfg=config)
    before, after = make_pre_post_processors(
        policy_config, pretrained_path=".",
        preprocessor_overrides={"device_processor": {"device": "cpu"}},
    )  # fmt: skip
    env_before, env_after = make_env_pre_post_processors(config, policy_config)
    found = eval_policy_all(
        environments, policy, env_before, env_after, before, after, 2,
        max_episodes_rendered=1, videos_dir=tmp_path, start_seed=SEED,
    )  # fmt: skip
    close_envs(environments)
    assert found["overall"]["n_episodes"] == 2
    assert 0.0 <= found["overall"]["pc_success"] <= 100.0
    assert len(list(tmp_path.rglob("*.mp4"))) == 1
