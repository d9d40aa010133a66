"""Genuine LeRobot SmolVLA models of two sizes, with weights still to be trained.

There is no small SmolVLM to start from, so the small one is ours: its language model, its
vision tower and its tokenizer are SmolVLM's own classes with smaller numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from smolvla_ros.learn.tasks import training_texts

PLAIN = {
    key: {"mean": torch.zeros(6), "std": torch.ones(6)} for key in ("observation.state", "action")
}
"""Statistics of no data: state and action as they are."""

CAMERAS = ("observation.images.front", "observation.images.wrist")

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
    that SmolVLA keeps, ``padding`` of state and action. ``picture``: side of a camera's square
    in pixels, ``chunk``: rows, ``words``: tokens an instruction may have. ``vocabulary`` of the
    language model; None: the tokenizer's own.
    """

    vision: dict[str, int]
    text: dict[str, int]
    pixels: int
    scale_factor: int
    layers: int
    padding: int
    head_dim: int
    picture: int
    chunk: int
    words: int
    vocabulary: int | None = None

    @property
    def image_tokens(self) -> int:
        """Tokens a camera."""
        return (self.pixels // 16 // self.scale_factor) ** 2


SMALL = Size(
    vision={
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
    text={
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4,
    },
    pixels=64,
    scale_factor=1,  # 4 x 4 patches: 16 tokens a camera
    layers=4,
    padding=6,  # none: padded entries of an action start as noise and no loss ever holds them
    head_dim=32,
    picture=128,
    chunk=16,
    words=24,
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
    head_dim=64,
    picture=480,
    chunk=50,
    words=48,
    vocabulary=49280,
)  # fmt: skip


def make_vlm(folder: Path, size: Size = SMALL) -> None:
    """Write the VLM's config, a byte-level BPE tokenizer and the processor (no weights)."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        training_texts(),
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
            "head_dim": size.head_dim,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            **ids,
        },
    ).save_pretrained(folder)


def make_policy(
    vlm: Path, seed: int, stats: Mapping[str, Mapping[str, torch.Tensor]], size: Size = SMALL
):
    """Return a policy with seeded random weights and its pre- and post-processor.

    Args:
        vlm: a folder of :func:`make_vlm`. stats: ``observation.state`` and ``action`` → ``mean``
            and ``std``, ``[6]`` each, in the policy's units.
    """
    picture = PolicyFeature(type=FeatureType.VISUAL, shape=(3, size.picture, size.picture))
    joints = (6,)
    config = SmolVLAConfig(
        input_features={
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=joints),
            **dict.fromkeys(CAMERAS, picture),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=joints)},
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
        chunk_size=size.chunk,
        n_action_steps=size.chunk,
        num_steps=10,
        tokenizer_max_length=size.words,
        max_state_dim=size.padding,
        max_action_dim=size.padding,
        rtc_config=None,
    )
    torch.manual_seed(seed)
    policy = SmolVLAPolicy(config).eval()
    return policy, *make_smolvla_pre_post_processors(config, stats)
