"""Sizes read off tensor shapes are those the network was made with; other tensors are refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from nodes.models.detect import config_from_tensors
from nodes.models.movq import MOVQ, MOVQConfig
from nodes.models.prior import PriorConfig, PriorTransformer
from nodes.models.unet2 import UNet2, UNet2Config

UNET21 = UNet2Config(encoder_hid_dim=1024, encoder_hid_dim_type="text_image_proj", addition_embed_type="text_image")


def shapes(network: type[nn.Module], config: Any) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network(config, device="meta").state_dict().items()}


@pytest.mark.parametrize(
    ("network", "config"),
    [
        pytest.param(UNet2, UNet2Config(), id="unet-2.2"),
        pytest.param(UNet2, UNet2Config(in_channels=9), id="inpaint-2.2"),
        pytest.param(UNet2, UNet2Config(in_channels=8, addition_embed_type="image_hint"), id="depth-2.2"),
        pytest.param(UNet2, UNET21, id="unet-2.1"),
        pytest.param(UNet2, replace(UNET21, in_channels=9), id="inpaint-2.1"),
        pytest.param(UNet2, UNet2Config(block_out_channels=(64, 128, 192), layers_per_block=1), id="unet-small"),
        pytest.param(MOVQ, MOVQConfig(), id="movq-2"),
        pytest.param(MOVQ, MOVQConfig(block_out_channels=(256, 512, 512, 1024)), id="movq-3"),
        pytest.param(PriorTransformer, PriorConfig(), id="prior-2.2"),
        pytest.param(PriorTransformer, PriorConfig(embedding_dim=768), id="prior-2.1"),
        pytest.param(
            PriorTransformer, PriorConfig(num_attention_heads=2, num_layers=3, num_embeddings=32), id="prior-small"
        ),
    ],
)
def test_the_sizes_are_read_back(network: type[nn.Module], config: Any) -> None:
    assert config_from_tensors(shapes(network, config)) == config


def test_other_tensors_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Kandinsky 2.x UNet, prior or MOVQ.*got 2 tensors: a\.weight, b, …"):
        config_from_tensors({"a.weight": torch.zeros(2).shape, "b": (1,)})
    part = {key: shape for key, shape in shapes(UNet2, UNet2Config()).items() if not key.startswith("conv_out")}
    with pytest.raises(ValueError, match=r"expected a tensor called conv_out\.weight"):
        config_from_tensors(part)
