"""A LeRobotDataset decoded once into memory.

LeRobot decodes a frame's pictures each time it is drawn, about 10 ms with the pictures of the
rows around it, which on a small machine is more than a training step takes. What is here
hands out the same items, except that pictures stay uint8 (0..255): LeRobot's trainer turns a
batch of those into 0..1 at once, which gives the same numbers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import psutil
import torch
from lerobot.datasets import LeRobotDataset
from lerobot.datasets.video_utils import decode_video_frames
from PIL import Image
from tqdm import tqdm

_SPARE = 2 << 30  # bytes left for the trainer itself


def keeps_out(dataset: LeRobotDataset) -> str | None:
    """Why a data set cannot be held in memory as LeRobot would read it; None if it can."""
    meta = dataset.meta
    if meta.has_language_columns:
        return "it has language columns"
    if meta.depth_keys:
        return "it has depth pictures"
    if dataset.image_transforms is not None:
        return "its pictures are to be transformed anew each time"
    needed = dataset.num_frames * sum(int(np.prod(meta.shapes[k])) for k in meta.camera_keys)
    free = psutil.virtual_memory().available - _SPARE
    if needed > free:
        return f"its pictures take {needed / 1e9:.1f} GB, and {max(free, 0) / 1e9:.1f} GB are free"
    return None


class MemoryDataset(torch.utils.data.Dataset):
    """The items of a LeRobotDataset, from memory.

    Has the attributes that LeRobot's trainer reads: ``meta``, ``episodes``, ``num_frames``,
    ``num_episodes``, ``absolute_to_relative_idx``, ``hf_dataset``.

    Args:
        dataset: opened for reading, with its ``delta_timestamps``; :func:`keeps_out` is None.
        video_backend: LeRobot's name of what decodes videos.

    Raises:
        ValueError: pictures that are not the [height, width, 3] uint8 that their feature says.
    """

    def __init__(self, dataset: LeRobotDataset, video_backend: str = "pyav"):
        self.meta = dataset.meta
        self.episodes = dataset.episodes
        self.num_frames = dataset.num_frames
        self.num_episodes = dataset.num_episodes
        self.absolute_to_relative_idx = dataset.absolute_to_relative_idx
        self.hf_dataset = dataset.hf_dataset
        self._deltas: dict[str, torch.Tensor] = {
            key: torch.tensor(deltas)
            for key, deltas in (dataset.reader.delta_indices or {}).items()
        }
        self._columns = self._read_columns()
        episode = self._columns["episode_index"]
        if len(episode) != self.num_frames or (episode.diff() < 0).any():
            raise ValueError(f"{dataset.root}: its frames are not in the order of its episodes")
        _, place, frames = torch.unique_consecutive(
            episode, return_inverse=True, return_counts=True
        )
        ends = frames.cumsum(0)
        self._first, self._last = (ends - frames)[place], ends[place] - 1  # of each frame's episode
        self._pictures = self._read_pictures(dataset, video_backend)

    def _read_columns(self) -> dict[str, torch.Tensor | list[str]]:
        names = [k for k in self.hf_dataset.column_names if k not in self.meta.camera_keys]
        parts: dict[str, list[Any]] = {name: [] for name in names}
        table = self.hf_dataset.select_columns(names)
        for start in range(0, len(table), 10_000):
            for name, values in table[start : start + 10_000].items():
                parts[name] += values
        return {
            name: torch.stack(values) if isinstance(values[0], torch.Tensor) else values
            for name, values in parts.items()
        }

    def _read_pictures(self, dataset: LeRobotDataset, backend: str) -> dict[str, torch.Tensor]:
        found = {
            key: torch.empty((self.num_frames, 3, *self.meta.shapes[key][:2]), dtype=torch.uint8)
            for key in self.meta.camera_keys
        }
        steps = self.num_frames * len(found)
        with tqdm(total=steps, desc="Decoding", unit="picture", leave=False) as bar:
            for key, pictures in found.items():
                for where, frames in (
                    self._videos(dataset, key, backend)
                    if key in self.meta.video_keys
                    else self._images(key)
                ):
                    if frames.shape[1:] != pictures.shape[1:] or frames.dtype != torch.uint8:
                        raise ValueError(
                            f"{dataset.root}: {key}: a picture is {list(frames.shape[1:])} "
                            f"{frames.dtype}, not {list(pictures.shape[1:])} torch.uint8"
                        )
                    pictures[where] = frames
                    bar.update(len(frames))
        return found

    def _images(self, key: str) -> Iterator[tuple[slice, torch.Tensor]]:
        column = self.hf_dataset.select_columns([key]).cast_column(
            key, datasets.Image(decode=False)
        )
        column.reset_format()
        for place, row in enumerate(column):
            image = row[key]
            source = image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])
            with Image.open(source) as opened:
                pixels = np.atleast_3d(np.array(opened))
            yield slice(place, place + 1), torch.from_numpy(pixels).permute(2, 0, 1)[None]

    def _videos(
        self, dataset: LeRobotDataset, key: str, backend: str
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        for first in torch.unique(self._first).tolist():
            where = slice(first, int(self._last[first]) + 1)
            number = int(self._columns["episode_index"][first])
            begin = self.meta.episodes[number][f"videos/{key}/from_timestamp"]
            yield (
                where,
                decode_video_frames(
                    dataset.root / self.meta.get_video_file_path(number, key),
                    [begin + t for t in self._columns["timestamp"][where].tolist()],
                    dataset.tolerance_s,
                    backend,
                    return_uint8=True,
                ),
            )

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([range(self.num_frames)[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several items at once: what torch's DataLoader asks for, a batch."""
        rows = torch.as_tensor(indices)
        batch: dict[str, Any] = {}
        for key, values in {**self._pictures, **self._columns}.items():
            near = rows
            if key in self._deltas:
                near = rows[:, None] + self._deltas[key]
                first, last = self._first[rows][:, None], self._last[rows][:, None]
                batch[f"{key}_is_pad"] = (near < first) | (near > last)
                near = near.clamp(first, last)
                if key in self.meta.video_keys and near.shape[1] == 1:
                    near = near[:, 0]  # as LeRobot has it: of a video, one frame is no row of one
            batch[key] = (
                values[near] if isinstance(values, torch.Tensor) else [values[i] for i in near]
            )
        batch["task"] = [self.meta.tasks.index[i] for i in batch["task_index"].tolist()]
        return [dict(zip(batch, item, strict=True)) for item in zip(*batch.values(), strict=True)]
