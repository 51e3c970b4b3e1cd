"""The pocket weights are ordinary Kandinsky 2.2 weights: diffusers' own pipelines draw the same pictures from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

from nodes.models.loader import load_prior
from nodes.pipelines import text_to_embeds
from tests.parity.bare import load_decoder
from tests.support.places import ROOT

POCKET = ROOT / "weights" / "pocket"
LARGEST = 25e6
PROMPTS = [
    "a red circle on a blue background",
    "зелёная звезда на белом фоне",
    "黄色背景上的紫色三角形",
    "ein schwarzes Quadrat auf orange Hintergrund",
]


def test_the_weights_are_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in POCKET.rglob("*") if path.is_file()) <= LARGEST


@pytest.fixture(scope="module")
def reference() -> tuple[Any, Any]:
    def load(kind: Any, name: str) -> Any:
        pipeline = kind.from_pretrained(POCKET / name, torch_dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return (
        load(KandinskyV22PriorPipeline, "kandinsky-2-2-pocket-prior"),
        load(KandinskyV22Pipeline, "kandinsky-2-2-pocket-decoder"),
    )


@pytest.mark.parametrize("prompt", PROMPTS)
def test_diffusers_draws_the_same_picture(reference: tuple[Any, Any], prompt: str) -> None:
    prior = load_prior(POCKET / "kandinsky-2-2-pocket-prior")
    decoder = load_decoder(POCKET / "kandinsky-2-2-pocket-decoder")
    positive, negative = text_to_embeds(prior, prompt, "", 3, 25, 4.0)
    ours = decoder.draw(positive, negative, (128, 128), 3, 30, 4.0).numpy()

    prior_run, decoder_run = reference
    embeds = prior_run(prompt, num_inference_steps=25, generator=torch.Generator().manual_seed(3))
    assert torch.equal(embeds.negative_image_embeds, negative.values)
    wanted = decoder_run(
        embeds.image_embeds,
        embeds.negative_image_embeds,
        height=128,
        width=128,
        num_inference_steps=30,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    assert wanted.std() > 0.05
    assert np.abs(ours - wanted).mean() <= 2 / 255
