"""Whether an arm did what it was told, by the simulator's state alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from smolvla_ros.sim.world import World

KINDS = ("touch", "pick")

NEAR = 0.015  # m from fingertip to the named block's surface that count as touching it
NEAR_FOR = 0.5  # s for which it must be
BRUSHED = 0.005  # m from fingertip to a block's surface that count as contact
HIGH = 0.05  # m that a picked block's centre is higher than at rest
HIGH_FOR = 1.0  # s for which it must be
LIFTED = 0.02  # m from which on a held block counts as lifted

_ROUNDING = 1e-9  # s
_APART = 0.1  # s without contact after which the next one counts anew


def read_task(text: str, blocks: Sequence[str]) -> tuple[str, str]:
    """A task as ``touch red``: its kind and its block; both empty for an empty text.

    Raises:
        ValueError: anything else.
    """
    words = text.split()
    if not words:
        return "", ""
    if len(words) != 2 or words[0] not in KINDS or words[1] not in blocks:
        raise ValueError(
            f"is {text!r}; write {' or '.join(KINDS)} and one of {', '.join(blocks)}, or nothing"
        )
    return words[0], words[1]


@dataclass(frozen=True)
class Judgement:
    """What was seen from the start of an episode until now.

    Attributes:
        success: the task was done. at: s from the start to it, None while it is not.
        lost: it cannot be done any more: another block was touched first.
        touched, lifted: blocks in the order in which the arm first did that to them.
        contacts: how often the arm came into contact with ``table``, ``bin`` and ``self``.
    """

    success: bool = False
    at: float | None = None
    lost: bool = False
    touched: tuple[str, ...] = ()
    lifted: tuple[str, ...] = ()
    contacts: dict[str, int] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing that follows changes ``success``."""
        return self.success or self.lost


class Judge:
    """Watches one episode of a world; made when it starts.

    touch: the fingertip within 15 mm of the named block's surface for 0.5 s, and no other
    block touched before. Touched is a block in contact with a link of the arm, or one whose
    surface is within 5 mm of the fingertip.

    pick: the named block's centre 5 cm higher than at rest on the table for 1 s, in contact
    with the gripper and not with the table. Lifted is a block held so, 2 cm high.

    Args:
        world: just reset. kind: ``touch`` or ``pick``; empty where nothing is to be done.
        block: the one that is named; empty for none.

    Raises:
        ValueError: an unknown kind, or a block that the scene has not.
    """

    def __init__(self, world: World, kind: str = "", block: str = ""):
        if bool(kind) != bool(block) or (kind and kind not in KINDS):
            raise ValueError(f"task {kind!r} {block!r}; known: {', '.join(KINDS)}, with a block")
        if block and block not in world.block_names:
            raise ValueError(f"no block {block!r}; the scene has: {', '.join(world.block_names)}")
        self._world, self._kind, self._block = world, kind, block
        self._began = world.time
        self._links = set(world.robot.links)
        self._gripper = _gripper_links(world)
        self._since: float | None = None  # when what must last began
        self._last: dict[tuple[str, str], float] = {}  # contact → when it was seen last
        self._contacts: Counter[str] = Counter(dict.fromkeys(("table", "bin", "self"), 0))
        self._touched: list[str] = []
        self._lifted: list[str] = []
        self._at: float | None = None
        self._lost = False

    def look(self) -> Judgement:
        """Take in where everything is now; call it at least every 20 ms of simulated time."""
        now, pairs = self._world.time, self._world.contacts()
        self._count(now, pairs)
        tip = self._world.fingertip()
        near, high = {}, {}
        for name in self._world.block_names:
            touching = {n for pair in pairs if f"block_{name}" in pair for n in pair}
            near[name] = self.distance(name, tip)
            high[name] = self._held_at(name, touching)
            if name not in self._touched and (touching & self._links or near[name] <= BRUSHED):
                self._touched.append(name)
            if name not in self._lifted and high[name] >= LIFTED:
                self._lifted.append(name)
        if self._kind == "touch" and self._at is None:
            self._lost = any(name != self._block for name in self._touched)
            self._wait(now, near[self._block] <= NEAR and not self._lost, NEAR_FOR)
        elif self._kind == "pick" and self._at is None:
            self._wait(now, high[self._block] >= HIGH, HIGH_FOR)
        return self.judgement

    @property
    def judgement(self) -> Judgement:
        """As of the last look."""
        return Judgement(
            self._at is not None,
            self._at,
            self._lost,
            tuple(self._touched),
            tuple(self._lifted),
            dict(self._contacts),
        )

    def distance(self, block: str, point: np.ndarray) -> float:
        """m from a point ``[3]`` to the surface of a block, 0 inside it."""
        position, rotation = self._world.block_pose(block)
        half = self._world.scene.blocks[block].edge / 2
        beyond = np.abs(rotation.T @ (point - position)) - half
        return float(np.linalg.norm(np.maximum(beyond, 0.0)))

    def _held_at(self, block: str, touching: set[str]) -> float:
        """m above its place on the table, while the gripper holds it; else minus infinity."""
        if "table" in touching or not touching & self._gripper:
            return -np.inf
        scene = self._world.scene
        rest = scene.table.surface + scene.blocks[block].edge / 2
        return float(self._world.block_pose(block)[0][2] - rest)

    def _wait(self, now: float, done: bool, lasting: float) -> None:
        if not done:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= lasting - _ROUNDING:
            self._at = now - self._began

    def _count(self, now: float, pairs: set[tuple[str, str]]) -> None:
        for pair in pairs:
            ours = [name for name in pair if name in self._links]
            if not ours:
                continue
            with_what = "self" if len(ours) == 2 else next(n for n in pair if n not in ours)
            if with_what not in self._contacts:
                continue
            if now - self._last.get(pair, -np.inf) > _APART:
                self._contacts[with_what] += 1
            self._last[pair] = now


def _gripper_links(world: World) -> set[str]:
    """The link that carries the fingertip, and all that it carries."""
    model = world.model
    top = model.body(world.scene.fingertip).parentid[0]
    found = set()
    for i in range(model.nbody):
        body = i
        while body not in (0, top):
            body = model.body(body).parentid[0]
        if body == top:
            found.add(model.body(i).name)
    return found
