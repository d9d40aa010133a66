"""Drivers behind one small protocol. A new arm is a new file here."""

from smolvla_ros.arm.driver import ArmDriver

__all__ = ["ArmDriver"]
