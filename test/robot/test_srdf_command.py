"""``smolvla-ros srdf``: a first SRDF, its reasons to be looked at."""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from arms import bent_plate, joint, link, mesh, write_mesh

from smolvla_ros.cli import srdf
from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.sampling import sample_contacts
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

WIDE = '<limit lower="-3" upper="3" velocity="2" effort="3"/>'
BAR = (
    '<collision><origin xyz="0.2 0 0"/><geometry><box size="0.4 0.05 0.05"/></geometry></collision>'
)
# Three bars that fold onto each other, a lid that always lies in the second, a far beacon.
FOLDING = (
    "".join(link(n, BAR) for n in "abcd")
    + link("lid", '<collision><origin xyz="-0.1 0 0"/><geometry><sphere radius="0.06"/></geometry>'
                  "</collision>")
    + link("far", '<collision><origin xyz="0 0 -5"/><geometry><sphere radius="0.1"/></geometry>'
                  "</collision>")
    + "".join(joint(p + c, p, c, inside=WIDE, xyz="0.45 0 0") for p, c in ("ab", "bc", "cd"))
    + joint("bolt", "c", "lid", "fixed", "", xyz="0.1 0 0")
    + joint("post", "a", "far", "fixed", "")
)  # fmt: skip


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    srdf.add(parser.add_subparsers())
    arguments = parser.parse_args(["srdf", *map(str, words)])
    return arguments.run(arguments)


def reasons(path) -> dict[str, str]:
    """Both links' names → reason."""
    found = ET.parse(path).getroot().iter("disable_collisions")
    return {" ".join(sorted((e.get("link1"), e.get("link2")))): e.get("reason") for e in found}


def test_f52_each_pair_that_needs_no_check_has_its_reason(write, tmp_path, capsys) -> None:
    urdf, out = write("arm.urdf", FOLDING), tmp_path / "arm.srdf"
    assert run("--urdf", urdf, "--samples", "500", "--out", out) == 0
    assert "look at each entry" in capsys.readouterr().out
    found = reasons(out)
    for pair in ("a b", "b c", "c d", "c lid", "a far"):
        assert found.pop(pair) == "Adjacent"
    assert found.pop("b lid") == "Always"
    assert all(pair.split()[1] in ("far", "lid") or pair.startswith("far") for pair in found)
    assert set(found.values()) == {"Never"}
    assert {p for p in found if "far" in p} == {"b far", "c far", "d far", "far lid"}
    # What was found is what the model then leaves out; the rest stays checked.
    robot = RobotModel(urdf, out)
    assert {frozenset((a.link, b.link)) for a, b in robot.self_collision_pairs()} >= {
        frozenset("ac"), frozenset("ad"), frozenset("bd"),
    }  # fmt: skip
    assert "nearest" in out.read_text() and "a ~ c (touch in " in out.read_text()


def test_the_same_arm_gives_the_same_file(write, capsys) -> None:
    urdf = write("arm.urdf", FOLDING)
    run("--urdf", urdf, "--samples", "50")
    first = capsys.readouterr().out
    run("--urdf", urdf, "--samples", "50")
    assert capsys.readouterr().out == first
    assert ET.fromstring(first).tag == "robot"


def test_names_that_xml_cannot_hold_as_they_are_come_back(write, tmp_path) -> None:
    body = FOLDING.replace('"lid"', '"li&amp;d--&quot;"').replace('"far"', '"fa--r"')
    urdf, out = write("arm.urdf", body), tmp_path / "arm.srdf"
    run("--urdf", urdf, "--samples", "20", "--out", out)
    assert 'b li&d--"' in reasons(out)
    RobotModel(urdf, out)


def test_the_shipped_arm_s_own_srdf_hides_nothing_that_the_command_would_check(
    tmp_path, so101
) -> None:
    out = tmp_path / "arm.srdf"
    run("--urdf", share("urdf", "so101.urdf"), "--samples", "1000", "--out", out)
    made = RobotModel(share("urdf", "so101.urdf"), out)
    checked = {
        name: {frozenset((a.link, b.link)) for a, b in robot.self_collision_pairs()}
        for name, robot in (("made", made), ("shipped", so101))
    }
    assert checked["made"] <= checked["shipped"]


def test_meshes_come_from_the_packages_it_is_told(write, tmp_path) -> None:
    write_mesh(tmp_path / "ws" / "arm_parts" / "b.stl", *bent_plate())
    urdf = write(
        "arm.urdf", link("a") + link("b", mesh("package://arm_parts/b.stl")) + joint("j", "a", "b")
    )
    with pytest.raises(ConfigError, match=r"arm_parts/b\.stl"):
        run("--urdf", urdf)
    assert run("--urdf", urdf, "--package-dir", tmp_path / "ws", "--samples", "1") == 0


def test_what_a_person_may_have_changed_is_not_overwritten(write, tmp_path) -> None:
    urdf, out = write("arm.urdf", FOLDING), tmp_path / "arm.srdf"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        run("--urdf", urdf, "--out", out)
    assert out.read_text() == "mine"
    with pytest.raises(ConfigError, match="--samples: is 0"):
        run("--urdf", urdf, "--samples", "0")


def test_samples_are_drawn_over_the_whole_range(write) -> None:
    # A contact in one hundredth of the range must not be missed by a thousand samples.
    body = (
        link("a", '<collision><geometry><sphere radius="0.01"/></geometry></collision>')
        + '<link name="n"/>'
        + link("b", '<collision><geometry><sphere radius="0.01"/></geometry></collision>')
        + joint("j", "a", "n", "prismatic", '<limit lower="1" upper="3" velocity="1" effort="1"/>',
                xyz="0 0 -2.98")
        + joint("k", "n", "b", inside=WIDE, xyz="0 0 0")
    )  # fmt: skip
    robot = RobotModel(write("a.urdf", body))
    pair = [tuple(robot.geometries)]
    (contact,) = sample_contacts(robot, pair, 4000, 0).values()
    assert contact.share == pytest.approx(0.02, abs=0.008)
    assert contact.nearest == pytest.approx(-0.02, abs=2e-3)
    assert np.isfinite(contact.nearest)
