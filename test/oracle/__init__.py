"""Judges streams of set-points. Shares no code with the gate.

Own reading of URDF, SRDF, joint_limits.yaml and cell; own kinematics; distances by MuJoCo;
a denser sweep; own stops. It reads only what left the gate.
"""

from oracle.judge import Finding, Oracle, Stream
from oracle.scene import Rule, Scene

__all__ = ["Finding", "Oracle", "Rule", "Scene", "Stream"]
