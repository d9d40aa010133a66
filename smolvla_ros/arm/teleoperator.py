"""Any LeRobot teleoperator, and a leader arm's joints in radians."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from smolvla_ros.arm.devices import Lost, decode, let_ports_go
from smolvla_ros.arm.errors import one_line
from smolvla_ros.robot import JointMap
from smolvla_ros.schema import ConfigError

log = logging.getLogger(__name__)


class LerobotTeleoperator:
    """One teleoperator that LeRobot can make. One thread uses it.

    Args:
        kind: LeRobot's word for it. options: that type's keys. where: the cell's key of it.

    Raises:
        ConfigError: a type or options that LeRobot does not know.
    """

    def __init__(self, kind: str, options: Mapping[str, Any], where: str):
        self._config = decode("lerobot.teleoperators.TeleoperatorConfig", kind, options, where)
        self._kind, self._where = kind, where
        self._device: Any = None

    def open(self) -> None:
        """Connect; nothing is calibrated, nobody is asked anything.

        Raises:
            Lost: it is not there.
            ConfigError: the maker's library is not installed, or it is not calibrated.
        """
        from lerobot.teleoperators import make_teleoperator_from_config

        try:
            self._device = device = make_teleoperator_from_config(self._config)
            asks = "calibrate" in inspect.signature(device.connect).parameters
            device.connect(**({"calibrate": False} if asks else {}))
            calibrated = device.is_calibrated
            there = device.is_connected
        except ImportError as error:
            raise ConfigError(f"{self._where}: {error}") from error
        except Exception as error:  # drivers and plug-ins raise what they like
            self.close()
            raise Lost(one_line(error)) from error
        if calibrated is False:  # a keyboard's is None
            self.close()
            raise ConfigError(
                f"{self._where}: {self._kind} {self._config.id or ''}: its motors hold another "
                f"calibration than {device.calibration_fpath}, or there is none; run "
                f"lerobot-calibrate --teleop.type={self._kind} with this id"
            )
        if not there:
            self.close()
            raise Lost(
                f"{self._kind} did not connect; LeRobot's keyboard needs an X11 session and pynput"
            )

    def read(self) -> dict[Any, Any]:
        """What it says now, as LeRobot has it.

        Raises:
            Lost: it does not answer.
        """
        try:
            action = self._device.get_action()
        except Exception as error:
            raise Lost(one_line(error)) from error
        # LeRobot's keyboards end with Esc, but go on saying that no key is held.
        if not getattr(getattr(self._device, "listener", None), "running", True):
            raise Lost("Esc has ended it")
        return action

    def close(self) -> None:
        """Disconnect, if it is connected."""
        device, self._device = self._device, None
        if device is None:
            return
        try:
            if device.is_connected:
                device.disconnect()
        except Exception as error:  # one that has gone cannot be said goodbye to
            log.info("%s: disconnecting: %s", self._where, error)
        let_ports_go(device)


class LeaderJoints:
    """A leader arm's action → radians (metres).

    Args:
        joints: how the leader writes the ``D`` joints, in radians' names.
        motors: joint → LeRobot's name of the leader's motor. where: the cell's key.
    """

    def __init__(self, joints: JointMap, motors: Mapping[str, str], where: str):
        self.names = joints.names
        self._map, self._where = joints, where
        self._keys = [f"{motors[name]}.pos" for name in joints.names]

    def read(self, action: Mapping[str, Any]) -> np.ndarray:
        """``[D]`` rad.

        Raises:
            ConfigError: the teleoperator has no such joints. Lost: a value is no number.
        """
        absent = [k for k in self._keys if k not in action]
        if absent:
            raise ConfigError(
                f"{self._where}.joint_map: the teleoperator gives no {', '.join(absent)}; it "
                f"gives: {', '.join(map(str, action)) or 'nothing'}"
            )
        values = np.array([action[k] for k in self._keys], dtype=float)
        if not np.isfinite(values).all():
            raise Lost("a joint is no number")
        return self._map.to_urdf(values)
