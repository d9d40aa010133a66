"""Descriptions that are no plain URDF file yet: xacro, and a text that comes from elsewhere."""

from __future__ import annotations

import os
import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.parsers.expat import ExpatError

from smolvla_ros.robot.meshes import find_mesh, package_folders
from smolvla_ros.robot.urdf import RobotError

_XACRO = re.compile(r"<\s*xacro:")
_UNDEFINED = re.compile(r"Undefined substitution argument (\w+)")
_NOT_FOUND = re.compile(r"package \W*([\w-]+)\W* not found")


def is_xacro(path: Path, text: str) -> bool:
    """True where a file has to go through xacro first."""
    return path.suffix == ".xacro" or _XACRO.search(text) is not None


def expand(
    path: Path, arguments: Mapping[str, str], package_dirs: Sequence[Path], strict: bool = True
) -> str:
    """The URDF or SRDF that a xacro file makes. ``strict``: it has all of the ``arguments``.

    ``$(find package)`` finds what a ROS environment finds, the packages that ``path`` lies
    in, and those in ``package_dirs`` (folders that hold packages, or are one).

    Raises:
        RobotError: xacro is not installed, or does not get through the file, or the file has no
            argument of a name that is given.
    """
    try:
        import xacro
        from ament_index_python.packages import PackageNotFoundError
        from xacro.substitution_args import SubstitutionException
    except ModuleNotFoundError as error:
        raise RobotError(
            f"{path}: is xacro, which is not installed ({error.name} is missing): "
            "pip install 'smolvla_ros[xacro]', or source a ROS install"
        ) from error
    asked = _Asked(arguments)
    with _index_of(_packages(path, package_dirs)) as links:
        try:
            text = xacro.process_file(str(path), mappings=asked).toprettyxml(indent="  ")
        except (
            xacro.XacroException, SubstitutionException, PackageNotFoundError, ExpatError, OSError,
            RecursionError,
        ) as error:  # fmt: skip
            if lacking := _NOT_FOUND.search(str(error)):
                raise RobotError(
                    f"{path}: needs package {lacking[1]!r}, which is not found; name the folder "
                    "that holds it with --package-dir"
                ) from error
            said = " ".join(str(error).split())
            if lacking := _UNDEFINED.search(said):
                said += f"; give --xacro-arg {lacking[1]}:=VALUE"
            said += "".join(f"; --xacro-arg {line}" for line in asked.unused())
            raise RobotError(f"{path}: xacro: {said}") from error
    if strict and (lines := asked.unused()):
        raise RobotError("\n".join(f"{path}: --xacro-arg {line}" for line in lines))
    # The longest first: one package's name may begin another's.
    for link, folder in sorted(links.items(), key=lambda pair: -len(str(pair[0]))):
        text = text.replace(str(link), str(folder))
    return text


class _Asked(dict):
    """A xacro file's arguments, and which of them it wanted to know."""

    def __init__(self, given: Mapping[str, str]):
        super().__init__(given)
        self._given, self._names = list(given), set()

    def __contains__(self, name: object) -> bool:
        self._names.add(name)
        return super().__contains__(name)

    def __getitem__(self, name: str) -> str:
        self._names.add(name)
        return super().__getitem__(name)

    def unused(self) -> list[str]:
        """A line for each that was given and not asked for."""
        known = ", ".join(sorted(map(str, self._names))) or "none"
        return [
            f"{name}: the file has no such argument; it has: {known}"
            for name in self._given
            if name not in self._names
        ]


def _packages(path: Path, package_dirs: Sequence[Path]) -> dict[str, Path]:
    """Package name → its folder: those around ``path``, their neighbours, and the named ones."""
    around = [f for f in path.resolve().parents if (f / "package.xml").is_file()]
    holders = [d.resolve() for d in package_dirs] + [f.parent for f in around]
    candidates = [*holders, *(c for h in holders if h.is_dir() for c in sorted(h.iterdir()))]
    found: dict[str, Path] = {}
    for folder in (*around, *candidates):
        manifest = folder / "package.xml"
        if not manifest.is_file():
            continue
        try:
            name = ET.parse(manifest).getroot().findtext("name", "").strip()
        except ET.ParseError as error:
            raise RobotError(f"{manifest}: is not XML ({error})") from error
        found.setdefault(name, folder)
    return found


@contextmanager
def _index_of(packages: Mapping[str, Path]) -> Iterator[dict[Path, Path]]:
    """Let ament find ``packages``. Yields the path it gives for each → where it really is."""
    before = os.environ.get("AMENT_PREFIX_PATH")
    with tempfile.TemporaryDirectory(prefix="smolvla_ros_") as folder:
        prefix = Path(folder)
        index = prefix / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True)
        for name, place in packages.items():
            (index / name).touch()
            (prefix / "share" / name).symlink_to(place)
        os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(filter(None, (folder, before)))
        try:
            yield {prefix / "share" / name: place for name, place in packages.items()}
        finally:
            if before is None:
                del os.environ["AMENT_PREFIX_PATH"]
            else:
                os.environ["AMENT_PREFIX_PATH"] = before


def move(text: str, source: Path, target: Path) -> str:
    """A URDF whose mesh files are found from ``target`` as they were from ``source``.

    Raises:
        RobotError: it is not XML.
    """
    try:
        root = ET.fromstring(text, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)))
    except ET.ParseError as error:
        raise RobotError(f"{source}: is not XML ({error})") from error
    for mesh in root.iter("mesh"):
        name = mesh.get("filename", "")
        if name and "://" not in name:
            there = os.path.relpath(source.parent / name, target.parent)
            mesh.set("filename", there)
    return ET.tostring(root, encoding="unicode") + "\n"


def needed_package_dirs(
    text: str, source: Path, target: Path, package_dirs: Sequence[Path]
) -> list[Path]:
    """``package_dirs``, and the packages around ``source`` that hold collision meshes and are
    not found without being named.

    Args:
        target: where the URDF will lie. A mesh that its package lacks is left to
            :class:`RobotModel` to report.

    Raises:
        RobotError: a package that is found nowhere.
    """
    needed, lost = list(package_dirs), []
    around = _packages(source, package_dirs)
    meshes = ET.fromstring(text).iterfind(".//collision//mesh")
    for name in sorted({mesh.get("filename", "") for mesh in meshes}):
        if not name.startswith("package://"):
            continue
        package, _, inside = name.removeprefix("package://").partition("/")
        try:
            find_mesh(name, target, needed)
            continue
        except FileNotFoundError:
            here = [around[package]] if package in around else []
        try:
            place = find_mesh(name, source, [*needed, *here])
            needed.append(place.parents[len(Path(inside).parts) - 1])
        except FileNotFoundError:
            known = any(f.is_dir() for f in (*here, *package_folders(package, source, needed)))
            if not known and package not in lost:
                lost.append(package)
    if lost:
        raise RobotError(
            "\n".join(
                f"{source}: its meshes lie in package {package!r}, which is not found; name the "
                "folder that holds it with --package-dir"
                for package in lost
            )
        )
    return needed
