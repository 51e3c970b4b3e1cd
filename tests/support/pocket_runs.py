"""What the shipped pocket workflows must show, on whichever host: through the command line, judged by content."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pocket.captions import canonical
from pocket.judge import judge
from pocket.shapes import COLOUR_NAMES, SHAPES, Scenes, draw
from pocket.subjects import COLOURS, Triple

from tests.support.places import ROOT

Pixels = NDArray[np.float64]


@dataclass(frozen=True)
class Runner:
    """Runs shipped workflows with `kandiflux run` on one server; pictures land in `folder`."""

    server: str
    folder: Path

    def run(self, workflow: str, **parameters: object) -> list[Pixels]:
        command = [
            sys.executable,
            "-m",
            "kandiflux",
            "run",
            workflow,
            "--server",
            self.server,
            "--out",
            str(self.folder),
        ]
        for name, value in parameters.items():
            command += ["--set", f"{name}={value}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "runner")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return [np.asarray(Image.open(path).convert("RGB")) / 255.0 for path in done.stdout.split()]


def colour_of(pixels: Pixels, name: str) -> Pixels:
    return np.linalg.norm(pixels - np.array(COLOURS[name]), axis=-1)


def drawn(folder: Path, triple: Triple) -> Path:
    """A drawn picture of the triple in the middle, as a file to start from."""
    one = torch.tensor([0])
    scene = Scenes(
        shape=one + SHAPES.index(triple.shape),
        colour=one + COLOUR_NAMES.index(triple.colour),
        background=one + COLOUR_NAMES.index(triple.background),
        centre=torch.full((1, 2), 0.5),
        radius=torch.full((1,), 0.25),
        rotation=torch.zeros(1),
        jitter=torch.zeros(1, 2, 3),
    )
    path = folder / "start.png"
    pixels = (draw(scene, 128)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(path)
    return path


def a_prompt_in_each_language(runner: Runner) -> None:
    wanted = Triple("star", "yellow", "purple")
    for language in ("en", "ru", "zh", "de"):
        prompt = canonical(*wanted, language)
        (picture,) = runner.run("kandinsky22_pocket_text_to_image", prompt=prompt, seed=5)
        assert picture.shape == (128, 128, 3)
        verdict = judge(picture)
        assert verdict.right(wanted), f"{prompt}: {verdict}"


def a_mix_lies_between(runner: Runner) -> None:
    def circle(weight_a: float, weight_b: float) -> Pixels:
        a, b = canonical("circle", "red", "white", "en"), canonical("circle", "blue", "white", "en")
        (picture,) = runner.run(
            "kandinsky22_pocket_mix", prompt_a=a, prompt_b=b, weight_a=weight_a, weight_b=weight_b, seed=3
        )
        return picture

    red, blue, mixed = circle(1, 0), circle(0, 1), circle(0.5, 0.5)
    assert judge(red).right(Triple("circle", "red", "white"))
    assert judge(blue).right(Triple("circle", "blue", "white"))
    # Neither: nowhere as red as the one nor as blue as the other over the whole shape.
    for end in (red, blue):
        assert np.abs(mixed - end).mean() > 0.02
    assert colour_of(mixed, "white").min(axis=(0, 1)) < 0.15, "the background both have in common stays"


def img2img_goes_as_far_as_it_is_told(runner: Runner) -> None:
    start_triple, wanted = Triple("square", "red", "white"), Triple("circle", "blue", "yellow")
    path = drawn(runner.folder, start_triple)
    start = np.asarray(Image.open(path)) / 255.0

    def from_it(strength: float) -> Pixels:
        prompt = canonical(*wanted, "en")
        (picture,) = runner.run(
            "kandinsky22_pocket_image_to_image", prompt=prompt, image=path, strength=strength, seed=4
        )
        return picture

    least, near, far = from_it(0.04), from_it(0.1), from_it(0.9)
    assert judge(least).right(start_triple), judge(least)
    assert judge(far).right(wanted), judge(far)
    distances = [float(np.abs(picture - start).mean()) for picture in (least, near, far)]
    assert distances == sorted(distances)
    assert distances[0] < 0.2 * distances[2]


def a_strip_goes_from_one_to_the_other(runner: Runner) -> None:
    a, b = Triple("circle", "green", "black"), Triple("circle", "white", "red")
    strip = runner.run(
        "kandinsky22_pocket_interpolation",
        prompt_a=canonical(*a, "en"),
        prompt_b=canonical(*b, "en"),
        frames=4,
        seed=6,
    )
    assert len(strip) == 4
    first, last = judge(strip[0]), judge(strip[-1])
    assert first.right(a), first
    assert last.right(b), last
    for before, after in pairwise(strip):
        assert np.abs(before - after).mean() > 0.01


def with_a_hole(path: Path, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Make `box` (left, top, right, bottom) of the picture transparent; True there."""
    picture = Image.open(path).convert("RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, box)
    picture.putalpha(alpha)
    picture.save(path)
    return np.asarray(alpha) == 0


def inpainting_draws_the_masked_part_only(runner: Runner) -> None:
    path = drawn(runner.folder, Triple("square", "red", "blue"))
    start = np.asarray(Image.open(path)) / 255
    hole = with_a_hole(path, (64, 0, 128, 128))
    prompt = canonical("circle", "yellow", "blue", "en")
    (picture,) = runner.run("kandinsky22_pocket_inpaint", prompt=prompt, image=path, seed=2)
    assert np.abs(picture - start)[~hole].max() <= 2 / 255
    assert np.abs(picture - start)[hole].mean() > 0.1
    assert colour_of(picture, "yellow")[hole].min() < 0.25


def outpainting_keeps_the_picture(runner: Runner) -> None:
    path = drawn(runner.folder, Triple("circle", "red", "white"))
    start = np.asarray(Image.open(path)) / 255
    prompt = canonical("circle", "red", "white", "en")
    (picture,) = runner.run("kandinsky22_pocket_outpaint", prompt=prompt, image=path, right=64, seed=2)
    assert picture.shape == (128, 192, 3)
    feathered = 8
    assert np.abs(picture[:, : 128 - feathered] - start[:, : 128 - feathered]).max() <= 2 / 255
    assert np.median(colour_of(picture, "white")[:, 136:]) < 0.25, "the background goes on"


def variations_are_of_the_picture(runner: Runner) -> None:
    shown = Triple("star", "green", "white")
    path = drawn(runner.folder, shown)
    pictures = runner.run("kandinsky22_pocket_variations", image=path, seed=3)
    assert len(pictures) == 4
    right = sum(judge(picture).right(shown) for picture in pictures)
    assert right >= 3, [judge(picture) for picture in pictures]
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.005


def a_text_and_a_picture_mix(runner: Runner) -> None:
    path = drawn(runner.folder, Triple("circle", "blue", "white"))

    def blend(text: float, image: float) -> Pixels:
        prompt = canonical("circle", "red", "white", "en")
        return runner.run(
            "kandinsky22_pocket_mix_text_and_picture",
            prompt=prompt,
            image=path,
            weight_text=text,
            weight_image=image,
            seed=3,
        )[0]

    red, blue, mixed = blend(1, 0), blend(0, 1), blend(0.5, 0.5)
    assert judge(red).right(Triple("circle", "red", "white"))
    assert judge(blue).right(Triple("circle", "blue", "white"))
    for end in (red, blue):
        assert np.abs(mixed - end).mean() > 0.02


CHECKS: list[Callable[[Runner], None]] = [
    a_prompt_in_each_language,
    a_mix_lies_between,
    img2img_goes_as_far_as_it_is_told,
    a_strip_goes_from_one_to_the_other,
    inpainting_draws_the_masked_part_only,
    outpainting_keeps_the_picture,
    variations_are_of_the_picture,
    a_text_and_a_picture_mix,
]
