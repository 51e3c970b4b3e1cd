"""The published encoders' sizes, read off their tensors' shapes: every setting as in their config.json, and as many
parameters as published."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch

from nodes.models.clip import CLIPImageEncoder, CLIPTextConfig, CLIPTextEncoder, CLIPVisionConfig
from nodes.models.detect import MCLIPSizes, config_from_tensors
from nodes.models.mclip import MCLIP, MCLIPConfig

TEXT_L = CLIPTextConfig(49408, 768, 3072, 768, 12, 12, 77, "quick_gelu")
TEXT_G = CLIPTextConfig(49408, 1280, 5120, 1280, 32, 20, 77, "gelu")
VISION_L = CLIPVisionConfig(224, 14, 1024, 4096, 768, 24, 16, "quick_gelu")
VISION_G = CLIPVisionConfig(224, 14, 1664, 8192, 1280, 48, 16, "gelu")
M_CLIP = MCLIPSizes(250002, 1024, 4096, 24, 16, 514, 1, 1024, 768)


def mclip(sizes: MCLIPSizes) -> MCLIP:
    return MCLIP(MCLIPConfig(**asdict(sizes)))


@pytest.mark.parametrize(
    ("model", "sizes", "parameters"),
    [
        pytest.param(CLIPTextEncoder, TEXT_L, 123_650_304, id="text-2.1"),
        pytest.param(CLIPTextEncoder, TEXT_G, 694_659_840, id="text-2.2"),
        pytest.param(CLIPImageEncoder, VISION_L, 303_966_208, id="vision-2.1"),
        pytest.param(CLIPImageEncoder, VISION_G, 1_844_907_264, id="vision-2.2"),
        pytest.param(mclip, M_CLIP, 560_677_632, id="m-clip"),
    ],
)
def test_published(model: Any, sizes: Any, parameters: int) -> None:
    with torch.device("meta"):
        made = model(sizes)
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters
    assert config_from_tensors({key: tuple(value.shape) for key, value in made.state_dict().items()}) == sizes


def test_a_text_encoder_without_its_projection_is_refused() -> None:
    """Such as the CLIP-L that other models use."""
    shapes = {"text_model.embeddings.token_embedding.weight": (49408, 768)}
    with pytest.raises(ValueError, match=r"expected a tensor called text_projection\.weight"):
        config_from_tensors(shapes)


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        pytest.param(CLIPTextEncoder, CLIPTextConfig(10, 32, 48, 24, 2, 1, 9, "gelu"), id="text"),
        pytest.param(
            CLIPTextEncoder, CLIPTextConfig(10, 128, 48, 768, 3, 2, 9, "quick_gelu"), id="text of 2.1's width"
        ),
        pytest.param(CLIPImageEncoder, CLIPVisionConfig(28, 7, 32, 48, 24, 2, 1, "gelu"), id="vision"),
        pytest.param(
            CLIPImageEncoder, CLIPVisionConfig(28, 14, 192, 48, 768, 3, 3, "quick_gelu"), id="vision of 2.1's"
        ),
        pytest.param(mclip, MCLIPSizes(11, 32, 48, 2, 1, 13, 3, 32, 24), id="m-clip"),
        pytest.param(mclip, MCLIPSizes(11, 128, 48, 3, 2, 13, 1, 128, 24), id="m-clip of two heads"),
    ],
)
def test_small_encoders_whose_sizes_all_differ(model: Any, sizes: Any) -> None:
    with torch.device("meta"):
        made = model(sizes)
    assert config_from_tensors({key: tuple(value.shape) for key, value in made.state_dict().items()}) == sizes
