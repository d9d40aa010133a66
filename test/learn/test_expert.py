"""The scripted expert: where it reaches, what it plans, and that it does its tasks."""

from __future__ import annotations

import numpy as np
import pytest

from smolvla_ros.learn import expert as skill
from smolvla_ros.learn.evaluate import ExpertSource
from smolvla_ros.learn.expert import JAW, ROLL, Blocks, Expert
from smolvla_ros.learn.tasks import Task, wordings
from smolvla_ros.sim.judge import Judge

SCENES = 70000


@pytest.fixture(scope="module")
def expert(loop) -> Expert:
    return Expert(loop.robot, loop.world.scene.servo.kp)


def test_it_reaches_every_place_where_a_block_may_lie(expert, loop):
    area, surface = loop.world.scene.block_area, loop.world.scene.table.surface
    draw = np.random.default_rng(0)
    for _ in range(300):
        point = np.array([*draw.uniform(area.min, area.max), surface + draw.uniform(0.012, 0.085)])
        roll = draw.uniform(-0.8, 0.8)
        q = np.zeros(6)
        q[ROLL] = roll
        q[:4] = expert.reach(point, skill.TIP, roll)
        assert np.linalg.norm(expert.gripper(q).act(skill.TIP) - point) < 1e-5
        assert (q >= loop.robot.lower).all() and (q <= loop.robot.upper).all()


def test_out_of_reach_it_points_there_and_stays_inside_the_limits(expert, loop):
    q = np.zeros(6)
    q[:4] = expert.reach(np.array([0.6, 0.3, 0.1]), skill.TIP, 0.0)
    assert np.isfinite(q).all()
    tip = expert.gripper(q).act(skill.TIP)
    pan = loop.robot.model.jointPlacements[1].translation
    bearing = np.arctan2(*(np.array([0.6, 0.3]) - pan[:2])[::-1])
    assert np.arctan2(*(tip[:2] - pan[:2])[::-1]) == pytest.approx(bearing, abs=0.02)


def test_with_its_lead_the_servos_hold_where_they_should(expert, loop):
    loop.reset(SCENES)
    world = loop.world
    q = world.joint_positions()
    world.command(q + expert.sag(q), 0.0)
    world.step(2.0)
    # What is left is the friction in the joints.
    friction = world.scene.servo.frictionloss / world.scene.servo.kp
    assert np.abs(world.joint_positions() - q).max() < 1.5 * friction


def test_a_plan_goes_from_the_set_point_to_the_block_in_steps_of_its_speed(expert, loop):
    loop.reset(SCENES + 1)
    q = loop.world.joint_positions()
    blocks = Blocks.of(loop.world)
    plan = expert.plan(Task("touch", "green"), q, q, blocks, rows=60, dt=0.1)
    assert (plan[0] == q).all()
    assert np.abs(np.diff(plan, axis=0)).max() <= 0.1 * skill.SPEED + 1e-9
    top = blocks.poses["green"][0] + [0.0, 0.0, blocks.half["green"] + skill.TOUCH_HEIGHT]
    tip = expert.gripper(plan[-1] - expert.sag(plan[-1])).act(skill.TIP)
    assert np.linalg.norm(tip - top) < 0.002


def test_a_plan_to_pick_closes_and_then_brings_the_block_up(expert, loop):
    loop.reset(SCENES + 2)
    q = loop.world.joint_positions()
    blocks = Blocks.of(loop.world)
    plan = expert.plan(Task("pick", "red"), q, q, blocks, rows=150, dt=0.1)
    closing = int(np.argmax(plan[:, JAW] < skill.OPEN - 0.1 if plan[0, JAW] > 0.6 else
                            (np.arange(150) > 20) & (plan[:, JAW] < 0.4)))  # fmt: skip
    height = [expert.gripper(row).translation[2] for row in plan]
    assert closing > 0
    assert height[-1] > height[closing] + 0.05
    assert plan[-1, JAW] == pytest.approx(skill.GRIP, abs=0.01)


def test_told_to_stay_it_stays(expert, loop):
    loop.reset(SCENES)
    q = loop.world.joint_positions()
    assert (expert.target(None, q, Blocks.of(loop.world)) == q).all()


@pytest.mark.parametrize("kind", ["touch", "pick"])
def test_it_does_its_task_through_the_gate(kind, loop):
    done = 0
    for k, colour in enumerate(["red", "green", "blue"]):
        loop.reset(SCENES + 10 + k)
        source = ExpertSource(loop)
        judge = Judge(loop.world, kind, colour)
        text = wordings(Task(kind, colour))[0]
        while loop.time < 14.0 and not judge.look().over:
            source.step(text)
            loop.step()
        done += judge.judgement.success
        assert not loop.gate.refusals
    assert done >= 2
