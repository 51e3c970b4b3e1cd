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
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizerFast,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from . import recipe
from .captions import LANGUAGES, partial_caption, training_caption
from .shapes import COLOUR_NAMES, SHAPES, TRAINED, Scenes, draw, sample_scenes
from .tokenizer import write as write_tokenizer
from .training import train

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PARTIAL = 0.15
ATTRIBUTES = ("shape", "colour", "background")
IGNORED = -100


class Encoders(nn.Module):
    """Text and image encoder side by side."""

    def __init__(self, tokenizer: CLIPTokenizerFast) -> None:
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


def tokens(tokenizer: CLIPTokenizerFast, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask, [B, TEXT_TOKENS] each."""
    got = tokenizer(texts, padding="max_length", truncation=True, max_length=recipe.TEXT_TOKENS, return_tensors="pt")
    return got.input_ids.to(device), got.attention_mask.to(device)


def targets_of(scenes: Scenes, device: torch.device) -> dict[str, Tensor]:
    return {name: getattr(scenes, name).to(device) for name in ATTRIBUTES}


def train_encoders(folder: Path, seed: int, device: torch.device) -> tuple[Encoders, CLIPTokenizerFast]:
    tokenizer = load_tokenizer(folder)
    stage = recipe.STAGES["encoders"]
    encoders, heads = Encoders(tokenizer).to(device), Heads().to(device)
    side = recipe.IMAGE_ENCODER[
        "image_size"
    ]  # drawn at the size it is read at: a quarter of the work, the same picture

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        scenes = sample_scenes(stage.batch, generator, TRAINED, jitter=0.03)
        wanted = targets_of(scenes, device)
        said = {name: value.clone() for name, value in wanted.items()}
        texts, whole = [], []
        for row, triple in enumerate(scenes.triples):
            language = rng.choice(LANGUAGES)
            whole.append(rng.random() >= PARTIAL)
            if whole[-1]:
                texts.append(training_caption(*triple, language, rng, partial=0))
            else:
                omitted = rng.choice(ATTRIBUTES)
                texts.append(partial_caption(*triple, language, rng, omit=omitted))
                said[omitted][row] = IGNORED
        images = encoders.image(preprocess(blemish(draw(scenes, side).to(device), generator))).image_embeds
        ids, _ = tokens(tokenizer, texts, device)
        embeds = encoders.text(input_ids=ids).text_embeds
        attributes = heads.loss(images, wanted) + heads.loss(embeds, said)
        contrast = contrastive(images, embeds, wanted, torch.tensor(whole, device=device), heads.log_scale.exp())
        with torch.no_grad():
            figures = {
                "contrast": contrast.item(),
                "images_right": heads.right(images, wanted),
                "texts_right": heads.right(embeds, said),
            }
        return contrast + attributes, figures

    trained = train("encoders", encoders, loss, stage, seed, folder, extra=[heads])
    assert isinstance(trained, Encoders)
    return trained, tokenizer


def contrastive(images: Tensor, texts: Tensor, targets: dict[str, Tensor], whole: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss over the rows whose caption is whole, all rows of the same triple counting as right."""
    triple = torch.stack([targets[name] for name in ATTRIBUTES], dim=1)[whole]
    same = (triple[:, None] == triple[None]).all(-1).float()
    wanted = same / same.sum(dim=1, keepdim=True)
    scores = scale * F.normalize(images[whole], dim=-1) @ F.normalize(texts[whole], dim=-1).T
    return (F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted)) / 2


def load_tokenizer(folder: Path) -> CLIPTokenizerFast:
    """The tokenizer in `folder`, made first if it is not there: the same captions give the same one."""
    path = folder / "tokenizer"
    if not (path / "vocab.json").exists():
        write_tokenizer(path)
    return CLIPTokenizerFast.from_pretrained(path)
