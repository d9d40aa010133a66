"""The tabletop as a gymnasium environment, and as one that LeRobot's tools load.

Importing this registers ``smolvla_ros/Tabletop-v0`` with gymnasium and the environment type
``smolvla_ros_tabletop`` with LeRobot.
"""

import gymnasium

from smolvla_ros.learn.tabletop_env.config import TabletopEnvConfig
from smolvla_ros.learn.tabletop_env.environment import ID, TabletopEnv

__all__ = ["ID", "TabletopEnv", "TabletopEnvConfig"]

gymnasium.register(ID, f"{TabletopEnv.__module__}:{TabletopEnv.__name__}", max_episode_steps=200)
