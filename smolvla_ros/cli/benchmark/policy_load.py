"""A SmolVLA of full size (450 million parameters, random weights) that infers without end.

    python -m smolvla_ros.cli.benchmark.policy_load --threads 2

Prints one line once it is ready, and the seconds of each chunk.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from smolvla_ros.learn.make_checkpoint import (
    CAMERAS,
    FULL,
    INSTRUCTIONS,
    MEAN,
    make_policy,
    make_vlm,
    random_images,
)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        make_vlm(Path(folder), FULL)
        policy, preprocess, _ = make_policy(Path(folder), seed=0, size=FULL)
    parameters = sum(p.numel() for p in policy.parameters())
    print(f"ready {parameters}", flush=True)
    while True:
        observation = dict(zip(CAMERAS, random_images(2), strict=True))
        observation |= {"observation.state": MEAN, "task": INSTRUCTIONS[0]}
        started = time.monotonic()
        with torch.no_grad():
            policy.predict_action_chunk(preprocess(observation))
        print(f"{time.monotonic() - started:.3f}", flush=True)


if __name__ == "__main__":
    main()
