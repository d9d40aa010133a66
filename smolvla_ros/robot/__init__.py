"""What the arm is: joints, limits, collision geometry, and the policy's units for it."""

from smolvla_ros.robot.joint_map import JointMap, JointUnit
from smolvla_ros.robot.model import Attachment, Geometry, RobotModel
from smolvla_ros.robot.urdf import RobotError

__all__ = ["Attachment", "Geometry", "JointMap", "JointUnit", "RobotError", "RobotModel"]
