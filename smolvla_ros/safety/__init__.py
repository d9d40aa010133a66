"""Proposed motion in, motion that can always stop out. Free of ROS, torch and lerobot."""

from smolvla_ros.safety.clearance import Clearance
from smolvla_ros.safety.command import Command, Refused, read_command
from smolvla_ros.safety.gate import Gate, GateSettings, Output
from smolvla_ros.safety.limits import JointLimit, Limits, effective_limits
from smolvla_ros.safety.sources import Source
from smolvla_ros.safety.verdict import Kind, State, Verdict
from smolvla_ros.safety.zones import Zone

__all__ = [
    "Clearance",
    "Command",
    "Gate",
    "GateSettings",
    "JointLimit",
    "Kind",
    "Limits",
    "Output",
    "Refused",
    "Source",
    "State",
    "Verdict",
    "Zone",
    "effective_limits",
    "read_command",
]
