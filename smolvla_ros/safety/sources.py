"""Who may command: named sources, their priorities, and who has the arm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smolvla_ros.safety.command import Refused


@dataclass(frozen=True)
class Source:
    """One named stream of commands.

    Attributes (seconds, radians):
        priority: a higher one takes the arm over; an equal one waits.
        timeout: the source counts as silent, and lets go, this long after its last
            accepted command.
        max_age: a command stamped longer ago is refused.
        require_stamp: refuse commands without a stamp; else they count from arrival.
        start_tolerance: a source that takes the arm over must begin this near to it, in
            every joint (m for prismatic ones); infinite: anywhere.
        missing_joints: ``refuse`` a command that leaves joints out, or ``hold`` those
            where they are commanded to be.
        ignore_joints: names that may stand in a command and are not looked at.
        whole: a command is carried out to its end, as an action's goal is, and begins where
            the arm is; the source is silent only from its end on.
    """

    name: str
    priority: int = 0
    timeout: float = 1.0
    max_age: float = 2.0
    require_stamp: bool = False
    start_tolerance: float = 0.5
    missing_joints: str = "refuse"
    ignore_joints: tuple[str, ...] = ()
    whole: bool = False


class Arbiter:
    """Which source has the arm, and which publisher has a source.

    Not thread-safe: the gate's lock is held around every call.
    """

    def __init__(self, sources: Iterable[Source]):
        self.sources = {s.name: s for s in sources}
        self.active = ""  # the source that has the arm; empty: nobody
        self._heard_at = -float("inf")  # its last accepted command
        self._owners: dict[str, tuple[str, float]] = {}

    def source(self, name: str) -> Source:
        """Settings of a source.

        Raises:
            Refused: nobody declared it.
        """
        if not isinstance(name, str) or name not in self.sources:
            raise Refused("unknown_source", f"source {name!r}; declared: {', '.join(self.sources)}")
        return self.sources[name]

    def check_publisher(self, now: float, source: Source, publisher: str) -> None:
        """The first publisher keeps a source until it has been silent for its timeout.

        Raises:
            Refused: another publisher speaks on the source.
        """
        owner, heard_at = self._owners.get(source.name, (publisher, now))
        if owner != publisher and now - heard_at <= source.timeout:
            raise Refused("second_publisher", f"{source.name}: {publisher} speaks beside {owner}")
        self._owners[source.name] = (publisher, now)

    def check_turn(self, now: float, source: Source) -> None:
        """A source that has the arm gives it up to a higher priority, or by silence.

        Raises:
            Refused: another source of the same or a higher priority has the arm.
        """
        if self.active in ("", source.name) or self.silent_for(now) > self._holder.timeout:
            return
        if source.priority <= self._holder.priority:
            raise Refused(
                "lower_priority",
                f"{self.active} (priority {self._holder.priority}) has the arm, not "
                f"{source.name} (priority {source.priority})",
            )

    def has(self, now: float, source: Source) -> bool:
        """True while ``source`` has the arm and is not silent."""
        return self.active == source.name and self.silent_for(now) <= source.timeout

    def take(self, now: float, source: Source) -> None:
        """``source`` has spoken and has the arm."""
        self.active, self._heard_at = source.name, now

    def carry_on(self, now: float) -> None:
        """What the source that has the arm has asked for is still being done: that counts as
        speaking where its commands are whole."""
        if self._holder.whole:
            self._heard_at = now

    def release(self) -> None:
        """Nobody has the arm."""
        self.active, self._heard_at = "", -float("inf")

    def silent_for(self, now: float) -> float:
        """Seconds since the last command of the source that has the arm."""
        return now - self._heard_at

    @property
    def timed_out_after(self) -> float:
        """Timeout of the source that has the arm, in seconds."""
        return self._holder.timeout

    @property
    def _holder(self) -> Source:
        return self.sources[self.active]
