"""Measure what Kandinsky's networks take beside their weights, and compare with what nodes/models/memory.py says.

By default on no device at all: networks of the published sizes run on torch's "meta" device, which knows shapes only,
and the bytes of the tensors that live at once are counted. A convolution counts a copy of what goes in and of what
comes out, too (cuDNN's, in half precision); attention counts what comes out, and never its scores. With --device cuda,
networks with weights of zeros run there, and the most that torch allocated is read.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nodes.models.clip import CLIPImageEncoder, CLIPTextConfig, CLIPTextEncoder, CLIPVisionConfig
from nodes.models.layers import SkipInit
from nodes.models.memory import (
    MCLIP_TOKENS,
    UL2_TOKENS,
    decode_memory,
    encode_memory,
    prior_memory,
    unet_memory,
)
from nodes.models.movq import MOVQ, MOVQConfig
from nodes.models.prior import PriorConfig, PriorTransformer
from nodes.models.unet2 import UNet2, UNet2Config
from nodes.models.unet3 import UNet3, UNet3Config

SIZES = ((512, 512), (768, 768), (1024, 1024), (1000, 1000), (1920, 1080))
BATCHES = (1, 2, 4)
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

UNETS: dict[str, UNet2Config | UNet3Config] = {
    "2.2 UNet": UNet2Config(),
    "2.2 UNet, inpainting": UNet2Config(in_channels=9),
    "2.2 UNet, depth": UNet2Config(in_channels=8, addition_embed_type="image_hint"),
    "2.1 UNet": UNet2Config(
        encoder_hid_dim=1024, encoder_hid_dim_type="text_image_proj", addition_embed_type="text_image"
    ),
    "3 UNet": UNet3Config(),
    "3 UNet, inpainting": UNet3Config(in_channels=9),
}
MOVQS = {"2.x MOVQ": MOVQConfig(), "3 MOVQ": MOVQConfig(block_out_channels=(256, 512, 512, 1024))}
PRIORS = {"2.2 prior": PriorConfig(), "2.1 prior": PriorConfig(embedding_dim=768)}
ENCODERS: dict[str, CLIPTextConfig | CLIPVisionConfig] = {
    "2.2 text encoder": CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        projection_dim=1280,
        num_hidden_layers=32,
        num_attention_heads=20,
        hidden_act="gelu",
    ),
    "2.2 image encoder": CLIPVisionConfig(
        hidden_size=1664,
        intermediate_size=8192,
        projection_dim=1280,
        num_hidden_layers=48,
        num_attention_heads=16,
        hidden_act="gelu",
    ),
    "2.1 text encoder": CLIPTextConfig(),
    "2.1 image encoder": CLIPVisionConfig(),
}
"""The published sizes."""


@dataclass(frozen=True)
class Measured:
    network: str
    size: str
    batch: int
    counted: int
    """Bytes at the most."""
    formula: int
    """Bytes that nodes/models/memory.py says."""

    @property
    def ratio(self) -> float:
        return self.formula / self.counted


class _Attention(TorchFunctionMode):
    """Attention whose only memory is its result: on "meta", torch would take the way that holds all scores."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.scaled_dot_product_attention:
            q, v = args[0], args[2]
            batch, heads, tokens, _ = q.shape
            return q.new_empty((batch, tokens, heads, v.shape[-1])).transpose(1, 2)
        return func(*args, **(kwargs or {}))


class _Live(TorchDispatchMode):
    """Counts the bytes of storages made within it, from when an operation returns one until nobody holds it."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        copies = args[0].nbytes + result.nbytes if "conv" in str(func) else 0
        self.peak = max(self.peak, self.live + copies)
        return result

    def _see(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self.known:
            self.known.add(key)
            self.live += storage.nbytes()
            weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def peak(network: nn.Module, call: Callable[[], object], given: Sequence[Tensor]) -> int:
    """Bytes that `call`, which runs `network` on the tensors `given`, takes at the most beside both."""
    device = next(network.parameters()).device
    if device.type == "cuda":
        with torch.inference_mode():
            call()  # what libraries set up once is not counted
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            return torch.cuda.max_memory_allocated() - before
    counting = _Live([*network.parameters(), *network.buffers(), *given])
    with torch.inference_mode(), _Attention(), counting:
        call()
    return counting.peak


class Networks:
    """Makes networks and what goes in, of one dtype, on one device."""

    def __init__(self, device: str = "meta", dtype: torch.dtype = torch.float16) -> None:
        self.device, self.dtype = device, dtype

    def make(self, kind: Any, config: Any) -> Any:
        made = kind(config, SkipInit, self.dtype, "meta")
        if self.device != "meta":
            made = made.to_empty(device=self.device)
            for tensor in made.parameters():
                tensor.data.zero_()
        return made.eval().requires_grad_(False)

    def tensor(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def unet(self, name: str, config: Any, sizes: Any = SIZES, batches: Any = BATCHES) -> Iterator[Measured]:
        """What a UNet takes for latents of pictures of these (width, height)."""
        network = self.make(UNet2 if isinstance(config, UNet2Config) else UNet3, config)
        hint = 4 if isinstance(config, UNet2Config) and config.reads_hint else 0
        for width, height in sizes:
            for batch in batches:
                x = self.tensor(batch, config.in_channels - hint, height // 8, width // 8)
                given: dict[str, Tensor] = {"timesteps": torch.zeros(batch, device=self.device)}
                if isinstance(config, UNet3Config):
                    given |= {"text_states": self.tensor(batch, UL2_TOKENS, config.encoder_hid_dim)}
                    given |= {"mask": self.tensor(batch, UL2_TOKENS)}
                else:
                    given |= {"image_embeds": self.tensor(batch, config.image_width)}
                    if config.reads_text:
                        given |= {"text_embeds": self.tensor(batch, config.cross_attention_dim)}
                        given |= {"text_states": self.tensor(batch, MCLIP_TOKENS, config.encoder_hid_dim)}
                    if config.reads_hint:
                        given |= {"hint": self.tensor(batch, 3, height, width)}
                found = peak(network, lambda x=x, given=given: network(x, **given), [x, *given.values()])
                wanted = unet_memory(config, batch, height // 8, width // 8, self.dtype.itemsize)
                yield Measured(name, f"{width}×{height}", batch, found, wanted)

    def movq(self, name: str, config: MOVQConfig, sizes: Any = SIZES) -> Iterator[Measured]:
        """What encoding and decoding one picture take."""
        network = self.make(MOVQ, config)
        for width, height in sizes:
            pixels, latents = self.tensor(1, 3, height, width), self.tensor(1, 4, height // 8, width // 8)
            for way, call, x, formula in (
                ("encode", network.encode, pixels, encode_memory),
                ("decode", network.decode, latents, decode_memory),
            ):
                found = peak(network, lambda call=call, x=x: call(x), [x])
                wanted = formula(config, height, width, self.dtype.itemsize)
                yield Measured(f"{name}, {way}", f"{width}×{height}", 1, found, wanted)

    def prior(self, name: str, config: PriorConfig, batches: Any = BATCHES) -> Iterator[Measured]:
        network = self.make(PriorTransformer, config)
        for rows in batches:
            pooled, states = self.tensor(rows, config.embedding_dim), self.tensor(rows, 77, config.embedding_dim)
            mask, timesteps = self.tensor(rows, 77), torch.zeros(rows, device=self.device)
            call = lambda p=pooled, s=states, m=mask, t=timesteps: network(p, t, network.prepare(p, s, m))  # noqa: E731
            found = peak(network, call, [pooled, states, mask, timesteps])
            yield Measured(name, "", rows, found, prior_memory(network, rows))

    def encoder(self, name: str, config: Any, batches: Any = BATCHES) -> Iterator[Measured]:
        sees = isinstance(config, CLIPVisionConfig)
        network = self.make(CLIPImageEncoder if sees else CLIPTextEncoder, config)
        for rows in batches:
            if sees:
                x = self.tensor(rows, 3, config.image_size, config.image_size)
            else:
                x = torch.zeros((rows, config.max_position_embeddings), dtype=torch.long, device=self.device)
            found = peak(network, lambda x=x: network(x), [x])
            yield Measured(name, "", rows, found, prior_memory(network, rows))

    def all(self) -> Iterator[Measured]:
        for name, unet in UNETS.items():
            yield from self.unet(name, unet)
        for name, movq in MOVQS.items():
            yield from self.movq(name, movq)
        for name, prior in PRIORS.items():
            yield from self.prior(name, prior)
        for name, encoder in ENCODERS.items():
            yield from self.encoder(name, encoder)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a formula is below what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("meta", "cuda"), default="meta", help="(meta)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16", help="(fp16)")
    arguments = parser.parse_args(argv)
    print("| network | size | batch | measured | formula | ratio |\n|---|---|---|---|---|---|")
    covered = True
    for row in Networks(arguments.device, DTYPES[arguments.dtype]).all():
        mib = [f"{value / 2**20:.0f} MiB" for value in (row.counted, row.formula)]
        print(f"| {row.network} | {row.size} | {row.batch} | {mib[0]} | {mib[1]} | {row.ratio:.2f} |", flush=True)
        covered &= row.ratio >= 1
    return 0 if covered else 1


if __name__ == "__main__":
    sys.exit(main())
