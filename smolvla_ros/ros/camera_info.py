"""CameraInfo from the file that ROS's camera_calibration writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sensor_msgs.msg import CameraInfo

from smolvla_ros.schema import ConfigError, key, load, read_yaml


@dataclass(frozen=True, kw_only=True)
class _Matrix:
    rows: int = key(doc="rows", at_least=1)
    cols: int = key(doc="columns", at_least=1)
    data: list[float] = key(doc="row by row")

    def __post_init__(self) -> None:
        if len(self.data) != self.rows * self.cols:
            raise ConfigError(f"data: has {len(self.data)} values for {self.rows}x{self.cols}")


@dataclass(frozen=True, kw_only=True)
class _Calibration:
    image_width: int = key(doc="pixels", at_least=1)
    image_height: int = key(doc="pixels", at_least=1)
    camera_name: str = key("", doc="any")
    camera_matrix: _Matrix = key(doc="3x3, pixels")
    distortion_model: str = key("plumb_bob", doc="as in sensor_msgs/CameraInfo")
    distortion_coefficients: _Matrix = key(doc="the model's")
    rectification_matrix: _Matrix = key(doc="3x3")
    projection_matrix: _Matrix = key(doc="3x4, pixels")

    def __post_init__(self) -> None:
        sizes = {"camera_matrix": 9, "rectification_matrix": 9, "projection_matrix": 12}
        for name, size in sizes.items():
            if len(getattr(self, name).data) != size:
                raise ConfigError(f"{name}: has {len(getattr(self, name).data)} values, not {size}")


def read_camera_info(path: Path) -> CameraInfo:
    """A camera's calibration, without a stamp and a frame.

    Raises:
        ConfigError: the file is not there, or is no calibration.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; write it with ROS's camera_calibration, "
            "or leave calibration out"
        )
    found = load(_Calibration, read_yaml(path), str(path))
    return CameraInfo(
        width=found.image_width,
        height=found.image_height,
        distortion_model=found.distortion_model,
        d=found.distortion_coefficients.data,
        k=found.camera_matrix.data,
        r=found.rectification_matrix.data,
        p=found.projection_matrix.data,
    )
