"""The text of a first cell for an arm: what is known of it, and what somebody has to fill in."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.describing import Joint, Pairs, gripping, hidden, often, stuck
from smolvla_ros.robot.report import shapes_of
from smolvla_ros.safety import Limits

SIZES = ("velocity", "acceleration")  # limits that every joint needs
NOBODY = 1e9  # stands for a limit that nobody gave
MARGIN = 0.01  # m from zones and from the arm itself
_WIDTH = 98
_WORST = 20  # pairs that are named one by one
_MARGINS = (0.02, 0.01, 0.005, 0.002, 0.001)  # rad (m)
_MARGIN_SHARE = 0.01  # of the smallest range


@dataclass(frozen=True)
class Found:
    """What was found of an arm.

    Attributes:
        robot: with its SRDF where one was given. limits: ``NOBODY`` where one is missing.
        bare: links that have a body and no collision shape. extent: ``[2, 3]`` m.
        no_position: ros2_control's joints without a position interface → those they have.
        package_dirs, srdf, joint_limits: files and folders for the cell to name;
        ``proposed`` where the SRDF was made just now.
    """

    robot: RobotModel
    joints: list[Joint]
    limits: Limits
    pairs: Pairs
    bare: list[str]
    extent: np.ndarray
    no_position: Mapping[str, list[str]]
    package_dirs: list[Path]
    srdf: Path
    proposed: bool
    joint_limits: Path | None

    def missing(self, joint: str) -> list[str]:
        """velocity and acceleration, where nobody gave it."""
        return [a for a in SIZES if self.limits.sources[f"{joint}.{a}"] == "limits.every_joint"]

    def source(self, joint: Joint, attribute: str) -> str:
        """Who gave a limit."""
        given = self.limits.sources[f"{joint.name}.{attribute}"]
        return joint.sources.get(attribute, given) if given == "URDF" else given


def to_do(found: Found) -> list[str]:
    """What is left for a person, a line each."""
    left = []
    if found.bare:
        left.append(
            "robot: no collision geometry on " + ", ".join(found.bare) + "; add shapes to the "
            "URDF, or list them in links_without_geometry"
        )
    if found.proposed:
        left.append(
            f"robot.srdf: read each entry of {found.srdf.name}, take out what could touch, then "
            "name it"
        )
    for attribute in SIZES:
        joints = [j.name for j in found.joints if attribute in found.missing(j.name)]
        if joints:
            whose = "any joint" if len(joints) == len(found.joints) else ", ".join(joints)
            left.append(f"limits: nobody gave the {attribute} of {whose}")
    doubts = gripping(found.robot, found.pairs)
    # What is joined or always touches is in the proposal.
    proposal = replace(found.pairs, adjacent=[], always=[])
    doubts += stuck(found.robot, proposal if found.proposed else found.pairs)
    if not found.proposed:
        doubts += hidden(found.robot, found.pairs)
    left += [f"robot.srdf: {doubt}" for doubt in doubts]
    left.append("zones: the table, the walls, whatever stands around")
    left.append("vla: the checkpoint, its joints' units, its cameras")
    return left


def to_know(found: Found) -> list[str]:
    """What somebody should look at once: what does not count, and which source did."""
    return [*found.robot.notes, *found.limits.notes]


def cell_text(found: Found, out: Path) -> str:
    """The cell file, whose paths are relative to ``out``'s folder."""
    parts = [_head(found, out), _monitor(found, out), _vla(found)]
    parts += [_arm(found), _camera(), _teleop(found), _robot(found, out)]
    return "\n".join(parts)


def joint_table(found: Found) -> list[str]:
    """A line for each joint: kind, limits and who gave each."""
    rows = [("joint", "kind", "position", "velocity", "acceleration")]
    for i, joint in enumerate(found.joints):
        cells = [joint.name, joint.kind, _position(found, i, joint)]
        for attribute in SIZES:
            value = getattr(found.limits, attribute)[i]
            where = found.source(joint, attribute)
            known = attribute not in found.missing(joint.name)
            cells.append(f"{value:.4g} ({where})" if known else "--")
        rows.append(tuple(cells))
        rows += [(f"  + {f}", "mimics it", "", "", "") for f in joint.followers]
    widths = [max(len(r[k]) for r in rows) for k in range(5)]
    return ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]


def _position(found: Found, i: int, joint: Joint) -> str:
    lower, upper = found.limits.lower[i], found.limits.upper[i]
    sources = dict.fromkeys(found.source(joint, a) for a in ("lower", "upper"))
    if math.isinf(lower) and math.isinf(upper):
        return "no end"
    return f"{lower:.4g} .. {upper:.4g} ({'; '.join(sources)})"


def _head(found: Found, out: Path) -> str:
    robot, pairs = found.robot, found.pairs
    lines = [
        f"A first cell for {robot.model.name}. What nobody gave of the arm says FILL IN; margins "
        "and times are those of a slow start. To see what is left:",
        f"  smolvla-ros check --cell {out.name}",
        "Radians, metres, seconds. Paths are relative to this file. A key that is not known is an "
        "error; a list must not be empty (leave the key out instead).",
        "",
        "To do:",
        *(f"- {line}" for line in to_do(found)),
        *_noted(found),
        "",
        f"{robot.dof} joints. In brackets who gave a limit; -- where nobody did:",
        *(f"  {line}" for line in joint_table(found)),
        "",
        "Collision geometry (meshes count as their convex hulls):",
        *(f"  {line}" for line in shapes_of(robot)),
        "",
        f"Pairs of links in {pairs.samples} random postures: {len(pairs.adjacent)} joined, "
        f"{len(pairs.always)} that always touch, {len(pairs.never)} that never did, "
        f"{len(pairs.sometimes)} that sometimes do: " + _sometimes(pairs),
    ]
    return _comment(lines)


def _sometimes(pairs: Pairs) -> str:
    worst = sorted(pairs.sometimes, key=lambda pair: -pair[2].share)
    said = [f"{a} ~ {b} ({often(contact)})" for a, b, contact in worst[:_WORST]]
    rest = [f"{len(worst) - _WORST} more, which the SRDF names"] if len(worst) > _WORST else []
    return ", ".join([*said, *rest]) or "none"


def _noted(found: Found) -> list[str]:
    lines = [f"- {line}" for line in to_know(found)]
    return ["", "To be looked at:", *lines] if lines else []


def _monitor(found: Found, out: Path) -> str:
    names = _list(found.robot.names)
    return f"""\
/**/safety_monitor:
  ros__parameters:
    rate: 100.0                    # Hz of the gate and of its output
    margin: {MARGIN:<23}# m from zones and from the arm itself
    command_timeout: 1.0           # s after the last command until the arm brakes and holds
    joint_state_timeout: 0.2       # s of old feedback that stop the arm
    max_command_age: 2.0           # s between an observation and its command
    tracking_error: 0.25           # rad (m) of set-point against measurement, for tracking_time;
    tracking_time: 0.5             # see tracking_error_rad in the diagnostics of your arm
    tracking_error_hard: 0.6       # rad (m) that stop at once
    recording:                     # what came and went before a stop, for smolvla-ros gate
      directory: out               # relative to where the monitor runs
      seconds: 30.0
    # What leaves: JointTrajectory of one point on arm/joint_trajectory, unless:
    # output: {{type: JointTrajectory, topic: joint_trajectory_controller/joint_trajectory}}
    # output:
    #   type: Float64MultiArray    # forward_command_controller
    #   topic: forward_position_controller/commands
{_wrapped(f"joints: {names}", "    #   ", "    #     ")}
{_interfaces(found)}\
    # Topics that would move the arm beside the monitor: whoever writes them stops it.
    # watch: [joint_trajectory_controller/joint_trajectory]
    # Who may command. Without this key: the policy alone, on policy/joint_trajectory.
    # sources:
    #   policy: {{topic: policy/joint_trajectory}}
    #   teleop: {{topic: teleop/joint_states, type: JointState, priority: 10, timeout: 0.3}}
    # shadow: true                 # say what would be sent; the arm gets nothing
    limits:
{_limits(found, out)}
{_zones(found)}
"""


def _interfaces(found: Found) -> str:
    if not found.no_position:
        return ""
    joints = ", ".join(
        f"{name} ({', '.join(interfaces) or 'state only'})"
        for name, interfaces in found.no_position.items()
    )
    return _wrapped(f"The URDF's ros2_control gives no position command to {joints}.",
                  "    # ", "    # ") + "\n"  # fmt: skip


def _limits(found: Found, out: Path) -> str:
    limits, lines = found.limits, []
    if found.joint_limits is not None:
        lines.append(f"      joint_limits: {_quoted(_relative(found.joint_limits, out))}")
    ranges = limits.upper - limits.lower
    margin = next((m for m in _MARGINS if m <= _MARGIN_SHARE * ranges.min()), 0.0)
    lines.append(f"      {f'position_margin: {margin}':<29}# rad (m) kept from position limits")
    missing = {j.name: m for j in found.joints if (m := found.missing(j.name))}
    lines += [
        "      # On top of the URDF's; the tighter one counts.",
        "      # every_joint: {velocity: 1.0}",
    ]
    if missing:
        lines += [
            "      # FILL IN, in rad/s and rad/s² (m/s and m/s²), what the arm can do with its",
            "      # load. Stops are planned with it: too large, and the arm stops later.",
        ]
        lines.append("      # joints:")
        lines += [
            f"      #   {_quoted(name)}: {{" + ", ".join(f"{m}: " for m in which) + "}"
            for name, which in missing.items()
        ]
    else:
        name = _quoted(found.joints[-1].name)
        lines += ["      # joints:", f"      #   {name}: {{acceleration: 5.0, lower: -1.0}}"]
    return "\n".join(lines)


def _zones(found: Found) -> str:
    if not found.robot.geometries:
        return "    # No link has a collision shape: add some, or zones keep nothing from anything."
    low, high = found.extent
    size, middle = _numbers(high - low), _numbers((high + low) / 2)
    sides = ", ".join(f"{n} {a:.2f} .. {b:.2f}" for n, a, b in zip("xyz", low, high, strict=True))
    lines = [
        f"    # FILL IN. Random postures filled {sides}",
        f"    # (m, frame of the root link {found.robot.links[0]}). Links that no joint moves",
        "    # are in no zone's way.",
        "    # zones:",
        "    #   table:                     # everything below the plane that the arm stands on",
        "    #     kind: keep_out",
        "    #     shape: half_space",
        "    #     position: [0.0, 0.0, -0.01]",
        "    #     # except_links: [...]    # that turn just above it and cannot reach it",
        "    #   workspace:",
        "    #     kind: keep_in",
        "    #     shape: box",
        f"    #     size: {size}",
        f"    #     position: {middle}",
    ]
    return "\n".join(lines)


def _vla(found: Found) -> str:
    names = _list(found.robot.names)
    lines = [
        "FILL IN to run a policy, and take the # off:",
        "/**/vla:",
        "  ros__parameters:",
        "    checkpoint: path/or/owner/name   # LeRobot folder relative to this file, or hub id",
        "    device: cpu",
        "    chunk_rate: 30.0               # Hz, rows of a chunk: the rate of the data",
        "    # In the checkpoint's order, with its units: degrees, radians (m) or percent of the",
        "    # range; sign: -1 and offset: (rad) where its axis or its zero is not the URDF's.",
        *_wrapped(f"joint_order: {names}", "    ", "      ").splitlines(),
        "    joint_map:",
        *(f"      {_quoted(name)}: {{unit: radians}}" for name in found.robot.names),
        "    cameras:                       # one entry a camera that the checkpoint knows",
        "      front: {topic: front/image_raw, feature: observation.images.front}",
        "      wrist: {topic: wrist/image_raw, feature: observation.images.wrist}",
    ]
    return _commented_out(lines)


def _commented_out(lines: Iterable[str]) -> str:
    return "\n".join(f"# {line}" for line in lines) + "\n"


def _arm(found: Found) -> str:
    lines = [
        "An arm that no controller drives, but LeRobot:",
        "/**/arm:",
        "  ros__parameters:",
        "    type: so101_follower           # LeRobot's word for the robot, or a plug-in's",
        "    options:                       # the fields of its configuration there",
        "      port: /dev/ttyACM0           # lerobot-find-port",
        "      id: my_arm                   # as given to lerobot-calibrate",
        "    # As LeRobot writes each joint: unit, sign, offset (rad); motor: its name there, if",
        "    # that is another.",
        "    joint_map:",
        *_leading(found),
        "    rate: 100.0                    # Hz of joint_states",
        "    timeout: 0.2                   # s without a set-point until the last one is held",
        "    # rad/s of what is written after a gap: the largest of the limits above, or more",
        "    # max_velocity: 1.0",
    ]
    return _commented_out(lines)


def _camera() -> str:
    lines = [
        "Cameras that LeRobot reads. One with a ROS driver needs only its topic, in /**/vla.",
        "/**/camera:",
        "  ros__parameters:",
        "    cameras:",
        "      front:                       # front/image_raw; lerobot-find-cameras lists devices",
        "        type: opencv",
        "        options: {index_or_path: /dev/video0, fps: 30, width: 640, height: 480}",
        "        latency: 0.03              # s from the exposure until the driver has a picture",
    ]
    return _commented_out(lines)


def _teleop(found: Found) -> str:
    lines = [
        "A teleoperator that LeRobot knows; name it in the safety monitor's sources, too.",
        "/**/teleop:",
        "  ros__parameters:",
        "    type: so101_leader",
        "    options: {port: /dev/ttyACM1, id: my_leader}",
        "    joint_map:",
        *_leading(found),
        "    # Or LeRobot's keyboard: type: keyboard, without port and joint_map, and",
        "    # keys:",
        f"    #   a: {{joint: {_quoted(found.robot.names[0])}, speed: 0.3}}",
    ]
    return _commented_out(lines)


def _leading(found: Found) -> list[str]:
    units = {j.name: "radians" if j.kind == "prismatic" else "degrees" for j in found.joints}
    return [f"      {_quoted(name)}: {{unit: {unit}}}" for name, unit in units.items()]


def _robot(found: Found, out: Path) -> str:
    lines = [
        "# For every node. It stands last: ROS puts what a command line sets (-p rate:=50.0) into",
        "# this section, and of two sections the later one counts.",
        "/**:",
        "  ros__parameters:",
        "    robot:",
        f"      urdf: {_quoted(_relative(found.robot.urdf_path, out))}",
    ]
    srdf = f"srdf: {_quoted(_relative(found.srdf, out))}"
    if found.proposed:
        lines.append(f"      # {srdf}   # FILL IN: read each entry, then take the # off")
    else:
        lines.append(f"      {srdf}")
    if found.package_dirs:
        folders = _list(_relative(folder, out) for folder in found.package_dirs)
        lines.append(f"      package_dirs: {folders}")
    if found.bare:
        lines += [
            "      # FILL IN: these have a body that no check can see. Add shapes to the URDF, or:",
            _wrapped(f"links_without_geometry: {_list(found.bare)}", "      # ", "      #   "),
        ]
    lines += [
        "      # A tool or a load that the URDF does not know:",
        "      # payload:",
        f"      #   tool: {{link: {_quoted(found.robot.links[-1])}, shape: sphere, size: [0.05]}}",
        "      # When all of it was looked at: only this description is taken from then on. The",
        "      # command smolvla-ros check says what it is.",
        "      # fingerprint: ...",
    ]
    return "\n".join(lines) + "\n"


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path.absolute(), out.absolute().parent)


def _quoted(text: str) -> str:
    """A text as YAML writes it inside a flow list."""
    return _list([text])[1:-1]


def _list(texts: Iterable[str]) -> str:
    return yaml.safe_dump(
        list(texts), default_flow_style=True, width=math.inf, allow_unicode=True
    ).strip()


def _numbers(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:.2f}" for v in values.tolist()) + "]"


def _comment(lines: Iterable[str]) -> str:
    """Tables, indented, stay as they are."""
    whole = []
    for line in lines:
        hang = "  " if line.startswith("- ") else ""
        wrapped = [line] if line.startswith("  ") else _wrapped(line, "", hang).splitlines()
        whole += wrapped or [""]
    return "\n".join(f"# {line}".rstrip() for line in whole) + "\n"


def _wrapped(text: str, first: str, then: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=then,
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
