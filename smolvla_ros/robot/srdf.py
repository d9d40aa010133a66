"""The parts of an SRDF that matter here: which link pairs may touch, and named poses."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Srdf:
    """Semantic description of a robot.

    Attributes:
        name: the robot that it says it is of.
        disabled: link pairs (as frozensets of two names) excluded from collision checks.
        enabled: link pairs that stay checked although a link was excluded as a whole.
        unchecked_links: links excluded from checks by ``disable_default_collisions``.
        states: pose name → joint name → value in radians or metres.
        frames: frame that the robot stands in by a fixed virtual joint → the link that does.
    """

    name: str = ""
    disabled: frozenset[frozenset[str]] = frozenset()
    enabled: frozenset[frozenset[str]] = frozenset()
    unchecked_links: frozenset[str] = frozenset()
    states: dict[str, dict[str, float]] = field(default_factory=dict)
    frames: dict[str, str] = field(default_factory=dict)

    def allows_contact(self, link1: str, link2: str) -> bool:
        """True where the SRDF says that these two links need no collision check."""
        pair = frozenset((link1, link2))
        if pair in self.enabled:
            return False
        return pair in self.disabled or bool(self.unchecked_links & pair)

    def links(self) -> set[str]:
        """Every link the collision entries name."""
        return set(self.unchecked_links).union(*self.disabled, *self.enabled)


def read_srdf(path: Path) -> Srdf:
    """Read ``path``.

    Raises:
        ValueError: if the file is no SRDF, an attribute is missing or a value is no number.
    """
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{path}: is not XML ({error})") from error
    if root.tag != "robot":
        raise ValueError(f"{path}: root element is <{root.tag}>; an SRDF starts with <robot>")
    if any("xacro" in element.tag for element in root.iter() if isinstance(element.tag, str)):
        raise ValueError(f"{path}: is xacro; make an SRDF of it: `xacro {path.name} > FILE`")

    def attribute(element: ET.Element, name: str) -> str:
        value = element.get(name)
        if value is None:
            raise ValueError(f"{path}: <{element.tag}> has no attribute {name!r}")
        return value

    def pairs(tag: str) -> frozenset[frozenset[str]]:
        return frozenset(
            frozenset((attribute(e, "link1"), attribute(e, "link2"))) for e in root.iter(tag)
        )

    states: dict[str, dict[str, float]] = {}
    for state in root.iter("group_state"):
        # One pose may be spread over several groups (arm, gripper): same name, one pose.
        pose = states.setdefault(attribute(state, "name"), {})
        for joint in state.iter("joint"):
            try:
                value = float(attribute(joint, "value"))
                if not math.isfinite(value):
                    raise ValueError(f"joint {attribute(joint, 'name')} at {value}")
                pose[attribute(joint, "name")] = value
            except ValueError as error:
                raise ValueError(f"{path}: group_state {state.get('name')}: {error}") from error
    return Srdf(
        name=root.get("name", ""),
        disabled=pairs("disable_collisions"),
        enabled=pairs("enable_collisions"),
        unchecked_links=frozenset(
            attribute(e, "link") for e in root.iter("disable_default_collisions")
        ),
        states=states,
        frames={
            attribute(e, "parent_frame"): attribute(e, "child_link")
            for e in root.iter("virtual_joint")
            if attribute(e, "type") == "fixed"
        },
    )
