"""Keeps one arm: a thread that reads it, carries out set-points, and finds it again."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smolvla_ros.arm.errors import ArmError
from smolvla_ros.arm.lerobot import LeRobotArm
from smolvla_ros.arm.serial_bus import OVER_TEMPERATURE
from smolvla_ros.arm.watchdog import Mode, Watchdog

_AGAIN = 0.5  # s between two tries to find a lost arm
_LOOK = 0.3  # s between two looks at the motors' health
_DOUBT = 0.05  # s until the torque is looked at again, after a look in vain
_BREATH = 0.003  # s after an error: a line that is out fails at once, time after time
_KEPT = 4096  # durations
_SURE = 3  # reads in a row until an arm has given way
_SOON = 0.2  # s between two looks for alarms while a joint is where it was not sent
_HAND_OVER = 5e-4  # s that a write takes

Heard = Callable[[float, np.ndarray, np.ndarray, np.ndarray], None]


@dataclass
class Report:
    """What the keeper says of itself; written by its thread, read by any."""

    mode: Mode = Mode.LOST
    torque: bool = False
    trouble: str = ""  # why the arm is lost, or what its last error was
    limp: list[str] = field(default_factory=list)  # motors without torque
    alarms: list[str] = field(default_factory=list)  # of the motors
    temperatures: dict[str, int] = field(default_factory=dict)
    away: float = 0.0
    losses: int = 0
    reads: int = 0
    writes: int = 0
    read_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    write_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))


class Keeper:
    """Owns a connected arm; one thread of its own speaks to it.

    Args:
        arm: connected. watchdog: which set-point it gets. rate: Hz of reads.
        lost_after: s without an answer until the arm counts as lost. torque: whether the arm
            is held as soon as :meth:`start` runs; an arm that is found held stays so.
        heard: called in the keeper's thread with each state: (seconds since it was asked for,
            positions, velocities, efforts).
        say: called with a sentence when something happened that people should know.
        failed: called with an exception that ends the thread.
    """

    def __init__(
        self,
        arm: LeRobotArm,
        watchdog: Watchdog,
        rate: float,
        lost_after: float,
        torque: bool,
        heard: Heard,
        say: Callable[[str], None],
        failed: Callable[[BaseException], None],
    ):
        self._arm, self._watchdog = arm, watchdog
        self._period, self._lost_after, self._torque = 1.0 / rate, lost_after, torque
        self._heard, self._say, self._failed = heard, say, failed
        self.report = Report()
        self._wake = threading.Condition()
        self._jobs: deque[tuple[Callable[[], Any], Future]] = deque()
        self._setpoint: tuple[float, np.ndarray, float] | None = None
        self._closing = False
        self._answered = 0.0
        self._given_way = 0  # reads in a row
        self._alarms_at = 0.0  # when they were asked for because a joint is where it was not sent
        self._hot = np.zeros(len(arm.names), dtype=bool)  # joints whose motor lets go
        self._silences = 0  # of motors, when the torque was looked at last
        self._doubt_until = -np.inf
        self._looks = itertools.cycle(("torque", "alarms", "torque", "temperatures"))
        self._thread = threading.Thread(target=self._guard, name="arm", daemon=True)

    def start(self) -> None:
        """Hold the arm, if it is to be held, and go to work.

        Raises:
            ArmError: it cannot be held.
        """
        if self._torque and self._arm.limp():
            self._arm.set_torque(True)
        self._take_up()
        self._thread.start()

    def close(self) -> None:
        """Stop; the motors hold what they were told last."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        self._arm.close()

    def offer(self, q: np.ndarray, over: float) -> None:
        """A set-point: ``[D]`` rad, to be reached in ``over`` s. Only the newest counts."""
        with self._wake:
            self._setpoint = (time.monotonic(), q, over)
            self._wake.notify()
        # The caller would go on in Python and keep the interpreter from the arm's thread.
        time.sleep(_HAND_OVER)

    def set_torque(self, on: bool, patience: float = 5.0) -> str:
        """Torque on where the arm stands, or off; returns what is against it, or nothing. What
        has not begun after ``patience`` s is not done any more; what has is done to its end."""
        future: Future = Future()
        with self._wake:
            self._jobs.append((lambda: self._switch(on), future))
            self._wake.notify()
        try:
            return future.result(timeout=patience)
        except TimeoutError:
            if future.cancel():
                return f"no answer within {patience:g} s; it is not done any more"
        if future.done():
            return future.result()
        word = "take" if on else "lose"
        return (
            f"still under way after {patience:g} s: the arm may yet {word} its torque; the "
            "diagnostics say when it has"
        )

    # -- the thread -------------------------------------------------------------------------

    def _guard(self) -> None:
        try:
            self._run()
        except BaseException as error:  # a dead thread must end the process, not half of it
            self._failed(error)

    def _run(self) -> None:
        read_at = look_at = time.monotonic()
        while True:
            # A read takes a good part of a period, and a set-point that comes meanwhile waits:
            # while they come, it follows on the heels of one.
            slack = self._period / 2 if self._watchdog.mode is Mode.FOLLOWING else 0.0
            due_at = max(self._watchdog.due_at(), self._doubt_until)
            job = self._wait(min(read_at + slack, due_at))
            if self._closing:
                return
            try:
                if job is not None:
                    _carry_out(*job)
                if self._watchdog.mode is Mode.LOST:
                    self._find()
                    read_at = time.monotonic()
                wrote = self._write()
                if self._watchdog.unsure:
                    self._ask()
                now = time.monotonic()
                if now >= (read_at - slack if wrote else read_at + slack):
                    read_at = now + self._period
                    self._read()
                    if now >= look_at:
                        look_at = now + _LOOK
                        self._look()
            except ArmError as error:
                self._trouble(error)
            self.report.mode, self.report.away = self._watchdog.mode, self._watchdog.away

    def _wait(self, until: float) -> tuple[Callable[[], Any], Future] | None:
        """Until a set-point, a job, or ``until``; a job, if there is one."""
        lost = self._watchdog.mode is Mode.LOST
        with self._wake:
            left = _AGAIN if lost else max(0.0, until - time.monotonic())
            self._wake.wait_for(
                lambda: self._closing or self._jobs or (self._setpoint and not lost), left
            )
            setpoint, self._setpoint = self._setpoint, None
            job = self._jobs.popleft() if self._jobs else None
        if setpoint is not None:
            at, q, over = setpoint
            self._watchdog.hear(at, self._arm.within_range(q), over)
        return job

    def _write(self) -> bool:
        if self._watchdog.due_at() > time.monotonic() or not self._sure_of_torque():
            return False
        q = self._watchdog.due(time.monotonic())
        if q is None:
            return False
        began = time.monotonic()
        self._watchdog.wrote(began, q)  # before: what fails may have arrived
        self._arm.write(q, self._period)
        self.report.writes += 1
        self.report.write_s.append(time.monotonic() - began)
        return True

    def _ask(self) -> None:
        """Whether the servos got it: nobody answers to what is written."""
        # Without an answer the next one is within reach of both; whether the line is out, the
        # read that follows tells.
        with suppress(ArmError):
            self._watchdog.got(self._arm.told())

    def _read(self) -> None:
        began = time.monotonic()
        state = self._arm.read()
        self._answered = time.monotonic()
        self.report.reads += 1
        self.report.read_s.append(self._answered - began)
        self._heard(self._answered - began, *state)
        self._let_give_way(state[0])

    def _let_give_way(self, q: np.ndarray) -> None:
        """A motor that is too hot lets go by itself, and takes its last goal again by itself: where
        it has gone meanwhile it is held, or it would leap back. The other joints keep their goals,
        and so does one that is overloaded: it still pulls, and may hold something."""
        follows = self._watchdog.mode is not Mode.OFF
        if follows and self._watchdog.apart(q).any() and time.monotonic() >= self._alarms_at:
            self._alarms_at = time.monotonic() + _SOON
            self._note(self._arm.alarms(glance=True))
        hot = self._hot & ~self._arm.driven_by(self.report.limp)
        if hot.any():
            # Where one motor is limp, nothing was written; the others are held all the same.
            hot &= self._watchdog.apart(q, None if follows else self._arm.held())
        self._given_way = self._given_way + 1 if hot.any() else 0
        if self._given_way < _SURE:  # in a row: one bad answer moves nothing
            return
        limp = self.report.limp
        if not self._sure_of_torque() or self.report.limp != limp:
            return
        self._given_way = 0
        q = self._arm.within_range(q)
        self._watchdog.place(q, hot)
        self._arm.place(q, hot)
        why = "; ".join(self.report.alarms)
        self._say(f"the arm has given way and is held where it is: {why}")

    def _sure_of_torque(self) -> bool:
        """Whether no servo may have lost its power since its torque was looked at: while it starts
        again it does not answer, and some firmware takes torque again with the next goal, wherever
        the arm is by then."""
        if self._arm.silences == self._silences:
            return True
        began = time.monotonic()
        if began < self._doubt_until:
            return False  # joint states go on meanwhile
        try:
            self._look_for_torque()
        except ArmError as error:
            self.report.trouble = "; ".join(error.problems)
            now = time.monotonic()
            self._doubt_until = now + max(_DOUBT, now - began)
            return False
        return True

    def _look(self) -> None:
        """One look at the motors' health: a short one, set-points wait meanwhile."""
        what = next(self._looks)
        if what == "torque":
            self._look_for_torque()
        elif what == "alarms":
            self._note(self._arm.alarms(glance=True))
        else:
            self.report.temperatures = self._arm.temperatures()

    def _look_for_torque(self) -> None:
        limp = self._arm.limp(glance=True)
        self._silences = self._arm.silences
        if self._watchdog.mode is Mode.OFF and not limp:
            # It came back by itself, or the line was out when it was switched on.
            self._take_up()
            self._say("the motors have torque: the arm is held")
            return
        if self.report.torque and limp:
            self._watchdog.release()
            self._say(f"the torque went off by itself: {', '.join(limp)}")
        self.report.torque, self.report.limp = not limp, limp

    def _note(self, alarms: Mapping[str, Sequence[str]]) -> None:
        self.report.alarms = [f"{motor}: {', '.join(words)}" for motor, words in alarms.items()]
        hot = [motor for motor, words in alarms.items() if OVER_TEMPERATURE in words]
        self._hot = self._arm.driven_by(hot)

    # -- changes ----------------------------------------------------------------------------

    def _take_up(self) -> None:
        """From how the arm is found: held or limp. One that is too hot and has sunk meanwhile is
        held where it is as soon as it has been read."""
        self._note(self._arm.alarms())
        goals = self._arm.held()
        # Last: a servo that has lost its power meanwhile has lost its goal too.
        self.report.limp = self._arm.limp()
        self._silences = self._arm.silences
        self.report.torque = not self.report.limp
        if self.report.torque:
            self._watchdog.hold(goals)
        else:
            self._watchdog.release()
        self._answered = time.monotonic()
        self.report.mode = self._watchdog.mode

    def _switch(self, on: bool) -> str:
        lost = self._watchdog.mode is Mode.LOST
        if lost and on:
            return f"the arm does not answer: {self.report.trouble}"
        if self._arm.has_switch and not lost:
            self._watchdog.release()
        against = ""
        try:
            self._arm.set_torque(on)
        except ArmError as error:
            against = "; ".join(error.problems)
        if not self._arm.has_switch:
            return against
        if lost:
            self._arm.close()  # it is examined before anything else is done with it
            self.report.torque = self.report.torque and bool(against)
            return against
        try:
            self._take_up()
        except ArmError as error:
            if on:  # off has been answered for
                against = against or "; ".join(error.problems)
        return against

    def _find(self) -> None:
        self._arm.connect()
        self._take_up()
        self._say(f"the arm is back, {'held' if self.report.torque else 'without torque'}")

    def _trouble(self, error: ArmError) -> None:
        said = "; ".join(error.problems)
        self.report.trouble = said
        lost = self._watchdog.mode is Mode.LOST
        if not lost and time.monotonic() - self._answered > self._lost_after:
            self._watchdog.lose()
            self.report.losses += 1
            self._arm.close()
            self._say(f"the arm is lost: {said}")
        time.sleep(_BREATH)


def _carry_out(job: Callable[[], Any], future: Future) -> None:
    if not future.set_running_or_notify_cancel():
        return  # whoever asked was told that it is not done
    try:
        future.set_result(job())
    except BaseException as error:  # the thread ends by it; whoever waits is told
        future.set_result(f"the driver failed: {error!r}")
        raise
