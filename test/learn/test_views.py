"""Views to ground on: consistent with themselves, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from smolvla_ros.learn.loop import CellLoop
from smolvla_ros.learn.tasks import COLOURS, TASKS
from smolvla_ros.learn.views import Viewer, Views, make_views
from smolvla_ros.policy.images import to_tensor

COUNT = 60


@pytest.fixture(scope="module")
def viewer(tabletop):
    loop = CellLoop(tabletop, "off")
    yield Viewer(loop, rows=16, dt=0.1, pixels=64)
    loop.close()


@pytest.fixture(scope="module")
def views(viewer) -> Views:
    return viewer.make(range(72000, 72000 + COUNT))


def test_every_task_and_colour_occurs(views):
    assert set(views.task) == {-1, *range(len(TASKS))}
    assert set(views.named) == {-1, *range(len(COLOURS))}
    assert ((views.task == -1) == (views.named == -1)).all()


def test_a_plan_starts_near_the_state_and_moves_at_most_at_the_experts_speed(views, tabletop):
    off = np.abs(views.actions[:, 0] - views.state)
    # Sag of the servos, and a jaw that is on its way or presses.
    assert off[:, :5].max() < 4.0 and off[:, 5].max() < 8.0
    assert np.abs(np.diff(views.actions, axis=1)).max() < 8.0


def test_told_nothing_the_plan_is_to_stay(views):
    stays = views.actions[views.task == -1]
    assert np.abs(stays - stays[:, :1]).max() < 1.0


def test_blocks_lie_on_the_table_but_for_one_that_is_gripped(views):
    resting = np.isclose(views.blocks[..., 2], 0.0126, atol=0.002)
    assert (resting.sum(axis=1) >= 2).all()


def test_pictures_are_scaled_as_the_policy_scales_them(viewer):
    from lerobot.policies.common.vla_utils import resize_with_pad

    picture = np.random.default_rng(0).integers(256, size=(128, 128, 3), dtype=np.uint8)
    scaled = resize_with_pad(to_tensor(picture)[None], 64, 64, pad_value=0)[0]
    ours = viewer._shrink(picture).transpose(2, 0, 1) / 255.0
    assert np.abs(ours - scaled.numpy()).max() <= 0.5 / 255 + 1e-6


def test_the_same_seeds_make_the_same_views_in_whichever_process(views, tabletop, tmp_path):
    small = make_views(tabletop, tmp_path, 3, 2, rows=4, pixels=64)
    again = make_views(tabletop, tmp_path, 3, 2, rows=4, pixels=64)
    assert len(small) == 3
    assert (small.actions == again.actions).all()
    for name, pictures in small.images.items():
        assert (pictures == again.images[name]).all()
