"""Where the package's own cells, descriptions and models lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def share(*parts: str) -> Path:
    """A file of the package: from the checkout, a colcon workspace, or a pip install.

    Raises:
        FileNotFoundError: naming the places that were looked at.
    """
    roots = [Path(__file__).resolve().parents[1]]
    roots += [
        Path(prefix) / "share" / "smolvla_ros"
        for prefix in [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
        if prefix
    ]
    for root in roots:
        if root.joinpath(*parts).exists():
            return root.joinpath(*parts)
    looked = ", ".join(str(r) for r in roots)
    raise FileNotFoundError(f"smolvla_ros: no {'/'.join(parts)} in {looked}")
