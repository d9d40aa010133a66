"""Any robot that LeRobot can make, as an arm in radians and the URDF's joint names."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from lerobot.motors.motors_bus import MotorNormMode, SerialMotorsBus
from lerobot.robots.robot import Robot
from lerobot.robots.utils import make_robot_from_config
from lerobot.utils.constants import HF_LEROBOT_CALIBRATION, ROBOTS

from smolvla_ros.arm.calibration import missing, outside, unreadable
from smolvla_ros.arm.devices import decode, let_ports_go
from smolvla_ros.arm.errors import ArmError, one_line
from smolvla_ros.arm.serial_bus import SerialBus
from smolvla_ros.robot import JointMap, JointUnit, RobotModel
from smolvla_ros.schema import ConfigError

if TYPE_CHECKING:
    from smolvla_ros.cell import ArmConfig

log = logging.getLogger(__name__)

T = TypeVar("T")

_UNITS = {MotorNormMode.DEGREES: "degrees", MotorNormMode.RANGE_0_100: "percent"}
_SPAN = 6  # reads over which velocities are taken: one alone is an encoder tick or none

# Fields of LeRobot's configurations that the node answers for.
_NOT_YOURS = {
    "disable_torque_on_disconnect": "torque goes off by ~/torque alone",
    "cameras": "cameras have a node of their own",
    "max_relative_target": "the safety monitor limits steps, and this reads the bus once more",
    "num_read_retries": "tries are the driver's: arm.retries",
}
# Tries are made, and counted, here; torque goes off only where somebody asks for it.
_OURS = {"disable_torque_on_disconnect": False, "num_read_retries": 0}


def make_robot(kind: str, options: Mapping[str, Any], where: str) -> Robot:
    """LeRobot's robot; nothing is opened.

    Args:
        kind: LeRobot's word for it. options: the fields of its configuration. where: what
            problems begin with.

    Raises:
        ConfigError: an unknown robot or field, a field that is missing or of the wrong type, or
            one that is the node's.
    """
    problems = _not_yours(options, f"{where}.options")
    if "type" in options:
        problems.append(f"{where}.options.type: leave it out: {where}.type says it")
    if "port" in options and not options["port"]:
        problems.append(f"{where}.options.port: is empty; which it is says lerobot-find-port")
    if not options.get("id"):
        problems.append(
            f"{where}.options.id: missing; LeRobot keeps an arm's calibration under its id"
        )
    config = decode("lerobot.robots.RobotConfig", kind, options, where)
    if problems:
        raise ConfigError(problems)
    _make_ours(config, options)
    try:
        return make_robot_from_config(config)
    except Exception as error:  # a maker's own library raises what it likes
        if isinstance(error, FileExistsError) and config.calibration_dir:
            folder = config.calibration_dir
            raise ConfigError(
                f"{where}.options.calibration_dir: {folder}: is no folder; name the one with "
                "LeRobot's files"
            ) from error
        how = _how(kind, config)
        problems = [
            f"{where}.options.id: {options.get('id')}: its calibration {file} cannot be read "
            f"({why}); calibrate again: `{how}`"
            for file in _files_of(config)
            if (why := unreadable(file))
        ]
        raise ConfigError(
            problems or f"{where}.options: {one_line(error) or repr(error)}"
        ) from error


def _files_of(config: Any) -> list[Path]:
    """Where LeRobot may have looked for the calibration of a robot that it could not make."""
    folders = [config.calibration_dir] if config.calibration_dir else []
    folders = folders or sorted((HF_LEROBOT_CALIBRATION / ROBOTS).glob("*"))
    return [file for folder in folders for file in sorted(folder.glob(f"{config.id}*.json"))]


def _how(kind: str, config: Any) -> str:
    """The command that calibrates a robot."""
    port = f" --robot.port={config.port}" if getattr(config, "port", None) else ""
    return f"lerobot-calibrate --robot.type={kind}{port} --robot.id={config.id}"


def _not_yours(options: Mapping[str, Any], where: str) -> list[str]:
    lines = [
        f"{where}.{name}: leave it out: {why}"
        for name, why in _NOT_YOURS.items()
        if name in options
    ]
    for name, value in options.items():  # of a robot with two arms, each has its own
        if isinstance(value, Mapping) and name not in _NOT_YOURS:
            lines += _not_yours(value, f"{where}.{name}")
    return lines


def _make_ours(config: Any, options: Mapping[str, Any]) -> None:
    for name, value in _OURS.items():
        if hasattr(config, name) and name not in options:
            setattr(config, name, value)
    for field in fields(config):
        if is_dataclass(inner := getattr(config, field.name)):
            _make_ours(inner, options.get(field.name, {}))


def make_arm(config: ArmConfig, model: RobotModel, where: str) -> LeRobotArm:
    """The arm of a cell's section; nothing is opened.

    Args:
        config: the section. model: the arm's URDF. where: what problems begin with.

    Raises:
        ConfigError, ArmError: as of :func:`make_robot` and :class:`LeRobotArm`.
    """
    return LeRobotArm(
        model,
        make_robot(config.type, config.options, where),
        config.units(),
        config.motors(),
        where,
        config.retries,
        config.reply_timeout,
        config.type,
    )


class LeRobotArm:
    """:class:`smolvla_ros.arm.ArmDriver` on a robot of LeRobot's.

    Its motors' serial buses, where it has any (``bus``, or ``left_arm.bus`` and the like), are
    looked at before they are used, keep their torque, and are found again. Other robots are
    connected as LeRobot does it; whether they have torque is their own business.

    Args:
        model: the arm's URDF. robot: LeRobot's, not connected.
        units: how LeRobot writes each joint. motors: the joints' names in LeRobot.
        where: what problems of the configuration begin with.
        retries: further tries of a read. reply: s that a motor has to answer. kind: LeRobot's
            word for the robot, where a cell gives one: several may mean the same class.

    Attributes:
        resolution: ``[D]`` rad, half a tick of each motor's encoder; 0 where none is known.

    Raises:
        ConfigError: joints that are not the URDF's or not the robot's, or left out; a unit that
            is not the motor's.
        ArmError: the calibration file is missing or incomplete.
    """

    def __init__(
        self,
        model: RobotModel,
        robot: Robot,
        units: Sequence[JointUnit],
        motors: Mapping[str, str],
        where: str,
        retries: int = 2,
        reply: float = 0.03,
        kind: str = "",
    ):
        self.names = model.names
        self.robot = robot
        self._kind = kind
        self.errors: Counter[str] = Counter()
        self._retries = retries
        self._parts = dict(_parts(robot))
        self._keys = [f"{motors[name]}.pos" for name in self.names if name in motors]
        self._check_names(units, motors, where)
        self._map = JointMap(
            sorted(units, key=lambda u: self.names.index(u.joint)), model.limits_by_name()
        )
        self._check_calibration()
        self._buses = {
            prefix: SerialBus(
                part.bus, part.calibration, part.calibration_fpath, retries, reply, self.errors
            )
            for prefix, part in self._parts.items()
        }
        self._seen: deque[tuple[float, np.ndarray]] = deque(maxlen=_SPAN)
        self._sent = np.full(len(self.names), np.nan)
        reach = self.reach()
        self._range = np.array([reach.get(n, (-np.inf, np.inf)) for n in self.names]).T
        self.resolution = self._resolution()

    # -- before anything is opened ----------------------------------------------------------

    def _check_names(
        self, units: Sequence[JointUnit], motors: Mapping[str, str], where: str
    ) -> None:
        features = list(self.robot.action_features)
        there = [k.removesuffix(".pos") for k in features if k.endswith(".pos")]
        if others := [k for k in features if not k.endswith(".pos")]:
            raise ConfigError(
                f"{where}.type: {self.robot.name} is told {', '.join(others)} as well; only robots "
                "that are told joint positions alone can be gated"
            )
        strangers = [
            f"joint_map.{u.joint}: is no joint of the URDF; it has: {', '.join(self.names)}"
            for u in units
            if u.joint not in self.names
        ]
        mapped = {u.joint for u in units}
        # What has another name is missing under its own: that is said once.
        problems = strangers or [
            f"joint_map: leaves out joint {n!r} of the URDF; add it"
            for n in self.names
            if n not in mapped
        ]
        unknown = [
            f"joint_map.{joint}.motor: {self.robot.name} has no {motor!r}; it has: "
            f"{', '.join(there)}"
            for joint, motor in motors.items()
            if joint in self.names and motor not in there
        ]
        unused = [
            f"joint_map: no joint has motor {motor!r} of {self.robot.name}; add it"
            for motor in there
            if motor not in motors.values()
        ]
        twice = [
            f"joint_map: {', '.join(joints)} have the same motor {motor!r}; give each its own"
            for motor in dict.fromkeys(motors.values())
            if len(joints := [j for j, m in motors.items() if m == motor]) > 1
        ]
        problems += unknown or ([] if strangers else unused)
        problems += twice
        modes = {
            f"{prefix}{name}": motor.norm_mode
            for prefix, part in self._parts.items()
            for name, motor in part.bus.motors.items()
        }
        for unit in units:
            mode = modes.get(motors.get(unit.joint, ""))
            if mode is not None and _UNITS.get(mode) != unit.unit:
                fix = f"write unit: {_UNITS[mode]}" if mode in _UNITS else "set use_degrees: true"
                problems.append(
                    f"joint_map.{unit.joint}.unit: is {unit.unit}, but LeRobot writes this motor "
                    f"in {mode.value}; {fix}"
                )
        if problems:
            raise ConfigError([f"{where}.{p}" for p in problems])

    def _check_calibration(self) -> None:
        problems = []
        for part in self._parts.values():
            kind = self._kind if part is self.robot and self._kind else part.config.type
            names, how = list(part.bus.motors), _how(kind, part.config)
            problems += missing(part.calibration_fpath, part.calibration, names, how)
        if problems:
            raise ArmError(problems)

    def reach(self) -> dict[str, tuple[float, float]]:
        """Joint → rad (m) from where to where its motor goes, by the calibration: beyond, it
        stays at the end of its range. Empty for a robot without a serial bus."""
        if not self._parts:
            return {}
        ends = []
        for end in ("range_min", "range_max"):
            values = {
                f"{prefix}{name}.pos": part.bus._normalize(
                    {motor.id: getattr(part.calibration[name], end)}
                )[motor.id]
                for prefix, part in self._parts.items()
                for name, motor in part.bus.motors.items()
            }
            ends.append(self._map.to_urdf(np.array([values[k] for k in self._keys])))
        return {n: (min(a, b), max(a, b)) for n, a, b in zip(self.names, *ends, strict=True)}

    def _resolution(self) -> np.ndarray:
        ticks = {
            f"{prefix}{name}.pos": motor.range_max - motor.range_min
            for prefix, part in self._parts.items()
            for name, motor in part.calibration.items()
        }
        if not ticks:
            return np.zeros(len(self.names))
        tick = np.ptp(self._range, axis=0) / np.array([ticks[k] for k in self._keys])
        return 0.501 * tick  # rounding

    # -- connecting ---------------------------------------------------------------------------

    def connect(self) -> None:
        """Open and examine; torque stays as it is found.

        Raises:
            ArmError: a line for each thing that is wrong; everything is closed again.
        """
        self._seen.clear()
        self._sent = np.full(len(self.names), np.nan)  # it may have been elsewhere meanwhile
        try:
            for bus in self._buses.values():
                bus.open()
                bus.examine()
            if not self._buses:
                self._connect_other()
        except ArmError:
            self.close()
            raise

    def _connect_other(self) -> None:
        try:
            # Some know it only when they are connected; without a file there is nothing to know.
            if self.robot.calibration_fpath.is_file() or self.robot.is_calibrated:
                self.robot.connect(calibrate=False)
            calibrated = self.robot.is_calibrated
        except Exception as error:  # a maker's own library raises what it likes
            raise ArmError(f"{self.robot.name}: {one_line(error)}") from error
        if not calibrated:
            how = _how(self._kind or self.robot.config.type, self.robot.config)
            raise ArmError(
                f"{self.robot.calibration_fpath}: the calibration is missing or another one; "
                f"calibrate again: `{how}`"
            )

    def close(self) -> None:
        """Close the ports; torque stays on."""
        for bus in self._buses.values():
            bus.close()
        if self._buses:
            return
        try:
            if self.robot.is_connected:
                self.robot.disconnect()
        except Exception as error:  # one that has gone cannot be said goodbye to
            log.warning("%s: disconnecting: %s", self.robot.name, one_line(error))
            let_ports_go(self.robot)

    # -- torque -------------------------------------------------------------------------------

    def limp(self, glance: bool = False) -> list[str]:
        """Motors without torque, where they say. ``glance``: without much patience.

        Raises:
            ArmError: no answer.
        """
        return [f"{prefix}{m}" for prefix, bus in self._buses.items() for m in bus.limp(glance)]

    def held(self) -> np.ndarray:
        """``[D]`` rad that the motors hold.

        Raises:
            ArmError: no answer.
        """
        if not self._buses:
            return self.read()[0]
        return self._of_motors(SerialBus.goals)

    def _of_motors(self, ask: Callable[[SerialBus], dict[str, float]]) -> np.ndarray:
        found = {
            f"{prefix}{motor}.pos": value
            for prefix, bus in self._buses.items()
            for motor, value in ask(bus).items()
        }
        return self._map.to_urdf(np.array([found[k] for k in self._keys]))

    def set_torque(self, on: bool) -> None:
        """Torque on, the arm held where it stands; or off, and it falls: for that it need not be
        connected.

        Raises:
            ArmError: a motor has an alarm, stands outside of its range, or does not do as it is
                told; the arm moves; or this robot's torque cannot be set.
        """
        if not self._buses:
            raise ArmError(f"{self.robot.name}: LeRobot has no way to set its torque")
        if not on:
            problems = []
            for bus in self._buses.values():  # one that fails keeps no other arm held
                with suppress(ArmError):
                    bus.let_go()
            for prefix, bus in self._buses.items():
                try:
                    bus.relax()
                except ArmError as error:
                    problems += [f"{prefix}{line}" for line in error.problems]
            if problems:
                raise ArmError(problems)
            return
        problems = [line for bus in self._buses.values() for line in bus.unfit()]
        if problems:
            raise ArmError(problems)
        for prefix, bus in self._buses.items():
            bus.configure(self._parts[prefix].configure)
        problems = [
            line
            for prefix, bus in self._buses.items()
            for line in outside(self._parts[prefix].calibration, bus.at_rest())
        ]
        if problems:
            raise ArmError(problems)
        for bus in self._buses.values():
            bus.energise()

    def alarms(self, glance: bool = False) -> dict[str, tuple[str, ...]]:
        """Motor → what it complains of, of those that do. ``glance``: without much patience.

        Raises:
            ArmError: no answer.
        """
        return {
            f"{prefix}{motor}": words
            for prefix, bus in self._buses.items()
            for motor, words in bus.alarms(glance).items()
        }

    @property
    def has_switch(self) -> bool:
        """Whether LeRobot can set its torque."""
        return bool(self._buses)

    @property
    def silences(self) -> int:
        """How often a motor did not answer in time: it may have lost its power."""
        return sum(bus.silences for bus in self._buses.values())

    def driven_by(self, motors: Collection[str]) -> np.ndarray:
        """``[D]`` joints that these motors move."""
        return np.array([key.removesuffix(".pos") in motors for key in self._keys])

    def temperatures(self) -> dict[str, int]:
        """Motor → degrees Celsius, where they say.

        Raises:
            ArmError: no answer.
        """
        return {
            f"{prefix}{motor}": value
            for prefix, bus in self._buses.items()
            for motor, value in bus.temperatures().items()
        }

    # -- motion -------------------------------------------------------------------------------

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``[D]`` rad and rad/s; efforts are NaN, LeRobot reads none.

        Raises:
            ArmError: no answer after every try.
        """
        q = self._answer(self._observe)
        now = time.monotonic()
        velocities = np.zeros(len(q))
        if self._seen:
            before, old = self._seen[0]
            velocities = (q - old) / max(now - before, 1e-6)
        self._seen.append((now, q))
        return q, velocities, np.full(len(q), np.nan)

    def _observe(self) -> np.ndarray:
        seen = self.robot.get_observation()
        if unsaid := [k for k in self._keys if k not in seen]:
            raise ArmError(f"{self.robot.name} does not measure {', '.join(unsaid)}")
        values = np.array([float(seen[k]) for k in self._keys])
        if not np.isfinite(values).all():
            odd = [k for k, v in zip(self._keys, values, strict=True) if not np.isfinite(v)]
            raise ArmError(f"{self.robot.name} measures no number: {', '.join(odd)}")
        return self._map.to_urdf(values)

    def write(self, positions: np.ndarray, over: float) -> None:
        """Send the servos to ``positions`` ``[D]`` rad; they go at once, ``over`` is not theirs.

        Raises:
            ArmError: it could not be sent.
        """
        values = self._map.to_policy(positions)
        self._sent = np.full(len(values), np.nan)  # what fails may have arrived
        try:
            self.robot.send_action(dict(zip(self._keys, map(float, values), strict=True)))
            self._sent = positions
        except Exception as error:  # as for reads
            self.errors["write"] += 1
            self._recover()
            raise ArmError(f"cannot be sent: {one_line(error)}") from error

    def place(self, positions: np.ndarray, which: np.ndarray) -> None:
        """Send the motors of the joints ``which`` (``[D]``, bool) alone to ``positions`` ``[D]``
        rad.

        Raises:
            ArmError: it could not be sent.
        """
        values = map(float, self._map.to_policy(positions))
        sent = {k: v for k, v, w in zip(self._keys, values, which, strict=True) if w}
        for prefix, bus in self._buses.items():
            keys = {motor: f"{prefix}{motor}.pos" for motor in bus.motors}
            if mine := {motor: sent[k] for motor, k in keys.items() if k in sent}:
                bus.place(mine)

    def told(self) -> np.ndarray:
        """``[D]`` rad that the motors say they were sent to last, to :attr:`resolution`; of a
        robot that does not say, what it was.

        Raises:
            ArmError: no answer after every try; nothing was sent since it was connected.
        """
        if not self._buses:
            if np.isnan(self._sent).any():
                raise ArmError(f"{self.robot.name}: nothing was sent yet")
            return self._sent
        return self._answer(lambda: self._of_motors(SerialBus.told))

    def within_range(self, positions: np.ndarray) -> np.ndarray:
        """``[D]`` rad, no farther than the motors go: :meth:`reach`."""
        return np.clip(positions, *self._range)

    def _answer(self, ask: Callable[[], T]) -> T:
        for attempt in range(self._retries + 1):
            try:
                return ask()
            except Exception as error:  # LeRobot and makers' libraries raise what they like
                self.errors["read"] += 1
                self._recover()
                if attempt == self._retries:
                    for bus in self._buses.values():
                        bus.give_up()
                    if isinstance(error, ArmError):
                        raise
                    raise ArmError(f"no answer: {one_line(error)}") from error
        raise AssertionError("not reached")

    def _recover(self) -> None:
        for bus in self._buses.values():
            bus.recover()


def _parts(robot: Robot) -> list[tuple[str, Robot]]:
    """The arms with a serial bus of their own that a robot consists of, each with the prefix of
    its features: itself, or those that it holds as ``left_arm`` and ``right_arm``."""
    if isinstance(getattr(robot, "bus", None), SerialMotorsBus):
        return [("", robot)]
    return [
        (name.removesuffix("arm"), part)
        for name, part in vars(robot).items()
        if isinstance(part, Robot) and isinstance(getattr(part, "bus", None), SerialMotorsBus)
    ]
