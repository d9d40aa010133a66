"""The model card of a trained checkpoint.

    python -m smolvla_ros.learn.card --run RUN --evaluation RESULTS.json

writes ``RUN/policy/README.md`` again, with the figures of ``smolvla-ros evaluate --json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolvla_ros.policy import files

STAGE_ONE = "stage_one.json"

_CARD = """---
license: apache-2.0
library_name: lerobot
pipeline_tag: robotics
tags: [lerobot, robotics, {type}]
---
# {title}

{parameters:.2f} million parameters ({megabytes:.1f} MB), LeRobot policy type `{type}`, {hash}.

| | |
|---|---|
{facts}

## Data
{data}

## Recipe
{recipe}

## Evaluation
{evaluation}

## Loading
{loading}
"""

_LOADING = """`vlm_model_name` in `config.json` and `tokenizer_name` in
`policy_preprocessor.json` are the relative `vlm`. LeRobot would take that for a name on the Hub, so
give it the folder:

```python
config = PreTrainedConfig.from_pretrained(folder)
config.vlm_model_name = f"{folder}/vlm"
policy = SmolVLAPolicy.from_pretrained(folder, config=config)
pre, post = make_pre_post_processors(config, pretrained_path=folder, preprocessor_overrides={
    "tokenizer_processor": {"tokenizer_name": f"{folder}/vlm"}})
```"""
_PLAIN = "With LeRobot's `from_pretrained`, of the policy and of its processors."


def card(
    policy: Path,
    recipe: Mapping[str, Any],
    summary: Mapping[str, Any],
    *,
    title: str = "A SmolVLA trained with smolvla_ros",
    before: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """The card, as Markdown.

    Args:
        policy: the checkpoint's folder. recipe, summary: of the run (``recipe.json``,
            ``summary.json``). before: figures of the training before this one, by name; they
            become a table. evaluation: what ``smolvla-ros evaluate --json`` wrote.
    """
    config = json.loads((policy / files.CONFIG).read_text())
    local = (
        isinstance(config.get("vlm_model_name"), str)
        and (policy / config["vlm_model_name"]).is_dir()
    )
    return _CARD.format(
        title=title,
        type=config["type"],
        parameters=summary["parameters"] / 1e6,
        megabytes=sum(f.stat().st_size for f in policy.rglob("*") if f.is_file()) / 1e6,
        hash=f"known by {summary['hash']}",
        facts=_table(_facts(policy, config, summary)),
        data=_data(recipe, summary),
        recipe=_recipe(recipe, summary, before),
        evaluation=_evaluation(evaluation) if evaluation else "Not evaluated yet.",
        loading=_LOADING if local else _PLAIN,
    )


def _facts(policy: Path, config: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, str]:
    units = summary["units"]
    facts = {
        "State, action": ", ".join(f"`{name}`" for name in summary["joints"]) + ", in this order",
        "Units": ", ".join(f"{joint} {unit}" for joint, unit in units.items()) or "not recorded",
        "Images": ", ".join(
            f"`{name}` {'x'.join(map(str, feature['shape']))}"
            for name, feature in config["input_features"].items()
            if feature["type"] == "VISUAL"
        )
        + ", 0..1",
    }
    if "chunk_size" in config:
        facts["Chunk"] = f"{config['chunk_size']} rows at {summary['fps']:g} Hz"
    vlm = policy / str(config.get("vlm_model_name")) / files.CONFIG
    if vlm.is_file():
        document = json.loads(vlm.read_text())
        see, read = document["vision_config"], document["text_config"]
        side = see["image_size"] // see["patch_size"] // document["scale_factor"]
        facts |= {
            "Vision": f"{see['hidden_size']} wide, {see['num_hidden_layers']} layers, "
            f"{see['image_size']} px, patch {see['patch_size']}: {side**2} tokens a camera",
            "Language": f"{read['hidden_size']} wide, {config['num_vlm_layers']} layers, "
            f"{read['num_attention_heads']} heads, {read['vocab_size']} tokens, at most "
            f"{config['tokenizer_max_length']} an instruction",
            "Action expert": f"width x {config['expert_width_multiplier']:g}, "
            f"{config['num_steps']} denoising steps",
        }
    return facts


def _data(recipe: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    return (
        f"`{Path(recipe['dataset']).name}`: {summary['episodes']} episodes, "
        f"{summary['frames']} frames at {summary['fps']:g} Hz "
        f"({summary['frames'] / summary['fps'] / 60:.0f} min of motion), "
        f"{summary['instructions']} different instructions."
    )


def _recipe(
    recipe: Mapping[str, Any], summary: Mapping[str, Any], before: Mapping[str, Any] | None
) -> str:
    parts = []
    if before:
        parts.append("Before, stage one:\n\n| | |\n|---|---|\n" + _table(before) + "\n\nThen:\n")
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    parts.append(
        f"LeRobot's own trainer, {summary['steps']} steps of {recipe['batch_size']} frames, seed "
        f"{recipe['seed']}: {summary['seconds']:.0f} s ({summary['ms_a_step']:.0f} ms a step) on "
        f"{recipe['threads']} thread(s) of {summary['machine']}. Loss {summary['first_loss']:.3f} "
        f"at first, {summary['last_loss']:.4f} at last; it says little about success.\n\n"
        f"```\n{summary['command']}\n```\nwith {versions}."
    )
    return "\n".join(parts)


def _evaluation(found: Mapping[str, Any]) -> str:
    """Tables of what ``smolvla-ros evaluate`` measured."""
    lines = [
        "By `smolvla-ros evaluate`, closed loop in the simulator, on scenes and wordings that no "
        "training used.",
        "",
        "| task | block | episodes | success | 95 % | wrong block | seconds (p50) |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, shares in found["tasks"].items():
        lines.append(_shares(task, "all", shares))
        lines += [_shares(task, block, s) for block, s in shares.get("colours", {}).items()]
    language = found.get("language", {})
    for task, shares in language.get("other_colour", {}).items():
        lines.append(_shares(f"{task}, same scene", "another block named", shares))
    lines.append("")
    if "no_block" in language:
        nothing = language["no_block"]
        lines.append(
            f"With an instruction that names no block, a block was touched in "
            f"{_percent(nothing['touched_any'])} of {nothing['n']} scenes."
        )
    lines.append(
        f"Limit violations {found['limit_violations']}, clearance breaches "
        f"{found['clearance_breaches']}."
    )
    return "\n".join(lines)


def _shares(task: str, block: str, shares: Mapping[str, Any]) -> str:
    low, high = shares["ci95"]
    seconds = shares.get("seconds_p50")
    cells = (
        task,
        block,
        shares["n"],
        _percent(shares["success"]),
        f"{100 * low:.1f} to {100 * high:.1f}",
        _percent(shares.get("wrong_colour")),
        "" if seconds is None else f"{seconds:.1f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def stage_one(recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """The figures that ``smolvla-ros pretrain`` left in the checkpoint training began from."""
    path = Path(recipe["start"]) / STAGE_ONE
    return json.loads(path.read_text()) if path.is_file() else None


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a trained checkpoint's model card.")
    parser.add_argument("--run", type=Path, required=True, help="folder of smolvla-ros train")
    parser.add_argument("--evaluation", type=Path, help="JSON of smolvla-ros evaluate")
    parser.add_argument(
        "--before",
        type=Path,
        help="JSON object of figures of stage one (default: of the checkpoint begun from)",
    )
    parser.add_argument("--title", default="A SmolVLA trained with smolvla_ros")
    parser.add_argument("--out", type=Path, help="default: RUN/policy/README.md")
    args = parser.parse_args(argv)
    policy = args.run / "policy"
    recipe, summary, before, evaluation = (
        path and json.loads(path.read_text())
        for path in (
            args.run / "recipe.json", args.run / "summary.json", args.before, args.evaluation
        )
    )  # fmt: skip
    text = card(
        policy,
        recipe,
        summary,
        title=args.title,
        before=before or stage_one(recipe),
        evaluation=evaluation,
    )
    (args.out or policy / "README.md").write_text(text)


if __name__ == "__main__":
    main()
