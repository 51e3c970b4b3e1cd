"""MODEL, VAE and CLIP without ComfyUI, with only what this pack's nodes use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from . import host
from .decoders import Decoder
from .images import from_movq
from .keys import HINT, IMAGE_EMBEDS, KEEP, MASK, MASKED_LATENTS, PICTURE, POOLED, Conditioning
from .models.layers import SkipInit
from .models.loader import load_decoder_text, load_network
from .models.loader3 import load_text_encoder
from .models.memory import decode_memory, encode_memory
from .models.movq import MOVQ, PIXELS_PER_LATENT, MOVQConfig
from .models.single import load_mclip_file
from .models.unet2 import LATENT_CHANNELS, UNet2, UNet2Config
from .models.unet3 import UNet3
from .sampling.decoder import Predict, Prediction
from .sampling.kandinsky3 import encode_prompts
from .sampling.prior import encode_decoder_text

Place = Literal["device", "stream", "cpu"]
"""Where a text encoder runs: on the device; on the device, layer by layer; on the CPU."""


@dataclass(frozen=True)
class Model:
    """MODEL: a decoder."""

    unet: UNet2 | UNet3
    decoder: Decoder


@dataclass(frozen=True)
class VAE:
    """VAE: a MOVQ."""

    movq: MOVQ

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """IMAGE [B, H, W, 3] → latents [B, 4, H/8, W/8], float32, on the CPU."""
        pixels = pixels[..., :3].movedim(-1, 1) * 2 - 1
        dtype = self.movq.quant_conv.weight.dtype
        height, width = pixels.shape[2:]
        memory = len(pixels) * encode_memory(self.movq.config, height, width, dtype.itemsize)
        with host.current().loaded(self.movq, memory) as device:
            return self.movq.encode(pixels.to(device, dtype)).float().cpu()

    @torch.inference_mode()
    def decode(self, samples: Tensor) -> Tensor:
        """Latents [B, 4, h, w] → IMAGE [B, 8h, 8w, 3]."""
        seam, dtype = host.current(), self.movq.quant_conv.weight.dtype
        height, width = (side * PIXELS_PER_LATENT for side in samples.shape[2:])
        memory = decode_memory(self.movq.config, height, width, dtype.itemsize)
        pictures = []
        with seam.loaded(self.movq, memory) as device:
            for latent in samples.split(1):  # one at a time: decoding needs the most memory
                seam.throw_if_interrupted()
                pictures.append(from_movq(self.movq.decode(latent.to(device, dtype))))
        return torch.cat(pictures)


@dataclass(frozen=True)
class CLIP:
    """CLIP: a text encoder."""

    encoder: Any
    tokenizer: Any
    encode: Callable[[Any, Any, str, torch.device], Conditioning]
    place: Place = "device"

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> Conditioning:
        seam = host.current()
        if self.place == "device":
            place = seam.loaded(self.encoder)
        else:
            place = nullcontext(seam.device() if self.place == "stream" else torch.device("cpu"))
        with place as device:
            return self.encode(self.encoder, self.tokenizer, tokens, device)


def encode_mclip(encoder: Any, tokenizer: Any, prompt: str, device: torch.device) -> Conditioning:
    text = encode_decoder_text(encoder, tokenizer, [prompt], device)
    return [[text.states.cpu().clone(), {POOLED: text.embeds.cpu().clone()}]]


def encode_ul2(encoder: Any, tokenizer: Any, prompt: str, device: torch.device) -> Conditioning:
    text = encode_prompts(encoder, tokenizer, [prompt], device)
    return [[text.states.cpu().clone(), {MASK: text.mask.cpu().clone()}]]


def load_model(file: Path, decoder: Decoder, dtype: torch.dtype) -> Model:
    """Load the UNet in `file`. Raises WeightsError."""
    network = decoder.network
    make: Any = UNet2 if isinstance(network, UNet2Config) else UNet3
    return Model(load_network(make(network, SkipInit, dtype, "meta"), file, dtype), decoder)


def load_vae(file: Path, config: MOVQConfig, dtype: torch.dtype) -> VAE:
    return VAE(load_network(MOVQ(config, SkipInit, dtype, "meta"), file, dtype))


def load_mclip(source: Path, tokenizers: list[Path], dtype: torch.dtype) -> CLIP:
    """Load M-CLIP from a 2.1 decoder folder or a file. Raises WeightsError."""
    if source.is_dir():
        return CLIP(*load_decoder_text(source, dtype), encode_mclip)
    return CLIP(*load_mclip_file(source, tokenizers, dtype), encode_mclip)


def load_ul2(folder: Path, dtype: torch.dtype, compute: torch.dtype, place: Place) -> CLIP:
    loaded = load_text_encoder(folder, dtype, compute)
    return CLIP(loaded.encoder, loaded.tokenizer, encode_ul2, place)


# --- Predicting noise for a CONDITIONING -----------------------------------------------------------------------------


def predictor(
    unet: UNet2 | UNet3, positive: Conditioning, negative: Conditioning | None, device: torch.device
) -> Predict:
    """Return a Predict for `unet` on `device`; negative None means no guidance. Raises ValueError for conditioning with
    several entries."""
    parts = [positive] if negative is None else [negative, positive]  # order of the batch as in the reference
    for name, part in zip(("positive", "negative"), reversed(parts), strict=False):
        if len(part) != 1:
            raise ValueError(
                f"Expected one entry in {name}, got {len(part)}: combined conditioning works in ComfyUI only."
            )
    entries = [part[0] for part in parts]
    return _predict2(unet, entries, device) if isinstance(unet, UNet2) else _predict3(unet, entries, device)


def _predict2(unet: UNet2, entries: list[Any], device: torch.device) -> Predict:
    like = unet.conv_in.weight

    def rows(*tensors: Tensor | None) -> Tensor | None:
        return None if tensors[0] is None else torch.cat([t.to(device, like.dtype) for t in tensors if t is not None])

    extras = [options for _, options in entries]
    if unet.config.reads_text:
        embeds = rows(*(options[IMAGE_EMBEDS] for options in extras))
        texts = {"text_embeds": rows(*(o[POOLED] for o in extras)), "text_states": rows(*(t for t, _ in entries))}
    else:
        embeds, texts = rows(*(tensor[:, 0] for tensor, _ in entries)), {}
    assert embeds is not None
    with torch.inference_mode():
        conditions = unet.prepare(embeds, rows(*(options.get(HINT) for options in extras)), **texts)
    concat = None
    if unet.config.inpaints:
        keep, picture = (rows(*(options[key] for options in extras)) for key in (KEEP, PICTURE))
        assert keep is not None
        assert picture is not None
        concat = torch.cat([picture * keep, keep], dim=1)

    def run(x: Tensor, timesteps: Tensor) -> Tensor:
        return unet(x if concat is None else torch.cat([x, concat], dim=1), timesteps, conditions)

    return _in_one_batch(run, like, device, len(entries))


def _predict3(unet: UNet3, entries: list[Any], device: torch.device) -> Predict:
    like = unet.conv_in.weight
    states = torch.cat([tensor for tensor, _ in entries]).to(device, like.dtype)
    mask, concat = torch.cat([options[MASK] for _, options in entries]).to(device), None
    if unet.config.inpaints:
        concat = torch.cat([torch.cat([o[key] for _, o in entries]) for key in (KEEP, MASKED_LATENTS)], dim=1)
        concat = concat.to(device, like.dtype)

    def run(x: Tensor, timesteps: Tensor) -> Tensor:
        return unet(x if concat is None else torch.cat([x, concat], dim=1), timesteps, states, mask)

    return _in_one_batch(run, like, device, len(entries))


def _in_one_batch(run: Callable[[Tensor, Tensor], Tensor], like: Tensor, device: torch.device, parts: int) -> Predict:
    def predict(x: Tensor, t: int) -> Prediction:
        timesteps = torch.full((parts * len(x),), t, device=device)
        output = run(torch.cat([x] * parts).to(like.dtype), timesteps).float()
        noise = output[:, :LATENT_CHANNELS].chunk(parts)
        variance = output[-len(x) :, LATENT_CHANNELS:] if output.shape[1] > LATENT_CHANNELS else None
        return Prediction(noise[-1], noise[0] if parts > 1 else None, variance)

    return predict
