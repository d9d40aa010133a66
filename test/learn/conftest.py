"""The shipped cell in one process."""

from __future__ import annotations

import pytest

from smolvla_ros.cell import Cell, load_cell
from smolvla_ros.learn.loop import CellLoop
from smolvla_ros.share import share


@pytest.fixture(scope="session")
def tabletop() -> Cell:
    return load_cell(share("config", "so101_tabletop.yaml"))


@pytest.fixture(scope="module")
def loop(tabletop):
    loop = CellLoop(tabletop)
    yield loop
    loop.close()
