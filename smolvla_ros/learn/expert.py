"""A scripted expert for the tabletop: what to do next, from the present state alone.

It has no memory: the next set-point depends on where arm and blocks are now. What one
observation does not show, such as a phase that is counted, a policy could not learn from it.
It reads the simulator's state, which a policy never sees, and it commands through the gate
as every other source does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pinocchio as pin

from smolvla_ros.learn.tasks import Task
from smolvla_ros.robot import RobotModel
from smolvla_ros.sim.world import World

PAN, LIFT, ELBOW, FLEX, ROLL, JAW = range(6)

# Of the SO-101's gripper, in the frame of gripper_link, whose -z points out of it: m.
TIP = np.array([-0.0079, -0.0002, -0.0981])  # fingertip
PALM = np.array([0.0, 0.0, -0.0990])  # where a block goes between the fingers
PAD = -0.0079  # x of the fixed finger's inner face
CLOSED = 0.05  # rad, for touching
OPEN = 0.68  # rad, before grasping
GRIP = 0.04  # rad, the jaw's set-point on a block, short of the tracking error that stops
_HOLDING = 0.178  # rad; a jaw so far closed around a 30 mm block presses it

_ABOVE = 0.07  # m over a block from where it is approached
LIFTED = 0.09  # m above the table that a picked block's centre is brought to
TOUCH_HEIGHT = 0.006  # m of the fingertip above the block's top
# How far (m) over its place the gripper is to be, by how far (m) it is off to the side.
_TOUCH_FUNNEL = ((0.012, 0.04), (0.0, _ABOVE))  # from above, anywhere on a block will do
_PICK_FUNNEL = ((0.004, 0.0065, 0.03), (0.0, 0.042, _ABOVE))  # beside it only where there is room
SPEED, _SPEED_LOW = 1.1, 0.7  # rad/s, and near the table
_LOW = 0.05  # m, z of a fingertip that is near it
_GAIN = 4.0  # 1/s, of the last stretch
_LEAST_TILT, _MOST_TILT = 0.0, 1.0  # rad


@dataclass(frozen=True)
class _Plane:
    """The arm in the plane that the shoulder's pan turns: lengths in m, at all joints 0."""

    axis: np.ndarray  # [2] m, where pan's axis stands
    shoulder: complex  # radius + i height of the lift axis
    upper: complex
    lower: complex
    wrist: np.ndarray  # [3] m of the flex axis, in the root's frame


@dataclass(frozen=True)
class Blocks:
    """Where the blocks are: all that the expert knows of a world.

    Attributes:
        poses: name → centre ``[3]`` m and rotation ``[3, 3]``. half: name → m, half an edge.
        surface: m, z of the table.
    """

    poses: dict[str, tuple[np.ndarray, np.ndarray]]
    half: dict[str, float]
    surface: float

    @classmethod
    def of(cls, world: World) -> Blocks:
        """As they lie now."""
        scene = world.scene
        return cls(
            {name: world.block_pose(name) for name in world.block_names},
            {name: block.edge / 2 for name, block in scene.blocks.items()},
            scene.table.surface,
        )


class Expert:
    """Proposes joint positions for a task in a world.

    Args:
        robot: an SO-101. stiffness: N.m/rad of the servos, which sag by load over stiffness.
    """

    def __init__(self, robot: RobotModel, stiffness: float):
        self._robot, self._stiffness = robot, stiffness
        self._model, self._data = robot.model, robot.model.createData()
        self._frame = robot.model.getFrameId("gripper_link")
        self._plane = self._measure()

    # -- geometry -----------------------------------------------------------------------

    def _measure(self) -> _Plane:
        pin.forwardKinematics(self._model, self._data, np.zeros(self._model.nq))
        pan, lift, elbow, flex = (
            self._data.oMi[1 + k].translation.copy() for k in (PAN, LIFT, ELBOW, FLEX)
        )
        across = [complex(p[0] - pan[0], p[2]) for p in (lift, elbow, flex)]
        return _Plane(pan[:2], across[0], across[1] - across[0], across[2] - across[1], flex)

    def gripper(self, q: np.ndarray) -> pin.SE3:
        """Pose of gripper_link in the root's frame at ``q`` ``[D]`` rad."""
        pin.forwardKinematics(self._model, self._data, q)
        return pin.updateFramePlacement(self._model, self._data, self._frame).copy()

    def reach(self, point: np.ndarray, on_gripper: np.ndarray, roll: float) -> np.ndarray:
        """``[4]`` rad of pan, lift, elbow, flex with which ``on_gripper`` (``[3]`` m, in
        gripper_link) is at ``point`` (``[3]`` m), the gripper as near to straight down as the
        joints allow. Out of reach: as near as it gets.

        Two links and a tool in a plane; the tilt is the smallest that the limits allow.
        """
        plane = self._plane
        # Where the tool point is when everything is stretched forward: it turns with the roll.
        q = np.zeros(self._robot.dof)
        q[ROLL] = roll
        tool = self.gripper(q).act(on_gripper)
        lateral = tool[1] - plane.axis[1]
        along = complex(tool[0] - plane.wrist[0], tool[2] - plane.wrist[2])
        ahead = point[:2] - plane.axis
        radius = math.sqrt(max(float(ahead @ ahead) - lateral**2, 1e-8))
        pan = -(math.atan2(ahead[1], ahead[0]) - math.atan2(lateral, radius))
        target = complex(radius, point[2])
        best, least = None, math.inf
        for tilt in np.arange(_LEAST_TILT, _MOST_TILT, 0.02):
            pitch = math.pi / 2 - tilt
            found, excess = self._planar(target - along * _turn(pitch), pitch)
            if excess < least - 1e-9:
                best, least = found, excess
            if excess <= 0.0:
                break
        return np.array([pan, *best])

    def roll_for(self, turned: np.ndarray, centre: np.ndarray) -> float:
        """Rad of the wrist at which the fingers are along the faces of a block on the table."""
        yaw = math.atan2(turned[1, 0], turned[0, 0])
        bearing = math.atan2(*(centre[:2] - self._plane.axis)[::-1])
        quarter = math.pi / 2
        return -((yaw - bearing + quarter / 2) % quarter - quarter / 2)

    def _planar(self, wrist: complex, pitch: float) -> tuple[tuple[float, float, float], float]:
        """Lift, elbow and flex (rad), and by how much they are beyond what is possible."""
        plane, robot = self._plane, self._robot
        to = wrist - plane.shoulder
        a, b = abs(plane.upper), abs(plane.lower)
        cosine = (abs(to) ** 2 - a * a - b * b) / (2 * a * b)
        beyond = max(0.0, abs(cosine) - 1.0)
        bend = math.acos(min(1.0, max(-1.0, cosine)))  # forearm from upper arm, downwards
        upper = np.angle(to) + math.atan2(b * math.sin(bend), a + b * math.cos(bend))
        lift = float(np.angle(plane.upper) - upper)
        elbow = bend - float(np.angle(plane.upper) - np.angle(plane.lower))
        flex = pitch - lift - elbow
        joints = (lift, elbow, flex)
        for k, value in zip((LIFT, ELBOW, FLEX), joints, strict=True):
            beyond += max(0.0, robot.lower[k] + 0.04 - value, value - robot.upper[k] + 0.04)
        return joints, beyond

    def sag(self, q: np.ndarray) -> np.ndarray:
        """``[D]`` rad by which the servos' set-points must lead ``q``, held at rest."""
        return pin.computeGeneralizedGravity(self._model, self._data, q) / self._stiffness

    # -- behaviour ----------------------------------------------------------------------

    def target(self, task: Task | None, q: np.ndarray, blocks: Blocks) -> np.ndarray:
        """``[D]`` rad where the arm ought to be, seen from ``q`` and where the blocks lie now.

        Args:
            task: None: stay. q: ``[D]`` rad, measured.
        """
        if task is None:
            return q.copy()
        centre, turned = blocks.poses[task.block]
        half = blocks.half[task.block]
        if task.kind == "touch":
            return self._touch(q, centre, half)
        return self._pick(q, centre, turned, half, blocks.surface)

    def _touch(self, q: np.ndarray, centre: np.ndarray, half: float) -> np.ndarray:
        top = centre + np.array([0.0, 0.0, half + TOUCH_HEIGHT])
        off = np.linalg.norm(self.gripper(q).act(TIP)[:2] - top[:2])
        wanted = np.zeros(6)
        wanted[:4] = self.reach(top + np.array([0.0, 0.0, _height(off, _TOUCH_FUNNEL)]), TIP, 0.0)
        wanted[JAW] = CLOSED
        return wanted

    def _pick(
        self, q: np.ndarray, centre: np.ndarray, turned: np.ndarray, half: float, surface: float
    ) -> np.ndarray:
        gripper = self.gripper(q)
        seen = gripper.actInv(centre)  # the block, from the gripper
        middle = between_fingers(half)
        between = _is_between(seen, half, q[JAW])
        wanted = np.zeros(6)
        if between and q[JAW] < _HOLDING:  # held: up with it, as it lies in the gripper
            up = np.array([centre[0], centre[1], surface + LIFTED])
            # Bringing it up needs no turn of the wrist.
            wanted[ROLL] = q[ROLL]
            wanted[:4] = self.reach(up, seen, q[ROLL])
            wanted[JAW] = GRIP
            return wanted
        roll = self.roll_for(turned, centre)
        wanted[ROLL] = roll
        low = np.array([centre[0], centre[1], surface + half])
        if between:
            wanted[:4] = self.reach(low, np.array([seen[0], seen[1], middle[2]]), q[ROLL])
            wanted[ROLL] = q[ROLL]
            wanted[JAW] = GRIP
            return wanted
        # From above, into a funnel; over it while the fingers are not open or not turned.
        at = gripper.act(middle)
        off = float(np.linalg.norm(at[:2] - centre[:2]))
        off += 0.03 * max(0.0, abs(_wrap(q[ROLL] - roll)) - 0.08)
        off += 0.05 * max(0.0, OPEN - 0.12 - q[JAW])
        wanted[:4] = self.reach(
            low + np.array([0.0, 0.0, _height(off, _PICK_FUNNEL)]), middle, roll
        )
        wanted[JAW] = OPEN
        return wanted

    def held(self, task: Task, q: np.ndarray, blocks: Blocks) -> bool:
        """Whether the named block is in the closed gripper."""
        half = blocks.half[task.block]
        seen = self.gripper(q).actInv(blocks.poses[task.block][0])
        return bool(_is_between(seen, half, q[JAW]) and q[JAW] < _HOLDING)

    def advance(self, setpoint: np.ndarray, target: np.ndarray, dt: float) -> np.ndarray:
        """``[D]`` rad of the next set-point, ``dt`` s on, towards ``target``."""
        lead = target + self.sag(target)
        lead[JAW] = target[JAW]
        way = lead - setpoint
        furthest = np.abs(way).max()
        if furthest < 1e-9:
            return setpoint.copy()
        low = self.gripper(setpoint).act(TIP)[2] < _LOW
        speed = _SPEED_LOW if low else SPEED
        return setpoint + way * min(1.0, _GAIN * dt, speed * dt / furthest)

    def plan(
        self, task: Task | None, q: np.ndarray, setpoint: np.ndarray, blocks: Blocks, rows: int,
        dt: float,
    ) -> np.ndarray:  # fmt: skip
        """``[rows, D]`` rad: set-points from ``setpoint`` on, ``dt`` s apart, as things go when
        the arm follows, blocks lie still, and what is gripped comes along.

        Args:
            q: ``[D]`` rad, measured.
        """
        found = [setpoint]
        q = q.copy()
        for _ in range(rows - 1):
            after = self.advance(found[-1], self.target(task, q, blocks), dt)
            found.append(after)
            moved = after - self.sag(after)
            moved[JAW] = after[JAW]
            if task is not None and task.kind == "pick":
                centre, turned = blocks.poses[task.block]
                before = self.gripper(q)
                if _is_between(before.actInv(centre), blocks.half[task.block], q[JAW]):
                    moved[JAW] = max(after[JAW], _HOLDING - 0.02)  # the block is in the way
                if self.held(task, q, blocks):
                    to = self.gripper(moved)
                    pose = (
                        to.act(before.actInv(centre)),
                        to.rotation @ before.rotation.T @ turned,
                    )
                    blocks = replace(blocks, poses=blocks.poses | {task.block: pose})
            q = moved
        return np.array(found)


def between_fingers(half: float) -> np.ndarray:
    """``[3]`` m in gripper_link: where a block's centre is to be before the jaw closes."""
    return PALM + np.array([PAD + half + 0.009, 0.0, 0.0])


def _is_between(seen: np.ndarray, half: float, jaw: float) -> bool:
    """Whether a block at ``seen`` (``[3]`` m in gripper_link) is between the fingers."""
    middle = between_fingers(half)
    deep = 0.005 if jaw > OPEN - 0.1 else 0.012  # once it closes, it goes on
    return (
        PAD + half - 0.006 < seen[0] < middle[0] + 0.012
        and abs(seen[1]) < 0.011
        and abs(seen[2] - middle[2]) < deep
    )


def _height(off: float, funnel: tuple[tuple[float, ...], tuple[float, ...]]) -> float:
    return float(np.interp(off, *funnel))


def _turn(pitch: float) -> complex:
    return complex(math.cos(pitch), -math.sin(pitch))


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
