"""A run as pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from smolvla_ros.cli.watch import Recording


def write_report(
    folder: Path,
    joints: tuple[str, ...],
    recording: Recording,
    clearance: np.ndarray,
    margin: float,
    pictures: dict[str, np.ndarray],
    title: str,
) -> list[Path]:
    """Write ``joints.png``, ``clearance.png``, one PNG a picture, and ``cell.png`` with all.

    Args:
        clearance: ``[N]`` m at every set-point of ``recording.sent``. margin: m.
        pictures: name → ``[H, W, 3]`` uint8 RGB.

    Returns:
        The files written, ``cell.png`` first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in pictures.items():
        written.append(folder / f"{name}.png")
        plt.imsave(written[-1], picture)
    start = recording.sent[0][0] if recording.sent else 0.0
    figure = plt.figure(figsize=(11, 1.7 * len(joints)), layout="constrained")
    _joints(figure, joints, recording, start)
    written.append(_save(figure, folder / "joints.png"))
    figure = plt.figure(figsize=(11, 3), layout="constrained")
    _clearance(figure.subplots(), recording, start, clearance, margin)
    written.append(_save(figure, folder / "clearance.png"))
    figure = plt.figure(figsize=(16, 10), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    _joints(left, joints, recording, start)
    top, bottom = right.subfigures(2, 1, height_ratios=(2, 1))
    if pictures:
        axes = np.atleast_1d(top.subplots(-(-len(pictures) // 2), 2)).ravel()
        for axis in axes:
            axis.axis("off")
        for axis, (name, picture) in zip(axes, pictures.items(), strict=False):
            axis.imshow(picture)
            axis.set_title(name.replace("_", " "), fontsize=9)
    _clearance(bottom.subplots(), recording, start, clearance, margin)
    return [_save(figure, folder / "cell.png"), *written]


def _joints(figure, joints, recording: Recording, start: float) -> None:
    axes = np.atleast_1d(figure.subplots(len(joints), 1, sharex=True))
    sent_at = np.array([t for t, _, _ in recording.sent]) - start
    sent = np.array([q for _, q, _ in recording.sent]).reshape(len(sent_at), len(joints))
    seen_at = np.array([t for t, _ in recording.measured]) - start
    seen = np.array([q for _, q in recording.measured]).reshape(len(seen_at), len(joints))
    for j, (axis, name) in enumerate(zip(axes, joints, strict=True)):
        for _, stamp, times, rows in recording.chunks:
            axis.plot(stamp + times - start, rows[:, j], color="tab:orange", lw=0.8, alpha=0.5)
        axis.plot(seen_at, seen[:, j], color="0.6", lw=1.0, label="measured")
        axis.plot(sent_at, sent[:, j], color="tab:blue", lw=1.2, label="sent")
        axis.plot([], [], color="tab:orange", lw=1.0, label="proposed")
        axis.set_ylabel(f"{name}\nrad", fontsize=8)
        axis.tick_params(labelsize=8)
        if len(sent_at):
            axis.set_xlim(sent_at[0], sent_at[-1])
    axes[0].legend(loc="upper right", fontsize=8, ncols=3)
    axes[-1].set_xlabel("s", fontsize=8)


def _clearance(axis, recording: Recording, start: float, clearance, margin: float) -> None:
    at = np.array([t for t, _, _ in recording.sent]) - start
    axis.plot(at, clearance * 1e3, color="tab:green", lw=1.0, label="smallest clearance")
    axis.axhline(margin * 1e3, color="tab:red", lw=1.0, ls="--", label="margin")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("s", fontsize=8)
    axis.set_ylabel("mm", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(loc="upper right", fontsize=8)


def _save(figure, path: Path) -> Path:
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path
