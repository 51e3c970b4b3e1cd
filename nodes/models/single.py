"""Loading Kandinsky 2.x from single safetensors files, one a network, with nothing beside them.

Sizes are read off the tensors, schedulers are as published; only tokenizers need a folder. Strictly, as loader.py.
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
from .layers import Unfilled
from .loader import (
    ImageProcessorConfig,
    KandinskyPrior,
    WeightsError,
    load_network,
    load_transformers_file,
    sizes,
)
from .prior import PriorConfig, PriorTransformer
from .unet2 import UNet2Config

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, by which all published image processors normalise."""

DDPM_21 = DecoderScheduler(
    "DDPM", thresholding=True, sample_max_value=2.0, variance_type="learned_range", steps_offset=0
)
"""The second scheduler published with 2.1's decoder, not with its inpainting one."""


@dataclass(frozen=True)
class TokenizerKind:
    """A kind of tokenizer, and the files of it to copy."""

    name: str
    of: str
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
    """Read a prior's three files, its networks on the CPU in `dtype`; the tokenizer is the first of the folders
    `tokenizers` that fits the text encoder. Raises WeightsError."""
    from transformers import CLIPTokenizer

    network = sizes(PriorConfig, prior)
    text, vision = sizes(CLIPTextConfig, text_encoder), sizes(CLIPVisionConfig, image_encoder)
    for file, width in ((text_encoder, text.projection_dim), (image_encoder, vision.projection_dim)):
        if width != network.embedding_dim:
            raise WeightsError(
                f"{prior} expected encoders of {network.embedding_dim}-wide embeds, {file} gives {width}-wide ones: "
                "2.1's are 768 wide, 2.2's 1280. Take the three files from one repository."
            )
    if text.max_position_embeddings != network.num_embeddings:
        raise WeightsError(
            f"{prior} expected prompts of {network.num_embeddings} tokens, {text_encoder} reads "
            f"{text.max_position_embeddings}. Take the three files from one repository."
        )
    # As published: of all tokenizers here only ViT-L/14's pads with its end mark.
    pad = "<|endoftext|>" if text.projection_dim == CLIP_L_WIDTH else "!"
    options = {"pad_token": pad, "model_max_length": text.max_position_embeddings}
    tokenizer = fitting_tokenizer(CLIPTokenizer, CLIP, text_encoder, text.vocab_size, tokenizers, options)
    text = replace(text, eos_token_id=tokenizer.eos_token_id)
    return KandinskyPrior(
        name=prior.stem,
        prior=load_network(PriorTransformer(network, Unfilled, dtype, "meta"), prior, dtype),
        text_encoder=load_network(CLIPTextEncoder(text, Unfilled, dtype, "meta"), text_encoder, dtype),
        image_encoder=load_network(CLIPImageEncoder(vision, Unfilled, dtype, "meta"), image_encoder, dtype),
        tokenizer=tokenizer,
        image_processor=ImageProcessorConfig(vision.image_size, CLIP_MEAN, CLIP_STD),
        scheduler=UnCLIPScheduler(),
    )


def load_mclip_file(file: Path, tokenizers: Sequence[Path], dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """(M-CLIP from a single file, its tokenizer, from the first of the folders that fits). Raises WeightsError."""
    from .mclip import MCLIP, MCLIPConfig, Tokenizer

    text = sizes(MCLIPSizes, file)
    tokenizer = fitting_tokenizer(Tokenizer, XLM, file, text.vocab_size, tokenizers, {})
    return load_transformers_file(MCLIP, MCLIPConfig(**asdict(text)), file, dtype), tokenizer


def fitting_tokenizer(
    make: Any, kind: TokenizerKind, file: Path, words: int, folders: Iterable[Path], options: dict[str, Any]
) -> Any:
    """The tokenizer with as many `words` as the text encoder in `file`, in the first of `folders` that has one: a
    wrong one would say other words. Raises WeightsError."""
    found: list[str] = []
    for folder in folders:
        if _class_of(folder) not in (kind.of, f"{kind.of}Fast"):
            continue
        tokenizer = make.from_pretrained(folder, local_files_only=True, **options)
        if len(tokenizer) == words:
            return tokenizer
        found.append(f"{folder} ({len(tokenizer)})")
    raise WeightsError(
        f"{file}: expected {kind.name}'s tokenizer, of {words} words, for it; got {', '.join(found) or 'none'}. Copy "
        f"{kind.files} from the official repository's tokenizer folder to a folder {file.stem} beside that file."
    )


def _class_of(folder: Path) -> str | None:
    """The tokenizer's class that the folder names; None if it names none."""
    try:
        return json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class")
    except (OSError, ValueError, AttributeError):
        return None


def published_scheduler(network: UNet2Config) -> DecoderScheduler:
    """The scheduler that is published with a UNet, for one that comes without its scheduler_config.json."""
    if network.reads_text:
        return DecoderScheduler("DDIM", clip_sample=False)
    return DecoderScheduler("DDPM", clip_sample=not network.inpaints)
