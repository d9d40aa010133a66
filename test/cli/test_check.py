"""``smolvla-ros check``: the table, its exit code, the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from cells import ROOT
from checkpoints import FRONT, WRIST, make

from smolvla_ros.cli.main import main
from smolvla_ros.cli.processes import CellProcesses, private_domain


@pytest.fixture
def cell(tmp_path):
    """Writes the shipped cell with changes of its vla section (dots for groups); its files and
    its checkpoint beside it."""
    for name in ("config", "urdf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    checkpoint = tmp_path / "models" / "so101_tabletop"
    checkpoint.parent.mkdir()
    checkpoint.symlink_to(ROOT / "models" / "so101_tabletop")

    def write(**changes: object) -> Path:
        path = tmp_path / "config" / "changed.yaml"
        document = yaml.safe_load((tmp_path / "config" / "so101_tabletop.yaml").read_text())
        section = document["/**/vla"]["ros__parameters"]
        for name, value in changes.items():
            *parents, leaf = name.split("__")
            node = section
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


def test_the_shipped_cell_passes(tmp_path, capsys) -> None:
    out = tmp_path / "found" / "check.json"
    cell = ROOT / "config" / "so101_tabletop.yaml"
    assert main(["check", "--cell", str(cell), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "ok     cameras.front" in said and "ERROR" not in said
    assert said.endswith("0 error(s), 0 warning(s)\n")
    document = json.loads(out.read_text())
    assert (document["errors"], document["warnings"]) == (0, 0)
    assert document["checkpoint"]["type"] == "smolvla"
    assert len(document["checkpoint"]["hash"]) == 12
    assert {f["level"] for f in document["findings"]} == {"ok"}


def test_each_error_is_a_line_with_what_to_change(cell, tmp_path, capsys) -> None:
    path = cell(
        joint_map__shoulder_pan={"unit": "radians"},
        cameras__front__feature="observation.images.top",
    )
    out = tmp_path / "check.json"
    assert main(["check", "--cell", str(path), "--json", str(out)]) == 1
    said = capsys.readouterr().out
    assert "ERROR  cameras.front.feature" in said
    assert "ERROR  joint_map.shoulder_pan" in said
    assert "unit: degrees would fit" in " ".join(said.split())
    document = json.loads(out.read_text())
    assert document["errors"] == 3  # the feature that nobody feeds now, too
    wrong = {f["subject"]: f["fix"] for f in document["findings"] if f["level"] == "error"}
    assert wrong["joint_map.shoulder_pan"] == "unit: degrees would fit"


def test_a_checkpoint_that_cannot_be_loaded_is_one_line(cell, capsys) -> None:
    assert main(["check", "--cell", str(cell(checkpoint="../models/none"))]) == 1
    said = capsys.readouterr().out
    assert said.startswith("ERROR  checkpoint  '../models/none' is no folder")
    assert said.endswith("1 error(s), 0 warning(s)\n")


def test_a_doubt_is_no_error(cell, tmp_path, capsys) -> None:
    mean, std = np.array([0, -20, 20, 60, 0, 0.5]), np.array([25, 15, 15, 15, 25, 0.3])
    act = make("act", tmp_path / "act", cameras=(FRONT, WRIST), mean=mean, std=std)
    assert main(["check", "--cell", str(cell(checkpoint=str(act)))]) == 0
    said = capsys.readouterr().out
    assert "warn   joint_map.gripper" in said
    assert said.endswith("0 error(s), 1 warning(s)\n")


def test_a_cell_that_cannot_be_read_is_code_2(cell, tmp_path, capsys) -> None:
    assert main(["check", "--cell", str(tmp_path / "none.yaml")]) == 2
    assert main(["check", "--cell", str(cell(perod=0.2))]) == 2
    assert "vla: perod: unknown key" in capsys.readouterr().err
    assert main(["check", "--cell", str(cell()), "--seconds", "0"]) == 2


def test_a_running_cell_is_looked_at(cell, tmp_path, capsys, monkeypatch) -> None:
    path = cell()
    domain, lock = private_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with lock, CellProcesses(path, ["sim", "safety_monitor"], domain, tmp_path) as cell_processes:
        code = 1
        for _ in range(5):  # until the simulator is up
            code = main(["check", "--cell", str(path), "--live", "--seconds", "2"])
            said = capsys.readouterr().out
            cell_processes.check()
            if code == 0:
                break
        assert code == 0, said
    for line in ("cameras.front            rgb8 320x240", "joint_states             6 joints"):
        assert f"ok     {line}" in said
    assert "/arm/joint_trajectory: /safety_monitor" in said
    # And without it:
    assert main(["check", "--cell", str(path), "--live", "--seconds", "0.5"]) == 1
    said = capsys.readouterr().out
    assert "ERROR  cameras.front            nobody publishes on /front/image_raw" in said
