"""Frames → a LeRobotDataset on disk, an episode at a time.

LeRobot's own writer keeps a parquet file open over all episodes of a recording: without the
footer that closing writes, a kill takes all of them. It costs 27 ms a frame of two cameras
as well. The files written here are the same (format v3.0, LeRobot's functions for all but the
rows), but each is whole before the dataset knows of it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.configs import rgb_encoder_defaults
from lerobot.datasets.compute_stats import aggregate_stats, get_feature_stats
from lerobot.datasets.dataset_metadata import CODEBASE_VERSION
from lerobot.datasets.feature_utils import (
    create_empty_dataset_info,
    get_hf_features_from_features,
)
from lerobot.datasets.io_utils import (
    load_info,
    load_stats,
    load_tasks,
    write_info,
    write_stats,
    write_tasks,
)
from lerobot.datasets.utils import (
    DEFAULT_EPISODES_PATH,
    DEFAULT_TASKS_PATH,
    INFO_PATH,
    STATS_PATH,
    update_chunk_file_indices,
)
from lerobot.datasets.video_utils import encode_video_frames, get_video_info
from lerobot.utils.constants import DEFAULT_FEATURES
from lerobot.utils.io_utils import write_json
from lerobot.utils.utils import flatten_dict
from pandas import DataFrame, Index

from smolvla_ros.learn.dataset_format import (
    ACTION,
    STATE,
    UNITS,
    Description,
    check_dataset,
    describe,
    differences,
)
from smolvla_ros.learn.staging import NAMES, Staging
from smolvla_ros.schema import ConfigError

__all__ = ["DatasetWriter", "Description", "check_dataset", "check_out", "describe"]

_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
_SAMPLE = 32  # pixels a side of what a picture gives to the statistics
_SAMPLES = 100  # pictures of an episode that give to them
_GROUP = 2**26  # bytes of pictures in memory at a time; more are several row groups


class DatasetWriter:
    """Writes a LeRobotDataset that a crash or a full disk cannot break.

    What was committed stays; the rest was never there. Pictures are kept lossless as PNG,
    unless ``video``. An episode under way may be long: its pictures wait on the disk. Not
    thread-safe.

    Args:
        out: the dataset's folder. fps: frames a second, a whole number.
        joints: the ``D`` joints of state and action, in the policy's order.
        cameras: feature → (height, width) in pixels.
        robot_type: LeRobot's word for the kind of robot. units: joint → unit.
        resume: append to what is there. video: pictures as video, lossy.
        every: kept episodes that are committed together. One: a crash loses the running
            episode only. More: it loses as many, and there are fewer files.

    Raises:
        ConfigError: ``out`` is there and not to be resumed, or what is there is no dataset
            or one of other frames, each difference named.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        fps: float,
        joints: Sequence[str],
        cameras: Mapping[str, tuple[int, int]],
        robot_type: str,
        units: Mapping[str, str],
        resume: bool = False,
        video: bool = False,
        every: int = 1,
    ):
        if fps != int(fps) or fps < 1:
            raise ConfigError(f"rate: is {fps:g} Hz; a LeRobotDataset's is a whole number")
        self.out = Path(out)
        self._every = every
        self._cameras = {f: tuple(size) for f, size in cameras.items()}
        self._joints = tuple(joints)
        self._video = video
        wanted = Description(
            fps=int(fps),
            state=self._joints,
            action=self._joints,
            cameras=self._cameras,
            units=dict(units),
            robot=robot_type,
            video=video,
        )
        self._new = check_out(self.out, wanted, resume)
        self.out.mkdir(parents=True, exist_ok=True)
        self._staging = Staging(self.out)
        try:
            if self._new:
                self._begin(wanted)
            self._load()
        except BaseException:
            self._staging.close()
            raise
        self._spools: dict[str, IO[bytes]] = {}
        self._forget_frames()
        self._forget_pending()

    @property
    def episodes(self) -> int:
        """Kept episodes, those not yet committed included."""
        return self._info.total_episodes + len(self._rows)

    @property
    def frames(self) -> int:
        """Of the running episode."""
        return len(self._tasks_of)

    def add(
        self, images: Mapping[str, np.ndarray], state: np.ndarray, action: np.ndarray, task: str
    ) -> None:
        """Add a frame to the running episode.

        Args:
            images: feature → ``[H, W, 3]`` uint8 RGB. state, action: ``[D]`` in the policy's
                units. task: the instruction.

        Raises:
            ValueError: what does not fit the dataset; the episode is as before.
            OSError: the disk is full, for one; the episode is lost: :meth:`discard` it.
        """
        state, action = np.asarray(state, np.float32), np.asarray(action, np.float32)
        self._check(images, state, action)
        k = self.frames
        for feature in self._cameras:
            picture = images[feature]
            data = _png(picture)
            if self._video:
                self._staging.path(self._still(feature, k)).write_bytes(data)
            else:
                self._spool(feature).write(data)
                self._lengths[feature].append(len(data))
            if k % self._every_sample == 0:
                stride = max(1, max(picture.shape[:2]) // _SAMPLE)
                self._samples[feature].append(picture[::stride, ::stride].copy())
        if len(next(iter(self._samples.values()), ())) > 2 * _SAMPLES:
            self._every_sample *= 2
            self._samples = {f: samples[::2] for f, samples in self._samples.items()}
        self._numbers[STATE].append(state)
        self._numbers[ACTION].append(action)
        self._tasks_of.append(task)

    def keep(self) -> int:
        """Save the running episode; returns its frames.

        Raises:
            ValueError: it has none.
            OSError: the disk is full, for one. It and what was not yet committed are lost;
                the dataset is as it was.
        """
        count = self.frames
        if not count:
            raise ValueError("an episode without a frame cannot be kept")
        try:
            self._save()
            if len(self._rows) >= self._every:
                self._commit()
        except BaseException:
            self._abandon()
            raise
        self.discard()
        return count

    def discard(self) -> None:
        """Throw the running episode away."""
        self._close_spools()
        shutil.rmtree(self._staging.root / "images", ignore_errors=True)
        self._forget_frames()

    def close(self) -> None:
        """Commit what was kept; the running episode is thrown away. A dataset that was begun
        here and has no episode is removed.

        Raises:
            OSError: as :meth:`keep`.
        """
        try:
            self.discard()
            if self._rows:
                self._commit()
        except BaseException:
            self._abandon()
            raise
        finally:
            self._staging.close()
        if self._new and not self._info.total_episodes:
            shutil.rmtree(self.out)

    # -- opening ------------------------------------------------------------------------

    def _begin(self, wanted: Description) -> None:
        names = [f"{joint}.pos" for joint in self._joints]
        vector = {"dtype": "float32", "shape": (len(names),), "names": names}
        features: dict[str, dict[str, Any]] = {STATE: dict(vector), ACTION: dict(vector)}
        for feature, (height, width) in self._cameras.items():
            features[feature] = {
                "dtype": "video" if self._video else "image",
                "shape": (height, width, 3),
                "names": ["height", "width", "channels"],
            }
        info = create_empty_dataset_info(
            CODEBASE_VERSION,
            wanted.fps,
            {**features, **DEFAULT_FEATURES},
            self._video,
            wanted.robot,
        )
        write_info(info, self._staging.root)
        write_json({"units": dict(wanted.units)}, self._staging.path(UNITS))
        self._staging.commit([UNITS, INFO_PATH])

    def _load(self) -> None:
        self._info = load_info(self.out)
        self._hf = get_hf_features_from_features(self._info.features)
        self._stats = load_stats(self.out)
        self._tasks: dict[str, int] = {}
        if self._info.total_tasks:
            self._tasks = load_tasks(self.out)["task_index"].to_dict()
        files = sorted(self.out.glob("meta/episodes/*/*.parquet"))
        self._last = None
        if files:
            episodes = pq.read_table(files[-1])
            self._last = episodes.slice(episodes.num_rows - 1).to_pylist()[0]

    # -- an episode ---------------------------------------------------------------------

    def _check(self, images: Mapping[str, np.ndarray], state: Any, action: Any) -> None:
        if images.keys() != self._cameras.keys():
            raise ValueError(
                f"pictures of {', '.join(images) or 'none'}; the dataset has "
                f"{', '.join(self._cameras)}"
            )
        for feature, size in self._cameras.items():
            picture = images[feature]
            if picture.dtype != np.uint8 or picture.shape != (*size, 3):
                raise ValueError(
                    f"{feature}: {picture.dtype} of shape {picture.shape}; the dataset has uint8 "
                    f"{(*size, 3)}"
                )
        for name, values in ((STATE, state), (ACTION, action)):
            if values.shape != (len(self._joints),) or not np.isfinite(values).all():
                raise ValueError(f"{name}: {values}; {len(self._joints)} finite numbers are needed")

    def _still(self, feature: str, k: int) -> str:
        return f"images/{feature}/frame-{k:06d}.png"

    def _spool(self, feature: str) -> IO[bytes]:
        """Where a camera's pictures wait, one behind the other."""
        if feature not in self._spools:
            self._spools[feature] = self._staging.path(f"images/{feature}").open("w+b")
        return self._spools[feature]

    def _close_spools(self) -> None:
        for spool in self._spools.values():
            # What it cannot write is thrown away in a moment.
            with contextlib.suppress(OSError):
                spool.close()
        self._spools = {}

    def _forget_frames(self) -> None:
        self._numbers: dict[str, list[np.ndarray]] = {STATE: [], ACTION: []}
        self._lengths: dict[str, list[int]] = {f: [] for f in self._cameras}
        self._samples: dict[str, list[np.ndarray]] = {f: [] for f in self._cameras}
        self._every_sample = 1
        self._tasks_of: list[str] = []

    def _save(self) -> None:
        """The running episode into the staging place."""
        count, index = self.frames, self.episodes
        first = self._info.total_frames + sum(row["length"] for row in self._rows)
        known = self._known_tasks
        for task in self._tasks_of:
            known.setdefault(task, len(known))
        columns: dict[str, Any] = {
            **{name: np.stack(rows) for name, rows in self._numbers.items()},
            "timestamp": (np.arange(count) / self._info.fps).astype(np.float32),
            "frame_index": np.arange(count),
            "episode_index": np.full(count, index),
            "index": np.arange(first, first + count),
            "task_index": np.array([known[task] for task in self._tasks_of]),
        }
        stats = self._statistics(columns)
        videos = self._encode() if self._video else {}
        self._write_rows(columns)
        chunk, file = self._file
        self._rows.append(
            {
                "episode_index": index,
                "tasks": list(dict.fromkeys(self._tasks_of)),
                "length": count,
                "data/chunk_index": chunk,
                "data/file_index": file,
                "dataset_from_index": first,
                "dataset_to_index": first + count,
                **videos,
                **flatten_dict({"stats": stats}),
            }
        )
        self._new_stats.append(stats)

    def _statistics(self, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        stats = {
            name: get_feature_stats(values, axis=0, keepdims=values.ndim == 1)
            for name, values in columns.items()
        }
        for feature, pictures in self._samples.items():
            chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), _SAMPLES)).astype(int)
            batch = np.stack([pictures[i] for i in chosen]).transpose(0, 3, 1, 2)
            found = get_feature_stats(batch, axis=(0, 2, 3), keepdims=True)
            stats[feature] = {
                key: value if key == "count" else (value / 255.0).reshape(3, 1, 1)
                for key, value in found.items()
            }
        return stats

    def _write_rows(self, columns: Mapping[str, np.ndarray]) -> None:
        """One row group an episode, as LeRobot has it, unless that is too much to hold."""
        schema = self._hf.arrow_schema
        if self._parquet is None:
            self._file = self._after(self._last, "data")
            name = self._info.data_path.format(chunk_index=self._file[0], file_index=self._file[1])
            self._parquet = pq.ParquetWriter(self._staging.path(name), schema, compression="snappy")
            self._names.append(name)
        for spool in self._spools.values():
            spool.seek(0)
        for first, last in self._groups():
            rows = {name: _array(v[first:last], schema, name) for name, v in columns.items()}
            for feature, spool in self._spools.items():
                pictures = [
                    {"bytes": spool.read(length), "path": f"frame-{first + k:06d}.png"}
                    for k, length in enumerate(self._lengths[feature][first:last])
                ]
                rows[feature] = pa.array(pictures, schema.field(feature).type)
            table = pa.Table.from_arrays([rows[name] for name in schema.names], schema=schema)
            self._parquet.write_table(table)

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Ranges of frames, each of as many pictures as may be held at a time."""
        first = held = 0
        for k in range(self.frames):
            size = sum(lengths[k] for lengths in self._lengths.values() if lengths)
            if k > first and held + size > _GROUP:
                yield first, k
                first, held = k, 0
            held += size
        yield first, self.frames

    def _encode(self) -> dict[str, Any]:
        """Each camera's pictures into a video of its own; returns where it is."""
        found: dict[str, Any] = {}
        for feature in self._cameras:
            key = f"videos/{feature}"
            chunk, file = self._after(self._rows[-1] if self._rows else self._last, key)
            name = self._info.video_path.format(
                video_key=feature, chunk_index=chunk, file_index=file
            )
            video, stills = self._staging.path(name), self._staging.root / "images" / feature
            encoder = rgb_encoder_defaults()
            encode_video_frames(stills, video, self._info.fps, encoder)
            shutil.rmtree(stills)
            self._info.features[feature].setdefault("info", get_video_info(video, encoder))
            found |= {
                f"{key}/chunk_index": chunk,
                f"{key}/file_index": file,
                f"{key}/from_timestamp": 0.0,
                f"{key}/to_timestamp": self.frames / self._info.fps,
            }
            self._names.append(name)
        return found

    # -- committing ---------------------------------------------------------------------

    def _commit(self) -> None:
        self._parquet.close()
        self._parquet = None
        info = load_info(self.out)
        info.features = self._info.features
        chunk, file = self._after(self._last, "meta/episodes")
        rows = [
            {**row, "meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
            for row in self._rows
        ]
        columns = {
            name: [v.tolist() if isinstance(v := row[name], np.ndarray) else v for row in rows]
            for name in rows[0]
        }
        episodes = DEFAULT_EPISODES_PATH.format(chunk_index=chunk, file_index=file)
        pq.write_table(pa.table(columns), self._staging.path(episodes), compression="snappy")
        tasks = self._known_tasks
        write_tasks(
            DataFrame({"task_index": list(tasks.values())}, index=Index(list(tasks), name="task")),
            self._staging.root,
        )
        known = [self._stats] if self._stats is not None else []
        stats = aggregate_stats([*known, *self._new_stats])
        write_stats(stats, self._staging.root)
        info.total_episodes += len(rows)
        info.total_frames += sum(row["length"] for row in rows)
        info.total_tasks = len(tasks)
        info.splits = {"train": f"0:{info.total_episodes}"}
        write_info(info, self._staging.root)
        # In this order a reader finds at every moment all that it has been told of.
        names = [*self._names, DEFAULT_TASKS_PATH, STATS_PATH, episodes, INFO_PATH]
        self._staging.commit(names)
        self._info, self._stats, self._tasks, self._last = info, stats, tasks, rows[-1]
        self._forget_pending()

    def _abandon(self) -> None:
        """After an error: back to what was committed."""
        if self._parquet is not None:
            with contextlib.suppress(OSError):
                self._parquet.close()
        self._close_spools()
        self._staging.clear()
        self._load()
        self._forget_frames()
        self._forget_pending()

    def _forget_pending(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._known_tasks = dict(self._tasks)
        self._new_stats: list[dict[str, Any]] = []
        self._parquet: pq.ParquetWriter | None = None
        self._file = (0, 0)

    def _after(self, row: Mapping[str, Any] | None, kind: str) -> tuple[int, int]:
        """Chunk and file number after those of an episode."""
        if row is None:
            return 0, 0
        numbers = row[f"{kind}/chunk_index"], row[f"{kind}/file_index"]
        return update_chunk_file_indices(*numbers, self._info.chunks_size)


def check_out(out: Path, wanted: Description, resume: bool) -> bool:
    """Whether ``out`` is to be a new dataset, or what is there is to be gone on with.

    Args:
        wanted: the frames to come; sizes of pictures may still be open.

    Raises:
        ConfigError: it is there and not to be resumed, it is not there and to be resumed, or
            what is there is no dataset of such frames, each difference named.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is no folder")
    # What a crash may leave of a dataset without an episode is nothing to resume.
    if not out.exists() or all(path.name in NAMES for path in out.iterdir()):
        if resume:
            raise ConfigError(f"{out}: there is no dataset to resume")
        return True
    if not resume:
        raise ConfigError(f"{out}: is there already; nothing is written over: resume it to append")
    found = describe(out)
    problems = differences(found, wanted, "what is to be recorded")
    if found.video != wanted.video:
        kind = ("lossless pictures", "video")
        problems.append(f"pictures: {kind[found.video]}, to be recorded are {kind[wanted.video]}")
    if found.robot != wanted.robot:
        problems.append(f"robot: {found.robot!r}, to be recorded is {wanted.robot!r}")
    if not found.units:
        problems.append("units: written nowhere in it")
    if problems:
        raise ConfigError([f"{out}: {problem}" for problem in problems])
    return False


def _array(values: np.ndarray, schema: pa.Schema, name: str) -> pa.Array:
    kind = schema.field(name).type
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(values.ravel(), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(values.reshape(-1), kind)


def _png(picture: np.ndarray) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _PNG)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be packed as PNG")
    return data.tobytes()
