"""Copies of the shipped checkpoint; nothing here asks a network."""

from __future__ import annotations

import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported

import pytest

from smolvla_ros.share import share


@pytest.fixture(scope="session")
def shipped():
    return share("models", "so101_tabletop")


@pytest.fixture
def copy(shipped, tmp_path):
    """A copy of the shipped checkpoint that a test may break."""
    return shutil.copytree(shipped, tmp_path / "copy")


@pytest.fixture(scope="session")
def loaded(shipped, tmp_path_factory):
    """The shipped checkpoint from another folder, with the working directory elsewhere."""
    from smolvla_ros.policy.checkpoint import find_checkpoint, load_checkpoint

    base = tmp_path_factory.mktemp("models")
    shutil.copytree(shipped, base / "mine")
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    try:
        yield load_checkpoint(find_checkpoint("mine", base))
    finally:
        os.chdir(before)
