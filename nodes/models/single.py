"""Loads Kandinsky 2.x from single safetensors files, one per network.

Sizes are detected from the tensors, schedulers are as published; only tokenizers need a folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..sampling.schedulers import DecoderScheduler, UnCLIPScheduler
from .clip import CLIPImageEncoder, CLIPTextConfig, CLIPTextEncoder, CLIPVisionConfig
from .detect import CLIP_L_WIDTH, MCLIPSizes
from .layers import SkipInit
from .loader import (
    ImageProcessorConfig,
    KandinskyPrior,
    WeightsError,
    detect_config,
    load_network,
    load_transformers_file,
)
from .prior import PriorConfig, PriorTransformer
from .unet2 import UNet2Config

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation of all published image processors (OpenAI's)."""

DDPM_21 = DecoderScheduler(
    "DDPM", thresholding=True, sample_max_value=2.0, variance_type="learned_range", steps_offset=0
)
"""Second scheduler published with 2.1's decoder, but not with its inpainting decoder."""


@dataclass(frozen=True)
class TokenizerKind:
    """Name and transformers class of a tokenizer, and which of its files to copy."""

    name: str
    class_name: str
    files: str


CLIP = TokenizerKind("CLIP", "CLIPTokenizer", "vocab.json, merges.txt and tokenizer_config.json")
XLM = TokenizerKind("XLM-RoBERTa", "XLMRobertaTokenizer", "tokenizer.json and tokenizer_config.json")


def load_prior_files(
    prior: Path,
    text_encoder: Path,
    image_encoder: Path,
    tokenizers: Sequence[Path],
    dtype: torch.dtype = torch.float32,
) -> KandinskyPrior:
    """Load a prior's three files to the CPU in `dtype`, with the first of the `tokenizers` folders that matches the
    text encoder. Raises WeightsError."""
    from transformers import CLIPTokenizer

    network = detect_config(PriorConfig, prior)
    text, vision = detect_config(CLIPTextConfig, text_encoder), detect_config(CLIPVisionConfig, image_encoder)
    for file, width in ((text_encoder, text.projection_dim), (image_encoder, vision.projection_dim)):
        if width != network.embedding_dim:
            raise WeightsError(
                f"{prior} expected encoders with embeds {network.embedding_dim} wide, got {width} from {file}: "
                "2.1's are 768 wide, 2.2's 1280. Take the three files from the same repository."
            )
    if text.max_position_embeddings != network.num_embeddings:
        raise WeightsError(
            f"{prior} expected prompts of {network.num_embeddings} tokens, got {text.max_position_embeddings} from "
            f"{text_encoder}. Take the three files from the same repository."
        )
    # As published: only ViT-L/14's tokenizer pads with the EOS token.
    pad = "<|endoftext|>" if text.projection_dim == CLIP_L_WIDTH else "!"
    options = {"pad_token": pad, "model_max_length": text.max_position_embeddings}
    tokenizer = find_tokenizer(CLIPTokenizer, CLIP, text_encoder, text.vocab_size, tokenizers, options)
    text = replace(text, eos_token_id=tokenizer.eos_token_id)
    return KandinskyPrior(
        name=prior.stem,
        prior=load_network(PriorTransformer(network, SkipInit, dtype, "meta"), prior, dtype),
        text_encoder=load_network(CLIPTextEncoder(text, SkipInit, dtype, "meta"), text_encoder, dtype),
        image_encoder=load_network(CLIPImageEncoder(vision, SkipInit, dtype, "meta"), image_encoder, dtype),
        tokenizer=tokenizer,
        image_processor=ImageProcessorConfig(vision.image_size, CLIP_MEAN, CLIP_STD),
        scheduler=UnCLIPScheduler(),
    )


def load_mclip_file(file: Path, tokenizers: Sequence[Path], dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load (M-CLIP, tokenizer) from a single file and the first of the `tokenizers` folders that matches. Raises
    WeightsError."""
    from .mclip import MCLIP, MCLIPConfig, Tokenizer

    text = detect_config(MCLIPSizes, file)
    tokenizer = find_tokenizer(Tokenizer, XLM, file, text.vocab_size, tokenizers, {})
    return load_transformers_file(MCLIP, MCLIPConfig(**asdict(text)), file, dtype), tokenizer


def find_tokenizer(
    make: Any, kind: TokenizerKind, file: Path, vocab_size: int, folders: Iterable[Path], options: dict[str, Any]
) -> Any:
    """Load the first tokenizer in `folders` of this kind and with the vocab_size of the text encoder in `file`. Raises
    WeightsError."""
    found: list[str] = []
    for folder in folders:
        if _tokenizer_class(folder) not in (kind.class_name, f"{kind.class_name}Fast"):
            continue
        tokenizer = make.from_pretrained(folder, local_files_only=True, **options)
        if len(tokenizer) == vocab_size:
            return tokenizer
        found.append(f"{folder} ({len(tokenizer)})")
    raise WeightsError(
        f"{file}: expected the {kind.name} tokenizer with {vocab_size} tokens, got {', '.join(found) or 'none'}. Copy "
        f"{kind.files} from the official repository's tokenizer folder to a folder {file.stem} beside that file."
    )


def _tokenizer_class(folder: Path) -> str | None:
    """tokenizer_class in the folder's tokenizer_config.json, or None."""
    try:
        return json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class")
    except (OSError, ValueError, AttributeError):
        return None


def published_scheduler(network: UNet2Config) -> DecoderScheduler:
    """Scheduler published with this UNet, for files without a scheduler_config.json."""
    if network.reads_text:
        return DecoderScheduler("DDIM", clip_sample=False)
    return DecoderScheduler("DDPM", clip_sample=not network.inpaints)
