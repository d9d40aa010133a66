"""The page on what stops the arm has every word that the gate has, and no other."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable

from cells import ROOT

from smolvla_ros.arm.watchdog import Mode
from smolvla_ros.safety.command import CONTENT
from smolvla_ros.safety.zones import KINDS

PAGE = (ROOT / "docs" / "what_stops_the_arm.md").read_text()
SERVICES = {"enable", "reset", "reload", "parameters"}
MONITOR = [
    *sorted((ROOT / "smolvla_ros" / "safety").glob("*.py")),
    *sorted((ROOT / "smolvla_ros" / "ros").glob("*.py")),
    ROOT / "smolvla_ros" / "nodes" / "safety_monitor.py",
]


@functools.cache
def trees() -> list[ast.AST]:
    """Every piece of the monitor's source."""
    return [node for path in MONITOR for node in ast.walk(ast.parse(path.read_text()))]


def text(node: ast.AST | None) -> set[str]:
    """The words that an expression may be; ``CHECK`` is what some module calls its own."""
    if "CHECK" in (getattr(node, "id", ""), getattr(node, "attr", "")):
        values = [(n.targets[0], n.value) for n in trees() if isinstance(n, ast.Assign)]
        return {v.value for t, v in values if getattr(t, "id", "") == "CHECK"}
    if isinstance(node, ast.IfExp):
        return text(node.body) | text(node.orelse)
    if isinstance(node, ast.Tuple):
        return text(node.elts[0])
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return {node.value} - {""} if constant else set()


def arguments(name: str, place: int, otherwise: str = "") -> set[str]:
    """The words that calls of ``name`` give at ``place``."""
    found: set[str] = set()
    for node in trees():
        if isinstance(node, ast.Call):
            function = node.func
            called, words = function, node.args
            if getattr(function, "id", "") == "partial":
                called, *words = node.args
            if name in (getattr(called, "attr", None), getattr(called, "id", None)):
                given = words[place] if len(words) > place else None
                found |= text(given) if given is not None else {otherwise}
    return found - {""}


def inside(function: str, kind: type, part: Callable[[ast.AST], ast.AST | None]) -> set[str]:
    """The words in what a function returns, or assigns."""
    bodies = [n for n in trees() if isinstance(n, ast.FunctionDef) and n.name == function]
    assert bodies, f"no function {function}: this test looks at nothing"
    return set().union(*(text(part(n)) for b in bodies for n in ast.walk(b) if isinstance(n, kind)))


def returned(function: str, place: int = 0) -> set[str]:
    def part(node: ast.Return) -> ast.AST | None:
        return node.value.elts[place] if isinstance(node.value, ast.Tuple) else node.value

    return inside(function, ast.Return, part)


def assigned(attribute: str) -> set[str]:
    """The words that are assigned to ``self.<attribute>``, alone or first of a tuple."""
    found: set[str] = set()
    for node in trees():
        if isinstance(node, ast.Assign):
            for target in node.targets:
                ends = target.elts if isinstance(target, ast.Tuple) else [target]
                several = isinstance(node.value, ast.Tuple) and len(ends) > 1
                values = node.value.elts if several else [node.value] * len(ends)
                for end, value in zip(ends, values, strict=True):
                    if isinstance(end, ast.Attribute) and end.attr == attribute:
                        found |= text(value)
    return found


def on_the_page(heading: str) -> set[str]:
    """The words in the first column of the table under a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    columns = re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE)
    return {word for column in columns for word in re.findall(r"`([^`]+)`", column)}


def test_every_refusal() -> None:
    refused = arguments("Refused", 0)
    assert refused >= CONTENT | SERVICES, "the words that the gate itself lists are found"
    assert on_the_page("Refused") == refused - SERVICES
    for word in SERVICES:
        assert f"`{word}`" in PAGE


def test_every_check_of_a_step() -> None:
    # Names of kinds of zones are words as they are, and so are those of pairs.
    pairs = arguments("Pair", 1) | set(KINDS)
    shaped = returned("_illegal") | returned("_speed_ratio", 1) | arguments("Blocked", 0)
    assert {"velocity", "position"} <= shaped and "self_collision" in pairs
    assert on_the_page("Shaped or held") == pairs | shaped


def test_every_cause_of_braking() -> None:
    causes = arguments("brake", 0) | returned("_braking_cause") | arguments("hinder", 0)
    causes |= assigned("_off_track") | assigned("_held")
    assert {"clock_jump", "frozen", "command_timeout", "obstacles_stale"} <= causes
    assert on_the_page("Brakes") == causes


def test_every_cause_of_a_stop() -> None:
    causes = arguments("stop", 1, otherwise="stop") | arguments("fault", 0)
    causes |= returned("_standing_cause")
    assert {"stop", "bypass", "joint_state_age", "blocked"} <= causes
    assert on_the_page("Stops") == causes


def test_every_mode_of_the_driver() -> None:
    assert on_the_page("The driver, behind the gate") == {mode.value for mode in Mode}
