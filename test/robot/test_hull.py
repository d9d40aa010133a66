"""Hulls enclose their meshes, whatever the file's kind, and are kept on disk."""

from __future__ import annotations

import os

import coal
import numpy as np
import pytest
from arms import ball, bent_plate, write_mesh

from smolvla_ros.robot import hull as hull_module
from smolvla_ros.robot.hull import MeshError, convex_hull

DIRECTIONS = np.random.default_rng(1).normal(size=(2000, 3))


def support(points: np.ndarray) -> np.ndarray:
    """How far points reach in each of many directions; no code of the hull's."""
    return (points @ DIRECTIONS.T).max(axis=0)


@pytest.mark.parametrize("kind", [".stl", ".STL", ".obj", ".dae"])
@pytest.mark.parametrize("solid", [bent_plate, ball])
@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (0.001, 2.0, -3.0)])
def test_a_hull_reaches_exactly_as_far_as_its_mesh(tmp_path, kind, solid, scale) -> None:
    vertices, faces = solid()
    hull = convex_hull(write_mesh(tmp_path / f"a{kind}", vertices, faces), scale)
    np.testing.assert_allclose(support(hull.vertices), support(vertices * scale), atol=1e-6)
    np.testing.assert_allclose(hull.shape().computeVolume(), hull.volume, rtol=1e-9)


def test_no_vertex_of_a_mesh_lies_outside_its_collision_shape(tmp_path) -> None:
    vertices, faces = ball()
    shape = convex_hull(write_mesh(tmp_path / "a.obj", vertices, faces)).shape()
    point = coal.Sphere(1e-6)
    for vertex in vertices:
        away = coal.distance(
            shape, coal.Transform3s(), point, coal.Transform3s(np.eye(3), vertex),
            coal.DistanceRequest(), coal.DistanceResult(),
        )  # fmt: skip
        assert away <= 1e-9


def test_f51_the_volume_a_hull_adds_is_known(tmp_path) -> None:
    vertices, faces = bent_plate()
    hull = convex_hull(write_mesh(tmp_path / "a.stl", vertices, faces), (1.0, 1.0, -1.0))
    assert hull.mesh_volume == pytest.approx(0.1 * (0.3 * 0.1 + 0.1 * 0.3), rel=1e-5)
    # The notch of 0.2 by 0.3 is cut from corner to corner.
    assert hull.volume_ratio() == pytest.approx(1 + 0.5 * 0.2 * 0.3 / 0.06, rel=1e-5)
    open_ = convex_hull(write_mesh(tmp_path / "b.stl", vertices, faces[:2]))
    assert open_.volume_ratio() is None


def test_a_collada_file_s_unit_counts_and_its_up_axis_does_not(tmp_path) -> None:
    vertices, faces = bent_plate()
    metres = convex_hull(write_mesh(tmp_path / "a.dae", vertices, faces))
    inches = convex_hull(write_mesh(tmp_path / "b.dae", vertices / 0.0254, faces, unit=0.0254))
    np.testing.assert_allclose(metres.vertices.max(axis=0), [1.1, 0.3, 0.4], atol=1e-6)
    np.testing.assert_allclose(inches.vertices, metres.vertices, atol=1e-6)


@pytest.mark.parametrize(
    "vertices",
    [[(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 0, 0), (1, 0, 0), (2, 0, 0)]],
    ids=["flat", "line"],
)
def test_a_mesh_without_inside_is_given_a_thickness(tmp_path, vertices) -> None:
    points = np.array(vertices, float)
    hull = convex_hull(write_mesh(tmp_path / "a.obj", points, np.array([[0, 1, 2]])))
    assert (support(hull.vertices) >= support(points)).all()
    assert np.ptp(hull.vertices, axis=0).min() == pytest.approx(2e-4, abs=1e-9)
    assert hull.volume_ratio() is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.stl", b"", "is no mesh"),
        ("a.stl", b"solid a\nfacet norm", "is no mesh"),
        ("a.dae", b"<COLLADA", "is no COLLADA file"),
        ("a.dae", b'<COLLADA><asset><unit meter="0"/></asset></COLLADA>', "has a unit of 0.0 m"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n", "no finite number"),
        ("a.step", b"ISO-10303", "is no STL, OBJ, DAE file"),
    ],
)
def test_a_file_that_is_no_mesh_is_refused(tmp_path, name, content, says) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MeshError, match=says):
        convex_hull(tmp_path / name)


# -- cache --------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "smolvla_ros" / "hulls"


@pytest.fixture
def builds(monkeypatch):
    """Counts how often a hull was really built."""
    count = []
    real = hull_module._build
    monkeypatch.setattr(hull_module, "_build", lambda *a: count.append(1) or real(*a))
    return count


def same(a, b) -> bool:
    return (
        np.array_equal(a.vertices, b.vertices)
        and np.array_equal(a.faces, b.faces)
        and (a.volume, a.mesh_volume, a.digest) == (b.volume, b.mesh_volume, b.digest)
    )


def test_a_hull_is_built_once_for_one_content_and_scale(tmp_path, own_cache, builds) -> None:
    path = write_mesh(tmp_path / "a.stl", *bent_plate())
    first = convex_hull(path)
    assert same(convex_hull(path), first)
    assert same(convex_hull(path.rename(tmp_path / "b.stl")), first)
    assert len(builds) == 1
    assert [p.suffix for p in own_cache.iterdir()] == [".npz"]  # nothing half-written is left
    convex_hull(tmp_path / "b.stl", (2.0, 1.0, 1.0))
    vertices, faces = bent_plate()
    other = convex_hull(write_mesh(tmp_path / "b.stl", 2 * vertices, faces))
    assert len(builds) == 3
    assert other.digest != first.digest


@pytest.mark.parametrize("harm", ["empty", "cut", "flip", "other", "wild", "folder"])
def test_a_damaged_cache_entry_is_built_again(tmp_path, own_cache, builds, harm) -> None:
    path = write_mesh(tmp_path / "a.stl", *bent_plate())
    first = convex_hull(path)
    (entry,) = own_cache.iterdir()
    data = bytearray(entry.read_bytes())
    entry.unlink()
    if harm == "empty":
        entry.write_bytes(b"")
    elif harm == "cut":
        entry.write_bytes(data[: len(data) // 2])
    elif harm == "flip":
        at = data.index(first.vertices.tobytes())
        data[at + 40] ^= 0xFF
        entry.write_bytes(data)
    elif harm == "other":
        np.savez(entry, faces=first.faces)
    elif harm == "wild":
        np.savez(entry, vertices=first.vertices, faces=first.faces + 99, volumes=[1.0, 1.0])
    else:
        entry.mkdir()
    assert same(convex_hull(path), first)
    assert len(builds) == 2
    if harm != "folder":
        assert same(convex_hull(path), first)
        assert len(builds) == 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, builds) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = write_mesh(tmp_path / "a.stl", *bent_plate())
    assert same(convex_hull(path), convex_hull(path))
    assert len(builds) == 2


def test_without_a_setting_the_cache_is_the_user_s(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in (None, "relative/is/ignored"):
        if value is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert hull_module._cache_folder() == tmp_path / ".cache" / "smolvla_ros" / "hulls"
    assert not os.path.exists("relative")
