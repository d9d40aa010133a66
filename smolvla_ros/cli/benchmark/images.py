"""A camera's message to the tensor a model takes: our way and the usual one."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from array import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from cv_bridge import CvBridge
from lerobot.policies.utils import prepare_observation_for_inference
from sensor_msgs.msg import Image
from torch.autograd.profiler import profile

from smolvla_ros.policy.images import to_tensor
from smolvla_ros.ros.messages import image_to_rgb

ENCODINGS = {"rgb8": 3, "bgr8": 3}  # what most drivers send, with their bytes a pixel

Way = Callable[[Image], torch.Tensor]


def image_costs(rounds: int = 150, height: int = 480, width: int = 640) -> dict[str, Any]:
    """CPU time of a picture's way from message to model tensor, in turns on one thread.

    The usual way is cv_bridge and LeRobot's ``prepare_observation_for_inference``; both must
    give the same values.

    Returns:
        ours_ms, stock_ms (medians) and their ratio for the encoding where it is worst, and for
        each encoding; ours_mb, stock_mb: memory that a picture's copies take on the way.

    Raises:
        RuntimeError: the two ways give different tensors.
    """
    threads = torch.get_num_threads(), cv2.getNumThreads()
    # What other threads do is not in this thread's time.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        found = {name: _costs(_picture(name, height, width), rounds) for name in ENCODINGS}
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    return max(found.values(), key=lambda costs: costs["ratio"]) | {"encodings": found}


def _picture(encoding: str, height: int, width: int) -> Image:
    step = width * ENCODINGS[encoding]
    data = np.random.default_rng(0).integers(0, 256, height * step, np.uint8)
    # As rclpy hands messages over.
    pixels = array("B", data.tobytes())
    return Image(height=height, width=width, encoding=encoding, step=step, data=pixels)


def _ours(message: Image) -> torch.Tensor:
    return to_tensor(image_to_rgb(message))


def _stock() -> Way:
    bridge, cpu = CvBridge(), torch.device("cpu")

    def convert(message: Image) -> torch.Tensor:
        picture = bridge.imgmsg_to_cv2(message, desired_encoding="rgb8")
        return prepare_observation_for_inference({"image": picture}, cpu)["image"][0]

    return convert


def _costs(message: Image, rounds: int) -> dict[str, float]:
    ways = {"ours": _ours, "stock": _stock()}
    if not torch.equal(*(convert(message) for convert in ways.values())):
        raise RuntimeError(f"{message.encoding}: the two ways give different tensors")
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, convert in ways.items():
            began = time.thread_time()
            convert(message)
            took[name].append(time.thread_time() - began)
    ours, stock = (statistics.median(took[name]) for name in ways)
    return {
        "ours_ms": round(ours * 1e3, 3),
        "stock_ms": round(stock * 1e3, 3),
        "ratio": round(ours / stock, 3),
    } | {f"{name}_mb": _megabytes(convert, message) for name, convert in ways.items()}


def _megabytes(convert: Way, message: Image) -> float:
    """Memory taken for arrays and tensors, whether or not it was given back meanwhile."""
    # numpy's (and OpenCV's, which uses its allocator) shows as the peak above what torch has.
    tracemalloc.start()
    with profile(profile_memory=True, use_kineto=False) as seen:
        kept = convert(message)
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    tensors = sum(max(0, event.self_cpu_memory_usage) for event in seen.key_averages())
    return round((arrays + tensors) / 1e6, 2)
