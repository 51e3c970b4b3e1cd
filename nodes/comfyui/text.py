"""The text encoders of Kandinsky as ComfyUI's CLIP."""

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


class PassthroughTokenizer:
    """Passes the prompt to the encoder, which tokenizes it. Weights in parentheses are not supported."""

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, list[str]]:
        return {"prompt": [text]}

    def untokenize(self, token_weight_pair: Any) -> Any:
        return token_weight_pair

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class TextEncoder(nn.Module, ABC):
    """Text encoder with ComfyUI's interface. It wraps the model, because ComfyUI sets `device` on the module it moves,
    which is read-only in transformers' models."""

    def __init__(self, model: nn.Module, tokenizer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.tokenizer, self.dtypes = model, tokenizer, {dtype}

    def reset_clip_options(self) -> None:
        """Does nothing: there are no options."""

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Does nothing: layers cannot be selected."""

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
    """FLAN-UL2, for Kandinsky 3: text states [1, T, 4096], and their mask in the third result."""

    def __init__(self, model: nn.Module, tokenizer: Any, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(model, tokenizer, dtype)
        self.execution_device = device

    @torch.inference_mode()
    def encode_token_weights(self, tokens: dict[str, list[str]]) -> tuple[Tensor, None, dict[str, Tensor]]:
        assert isinstance(self.model, T5Encoder)
        text = encode_prompts(self.model, self.tokenizer, tokens["prompt"], self.execution_device)
        out = management.intermediate_device()
        return text.states.to(out), None, {MASK: text.mask.to(out)}


class StreamedLinear(comfy.ops.manual_cast.Linear, CastLinear):
    """ComfyUI's linear layer, which moves weights to the device on each call, plus the row scales of fp8 weights."""

    def _load_from_state_dict(self, *args: Any, **keywords: Any) -> None:
        # Newer versions create the weight only when a state dict is loaded, unless this method is overridden. Our
        # loader needs it before.
        nn.Module._load_from_state_dict(self, *args, **keywords)

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        return y if self.scale is None else y * self.scale.to(y).T


class StreamedEmbedding(comfy.ops.manual_cast.Embedding):
    """ComfyUI's embedding, with a weight from the start, like StreamedLinear."""

    def _load_from_state_dict(self, *args: Any, **keywords: Any) -> None:
        nn.Module._load_from_state_dict(self, *args, **keywords)


class StreamedOperations:
    """Layers of FLAN-UL2 in ComfyUI."""

    Linear = StreamedLinear
    Embedding = StreamedEmbedding


def as_clip(encoder: TextEncoder, on_cpu: bool = False) -> comfy.sd.CLIP:
    """`encoder` as a ComfyUI CLIP."""
    target = SimpleNamespace(params={}, clip=lambda **_: encoder, tokenizer=lambda **_: PassthroughTokenizer())
    parameters = sum(p.numel() for p in encoder.parameters())
    (dtype,) = encoder.dtypes
    options: dict[str, Any] = {"parameters": parameters, "model_options": {"dtype": dtype}}
    if on_cpu:
        options["model_options"] |= dict.fromkeys(("load_device", "offload_device"), torch.device("cpu"))
    if "disable_dynamic" in inspect.signature(comfy.sd.CLIP.__init__).parameters:
        options["disable_dynamic"] = True  # newer versions' streaming needs weights that their own loader loaded
    return comfy.sd.CLIP(target, **options)


def load_mclip(source: Path, tokenizers: list[Path]) -> comfy.sd.CLIP:
    """Load M-CLIP, from the official 2.1 decoder folder or a single file, as a ComfyUI CLIP. Raises WeightsError."""
    device = management.text_encoder_device()
    # transformers' layers compute in the dtype of their weights, and ComfyUI's choice, fp16, is slow on the CPU.
    dtype = torch.float32 if management.is_device_cpu(device) else management.text_encoder_dtype(device)
    if source.is_dir():
        return as_clip(MCLIPEncoder(*load_decoder_text(source, dtype), dtype))
    return as_clip(MCLIPEncoder(*load_mclip_file(source, tokenizers, dtype), dtype))


def load_ul2(folder: Path, dtype: str, on_cpu: bool) -> comfy.sd.CLIP:
    """Load FLAN-UL2 of an official Kandinsky 3 folder as a ComfyUI CLIP; `dtype` "auto" is half precision. Raises
    WeightsError."""
    device = torch.device("cpu") if on_cpu else management.text_encoder_device()
    half = torch.bfloat16 if management.should_use_bf16(device) else torch.float16
    on_cpu = management.is_device_cpu(device)
    storage = UL2_DTYPES.get(dtype) or (torch.bfloat16 if on_cpu else half)
    # CPUs are slow in half precision. Unscaled fp8 rows would overflow fp16.
    exact = on_cpu or storage == torch.float32 or (storage == FP8 and half == torch.float16)
    compute = torch.float32 if exact else half if storage == FP8 else storage
    loaded = load_text_encoder(folder, storage, compute, StreamedOperations)
    return as_clip(UL2Encoder(loaded.encoder, loaded.tokenizer, storage, device), on_cpu)
