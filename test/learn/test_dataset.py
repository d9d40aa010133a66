"""The dataset writer: what LeRobot reads from it, and what is left after a crash."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot.datasets import LeRobotDataset

from smolvla_ros.cell import JointMapEntry, load_cell
from smolvla_ros.learn import dataset, dataset_format
from smolvla_ros.learn.dataset import DatasetWriter, check_dataset, describe
from smolvla_ros.learn.staging import NAMES
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
UNITS = {name: "percent" if name == "gripper" else "degrees" for name in JOINTS}
SIZE = (24, 32)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What LeRobot's reader keeps of every file it reads."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(out: Path, **changes) -> DatasetWriter:
    options = {
        "fps": 10.0,
        "joints": JOINTS,
        "cameras": {FRONT: SIZE, WRIST: SIZE},
        "robot_type": "so101",
        "units": UNITS,
    }
    return DatasetWriter(out, **(options | changes))


def frame(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "images": {f: rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for f in (FRONT, WRIST)},
        "state": rng.normal(0, 30, 6),
        "action": rng.normal(0, 30, 6),
    }


def episode(writer: DatasetWriter, seed: int, frames: int, task: str) -> None:
    for k in range(frames):
        writer.add(**frame(1000 * seed + k), task=task)
    assert writer.keep() == frames


def read(out: Path, **options) -> LeRobotDataset:
    return LeRobotDataset("local/test", root=out, **options)


def assert_holds(out: Path, episodes: list[tuple[int, int, str]]) -> None:
    """That LeRobot reads (seed, frames, task) of every episode, number by number."""
    found = read(out)
    assert found.num_episodes == len(episodes)
    assert found.num_frames == len(found) == sum(frames for _, frames, _ in episodes)
    index = 0
    for e, (seed, frames, task) in enumerate(episodes):
        assert found.meta.episodes[e]["dataset_from_index"] == index
        for k in range(frames):
            item, wanted = found[index], frame(1000 * seed + k)
            for feature in (FRONT, WRIST):
                picture = np.rint(item[feature].numpy() * 255).astype(np.uint8)
                np.testing.assert_array_equal(picture.transpose(1, 2, 0), wanted["images"][feature])
            for name in ("state", "action"):
                key = "observation.state" if name == "state" else name
                np.testing.assert_array_equal(item[key].numpy(), wanted[name].astype(np.float32))
            assert item["task"] == task
            assert item["episode_index"] == e
            assert item["frame_index"] == k
            assert item["index"] == index
            assert item["timestamp"] == pytest.approx(k / 10)
            index += 1
        assert found.meta.episodes[e]["dataset_to_index"] == index


@pytest.mark.parametrize("every", [1, 2, 5])
def test_lerobot_reads_what_was_written(tmp_path, every) -> None:
    out = tmp_path / "set"
    writer = write(out, every=every)
    kept = [(1, 3, "touch"), (2, 1, "pick"), (4, 5, "touch")]
    for seed, frames, task in kept[:2]:
        episode(writer, seed, frames, task)
    writer.add(**frame(9), task="never kept")
    writer.discard()
    episode(writer, *kept[2])
    writer.add(**frame(9), task="never kept")
    writer.close()
    assert_holds(out, kept)
    assert {path.name for path in out.iterdir()} == {"meta", "data"}


def test_an_episode_of_more_pictures_than_are_held_is_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "_GROUP", 10_000)  # bytes: two frames
    out = tmp_path / "set"
    writer = write(out, every=2)
    episode(writer, 1, 7, "touch")
    episode(writer, 2, 1, "touch")
    writer.close()
    assert pq.ParquetFile(out / "data/chunk-000/file-000.parquet").num_row_groups > 3
    assert_holds(out, [(1, 7, "touch"), (2, 1, "touch")])


def test_statistics_of_a_long_episode_see_all_of_it(tmp_path) -> None:
    out = tmp_path / "set"
    writer = write(out, cameras={FRONT: SIZE})
    for k in range(1000):
        shade = np.full((*SIZE, 3), k // 4, np.uint8)
        writer.add({FRONT: shade}, np.zeros(6), np.zeros(6), "wait")
    writer.keep()
    writer.close()
    found = dataset_format.statistics(out)[FRONT]
    np.testing.assert_allclose(found["mean"].ravel(), 124.5 / 255, atol=0.02)
    np.testing.assert_allclose(found["std"].ravel(), 72.2 / 255, atol=0.02)
    assert found["max"].max() > 0.95


def test_statistics_are_those_of_lerobot(tmp_path) -> None:
    """All but those of pictures, of which each takes its own sample."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    writer = write(ours)
    for seed in range(3):
        episode(writer, seed, 8, f"task {seed}")
    writer.close()
    info = json.loads((ours / "meta/info.json").read_text())
    features = {f: info["features"][f] for f in ("observation.state", "action", FRONT, WRIST)}
    reference = LeRobotDataset.create("local/test", 10, features, theirs, "so101", use_videos=False)
    for seed in range(3):
        for k in range(8):
            given = frame(1000 * seed + k)
            reference.add_frame(
                {
                    "observation.state": given["state"].astype(np.float32),
                    "action": given["action"].astype(np.float32),
                    "task": f"task {seed}",
                    **given["images"],
                }
            )
        reference.save_episode()
    reference.finalize()
    found, wanted = (dataset_format.statistics(p) for p in (ours, theirs))
    assert found.keys() == wanted.keys()
    for name, table in wanted.items():
        assert found[name].keys() == table.keys()
        for key, value in table.items():
            assert found[name][key].shape == value.shape
            tolerance = 0.03 if name in (FRONT, WRIST) else 1e-6
            if not (name in (FRONT, WRIST) and key in ("min", "max")):
                np.testing.assert_allclose(found[name][key], value, atol=tolerance, rtol=1e-6)
    there = json.loads((theirs / "meta/info.json").read_text())
    assert info == there
    for name in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        mine, other = pq.read_schema(ours / name), pq.read_schema(theirs / name)
        assert {(f.name, f.type) for f in mine} == {(f.name, f.type) for f in other}


def test_resuming_appends_and_so_does_lerobot(tmp_path) -> None:
    out = tmp_path / "set"
    for seed in (1, 2):
        writer = write(out, resume=seed > 1)
        episode(writer, seed, 3, f"task {seed}")
        writer.close()
    theirs = LeRobotDataset.resume("local/test", root=out)
    given = frame(3000)
    theirs.add_frame(
        {
            "observation.state": given["state"].astype(np.float32),
            "action": given["action"].astype(np.float32),
            "task": "task 1",
            **given["images"],
        }
    )
    theirs.save_episode()
    theirs.finalize()
    writer = write(out, resume=True)
    episode(writer, 4, 2, "task 4")
    writer.close()
    assert_holds(out, [(1, 3, "task 1"), (2, 3, "task 2"), (3, 1, "task 1"), (4, 2, "task 4")])


def test_video_keeps_every_picture_near(tmp_path) -> None:
    out = tmp_path / "set"
    size = (64, 96)
    ramp = np.linspace(0, 200, size[1], dtype=np.uint8)[None, :, None].repeat(size[0], 0)
    writer = write(out, cameras={FRONT: size}, video=True)
    for shift in (0, 10):
        for k in range(4):
            picture = np.broadcast_to(ramp + np.uint8(shift + 10 * k), (*size, 3)).copy()
            writer.add({FRONT: picture}, np.zeros(6), np.zeros(6), "look")
        writer.keep()
        writer.add({FRONT: picture}, np.zeros(6), np.zeros(6), "look")
        writer.discard()
    writer.close()
    assert describe(out).video
    found = read(out, video_backend="pyav")
    for i in range(8):
        shift = (0, 10)[i // 4] + 10 * (i % 4)
        wanted = (ramp[:, :, 0].astype(float) + shift) / 255
        assert np.abs(found[i][FRONT].numpy() - wanted).mean() < 0.02
    assert {path.name for path in out.iterdir()} == {"meta", "data", "videos"}


# -- what is refused ------------------------------------------------------------------------


def test_nothing_is_written_over(tmp_path) -> None:
    out = tmp_path / "set"
    writer = write(out)
    episode(writer, 1, 2, "touch")
    writer.close()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="is there already; nothing is written over"):
        write(out)
    with pytest.raises(ConfigError, match="there is no dataset to resume"):
        write(tmp_path / "other", resume=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="nothing is written over"):
        write(tmp_path / "notes")
    with pytest.raises(ConfigError, match="is no LeRobotDataset"):
        write(tmp_path / "notes", resume=True)
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fps": 30.0}, "rate: 10 Hz, what is to be recorded has 30"),
        ({"joints": JOINTS[::-1]}, "joint order of state: shoulder_pan, .*gripper; what"),
        ({"cameras": {FRONT: SIZE}}, f"cameras: {FRONT}, {WRIST}; what is to be recorded has"),
        ({"cameras": {FRONT: SIZE, WRIST: (48, 64)}}, f"size of {WRIST}: 32x24 pixels, .* 64x48"),
        ({"units": UNITS | {"gripper": "radians"}}, "unit of gripper: percent, .* has radians"),
        ({"robot_type": "koch"}, "robot: 'so101', to be recorded is 'koch'"),
        ({"video": True}, "pictures: lossless pictures, to be recorded are video"),
    ],
)
def test_resuming_names_what_differs(tmp_path, changes, words) -> None:
    out = tmp_path / "set"
    writer = write(out)
    episode(writer, 1, 2, "touch")
    writer.close()
    with pytest.raises(ConfigError, match=words):
        write(out, resume=True, **changes)
    assert_holds(out, [(1, 2, "touch")])


def test_frames_that_do_not_fit_are_refused(tmp_path) -> None:
    writer = write(tmp_path / "set")
    good = frame(1)
    picture = good["images"][FRONT]
    for change, words in [
        ({"images": {FRONT: picture}}, "pictures of observation.images.front; the dataset has"),
        ({"images": good["images"] | {FRONT: picture[:20]}}, "shape \\(20, 32, 3\\)"),
        ({"images": good["images"] | {FRONT: picture / 255}}, "float64"),
        ({"state": np.full(6, np.nan)}, "6 finite numbers"),
        ({"action": np.zeros(5)}, "6 finite numbers"),
    ]:
        with pytest.raises(ValueError, match=words):
            writer.add(**(good | change), task="touch")
    assert writer.frames == 0
    with pytest.raises(ValueError, match="without a frame"):
        writer.keep()
    writer.close()
    assert not (tmp_path / "set").exists()


def test_two_writers_at_once_are_refused(tmp_path) -> None:
    writer = write(tmp_path / "set")
    episode(writer, 1, 2, "touch")
    with pytest.raises(ConfigError, match="another process is writing"):
        write(tmp_path / "set", resume=True)
    episode(writer, 2, 2, "touch")
    writer.close()
    assert_holds(tmp_path / "set", [(1, 2, "touch"), (2, 2, "touch")])


def test_a_rate_that_is_not_whole_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"rate: is 12.5 Hz"):
        write(tmp_path / "set", fps=12.5)


# -- against a cell -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cell():
    return load_cell(share("config", "so101_tabletop.yaml"))


@pytest.fixture
def fitting(tmp_path, cell):
    """A dataset as the shipped cell records it."""
    out = tmp_path / "set"
    writer = write(out, fps=cell.vla.chunk_rate, cameras=dict.fromkeys((FRONT, WRIST), SIZE))
    episode(writer, 1, 30, "touch")
    writer.close()
    return out


def test_a_dataset_of_the_cell_fits_it(fitting, cell) -> None:
    assert check_dataset(fitting, cell) == []
    assert check_dataset(fitting, cell, {FRONT: SIZE, WRIST: SIZE}) == []


def test_each_difference_from_the_cell_is_named(fitting, cell) -> None:
    vla = cell.vla
    mirrored = vla.joint_map | {"wrist_roll": JointMapEntry(unit="radians")}
    cameras = {"front": vla.cameras["front"]}
    order = vla.joint_order[::-1]
    for changes, words in [
        ({"chunk_rate": 25.0}, f"rate: {vla.chunk_rate:g} Hz, the cell has 25"),
        ({"joint_order": order}, f"joint order of state: {', '.join(JOINTS)}; the cell has gri"),
        ({"cameras": cameras}, f"cameras: {FRONT}, {WRIST}; the cell has {FRONT}"),
        ({"joint_map": mirrored}, "unit of wrist_roll: degrees, the cell has radians"),
    ]:
        problems = check_dataset(fitting, replace(cell, vla=replace(vla, **changes)))
        assert problems, words
        assert any(problem.startswith(f"{fitting}: {words}") for problem in problems), problems
    problems = check_dataset(fitting, cell, {FRONT: (480, 640)})
    assert problems == [f"{fitting}: size of {FRONT}: 32x24 pixels, the cell has 640x480"]


def test_units_that_nobody_wrote_are_judged_by_the_statistics(fitting, cell) -> None:
    (fitting / dataset_format.UNITS).unlink()
    assert check_dataset(fitting, cell) == []
    stats = json.loads((fitting / dataset_format.STATS).read_text())
    for feature in ("observation.state", "action"):
        for key in stats[feature].keys() - {"count"}:
            stats[feature][key] = np.radians(stats[feature][key]).tolist()
    (fitting / dataset_format.STATS).write_text(json.dumps(stats))
    problems = check_dataset(fitting, cell)
    assert any("units: joint_map" in problem and "radians" in problem for problem in problems)


def test_what_is_no_dataset_is_said_to_be_none(tmp_path, cell, fitting) -> None:
    with pytest.raises(ConfigError, match=r"no section /\*\*/vla"):
        check_dataset(fitting, replace(cell, vla=None))
    with pytest.raises(ConfigError, match="is no LeRobotDataset"):
        check_dataset(tmp_path / "nowhere", cell)
    info = json.loads((fitting / dataset_format.INFO).read_text())
    (fitting / dataset_format.INFO).write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(ConfigError, match=r"format v2.1, v3.0 is read"):
        check_dataset(fitting, cell)
    short = {key: value for key, value in info.items() if key != "fps"}
    (fitting / dataset_format.INFO).write_text(json.dumps(short))
    with pytest.raises(ConfigError, match=r"info.json has no fps"):
        check_dataset(fitting, cell)
    camera = next(k for k, v in info["features"].items() if v["dtype"] == "image")
    info["features"][camera]["names"] = ["h", "w", "c"]
    (fitting / dataset_format.INFO).write_text(json.dumps(info))
    with pytest.raises(ConfigError, match=rf"{camera}: axes h, w, c; LeRobot writes height"):
        check_dataset(fitting, cell)


# -- crashes --------------------------------------------------------------------------------


@pytest.mark.parametrize("moves", range(6))
def test_a_crash_at_any_move_loses_the_running_episode_at_most(tmp_path, moves, monkeypatch):
    out = tmp_path / "set"
    writer = write(out)
    episode(writer, 1, 3, "touch")
    done, replacing = [], Path.replace

    def failing(self, target):
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(target)
        return replacing(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        for k in range(2):
            writer.add(**frame(2000 + k), task="pick")
        if moves < 5:  # data, tasks, statistics, episodes, info
            with pytest.raises(KeyboardInterrupt):
                writer.keep()
        else:
            writer.keep()
    # What LeRobot finds right after the crash, before anybody repairs.
    found = read(out)
    assert len(found) == (5 if moves >= 5 else 3)
    assert all(found[i]["task"] == "touch" for i in range(3))
    writer._staging._lock.close()  # as the end of the process does
    resumed = write(out, resume=True)
    episode(resumed, 3, 2, "push")
    resumed.close()
    assert_holds(out, [(1, 3, "touch"), (2, 2, "pick"), (3, 2, "push")])


def test_a_crash_before_the_first_episode_leaves_what_can_be_resumed(tmp_path) -> None:
    out = tmp_path / "set"
    writer = write(out)
    writer.add(**frame(1), task="touch")
    writer._staging._lock.close()  # as the end of the process does
    resumed = write(out, resume=True)
    assert resumed.episodes == 0
    episode(resumed, 2, 3, "touch")
    resumed.close()
    assert_holds(out, [(2, 3, "touch")])


WRITER = """
import sys
sys.path[:0] = [{here!r}]
from test_dataset import episode, write
from pathlib import Path
writer = write(Path(sys.argv[1]), resume=True)
print("open", flush=True)
seed = writer.episodes
while True:
    episode(writer, seed, 3, "touch")
    seed += 1
    print(seed, flush=True)
"""


def test_a_kill_loses_the_running_episode_at_most(tmp_path) -> None:
    out = tmp_path / "set"
    writer = write(out)
    episode(writer, 0, 3, "touch")
    writer.close()
    program = WRITER.format(here=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "open\n"
        time.sleep(0.2 + np.random.default_rng(os.getpid()).uniform(0, 0.1))
    finally:
        process.send_signal(signal.SIGKILL)
    told = [1, *map(int, process.stdout.read().split())][-1]
    process.wait()
    assert told > 1, "killed before it had kept an episode"
    found = read(out)
    assert told <= found.num_episodes <= told + 1
    resumed = write(out, resume=True)
    count = resumed.episodes
    assert told <= count <= told + 1
    episode(resumed, count, 2, "push")
    resumed.close()
    assert_holds(out, [*((seed, 3, "touch") for seed in range(count)), (count, 2, "push")])
    assert not any((out / name).exists() for name in NAMES)


def test_a_full_disk_loses_the_running_episode_at_most(tmp_path) -> None:
    """A limit on the size of files stands for the disk: writing fails in the same place."""
    out = tmp_path / "set"
    writer = write(out)
    episode(writer, 1, 3, "touch")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for k in range(60):
            writer.add(**frame(2000 + k), task="too much")
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(OSError):
            writer.keep()
        assert writer.episodes == 1
        with pytest.raises(OSError):
            for k in range(60):
                writer.add(**frame(2000 + k), task="too much")
        writer.discard()
        assert_holds(out, [(1, 3, "touch")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    episode(writer, 3, 3, "pick")
    writer.close()
    assert_holds(out, [(1, 3, "touch"), (3, 3, "pick")])
