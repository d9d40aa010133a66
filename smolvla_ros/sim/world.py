"""The tabletop cell in MuJoCo: the arm from the URDF that the gate reads, and the scene.

The world's frame is the arm's root link. MuJoCo and its renderer are used as they are;
this file only puts the scene together.
"""

from __future__ import annotations

import os

# Without a display: EGL. The choice must stand before mujoco is imported.
os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np

from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError
from smolvla_ros.sim.scene import CameraPose, Scene, Variation

# Sliding, torsional, rolling: painted wood on wood. Of two bodies the rougher one counts, so
# fingers (MuJoCo's 1.0, as of rubber) hold a block that slides on the table.
_SMOOTH = [0.4, 0.01, 0.001]


class World:
    """A running tabletop. Not thread-safe; :class:`Cameras` takes snapshots for a thread.

    Args:
        robot: the arm; its joints keep their order here.
        scene: what stands around it.
        seed: where the blocks lie. start: ``[D]`` rad, where the arm starts, at rest.
        physics_rate: Hz.

    Raises:
        ConfigError: the blocks do not fit, or a camera names an unknown link.
    """

    def __init__(
        self,
        robot: RobotModel,
        scene: Scene,
        seed: int,
        start: np.ndarray,
        physics_rate: float = 500.0,
    ):
        self.robot = robot
        self.scene = scene
        self.model = _build(robot, scene, physics_rate).compile()
        self.data = mujoco.MjData(self.model)
        self._owners = [_owner(self.model, g) for g in range(self.model.ngeom)]
        joints = [self.model.joint(name) for name in robot.names]
        self._qpos = np.array([j.qposadr[0] for j in joints])
        self._dof = np.array([j.dofadr[0] for j in joints])
        self._from = np.array(start, dtype=float)
        self._to = self._from.copy()
        self._ramp = (0.0, 0.0)  # start and length of the present set-point's ramp, s
        self._plain = _Look.of(self.model)
        self.block_names = tuple(scene.blocks)
        self._start = self._from.copy()
        self.reset(seed, start)

    def reset(self, seed: int, start: np.ndarray | None = None, vary: bool = False) -> None:
        """Place arm and blocks anew, everything at rest.

        Args:
            start: ``[D]`` rad; None: where the arm started first. vary: draw what the scene's
                ``variation`` names from the seed as well: start pose, light, cameras, colours.
        """
        start = np.array(self._start if start is None else start, dtype=float)
        mujoco.mj_resetData(self.model, self.data)
        self._plain.restore(self.model)
        if vary:
            # A stream of its own: the same blocks lie in the same places, varied or not.
            draw = np.random.default_rng([seed, 1])
            self._plain.vary(self.model, self.scene.variation, draw)
            start = self._vary_start(start, draw)
        self.data.qpos[self._qpos] = start
        self._from = np.array(start, dtype=float)
        self._to = self._from.copy()
        self._ramp = (0.0, 0.0)
        self.data.ctrl[:] = start
        rng = np.random.default_rng(seed)
        for name, place, yaw in _scatter(self.scene, rng):
            edge = self.scene.blocks[name].edge
            address = self.model.joint(f"block_{name}").qposadr[0]
            height = self.scene.table.surface + edge / 2
            half = yaw / 2
            self.data.qpos[address : address + 7] = [
                *place, height, np.cos(half), 0.0, 0.0, np.sin(half),
            ]  # fmt: skip
        mujoco.mj_forward(self.model, self.data)

    def _vary_start(self, start: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        variation, robot = self.scene.variation, self.robot
        spread = np.array([variation.start.get(name, 0.0) for name in robot.names])
        lowest = self.scene.table.surface + variation.start_height
        for _ in range(1000):
            found = np.clip(
                start + draw.uniform(-spread, spread), robot.lower + 0.05, robot.upper - 0.05
            )
            self.data.qpos[self._qpos] = found
            mujoco.mj_kinematics(self.model, self.data)
            if self.fingertip()[2] >= lowest:
                return found
        raise ConfigError(
            f"variation.start_height: no start pose found {variation.start_height} m above the "
            "table; make it lower or variation.start smaller"
        )

    def place(
        self, q: np.ndarray, blocks: dict[str, tuple[np.ndarray, np.ndarray]] | None = None
    ) -> None:
        """Put the arm at ``q`` ``[D]`` rad and blocks (name → centre ``[3]`` m, rotation
        ``[3, 3]``) where they are given, everything at rest."""
        self.data.qpos[self._qpos] = q
        self._from, self._to = np.array(q, dtype=float), np.array(q, dtype=float)
        self._ramp = (0.0, 0.0)
        self.data.ctrl[:] = q
        self.data.qvel[:] = 0.0
        for name, (centre, turned) in (blocks or {}).items():
            address = self.model.joint(f"block_{name}").qposadr[0]
            self.data.qpos[address : address + 3] = centre
            quaternion = np.empty(4)
            mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(turned).ravel())
            self.data.qpos[address + 3 : address + 7] = quaternion
        mujoco.mj_forward(self.model, self.data)

    def deepest_contact(self) -> float:
        """m between the two bodies that overlap most; negative for an overlap, 0 for none."""
        return min((float(c.dist) for c in self.data.contact), default=0.0)

    @property
    def time(self) -> float:
        """Seconds simulated."""
        return self.data.time

    def command(self, q: np.ndarray, over: float) -> None:
        """Drive the servos to ``q`` ``[D]`` rad, their set-points ramped over ``over`` s, as
        a controller interpolates between the points of a trajectory."""
        self._from = np.array(self.data.ctrl)
        self._to = np.array(q, dtype=float)
        self._ramp = (self.data.time, max(over, 0.0))

    def step(self, seconds: float) -> None:
        """Run the physics on for about ``seconds`` (whole steps)."""
        for _ in range(max(1, round(seconds / self.model.opt.timestep))):
            start, length = self._ramp
            share = 1.0 if length <= 0 else min(1.0, (self.data.time - start) / length)
            self.data.ctrl[:] = self._from + share * (self._to - self._from)
            mujoco.mj_step(self.model, self.data)

    def joint_positions(self) -> np.ndarray:
        """``[D]`` rad, in the robot's joint order."""
        return np.array(self.data.qpos[self._qpos])

    def joint_velocities(self) -> np.ndarray:
        """``[D]`` rad/s."""
        return np.array(self.data.qvel[self._dof])

    def joint_efforts(self) -> np.ndarray:
        """``[D]`` N.m that the servos apply."""
        return np.array(self.data.actuator_force)

    def block_position(self, name: str) -> np.ndarray:
        """``[3]`` m: the centre of a block."""
        return np.array(self.data.body(f"block_{name}").xpos)

    def block_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Centre ``[3]`` m and rotation ``[3, 3]`` of a block."""
        body = self.data.body(f"block_{name}")
        return np.array(body.xpos), np.array(body.xmat).reshape(3, 3)

    def fingertip(self) -> np.ndarray:
        """``[3]`` m."""
        return np.array(self.data.body(self.scene.fingertip).xpos)

    def contacts(self) -> set[tuple[str, str]]:
        """Who touches whom, by name, each pair sorted: links, ``block_<name>``, ``table``,
        ``bin``, ``floor``."""
        found = set()
        for contact in self.data.contact:
            pair = sorted(self._owners[g] for g in contact.geom)
            found.add((pair[0], pair[1]))
        return found


class Cameras:
    """Pictures of a world. Lives in one thread: the GL context belongs to it.

    Args:
        world: whose cameras these are; only its model is kept.
    """

    def __init__(self, world: World):
        self._model = world.model
        self._data = mujoco.MjData(world.model)
        self._poses = world.scene.cameras
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        for pose in self._poses.values():
            size = (pose.height, pose.width)
            if size not in self._renderers:
                self._renderers[size] = mujoco.Renderer(self._model, *size)

    def see(self, world: World) -> None:
        """Take over where everything is now (the caller guards the world meanwhile)."""
        self._data.time = world.data.time
        self._data.qpos[:] = world.data.qpos

    def render(self, camera: str) -> np.ndarray:
        """``[height, width, 3]`` uint8 RGB of what :meth:`see` saw last."""
        pose = self._poses[camera]
        renderer = self._renderers[(pose.height, pose.width)]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        renderer.update_scene(self._data, camera=camera)
        return renderer.render()

    def close(self) -> None:
        """Free the GL contexts."""
        for renderer in self._renderers.values():
            renderer.close()


class _Look:
    """What a model looks like: lights, cameras, colours."""

    _FIELDS = ("light_pos", "light_diffuse", "cam_pos", "cam_quat", "geom_rgba")

    def __init__(self, values: dict[str, np.ndarray], ambient: np.ndarray, diffuse: np.ndarray):
        self._values, self._ambient, self._diffuse = values, ambient, diffuse

    @classmethod
    def of(cls, model: mujoco.MjModel) -> _Look:
        head = model.vis.headlight
        values = {name: np.array(getattr(model, name)) for name in cls._FIELDS}
        return cls(values, np.array(head.ambient), np.array(head.diffuse))

    def restore(self, model: mujoco.MjModel) -> None:
        for name, value in self._values.items():
            getattr(model, name)[:] = value
        model.vis.headlight.ambient[:] = self._ambient
        model.vis.headlight.diffuse[:] = self._diffuse

    def vary(self, model: mujoco.MjModel, variation: Variation, draw: np.random.Generator) -> None:
        """Draw from where :meth:`restore` left it."""
        light, cameras = variation.light, variation.cameras
        model.light_pos += draw.uniform(-light.position, light.position, model.light_pos.shape)
        strength = draw.uniform(*light.strength)
        model.light_diffuse *= strength
        for shine in (model.vis.headlight.ambient, model.vis.headlight.diffuse):
            shine *= strength
        model.cam_pos += draw.uniform(-cameras.position, cameras.position, model.cam_pos.shape)
        for k in range(model.ncam):
            turn, turned = np.empty(4), np.empty(4)
            axis = draw.uniform(-cameras.angle, cameras.angle, 3)
            mujoco.mju_euler2Quat(turn, axis, "xyz")
            mujoco.mju_mulQuat(turned, model.cam_quat[k], turn)
            model.cam_quat[k] = turned
        shift = draw.uniform(-variation.colour, variation.colour, (model.ngeom, 3))
        model.geom_rgba[:, :3] = np.clip(model.geom_rgba[:, :3] + shift, 0.0, 1.0)


def _owner(model: mujoco.MjModel, geom: int) -> str:
    body = model.body(model.geom_bodyid[geom]).name
    return body if body != "world" else model.geom(geom).name.split("_")[0]


def intrinsics(pose: CameraPose) -> np.ndarray:
    """``[3, 3]`` pinhole matrix K in pixels, square pixels, centre of the picture."""
    f = pose.height / (2.0 * np.tan(pose.fovy / 2.0))
    return np.array([[f, 0.0, pose.width / 2.0], [0.0, f, pose.height / 2.0], [0.0, 0.0, 1.0]])


def _build(robot: RobotModel, scene: Scene, physics_rate: float) -> mujoco.MjSpec:
    spec = mujoco.MjSpec.from_file(str(robot.urdf_path))
    spec.compiler.fusestatic = False  # cameras and contacts are named by link
    spec.compiler.discardvisual = True
    spec.option.timestep = 1.0 / physics_rate
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # As MuJoCo's documentation advises against slipping in a grip.
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    _style(spec)
    limits = dict(zip(robot.names, robot.effort, strict=True))
    for joint in spec.joints:
        joint.damping = [scene.servo.damping, 0.0, 0.0]  # linear term of a polynomial
        joint.armature = scene.servo.armature
        joint.frictionloss = scene.servo.frictionloss
    for name in robot.names:
        actuator = spec.add_actuator(name=name, target=name)
        actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
        actuator.set_to_position(kp=scene.servo.kp)
        actuator.forcelimited = True
        actuator.forcerange = [-limits[name], limits[name]]
    # Links that the SRDF lets touch overlap at their joints: the shapes enclose the parts.
    links = [b.name for b in spec.bodies if b.name in robot.links]
    for i, first in enumerate(links):
        for second in links[i + 1 :]:
            if robot.srdf.allows_contact(first, second):
                spec.add_exclude(bodyname1=first, bodyname2=second)
    _add_table(spec, scene)
    _add_bin(spec, scene)
    for name, block in scene.blocks.items():
        body = spec.worldbody.add_body(name=f"block_{name}")
        body.add_freejoint(name=f"block_{name}")
        body.add_geom(
            name=f"block_{name}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[block.edge / 2] * 3,
            mass=scene.block_area.mass,
            rgba=block.rgba,
            friction=_SMOOTH,
            solref=[0.006, 1.0],  # a grip presses a block hard: less give than by default
        )
    for name, pose in scene.cameras.items():
        carrier = spec.worldbody
        if pose.link is not None:
            carrier = spec.body(pose.link)
            if carrier is None:
                raise ConfigError(
                    f"cameras.{name}.link: no link {pose.link!r}; the URDF has: "
                    f"{', '.join(robot.links)}"
                )
        carrier.add_camera(
            name=name,
            pos=pose.position,
            quat=_looking(pose),
            fovy=np.degrees(pose.fovy),
        )
    return spec


def _style(spec: mujoco.MjSpec) -> None:
    # Multisampling costs a software renderer many times the picture.
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.visual.map.znear = 0.01
    spec.stat.extent = 1.0
    spec.stat.center = [0.2, 0.0, 0.1]
    light = spec.worldbody.add_light(name="lamp")
    light.pos = [0.4, -0.5, 1.2]
    light.dir = [-0.15, 0.4, -1.0]
    light.diffuse = [0.6, 0.6, 0.6]
    light.specular = [0.1, 0.1, 0.1]
    light.castshadow = False  # five times the cost of the rest of the picture
    floor = spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE)
    floor.size = [3.0, 3.0, 0.1]
    floor.pos = [0.0, 0.0, -0.7]
    floor.rgba = [0.32, 0.35, 0.4, 1.0]


def _add_table(spec: mujoco.MjSpec, scene: Scene) -> None:
    table = scene.table
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[s / 2 for s in table.size],
        pos=[*table.centre, table.surface - table.size[2] / 2],
        rgba=table.rgba,
        friction=_SMOOTH,
    )


def _add_bin(spec: mujoco.MjSpec, scene: Scene) -> None:
    config, half = scene.bin, scene.bin.wall / 2
    x, y, z = (s / 2 for s in config.size)
    floor = scene.table.surface
    walls = {
        "floor": ([0.0, 0.0, half], [x, y, half]),
        "front": ([x - half, 0.0, z], [half, y, z]),
        "back": ([-x + half, 0.0, z], [half, y, z]),
        "left": ([0.0, y - half, z], [x, half, z]),
        "right": ([0.0, -y + half, z], [x, half, z]),
    }
    for name, (centre, size) in walls.items():
        spec.worldbody.add_geom(
            name=f"bin_{name}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=size,
            pos=[config.centre[0] + centre[0], config.centre[1] + centre[1], floor + centre[2]],
            rgba=config.rgba,
        )


def _looking(pose: CameraPose) -> np.ndarray:
    """Quaternion (w, x, y, z) of a camera that looks along -z with y up (MuJoCo's way)."""
    back = np.subtract(pose.position, pose.look_at)
    back = back / np.linalg.norm(back)
    up = np.array([0.0, 0.0, 1.0])
    if abs(back @ up) > 0.999:
        up = np.array([1.0, 0.0, 0.0])
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    matrix = np.column_stack([right, np.cross(back, right), back])
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    return quaternion


def _scatter(scene: Scene, rng: np.random.Generator) -> list[tuple[str, np.ndarray, float]]:
    area = scene.block_area
    placed: list[tuple[str, np.ndarray, float]] = []
    for name in scene.blocks:
        for _ in range(1000):
            spot = rng.uniform(area.min, area.max)
            if all(np.linalg.norm(spot - other) >= area.spacing for _, other, _ in placed):
                placed.append((name, spot, float(rng.uniform(-np.pi / 4, np.pi / 4))))
                break
        else:
            raise ConfigError(
                f"block_area: no room for block {name!r} with spacing {area.spacing}; "
                "make the area larger or the spacing smaller"
            )
    return placed
