"""What this machine has for a policy: devices and memory."""

from __future__ import annotations

from pathlib import Path

import torch


def device_problem(name: str) -> str:
    """Why torch cannot compute on ``name`` here; empty where it can."""
    try:
        device = torch.device(name)
    except RuntimeError:
        return f"{name!r} is no device of torch"
    if device.type == "cpu":
        return ""
    module = getattr(torch, device.type, None)
    there = module.device_count() if module is not None and module.is_available() else 0
    if (device.index or 0) < there:
        return ""
    return f"{name!r} is not to be had here; torch {torch.__version__} sees {there} of them"


def free_bytes(device: str) -> int:
    """Memory that is free for a model: the device's, or this machine's."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable") * 1024


def resident_bytes() -> int:
    """Memory that this process has."""
    return _kilobytes(Path("/proc/self/status"), "VmRSS") * 1024


def _kilobytes(file: Path, name: str) -> int:
    lines = [line for line in file.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(lines[0].split()[1])
