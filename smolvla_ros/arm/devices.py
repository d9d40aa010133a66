"""LeRobot's devices by the type and the options that a cell gives."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from smolvla_ros.arm.errors import one_line
from smolvla_ros.schema import ConfigError

log = logging.getLogger(__name__)


class Lost(Exception):
    """A device that does not answer, for now: try again later."""


@cache
def _known(package: str) -> dict[str, str]:
    """Import every configuration that LeRobot and its plug-ins have of a kind of device;
    each announces its type by that. Returns what could not be imported, and why."""
    from lerobot.utils.import_utils import register_third_party_plugins

    failed = {}
    home = importlib.import_module(package)
    for folder in pkgutil.iter_modules(home.__path__, f"{package}."):
        if not folder.ispkg:
            continue
        try:
            inner = importlib.import_module(folder.name)
            for module in pkgutil.iter_modules(inner.__path__, f"{folder.name}."):
                if module.name.rsplit(".", 1)[1].startswith("config"):
                    importlib.import_module(module.name)
        except ImportError as error:  # the maker's library is not installed
            failed[folder.name.rsplit(".", 1)[1]] = str(error)
    register_third_party_plugins()
    return failed


def decode(base: str, kind: str, options: Mapping[str, Any], where: str) -> Any:
    """LeRobot's configuration of a device.

    Args:
        base: its base class, ``lerobot.cameras.CameraConfig`` for one. kind: the type, as
            LeRobot or a plug-in calls it. options: that type's own keys.

    Raises:
        ConfigError: no LeRobot, an unknown type, an unknown or missing key, a wrong value;
            each line begins with ``where``.
    """
    package, name = base.rsplit(".", 1)
    try:
        import draccus

        failed = _known(package)
        registry = getattr(importlib.import_module(package), name)
    except ImportError as error:
        raise ConfigError(
            f"{where}: needs LeRobot ({error}); pip install 'smolvla_ros[policy]'"
        ) from error
    known = registry.get_known_choices()
    if kind not in known:
        why = f" ({failed[kind]})" if kind in failed else ""
        raise ConfigError(
            f"{where}.type: is {kind!r}{why}; LeRobot and its plug-ins know here: "
            + ", ".join(sorted(known))
        )
    try:
        return draccus.decode(registry, {**options, "type": kind})
    # A configuration's own __post_init__ may raise anything; draccus wraps most of it.
    except (draccus.utils.DraccusException, ValueError, TypeError) as error:
        words = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise ConfigError(
            f"{where}.options: {kind}: {words}; see LeRobot's {known[kind].__name__}"
        ) from error


def let_ports_go(device: Any) -> None:
    """Close the ports of a device that did not disconnect: LeRobot wants the motors' word first,
    and without it keeps the port, which then has another name when the cable is back.

    Args:
        device: one with a bus of motors, or with parts that have one each.
    """
    for part in (device, *vars(device).values()):
        bus = getattr(part, "bus", None)
        try:
            if getattr(bus, "is_connected", False):
                bus.disconnect(disable_torque=False)
        except Exception as error:  # of a plug-in's bus
            log.warning("%s: closing its port: %s", device, one_line(error))
