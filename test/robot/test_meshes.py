"""Meshes are found where ROS people put them; one that is not is an error, never a gap."""

from __future__ import annotations

import pytest
from arms import bent_plate, joint, link, mesh, write_mesh

from smolvla_ros.robot import RobotError, RobotModel


def arm(filename: str) -> str:
    body = link("a") + link("b", mesh(filename)) + joint("j", "a", "b")
    return f'<robot name="r">{body}</robot>'


@pytest.fixture
def package(tmp_path):
    """A package ``some_arm`` with one mesh, in a folder of another name."""
    folder = tmp_path / "ws" / "checkout"
    write_mesh(folder / "meshes" / "b.stl", *bent_plate())
    (folder / "package.xml").write_text("<package><name> some_arm </name></package>")
    return folder


@pytest.fixture
def plain(tmp_path):
    """The same without a manifest, found by its folder's name."""
    folder = tmp_path / "plain" / "some_arm"
    write_mesh(folder / "meshes" / "b.stl", *bent_plate())
    return folder


URI = "package://some_arm/meshes/b.stl"


def test_a_package_is_found_by_the_folder_that_holds_it_or_is_it(tmp_path, package, plain) -> None:
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(arm(URI))
    for folder in (package, plain, plain.parent, str(plain.parent)):
        assert RobotModel(urdf, package_dirs=[folder]).hulls.keys() == {"b_0"}
    # The first that has it counts.
    assert RobotModel(urdf, package_dirs=[tmp_path, plain]).hulls


def test_a_package_is_found_around_the_urdf_that_lies_in_it(package, plain) -> None:
    for folder in (package, plain):
        (folder / "urdf").mkdir()
        (folder / "urdf" / "arm.urdf").write_text(arm(URI))
        assert RobotModel(folder / "urdf" / "arm.urdf").hulls


def test_a_package_is_found_where_ros_was_set_up(tmp_path, plain, monkeypatch) -> None:
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(arm(URI))
    monkeypatch.setenv("ROS_PACKAGE_PATH", f"/nowhere:{plain.parent}")
    assert RobotModel(urdf).hulls
    monkeypatch.delenv("ROS_PACKAGE_PATH")
    write_mesh(tmp_path / "prefix/share/some_arm/meshes/b.stl", *bent_plate())
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path / 'prefix'}")
    assert RobotModel(urdf).hulls


def test_plain_paths_and_file_uris_need_no_package(tmp_path) -> None:
    path = write_mesh(tmp_path / "a b" / "b.stl", *bent_plate())
    for name in ("a b/b.stl", str(path), f"file://{tmp_path}/a%20b/b.stl"):
        (tmp_path / "arm.urdf").write_text(arm(name))
        assert RobotModel(tmp_path / "arm.urdf").hulls


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (URI, "{0}/away/some_arm/meshes/b.stl, /ament/share/some_arm/meshes/b.stl, "
              "/ros/some_arm/meshes/b.stl"),
        ("meshes/b.stl", "{0}/meshes/b.stl"),
        ("file:///meshes/b.stl", "no such file: /meshes/b.stl"),
        ("http://x.org/b.stl", "http:// cannot be read"),
        ("arm.urdf", "{0}/arm.urdf is no STL, OBJ, DAE file"),
    ],
)  # fmt: skip
def test_f49_a_mesh_that_is_not_there_is_an_error_that_says_where_it_was_sought(
    tmp_path, monkeypatch, name, says
) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/ament")
    monkeypatch.setenv("ROS_PACKAGE_PATH", "/ros")
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(arm(name))
    with pytest.raises(RobotError) as caught:
        RobotModel(urdf, package_dirs=[tmp_path / "away"])
    assert str(caught.value).startswith(f"{urdf}: link b: mesh {name!r}: ")
    assert says.format(tmp_path) in str(caught.value)


def test_every_missing_mesh_is_named(tmp_path) -> None:
    body = link("a", mesh("x.stl")) + link("b", mesh("y.stl") + mesh("x.stl"))
    (tmp_path / "arm.urdf").write_text(f'<robot name="r">{body}{joint("j", "a", "b")}</robot>')
    with pytest.raises(RobotError) as caught:
        RobotModel(tmp_path / "arm.urdf")
    assert len(str(caught.value).splitlines()) == 3
