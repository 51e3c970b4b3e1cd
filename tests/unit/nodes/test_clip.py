"""CLIP's encoders: where a prompt ends, what they see of it, and configs that are refused; the results are compared
with the reference's in tests/parity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nodes.models.clip import CLIPTextConfig, CLIPTextEncoder, CLIPVisionConfig, quick_gelu
from nodes.models.layers import timestep_embedding

SMALL = CLIPTextConfig(12, 8, 16, 4, 2, 2, 6)


@pytest.mark.parametrize(
    ("end", "tokens", "place"),
    [
        (2, [0, 5, 11, 3, 4], 2),  # old files: the largest id, whatever the end mark is called
        (2, [0, 5, 9, 11, 11], 3),
        (7, [0, 5, 7, 11, 7], 2),
        (7, [0, 7, 7, 7, 7], 1),
    ],
)
def test_the_embed_is_read_at_the_first_end_mark(end: int, tokens: list[int], place: int) -> None:
    encoder = CLIPTextEncoder(replace(SMALL, eos_token_id=end)).eval()
    embeds, states = encoder(torch.tensor([tokens, tokens]))
    torch.testing.assert_close(embeds[0], encoder.text_projection(states[0, place]))


def test_no_token_sees_what_comes_after_it() -> None:
    encoder = CLIPTextEncoder(SMALL).eval()
    _, one = encoder(torch.tensor([[0, 5, 6, 7]]))
    _, two = encoder(torch.tensor([[0, 5, 6, 8]]))
    torch.testing.assert_close(one[:, :3], two[:, :3])
    assert not torch.allclose(one[:, 3], two[:, 3])


def test_configs_of_other_encoders_are_refused() -> None:
    assert CLIPTextConfig.from_json({"hidden_act": "gelu"}).hidden_act == "gelu"
    for kind in (CLIPTextConfig, CLIPVisionConfig):
        with pytest.raises(ValueError, match=f"{kind.__name__}: expected hidden_act quick_gelu or gelu, got 'relu'"):
            kind.from_json({"hidden_act": "relu"})
        with pytest.raises(ValueError, match="expected layer_norm_eps = 1e-05, got 1e-06"):
            kind.from_json({"layer_norm_eps": 1e-6})
        with pytest.raises(ValueError, match=r"expected model_type = 'clip_(text|vision)_model', got 'clip'"):
            kind.from_json({"model_type": "clip"})
    with pytest.raises(ValueError, match="expected num_channels = 3, got 4"):
        CLIPVisionConfig.from_json({"num_channels": 4})


def test_the_approximate_gelu_and_the_timestep_embedding_by_hand() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0])
    torch.testing.assert_close(quick_gelu(x), x / (1 + torch.exp(-1.702 * x)))
    made = timestep_embedding(torch.tensor([0, 3]), 4)
    angles = torch.tensor([3.0, 0.03])
    torch.testing.assert_close(
        made, torch.stack([torch.tensor([1.0, 1, 0, 0]), torch.cat([angles.cos(), angles.sin()])])
    )
