from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "smolvla_ros"


def data_files():
    """Launch, config, RViz, description and model files, each folder to its place under share/."""
    found = {}
    for top in ("launch", "config", "rviz", "urdf", "models"):
        for path in sorted(Path(top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found.setdefault(f"share/{PACKAGE}/{path.parent}", []).append(str(path))
    return list(found.items())


setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["ros/*.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *data_files(),
    ],
    python_requires=">=3.12",
    install_requires=["numpy>=1.26,<2.3", "scipy>=1.11,<2", "PyYAML>=6,<7"],
    # Ranges that were run. What a ROS 2 install brings (rosdep) stands in extras of its
    # own, so that pip never puts a second rclpy or pinocchio beside the one of ROS.
    extras_require={
        "ros": [
            "ros-rclpy==9.1.2",
            "ros-rmw-fastrtps-cpp==9.3.3",
            "ros-sensor-msgs==5.5.1",
            "ros-trajectory-msgs==5.5.1",
            "ros-geometry-msgs==5.5.1",
            "ros-std-msgs==5.5.1",
            "ros-std-srvs==5.5.1",
            "ros-diagnostic-msgs==5.5.1",
            "ros-visualization-msgs==5.5.1",
            "ros-lifecycle-msgs==2.3.0",
            "ros-rcl-interfaces==2.3.0",
            "ros-rosgraph-msgs==2.3.0",
            "cv-bridge>=1.13,<1.14",
        ],
        "kinematics": ["pin>=4.1,<4.2", "coal>=3.0,<3.1"],
        "policy": ["lerobot[smolvla]>=0.6.1,<0.7"],
        # A dataset's rows, and LeRobot's trainer; training's pictures of curves.
        "train": ["lerobot[smolvla,dataset]>=0.6.1,<0.7", "matplotlib>=3.10,<4", "psutil>=6,<8"],
        # The SO-101's servo bus. Other robots and teleoperators: LeRobot's own extras.
        "arm": ["lerobot[feetech]>=0.6.1,<0.7"],
        "xacro": ["xacro>=2.1,<3", "ros-ament-index-python>=1.11,<2"],
        "bags": ["rosbags>=0.11,<0.12"],
        "sim": ["mujoco>=4.0,<4.1", "matplotlib>=3.10,<4"],
        "test": [
            "pytest>=9,<10",
            "pytest-timeout>=2.4,<3",
            "hypothesis>=6.150,<7",
            "ruff==0.17.6",
            # Another kind of policy to try: LeRobot's diffusion.
            "diffusers>=0.38,<0.40",
            "importlib_metadata<9",
        ],
    },
    zip_safe=False,
    maintainer="smolvla_ros maintainers",
    maintainer_email="maintainers@smolvla-ros.example",
    description="Open vision-language-action policies on robot arms under ROS 2, behind a safety "
    "monitor that gates every command.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "smolvla-ros = smolvla_ros.cli.main:main",
            "safety_monitor = smolvla_ros.nodes.safety_monitor:main",
            "sim_node = smolvla_ros.nodes.sim_node:main",
            "vla_node = smolvla_ros.nodes.vla_node:main",
            "recorder_node = smolvla_ros.nodes.recorder_node:main",
            "camera_node = smolvla_ros.nodes.camera_node:main",
            "arm_node = smolvla_ros.nodes.arm_node:main",
            "teleop_node = smolvla_ros.nodes.teleop_node:main",
        ],
    },
)
