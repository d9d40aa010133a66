"""Where the mesh files are that a URDF names."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit


def find_mesh(name: str, urdf: Path, package_dirs: Sequence[Path]) -> Path:
    """The file behind ``package://package/path``, ``file:///path`` or a plain path.

    A plain path is relative to the URDF's folder. A package is looked for in
    ``package_dirs`` (folders that hold packages, or are the package), in the folders that
    the URDF lies in, and where ``AMENT_PREFIX_PATH`` and ``ROS_PACKAGE_PATH`` point.

    Raises:
        FileNotFoundError: nothing there; the message lists where it was looked for.
    """
    kind, _, rest = name.partition("://")
    if not rest:
        places = [urdf.parent / name]
    elif kind == "file":
        places = [Path(unquote(urlsplit(name).path))]
    elif kind == "package":
        package, _, inside = rest.partition("/")
        folders = package_folders(package, urdf, package_dirs)
        places = [folder / inside for folder in folders]
    else:
        raise FileNotFoundError(f"{kind}:// cannot be read; use package://, file:// or a path")
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError("no such file: " + ", ".join(str(p) for p in places))


def package_folders(package: str, urdf: Path, package_dirs: Sequence[Path]) -> list[Path]:
    """Where a package may lie, the likeliest first; at least one."""
    holders = list(package_dirs)
    holders += [p / "share" for p in _path_list("AMENT_PREFIX_PATH")]
    holders += _path_list("ROS_PACKAGE_PATH")
    folders = [f for f in (*package_dirs, *urdf.resolve().parents) if _is_package(f, package)]
    folders += [holder / package for holder in holders]
    # Without a place to look in there is still one to name: beside the URDF.
    return list(dict.fromkeys(folders)) or [urdf.parent / package]


def _is_package(folder: Path, package: str) -> bool:
    manifest = folder / "package.xml"
    if not manifest.is_file():
        return folder.name == package
    try:
        return ET.parse(manifest).getroot().findtext("name", "").strip() == package
    except ET.ParseError:
        return False


def _path_list(variable: str) -> list[Path]:
    return [Path(p) for p in os.environ.get(variable, "").split(os.pathsep) if p]
