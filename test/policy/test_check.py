"""A checkpoint against a cell: each difference is a finding that says what to change."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pytest
from checkpoints import FRONT, MEAN, STD, WRIST, make

from smolvla_ros.cell import CameraConfig, JointMapEntry, load_cell, load_robot
from smolvla_ros.finding import errors
from smolvla_ros.policy import resources, units
from smolvla_ros.policy.check import check, examine, load_checked
from smolvla_ros.policy.checkpoint import CheckpointError, load_checkpoint
from smolvla_ros.robot import JointUnit
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

CELL = share("config", "so101_tabletop.yaml")


@pytest.fixture(scope="module")
def config():
    return load_cell(CELL).vla


@pytest.fixture(scope="module")
def robot(config):
    return load_robot(config.robot, CELL)


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    """An ACT that fits the shipped cell, with 20 rows a chunk and a fixed picture size."""
    folder = tmp_path_factory.mktemp("act")
    return load_checkpoint(make("act", folder, cameras=(FRONT, WRIST)))


def camera(feature: str) -> CameraConfig:
    return CameraConfig(topic="side/image_raw", feature=feature)


def lines(findings, level: str = "error") -> list[str]:
    return [str(f) for f in findings if f.level == level]


def test_the_shipped_cell_and_checkpoint_fit_without_a_doubt(loaded, config, robot) -> None:
    found = check(loaded, config, robot)
    assert {f.level for f in found} == {"ok"}
    said = {f.subject: f.text for f in found}
    assert loaded.hash in said["checkpoint"]
    assert said["tokenizer"].endswith("vlm")
    assert said["cameras.front"] == (f"front/image_raw (raw) feeds {FRONT}, 128x128, or resized")
    assert said["chunk_rate"].startswith("16 rows at 10 Hz") and "1.60 s" in said["chunk_rate"]
    assert said["chunking"] == "real-time chunking"
    assert "2.1 M parameters" in said["memory"]
    # The range of the data, in radians.
    actions = loaded.statistics("action")
    mean, std = (math.radians(actions[name][0]) for name in ("mean", "std"))
    assert f"{mean:.3g} ± {std:.3g} rad" in said["joint_map.shoulder_pan"]


def test_another_policy_fits_as_well_and_is_told_how_it_differs(act, config, robot) -> None:
    found = check(act, config, robot)
    assert errors(found) == []
    said = {f.subject: f.text for f in found}
    assert said["tokenizer"] == "none: it takes no instruction"
    assert said["cameras.wrist"].endswith("96x96, no other size")
    assert said["chunking"] == "blending"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"cameras": {"front": camera(FRONT), "wrist": camera("observation.images.hand")}},
            ["cameras.wrist.feature: the checkpoint knows no 'observation.images.hand'; it knows: "
             f"{FRONT}, {WRIST}",
             f"cameras: no camera feeds the checkpoint's {WRIST!r}; add one"],
        ),
        (
            {"cameras": {"front": camera(FRONT), "side": camera(FRONT), "w": camera(WRIST)}},
            [f"cameras: {FRONT!r} is fed by several cameras; one feature, one camera"],
        ),
        (
            {"joint_order": ["shoulder_pan"]},
            ["joint_order: has 1 joints; the checkpoint's state has 6 entries",
             "joint_order: has 1 joints; the checkpoint's action has 6 entries"],
        ),
        ({"period": 2.1}, ["period: is 2.1 s, but a chunk lasts 2.00 s; write a shorter one"]),
        ({"chunking": "rtc"}, ["chunking: is rtc, which act cannot do; write auto or blend"]),
    ],
    ids=["unknown_feature", "two_for_one", "joints", "period", "rtc"],
)  # fmt: skip
def test_a_cell_that_does_not_fit_is_told_each_difference(act, config, robot, changes, says):
    joint_map = {n: config.joint_map[n] for n in changes.get("joint_order", config.joint_map)}
    found = lines(check(act, replace(config, joint_map=joint_map, **changes), robot))
    assert len(found) == len(says)
    for line, wanted in zip(found, says, strict=True):
        assert line.startswith(wanted)


def test_a_horizon_longer_than_a_chunk_is_doubted(act, config, robot) -> None:
    found = check(act, replace(config, execution_horizon=21), robot)
    assert errors(found) == []
    assert lines(found, "warning")[0].startswith("execution_horizon: is 21 rows; a chunk has 20")


def test_joint_names_that_the_checkpoint_carries_are_compared(act, config, robot, monkeypatch):
    def given(names):
        monkeypatch.setattr(act.config, "action_feature_names", names, raising=False)
        return [f for f in check(act, config, robot) if f.subject == "joint_order"]

    order = list(config.joint_order)
    (same,) = given([f"{name}.pos" for name in order])
    assert same.level == "ok" and "as the checkpoint names them" in same.text
    (swapped,) = given([f"{name}.pos" for name in [order[1], order[0], *order[2:]]])
    assert swapped.level == "error" and "shoulder_lift, shoulder_pan" in swapped.text
    (other,) = given([f"motor_{i}" for i in range(6)])
    assert other.level == "warning"


def test_a_policy_without_state_needs_none(tmp_path, config, robot) -> None:
    folder = make("act", tmp_path / "act", cameras=(FRONT, WRIST), state=False)
    found = check(load_checkpoint(folder), config, robot)
    assert errors(found) == []
    assert "it is shown no state" in {f.subject: f.text for f in found}["joint_order"]


def test_what_nothing_in_a_cell_feeds_is_refused(act, config, robot, monkeypatch) -> None:
    state = act.config.input_features["observation.state"]
    wanted = act.config.input_features | {"observation.tactile": state}
    monkeypatch.setattr(act.config, "input_features", wanted)
    said = lines(check(act, config, robot))
    assert said == [
        "checkpoint: wants 'observation.tactile', which nothing in a cell feeds; take a policy of "
        "pictures, joint positions and words"
    ]


def test_several_observations_at_once_are_told(tmp_path, config, robot) -> None:
    folder = make("diffusion", tmp_path / "diffusion", cameras=(FRONT, WRIST))
    checkpoint = load_checkpoint(folder)
    found = check(checkpoint, replace(config, period=0.1, execution_horizon=4), robot)
    assert errors(found) == []
    assert {f.subject: f.text for f in found}["observations"] == "2 at once, 0.1 s apart"


# -- units ----------------------------------------------------------------------------------


def units_of(config, robot, mean=MEAN, std=STD, **entries):
    """Findings about joints, for data with these statistics and these changes of the map."""
    joint_map = config.joint_map | {n: JointMapEntry(**e) for n, e in entries.items()}
    data = {"action": {"mean": np.array(mean, float), "std": np.array(std, float)}}
    given = replace(config, joint_map=joint_map).units()
    return units.judge(given, robot.limits_by_name(), data)


def test_degrees_read_as_radians_are_refused_by_the_joint(config, robot) -> None:
    found = errors(units_of(config, robot, std=[50.0] * 6, shoulder_pan={"unit": "radians"}))
    (pan,) = [f for f in found if f.subject == "joint_map.shoulder_pan"]
    assert pan.text == (
        "as radians, the data's action lies at 0 ± 50 rad (m), the joint moves from -1.92 to 1.92"
    )
    assert pan.fix == "unit: degrees would fit"


def test_a_mean_where_the_joint_cannot_be_is_refused(config, robot) -> None:
    mean = MEAN.copy()
    mean[1] = -170.0  # as a calibration with another zero would have it
    (found,) = errors(units_of(config, robot, mean=mean))
    assert found.subject == "joint_map.shoulder_lift"
    assert "lies at -2.97 ± 0.262 rad (m)" in found.text
    assert "offset" in found.fix


def test_an_axis_the_other_way_round_is_told_where_it_alone_would_fit(config, robot) -> None:
    limits = robot.limits_by_name() | {"elbow_flex": (-2.0, 0.1)}
    mean = MEAN.copy()
    mean[2] = 70.0
    data = {"action": {"mean": mean, "std": STD}}
    (found,) = errors(units.judge(config.units(), limits, data))
    assert (found.subject, found.fix) == ("joint_map.elbow_flex", "sign: -1 would fit")


def test_a_calibration_some_degrees_off_is_no_error(config, robot) -> None:
    mean = MEAN + 10.0
    assert errors(units_of(config, robot, mean=mean)) == []


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        (np.radians(MEAN), np.radians(STD), "all of the data's action lies within 1.6 degrees"),
        (np.zeros(6), np.ones(6), "all of the data's action lies within 2 degrees"),
    ],
    ids=["radians", "normalised"],
)
def test_radians_and_z_scores_read_as_degrees_are_refused(config, robot, mean, std, says) -> None:
    found = errors(units_of(config, robot, mean=mean, std=std))
    assert [f.subject for f in found] == ["joint_map"]
    assert says in found[0].text and "unit: radians" in found[0].fix


def test_a_gripper_from_0_to_1_read_as_percent_is_doubted(config, robot) -> None:
    mean, std = MEAN.copy(), STD.copy()
    mean[5], std[5] = 0.5, 0.3
    found = units_of(config, robot, mean=mean, std=std)
    assert errors(found) == []
    assert [f.subject for f in found if f.level == "warning"] == ["joint_map.gripper"]


def test_minimum_and_maximum_judge_where_there_is_no_mean(config, robot) -> None:
    data = {"action": {"min": MEAN - 400, "max": MEAN + 400}}
    found = units.judge(config.units(), robot.limits_by_name(), data)
    assert len(errors(found)) == 6
    data = {"action": {"min": MEAN - STD, "max": MEAN + STD}}
    assert errors(units.judge(config.units(), robot.limits_by_name(), data)) == []


def test_a_joint_without_limits_is_not_judged_by_them(config) -> None:
    free = {"turn": (-np.inf, np.inf)}
    data = {"action": {"mean": np.array([900.0]), "std": np.array([500.0])}}
    assert errors(units.judge([JointUnit("turn", "degrees")], free, data)) == []


def test_data_without_statistics_are_doubted(config, robot) -> None:
    (found,) = units.judge(config.units(), robot.limits_by_name(), {"action": {}})
    assert found.level == "warning" and "no statistics" in found.text


def test_actions_far_from_the_states_are_doubted(config, robot) -> None:
    elsewhere = MEAN + np.array([60, -60, 60, -100, 90, 0])
    data = {
        "observation.state": {"mean": elsewhere, "std": STD / 10},
        "action": {"mean": MEAN, "std": STD / 10},
    }
    found = units.judge(config.units(), robot.limits_by_name(), data)
    assert errors(found) == []
    (doubt,) = lines(found, "warning")
    assert "actions lie far from its states (shoulder_pan, shoulder_lift, elbow_flex" in doubt


def test_wrong_units_keep_the_node_from_starting(shipped, config, robot) -> None:
    wrong = {n: JointMapEntry(unit="radians") for n in config.joint_map}
    changed = replace(config, joint_map=wrong, checkpoint=str(shipped))
    with pytest.raises(ConfigError) as caught:
        load_checked(changed, robot, CELL)
    assert len(caught.value.problems) == 6
    for line, name in zip(caught.value.problems, config.joint_order, strict=True):
        assert line.startswith(f"{CELL}: vla.joint_map.{name}: as radians")


# -- loading --------------------------------------------------------------------------------


def test_a_checkpoint_that_cannot_be_loaded_is_a_finding_a_line(config, robot) -> None:
    found = check(CheckpointError(["one", "two"]), config, robot)
    assert lines(found) == ["checkpoint: one", "checkpoint: two"]


def test_what_is_refused_names_file_key_and_fix(copy, config, robot) -> None:
    (copy / "policy_preprocessor.json").unlink()
    with pytest.raises(ConfigError, match=rf"^{CELL}: vla\.checkpoint: .* lacks policy_prep"):
        load_checked(replace(config, checkpoint=str(copy)), robot, CELL)


def test_a_folder_is_named_relative_to_the_cell(config, robot) -> None:
    checkpoint, findings = load_checked(config, robot, CELL)
    assert checkpoint.folder == share("models", "so101_tabletop")
    assert findings and errors(findings) == []


@pytest.mark.parametrize("device", ["cuda:63", "gpu", "mps"])
def test_a_device_that_is_not_there_is_named_before_anything_is_loaded(config, robot, device):
    # LeRobot would take another one and go on.
    checkpoint, found = examine(replace(config, device=device), robot, CELL)
    assert checkpoint is None
    assert len(found) == 1 and str(found[0]).startswith(f"device: {device!r} is no")


def test_more_weights_than_memory_are_not_loaded(copy, config, robot) -> None:
    os.truncate(copy / "model.safetensors", 10**13)  # with a hole; no disk holds it
    checkpoint, found = examine(replace(config, checkpoint=str(copy)), robot, CELL)
    assert checkpoint is None
    (said,) = lines(found)
    assert said.startswith("device: 10000000 MB of weights, but ")
    assert said.endswith(" MB are free on cpu; end what else takes memory")


def test_memory_is_that_of_this_process_and_machine() -> None:
    assert 10**8 < resources.resident_bytes() < 10**11
    assert resources.free_bytes("cpu") > 10**7
