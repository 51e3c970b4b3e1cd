"""Draw the workflows' thumbnails, workflows/<name>.jpg.

The pocket workflows' are made by running them. Those of models that are too large to run here are cards, drawn
(cards.py): no picture of one model stands for another.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from cards import CARDS, draw_card
from PIL import Image
from pocket.captions import canonical

SIDE = 400
SAME = {"ksampler": "text_to_image", "ksampler_inpaint": "inpaint"}
"""Workflows that show the same as another one."""

EXAMPLES = """examples:
  python tools/draw_thumbnails.py                      all of them, on a lite host of its own
  python tools/draw_thumbnails.py --server http://127.0.0.1:8188
  python tools/draw_thumbnails.py --cards              only the cards, which need no host
"""


class Run:
    """Runs pocket workflows; their pictures land in a folder of its own."""

    def __init__(self, server: str, folder: Path) -> None:
        self.server, self.folder = server, folder

    def __call__(self, kind: str, **parameters: object) -> list[Image.Image]:
        command = [sys.executable, "-m", "kandiflux", "run", f"kandinsky22_pocket_{kind}", "--server", self.server]
        command += ["--out", str(self.folder), "--quiet"]
        for name, value in parameters.items():
            command += ["--set", f"{name}={value}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "runner")}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return [Image.open(path).convert("RGB") for path in done.stdout.split("\n") if path]

    def start(self, language: str = "en") -> Path:
        """A picture to start from, as a file."""
        path = self.folder / "start.png"
        self("text_to_image", prompt=canonical("star", "orange", "blue", language), seed=4)[0].save(path)
        return path


def text_to_image(run: Run) -> Image.Image:
    wanted = [("circle", "red", "blue"), ("star", "yellow", "purple"), ("square", "green", "white")]
    wanted.append(("triangle", "orange", "black"))
    languages = ("en", "ru", "zh", "de")
    pictures = [
        run("text_to_image", prompt=canonical(*triple, language), seed=5)[0]
        for triple, language in zip(wanted, languages, strict=True)
    ]
    return grid(pictures)


def image_to_image(run: Run) -> Image.Image:
    start = run.start()
    prompt = canonical("circle", "white", "red", "en")
    steps = [run("image_to_image", image=start, prompt=prompt, strength=s, seed=3)[0] for s in (0.2, 0.5, 0.9)]
    return grid([Image.open(start), *steps])


def inpaint(run: Run) -> Image.Image:
    start = Image.open(run.start()).convert("RGBA")
    hole = Image.new("L", start.size, 255)
    hole.paste(0, (0, 0, start.width // 2, start.height))
    start.putalpha(hole)
    path = run.folder / "hole.png"
    start.save(path)
    shown = Image.new("RGB", start.size, "white")
    shown.paste(start, mask=hole)
    prompt = canonical("circle", "yellow", "blue", "en")
    return row([shown, run("inpaint", image=path, prompt=prompt, seed=2)[0]])


def outpaint(run: Run) -> Image.Image:
    start = run.start()
    wide = run("outpaint", image=start, prompt=canonical("star", "orange", "blue", "en"), left=64, right=64, seed=2)[0]
    before = Image.new("RGB", wide.size, "white")
    before.paste(Image.open(start), (64, 0))
    return column([before, wide])


def mix(run: Run) -> Image.Image:
    ends = [canonical("circle", "red", "white", "en"), canonical("circle", "blue", "white", "en")]
    weights = [(1, 0), (0.65, 0.35), (0.35, 0.65), (0, 1)]
    named = {"prompt_a": ends[0], "prompt_b": ends[1], "seed": 3}
    return grid([run("mix", **named, weight_a=a, weight_b=b)[0] for a, b in weights])


def mix_text_and_picture(run: Run) -> Image.Image:
    start = run.start()
    named = {"prompt": canonical("circle", "red", "white", "en"), "image": start, "seed": 3}
    weights = [(0.3, 0.7), (0.6, 0.4), (1, 0)]
    mixed = [run("mix_text_and_picture", **named, weight_text=a, weight_image=b)[0] for a, b in weights]
    return grid([Image.open(start), *mixed])


def interpolation(run: Run) -> Image.Image:
    ends = {
        "prompt_a": canonical("circle", "green", "black", "en"),
        "prompt_b": canonical("circle", "white", "red", "en"),
    }
    return grid(run("interpolation", **ends, frames=4, seed=6))


def variations(run: Run) -> Image.Image:
    return grid(run("variations", image=run.start(), seed=3))


KINDS: dict[str, Callable[[Run], Image.Image]] = {
    made.__name__: made
    for made in (
        text_to_image,
        image_to_image,
        inpaint,
        outpaint,
        mix,
        mix_text_and_picture,
        interpolation,
        variations,
    )
}


def grid(pictures: list[Image.Image]) -> Image.Image:
    return column([row(pictures[:2]), row(pictures[2:4])])


def row(pictures: list[Image.Image]) -> Image.Image:
    joined = Image.new("RGB", (sum(p.width for p in pictures), pictures[0].height))
    left = 0
    for picture in pictures:
        joined.paste(picture.convert("RGB"), (left, 0))
        left += picture.width
    return joined


def column(pictures: list[Image.Image]) -> Image.Image:
    return row([picture.transpose(Image.Transpose.TRANSPOSE) for picture in pictures]).transpose(
        Image.Transpose.TRANSPOSE
    )


def square(picture: Image.Image) -> Image.Image:
    """In the middle of a white square."""
    fitted = picture.resize(
        tuple(side * SIDE // max(picture.size) for side in picture.size),  # pyright: ignore[reportArgumentType]
        Image.Resampling.LANCZOS,
    )
    card = Image.new("RGB", (SIDE, SIDE), "white")
    card.paste(fitted, ((SIDE - fitted.width) // 2, (SIDE - fitted.height) // 2))
    return card


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", default="lite", help="where to run (default: a lite host, started for each)")
    parser.add_argument("--cards", action="store_true", help="draw only what needs no host")
    arguments = parser.parse_args()
    for name in CARDS:
        save(draw_card(name), name)
    if arguments.cards:
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Run(arguments.server, Path(folder))
        for kind, made in KINDS.items():
            card = square(made(run))
            for name in [kind, *(name for name, like in SAME.items() if like == kind)]:
                save(card, f"kandinsky22_pocket_{name}")


def save(card: Image.Image, name: str) -> None:
    """Beside the workflow `name`, if there is one."""
    path = ROOT / "workflows" / f"{name}.json"
    if path.is_file():
        card.save(path.with_suffix(".jpg"), quality=88)
        print(path.with_suffix(".jpg"))


if __name__ == "__main__":
    main()
