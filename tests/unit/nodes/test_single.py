"""Single files: which schedule is published with a network, which tokenizer fits, and encoders that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodes.models import single
from nodes.models.clip import CLIPTextConfig, CLIPVisionConfig
from nodes.models.loader import WeightsError
from nodes.models.prior import PriorConfig
from nodes.models.single import CLIP, XLM, find_tokenizer, load_prior_files
from nodes.models.unet2 import UNet2Config
from nodes.sampling.schedulers import DecoderScheduler

READS: dict[str, Any] = {"encoder_hid_dim_type": "text_image_proj", "addition_embed_type": "text_image"}


@pytest.mark.parametrize(
    ("config", "scheduler"),
    [
        (UNet2Config(), DecoderScheduler("DDPM", clip_sample=True)),
        (UNet2Config(in_channels=9), DecoderScheduler("DDPM", clip_sample=False)),
        (UNet2Config(**READS), DecoderScheduler("DDIM", clip_sample=False)),
        (UNet2Config(in_channels=9, **READS), DecoderScheduler("DDIM", clip_sample=False)),
    ],
)
def test_the_schedule_published_with_a_network(config: UNet2Config, scheduler: DecoderScheduler) -> None:
    assert single.published_scheduler(config) == scheduler


class Words:
    """A tokenizer of as many words as its folder's file says."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    @classmethod
    def from_pretrained(cls, folder: Path, **options: Any) -> Words:
        assert options == {"local_files_only": True, "pad_token": "!"}
        return cls(int((folder / "words").read_text()))


def tokenizer(folder: Path, kind: str | None, words: int) -> Path:
    folder.mkdir()
    (folder / "words").write_text(str(words))
    if kind is not None:
        (folder / "tokenizer_config.json").write_text(kind)
    return folder


def test_the_first_tokenizer_with_as_many_words_is_taken(tmp_path: Path) -> None:
    def of(name: str) -> str:
        return json.dumps({"tokenizer_class": name})

    folders = [
        tmp_path / "not there",
        tokenizer(tmp_path / "nothing", None, 5),
        tokenizer(tmp_path / "broken", "{", 5),
        tokenizer(tmp_path / "list", "[]", 5),
        tokenizer(tmp_path / "other", of("T5Tokenizer"), 5),
        tokenizer(tmp_path / "few", of("CLIPTokenizer"), 4),
        tokenizer(tmp_path / "slow", of("CLIPTokenizer"), 5),
        tokenizer(tmp_path / "fast", of("CLIPTokenizerFast"), 6),
    ]

    def find(words: int, kind: Any = CLIP) -> int:
        return len(find_tokenizer(Words, kind, tmp_path / "text.safetensors", words, folders, {"pad_token": "!"}))

    assert [find(words) for words in (4, 5, 6)] == [4, 5, 6]
    with pytest.raises(WeightsError) as raised:
        find(7)
    got = ", ".join(f"{tmp_path / name} ({words})" for name, words in (("few", 4), ("slow", 5), ("fast", 6)))
    assert f"expected the CLIP tokenizer with 7 tokens, got {got}. Copy vocab.json" in str(raised.value)
    assert "to a folder text beside that file" in str(raised.value)
    with pytest.raises(WeightsError, match="expected the XLM-RoBERTa tokenizer with 5 tokens, got none"):
        find(5, XLM)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """File → the sizes that are read off it; networks and tokenizers are not loaded."""
    files: dict[str, Any] = {}
    monkeypatch.setattr(single, "detect_config", lambda kind, file: files[file.name])
    return files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": CLIPTextConfig(projection_dim=768)}, "expected encoders with embeds 1280 wide, got 768 from text"),
        (
            {"image": CLIPVisionConfig(projection_dim=768)},
            "expected encoders with embeds 1280 wide, got 768 from image",
        ),
        (
            {"text": CLIPTextConfig(projection_dim=1280, max_position_embeddings=32)},
            "expected prompts of 77 tokens, got 32 from text",
        ),
        ({}, "expected the CLIP tokenizer with 49408 tokens, got none"),
    ],
)
def test_a_prior_s_files_must_belong_together(told: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    told |= {
        "prior": PriorConfig(),
        "text": CLIPTextConfig(projection_dim=1280),
        "image": CLIPVisionConfig(projection_dim=1280),
    } | changes
    with pytest.raises(WeightsError, match=message):
        load_prior_files(Path("prior"), Path("text"), Path("image"), [])
