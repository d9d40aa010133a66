"""What a process may ask of its middleware before it first talks to it."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

_HERE = Path(__file__).parent
_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
# As Fast DDS 3 and Fast DDS 2 call them.
_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_CHOICES = ("FASTDDS_BUILTIN_TRANSPORTS", *_PROFILES)


def leave_shared_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have Fast DDS use UDP alone in this process; other middlewares take no notice.

    A process that is killed, or hangs, inside Fast DDS's shared memory keeps a lock there, and
    holds up everyone it shares memory with for a second: readers hear nothing, writers wait in
    their call. Over UDP nobody else's end reaches this process, nor this one's end another. Nor
    does a send wait for a machine that has just gone: what does not fit the socket is lost.

    A choice of transports that the user made stands. Call before ``rclpy.init``.
    """
    if any(environment.get(name) for name in _CHOICES):
        return
    profile = "network.xml"
    local = environment.get("ROS_LOCALHOST_ONLY") == "1"
    if local or environment.get(_RANGE, "").upper() == "LOCALHOST":
        # There rmw_fastrtps makes its own transports, shared memory among them, unless it is
        # told nothing of the range; the profile then keeps to this machine.
        environment.pop("ROS_LOCALHOST_ONLY", None)
        environment[_RANGE] = "SYSTEM_DEFAULT"
        profile = "loopback.xml"
    for name in _PROFILES:
        environment[name] = str(_HERE / profile)
