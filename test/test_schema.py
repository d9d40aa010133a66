"""The strict loader: what fits is built, what does not is named; nothing is dropped."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

import pytest

from smolvla_ros.cell import CameraNodeConfig, SourceConfig
from smolvla_ros.schema import ConfigError, key, load, unflatten


@dataclass(frozen=True, kw_only=True)
class Leaf:
    speed: float = key(doc="m/s", above=0.0, at_most=10.0)
    colour: str = key("red", doc="paint", choices=("red", "blue"))
    low: float = key(0.0, doc="m")
    high: float = key(1.0, doc="m")

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ConfigError(f"low: is {self.low}, not below high; lower it")


@dataclass(frozen=True, kw_only=True)
class Tree:
    count: int = key(1, doc="how many", at_least=1)
    on: bool = key(True, doc="switch")
    name: str = key("", doc="a name")
    size: list[float] = key([1.0, 2.0], doc="m", length=2, above=0.0)
    words: list[str] = key([], doc="words")
    leaf: Leaf | None = key(None, doc="one leaf")
    leaves: dict[str, Leaf] = key({}, doc="named leaves")
    wait: float | None = key(None, doc="s", above=0.0)


def problems(data) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(Tree, data, "f.yaml")
    return caught.value.problems


LEAF = {"speed": 1.0}
WHOLE = {
    "count": 3,
    "on": False,
    "name": "n",
    "size": [0.5, 2],
    "words": ["a"],
    "leaf": {"speed": 2, "colour": "blue"},
    "leaves": {"left": LEAF, "right": {"speed": 10.0}},
    "wait": None,
}


def test_a_document_that_fits_is_built_with_its_values_and_the_defaults() -> None:
    tree = load(Tree, WHOLE, "f.yaml")
    assert (tree.count, tree.on, tree.name, tree.size, tree.words) == (
        3,
        False,
        "n",
        [0.5, 2.0],
        ["a"],
    )
    assert tree.leaf == Leaf(speed=2.0, colour="blue", low=0.0, high=1.0)
    assert {name: leaf.speed for name, leaf in tree.leaves.items()} == {"left": 1.0, "right": 10.0}
    assert load(Tree, {}, "f.yaml") == Tree()


def test_defaults_that_can_change_are_not_shared_between_documents() -> None:
    first, second = load(Tree, {}, "a"), load(Tree, {}, "b")
    first.size.append(9.0)
    first.leaves["x"] = Leaf(speed=1.0)
    assert second.size == [1.0, 2.0]
    assert second.leaves == {}


@pytest.mark.parametrize(
    ("data", "key_", "value", "fix"),
    [
        ({"cuont": 3}, "cuont", "3", "did you mean 'count'?"),
        ({"leaves": {"l": LEAF | {"colur": "red"}}}, "leaves.l.colur", "'red'", "'colour'"),
        ({"zzz": None}, "zzz", "None", "known keys: count, on, name"),
        ({7: 1}, "7", "1", "known keys"),
        ({"leaf": {}}, "leaf.speed", "missing", "give it (m/s)"),
        ({"count": 2.0}, "count", "2.0", "a whole number"),
        ({"count": True}, "count", "True", "a whole number"),
        ({"count": 0}, "count", "0", "at least 1"),
        ({"on": 1}, "on", "1", "true or false"),
        ({"on": "yes"}, "on", "'yes'", "true or false"),
        ({"name": 5}, "name", "5", "a text"),
        ({"name": None}, "name", "None", "a text"),
        ({"leaf": {"speed": True}}, "leaf.speed", "True", "a number"),
        ({"leaf": {"speed": "1.0"}}, "leaf.speed", "'1.0'", "a number"),
        ({"leaf": {"speed": math.nan}}, "leaf.speed", "nan", "finite"),
        ({"leaf": {"speed": math.inf}}, "leaf.speed", "inf", "finite"),
        ({"leaf": {"speed": 0.0}}, "leaf.speed", "0.0", "above 0"),
        ({"leaf": {"speed": 10.5}}, "leaf.speed", "10.5", "at most 10"),
        ({"leaf": LEAF | {"colour": "pink"}}, "leaf.colour", "'pink'", "one of red, blue"),
        ({"leaf": LEAF | {"low": 2.0}}, "leaf.low", "2.0", "lower it"),
        ({"leaf": 3.0}, "leaf", "3.0", "speed, colour"),
        ({"leaves": [LEAF]}, "leaves", "speed", "named groups"),
        ({"leaves": {"l": None}}, "leaves.l", "None", "speed, colour"),
        ({"size": 1.0}, "size", "1.0", "a list"),
        ({"size": "ab"}, "size", "'ab'", "a list"),
        ({"size": [1.0]}, "size", "1 values [1.0]", "write 2"),
        ({"size": [1.0, 2.0, 3.0]}, "size", "3 values", "write 2"),
        ({"size": [1.0, math.nan]}, "size[1]", "nan", "finite"),
        ({"size": [1.0, -1.0]}, "size[1]", "-1.0", "above 0"),
        ({"words": ["a", 2]}, "words[1]", "2", "a text"),
        ({"wait": 0.0}, "wait", "0.0", "above 0"),
        ("text", "document", "'text'", "count, on"),
        (None, "document", "None", "count, on"),
    ],
)
def test_one_mistake_is_one_line_with_file_key_value_and_fix(data, key_, value, fix) -> None:
    (line,) = problems(data)
    assert line.startswith(f"f.yaml: {key_}: ")
    assert value in line
    assert fix in line.split(";", 1)[1]


def test_every_mistake_of_a_document_is_reported_at_once() -> None:
    found = problems(
        {
            "conut": 1,
            "name": 5,
            "size": [1.0, 0.0],
            "leaf": {"colour": "pink"},
            "leaves": {"a": LEAF | {"low": 3.0}, "b": LEAF | {"low": 4.0}},
        }
    )
    assert [line.split(": ")[1] for line in found] == [
        "conut", "name", "size[1]", "leaf.speed", "leaf.colour", "leaves.a.low", "leaves.b.low",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [2, 2.0])
def test_a_whole_number_is_a_number_and_becomes_a_float(number) -> None:
    leaf = load(Leaf, {"speed": number}, "f")
    assert leaf.speed == 2.0
    assert type(leaf.speed) is float


def test_flat_ros_parameters_give_the_same_as_the_nested_yaml() -> None:
    flat = {
        "count": 3,
        "on": False,
        "name": "n",
        "size": array("d", [0.5, 2.0]),  # rclpy's type for a list of numbers
        "words": ["a"],
        "leaf.speed": 2,
        "leaf.colour": "blue",
        "leaves.left.speed": 1.0,
        "leaves.right.speed": 10.0,
    }
    assert load(Tree, unflatten(flat), "f") == load(Tree, WHOLE, "f")


@pytest.mark.parametrize("flat", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}])
def test_a_name_that_is_value_and_group_is_refused_in_either_order(flat) -> None:
    with pytest.raises(ConfigError, match="both a value and a group"):
        unflatten(flat)


def test_unflatten_leaves_its_input_as_it_was() -> None:
    group = {"b": 1}
    assert unflatten({"a": group, "a.c": 2}) == {"a": {"b": 1, "c": 2}}
    assert group == {"b": 1}


def test_somebody_elses_settings_pass_as_they_are_and_as_plain_lists() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Device:
        settings: dict[str, Any] = key(doc="the maker's own")

    given = {"type": "x", "port": 0, "nested": {"on": True}, "gains": array("d", [1.0, 2.0])}
    settings = load(Device, {"settings": given}, "f.yaml").settings
    assert settings == given | {"gains": [1.0, 2.0]}
    assert type(settings["gains"]) is list


@pytest.mark.parametrize("name", ["2cam", "wrist cam", "front-left", "a//b", "/", "a/"])
def test_what_is_to_be_a_ros_name_and_is_none_is_said_before_ros_does(name) -> None:
    with pytest.raises(ConfigError) as error:
        load(CameraNodeConfig, {"cameras": {name: {"type": "opencv"}, "b": {"typ": 1}}}, "c")
    first, *others = error.value.problems
    assert first == (
        f"c: cameras: {name!r} is no ROS name; write letters, digits, _ and /, and no digit first"
    )
    assert others, "and what else is wrong is said too"
    with pytest.raises(ConfigError, match=r"topic: is .*; write a ROS name: letters"):
        load(SourceConfig, {"topic": name}, "c: sources.hand")


@pytest.mark.parametrize("name", ["a", "/a/b_2", "~/x", "left/front"])
def test_ros_names_pass(name) -> None:
    assert load(SourceConfig, {"topic": name}, "c").topic == name
