"""``smolvla-ros init``: a first cell for any arm, from its description."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smolvla_ros.cli.first_cell import (
    MARGIN,
    NOBODY,
    Found,
    cell_text,
    joint_table,
    to_do,
    to_know,
)
from smolvla_ros.cli.srdf import first_srdf
from smolvla_ros.robot import RobotError, RobotModel
from smolvla_ros.robot.describing import (
    describe_joints,
    extent,
    sort_pairs,
    without_position_interface,
)
from smolvla_ros.robot.expanding import expand, is_xacro, move, needed_package_dirs
from smolvla_ros.robot.urdf import bodies_without_shape
from smolvla_ros.safety import JointLimit, effective_limits
from smolvla_ros.safety.moveit import read_joint_limits
from smolvla_ros.schema import ConfigError

_EXTENT_SAMPLES = 500


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "init",
        help="write a first cell for any arm, from its URDF, xacro or robot_description",
        description="Writes a commented cell for an arm: joints and limits and who gave each, what "
        "nobody gave, collision geometry, pairs of links that always or never touch (by sampling; "
        "a proposed SRDF where there is none). Nothing is guessed: FILL IN marks what a person has "
        "to say, and `smolvla-ros check --cell FILE` tells what is left. Files that are there "
        "already are not written over.",
    )
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--urdf", type=Path, metavar="FILE", help="URDF or xacro file")
    origin.add_argument(
        "--topic", nargs="?", const="robot_description", metavar="TOPIC",
        help="take the URDF from a running robot_state_publisher (default topic: "
        "robot_description; ROS_DOMAIN_ID)",
    )  # fmt: skip
    parser.add_argument(
        "--srdf", type=Path, metavar="FILE", help="its SRDF, as MoveIt has it; may be xacro"
    )
    parser.add_argument("--limits", type=Path, metavar="FILE", help="MoveIt's joint_limits.yaml")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="cell to write (default: the robot's name.yaml)"
    )
    parser.add_argument(
        "--package-dir", type=Path, action="append", default=[], metavar="DIR",
        help="where package:// meshes and $(find ...) are looked for; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--xacro-arg", action="append", default=[], metavar="NAME:=VALUE",
        help="argument of the xacro file; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=int, default=10000, help="random postures to try (default 10000)"
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, metavar="S",
        help="how long to wait for --topic (default 5)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the cell and what belongs beside it. Returns 0.

    Raises:
        ConfigError: a description that cannot be used, or a file that is there already;
            nothing is left behind then.
    """
    mappings = _check(arguments)
    try:
        text, loose = _description(arguments, mappings)
        srdf_text = _srdf(arguments, mappings)
        out = arguments.out or Path(f"{_name(text)}.yaml")
        urdf = out.with_suffix(".urdf") if loose else arguments.urdf
        source = arguments.urdf or urdf
        own = arguments.srdf is None or srdf_text is not None
        srdf = out.with_suffix(".srdf") if own else arguments.srdf
        writes = [out, *([urdf] if loose else []), *([srdf] if own else [])]
        _refuse(writes)
        out.parent.mkdir(parents=True, exist_ok=True)
        with _gone_after_an_error(writes):
            if loose:
                urdf.write_text(move(text, source, urdf), encoding="utf-8")
            if srdf_text is not None:
                srdf.write_text(srdf_text, encoding="utf-8")
            found = _look(arguments, source, urdf, srdf)
            if arguments.srdf is None:
                srdf.write_text(first_srdf(found.robot, found.pairs), encoding="utf-8")
            out.write_text(cell_text(found, out), encoding="utf-8")
    except RobotError as error:
        raise ConfigError(str(error).splitlines()) from error
    except OSError as error:
        raise ConfigError(
            f"--out: {error.filename}: {error.strerror}; name another file"
        ) from error
    print(_summary(found, out, writes))
    return 0


def _name(text: str) -> str:
    """What to call a robot's files."""
    found = re.search(r"<robot[^>]*\bname\s*=\s*[\"']([^\"']+)", text)
    return re.sub(r"[^\w.-]", "_", found[1]) if found else "arm"


def _check(arguments: argparse.Namespace) -> dict[str, str]:
    """The xacro arguments.

    Raises:
        ConfigError: every argument that cannot be used.
    """
    problems = [
        f"{option}: {path} is no file; give the path of one"
        for option, path in (
            ("--urdf", arguments.urdf),
            ("--srdf", arguments.srdf),
            ("--limits", arguments.limits),
        )
        if path is not None and not path.is_file()
    ]
    problems += [
        f"--package-dir: {folder} is no folder"
        for folder in arguments.package_dir
        if not folder.is_dir()
    ]
    if arguments.samples < 1:
        problems.append(f"--samples: is {arguments.samples}; try at least one posture")
    if arguments.out is not None and arguments.out.suffix not in (".yaml", ".yml"):
        problems.append(f"--out: {arguments.out}: a cell is YAML; write a name that ends in .yaml")
    if not 0 < arguments.seconds <= 600:
        problems.append(f"--seconds: is {arguments.seconds:g}; write seconds up to 600")
    mappings = {}
    for text in arguments.xacro_arg:
        name, sign, value = text.partition(":=")
        if not (name and sign):
            problems.append(f"--xacro-arg: {text!r}; write NAME:=VALUE")
        mappings[name] = value
    if problems:
        raise ConfigError(problems)
    return mappings


def _description(arguments: argparse.Namespace, mappings: dict[str, str]) -> tuple[str, bool]:
    """The URDF's text, and whether it stands in no file yet."""
    if arguments.urdf is None:
        return _from_topic(arguments.topic, arguments.seconds), True
    try:
        text = arguments.urdf.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"--urdf: {arguments.urdf} is not UTF-8 text ({error})") from error
    if is_xacro(arguments.urdf, text):
        return expand(arguments.urdf, mappings, arguments.package_dir), True
    if mappings:
        raise ConfigError(f"--xacro-arg: {arguments.urdf} is no xacro file; leave it out")
    return text, False


def _srdf(arguments: argparse.Namespace, mappings: dict[str, str]) -> str | None:
    """What a xacro SRDF expands to; None where it is none, or there is no SRDF.

    It gets the arguments of the URDF that it has, too.
    """
    path = arguments.srdf
    if path is None or not is_xacro(path, path.read_text(encoding="utf-8", errors="replace")):
        return None
    return expand(path, mappings, arguments.package_dir, strict=False)


def _from_topic(topic: str, seconds: float) -> str:
    if importlib.util.find_spec("rclpy") is None:
        raise ConfigError(
            "--topic: needs rclpy, of a ROS install or pip install 'smolvla_ros[ros]'"
        )
    from smolvla_ros.cli.bystander import Bystander
    from smolvla_ros.ros.description import wait_for_description

    domain = int(os.environ.get("ROS_DOMAIN_ID") or 0)
    with Bystander(f"init_{os.getpid()}", domain) as bystander:
        bystander.start()
        text = wait_for_description(bystander.node, topic, seconds)
    if text is None:
        raise ConfigError(
            f"--topic: no description on {topic!r} within {seconds:g} s; does "
            f"robot_state_publisher run, with ROS_DOMAIN_ID={domain}?"
        )
    return text


def _look(arguments: argparse.Namespace, source: Path, urdf: Path, srdf: Path) -> Found:
    text = urdf.read_text(encoding="utf-8")
    bare = bodies_without_shape(urdf, text)
    folders = needed_package_dirs(text, source, urdf, arguments.package_dir)
    known = None if arguments.srdf is None else srdf
    robot = RobotModel(urdf, known, package_dirs=folders, links_without_geometry=bare)
    moveit = None if arguments.limits is None else read_joint_limits(arguments.limits)
    nobody = JointLimit(velocity=NOBODY, acceleration=NOBODY)
    return Found(
        robot=robot,
        joints=describe_joints(robot),
        limits=effective_limits(robot, nobody, {}, moveit=moveit),
        pairs=sort_pairs(robot, arguments.samples, margin=MARGIN),
        bare=bare,
        extent=extent(robot, min(arguments.samples, _EXTENT_SAMPLES)),
        no_position={
            name: interfaces
            for name, interfaces in without_position_interface(urdf).items()
            if name not in robot.mimics
        },
        package_dirs=folders,
        srdf=srdf,
        proposed=arguments.srdf is None,
        joint_limits=arguments.limits,
    )


def _refuse(writes: Sequence[Path]) -> None:
    there = [path for path in writes if path.exists()]
    if there:
        raise ConfigError(
            f"--out: {', '.join(map(str, there))} is there already, perhaps with a person's "
            "changes; name another file"
        )


@contextlib.contextmanager
def _gone_after_an_error(writes: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for path in writes:
            path.unlink(missing_ok=True)
        raise


def _summary(found: Found, out: Path, writes: Sequence[Path]) -> str:
    pairs = found.pairs
    return "\n".join(
        [
            *joint_table(found),
            f"{len(found.robot.links)} links, {len(found.robot.geometries)} collision shapes; of "
            f"the pairs of links {len(pairs.adjacent)} are joined, {len(pairs.always)} always "
            f"touch, {len(pairs.never)} never did, {len(pairs.sometimes)} sometimes",
            *(f"look at: {line}" for line in to_know(found)),
            *(f"to do: {line}" for line in to_do(found)),
            f"written: {', '.join(map(str, writes))}; next: smolvla-ros check --cell {out}",
        ]
    )
