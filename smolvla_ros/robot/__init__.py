"""What the arm is: joints, limits, collision geometry, and the policy's units for it."""

from smolvla_ros.robot.joint_map import JointMap, JointUnit
from smolvla_ros.robot.model import RobotError, RobotModel

__all__ = ["JointMap", "JointUnit", "RobotError", "RobotModel"]
