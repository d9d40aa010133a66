"""What a rendered picture lacks: the noise of a sensor."""

from __future__ import annotations

import numpy as np


def add_grain(picture: np.ndarray, rng: np.random.Generator, values: int = 32) -> None:
    """Flip the lowest bit of a few values of ``[H, W, 3]`` uint8, in place: no real sensor
    gives the same bytes twice, and one that does is taken for frozen."""
    height, width, channels = picture.shape
    at = rng.integers(0, (height, width, channels), (values, 3)).T
    picture[tuple(at)] ^= 1
