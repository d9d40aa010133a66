"""One of LeRobot's serial motor buses: who answers on it, what they hold, and its torque.

LeRobot's own driver speaks to the motors; this looks before it does, and keeps a bad line from
becoming a bad motion. Positions here are raw encoder ticks by motor name.
"""

from __future__ import annotations

import fcntl
import os
import stat
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lerobot.motors.feetech import FeetechMotorsBus
from lerobot.motors.motors_bus import MotorCalibration, SerialMotorsBus

from smolvla_ros.arm.calibration import differences
from smolvla_ros.arm.errors import ArmError, one_line

T = TypeVar("T")

_LOOKS = 5  # at a motor, before it is judged
_ROUNDS = 3  # in which a motor that has been let go of may say so
_PATIENCE = 10  # tries at what must be so before torque is on
_GLANCE = 2  # tries at what can as well be looked at the next time
_SETTLED = 10  # ticks by which two looks at an arm at rest may differ
_APART = 0.05  # s between the two
_PAUSE = 0.002  # s that the kernel waits for bytes
# Of them in a row, until nothing is to come any more of an answer that was given up: because it
# was garbled, because there was none in time.
_AFTER_GARBLED, _AFTER_SILENCE = 1, 5
_DRAIN = 0.25  # s of quiet at most, once all tries were in vain

# Bytes of a Feetech answer beside its data; what its SDK calls a bad one.
_AROUND, _BAD = 6, -7

OVER_TEMPERATURE = "over-temperature"
# The status byte of Feetech's servos.
_ALARMS = {0: "voltage", 1: "encoder", 2: OVER_TEMPERATURE, 3: "over-current", 5: "overload"}


class SerialBus:
    """A bus of one arm.

    Args:
        bus: LeRobot's. calibration: of its motors, from LeRobot's file, which is ``file``.
        retries: further tries of one transaction. reply: s that a motor has to answer.
        errors: what went wrong is counted there, as ``read`` and ``write``.

    Attributes:
        silences: how often a motor did not answer in time.
    """

    def __init__(
        self,
        bus: SerialMotorsBus,
        calibration: dict[str, MotorCalibration],
        file: Path,
        retries: int,
        reply: float,
        errors: Counter[str],
    ):
        self.bus = bus
        self._errors = errors
        self.motors = list(bus.motors)
        self._calibration, self._file = calibration, file
        self._reply = reply
        self._port = bus.port_handler
        self._drain = round(min((retries + 1) * reply, _DRAIN) / _PAUSE)
        # LeRobot's own retries, where it asks for none: configuring an arm is a hundred
        # transactions, and one bad packet would end it.
        for name in ("read", "write"):
            setattr(bus, name, partial(_with_retries, getattr(bus, name), retries))
        # A reply that came too late must not be taken for that of the next question, which may be
        # after another register: the SDK does not look at its length.
        self._wait = 0  # pauses before the next question
        self._owing = False  # whether an answer to the newest question did not come
        self.silences = 0
        self._length: int | None = None
        handler = bus.packet_handler
        handler.rxPacket = partial(self._receive, handler.rxPacket)
        if isinstance(bus, FeetechMotorsBus):
            handler.readRx = partial(self._read_answer, handler.readRx)
        self._port.clearPort = self._clear
        self._port.setPacketTimeout = self._set_timeout

    # -- the line -----------------------------------------------------------------------

    def open(self) -> None:
        """Open the port for this process alone.

        Raises:
            ArmError: there is no such port, it may not be opened, or somebody uses it.
        """
        name = self.bus.port
        self.close()
        self._guarded(lambda: _look_at(name))
        try:
            self.bus.connect(handshake=False)
        except Exception as error:  # pyserial, the SDK and LeRobot each have their own
            cause = error.__cause__ or error
            raise ArmError(f"port {name}: cannot be opened: {_reason(cause)}") from error
        try:
            self._guarded(self._take)
        except ArmError:
            self.close()
            raise

    def _take(self) -> None:
        line = self._port.ser
        try:
            fcntl.flock(line.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArmError(
                f"port {self.bus.port}: another program has locked it; end that one"
            ) from error
        # Not everybody looks for locks: nobody else opens it now.
        fcntl.ioctl(line.fileno(), termios.TIOCEXCL)
        # Wait for bytes in the kernel: the SDK asks again and again otherwise.
        line.timeout = _PAUSE

    def close(self) -> None:
        """Let the port go. Torque stays as it is."""
        self.recover()
        if self._port.is_open:
            with suppress(Exception):  # it may have gone
                fcntl.ioctl(self._port.ser.fileno(), termios.TIOCNXCL)
            self._port.closePort()

    def recover(self) -> None:
        """After an error: the SDK would take its port for busy for ever."""
        self._port.is_using = False

    def give_up(self) -> None:
        """After the last try: what is asked next is another question, and answers that did not
        come in time may still come."""
        if self._owing:
            self._wait = self._drain

    def _clear(self) -> None:
        line = self._port.ser
        line.flush()
        most = max(self._reply, 2.0 * self._wait * _PAUSE)
        quiet, until = 0, time.monotonic() + most
        while quiet < self._wait and time.monotonic() < until:
            quiet = 0 if line.read(256) else quiet + 1
        # One that was asked twice may be answered twice.
        self._wait = min(self._wait // 2, _AFTER_SILENCE)
        line.reset_input_buffer()

    def _receive(self, receive: Callable[..., Any], *args, **words) -> Any:
        packet, result = receive(*args, **words)
        good = self.bus._is_comm_success(result)
        if good and self._length is not None and len(packet) != _AROUND + self._length:
            good, result = False, _BAD
        if not good:
            self._wait = _AFTER_GARBLED if packet else _AFTER_SILENCE
        silent = not good and not packet
        self.silences += silent
        self._owing = not good and (silent or self._owing)
        return packet, result

    def _read_answer(self, read: Callable[..., Any], port: Any, motor: int, length: int) -> Any:
        self._length = length
        try:
            return read(port, motor, length)
        finally:
            self._length = None

    def _set_timeout(self, length: int) -> None:
        port = self._port
        port.packet_start_time = port.getCurrentTime()
        port.packet_timeout = port.tx_time_per_byte * (length + 3) + 1e3 * self._reply

    # -- who is there ---------------------------------------------------------------------

    def examine(self) -> None:
        """Look at every motor before anything is written.

        Raises:
            ArmError: a line for each motor that does not answer, is of another model or shares
                its id, and one for a calibration that is not this arm's.
        """
        problems, silent, twice = [], [], []
        for name in self.motors:
            answers, problem = self._meet(name)
            if problem:
                problems.append(problem)
            if not answers:
                silent.append(name)
            elif self._shared(name):
                twice.append(name)
        if len(silent) == len(self.motors):
            raise ArmError(
                f"port {self.bus.port}: no motor answers; is the arm's power on, and is this the "
                "arm's port (lerobot-find-port)?"
            )
        none = ", and none as " + ", ".join(map(self._called, silent)) if silent else ""
        problems += [
            f"port {self.bus.port}: two motors answer as {self._called(name)}{none}; give each its "
            "own id (lerobot-setup-motors)"
            for name in twice
        ]
        if not twice:
            problems += [
                f"port {self.bus.port}: motor {self._called(name)} does not answer; is it plugged "
                "in, and has it its id (lerobot-setup-motors)?"
                for name in silent
            ]
        if not problems:
            held = self._held_calibration()
            # Where LeRobot turns the motor's numbers round by itself, no motor knows of it.
            turned = () if self.bus.apply_drive_mode else ("drive_mode",)
            problems = differences(self._file, self._calibration, held, turned)
        if problems:
            raise ArmError(problems)

    def _meet(self, name: str) -> tuple[bool, str]:
        """Whether a motor answers (garbled counts), and what is wrong with it. An alarm is not: an
        arm that is held has to be guarded all the same."""
        answers, said = self._ping(name)
        kind = self.bus.motors[name].model
        wanted = self.bus.model_number_table[kind]
        if said is None or said[0] == wanted:
            return answers, ""
        return True, f"motor {self._called(name)}: is model {said[0]}, not a {kind} ({wanted})"

    def _ping(self, name: str) -> tuple[bool, tuple[int, int] | None]:
        """Whether a motor answers (garbled counts); what, if it was understood: model and alarm."""
        motor, answers = self.bus.motors[name], False
        for _ in range(_LOOKS):
            try:
                model, result, alarm = self._guarded(
                    lambda: self.bus.packet_handler.ping(self._port, motor.id)
                )
            except ArmError:  # half an answer, or one to another question
                answers = True
                continue
            answers |= self._answered(result)
            if self.bus._is_comm_success(result):
                return True, (model, alarm)
        return answers, None

    def _shared(self, name: str) -> bool:
        """Whether several motors answer to a name: together they say the same as long as they
        agree, so they are asked for what they measure."""
        motor = self.bus.motors[name]
        address = self.bus.model_ctrl_table[motor.model]["Present_Position"][0]
        garbled = 0
        for _ in range(_LOOKS):
            data, result, more = self._guarded(lambda: self._ask(motor.id, address, 8))
            whole = self.bus._is_comm_success(result) and len(data) == 8
            good = whole and not more
            garbled += self._answered(result) and not good
        return garbled > _LOOKS // 2

    def _ask(self, motor: int, address: int, length: int) -> tuple[list[int], int, int]:
        """A motor's bytes, what the SDK says of them, and how many came behind them."""
        data, result, _ = self.bus.packet_handler.readTxRx(self._port, motor, address, length)
        time.sleep(_PAUSE)
        return data, result, self._port.ser.in_waiting

    def _answered(self, result: int) -> bool:
        return "no status packet" not in self.bus.packet_handler.getTxRxResult(result)

    def _called(self, name: str) -> str:
        return f"{name} (id {self.bus.motors[name].id})"

    def _guarded(self, act: Callable[[], T], kind: str = "read") -> T:
        try:
            return act()
        except ArmError:
            raise
        # LeRobot, its SDKs and pyserial raise what they like: a port that vanishes in a read leaves
        # a TypeError, an option that no register can hold a ValueError.
        except Exception as error:
            self.recover()
            self._errors[kind] += 1
            raise ArmError(f"port {self.bus.port}: {_reason(error)}") from error

    def _insist(self, act: Callable[[], T], tries: int = _PATIENCE, kind: str = "read") -> T:
        """Do what must be done before torque is on, however bad the line.

        Raises:
            ArmError: it failed each time.
        """
        for attempt in range(tries):
            try:
                return self._guarded(act, kind)
            except ArmError:
                if attempt == tries - 1:
                    raise
        raise AssertionError("not reached")

    # -- what they hold --------------------------------------------------------------------

    def _held_calibration(self) -> dict[str, MotorCalibration]:
        with self._alarms_aside():
            return self._insist(self.bus.read_calibration)

    @contextmanager
    def _alarms_aside(self) -> Iterator[None]:
        """A motor says its alarm with every answer, and LeRobot then takes that for none."""
        self.bus._is_error = lambda _: False
        try:
            yield
        finally:
            del self.bus._is_error

    def ticks(self, register: str, tries: int = _PATIENCE) -> dict[str, int]:
        """A register of every motor, raw."""
        return self._insist(lambda: self.bus.sync_read(register, normalize=False), tries)

    def goals(self) -> dict[str, float]:
        """Where the motors have been sent, in LeRobot's units: two answers that are the same.

        Raises:
            ArmError: the line is too bad.
        """
        for _ in range(_PATIENCE):
            found = self._insist(self.told)
            if found == self._insist(self.told):
                return found
        raise ArmError(f"port {self.bus.port}: no two answers are the same")

    def told(self) -> dict[str, float]:
        """Where the motors say they have been sent, in LeRobot's units: one answer.

        LeRobot cuts what is behind a tick: a goal is at most half a tick from what stands here,
        and what stands here, written, is the same tick again.

        Raises:
            Exception: no answer; what LeRobot raises.
        """
        ids = {motor: self.bus.motors[motor].id for motor in self.motors}
        raw = self.bus.sync_read("Goal_Position", normalize=False)
        found = self.bus._normalize({ids[motor]: ticks + 0.5 for motor, ticks in raw.items()})
        return {motor: found[i] for motor, i in ids.items()}

    def at_rest(self) -> dict[str, int]:
        """Where the motors stand: two looks that agree, so that no bad packet is believed.

        Raises:
            ArmError: it moves, or the line is too bad.
        """
        before = self.ticks("Present_Position")
        for _ in range(_PATIENCE):
            time.sleep(_APART)
            now = self.ticks("Present_Position")
            if _near(now, before):
                return now
            before = now
        raise self._moves()

    def _moves(self) -> ArmError:
        return ArmError(f"port {self.bus.port}: the arm moves; hold it still")

    def limp(self, glance: bool = False) -> list[str]:
        """Motors without torque; asked twice before it is believed. ``glance``: without much
        patience, as joint states and set-points wait meanwhile."""
        tries = _tries(glance)
        limp = [motor for motor, on in self._torque(tries).items() if not on]
        again = self._torque(tries) if limp else {}
        return [motor for motor in limp if not again[motor]]

    def _torque(self, tries: int) -> dict[str, int]:
        def ask() -> dict[str, int]:
            found = self.bus.sync_read("Torque_Enable", normalize=False)
            if not set(found.values()) <= {0, 1}:
                # A late answer about another register: answers do not say what they are about.
                raise ArmError(f"port {self.bus.port}: torque is neither on nor off: {found}")
            return found

        return self._insist(ask, tries)

    def configure(self, act: Callable[[], None]) -> None:
        """LeRobot's own configuration of this arm, where no motor holds it up: it begins with
        torque off. It ends with torque on, which is left to :meth:`energise`: the goals are old,
        and the arm has been moved meanwhile.

        Raises:
            ArmError: it failed each time.
        """
        if len(self.limp()) < len(self.motors):
            return
        self.bus.enable_torque = lambda *_, **__: None
        try:
            self._insist(act, kind="write")
        finally:
            del self.bus.enable_torque

    def unfit(self) -> list[str]:
        """Motors that are limp and have an alarm, or do not say: a line each. They get no
        torque."""
        lines = []
        for motor in self.limp():
            _, said = self._ping(motor)
            if said is None:
                lines.append(f"motor {self._called(motor)}: does not answer")
            elif said[1]:
                words = ", ".join(alarms(said[1]))
                lines.append(
                    f"motor {self._called(motor)}: alarm: {words}; no torque until it ends"
                )
        return lines

    def energise(self) -> None:
        """Torque on, every limp motor where it stands.

        Raises:
            ArmError: the arm moves, or a motor does not do as it is told.
        """
        limp = self.limp()
        if not limp:
            return
        against = self._moves()
        for _ in range(_PATIENCE):
            stands = self.at_rest()
            here = {m: stands[m] for m in limp}
            self._tell("Goal_Position", here)
            if not here.items() <= self.ticks("Goal_Position").items():
                against = ArmError(f"port {self.bus.port}: the motors do not take a goal position")
                continue
            # On a bad line this took its time.
            if not _near(self.ticks("Present_Position"), here):
                against = self._moves()
                continue
            # All of them by one packet, that nobody waits for an answer to.
            self._tell("Torque_Enable", dict.fromkeys(limp, 1))
            if not (still := self.limp()):
                break
            said = ", ".join(map(self._called, still))
            against = ArmError(f"motor {said}: does not take torque")
        else:
            raise against
        # And locks what they keep. One may have an alarm by now, from the load: it is held.
        with self._alarms_aside():
            self._insist(lambda: self.bus.enable_torque(limp), kind="write")

    def _tell(self, register: str, values: dict[str, int]) -> None:
        self._insist(lambda: self.bus.sync_write(register, values, normalize=False), kind="write")

    def let_go(self) -> None:
        """Torque off, of all motors by one packet that nobody has to answer: one that is silent, or
        has an alarm, keeps no other held. A port that is closed is opened for it.

        Raises:
            ArmError: no port.
        """
        if not self._port.is_open:
            self.open()
        self._tell("Torque_Enable", dict.fromkeys(self.motors, 0))

    def relax(self) -> None:
        """:meth:`let_go`, until every motor has said that it did.

        Raises:
            ArmError: a motor keeps its torque, or does not say that it let go; or no port.
        """
        left: dict[str, bool | None] = dict.fromkeys(self.motors)
        for attempt in range(_PATIENCE):
            self.let_go()
            left = {motor: pulls for motor in left if (pulls := self._pulls(motor)) is not False}
            if True not in left.values() and (not left or attempt + 1 >= _ROUNDS):
                break
        if left:
            raise ArmError(self._not_relaxed(left))
        # What they keep without power may be written again, where they let it.
        with suppress(ArmError), self._alarms_aside():
            self._guarded(self.bus.disable_torque, "write")

    def _pulls(self, name: str) -> bool | None:
        """Whether a motor has torque, asked twice; None: it does not say."""
        motor = self.bus.motors[name]
        address, length = self.bus.model_ctrl_table[motor.model]["Torque_Enable"]
        said = []
        for _ in range(2):
            with suppress(ArmError):  # half an answer
                data, result, _ = self._guarded(lambda: self._ask(motor.id, address, length))
                said += data if self.bus._is_comm_success(result) else []
        return bool(said[0]) if said in ([0, 0], [1, 1]) else None

    def _not_relaxed(self, left: Mapping[str, bool | None]) -> list[str]:
        lines = []
        for pulls, words in ((True, "keeps its torque"), (None, "does not say that it let go")):
            if names := ", ".join(self._called(m) for m, found in left.items() if found is pulls):
                lines.append(f"port {self.bus.port}: motor {names}: {words}")
        limp = ", ".join(motor for motor in self.motors if motor not in left)
        return [f"{line}; {limp or 'none'} did" for line in lines]

    def place(self, goals: Mapping[str, float]) -> None:
        """Send these motors alone, in LeRobot's units."""
        self._insist(lambda: self.bus.sync_write("Goal_Position", dict(goals)), kind="write")

    def alarms(self, glance: bool = False) -> dict[str, tuple[str, ...]]:
        """Motor → what it complains of, of those that do. ``glance``: as of :meth:`limp`."""
        models = {motor.model for motor in self.bus.motors.values()}
        if any("Status" not in self.bus.model_ctrl_table[model] for model in models):
            return {}
        bits = self.ticks("Status", _tries(glance)).items()
        return {motor: alarms(found) for motor, found in bits if found}

    def temperatures(self) -> dict[str, int]:
        """Motor → degrees Celsius; at a glance."""
        return self.ticks("Present_Temperature", _tries(glance=True))


def alarms(bits: int) -> tuple[str, ...]:
    """A motor's status byte in words."""
    words = tuple(word for bit, word in _ALARMS.items() if bits >> bit & 1)
    return words or (f"status {bits}",)


def _tries(glance: bool) -> int:
    return _GLANCE if glance else _PATIENCE


def _with_retries(call: Callable[..., Any], least: int, *args, num_retry: int = 0, **words) -> Any:
    return call(*args, num_retry=max(num_retry, least), **words)


def _look_at(port: str) -> None:
    """Raise ArmError if a port is not there, is no terminal, or another process has it."""
    path = Path(port)
    if not path.exists():
        near = sorted(str(p) for p in Path("/dev").glob("tty[AU][CS][MB]*"))
        there = f"there is {', '.join(near)}" if near else "no USB serial port is there"
        raise ArmError(f"port {port}: no such device; {there} (lerobot-find-port)")
    if not stat.S_ISCHR(path.stat().st_mode):
        raise ArmError(f"port {port}: is no serial port")
    if not os.access(path, os.R_OK | os.W_OK):
        raise ArmError(
            f"port {port}: you may not use it; `sudo usermod -aG dialout $USER`, log in again"
        )
    real = os.path.realpath(port)
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            held = any(os.readlink(f) == real for f in (process / "fd").iterdir())
            words = (process / "cmdline").read_bytes().split(b"\0") if held else []
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue  # another user's, or it has just ended
        if held:
            said = b" ".join(words).decode(errors="replace").strip()
            raise ArmError(f"port {port}: is used by process {process.name} ({said[:80]}); end it")


def _near(ticks: Mapping[str, int], others: Mapping[str, int]) -> bool:
    return all(abs(ticks[m] - t) <= _SETTLED for m, t in others.items())


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)  # the port stands before it
    return one_line(error)
