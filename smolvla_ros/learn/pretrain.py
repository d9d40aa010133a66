"""Stage one: ground the small vision-language model, on views of the tabletop.

With the imitation loss alone a model this small learns to move long before it learns what the
words mean. So two heads are put on it for this stage and thrown away afterwards: one says from
the tokens of the pictures where every block is, one says from the last word where the block is
that is named, at the inputs of the language model's layers, which are what the action expert
reads. SmolVLA's own loss is learned beside them, on the expert's plans.

What is written is an ordinary LeRobot checkpoint; stage two is LeRobot's own trainer.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.processor import TokenizerProcessorStep
from torch import nn

from smolvla_ros.learn import curves
from smolvla_ros.learn.models import CAMERAS, SMALL, make_policy, make_vlm
from smolvla_ros.learn.tasks import COLOURS, TASKS, Task, wordings
from smolvla_ros.learn.views import Views

STATE, ACTION = "observation.state", "action"
TOKENS, MASK = "observation.language.tokens", "observation.language.attention_mask"
PROGRESS = "progress.pt"
METRICS, CURVES, SUMMARY = "metrics.jsonl", "curves.png", "stage_one.json"
_HELD_BACK = 256  # views that are measured on and not learned from
_WARM_UP, _LAST_RATE = 100, 0.01  # steps, and share of the rate that is left at the end


@dataclass(frozen=True)
class Recipe:
    """How it is done. ``steps`` of ``batch`` views at ``rate``; ``heads``: their share of the
    loss beside SmolVLA's own; ``seed`` of the weights and of what is drawn."""

    steps: int = 8000
    batch: int = 64
    rate: float = 1e-3
    heads: float = 1.0
    seed: int = 0


class Heads(nn.Module):
    """What is asked of a policy's language model while it is trained. ``layers``: those at
    whose inputs the named block is asked for; the first is where all blocks are."""

    def __init__(self, policy: SmolVLAPolicy, layers: tuple[int, ...] = (1, 2, 3)):
        super().__init__()
        text = policy.model.vlm_with_expert.get_vlm_model().text_model
        width = text.config.hidden_size
        self._images = len(CAMERAS) * SMALL.image_tokens
        self._seen: dict[int, torch.Tensor] = {}
        self.places = nn.Sequential(
            nn.Linear(self._images * width, 128), nn.GELU(), nn.Linear(128, 3 * len(COLOURS))
        )
        self.named = nn.ModuleDict(
            {
                str(k): nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, 3))
                for k in layers
            }
        )
        self._hooks = [
            text.layers[k].input_layernorm.register_forward_pre_hook(self._keep(k)) for k in layers
        ]

    def _keep(self, layer: int):
        def hook(_module, inputs):
            self._seen[layer] = inputs[0]

        return hook

    def forward(self, mask: torch.Tensor) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """After the policy's forward: all blocks ``[B, colours, 3]``, and by layer the named
        one ``[B, 3]``. ``mask``: ``[B, L]`` of the language tokens."""
        first = self._seen[min(self._seen)]
        places = self.places(first[:, : self._images].flatten(1))
        last = self._images + mask.sum(1) - 1
        rows = torch.arange(len(mask))
        named = {k: self.named[str(k)](seen[rows, last]) for k, seen in self._seen.items()}
        self._seen.clear()
        return places.view(len(mask), -1, 3), named

    def remove(self) -> None:
        """Take the hooks off the policy."""
        for hook in self._hooks:
            hook.remove()


class Words:
    """Tokens of every wording of training, drawn by task."""

    def __init__(self, step: TokenizerProcessorStep):
        tokenizer = step.input_tokenizer
        self._ids: dict[tuple[int, int], list[list[int]]] = {}
        sentences = {(-1, -1): wordings(None)} | {
            (t, c): wordings(Task(TASKS[t], COLOURS[c]))
            for t in range(len(TASKS))
            for c in range(len(COLOURS))
        }
        for key, texts in sentences.items():
            # As LeRobot's pre-processor writes them: a line each.
            self._ids[key] = [tokenizer(f"{text}\n")["input_ids"] for text in texts]
        self._pad = tokenizer.pad_token_id
        self._longest = step.max_length

    def draw(self, tasks: np.ndarray, named: np.ndarray, draw: np.random.Generator):
        """Tokens and mask ``[B, L]`` of one wording for each."""
        rows = []
        for key in zip(tasks.tolist(), named.tolist(), strict=True):
            texts = self._ids[key]
            rows.append(texts[draw.integers(len(texts))][: self._longest])
        length = max(map(len, rows))
        tokens = torch.tensor([r + [self._pad] * (length - len(r)) for r in rows])
        mask = torch.tensor([[k < len(r) for k in range(length)] for r in rows])
        return tokens, mask


class Pretraining:
    """One run. ``out`` becomes the checkpoint; a killed run goes on from its last save.

    Args:
        views: to learn from; the last ones are measured on instead.
        say: takes a line of progress. every: steps between two measurements, each with a save.
    """

    def __init__(
        self,
        views: Views,
        out: Path,
        recipe: Recipe,
        say: Callable[[str], None],
        every: int = 250,
    ):
        self._views, self._out, self._recipe, self._say = views, out, recipe, say
        self._every = every
        kept = len(views) - _HELD_BACK
        if kept < recipe.batch:
            raise ValueError(f"{len(views)} views; {_HELD_BACK + recipe.batch} are the least")
        self._kept = kept
        make_vlm(out / "vlm")
        self._stats = {
            STATE: _moments(views.state[:kept]),
            ACTION: _moments(views.actions[:kept].reshape(-1, views.actions.shape[-1])),
        }
        self.policy, self._preprocess, self._postprocess = make_policy(
            out / "vlm", recipe.seed, self._stats
        )
        self._words = Words(_tokenizing(self._preprocess))
        self._heads = Heads(self.policy)
        self._where = _moments(views.blocks[:kept].reshape(-1, 3))
        learned = [p for p in self.policy.parameters() if p.requires_grad]
        learned += self._heads.parameters()
        self._learned = learned
        self._optimizer = torch.optim.AdamW(
            learned, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=1e-10
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._rate)
        self.step = 0
        self._seconds = 0.0

    def _rate(self, step: int) -> float:
        total = self._recipe.steps
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(step / total, 1.0)))
        return min(1.0, (step + 1) / _WARM_UP) * (_LAST_RATE + (1.0 - _LAST_RATE) * cosine)

    # -- what is learned ------------------------------------------------------------------

    def _batch(self, rows: np.ndarray, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        views = self._views
        batch = {
            name: torch.from_numpy(views.images[name][rows]).permute(0, 3, 1, 2).float() / 255.0
            for name in CAMERAS
        }
        for key, values in ((STATE, views.state), (ACTION, views.actions)):
            stats = self._stats[key]
            batch[key] = (torch.from_numpy(values[rows]) - stats["mean"]) / stats["std"]
        batch[TOKENS], batch[MASK] = self._words.draw(views.task[rows], views.named[rows], draw)
        return batch

    def _losses(self, batch, rows: np.ndarray) -> dict[str, torch.Tensor]:
        own, _ = self.policy.forward(batch)
        places, named = self._heads(batch[MASK])
        blocks = (torch.from_numpy(self._views.blocks[rows]) - self._where["mean"]) / (
            self._where["std"]
        )
        index = torch.from_numpy(self._views.named[rows])
        has = index >= 0
        wanted = blocks[torch.arange(len(rows)), index.clamp_min(0)]
        of_layers = [nn.functional.mse_loss(n[has], wanted[has]) for n in named.values()]
        return {
            "policy": own,
            "places": nn.functional.mse_loss(places, blocks),
            "named": sum(of_layers) / len(of_layers),
        }

    def run(self, until: float = math.inf) -> bool:
        """Train to the last step, or until the monotonic clock shows ``until``. Whether it is
        done."""
        recipe = self._recipe
        self.policy.train()
        began, last = time.monotonic(), self.step
        sums: dict[str, float] = {}
        while self.step < recipe.steps and time.monotonic() < until:
            # A function of seed and step alone: a resumed run draws what it would have drawn.
            draw = np.random.default_rng([recipe.seed, self.step])
            torch.manual_seed(recipe.seed * 1_000_003 + self.step)
            rows = draw.integers(self._kept, size=recipe.batch)
            losses = self._losses(self._batch(rows, draw), rows)
            loss = losses["policy"] + recipe.heads * (losses["places"] + losses["named"])
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._learned, 1.0)
            self._optimizer.step()
            self._schedule.step()
            self.step += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
            if self.step % self._every == 0 or self.step == recipe.steps:
                now = time.monotonic()
                each = (now - began) / (self.step - last)
                self._seconds += now - began
                row = {name: value / (self.step - last) for name, value in sums.items()}
                row |= self.measure()
                began, last, sums = time.monotonic(), self.step, {}
                self._tell(row, each)
                self.save_progress()
        return self.step >= recipe.steps

    def measure(self) -> dict[str, float]:
        """On the views held back: mean error of the named block (mm) and of the end of the
        chunk (rad and percent of the policy's units, root mean square over the joints)."""
        self.policy.eval()
        rows = np.arange(self._kept, len(self._views))
        draw = np.random.default_rng(self._recipe.seed)
        batch = self._batch(rows, draw)
        torch.manual_seed(self._recipe.seed)
        with torch.no_grad():
            self.policy.forward(batch)
            _, named = self._heads(batch[MASK])
            chunk = self.policy.predict_action_chunk(batch)
            self._heads._seen.clear()
        found = named[max(named)] * self._where["std"] + self._where["mean"]
        index = self._views.named[rows]
        has = index >= 0
        wanted = self._views.blocks[rows][has, index[has]]
        off = np.linalg.norm(found.numpy()[has] - wanted, axis=1)
        std = self._stats[ACTION]["std"]
        ends = ((chunk - batch[ACTION]) * std)[:, -1].numpy()
        self.policy.train()
        return {
            "named_mm": 1000.0 * float(np.mean(off)),
            "end_error": float(np.sqrt(np.mean(ends**2))),
            "end_error_p50": float(np.median(np.abs(ends).max(axis=1))),
        }

    def _tell(self, row: dict[str, float], each: float) -> None:
        left = (self._recipe.steps - self.step) * each
        rate = self._schedule.get_last_lr()[0]
        row = {curves.STEP: self.step, curves.LOSS: row["policy"], curves.RATE: rate} | row
        curves.append(self._out / METRICS, row)
        curves.draw(curves.read(self._out / METRICS), self._out / CURVES, "grounding")
        self._say(
            f"step {self.step}/{self._recipe.steps}  loss {row['policy']:.4f}  places "
            f"{row['places']:.3f}  named {row['named']:.3f} ({row['named_mm']:.1f} mm)  end "
            f"{row['end_error']:.2f} ({row['end_error_p50']:.2f})  {each * 1000:.0f} ms/step  "
            f"{left / 60:.0f} min left"
        )

    # -- saving ---------------------------------------------------------------------------

    def save_progress(self) -> None:
        """What a resumed run needs; a crash while writing leaves the one before."""
        part = self._out / f"{PROGRESS}.part"
        torch.save(
            {
                "recipe": self._recipe.__dict__,
                "step": self.step,
                "seconds": self._seconds,
                "policy": self.policy.state_dict(),
                "heads": self._heads.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
            },
            part,
        )
        os.replace(part, self._out / PROGRESS)

    def load_progress(self) -> None:
        """Go on from the last save.

        Raises:
            ValueError: it was another recipe's.
        """
        saved = torch.load(self._out / PROGRESS, weights_only=True)
        if saved["recipe"] != self._recipe.__dict__:
            raise ValueError(f"{self._out}: was begun with {saved['recipe']}; give the same")
        self.policy.load_state_dict(saved["policy"])
        self._heads.load_state_dict(saved["heads"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._schedule.load_state_dict(saved["schedule"])
        self.step, self._seconds = saved["step"], saved["seconds"]
        rows = curves.read(self._out / METRICS, self.step)
        curves.write(self._out / METRICS, rows)

    def finish(self) -> None:
        """Write the checkpoint; the progress file is not needed any more."""
        self._heads.remove()
        step = _tokenizing(self._preprocess)
        # Both would hold this machine's path.
        self.policy.config.vlm_model_name = step.tokenizer_name = "vlm"
        for part in (self.policy, self._preprocess, self._postprocess):
            part.save_pretrained(self._out)
        (self._out / SUMMARY).write_text(json.dumps(self.summary(), indent=2) + "\n")
        (self._out / PROGRESS).unlink(missing_ok=True)
        shutil.rmtree(self._out / "views", ignore_errors=True)

    def summary(self) -> dict[str, str | int | float]:
        """Figures for a model card."""
        last = curves.read(self._out / METRICS)[-1:]
        return {
            "views": len(self._views),
            "steps": self.step,
            "views a step": self._recipe.batch,
            "peak learning rate": self._recipe.rate,
            "seed": self._recipe.seed,
            "seconds": round(self._seconds),
            **{
                f"{words}, on views held back": round(row[name], 2)
                for row in last
                for name, words in (
                    ("named_mm", "error of the named block, mm"),
                    ("end_error", "error of a chunk's end, degrees and percent (rms)"),
                )
            },
        }


def _moments(values: np.ndarray) -> dict[str, torch.Tensor]:
    mean, std = values.mean(axis=0), values.std(axis=0)
    return {"mean": torch.from_numpy(mean).float(), "std": torch.from_numpy(std).float()}


def _tokenizing(preprocess) -> TokenizerProcessorStep:
    return next(s for s in preprocess.steps if isinstance(s, TokenizerProcessorStep))
