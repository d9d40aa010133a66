"""smolvla-ros convert: bags into datasets."""

from __future__ import annotations

import io
import itertools
import resource
import signal
import sys

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from cells import TABLETOP, tabletop
from PIL import Image

pytest.importorskip("rosbags", reason="the extra bags is not installed")

import bags
from bags import BEGIN, StoragePlugin, run, told, without
from lerobot.datasets import LeRobotDataset

from smolvla_ros.cell import load_cell, load_joint_map
from smolvla_ros.cli.main import main
from smolvla_ros.learn.dataset import check_dataset, describe

FRONT, WRIST = "observation.images.front", "observation.images.wrist"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What LeRobot's reader keeps of every file it reads."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """The shipped cell at 10 Hz."""
    return changed(tmp_path_factory.mktemp("cell"))


def changed(folder, vla=None, recorder=None):
    document = yaml.safe_load(TABLETOP.read_text())
    shared = document["/**"]["ros__parameters"]["robot"]
    for name in ("urdf", "srdf"):
        shared[name] = str((TABLETOP.parent / shared[name]).resolve())
    document["/**/vla"]["ros__parameters"] |= {"chunk_rate": 10.0} | (vla or {})
    document["/**/recorder"]["ros__parameters"] |= recorder or {}
    path = folder / "cell.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture
def convert(tmp_path, cell, capsys):
    """Run the command: (exit code, what it said)."""

    def command(bag, *words, out="set", cell=cell):
        code = main(
            ["convert", str(bag), "--cell", str(cell), "--out", str(tmp_path / out), *words]
        )
        said = capsys.readouterr()
        return code, said.out + said.err

    return command


def rows(out):
    """(episode, what frame, task) of every frame; the k-th picture and the rest belong together."""
    found = LeRobotDataset("local/test", root=out)
    joint_map = load_joint_map((config := tabletop()[0]).vla, tabletop()[1], config.path)
    for i in range(len(found)):
        item = found[i]
        state = joint_map.to_urdf(item["observation.state"].numpy())
        k = round(state[0] / 0.001)
        np.testing.assert_allclose(state, bags.measured(k), atol=1e-5)
        np.testing.assert_allclose(
            joint_map.to_urdf(item["action"].numpy()), bags.sent(k), atol=1e-5
        )
        for feature, number in ((FRONT, 2 * k), (WRIST, 2 * k + 1)):
            seen = np.rint(item[feature].numpy().transpose(1, 2, 0) * 255)
            np.testing.assert_array_equal(seen, bags.pixels(number))
        yield int(item["episode_index"]), k, item["task"]


def episodes(out):
    """Of every episode its task, first and last frame; frames are 0.1 s apart."""
    found: dict[int, list] = {}
    for episode, k, task in rows(out):
        found.setdefault(episode, []).append((k, task))
    for frames in found.values():
        assert {b - a for (a, _), (b, _) in itertools.pairwise(frames)} <= {2}
        assert len({task for _, task in frames}) == 1
    return [(frames[0][1], frames[0][0], frames[-1][0]) for frames in found.values()]


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("prefix", ["", "/left"])
def test_an_episode_lasts_as_long_as_an_instruction(tmp_path, convert, cell, plugin, prefix):
    said = told((0.51, "touch"), (2.0, "touch"), (3.01, "pick"), (4.51, ""), (5.01, "touch"))
    bag = bags.write(tmp_path / "bag", run(6.5) + said, plugin, prefix)
    code, words = convert(bag)
    assert code == 0, words
    out = tmp_path / "set"
    # The frame at 0.6 s sees what was stamped at 0.55 s: the 11th of everything.
    assert episodes(out) == [("touch", 11, 59), ("pick", 61, 89), ("touch", 101, 127)]
    assert "3 episodes, 54 frames" in words
    assert check_dataset(out, load_cell(cell)) == []
    assert describe(out).robot == "so101"


def test_a_gap_ends_an_episode_and_a_short_rest_is_left_out(tmp_path, convert):
    messages = [*run(6.0), *told((0.0, "touch"))]
    messages = list(without(messages, "/wrist/image_raw", 2.0, 2.25))
    messages = list(without(messages, "/front/image_raw", 4.0, 5.0))
    bag = bags.write(tmp_path / "bag", messages)
    code, words = convert(bag)
    assert code == 0, words
    assert "episode 1: 40 frames, 1 missing, 'touch'; then 2 frames missing: front: 0.3" in words
    assert "left out: 1 episodes shorter than 1 s" in words
    assert "no frame: 1 times wrist: #.### s old, at most #.# s" in words
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    config, robot = tabletop()
    joint_map = load_joint_map(config.vla, robot, config.path)
    state = joint_map.to_urdf(np.stack(table["observation.state"].to_numpy()))
    seen = np.rint(state[:, 0] / 0.001).astype(int).tolist()
    assert seen == [k for k in range(1, 82, 2) if k != 43], "left out, and nothing in its place"


def test_missing_topics_are_named_with_what_is_there_instead(tmp_path, convert):
    messages = [
        (t, topic.replace("/front/image_raw", "/cam_high/image_raw"), m)
        for t, topic, m in without(run(1.0), "/wrist/image_raw")
    ]
    messages += [(BEGIN, "/wrist/image_raw/compressed", bags.compressed(BEGIN, b"x"))]
    bag = bags.write(tmp_path / "bag", list(without(messages, "/joint_states")))
    code, words = convert(bag)
    assert code == 2
    lines = [line for line in words.splitlines() if line.startswith("error: ")]
    assert len(lines) == 4
    assert "no 'front/image_raw' (sensor_msgs/msg/Image) in it; of that type it holds " \
        "/cam_high/image_raw" in lines[0]  # fmt: skip
    assert "no 'wrist/image_raw'" in lines[1]
    assert "no 'joint_states' (sensor_msgs/msg/JointState)" in lines[2]
    assert "/wrist/image_raw/compressed (sensor_msgs/msg/CompressedImage)" in lines[2]
    assert "no 'instruction'" in lines[3] and "give --instruction TEXT" in lines[3]
    assert not (tmp_path / "set").exists()


def test_an_instruction_may_be_given_and_a_second_bag_appended(tmp_path, convert, cell):
    first = bags.write(tmp_path / "first", run(2.0))
    second = bags.write(tmp_path / "second", run(3.0))
    assert convert(first, "--instruction", "touch the red block")[0] == 0
    code, words = convert(second, "--instruction", "wave")
    assert code == 2 and "is there already; nothing is written over" in words
    code, words = convert(second, "--instruction", "wave", "--resume")
    assert code == 0, words
    assert [task for task, _, _ in episodes(tmp_path / "set")] == ["touch the red block", "wave"]


def test_a_dataset_of_another_cell_is_not_appended_to(tmp_path, convert):
    bag = bags.write(tmp_path / "bag", run(2.0) + told((0.0, "touch")))
    assert convert(bag)[0] == 0
    document = yaml.safe_load(TABLETOP.read_text())["/**/vla"]["ros__parameters"]
    order = document["joint_order"]
    other = changed(tmp_path, {"chunk_rate": 20.0, "joint_order": order[::-1]})
    code, words = convert(bag, "--resume", cell=other)
    assert code == 2
    assert "rate: 10 Hz, what is to be recorded has 20" in words
    assert "joint order of state: shoulder_pan, shoulder_lift" in words
    assert describe(tmp_path / "set").episodes == 1


def test_compressed_pictures_are_decoded_as_the_policy_decodes_them(tmp_path, convert):
    def packed(row):
        t, topic, _ = row
        if topic != "/front/image_raw":
            return row
        k = round((t - 0.025 - BEGIN) * 20)
        file = io.BytesIO()
        Image.fromarray(bags.pixels(2 * k)).save(file, "PNG")
        return t, "/front/image_raw/compressed", bags.compressed(t - 0.025, file.getvalue())

    cameras = yaml.safe_load(TABLETOP.read_text())["/**/vla"]["ros__parameters"]["cameras"]
    cameras["front"] |= {"topic": "front/image_raw/compressed", "transport": "compressed"}
    cell = changed(tmp_path, {"cameras": cameras})
    bag = bags.write(tmp_path / "bag", map(packed, run(2.0) + told((0.0, "touch"))))
    code, words = convert(bag, cell=cell)
    assert code == 0, words
    assert episodes(tmp_path / "set") == [("touch", 1, 37)]


def test_a_bag_without_a_whole_frame_says_what_was_missing(tmp_path, convert):
    late = [(t + 3600.0, topic, m) for t, topic, m in run(2.0)]
    bag = bags.write(tmp_path / "bag", late + told((3600.0, "touch")))
    code, words = convert(bag)
    assert code == 2
    assert "there is no episode in it; frames were missing: " in words
    assert "joint_states: ####.### s old" in words
    assert not (tmp_path / "set").exists()


def test_a_full_disk_leaves_the_episodes_that_were_kept(tmp_path, convert):
    messages = run(20.0) + told((0.0, "touch"), (2.01, "pick"))
    bag = bags.write(tmp_path / "bag", messages)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_000, limits[1]))
        code, words = convert(bag)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 1 and "1 episodes are whole in it" in words, words
    assert [task for task, _, _ in episodes(tmp_path / "set")] == ["touch"]


def test_wrong_words_are_refused(tmp_path, convert, cell, monkeypatch):
    bag = bags.write(tmp_path / "bag", run(1.0))
    assert "--min-seconds: is -1" in convert(bag, "--min-seconds", "-1")[1]
    assert "no such file" in convert(bag, cell=tmp_path / "nowhere.yaml")[1]
    code, words = convert(tmp_path / "no_bag")
    assert code == 2 and "is no bag that can be read" in words
    for name in [n for n in sys.modules if n.split(".")[0] == "rosbags"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "smolvla_ros[bags]" in convert(bag)[1]
