"""Judge the pocket weights: generate pictures from prompts and measure whether they show what the prompts say.

Every (shape, colour, background) the training never saw is drawn in each language, in the canonical wording and in a
random other one, beside a sample of the trained ones. The judge is measurements only (pocket/judge.py).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pocket.captions import LANGUAGES, canonical, rewordings
from pocket.judge import Verdict, judge
from pocket.subjects import HELD_OUT, TRAINED, Triple

Picture = NDArray[Any]
Generate = Callable[[Sequence[str], Sequence[int]], Sequence[Picture]]
"""(prompts, seeds) → a picture [H, W, 3] for each, uint8 or floats in [0, 1]."""

EXAMPLES = """examples:
  python tools/judge_pocket.py                             all held-out triples in every language: exit code 1 below 0.9
  python tools/judge_pocket.py --held-out 8 --trained 0    a quick look
  python tools/judge_pocket.py --languages ru zh --save /tmp/sheets
  python tools/judge_pocket.py --device cuda --json > judged.json
"""


@dataclass(frozen=True)
class Case:
    """One picture to generate and judge."""

    triple: Triple
    language: str
    prompt: str
    canonical: bool
    held_out: bool
    seed: int


@dataclass(frozen=True)
class Result:
    case: Case
    picture: Picture
    verdict: Verdict

    @property
    def right(self) -> bool:
        return self.verdict.right(self.case.triple)


@dataclass(frozen=True)
class Score:
    """Parts of `pictures` that are right; `canonical` and `reworded` are all three right, by wording."""

    language: str
    held_out: bool
    pictures: int
    shape: float
    colour: float
    background: float
    all_three: float
    canonical: float
    reworded: float


# --- What to draw ----------------------------------------------------------------------------------------------------


def make_cases(languages: Sequence[str], held_out: int, trained: int, seed: int) -> list[Case]:
    """A canonical and a reworded prompt in each language for so many triples, evenly spread over each set."""
    rng = random.Random(seed)
    cases: list[Case] = []
    for triples, count, unseen in ((HELD_OUT, held_out, True), (TRAINED, trained, False)):
        count = min(count, len(triples))
        chosen = [triples[i * len(triples) // count] for i in range(count)]
        for language in languages:
            for triple in chosen:
                other = rng.choice(rewordings(*triple, language, rng))
                for prompt, plain in ((canonical(*triple, language), True), (other, False)):
                    cases.append(Case(triple, language, prompt, plain, unseen, seed + len(cases)))
    return cases


# --- Drawing and judging ---------------------------------------------------------------------------------------------


def pocket_generator(arguments: argparse.Namespace) -> Generate:
    """The pocket weights as a `Generate`: prior, decoder and MOVQ, a batch at a time."""
    import torch

    from nodes.decoders import read_decoder, read_movq
    from nodes.images import from_movq
    from nodes.models.loader import is_decoder_folder, is_prior_folder, load_prior
    from nodes.networks import load_model, load_vae, predictor
    from nodes.sampling.decoder import latent_side, sample_latents
    from nodes.sampling.noise import seeded_noise
    from nodes.sampling.prior import TextStates, encode_text, mean_grey_embeds, sample_image_embeds

    folders = sorted(path for path in arguments.weights.glob("*") if path.is_dir())
    device = torch.device(arguments.device)
    prior = load_prior(next(filter(is_prior_folder, folders)))
    folder = next(filter(is_decoder_folder, folders))
    model = load_model(*read_decoder(folder, folder.name), torch.float32)
    movq = load_vae(*read_movq(folder), torch.float32).movq
    for network in (prior.text_encoder, prior.image_encoder, prior.prior, model.unet, movq):
        network.to(device)
    side = latent_side(arguments.size)
    nothing = encode_text(prior.text_encoder, prior.tokenizer, [""], device)
    grey = mean_grey_embeds(prior.image_encoder, 1)

    @torch.inference_mode()
    def generate(prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Picture]:
        text = encode_text(prior.text_encoder, prior.tokenizer, prompts, device)
        without = TextStates.cat(*[nothing] * len(prompts))
        embeds = sample_image_embeds(
            prior.prior,
            prior.scheduler,
            text,
            without,
            seeded_noise(seeds),
            arguments.prior_steps,
            arguments.prior_guidance,
        )
        positive, negative = [[embeds[:, None], {}]], [[grey.expand(len(prompts), -1)[:, None], {}]]
        latents = sample_latents(
            predictor(model.unet, positive, negative if arguments.guidance > 1 else None, device),
            model.decoder.scheduler,
            (len(prompts), 4, side, side),
            device,
            seeded_noise(seeds),
            arguments.steps,
            arguments.guidance,
        )
        return list(from_movq(movq.decode(latents)).numpy())

    return generate


def run(cases: Sequence[Case], generate: Generate, batch: int, note: Callable[[str], None]) -> list[Result]:
    results: list[Result] = []
    begin = time.monotonic()
    for start in range(0, len(cases), batch):
        some = cases[start : start + batch]
        pictures = generate([case.prompt for case in some], [case.seed for case in some])
        results += [Result(case, picture, judge(picture)) for case, picture in zip(some, pictures, strict=True)]
        right = sum(result.right for result in results)
        note(f"{len(results)}/{len(cases)} pictures, {right} right, {time.monotonic() - begin:.0f} s")
    return results


def _part(results: Sequence[Result], right: Callable[[Result], bool]) -> float:
    return sum(map(right, results)) / len(results) if results else 0.0


def score(results: Sequence[Result]) -> list[Score]:
    """A score for each set and language, held out first, in the order of the results."""
    groups = dict.fromkeys((result.case.held_out, result.case.language) for result in results)
    scores: list[Score] = []
    for held_out, language in groups:
        group = [r for r in results if (r.case.held_out, r.case.language) == (held_out, language)]
        scores.append(
            Score(
                language,
                held_out,
                len(group),
                shape=_part(group, lambda r: r.verdict.shape == r.case.triple.shape),
                colour=_part(group, lambda r: r.verdict.colour == r.case.triple.colour),
                background=_part(group, lambda r: r.verdict.background == r.case.triple.background),
                all_three=_part(group, lambda r: r.right),
                canonical=_part([r for r in group if r.case.canonical], lambda r: r.right),
                reworded=_part([r for r in group if not r.case.canonical], lambda r: r.right),
            )
        )
    return scores


def passes(scores: Sequence[Score], bar: float) -> bool:
    """Whether all three are right often enough on the held-out triples, in every language."""
    unseen = [score for score in scores if score.held_out]
    return bool(unseen) and all(score.all_three >= bar for score in unseen)


# --- Showing ---------------------------------------------------------------------------------------------------------


def table(scores: Sequence[Score]) -> str:
    columns = ("shape", "colour", "background", "all three", "canonical", "reworded")
    lines = [f"{'triples':9}{'language':>9}{'pictures':>9}" + "".join(f"{column:>11}" for column in columns)]
    for one in scores:
        values = (one.shape, one.colour, one.background, one.all_three, one.canonical, one.reworded)
        name = "held out" if one.held_out else "trained"
        lines.append(f"{name:9}{one.language:>9}{one.pictures:>9}" + "".join(f"{value:>11.1%}" for value in values))
    return "\n".join(lines)


def mistakes(results: Sequence[Result]) -> str:
    return "\n".join(
        f"  {r.case.prompt!r} (seed {r.case.seed}): {r.verdict.colour} {r.verdict.shape} on {r.verdict.background}"
        + "".join(f"; {reason}" for reason in r.verdict.unclear)
        for r in results
        if not r.right
    )


def as_json(results: Sequence[Result], scores: Sequence[Score], passed: bool) -> str:
    def finite(verdict: Verdict) -> dict[str, Any]:
        values = asdict(verdict)
        return {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in values.items()}

    pictures = [
        {**asdict(r.case), "triple": r.case.triple._asdict(), "right": r.right, "verdict": finite(r.verdict)}
        for r in results
    ]
    values = {"passed": passed, "scores": [asdict(one) for one in scores], "pictures": pictures}
    return json.dumps(values, ensure_ascii=False, indent=1)


SEEN = "is: "
TILE, TEXT_LINES, TEXT_SIZE, COLUMNS = 144, 3, 12, 10
FONTS = ("DejaVuSans.ttf", "Arial.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "msyh.ttc", "PingFang.ttc")


def _rendered(letter: str, font: ImageFont.FreeTypeFont) -> bytes:
    picture = Image.new("L", (2 * TEXT_SIZE, 2 * TEXT_SIZE))
    ImageDraw.Draw(picture).text((0, 0), letter, fill=255, font=font)
    return picture.tobytes()


@cache
def _font_for(text: str) -> ImageFont.FreeTypeFont | None:
    """The first installed font that has every letter of `text`."""
    for name in FONTS:
        try:
            font = ImageFont.truetype(name, TEXT_SIZE)
        except OSError:
            continue
        missing = _rendered("\U0010ffff", font)
        if all(letter.isspace() or _rendered(letter, font) != missing for letter in text):
            return font
    return None


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split() if " " in text else text:
        gap = " " if " " in text and lines[-1] else ""
        if lines[-1] and font.getlength(lines[-1] + gap + word) > width:
            lines.append(word)
        else:
            lines[-1] += gap + word
    return lines


def contact_sheet(results: Sequence[Result]) -> Image.Image:
    """All pictures with their prompts below, the wrong ones in a red frame and with what was seen instead."""
    wide, high = TILE + 12, TILE + TEXT_LINES * (TEXT_SIZE + 3) + 14
    rows = -(-len(results) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * wide, rows * high), "white")
    draw = ImageDraw.Draw(sheet)
    for i, result in enumerate(results):
        x, y = i % COLUMNS * wide + 6, i // COLUMNS * high + 6
        pixels = np.asarray(result.picture)
        if pixels.dtype != np.uint8:
            pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
        frame = "lightgrey" if result.right else "red"
        # A white gap inside, to see a red frame around a red picture.
        draw.rectangle((x - 5, y - 5, x + TILE + 4, y + TILE + 4), outline=frame, width=3)
        sheet.paste(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.NEAREST), (x, y))
        text = result.case.prompt
        font = _font_for(text)
        if font is None:  # no installed font has these letters
            text, font = f"[{result.case.language}] {canonical(*result.case.triple, 'en')}", ImageFont.load_default()
        lines = _wrapped(text, font, TILE)[:TEXT_LINES]
        if not result.right:
            seen = result.verdict
            lines[TEXT_LINES - 1 :] = [f"{SEEN}{seen.colour} {seen.shape}, {seen.background}"]
        for number, line in enumerate(lines):
            colour = "red" if line.startswith(SEEN) else "black"
            draw.text((x, y + TILE + 6 + number * (TEXT_SIZE + 3)), line, fill=colour, font=font)
    return sheet


# --- The command -----------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", type=Path, default=ROOT / "weights" / "pocket", help="folder of both model folders"
    )
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=LANGUAGES)
    parser.add_argument(
        "--held-out", type=int, default=len(HELD_OUT), help=f"triples never trained on ({len(HELD_OUT)})"
    )
    parser.add_argument("--trained", type=int, default=16, help="trained triples beside them (16)")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels, a multiple of 64 (128)")
    parser.add_argument("--prior-steps", type=int, default=25)
    parser.add_argument("--prior-guidance", type=float, default=2.0, help="prior guidance (2)")
    parser.add_argument("--steps", type=int, default=30, help="decoder steps (30)")
    parser.add_argument("--guidance", type=float, default=2.0, help="decoder guidance (2)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--bar", type=float, default=0.9, help="all three right in held-out pictures, per language (0.9)"
    )
    parser.add_argument("--save", type=Path, metavar="DIR", help="write a contact sheet for each language")
    parser.add_argument("--json", action="store_true", help="print every verdict as JSON instead of the table")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, generate: Generate | None = None) -> int:
    """Returns the exit code: 1 when below the bar."""
    arguments = parse(argv)
    cases = make_cases(arguments.languages, arguments.held_out, arguments.trained, arguments.seed)

    def note(line: str) -> None:
        print(line, file=sys.stderr)

    results = run(cases, generate or pocket_generator(arguments), arguments.batch, note)
    scores = score(results)
    passed = passes(scores, arguments.bar)
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
        for language in arguments.languages:
            path = arguments.save / f"{language}.png"
            contact_sheet([result for result in results if result.case.language == language]).save(path)
            note(f"wrote {path}")
    if arguments.json:
        print(as_json(results, scores, passed))
    else:
        wrong = mistakes(results)
        print(table(scores) + (f"\n\nwrong:\n{wrong}" if wrong else ""))
        print(f"\n{'passed' if passed else 'FAILED'}: the bar is {arguments.bar:.0%} on the held-out triples")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
