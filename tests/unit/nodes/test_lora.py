"""The names LoRA files use for a network's layers."""

from __future__ import annotations

import pytest

from nodes.models.lora import lora_names

OUT = "up.0.attentions.1.to_out.0.weight"
QUERY = "up.0.attentions.1.to_q.weight"
NAMES = lora_names([OUT, QUERY, "conv_in.weight", "conv_in.bias", "norm.weight_g"])


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("conv_in", "conv_in.weight"),
        ("unet.conv_in", "conv_in.weight"),
        ("base_model.model.unet.conv_in", "conv_in.weight"),
        ("transformer.conv_in", "conv_in.weight"),
        ("lora_unet_up_0_attentions_1_to_q", QUERY),
        ("unet.up.0.attentions.1.processor.to_q", QUERY),
        ("up.0.attentions.1.processor.to_out", OUT),
        ("base_model.model.up.0.attentions.1.to_out.0", OUT),
    ],
)
def test_each_style_of_name_is_known(name: str, weight: str) -> None:
    assert NAMES[name] == weight


def test_only_weights_have_a_lora() -> None:
    assert set(NAMES.values()) == {OUT, QUERY, "conv_in.weight"}
    # Five prefixes and kohya's for each; those of attention have a processor's name, too.
    assert len(NAMES) == 2 * (5 + 5 + 1) + (5 + 1)
