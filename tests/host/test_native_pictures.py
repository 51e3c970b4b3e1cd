"""The decoder as ComfyUI's MODEL: what KSampler draws with the pocket weights, judged by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kandiflux import open_client
from PIL import Image
from pocket.captions import canonical
from pocket.judge import judge
from pocket.subjects import COLOURS, Triple

from tests.support.hosts import RunningHost
from tests.support.pocket_runs import Pixels, Runner, colour_of, drawn, with_a_hole

WANTED = Triple("star", "yellow", "purple")


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        ("dpmpp_2m", "karras"),
        ("ddpm", "normal"),
        ("euler", "simple"),
        ("euler_ancestral", "beta"),
        ("uni_pc", "sgm_uniform"),
        ("dpmpp_2m_sde", "exponential"),
        ("lcm", "ddim_uniform"),
    ],
)
def test_samplers(comfy_host: RunningHost, tmp_path: Path, sampler: str, scheduler: str) -> None:
    (picture,) = Runner(comfy_host.url, tmp_path).run(
        "kandinsky22_pocket_ksampler", prompt=canonical(*WANTED, "en"), sampler=sampler, scheduler=scheduler, seed=5
    )
    verdict = judge(picture)
    assert verdict.right(WANTED), verdict


def test_a_batch(comfy_host: RunningHost, tmp_path: Path) -> None:
    pictures = Runner(comfy_host.url, tmp_path).run(
        "kandinsky22_pocket_ksampler", prompt=canonical(*WANTED, "ru"), batch_size=3, seed=7
    )
    assert len(pictures) == 3
    assert all(judge(picture).right(WANTED) for picture in pictures), [judge(picture) for picture in pictures]
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.01


@pytest.mark.parametrize(("denoise", "wanted"), [(0.4, "red"), (0.7, "red"), (1.0, "yellow")])
def test_inpainting_starts_from_the_picture_unless_all_is_to_be_new(
    comfy_host: RunningHost, tmp_path: Path, denoise: float, wanted: str
) -> None:
    """A red circle under the mask: at denoise 1 a yellow one takes its place; below, it is still there to be seen."""
    shown = Triple("circle", "red", "blue")
    path = drawn(tmp_path, shown)
    inside = with_a_hole(path, (24, 24, 104, 104))
    prompt = canonical("circle", "yellow" if denoise == 1 else "red", "blue", "en")
    with open_client(comfy_host.url) as client:
        values = {"prompt": prompt, "image": path, "denoise": denoise, "seed": 2}
        made = client.prompt("kandinsky22_pocket_ksampler_inpaint", values=values)
        nodes = {name: dict(node) for name, node in made.nodes.items()}
        (size,) = (name for name, node in nodes.items() if node["class_type"] == "KandinskyLatentSize")
        (movq,) = (name for name, node in nodes.items() if node["class_type"] == "KandinskyVAELoader")
        (sampler,) = (name for name, node in nodes.items() if node["class_type"] == "KSampler")
        inputs = nodes[sampler]["inputs"]
        nodes["inpaint"] = {
            "class_type": "KandinskyInpaintConditioning",
            "inputs": {"positive": inputs["positive"], "negative": inputs["negative"], "vae": [movq, 0],
                       "pixels": [size, 1], "mask": [size, 2], "keep_rest": True},
        }  # fmt: skip
        new = {"positive": ["inpaint", 0], "negative": ["inpaint", 1], "latent_image": ["inpaint", 2], "steps": 12}
        nodes[sampler]["inputs"] = {**inputs, **new}
        result = client.run(nodes)
    picture = np.asarray(result.images[0].pil().convert("RGB")) / 255
    original = np.asarray(Image.open(path).convert("RGB")) / 255
    assert np.abs(picture - original)[~inside].max() <= 2 / 255
    of_colour = {name: (colour_of(picture, name)[inside] < 0.25).mean() for name in ("red", "yellow", "blue")}
    assert of_colour.pop(wanted) > 0.1, of_colour
    assert of_colour.pop("blue") > 0.3, of_colour
    assert max(of_colour.values()) < 0.02, of_colour


def test_the_mask_is_where_it_draws(comfy_host: RunningHost, tmp_path: Path) -> None:
    start = Triple("square", "red", "blue")
    path = drawn(tmp_path, start)
    inside = with_a_hole(path, (64, 0, 128, 128))
    runner = Runner(comfy_host.url, tmp_path)

    def run(**changes: object) -> Pixels:
        prompt = canonical("circle", "yellow", "blue", "en")
        return runner.run("kandinsky22_pocket_ksampler_inpaint", prompt=prompt, image=path, seed=2, **changes)[0]

    original = np.asarray(Image.open(path).convert("RGB")) / 255
    untouched, changed = run(denoise=0.0), run()
    assert np.abs(changed - original)[~inside].max() <= 2 / 255
    assert np.abs(untouched - original)[inside].mean() < 0.05
    assert np.abs(changed - original)[inside].mean() > 0.1
    assert np.linalg.norm(changed - np.array(COLOURS["yellow"]), axis=-1)[inside].min() < 0.25
