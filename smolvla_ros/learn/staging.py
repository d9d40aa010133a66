"""Files that get into a folder all together, or not at all, whatever happens meanwhile."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from smolvla_ros.schema import ConfigError

_NAME = ".smolvla_ros_unfinished"
_WHOLE = "whole"

NAMES = (_NAME, f"{_NAME}.lock")
"""What lies in a folder beside its files while somebody writes into it, or after a crash."""


class Staging:
    """A place beside a folder's files where the next ones are made.

    They are written and synced to disk here, then listed in one file, then moved. A crash
    before that file is there leaves the folder as it was; after it, the next :class:`Staging`
    moves what is left to move.

    Args:
        folder: exists. Only one process at a time may have it open.

    Raises:
        ConfigError: another process has.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self.root = folder / _NAME
        self.root.mkdir(exist_ok=True)
        self._lock = (folder / NAMES[1]).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise ConfigError(f"{folder}: another process is writing into it") from error
        self.clear()

    def path(self, name: str | Path) -> Path:
        """Where to write what is to be ``name`` in the folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def clear(self) -> None:
        """Throw away what is here, unless it is whole: that is moved.

        Raises:
            OSError: it cannot be moved.
        """
        if (self.root / _WHOLE).is_file():
            self._move()
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(exist_ok=True)

    def commit(self, names: Sequence[str | Path]) -> None:
        """Move files into the folder, in this order.

        Raises:
            OSError: the disk is full, for one.
        """
        for name in names:
            _sync(self.root / name)
        partial = self.root / f"{_WHOLE}.partial"
        partial.write_text("\n".join(map(str, names)))
        _sync(partial)
        partial.rename(self.root / _WHOLE)
        _sync(self.root)
        self.clear()

    def close(self) -> None:
        """Let others have the folder."""
        shutil.rmtree(self.root, ignore_errors=True)
        (self._folder / NAMES[1]).unlink(missing_ok=True)
        self._lock.close()

    def _move(self) -> None:
        folders = set()
        for name in (self.root / _WHOLE).read_text().splitlines():
            staged, there = self.root / name, self._folder / name
            if staged.exists():  # moved before the crash, otherwise
                there.parent.mkdir(parents=True, exist_ok=True)
                staged.replace(there)
                folders.add(there.parent)
        for folder in folders:
            _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
