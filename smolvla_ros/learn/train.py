"""Stage two of training: LeRobot's own trainer, on a LeRobotDataset, from a checkpoint.

The trainer is ``lerobot.scripts.lerobot_train.train`` as it is installed, given the arguments
that ``lerobot-train`` would be given. What is round it here: the data set is checked first and
decoded into memory, the metrics are kept and drawn, and what comes out is a whole checkpoint.

Files of a run's folder:

* ``policy/``: the checkpoint, once training has ended.
* ``run/``: LeRobot's output; ``run/checkpoints/last`` is what a resumed run goes on from.
* ``start/``: where it begins, if the dataset's statistics were not the checkpoint's.
* ``recipe.json``: what was asked for. ``summary.json``: what came of it.
* ``metrics.jsonl``, ``curves.png``, ``train.log``: loss, rates, times.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.scripts import lerobot_train
from lerobot.utils.constants import (
    CHECKPOINTS_DIR,
    LAST_CHECKPOINT_LINK,
    PRETRAINED_MODEL_DIR,
    SCHEDULER_STATE,
    TRAINING_STATE_DIR,
)
from lerobot.utils.logging_utils import MetricsTracker
from lerobot.utils.random_utils import load_rng_state

from smolvla_ros.cell import Cell
from smolvla_ros.learn import curves
from smolvla_ros.learn.card import card, stage_one
from smolvla_ros.learn.dataset_format import Description, check_dataset, describe, statistics
from smolvla_ros.learn.memory_dataset import MemoryDataset, keeps_out
from smolvla_ros.learn.rebase import is_other, rebase
from smolvla_ros.policy import files
from smolvla_ros.policy.checkpoint import Checkpoint, load_checkpoint
from smolvla_ros.policy.normalisation import EMPTY_CAMERA
from smolvla_ros.schema import ConfigError

POLICY, RUN, START = "policy", "run", "start"
RECIPE, SUMMARY = "recipe.json", "summary.json"
METRICS, CURVES, LOG = "metrics.jsonl", "curves.png", "train.log"
TRAIN_CONFIG = "train_config.json"
SAVES = 10  # checkpoints that a run leaves: a kill loses a tenth of it at most
_PROBE = 24  # steps that are timed to see how many fit into some minutes
_USED = 0.97  # of the minutes by steps; the rest goes into checkpoints and curves
_DRAWN_EVERY = 60.0  # s
_INPUTS = "--policy.input_features"
# LeRobot's arguments that follow from ours.
_OURS = {
    "--policy.path": "--from",
    "--dataset.root": "--dataset",
    "--output_dir": "--out",
    "--steps": "--steps",
    "--batch_size": "--batch-size",
    "--seed": "--seed",
    "--resume": "--resume",
    "--config_path": "--resume",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run is asked for: enough to run it again.

    Attributes:
        dataset: its folder, absolute. start: folder of the checkpoint it starts from,
            absolute. steps: updates. batch_size: frames an update. threads: of torch.
        more: arguments for LeRobot, in its own words; they override what is said here.
    """

    dataset: str
    start: str
    steps: int
    batch_size: int = 64
    seed: int = 0
    threads: int = 1
    more: tuple[str, ...] = ()

    def arguments(self, output: str = RUN) -> list[str]:
        """What ``lerobot-train`` is given, in a folder that holds what the checkpoint names
        relative to itself (its ``vlm``); ``start`` is read for the fields it has."""
        own = [
            f"--policy.path={self.start}",
            f"--dataset.repo_id=local/{Path(self.dataset).name}",
            f"--dataset.root={self.dataset}",
            "--dataset.use_imagenet_stats=false",
            "--dataset.video_backend=pyav",  # needs no ffmpeg of the system
            f"--output_dir={output}",
            f"--steps={self.steps}",
            f"--batch_size={self.batch_size}",
            f"--seed={self.seed}",
            "--num_workers=0",
            f"--save_freq={max(-(-self.steps // SAVES), 1)}",
            f"--log_freq={min(max(self.steps // 200, 1), 50)}",
            "--env_eval_freq=0",
            "--policy.push_to_hub=false",
        ]
        # The schedule is the policy's: of SmolVLA's fields those that it has.
        fields = json.loads((Path(self.start) / files.CONFIG).read_text())
        own += [
            f"--policy.{name}={value}"
            for name, value in (
                ("optimizer_lr", "5e-4"),
                ("scheduler_warmup_steps", min(100, self.steps // 10)),
                ("scheduler_decay_steps", self.steps),
                ("scheduler_decay_lr", "1e-5"),
            )
            if name in fields
        ]
        given = {_option(word) for word in self.more}
        return [word for word in own if _option(word) not in given] + list(self.more)


def train(
    recipe: Recipe,
    out: Path,
    cell: Cell | None = None,
    minutes: float | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train into the new folder ``out``; return the checkpoint's folder in it.

    Args:
        cell: that the data set has to fit. minutes: in which to end; fewer steps than the
            recipe's are made where they do not fit. say: is told what is being done.

    Raises:
        ConfigError: ``out`` has files, or the data set does not fit the checkpoint or cell,
            a line a difference.
        CheckpointError: the checkpoint cannot be used.
    """
    begun = time.monotonic()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out}: is there and not empty, nothing is written over; --resume goes on with it"
        )
    _check(recipe, cell)
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    shared = _Datasets(say)
    for name in _brought(Path(recipe.start), Path(recipe.start)):
        shutil.copytree(Path(recipe.start) / name, out / name)
    recipe = _in_the_datasets_units(recipe, out, say)
    if minutes is not None:
        recipe = _fitting(recipe, out, shared, minutes * 60 - (time.monotonic() - begun), say)
    (out / RECIPE).write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    return _run(recipe, out, recipe.arguments(), shared, say)


def resume(
    out: Path,
    cell: Cell | None = None,
    given: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Go on with a run that was ended before its end; return the checkpoint's folder.

    The steps since the last saved checkpoint are made again; with the same batches and noise,
    so that the run ends as it would have. One that saved none starts anew.

    Args:
        given: fields of a recipe that must be those of the run. cell, say: as :func:`train`.

    Raises:
        ConfigError: no run in ``out``, or one of another recipe, a line a difference.
    """
    if not (out / RECIPE).is_file():
        raise ConfigError(f"{out}: holds no {RECIPE}, so there is no training to go on with")
    recipe = read_recipe(out)
    problems = [
        f"{out}: {name} of this run is {getattr(recipe, name)}, not {value}; leave it out to go on"
        for name, value in (given or {}).items()
        if getattr(recipe, name) != value
    ]
    if problems:
        raise ConfigError(problems)
    _check(recipe, cell)
    torch.set_num_threads(recipe.threads)
    last = _last_checkpoint(out)
    if last is None:
        say("nothing was saved yet: starting anew")
        shutil.rmtree(out / RUN, ignore_errors=True)
        return _run(recipe, out, recipe.arguments(), _Datasets(say), say)
    _complete(out, last)
    step = json.loads((last / TRAINING_STATE_DIR / "training_step.json").read_text())["step"]
    say(f"going on after step {step} of {recipe.steps}")
    config = last.relative_to(out) / PRETRAINED_MODEL_DIR / TRAIN_CONFIG
    return _run(
        recipe,
        out,
        [f"--config_path={config}", "--resume=true", f"--dataset.root={recipe.dataset}"],
        _Datasets(say, last / TRAINING_STATE_DIR),
        say,
        step,
    )


def read_recipe(out: Path) -> Recipe:
    """The recipe of the run in ``out``."""
    document = json.loads((out / RECIPE).read_text())
    return Recipe(**document | {"more": tuple(document["more"])})


def command(arguments: Sequence[str]) -> str:
    """The same as a command line."""
    return shlex.join(["lerobot-train", *arguments])


class _Datasets:
    """Gives the trainer its data sets from memory.

    Args:
        say: is told what is being done. state: folder with the random state that a resumed
            run goes on with.
    """

    def __init__(self, say: Callable[[str], None], state: Path | None = None):
        self._say, self._state = say, state
        self._held: dict[tuple[int, ...] | None, Any] = {}
        self._make = lerobot_train.make_train_eval_datasets

    def make(self, config: Any) -> tuple[Any, Any]:
        """As LeRobot's function of the trainer's data set and the held-out one."""
        backend = config.dataset.video_backend
        return tuple(None if d is None else self._hold(d, backend) for d in self._make(config))

    def _hold(self, dataset: Any, backend: str) -> Any:
        why = keeps_out(dataset)
        if why is not None:
            self._say(f"the data set is read from disk: {why}")
            return dataset
        key = None if dataset.episodes is None else tuple(dataset.episodes)
        if key not in self._held:
            self._held[key] = _Restoring(dataset, backend, self._state)
        return self._held[key]


class _Restoring(MemoryDataset):
    """Puts the random state of a resumed run back when its first batch is fetched.

    LeRobot restores it earlier, and torch's DataLoader then draws from it once more than in
    the run that was not interrupted.
    """

    def __init__(self, dataset: Any, backend: str, state: Path | None):
        super().__init__(dataset, backend)
        self._state = state

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        if self._state is not None:
            load_rng_state(self._state)
            self._state = None
        return super().__getitems__(indices)


class _Log(logging.Filter):
    """Takes what LeRobot logs: all of it into a file, and its metrics, which it logs as the
    tracker object itself, as numbers. Lets only warnings pass to the console."""

    def __init__(self, path: Path, measured: Callable[[dict[str, float]], None]):
        super().__init__()
        self._path, self._measured = path, measured

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by ``logging`` with what is logged to the root logger."""
        with self._path.open("a") as file:
            file.write(f"{time.strftime('%F %T')} {record.levelname} {record.getMessage()}\n")
        if isinstance(record.msg, MetricsTracker):
            self._measured(record.msg.to_dict())
        return record.levelno >= logging.WARNING


class _Progress:
    """Metrics so far: kept, drawn and told."""

    def __init__(self, out: Path, recipe: Recipe, step: int, say: Callable[[str], None]):
        self.rows = curves.read(out / METRICS, until=step)
        curves.write(out / METRICS, self.rows)
        self._out, self._steps, self._say = out, recipe.steps, say
        self._title = f"{Path(recipe.dataset).name}: {recipe.steps} steps of {recipe.batch_size}"
        self._before = self.rows[-1]["seconds"] if self.rows else 0.0
        self._begun = self._drawn = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent on the run, the time it was not running left out."""
        return round(self._before + time.monotonic() - self._begun, 2)

    def measured(self, metrics: dict[str, float]) -> None:
        """Take LeRobot's averages since its last ones."""
        row = {name: float(f"{value:.7g}") for name, value in metrics.items()}
        row |= {curves.STEP: metrics[curves.STEP], "seconds": self.seconds}
        self.rows.append(row)
        curves.append(self._out / METRICS, row)
        each = row["update_s"] + row["dataloading_s"]
        left = (self._steps - row[curves.STEP]) * each
        self._say(
            f"step {row[curves.STEP]}/{self._steps}  loss {row[curves.LOSS]:.4f}  "
            f"{1 / each:.2f} steps/s  {left / 60:.1f} min left"
        )
        for checkpoint in (self._out / RUN / CHECKPOINTS_DIR).glob("[0-9]*"):
            _complete(self._out, checkpoint)
        if time.monotonic() - self._drawn > _DRAWN_EVERY:
            self.draw()
            self._drawn = time.monotonic()

    def draw(self) -> None:
        """Draw the curves so far."""
        if self.rows:
            curves.draw(self.rows, self._out / CURVES, self._title)


def _run(
    recipe: Recipe,
    out: Path,
    arguments: list[str],
    datasets: _Datasets,
    say: Callable[[str], None],
    step: int = 0,
) -> Path:
    say(f"in {out}: {command(arguments)}")
    progress = _Progress(out, recipe, step, say)
    _call(arguments, out, datasets, _Log(out / LOG, progress.measured))
    progress.draw()
    last = _last_checkpoint(out)
    _complete(out, last)
    policy = out / POLICY
    checkpoint = export(last / PRETRAINED_MODEL_DIR, policy)
    summary = _summary(recipe, checkpoint, progress)
    (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    (policy / "README.md").write_text(
        card(policy, asdict(recipe), summary, before=stage_one(asdict(recipe)))
    )
    say(f"{policy}: {summary['steps']} steps in {summary['seconds'] / 60:.1f} min")
    return policy


def _call(arguments: Sequence[str], out: Path, datasets: _Datasets, log: _Log) -> None:
    """LeRobot's trainer, as its command line is called."""
    root = logging.getLogger()
    with contextlib.ExitStack() as stack:
        # Names that the checkpoint gives relative to itself are found from here, and stay
        # relative in what LeRobot writes.
        stack.enter_context(contextlib.chdir(out))
        # LeRobot offers no way to give its trainer a data set that it did not open itself.
        for place, name, value in (
            (sys, "argv", ["lerobot-train", *arguments]),
            (lerobot_train, "make_train_eval_datasets", datasets.make),
            (root, "handlers", list(root.handlers)),
        ):
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, value)
        stack.callback(root.setLevel, root.level)
        root.addFilter(log)
        stack.callback(root.removeFilter, log)
        lerobot_train.train()


def _fitting(
    recipe: Recipe, out: Path, datasets: _Datasets, seconds: float, say: Callable[[str], None]
) -> Recipe:
    """The recipe, with as many steps as fit into ``seconds``."""
    begun = time.monotonic()
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        log = _Log(
            Path(scratch) / LOG, lambda row: taken.append(row["update_s"] + row["dataloading_s"])
        )
        trial = replace(recipe, steps=_PROBE).arguments(f"{scratch}/{RUN}")
        own = ("--save_checkpoint=false", f"--log_freq={_PROBE // 4}")
        given = {_option(word) for word in own}
        trial = [word for word in trial if _option(word) not in given]
        _call([*trial, *own], out, datasets, log)
    each = median(taken[1:])
    fit = int((seconds - (time.monotonic() - begun)) * _USED / each)
    say(f"{each * 1e3:.0f} ms a step: {fit} steps fit")
    return replace(recipe, steps=max(min(fit, recipe.steps), 1))


def _check(recipe: Recipe, cell: Cell | None) -> None:
    """Refuse what would train on wrong data, or fail later."""
    start, dataset = Path(recipe.start), Path(recipe.dataset)
    taken = {_option(word) for word in recipe.more} & _OURS.keys()
    problems = [f"{word}: give it to smolvla-ros train as {_OURS[word]}" for word in sorted(taken)]
    problems += [f"{start}: {problem}" for problem in files.missing(start)]
    if problems:
        raise ConfigError(problems)
    config = PreTrainedConfig.from_pretrained(start)
    found = describe(dataset)
    if not any(_option(word) == _INPUTS for word in recipe.more):  # else they are the dataset's
        problems += _unlike(config, found, start, dataset)
    if cell is not None:
        problems += check_dataset(dataset, cell)
    if problems:
        raise ConfigError(problems)


def _in_the_datasets_units(recipe: Recipe, out: Path, say: Callable[[str], None]) -> Recipe:
    """Start from the same policy under the dataset's statistics, where it had others."""
    stats = statistics(recipe.dataset)
    if not is_other(Path(recipe.start), stats):
        return recipe
    start = out / START
    shutil.copytree(recipe.start, start)
    rebase(start, stats)
    say(f"{start}: the same policy, with the dataset's statistics of state and action")
    return replace(recipe, start=str(start))


def _unlike(config: PreTrainedConfig, found: Description, start: Path, dataset: Path) -> list[str]:
    problems = []
    for name, there, feature in (
        ("observation.state", found.state, config.robot_state_feature),
        ("action", found.action, config.action_feature),
    ):
        if feature is not None and len(there) != feature.shape[0]:
            problems.append(
                f"{dataset}: {name} has {len(there)} numbers, {start} has {feature.shape[0]}"
            )
    wanted = {
        name: tuple(feature.shape[1:])
        for name, feature in config.image_features.items()
        if not name.startswith(EMPTY_CAMERA)
    }
    if found.cameras != wanted:
        problems.append(
            f"{dataset}: cameras are {_sizes(found.cameras)}; {start} has {_sizes(wanted)}; "
            f"to give it the dataset's instead, end with -- {_INPUTS}=null"
        )
    return problems


def _sizes(cameras: Mapping[str, tuple[int, int] | None]) -> str:
    return ", ".join(
        name if size is None else f"{name} {size[0]}x{size[1]}"
        for name, size in sorted(cameras.items())
    )


def _option(word: str) -> str:
    return word.split("=", 1)[0]


def _last_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint of LeRobot's."""
    folder = out / RUN / CHECKPOINTS_DIR
    if (folder / LAST_CHECKPOINT_LINK).exists():
        return folder / (folder / LAST_CHECKPOINT_LINK).readlink()
    # A kill may come between the checkpoint and the link. The schedule is written last.
    whole = folder.glob(f"[0-9]*/{TRAINING_STATE_DIR}/{SCHEDULER_STATE}")
    return max((path.parents[1] for path in whole), default=None)


def _brought(folder: Path, where: Path) -> set[str]:
    """Folders in ``where`` that the checkpoint in ``folder`` names relative to itself."""
    documents = [json.loads((folder / files.CONFIG).read_text())]
    documents += [
        step["config"]
        for pipeline in files.PIPELINES
        for step in files.read_steps(folder, pipeline)
    ]
    names = {
        value
        for document in documents
        for key, value in document.items()
        if key.endswith("_name") and isinstance(value, str)
    }
    return {name for name in names if Path(name).name == name and (where / name).is_dir()}


def _complete(out: Path, checkpoint: Path) -> None:
    """Put beside a checkpoint of LeRobot's what it names relative to itself."""
    folder = checkpoint / PRETRAINED_MODEL_DIR
    if not folder.is_dir() or files.missing(folder):
        return  # LeRobot is about to write it
    for name in _brought(folder, out):
        if (folder / name).is_dir():
            continue
        part = folder / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(out / name, part)
        part.rename(folder / name)  # whole, or not there


def export(trained: Path, out: Path) -> Checkpoint:
    """Make ``out`` the checkpoint that was ``trained``, fit to be moved and shipped: whole,
    with no path of this machine. What is there is replaced. Returns it as the runtime loads it.

    Raises:
        CheckpointError: it does not load as the runtime loads it.
        RuntimeError: it holds a path of this machine.
    """
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        shutil.copytree(trained, folder, ignore=shutil.ignore_patterns(TRAIN_CONFIG))
        config = json.loads((folder / files.CONFIG).read_text())
        # Where it began, and how it was sped up: nothing that its users should do again.
        undone = {"pretrained_path": None, "pretrained_revision": None, "compile_model": False}
        config |= {key: value for key, value in undone.items() if key in config}
        (folder / files.CONFIG).write_text(json.dumps(config, indent=4))
        for file in (f for f in folder.rglob("*") if f.is_file()):
            if str(out.parent).encode() in file.read_bytes():
                raise RuntimeError(f"{file.name} holds a path of this machine")
            file.chmod(0o644)  # safetensors writes files nobody else may read
        load_checkpoint(folder)  # before what is there goes
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)
    return load_checkpoint(out)


def _relative(recipe: Recipe) -> list[str]:
    """The arguments with no path of this machine, for the model card."""
    return [
        word.replace(recipe.start, Path(recipe.start).name).replace(
            recipe.dataset, Path(recipe.dataset).name
        )
        for word in recipe.arguments()
    ]


def _summary(recipe: Recipe, checkpoint: Checkpoint, progress: _Progress) -> dict[str, Any]:
    found = describe(recipe.dataset)
    rows = progress.rows
    return {
        "steps": recipe.steps,
        "seconds": progress.seconds,
        "ms_a_step": round(1e3 * median(r["update_s"] + r["dataloading_s"] for r in rows), 1),
        "first_loss": rows[0][curves.LOSS],
        "last_loss": rows[-1][curves.LOSS],
        "episodes": found.episodes,
        "frames": found.frames,
        "fps": found.fps,
        "instructions": len(pd.read_parquet(Path(recipe.dataset) / "meta" / "tasks.parquet")),
        "joints": found.action,
        "units": dict(found.units),
        "command": command(_relative(recipe)),
        "parameters": checkpoint.parameters,
        "hash": checkpoint.hash,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("smolvla_ros", "lerobot", "torch", "transformers", "tokenizers")
        },
    }
