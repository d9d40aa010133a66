"""MoveIt's collision objects as bodies: shapes, frames, operations, and what is none."""

from __future__ import annotations

import math

import numpy as np
import pinocchio as pin
import pytest

pytest.importorskip("moveit_msgs", reason="needs moveit_msgs (ros-$ROS_DISTRO-moveit-msgs)")

from move_group import pose, scene, thing
from moveit_msgs.msg import AllowedCollisionEntry, AllowedCollisionMatrix, CollisionObject

from smolvla_ros.ros.collision_objects import SceneBook, allow, collision_object, pose_msg
from smolvla_ros.safety.command import Refused
from smolvla_ros.safety.solids import Solid

REMOVE, APPEND, MOVE = CollisionObject.REMOVE, CollisionObject.APPEND, CollisionObject.MOVE
SHELF = pin.SE3(pin.rpy.rpyToMatrix(0.0, 0.0, math.pi / 2), np.array([1.0, 0.0, 0.0]))
BOX = (0.1, 0.2, 0.3)


def frame(name):
    if name not in ("base_link", "shelf"):
        raise ValueError(f"no frame {name!r}")
    return SHELF if name == "shelf" else pin.SE3.Identity()


@pytest.fixture
def book():
    made = SceneBook(frame)
    made.hear(scene(diff=False))
    return made


def places(book):
    return {o.id: o.pose.translation.round(9).tolist() for o in book.present}


@pytest.mark.parametrize(
    ("given", "shape", "size"),
    [
        ({"box": BOX}, "box", BOX),
        ({"sphere": (0.2,)}, "sphere", (0.2,)),
        ({"cylinder": (0.3, 0.1)}, "cylinder", (0.1, 0.3)),
        ({"cone": (0.3, 0.1)}, "cylinder", (0.1, 0.3)),
        ({"mesh": [(0, 0, 0), (0.1, 0, 0), (0, 0.2, 0.3), (0.1, 0.1, 0)]}, "hull", ()),
        ({"plane": (0, 0, 1, 0)}, "box", (20, 20, 0.002)),
    ],
)
def test_every_shape(book, given, shape, size) -> None:
    book.hear(scene(thing("a", **given)))
    (found,) = book.present
    assert (found.id, found.shape) == ("scene/a/0", shape)
    assert found.size == pytest.approx(size)


def test_an_object_of_several_shapes_lies_where_its_frame_and_poses_say(book) -> None:
    book.hear(
        scene(
            thing("a", frame="shelf", at=pose(0.5), box=(BOX, pose(0.1)),
                  sphere=((0.1,), pose(0, 0, 0.2)), mesh=([(0, 0, 0), (0.2, 0, 0)], pose(0, 0.3)))
        )
    )  # fmt: skip
    assert places(book) == {
        "scene/a/0": [1, 0.6, 0],
        "scene/a/1": [1, 0.5, 0.2],
        "scene/a/2": [0.7, 0.5, 0],
    }
    for o in book.present:
        np.testing.assert_allclose(o.pose.rotation, SHELF.rotation, atol=1e-12)


def test_objects_are_added_moved_and_taken_away_as_moveit_does(book) -> None:
    book.hear(scene(thing("a", box=(BOX, pose(1))), thing("b", at=pose(2), sphere=(0.1,))))
    assert places(book) == {"scene/a/0": [1, 0, 0], "scene/b/0": [2, 0, 0]}
    # Added again: replaced. A lone shape's pose is its object's, and a move replaces it.
    book.hear(scene(thing("a", box=(BOX, pose(3)))))
    book.hear(scene(thing("a", MOVE, at=pose(0, 1))))
    assert places(book) == {"scene/a/0": [0, 1, 0], "scene/b/0": [2, 0, 0]}
    book.hear(scene(thing("b", APPEND, at=pose(2), box=(BOX, pose(0, 0, 0.5)))))
    assert places(book)["scene/b/1"] == [2, 0, 0.5]
    # A move with a pose for each shape moves them in the object too.
    moved = thing("b", MOVE, at=pose(5))
    moved.primitive_poses = [pose(0, 0, 0.1), pose(0, 0, 0.2)]
    book.hear(scene(moved))
    assert places(book)["scene/b/0"] == [5, 0, 0.1] and places(book)["scene/b/1"] == [5, 0, 0.2]
    changes = book.changes
    book.hear(scene(thing("nobody", REMOVE)))
    assert book.changes == changes, "nothing has changed"
    book.hear(scene(thing("a", REMOVE)))
    assert book.names == ["b"] and book.changes == changes + 1
    book.hear(scene(thing("", REMOVE), thing("c", sphere=(0.1,))))
    assert book.names == ["c"]


def test_a_whole_scene_replaces_and_before_one_a_diff_says_nothing() -> None:
    book = SceneBook(frame)
    book.hear(scene(thing("a", box=BOX)))
    assert not book.whole and not book.present
    book.hear(scene(thing("b", box=BOX), diff=False))
    book.hear(scene(thing("c", box=BOX)))
    assert book.whole and book.names == ["b", "c"]
    book.hear(scene(thing("d", box=BOX), diff=False))
    assert book.names == ["d"]


def test_what_the_arm_holds_is_no_obstacle_and_is_told(book) -> None:
    book.hear(scene(thing("a", box=BOX), thing("b", box=BOX)))
    book.hear(scene(attached=[thing("a", box=BOX)]))  # MoveIt says no word of its removal
    assert book.names == ["b"] and book.attached == {"a"}
    book.hear(scene())
    assert book.attached == {"a"}
    book.hear(scene(thing("a", box=BOX), attached=[thing("a", REMOVE)]))
    assert book.names == ["b", "a"] and not book.attached
    book.hear(scene(diff=False, attached=[thing("c", box=BOX)]))
    assert not book.names and book.attached == {"c"}


def test_names_that_are_not_taken() -> None:
    book = SceneBook(frame, own="left/monitor/", except_objects=["block_*"])
    book.hear(
        scene(thing("left/monitor/table", box=BOX), thing("block_3", box=BOX),
              thing("right/monitor/table", box=BOX), diff=False)
    )  # fmt: skip
    assert book.names == ["right/monitor/table"]


# F57, F59, F61
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (thing("x", frame="gripper", box=BOX), "'x': no frame 'gripper'"),
        (thing("x", frame="", box=BOX), "no frame ''"),
        (thing("x", box=(0.1, 0.2)), "type 1 with 2 sizes"),
        (thing("x", prism=(0.1,)), "type 5"),
        (thing("x", box=(0.1, 0.0, 0.1)), "size"),
        (thing("x", box=(0.1, math.nan, 0.1)), "size"),
        (thing("x", sphere=(1e6,)), "size"),
        (thing("x", sphere=(-0.1,)), "size"),
        (thing("x", mesh=[(0, 0, math.inf)]), "vertices"),
        (thing("x", plane=(0, 0, 0, 1)), "no direction"),
        (thing("x", at=pose(math.nan), box=BOX), "no pose"),
        (thing("x", at=pose(1e9), box=BOX), "100 m"),
        (thing("x", box=(BOX, pose(0, 0, 0, (0, 0, 0, 3)))), "no pose"),
        (thing("x"), "has no shape"),
        (thing("x", MOVE, at=pose(1)), "never added"),
        (thing("x", b"\x07", box=BOX), "no operation 7"),
    ],
)
def test_a_scene_with_one_bad_object_changes_nothing_and_the_book_is_not_whole(
    book, bad, said
) -> None:
    book.hear(scene(thing("a", box=BOX)))
    with pytest.raises(Refused, match=said) as caught:
        book.hear(scene(thing("b", box=BOX), bad))
    assert caught.value.check == "planning_scene"
    assert book.names == ["a"] and not book.whole
    book.hear(scene(thing("c", box=BOX)))
    assert book.names == ["a"], "what comes after a gap says nothing"
    book.hear(scene(thing("c", box=BOX), diff=False))
    assert book.names == ["c"] and book.whole


def test_too_far_and_too_many(book) -> None:
    with pytest.raises(Refused, match="65 obstacles; at most 64"):
        book.hear(scene(*(thing(f"t{k}", sphere=(0.1,)) for k in range(65))))
    odd = thing("x", box=BOX)
    odd.primitive_poses = [pose(), pose()]
    book.hear(scene(diff=False))
    with pytest.raises(Refused, match="2 poses for 1 primitives"):
        book.hear(scene(odd))


def test_four_zeros_are_no_rotation(book) -> None:
    book.hear(scene(thing("a", box=(BOX, pose(1, 0, 0, (0, 0, 0, 0))))))
    np.testing.assert_array_equal(book.present[0].pose.rotation, np.eye(3))


def test_solids_there_and_back(book) -> None:
    at = pin.SE3(pin.rpy.rpyToMatrix(0.1, 0.2, 0.3), np.array([1.0, 2.0, 3.0]))
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    given = [
        Solid("box", BOX, at),
        Solid("sphere", (0.4,), at),
        Solid("cylinder", (0.1, 0.7), at),
        Solid("mesh", (), at, corners, faces),
    ]
    message = collision_object(CollisionObject, "cell/z", "base_link", given)
    book.hear(scene(message))
    assert [(o.shape, *o.size) for o in book.present] == [
        ("box", *BOX), ("sphere", 0.4), ("cylinder", 0.1, 0.7), ("hull",),
    ]  # fmt: skip
    for o in book.present:
        np.testing.assert_allclose(o.pose.homogeneous, at.homogeneous, atol=1e-9)
    assert sorted(book.present[3].vertices) == sorted(map(tuple, corners.tolist()))
    assert [list(t.vertex_indices) for t in message.meshes[0].triangles] == faces.tolist()
    assert pose_msg(at).position.y == 2.0


def test_a_matrix_gets_pairs_and_keeps_what_it_has() -> None:
    matrix = AllowedCollisionMatrix(
        entry_names=["a", "b"],
        entry_values=[AllowedCollisionEntry(enabled=[False, True])] * 2,
    )
    assert allow(matrix, AllowedCollisionEntry, [("z", "a"), ("z", "c")])
    assert matrix.entry_names == ["a", "b", "z", "c"]
    assert [list(e.enabled) for e in matrix.entry_values] == [
        [False, True, True, False],
        [False, True, False, False],
        [True, False, False, True],
        [False, False, True, False],
    ]
    assert not allow(matrix, AllowedCollisionEntry, [("a", "z")])
    assert not allow(AllowedCollisionMatrix(), AllowedCollisionEntry, [])
    for rows in ([[False]], [[False], [False, True]]):
        ragged = [AllowedCollisionEntry(enabled=row) for row in rows]
        odd = AllowedCollisionMatrix(entry_names=["a", "b"], entry_values=ragged)
        assert not allow(odd, AllowedCollisionEntry, [("z", "a")])
