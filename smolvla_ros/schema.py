"""Strict loading of nested mappings into dataclasses.

One loader serves the cell's YAML, the parameters a ROS node was given and the
scene file, so that the same mistake gives the same sentence everywhere. Every
problem in a document is collected; nothing is guessed or silently dropped.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used.

    ``problems`` holds one line each: ``<file>: <key>: <what is wrong>; <fix>``.
    """

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


# https://design.ros2.org/articles/topic_and_service_names.html
_ROS_NAME = re.compile(r"(~/|/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
_A_NAME = "letters, digits, _ and /, and no digit first"


def key(default: Any = dataclasses.MISSING, *, doc: str, **rules: Any) -> Any:
    """A dataclass field of a configuration.

    ``rules``: ``above``/``at_least``/``at_most`` bound a number (or each number of a
    list), ``length`` fixes a list's length, ``choices`` lists the allowed strings, ``ros_name``
    says that a string, or each key of a dict, names a ROS topic or a part of one.
    Without ``default`` the key is required. A list, a dict or a dataclass type as default
    is made anew for each document.
    """
    metadata = {"doc": doc, **rules}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def load[T](cls: type[T], data: Any, where: str) -> T:
    """Build ``cls`` (a dataclass of :func:`key` fields) from a nested mapping.

    Raises:
        ConfigError: with every unknown key, missing key, wrong type and value out of
            bounds found, each line starting with ``where``.
    """
    problems: list[str] = []
    value = _build(cls, data, "", problems)
    if problems:
        raise ConfigError([f"{where}: {p}" for p in problems])
    return value


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one group; plain YAML drops the first."""

    def construct_mapping(self, node, deep=False):
        """The group that ``node`` stands for, its keys unique."""
        seen = set()
        for name in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
            if name.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {name.value!r} stands twice", name.start_mark
                )
            seen.add(name.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, loader: type[StrictLoader] = StrictLoader) -> Any:
    """The document in a YAML file.

    Args:
        loader: one that knows further tags, where the file has them.

    Raises:
        ConfigError: it is no text, no YAML, or names a key twice.
    """
    try:
        return yaml.load(path.read_text(), loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``: the form in which ROS merges parameters."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` → ``{"a": {"b": 1}}``: ROS parameters are flat, the schema is not."""
    tree: dict[str, Any] = {}
    for name, value in sorted(flatten(flat).items()):  # a value comes before its group
        *parents, leaf = name.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{name}: {part} is both a value and a group of keys")
        node[leaf] = value
    return tree


def _build(cls: type, data: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(data, Mapping):
        problems.append(
            f"{path or 'document'}: is {_show(data)}; write a group of keys: "
            f"{', '.join(f.name for f in dataclasses.fields(cls))}"
        )
        return None
    before = len(problems)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for name in data:
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            fix = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(fields)}"
            problems.append(f"{_join(path, name)}: unknown key (value {_show(data[name])}); {fix}")
    values = {}
    for name, field in fields.items():
        where = _join(path, name)
        if name in data:
            values[name] = _convert(hints[name], data[name], where, field.metadata, problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{where}: missing; give it ({field.metadata.get('doc', '')})")
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except ConfigError as error:  # raised by the dataclass's own __post_init__
        problems.extend(_join(path, p) for p in error.problems)
        return None


def _convert(hint: Any, value: Any, path: str, rules: Mapping, problems: list[str]) -> Any:
    if hint is Any:  # somebody else's settings, who checks them
        return list(value) if isinstance(value, array) else value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (hint,) = [a for a in args if a is not type(None)]
        return _convert(hint, value, path, rules, problems)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, path, problems)
    if origin is dict:
        if not isinstance(value, Mapping):
            problems.append(f"{path}: is {_show(value)}; write named groups below it")
            return None
        if rules.get("ros_name"):
            rules = {rule: bound for rule, bound in rules.items() if rule != "ros_name"}
            problems += [
                f"{path}: {str(k)!r} is no ROS name; write {_A_NAME}"
                for k in value
                if not _ROS_NAME.fullmatch(str(k))
            ]
        return {
            str(k): _convert(args[1], v, _join(path, k), rules, problems) for k, v in value.items()
        }
    if origin is list:
        if isinstance(value, (str, bytes)) or not isinstance(value, typing.Sequence):
            # rclpy hands over array.array for number lists: also a sequence.
            problems.append(f"{path}: is {_show(value)}; write a list [a, b, …]")
            return None
        length = rules.get("length")
        if length is not None and len(value) != length:
            problems.append(f"{path}: has {len(value)} values {_show(value)}; write {length}")
            return None
        return [_convert(args[0], v, f"{path}[{i}]", rules, problems) for i, v in enumerate(value)]
    return _scalar(hint, value, path, rules, problems)


def _scalar(kind: type, value: Any, path: str, rules: Mapping, problems: list[str]) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
        problems.append(f"{path}: is {_show(value)}; write {names[kind]}")
        return None
    if kind is float and not math.isfinite(value):
        problems.append(f"{path}: is {value}; write a finite number")
        return None
    checks = (
        ("above", lambda v, b: v > b, "a value above {}"),
        ("at_least", lambda v, b: v >= b, "a value of at least {}"),
        ("at_most", lambda v, b: v <= b, "a value of at most {}"),
        ("choices", lambda v, b: v in b, "one of {}"),
        ("ros_name", lambda v, _: not v or _ROS_NAME.fullmatch(v), f"a ROS name: {_A_NAME}"),
    )
    for rule, test, wanted in checks:
        bound = rules.get(rule)
        if bound is not None and not test(value, bound):
            shown = ", ".join(map(str, bound)) if rule == "choices" else bound
            problems.append(f"{path}: is {_show(value)}; write {wanted.format(shown)}")
            return None
    return value


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
