"""The tabletop among LeRobot's environments: ``--env.type=smolvla_ros_tabletop``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_STATE

from smolvla_ros.cell import beside, load_cell
from smolvla_ros.learn.tabletop_env.environment import ID, IMAGES
from smolvla_ros.share import share
from smolvla_ros.sim.scene import load_scene


@EnvConfig.register_subclass("smolvla_ros_tabletop")
@dataclass
class TabletopEnvConfig(EnvConfig):
    """Arguments of the environment; the features follow from the cell.

    Attributes:
        task: ``touch`` or ``pick``; None: both, by the seed. cell: YAML; None: the SO-101
            tabletop. gate: ``on``, ``off`` or ``shadow``. episode_length: steps at most.
    """

    task: str | None = None
    cell: str | None = None
    gate: str = "on"
    episode_length: int = 200

    def __post_init__(self) -> None:
        cell = load_cell(Path(self.cell) if self.cell else share("config", "so101_tabletop.yaml"))
        cameras = load_scene(beside(cell.path, cell.sim.scene)).cameras
        self.fps = round(cell.vla.chunk_rate)
        size = (len(cell.vla.joint_order),)
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, size),
            "agent_pos": PolicyFeature(FeatureType.STATE, size),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        for camera in cell.vla.cameras.values():
            pose = cameras[camera.topic.strip("/").split("/")[0]]
            name = f"pixels/{camera.feature.removeprefix(IMAGES)}"
            shape = (pose.height, pose.width, 3)
            self.features[name] = PolicyFeature(FeatureType.VISUAL, shape)
            self.features_map[name] = camera.feature

    @property
    def gym_id(self) -> str:
        """As gymnasium knows it."""
        return ID

    @property
    def gym_kwargs(self) -> dict:
        """Arguments of ``gymnasium.make``."""
        return {
            "cell": self.cell,
            "task": self.task,
            "gate": self.gate,
            "render_mode": "rgb_array",
            "max_episode_steps": self.episode_length,
        }
