"""The CLIP text and image encoders, on drawn pictures and their captions.

Two losses: the contrastive one of CLIP (Radford et al., 2021), in which every caption of the same shape, colour and
background is a right answer; and a classification of each attribute from either embed by one shared linear head.
The second is what makes embeds of combinations never seen come out as the sum of their parts.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerBase,
)

from . import recipe
from .captions import LANGUAGES, partial_caption, training_caption
from .shapes import COLOUR_NAMES, COLOURS, SHAPES, TRAINED, Scenes, draw, sample_scenes
from .tokenizer import write as write_tokenizer
from .training import train, trained_part

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PARTIAL = 0.15
"""Part of the captions that leave an attribute out."""
RECOLOURED = 0.5
"""Part of the pictures recoloured in the second stage."""
OFF_PALETTE, CONTRAST = 0.25, 0.35
"""RGB distances: of a strange background to every named colour, and of a strange shape to it."""
ATTRIBUTES = ("shape", "colour", "background")
IGNORED = -100


class Encoders(nn.Module):
    """Text and image encoder side by side."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        text = CLIPTextConfig(vocab_size=len(tokenizer), **special, **recipe.TEXT_ENCODER)
        self.text = CLIPTextModelWithProjection(text)
        self.image = CLIPVisionModelWithProjection(CLIPVisionConfig(**recipe.IMAGE_ENCODER))


class Heads(nn.Module):
    """Reads the attributes off an embed; dropped after training."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = nn.Linear(recipe.EMBED, len(SHAPES))
        self.colour = nn.Linear(recipe.EMBED, len(COLOUR_NAMES))
        self.background = nn.Linear(recipe.EMBED, len(COLOUR_NAMES))
        self.log_scale = nn.Parameter(torch.tensor(2.7))

    def loss(self, embeds: Tensor, targets: dict[str, Tensor]) -> Tensor:
        losses = [
            F.cross_entropy(getattr(self, name)(embeds), targets[name], ignore_index=IGNORED) for name in ATTRIBUTES
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def right(self, embeds: Tensor, targets: dict[str, Tensor]) -> float:
        """Part of the embeds from which all attributes are read right."""
        hits = [getattr(self, name)(embeds).argmax(-1) == targets[name] for name in ATTRIBUTES]
        return torch.stack(hits).all(dim=0).float().mean().item()


def preprocess(pictures: Tensor) -> Tensor:
    """Pictures in 0..1 as the CLIP image processor hands them to the encoder: resized, normalised per channel."""
    side = recipe.IMAGE_ENCODER["image_size"]
    small = F.interpolate(pictures, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return (small - pictures.new_tensor(MEAN)[:, None, None]) / pictures.new_tensor(STD)[:, None, None]


def blemish(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A little blur and noise on some: pictures to encode will be generated, resized and compressed ones too."""
    blurred = F.avg_pool2d(F.pad(pictures, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    amount = torch.rand(len(pictures), generator=generator).mul(2).sub(1).clamp(min=0)[:, None, None, None]
    noise = (
        torch.randn(pictures.shape, generator=generator)
        * 0.03
        * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    )
    return (pictures + amount.to(pictures) * (blurred - pictures) + noise.to(pictures)).clamp(0, 1)


def tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask, [B, TEXT_TOKENS] each."""
    got = tokenizer(texts, padding="max_length", truncation=True, max_length=recipe.TEXT_TOKENS, return_tensors="pt")
    return got.input_ids.to(device), got.attention_mask.to(device)


def targets_of(scenes: Scenes, device: torch.device) -> dict[str, Tensor]:
    return {name: getattr(scenes, name).to(device) for name in ATTRIBUTES}


def train_encoders(folder: Path, seed: int, device: torch.device) -> None:
    encoders, heads = Encoders(load_tokenizer(folder)), Heads()
    fit("encoders", encoders, heads, 0, folder, seed, device)


def polish_encoders(folder: Path, seed: int, device: torch.device) -> None:
    """Train on with a part of the pictures in colours of no name, of which only the shape is asked: without it the
    image encoder knows a shape by its colours as much as by its outline, and is lost in combinations never seen."""
    encoders, heads = Encoders(load_tokenizer(folder)), Heads()
    state = torch.load(folder / "encoders.pt", weights_only=True, map_location="cpu")
    nn.ModuleList([encoders, heads]).load_state_dict(state["trained"])
    fit("encoders_polish", encoders, heads, RECOLOURED, folder, seed + 1, device)


def fit(
    name: str, encoders: Encoders, heads: Heads, recoloured: float, folder: Path, seed: int, device: torch.device
) -> None:
    tokenizer, stage = load_tokenizer(folder), recipe.STAGES[name]
    encoders.to(device)
    heads.to(device)
    side = recipe.IMAGE_ENCODER["image_size"]  # drawn at the size it is read at: a quarter of the work

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        scenes = sample_scenes(stage.batch, generator, TRAINED, jitter=0.03)
        wanted = targets_of(scenes, device)
        strange = int(recoloured * stage.batch)
        recolour(scenes, strange, generator)
        said = {key: value.clone() for key, value in wanted.items()}
        texts, whole = [], []
        for row, triple in enumerate(scenes.triples):
            language = rng.choice(LANGUAGES)
            whole.append(row >= strange and rng.random() >= PARTIAL)
            if whole[-1]:
                texts.append(training_caption(*triple, language, rng, partial=0))
            else:
                omitted = rng.choice(ATTRIBUTES)
                texts.append(partial_caption(*triple, language, rng, omit=omitted))
                said[omitted][row] = IGNORED
        seen = {key: value.clone() for key, value in wanted.items()}
        for key in ("colour", "background"):
            seen[key][:strange] = IGNORED
        pictures = preprocess(blemish(draw(scenes, side).to(device), generator))
        images = encoders.image(pictures).image_embeds
        ids, _ = tokens(tokenizer, texts, device)
        embeds = encoders.text(input_ids=ids).text_embeds
        attributes = heads.loss(images, seen) + heads.loss(embeds, said)
        matched = torch.tensor(whole, device=device)
        contrast = contrastive(images, embeds, wanted, matched, heads.log_scale.exp())
        figures = {
            "contrast": contrast.item(),
            "images_right": heads.right(images[strange:], {key: value[strange:] for key, value in wanted.items()}),
            "texts_right": heads.right(embeds[matched], {key: value[matched] for key, value in said.items()}),
        }
        return contrast + attributes, figures

    train(name, encoders, loss, stage, seed, folder, extra=[heads])


def recolour(scenes: Scenes, count: int, generator: torch.Generator) -> None:
    """Give the first `count` scenes random colours, the background far from every colour with a name, so that no
    combination that is held out is ever shown."""
    palette = torch.tensor(list(COLOURS.values()))
    for row in range(count):
        while True:
            front, back = torch.rand(2, 3, generator=generator)
            if (palette - back).norm(dim=-1).min() > OFF_PALETTE and (front - back).norm() > CONTRAST:
                break
        scenes.jitter[row, 0] = front - palette[scenes.colour[row]]
        scenes.jitter[row, 1] = back - palette[scenes.background[row]]


def estrange(scenes: Scenes, count: int, generator: torch.Generator) -> None:
    """Give the first `count` scenes one colour of no name: even rows the shape, odd ones the background. What a caption
    says of the rest stays true, and no combination that is held out is shown."""
    palette = torch.tensor(list(COLOURS.values()))
    for row in range(count):
        part, named = row % 2, (scenes.background if row % 2 == 0 else scenes.colour)[row]
        while True:
            strange = torch.rand(3, generator=generator)
            if (palette - strange).norm(dim=-1).min() > OFF_PALETTE and (palette[named] - strange).norm() > CONTRAST:
                break
        scenes.jitter[row, part] = strange - palette[(scenes.colour, scenes.background)[part][row]]


def load_encoders(folder: Path) -> Encoders:
    """The encoders as both stages left them."""
    encoders = Encoders(load_tokenizer(folder))
    trained_part(encoders, folder / "encoders_polish.pt", "encoders_polish")
    return encoders


def contrastive(images: Tensor, texts: Tensor, targets: dict[str, Tensor], whole: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss over the rows whose caption is whole, all rows of the same triple counting as right."""
    triple = torch.stack([targets[name] for name in ATTRIBUTES], dim=1)[whole]
    same = (triple[:, None] == triple[None]).all(-1).float()
    wanted = same / same.sum(dim=1, keepdim=True)
    scores = scale * F.normalize(images[whole], dim=-1) @ F.normalize(texts[whole], dim=-1).T
    return (F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted)) / 2


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, made first if it is not there: the same captions give the same one."""
    path = folder / "tokenizer"
    if not (path / "vocab.json").exists():
        write_tokenizer(path)
    return AutoTokenizer.from_pretrained(path, use_fast=True)
