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

from smolvla_ros.learn.models import CAMERAS, FULL, PLAIN, make_policy, make_vlm


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        make_vlm(Path(folder), FULL)
        policy, preprocess, _ = make_policy(Path(folder), 0, PLAIN, FULL)
    parameters = sum(p.numel() for p in policy.parameters())
    print(f"ready {parameters}", flush=True)
    while True:
        observation = {camera: torch.rand(3, 480, 640) for camera in CAMERAS}
        observation |= {"observation.state": torch.zeros(6), "task": "touch the red block"}
        started = time.monotonic()
        with torch.no_grad():
            policy.predict_action_chunk(preprocess(observation))
        print(f"{time.monotonic() - started:.3f}", flush=True)


if __name__ == "__main__":
    main()
