"""Episodes as pictures: a film each, and a contact sheet of some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PERIOD = 0.1  # s between the pictures of a film
_COLUMNS = 8
_TILE = 128  # pixels
_LINE = 18
_GOOD, _BAD = (40, 140, 60), (190, 40, 40)


class Film:
    """The pictures of an episode, one every 0.1 s. ``limit``: s it may last."""

    def __init__(self, limit: float):
        self._most = int(limit / PERIOD) + 2
        self._due = -np.inf
        self.pictures: list[np.ndarray] = []

    def due(self, now: float) -> bool:
        """Whether a picture of ``now`` (s) would be kept."""
        return now >= self._due - 1e-9 and len(self.pictures) < self._most

    def add(self, now: float, picture: np.ndarray) -> None:
        """Keep ``[H, W, 3]`` uint8 RGB if it is time for one."""
        if self.due(now):
            self._due = now + PERIOD
            self.pictures.append(np.array(picture))

    def save(self, path: Path) -> None:
        """Write an MP4 (H.264)."""
        from lerobot.utils.io_utils import write_video  # torch: not for who only looks

        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, self.pictures, round(1.0 / PERIOD))

    def strip(self) -> np.ndarray:
        """``[128, 8 * 128, 3]``: pictures from the first to the last, evenly spaced."""
        at = np.linspace(0, len(self.pictures) - 1, _COLUMNS).round().astype(int)
        tiles = [Image.fromarray(self.pictures[k]).resize((_TILE, _TILE)) for k in at]
        return np.hstack([np.asarray(tile) for tile in tiles])


@dataclass(frozen=True)
class Row:
    """An episode on a contact sheet: a line of text, whether it went well, and its strip."""

    text: str
    good: bool
    strip: np.ndarray


def choose(good: Sequence[bool], most: int = 24) -> list[int]:
    """Which episodes to show: half of them failures where there are as many, each kind in
    order."""
    failures = [i for i, g in enumerate(good) if not g]
    successes = [i for i, g in enumerate(good) if g]
    shown = failures[: max(most // 2, most - len(successes))]
    return shown + successes[: most - len(shown)]


def write_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Write a PNG with a row an episode; time goes to the right."""
    height = _LINE + _TILE
    sheet = Image.new("RGB", (_COLUMNS * _TILE, max(1, len(rows)) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for k, row in enumerate(rows):
        draw.rectangle((0, k * height, 8, k * height + _LINE - 1), _GOOD if row.good else _BAD)
        draw.text((14, k * height + 3), row.text, fill=_GOOD if row.good else _BAD)
        sheet.paste(Image.fromarray(row.strip), (0, k * height + _LINE))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
