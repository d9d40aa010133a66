"""A LeRobot checkpoint → action chunks. Free of ROS and of the safety room.

Importing the package does not import torch; ``checkpoint``, ``engine`` and ``images`` do.
"""

from smolvla_ros.policy.observation import Observation, Streams
from smolvla_ros.policy.streams import Camera, Joints

__all__ = ["Camera", "Joints", "Observation", "Streams"]
