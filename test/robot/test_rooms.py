"""No room imports what it must do without: a fresh interpreter, where the import would fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROS = (
    "rclpy", "builtin_interfaces", "cv_bridge", "diagnostic_msgs", "geometry_msgs",
    "rcl_interfaces", "sensor_msgs", "std_msgs", "std_srvs", "trajectory_msgs",
    "visualization_msgs",
)  # fmt: skip
LEARNING = ("torch", "lerobot", "transformers")
ROOM = "smolvla_ros."

PROGRAM = """
import importlib, pkgutil, sys

absent, room = sys.argv[1].split(","), sys.argv[2]

class Absent:
    def find_spec(self, name, path=None, target=None):
        if any(name == a or name.startswith(a + ".") for a in absent):
            raise ModuleNotFoundError(f"{name} is absent here")

sys.meta_path.insert(0, Absent())
package = importlib.import_module(room)
for module in pkgutil.walk_packages(package.__path__, room + "."):
    importlib.import_module(module.name)
    print(module.name)
"""


@pytest.mark.parametrize(
    ("room", "without", "holds"),
    [
        ("robot", (*ROS, *LEARNING, "mujoco"), "model"),
        ("safety", (*ROS, *LEARNING, "mujoco", ROOM + "policy", ROOM + "sim"), "gate"),
        ("arm", (*ROS, ROOM + "policy", ROOM + "safety"), "driver"),
        ("sim", (*ROS, *LEARNING, ROOM + "policy"), "world"),
        ("ros", (*LEARNING, "mujoco", ROOM + "policy"), "messages"),
        ("policy", (*ROS, "mujoco", ROOM + "safety"), "checkpoint"),
    ],
)
def test_a_room_imports_whole_without(room, without, holds) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(without), ROOM + room],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{ROOM}{room}.{holds}" in done.stdout.split()
