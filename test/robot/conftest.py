"""The shipped arm, and arms made up for one test."""

from __future__ import annotations

import pytest

from smolvla_ros.robot import RobotModel
from smolvla_ros.share import share


@pytest.fixture(scope="session")
def so101() -> RobotModel:
    return RobotModel(share("urdf", "so101.urdf"), share("urdf", "so101.srdf"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Hulls are kept in a folder of this test run, not in the user's."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def write(tmp_path):
    """Write the inside of a <robot> to a file: ``write("a.urdf", body) -> path``."""

    def to(name: str, body: str):
        path = tmp_path / name
        path.write_text(f'<robot name="r">{body}</robot>')
        return path

    return to
