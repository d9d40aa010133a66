"""A bus of STS3215 servos on a pseudo-terminal: the wire protocol, the registers, the faults.

Nothing of the driver under test is used here, nor of LeRobot: bytes come in and bytes go out, as
Feetech's manuals of the protocol and of the servo's memory table have them. The servos drive a
plant, such as the simulated arm.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import select
import struct
import threading
import time
import tty
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

TICKS = 4095 / math.tau
"""Of the encoder, a radian; LeRobot counts a turn as 4095."""

MODEL = 777
BYTE = 10e-6  # s on the wire at 1 Mbit/s

# Addresses of the memory table.
ID, RETURN_DELAY, LOWEST, HIGHEST, HOTTEST = 5, 7, 9, 11, 13
OFFSET, TORQUE, GOAL, LOCK = 31, 40, 42, 55
POSITION, VELOCITY, LOAD, VOLTAGE, TEMPERATURE, STATUS = 56, 58, 60, 62, 63, 65
SRAM = 40  # below: kept without power

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
BROADCAST = 0xFE
OVERHEAT, OVERLOAD = 0x04, 0x20  # bits of the status


class Plant(Protocol):
    """What the servos move: rad and rad/s of ``D`` joints."""

    names: tuple[str, ...]

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities now."""

    def drive(self, goals: np.ndarray) -> None:
        """Where the servos pull to; NaN: limp."""


class Still:
    """A plant without inertia: it is where it is sent, at once."""

    def __init__(self, names: Iterable[str], start: np.ndarray):
        self.names = tuple(names)
        self.q = np.array(start, dtype=float)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        return self.q.copy(), np.zeros(len(self.q))

    def drive(self, goals: np.ndarray) -> None:
        self.q = np.where(np.isnan(goals), self.q, goals)


class Simulated:
    """A MuJoCo world as a plant. ``lock`` guards the world, whoever else looks at it; somebody
    steps it (:meth:`run` does, in real time, until ``closing`` is set). A hand holds the arm up
    until it has torque for the first time; after that it falls without."""

    def __init__(self, world, lock: threading.Lock | None = None):
        self.names = world.robot.names
        self.lock = lock or threading.Lock()
        self._world = world
        self._by_hand = True
        self._gains = (world.model.actuator_gainprm.copy(), world.model.actuator_biasprm.copy())

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        with self.lock:
            return self._world.joint_positions(), self._world.joint_velocities()

    def drive(self, goals: np.ndarray) -> None:
        limp = np.isnan(goals)
        self._by_hand &= bool(limp.all())
        if self._by_hand:
            return
        with self.lock:
            model = self._world.model
            for values, kept in zip(
                (model.actuator_gainprm, model.actuator_biasprm), self._gains, strict=True
            ):
                values[:] = np.where(limp[:, None], 0.0, kept)
            self._world.command(np.where(limp, self._world.joint_positions(), goals), 0.0)

    def run(self, closing: threading.Event, period: float = 0.005) -> None:
        due = time.monotonic()
        while not closing.is_set():
            with self.lock:
                self._world.step(period)
            due = max(due + period, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))


@dataclass
class Servo:
    """One servo. ``zero``: ticks that it shows at 0 rad of its joint. ``eager``: it takes torque
    with a goal, as some firmware does."""

    id: int
    joint: str
    zero: int = 2048
    alarm: int = 0
    eager: bool = False
    registers: bytearray = field(default_factory=lambda: bytearray(256))
    kept: bytes = b""

    def __post_init__(self) -> None:
        for address, length, value in (
            (0, 1, 3), (1, 1, 10), (3, 2, MODEL), (ID, 1, self.id), (RETURN_DELAY, 1, 250),
            (HIGHEST, 2, 4095), (HOTTEST, 1, 70), (LOCK, 1, 1), (VOLTAGE, 1, 120),
            (TEMPERATURE, 1, 35),
        ):  # fmt: skip
            self.put(address, length, value)
        self.kept = bytes(self.registers[:SRAM])

    def get(self, address: int, length: int) -> int:
        return int.from_bytes(self.registers[address : address + length], "little")

    def put(self, address: int, length: int, value: int) -> None:
        self.registers[address : address + length] = value.to_bytes(length, "little")

    def write(self, address: int, data: bytes) -> None:
        """As an instruction does; what stands below SRAM is kept without power if unlocked."""
        self.registers[address : address + len(data)] = data
        if self.eager and address == GOAL:
            self.registers[TORQUE] = 1
        if address < SRAM and not self.registers[LOCK]:
            self.kept = bytes(self.registers[:SRAM])

    def lose_power(self) -> None:
        """Off and on again."""
        temperature = self.registers[TEMPERATURE]
        self.registers[:] = self.kept + bytes(256 - SRAM)
        self.put(LOCK, 1, 1)
        self.put(VOLTAGE, 1, 120)
        self.put(TEMPERATURE, 1, temperature)

    @property
    def status(self) -> int:
        hot = self.get(TEMPERATURE, 1) > self.get(HOTTEST, 1)
        return self.alarm | (OVERHEAT if hot else 0)

    @property
    def pulls(self) -> bool:
        """Real ones keep a share of their torque when they are overloaded."""
        return self.registers[TORQUE] == 1 and not self.status & (OVERHEAT | OVERLOAD)

    @property
    def goal(self) -> float:
        """rad, within the servo's own limits."""
        ticks = signed(self.get(GOAL, 2), 15)
        return (min(max(ticks, self.get(LOWEST, 2)), self.get(HIGHEST, 2)) - self.zero) / TICKS

    def show(self, position: float, velocity: float) -> None:
        """What it measures, into the registers that say so."""
        self.put(POSITION, 2, magnitude(round(self.zero + position * TICKS), 15))
        self.put(VELOCITY, 2, magnitude(round(velocity * TICKS), 15))
        self.put(STATUS, 1, self.status)


def magnitude(value: int, bit: int) -> int:
    return min(abs(value), (1 << bit) - 1) | ((1 << bit) if value < 0 else 0)


def signed(raw: int, bit: int) -> int:
    size = raw & ((1 << bit) - 1)
    return -size if raw >> bit & 1 else size


def packet(identity: int, body: bytes) -> bytes:
    """Header, id, length, body (instruction or error first), checksum."""
    inner = bytes([identity, len(body) + 1]) + body
    return b"\xff\xff" + inner + bytes([~sum(inner) & 0xFF])


@dataclass
class Faults:
    """Shares of packets; sets of ids."""

    corrupt: float = 0.0  # replies with a byte flipped
    corrupt_in: float = 0.0  # instructions that no servo understands
    drop: float = 0.0  # replies that never come
    noise: float = 0.0  # replies behind a few bytes of noise
    slow: tuple[int, float] | None = None  # the next answer about an address, so many s late
    dead: set[int] = field(default_factory=set)


class FeetechBus:
    """The servos, behind a port named ``port`` (a link to a pseudo-terminal). A context manager.

    ``goals`` is the record of what goal positions came: (monotonic s, ids → ticks).
    """

    def __init__(self, port: Path, plant: Plant, servos: list[Servo], seed: int = 0):
        self.port = port
        self.plant = plant
        self.servos = servos
        self.faults = Faults()
        self.counts: Counter[str] = Counter()
        self.goals: list[tuple[float, dict[int, int]]] = []
        self._draw = random.Random(seed)
        self._arrived = 0.0  # monotonic s, of the last whole instruction
        self._up_at = 0.0  # monotonic s, before that they start and hear nothing
        self._lock = threading.Lock()
        self._master: int | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feetech_bus", daemon=True)

    def __enter__(self) -> FeetechBus:
        self.plug()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=2.0)
        self.unplug()

    def plug(self) -> None:
        """The port is there."""
        master, slave = os.openpty()
        tty.setraw(slave)
        name = os.ttyname(slave)
        os.close(slave)  # a terminal that somebody holds open counts as busy
        made = self.port.with_suffix(".new")
        made.symlink_to(name)
        made.rename(self.port)
        with self._lock:
            self._master = master

    def unplug(self) -> None:
        """The cable is out; the servos keep their power, and hold."""
        with self._lock:
            if self._master is not None:
                os.close(self._master)
            self._master = None
        self.port.unlink(missing_ok=True)

    def servo(self, joint: str) -> Servo:
        return next(s for s in self.servos if s.joint == joint)

    def lose_power(self, start: float = 0.0) -> None:
        """All servos, off and on again; it takes them ``start`` s to hear and answer."""
        with self._lock:
            self._up_at = time.monotonic() + start
            for servo in self.servos:
                servo.lose_power()
            self._drive()

    def torque(self) -> dict[str, bool]:
        return {s.joint: s.registers[TORQUE] == 1 for s in self.servos}

    # -- the wire -------------------------------------------------------------------------

    def _run(self) -> None:
        waiting = b""
        while not self._closing.is_set():
            with self._lock:
                master = self._master
            if master is None:
                waiting = b""
                time.sleep(0.005)
                continue
            try:
                if not select.select([master], [], [], 0.05)[0]:
                    continue
                waiting += os.read(master, 4096)
            except (OSError, ValueError):  # nobody has opened it, or it is unplugged
                waiting = b""
                time.sleep(0.002)
                continue
            while True:
                instruction, waiting = self._cut(waiting)
                if instruction is None:
                    break
                reply = self._obey(*instruction)
                if reply:
                    # It may be unplugged by now.
                    with contextlib.suppress(OSError):
                        os.write(master, reply)

    def _cut(self, data: bytes) -> tuple[tuple[int, int, bytes] | None, bytes]:
        """The first whole instruction (id, instruction, parameters) and what follows it."""
        while True:
            begin = data.find(b"\xff\xff")
            if begin < 0 or len(data) < begin + 4:
                return None, data[max(begin, 0) :] if begin >= 0 else data[-1:]
            length = data[begin + 3]
            end = begin + 4 + length
            if length < 2 or data[begin + 2] == 0xFF:
                data = data[begin + 1 :]
                continue
            if len(data) < end:
                return None, data[begin:]
            whole, data = data[begin:end], data[end:]
            if ~sum(whole[2:-1]) & 0xFF != whole[-1]:
                self.counts["bad_checksum"] += 1
            elif self._draw.random() < self.faults.corrupt_in:
                self.counts["not_understood"] += 1
            else:
                time.sleep(len(whole) * BYTE)
                self._arrived = time.monotonic()
                return (whole[2], whole[4], whole[5:-1]), data

    def _obey(self, identity: int, instruction: int, parameters: bytes) -> bytes:
        with self._lock:
            if instruction in (READ, SYNC_READ):
                self._measure()
            if instruction == SYNC_READ:
                address, length, *ids = parameters
                parts = [self._answers(i, self._read(address, length)) for i in ids]
            elif instruction == SYNC_WRITE:
                self._sync_write(parameters)
                parts = []
            elif instruction == PING:
                parts = [self._answers(identity, lambda _: b"")]
            elif instruction == READ:
                parts = [self._answers(identity, self._read(parameters[0], parameters[1]))]
            elif instruction == WRITE:

                def write(servo: Servo) -> bytes:
                    servo.write(parameters[0], parameters[1:])
                    return b""

                parts = [self._answers(identity, write)]
                self._note(parameters[0], {identity: parameters[1:]})
                self._drive()
            else:
                self.counts["unknown_instruction"] += 1
                parts = []
            self.counts["instructions"] += 1
        reply = b"".join(parts)
        time.sleep(len(reply) * BYTE + self._slowness(instruction, parameters))
        return reply

    def _slowness(self, instruction: int, parameters: bytes) -> float:
        slow = self.faults.slow
        if slow is None or instruction not in (READ, SYNC_READ) or parameters[0] != slow[0]:
            return 0.0
        self.faults.slow = None
        return slow[1]

    def _read(self, address: int, length: int):
        return lambda servo: bytes(servo.registers[address : address + length])

    def _answers(self, identity: int, act) -> bytes:
        """What is on the wire when all servos of one id answer: of a byte that two send at once,
        the zeros win."""
        said = [
            packet(s.id, bytes([s.status]) + act(s))
            for s in self.servos
            if (s.id == identity or identity == BROADCAST) and self._hears(s)
        ]
        if not said or identity == BROADCAST:
            return b""
        reply = bytearray(said[0])
        for other in said[1:]:
            for i, value in enumerate(other[: len(reply)]):
                reply[i] &= value
        return self._spoil(reply)

    def _hears(self, servo: Servo) -> bool:
        return servo.id not in self.faults.dead and time.monotonic() >= self._up_at

    def _spoil(self, reply: bytearray) -> bytes:
        self.counts["replies"] += 1
        if self._draw.random() < self.faults.drop:
            self.counts["dropped"] += 1
            return b""
        if self._draw.random() < self.faults.corrupt:
            self.counts["corrupted"] += 1
            reply[self._draw.randrange(len(reply))] ^= 1 << self._draw.randrange(8)
        if self._draw.random() < self.faults.noise:
            self.counts["noisy"] += 1
            return self._draw.randbytes(3) + bytes(reply)
        return bytes(reply)

    def _sync_write(self, parameters: bytes) -> None:
        address, length, *rest = parameters
        data = bytes(rest)
        rows = {data[i]: data[i + 1 : i + 1 + length] for i in range(0, len(data), length + 1)}
        for servo in self.servos:
            if servo.id in rows and self._hears(servo):
                servo.write(address, rows[servo.id])
        self._note(address, rows)
        self._drive()

    def _note(self, address: int, rows: Mapping[int, bytes]) -> None:
        if address == GOAL:
            ticks = {i: signed(struct.unpack("<H", row[:2])[0], 15) for i, row in rows.items()}
            self.goals.append((self._arrived, ticks))

    # -- the arm --------------------------------------------------------------------------

    def _measure(self) -> None:
        positions, velocities = self.plant.read()
        for servo in self.servos:
            i = self.plant.names.index(servo.joint)
            servo.show(positions[i], velocities[i])

    def _drive(self) -> None:
        goals = np.full(len(self.plant.names), np.nan)
        for servo in self.servos:
            if servo.pulls:
                goals[self.plant.names.index(servo.joint)] = servo.goal
        self.plant.drive(goals)

    def raise_alarm(self, joint: str, bits: int = 0, temperature: int | None = None) -> None:
        """A servo that is overloaded or too hot lets go."""
        with self._lock:
            servo = self.servo(joint)
            servo.alarm = bits
            if temperature is not None:
                servo.put(TEMPERATURE, 1, temperature)
            self._drive()


def so101_servos(robot) -> tuple[list[Servo], dict[str, dict[str, int]]]:
    """Six servos that have been calibrated to the arm's own zero, and the file that LeRobot's
    calibration would have left (motor → numbers)."""
    servos, calibration = [], {}
    for i, (joint, lower, upper) in enumerate(
        zip(robot.names, robot.lower, robot.upper, strict=True), start=1
    ):
        low, high = -math.ceil(-lower * TICKS), math.ceil(upper * TICKS)
        if joint == "wrist_roll":  # LeRobot gives it the whole turn
            zero, numbers = 2048, (0, 4095)
        else:
            zero = 2000 + 10 * i
            numbers = (zero + low, zero + high)
        if joint != "gripper":
            zero = round(sum(numbers) / 2)
        servo = Servo(i, joint, zero)
        offset = 85 * i - 200
        servo.put(LOWEST, 2, numbers[0])
        servo.put(HIGHEST, 2, numbers[1])
        servo.put(OFFSET, 2, magnitude(offset, 11))
        servo.kept = bytes(servo.registers[:SRAM])
        servos.append(servo)
        calibration[joint] = {
            "id": i, "drive_mode": 0, "homing_offset": offset,
            "range_min": numbers[0], "range_max": numbers[1],
        }  # fmt: skip
    return servos, calibration


def write_calibration(folder: Path, name: str, calibration: dict[str, dict[str, int]]) -> Path:
    """LeRobot's file of an arm called ``name``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(calibration, indent=4))
    return path
