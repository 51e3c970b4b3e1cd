"""Kandinsky's text encoders as ComfyUI's CLIP."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management as management
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ..host import DTYPES
from ..keys import MASK
from ..models.loader import load_decoder_text
from ..models.loader3 import load_text_encoder
from ..models.single import load_mclip_file
from ..models.t5 import FP8, CastLinear, T5Encoder
from ..sampling.kandinsky3 import encode_prompts
from ..sampling.prior import encode_decoder_text

UL2_DTYPES = {**DTYPES, "fp8_e4m3fn": FP8}


class Prompt:
    """The tokenizer ComfyUI calls: it hands the prompt on as it is, for Kandinsky's tokenizers cut and pad, and know no
    weights in brackets."""

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, list[str]]:
        return {"prompt": [text]}

    def untokenize(self, token_weight_pair: Any) -> Any:
        return token_weight_pair

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class TextEncoder(nn.Module, ABC):
    """An encoder as ComfyUI calls one. A holder, for ComfyUI sets `device` on what it moves, and transformers' models
    own that name."""

    def __init__(self, model: nn.Module, tokenizer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.tokenizer, self.dtypes = model, tokenizer, {dtype}

    def reset_clip_options(self) -> None:
        """Nothing to reset: these encoders have no layer to choose."""

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Layers can't be chosen."""

    @abstractmethod
    def encode_token_weights(self, tokens: dict[str, list[str]]) -> tuple[Any, ...]:
        """(states, pooled or None[, more keys of CONDITIONING]) of the prompt in `tokens`."""


class MCLIPEncoder(TextEncoder):
    """M-CLIP, for 2.1: hidden states [1, 77, 1024] and pooled [1, 768]."""

    @torch.inference_mode()
    def encode_token_weights(self, tokens: dict[str, list[str]]) -> tuple[Tensor, Tensor]:
        device = next(self.model.parameters()).device
        text = encode_decoder_text(self.model, self.tokenizer, tokens["prompt"], device)
        out = management.intermediate_device()
        return text.states.float().to(out), text.embeds.float().to(out)


class UL2Encoder(TextEncoder):
    """FLAN-UL2, for Kandinsky 3: text states [1, T, 4096] and, as the third, their mask."""

    def __init__(self, model: nn.Module, tokenizer: Any, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(model, tokenizer, dtype)
        self.runs_on = device

    @torch.inference_mode()
    def encode_token_weights(self, tokens: dict[str, list[str]]) -> tuple[Tensor, None, dict[str, Tensor]]:
        assert isinstance(self.model, T5Encoder)
        text = encode_prompts(self.model, self.tokenizer, tokens["prompt"], self.runs_on)
        out = management.intermediate_device()
        return text.states.to(out), None, {MASK: text.mask.to(out)}


class StreamedLinear(comfy.ops.manual_cast.Linear, CastLinear):
    """ComfyUI's layer, which brings weights to the device as they are used, with fp8's scale for each row."""

    def _load_from_state_dict(self, *args: Any, **keywords: Any) -> None:
        # With its own way of loading it has its weight from the start; newer versions make those of other layers only
        # when a state dict is loaded, and our loader fills what is there.
        nn.Module._load_from_state_dict(self, *args, **keywords)

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        return y if self.scale is None else y * self.scale.to(y).T


class StreamedEmbedding(comfy.ops.manual_cast.Embedding):
    """The same."""

    def _load_from_state_dict(self, *args: Any, **keywords: Any) -> None:
        nn.Module._load_from_state_dict(self, *args, **keywords)


class StreamedOperations:
    """The layers of FLAN-UL2 in ComfyUI."""

    Linear = StreamedLinear
    Embedding = StreamedEmbedding


def as_clip(encoder: TextEncoder, on_cpu: bool = False) -> comfy.sd.CLIP:
    """`encoder` as a ComfyUI CLIP, for CLIP Text Encode."""
    target = SimpleNamespace(params={}, clip=lambda **_: encoder, tokenizer=lambda **_: Prompt())
    parameters = sum(p.numel() for p in encoder.parameters())
    (dtype,) = encoder.dtypes
    options: dict[str, Any] = {"parameters": parameters, "model_options": {"dtype": dtype}}
    if on_cpu:
        options["model_options"] |= dict.fromkeys(("load_device", "offload_device"), torch.device("cpu"))
    if "disable_dynamic" in inspect.signature(comfy.sd.CLIP.__init__).parameters:
        options["disable_dynamic"] = True  # newer versions' streaming knows only weights that were loaded in their way
    return comfy.sd.CLIP(target, **options)


def load_mclip(source: Path, tokenizers: list[Path]) -> comfy.sd.CLIP:
    """M-CLIP of the official 2.1 decoder folder, or in a single file, as a ComfyUI CLIP. Raises WeightsError."""
    device = management.text_encoder_device()
    # transformers' layers compute in the dtype they are kept in, and fp16, ComfyUI's choice, is slow on a CPU.
    dtype = torch.float32 if management.is_device_cpu(device) else management.text_encoder_dtype(device)
    if source.is_dir():
        return as_clip(MCLIPEncoder(*load_decoder_text(source, dtype), dtype))
    return as_clip(MCLIPEncoder(*load_mclip_file(source, tokenizers, dtype), dtype))


def load_ul2(folder: Path, dtype: str, on_cpu: bool) -> comfy.sd.CLIP:
    """FLAN-UL2 of an official Kandinsky 3 folder as a ComfyUI CLIP; `dtype` "auto": half precision. Raises
    WeightsError."""
    device = torch.device("cpu") if on_cpu else management.text_encoder_device()
    half = torch.bfloat16 if management.should_use_bf16(device) else torch.float16
    on_cpu = management.is_device_cpu(device)
    kept = UL2_DTYPES.get(dtype) or (torch.bfloat16 if on_cpu else half)
    # A CPU is slow in half precision, which then only saves memory; and fp8's rows would overflow fp16 before they are
    # scaled.
    exact = on_cpu or kept == torch.float32 or (kept == FP8 and half == torch.float16)
    compute = torch.float32 if exact else half if kept == FP8 else kept
    loaded = load_text_encoder(folder, kept, compute, StreamedOperations)
    return as_clip(UL2Encoder(loaded.encoder, loaded.tokenizer, kept, device), on_cpu)
