"""Kandinsky's text encoders as ComfyUI's CLIP."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management as management
import comfy.sd
import torch
from torch import Tensor, nn

from ..models.loader import load_transformers
from ..sampling.prior import encode_decoder_text


class Prompt:
    """The tokenizer ComfyUI calls: it hands the prompt on as it is, for Kandinsky's tokenizers cut and pad, and know no
    weights in brackets."""

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, list[str]]:
        return {"prompt": [text]}

    def untokenize(self, token_weight_pair: Any) -> Any:
        return token_weight_pair

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class TextEncoder(nn.Module):
    """An encoder as ComfyUI calls one. A holder, for ComfyUI sets `device` on what it moves, and transformers' models
    own that name."""

    def __init__(self, model: nn.Module, tokenizer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.tokenizer, self.dtypes = model, tokenizer, {dtype}

    def reset_clip_options(self) -> None:
        """Nothing to reset: these encoders have no layer to choose."""

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Layers can't be chosen."""

    def encode_token_weights(self, tokens: dict[str, list[str]]) -> tuple[Any, ...]:
        raise NotImplementedError


class MCLIPEncoder(TextEncoder):
    """M-CLIP, for 2.1: hidden states [1, 77, 1024] and pooled [1, 768]."""

    @torch.inference_mode()
    def encode_token_weights(self, tokens: dict[str, list[str]]) -> tuple[Tensor, Tensor]:
        device = next(self.model.parameters()).device
        text = encode_decoder_text(self.model, self.tokenizer, tokens["prompt"], device)
        out = management.intermediate_device()
        return text.states.float().to(out), text.embeds.float().to(out)


def as_clip(encoder: TextEncoder) -> comfy.sd.CLIP:
    """`encoder` as a ComfyUI CLIP, for CLIP Text Encode."""
    target = SimpleNamespace(params={}, clip=lambda **_: encoder, tokenizer=lambda **_: Prompt())
    parameters = sum(p.numel() for p in encoder.parameters())
    (dtype,) = encoder.dtypes
    return comfy.sd.CLIP(target, parameters=parameters, model_options={"dtype": dtype})


def load_mclip(folder: Path) -> comfy.sd.CLIP:
    """M-CLIP of the official 2.1 decoder folder as a ComfyUI CLIP. Raises WeightsError."""
    device = management.text_encoder_device()
    # transformers' layers compute in the dtype they are kept in, and fp16, ComfyUI's choice, is slow on a CPU.
    dtype = torch.float32 if management.is_device_cpu(device) else management.text_encoder_dtype(device)
    from transformers import XLMRobertaTokenizerFast

    from ..models.mclip import MCLIP

    model = load_transformers(MCLIP, folder / "text_encoder", dtype)
    tokenizer = XLMRobertaTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True)
    return as_clip(MCLIPEncoder(model, tokenizer, dtype))
