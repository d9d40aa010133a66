"""Make a small, genuine LeRobot SmolVLA checkpoint that knows no task.

    python -m smolvla_ros.learn.make_checkpoint --out models/so101_tabletop

The folder loads with the unmodified ``SmolVLAPolicy.from_pretrained``, from anywhere and with
no network. It serves to try the whole path from camera to joint command where no real
checkpoint is at hand. Random weights answer with nearly the white noise that flow matching
starts from, which on an arm is trembling, so by default the weights are *babbled* for a few
minutes: taught, on made-up data, that motion goes on smoothly from where the arm is.

Units are those LeRobot gives an SO-101: five joints in degrees about the calibrated mid-range,
the gripper in 0..100.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors
from lerobot.processor import TokenizerProcessorStep
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

# LeRobot's SmolVLA config has no field for these names: a checkpoint keeps their order alone.
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
MEAN = torch.tensor([0.0, -20.0, 20.0, 60.0, 0.0, 30.0])  # a ready pose, not a data set's mean
STD = torch.tensor([25.0, 15.0, 15.0, 15.0, 25.0, 15.0])
CAMERAS = ("observation.images.front", "observation.images.wrist")
IMAGE = (3, 240, 320)  # channels, height, width; values 0..1

# The babbled motion, a loop through the ready pose (phase p = 0):
#   joint = MEAN + LOOP_SIN * sin(p) + LOOP_COS * (1 - cos(p))
# Pan follows the sine alone and lift the cosine alone, so the phase can be read from the present
# state. Lift only leans back and the fingertip stays 9 to 12 cm above the foot of the arm.
LOOP_SIN = torch.tensor([20.0, 0.0, 0.0, 8.0, 15.0, 0.0])
LOOP_COS = torch.tensor([0.0, -10.0, 5.0, 2.0, 0.0, 8.0])
PERIOD = 8.0  # s a turn
RETURN_RATE = 0.7  # 1/s, at which a deviation from the loop dies away
FPS = 30.0  # rows of a chunk per second
BABBLE_STEPS, BATCH, LEARNING_RATE = 2200, 16, 2e-3

COLOURS, THINGS = ("red", "green", "blue"), ("block", "cube")
INSTRUCTIONS = tuple(
    [
        f"{v} the {c} {t}"
        for v in ("touch", "pick up", "push", "point at", "grasp", "lift")
        for c in COLOURS
        for t in THINGS
    ]
    + [
        f"{v} the {c} {t} {w}"
        for v in ("put", "place", "move")
        for c in COLOURS
        for t in THINGS
        for w in (
            "in the bin",
            "on the table",
            "to the left",
            "to the right",
            "on the red cube",
            "next to the blue block",
            "behind the green block",
        )
    ]
    + ["open the gripper", "close the gripper", "go home", "wait", "stop"]
)
TOKENS = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
IMAGE_TOKENS = {  # SmolVLMProcessor asks its tokenizer for these by name
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}


@dataclass(frozen=True)
class Size:
    """How large a SmolVLA is.

    ``vision``, ``text``: widths as SmolVLMConfig names them. ``pixels`` an image is scaled to,
    ``scale_factor`` patches (a side) that become one token, ``layers`` of the language model
    that SmolVLA keeps, ``padding`` of state and action. ``vocabulary`` of the language model;
    None: the tokenizer's own.
    """

    vision: dict[str, int]
    text: dict[str, int]
    pixels: int
    scale_factor: int
    layers: int
    padding: int
    vocabulary: int | None = None

    @property
    def image_tokens(self) -> int:
        """Tokens a camera."""
        return (self.pixels // 16 // self.scale_factor) ** 2


SMALL = Size(
    vision={
        "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4,
        "num_attention_heads": 3,
    },
    text={
        "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4,
        "num_attention_heads": 3, "num_key_value_heads": 1,
    },
    pixels=128,
    scale_factor=2,  # 8 x 8 patches become 4 x 4 = 16 tokens a camera
    layers=4,
    # 8, not 32: padded action entries start as noise and no loss ever holds them, so few is
    # better; not 6, so that the padding every other SmolVLA checkpoint has is there as well.
    padding=8,
)  # fmt: skip
FULL = Size(  # SmolVLM2-500M, as lerobot/smolvla_base has it: 450 million parameters
    vision={
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    text={
        "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 16,
        "num_attention_heads": 15, "num_key_value_heads": 5,
    },
    pixels=512,
    scale_factor=4,
    layers=16,
    padding=32,
    vocabulary=49280,
)  # fmt: skip


def make_vlm(folder: Path, size: Size = SMALL) -> None:
    """Write the VLM's config, a byte-level BPE tokenizer and the processor (no weights)."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        INSTRUCTIONS,
        trainers.BpeTrainer(
            vocab_size=384,
            show_progress=False,
            special_tokens=[*TOKENS.values(), *IMAGE_TOKENS.values()],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        model_max_length=512,
        padding_side="right",
        extra_special_tokens=IMAGE_TOKENS,
        **TOKENS,
    )
    edge = {"longest_edge": size.pixels}
    SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(size=edge, max_image_size=edge),
        video_processor=SmolVLMVideoProcessor(size=edge, max_image_size=edge),
        tokenizer=tokenizer,
        image_seq_len=size.image_tokens,
    ).save_pretrained(folder)
    ids = {
        f"{k}_id": tokenizer.convert_tokens_to_ids(TOKENS[k])
        for k in ("pad_token", "bos_token", "eos_token")
    }
    SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["image_token"]),
        pad_token_id=ids["pad_token_id"],
        scale_factor=size.scale_factor,
        tie_word_embeddings=False,  # SmolVLA looks for an lm_head of its own
        vision_config={**size.vision, "image_size": size.pixels, "patch_size": 16},
        text_config={
            "model_type": "llama",
            "vocab_size": size.vocabulary or len(tokenizer),
            **size.text,
            "head_dim": 64,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            **ids,
        },
    ).save_pretrained(folder)


def make_policy(vlm: Path, seed: int, size: Size = SMALL):
    """Return a policy with seeded random weights and its pre- and post-processor."""
    image = PolicyFeature(type=FeatureType.VISUAL, shape=IMAGE)
    config = SmolVLAConfig(
        input_features={
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(6,)),
            **dict.fromkeys(CAMERAS, image),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(6,))},
        device="cpu",
        push_to_hub=False,
        license="apache-2.0",
        vlm_model_name=str(vlm),
        load_vlm_weights=False,
        freeze_vision_encoder=False,
        train_expert_only=False,
        num_vlm_layers=size.layers,
        expert_width_multiplier=0.75,
        resize_imgs_with_padding=(size.pixels, size.pixels),
        chunk_size=50,
        n_action_steps=50,
        num_steps=10,
        tokenizer_max_length=48,
        max_state_dim=size.padding,
        max_action_dim=size.padding,
        rtc_config=None,
    )
    torch.manual_seed(seed)
    policy = SmolVLAPolicy(config).eval()
    # Plain keys: LeRobot's (un)normaliser silently passes on whatever it has no statistics for.
    stats = {key: {"mean": MEAN, "std": STD} for key in ("observation.state", "action")}
    return policy, *make_smolvla_pre_post_processors(config, stats)


def loop(phase: torch.Tensor) -> torch.Tensor:
    """Joint positions (..., 6) at a phase (...) in radians of the babbled loop."""
    phase = phase[..., None]
    return MEAN + LOOP_SIN * torch.sin(phase) + LOOP_COS * (1 - torch.cos(phase))


def continuation(state: torch.Tensor, rows: int) -> torch.Tensor:
    """Go on from states (n, 6) for (n, rows, 6), onto the loop and along it.

    A function of the present state alone: what one observation does not show, here a phase,
    a policy cannot learn.
    """
    time = torch.arange(1, rows + 1) / FPS
    left = torch.exp(-RETURN_RATE * time)  # (rows,), how much of a deviation is left
    sine = (state[:, 0] - MEAN[0]) / LOOP_SIN[0]
    cosine = 1 - (state[:, 1] - MEAN[1]) / LOOP_COS[1]
    start, radius = torch.atan2(sine, cosine), torch.hypot(sine, cosine)
    phase = start[:, None] + 2 * math.pi / PERIOD * time
    chunk = loop(phase) + (state - loop(start))[:, None] * left[:, None]
    # Pan and lift deviate by a radius, which has to turn with the phase.
    radius = 1 + (radius[:, None] - 1) * left
    chunk[..., 0] = MEAN[0] + LOOP_SIN[0] * radius * torch.sin(phase)
    chunk[..., 1] = MEAN[1] + LOOP_COS[1] * (1 - radius * torch.cos(phase))
    return chunk


def random_images(n: int) -> torch.Tensor:
    """Return (n, 3, 240, 320) in 0..1: flat colours, blurs and noise of random contrast."""
    images = []
    for _ in range(n):
        grid = 2 ** int(torch.randint(8, ()))
        image = torch.rand(1, 3, grid, grid) * torch.rand(()) + 0.5 * torch.rand(1, 3, 1, 1)
        images.append(torch.nn.functional.interpolate(image, IMAGE[1:], mode="bilinear"))
    return torch.cat(images).clamp(0, 1)


def random_states(n: int) -> torch.Tensor:
    """Return (n, 6) states: most near the loop, some well off it, a few far away."""
    spread = torch.tensor([0.12] * 12 + [0.8] * 6 + [2.0] * 2)[torch.randint(20, (n, 1))]
    return loop(2 * math.pi * torch.rand(n)) + spread * STD * torch.randn(n, 6)


def babble(policy: SmolVLAPolicy, tokenizer, steps: int, seed: int) -> float:
    """Fit ``continuation`` with the policy's own flow-matching loss; return the last loss.

    Pictures and words are drawn at random, apart from the motion, so that all there is to learn
    about them is to ignore them. The vision tower keeps its random weights, hence its
    features are computed once.
    """
    torch.manual_seed(seed + 1)
    vlm = policy.model.vlm_with_expert
    with torch.no_grad():
        bank = torch.cat(
            [
                vlm.embed_image(policy.prepare_images({CAMERAS[0]: random_images(32)})[0][0])
                for _ in range(16)
            ]
        )  # (512, 16, 192)
    vlm.embed_image = lambda images: bank[torch.randint(len(bank), (len(images),))]
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / 50) * 0.5 * (1 + math.cos(math.pi * i / steps))
    )
    policy.train()
    average = 1.0
    for step in range(steps):
        state = random_states(BATCH)
        # Every length up to the longest is shown, and unknown words (a third is random tokens): a
        # longer text than any seen moves the rows' positions, and the chunk goes astray.
        number = (1, 1, 1, 1, 2, 3, 6)[int(torch.randint(7, ()))]
        picks = torch.randint(len(INSTRUCTIONS), (BATCH, number)).tolist()
        text = tokenizer(
            [" ".join(INSTRUCTIONS[i] for i in row) + "\n" for row in picks],
            padding="longest",
            truncation=True,
            max_length=48,
            return_tensors="pt",
        )
        batch = dict.fromkeys(CAMERAS, torch.zeros(BATCH, 3, 128, 128)) | {
            "observation.state": (state - MEAN) / STD,
            "action": (continuation(state, policy.config.chunk_size) - MEAN) / STD,
            "observation.language.tokens": torch.where(
                torch.rand(BATCH, 1) < 0.33,
                torch.randint(len(tokenizer), text["input_ids"].shape),
                text["input_ids"],
            ),
            "observation.language.attention_mask": text["attention_mask"].bool(),
        }
        # Flow-matching times, by preference those that inference visits (0.1, 0.2 .. 1.0), above
        # all the last: an error there is what remains on the arm as trembling.
        grid, free = torch.randint(1, 11, (BATCH,)) / 10, 0.02 + 0.98 * torch.rand(BATCH)
        kind = torch.rand(BATCH)
        times = torch.where(kind < 0.4, 0.1, torch.where(kind < 0.8, grid, free))
        loss, _ = policy.forward(batch, time=times)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average += 0.02 * (loss.item() - average)
        if (step + 1) % 200 == 0:
            print(f"babble {step + 1}/{steps}: loss {average:.4f}", flush=True)
    del vlm.embed_image  # back to the class's own
    policy.eval()
    return average


def probe(policy, preprocessor, postprocessor, seed: int) -> dict[str, list[float]]:
    """Run 20 s of closed loop from the ready pose, ten rows of each chunk."""
    torch.manual_seed(seed + 2)
    state, rows = MEAN.clone(), []
    for turn in range(60):
        observation = dict(zip(CAMERAS, random_images(2), strict=True))
        observation |= {"observation.state": state, "task": INSTRUCTIONS[turn]}
        chunk = postprocessor(policy.predict_action_chunk(preprocessor(observation)))[0]
        rows.append(chunk[:10])
        state = chunk[9]
    path = torch.cat(rows)
    shake = path.diff(n=2, dim=0).std(0) / math.sqrt(6)  # of white noise, its standard deviation
    return {
        "lowest": path.amin(0).tolist(),
        "highest": path.amax(0).tolist(),
        "shake": shake.tolist(),
    }


CARD = """---
license: apache-2.0
library_name: lerobot
pipeline_tag: robotics
tags: [lerobot, robotics, smolvla, so101, no-task]
---
# A SmolVLA that knows no task

{size:.2f} million parameters, policy type `smolvla`, for a six-joint SO-101 with two cameras. It is
here to try the path from camera to joint command, and **cannot do anything you ask of it**.

{how}

| | |
|---|---|
| Vision | 192 wide, 4 layers, 128 px, patch 16, scale factor 2: 16 tokens a camera |
| Language | Llama, 192 wide, 4 layers, 3 heads (1 key/value), head size 64 |
| Tokenizer | own byte-level BPE, {vocabulary} tokens, at most 48 an instruction |
| Action expert | width x 0.75, 4 layers, 10 denoising steps |
| State, action | 6 values (padded to 8) in this order: {joints} |
| Units | LeRobot's for SO-101: degrees about the mid-range, the gripper 0..100 |
| Statistics | mean {mean}, std {std}: a ready pose and a reach around it, of no data set |
| Images | `observation.images.front`, `observation.images.wrist`, 3 x 240 x 320, 0..1 |
| Chunk | 50 rows at {fps:.0f} Hz |
| Real-time chunking | off (`rtc_config` null) |

## Loading
`vlm_model_name` in `config.json` and `tokenizer_name` in `policy_preprocessor.json` are the
relative `vlm`. LeRobot would take that for a name on the Hub, so give it the folder:

```python
config = PreTrainedConfig.from_pretrained(folder)
config.vlm_model_name = f"{{folder}}/vlm"
policy = SmolVLAPolicy.from_pretrained(folder, config=config)
pre, post = make_pre_post_processors(config, pretrained_path=folder, preprocessor_overrides={{
    "tokenizer_processor": {{"tokenizer_name": f"{{folder}}/vlm"}}}})
```

## Made by
```
python -m smolvla_ros.learn.make_checkpoint --out FOLDER --seed {seed} \\
    --babble-steps {steps} --threads {threads}
```
with {versions}. The same command on the same machine makes the same bytes.
"""

RANDOM = """Its weights are random and **untrained**. Its chunks are nearly white noise: do not send
them to an arm."""

BABBLED = """It is **untrained** for any task: no demonstration, no robot and no real image was
used. Its weights are random but for {steps} steps of "babbling" on made-up joint angles (last loss
{loss:.3f}), which taught it one thing: to go on smoothly from where the arm is, onto and along
one slow loop ({period:.0f} s) through the ready pose. The vision tower stayed random; the pictures
and instructions it was shown were drawn at random, apart from the motion, so it does not heed
either in any useful way. Far from the ready pose its answer means nothing.

Measured over 20 s of closed loop from the ready pose (60 chunks, ten rows of each, random
pictures and instructions), in degrees, gripper 0..100:

| | pan | lift | elbow | wrist flex | wrist roll | gripper |
|---|---|---|---|---|---|---|
| Lowest | {lowest} |
| Highest | {highest} |
| Noise of a row (standard deviation) | {shake} |"""


def card(policy, tokenizer, report: dict, seed: int, steps: int, threads: int) -> str:
    """Return the model card."""
    how = RANDOM
    if steps:
        cells = {k: " | ".join(f"{x:.2f}" for x in v) for k, v in report.items() if k != "loss"}
        how = BABBLED.format(steps=steps, period=PERIOD, loss=report["loss"], **cells)
    packages = ("lerobot", "torch", "transformers", "tokenizers")
    return CARD.format(
        how=how,
        size=sum(p.numel() for p in policy.parameters()) / 1e6,
        fps=FPS,
        seed=seed,
        steps=steps,
        threads=threads,
        joints=", ".join(f"`{j}.pos`" for j in JOINTS),
        vocabulary=len(tokenizer),
        mean=MEAN.tolist(),
        std=STD.tolist(),
        versions=", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages),
    )


def make_checkpoint(out: Path, seed: int = 0, steps: int = BABBLE_STEPS, threads: int = 1) -> None:
    """Make the checkpoint folder ``out``; files of the same names there are replaced."""
    torch.set_num_threads(threads)  # sums come out differently for another number
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        make_vlm(folder / "vlm")
        policy, preprocessor, postprocessor = make_policy(folder / "vlm", seed)
        step = next(s for s in preprocessor.steps if isinstance(s, TokenizerProcessorStep))
        tokenizer, report = step.input_tokenizer, {}
        if steps:
            report = {"loss": babble(policy, tokenizer, steps, seed)}
            report |= probe(policy, preprocessor, postprocessor, seed)
            print(report)
        # Both would hold this machine's path.
        policy.config.vlm_model_name = step.tokenizer_name = "vlm"
        policy.save_pretrained(folder)
        preprocessor.save_pretrained(folder)
        postprocessor.save_pretrained(folder)
        (folder / "README.md").write_text(card(policy, tokenizer, report, seed, steps, threads))
        for file in (f for f in folder.rglob("*") if f.is_file()):
            if scratch.encode() in file.read_bytes():
                raise RuntimeError(f"{file.name} holds a path of this machine")
            file.chmod(0o644)  # safetensors writes files nobody else may read
        shutil.copytree(folder, out, dirs_exist_ok=True)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--babble-steps",
        type=int,
        default=BABBLE_STEPS,
        help="training steps on made-up smooth motion; 0: plain random weights",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="the weights depend on it; 1 is best on a busy machine",
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that has files")
    args = parser.parse_args(argv)
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())) and not args.force:
        parser.error(f"{args.out} is there and not empty; --force writes into it")
    make_checkpoint(args.out, args.seed, args.babble_steps, args.threads)


if __name__ == "__main__":
    main()
