"""Phrases of messages."""

from __future__ import annotations

import pytest
from kandiflux.util.wording import misspelt, names_text, near_names


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "(no choices)"), (1, "n0"), (20, ", ".join(f"n{number}" for number in range(20))),
     (21, ", ".join(f"n{number}" for number in range(20)) + ", … (21 in all)")],
)  # fmt: skip
def test_a_list_of_names(count: int, text: str) -> None:
    assert names_text([f"n{number}" for number in range(count)]) == text


@pytest.mark.parametrize(
    ("word", "among", "options", "near"),
    [
        ("STEP", ["seed", "Steps", "stop"], {}, "'Steps'"),
        ("step", ["seed", "Steps", "stop"], {"count": 2}, "'Steps' or 'stop'"),
        ("width", ["height"], {}, ""),
        ("x", [], {}, ""),
        ("ab", ["ac"], {}, "'ac'"),
        ("abc", ["axy"], {}, ""),
        ("ab", ["ac"], {"likeness": 0.6}, ""),
        ("ab", ["AB"], {"likeness": 1.0}, "'AB'"),
    ],
)
def test_the_names_nearest_to_a_word(word: str, among: list[str], options: dict[str, float], near: str) -> None:
    count, likeness = int(options.get("count", 1)), options.get("likeness", 0.5)
    assert near_names(word, among, count, likeness=likeness) == near


NAMES = ["flux_dev", "flux_dev_lora", "flux_schnell", "sd15_text_to_image", "Width"]


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("flux_dv", ["flux_dev", "flux_dev_lora", "flux_schnell"]),
        ("sd15", ["sd15_text_to_image"]),
        ("width", ["Width"]),
        ("nothing at all", []),
        ("", []),
    ],
)
def test_the_three_nearest_names(word: str, near: list[str]) -> None:
    assert near_names(word, NAMES) == " or ".join(map(repr, near))


def test_a_strict_search_offers_no_longer_name() -> None:
    assert near_names("flux_dev", ["flux_dev_lora_and_more"], 1, likeness=0.85) == ""
    assert near_names("flux_dev", ["flux_dev_lora_and_more"]) == "'flux_dev_lora_and_more'"
    assert near_names("flux_de", NAMES, 1) == "'flux_dev'"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("Ksampler", "KSampler"), ("K Sampler", "KSampler"), ("KSamler", "KSampler"), ("KSammpler", "KSampler"),
        ("KSanpler", "KSampler"), ("KSamlper", "KSampler"), ("vae_decode", "VAEDecode"),
        # Other nodes, or their newer versions.
        ("KSamplers", None), ("KSampler2", None), ("LoadImage1", None), ("VAELoaderKJ", None),
        ("DualCLIPLoaderGGUF", None), ("FluxDeGuidance", None), ("ImageShape", None), ("Sampler", None), ("", None),
    ],
)  # fmt: skip
def test_what_is_misspelt(word: str, name: str | None) -> None:
    names = ["KSampler", "VAEDecode", "LoadImage2", "VAELoader", "DualCLIPLoader", "FluxGuidance", "ImageSharpen"]
    assert misspelt(word, names) == name
