"""A LeRobot checkpoint → action chunks. Free of ROS and of the safety room.

Importing the package does not import torch; ``checkpoint`` and ``engine`` do.
"""

from smolvla_ros.policy.observation import Observation, Streams

__all__ = ["Observation", "Streams"]
