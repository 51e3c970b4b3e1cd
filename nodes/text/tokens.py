"""How many tokens a text is: by the model's own tokenizer where its files are here, by an estimate elsewhere.

ComfyUI brings both along: CLIP's in comfy/sd1_tokenizer, T5's in comfy/text_encoders/t5_tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .detect import CYRILLIC, HAN, detect
from .targets import CLIP, MCLIP, T5, Encoder

Tokenize = Callable[[str], "list[int]"]
"""A tokenizer: where in the text each token ends, the marks of beginning and end left out."""

MARKS = {CLIP: 2, MCLIP: 2, T5: 1}
"""Tokens that a tokenizer puts around a text."""

_CLIP_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d|\p{Han}|(?:(?!\p{Han})\p{L})+|\p{N}|[^\s\p{L}\p{N}]+"""
"""As the original, and each Chinese character by itself, as transformers does it."""
_WORDS = re.compile(rf"[{HAN}]|[{CYRILLIC}]+|[^\W\d_{HAN}{CYRILLIC}]+|\d|[^\w\s]+|_")
_LETTERS_A_TOKEN = {CLIP: (8.0, 3.2, 0.9, 0.5), MCLIP: (5.0, 4.0, 4.0, 1.3), T5: (4.6, 3.0, 1.3, 0.0)}
"""Letters that make a token on average: of English, German, Russian, Chinese words.
T5 has one token, "unknown", for any number of Han."""


@dataclass(frozen=True)
class Count:
    """`tokens` of a text for `encoder`, its marks included; `read` is the length of the text that fits."""

    encoder: Encoder
    tokens: int
    read: int
    exact: bool

    @property
    def over(self) -> bool:
        return self.tokens > self.encoder.limit

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        return f"{self.encoder.title} {about}{self.tokens} of {self.encoder.limit} tokens"


def count(text: str, encoder: Encoder, tokenizers: Mapping[str, Tokenize]) -> Count:
    tokenize = tokenizers.get(encoder.tokenizer)
    ends = tokenize(text) if tokenize else estimate(text, encoder.tokenizer)
    room = encoder.limit - MARKS[encoder.tokenizer]
    read = len(text) if len(ends) <= room else ends[room - 1]
    return Count(encoder, len(ends) + MARKS[encoder.tokenizer], read, tokenize is not None)


def estimate(text: str, tokenizer: str) -> list[int]:
    """About where each token ends, by the number of letters in each word."""
    english, german, cyrillic, han = _LETTERS_A_TOKEN[tokenizer]
    latin = german if detect([text]) == "de" else english
    ends: list[int] = []
    unknown = False
    for word in _WORDS.finditer(text):
        is_han = bool(re.match(f"[{HAN}]", word[0]))
        if is_han and not han:  # a run of what T5 doesn't know is one token
            ends += [] if unknown else [word.end()]
            unknown = True
            continue
        unknown = False
        letters = han if is_han else cyrillic if re.match(f"[{CYRILLIC}]", word[0]) else latin
        tokens = max(1, round(len(word[0]) / letters + 0.2)) if word[0][0].isalpha() else 1
        ends += [word.start() + round(len(word[0]) * (i + 1) / tokens) for i in range(tokens)]
    return ends


def load_tokenizers(clip: Path | None = None, t5: Path | None = None, mclip: Path | None = None) -> dict[str, Tokenize]:
    """The tokenizers in these folders, those that are there: CLIP's from vocab.json and merges.txt, the others' from
    tokenizer.json. None where the package tokenizers, which comes with transformers, is missing.

    Raises ValueError for files that are there and cannot be read.
    """
    try:
        import tokenizers
    except ImportError:
        return {}
    found: dict[str, Tokenize] = {}
    if clip and (clip / "vocab.json").is_file() and (clip / "merges.txt").is_file():
        found[CLIP] = _ends(_clip(clip))
    for name, folder in ((T5, t5), (MCLIP, mclip)):
        if folder and (file := folder / "tokenizer.json").is_file():
            found[name] = _ends(tokenizers.Tokenizer.from_str(json.dumps(_read_json(file))))
    return found


def comfyui_tokenizers(folder: Path) -> dict[str, Tokenize]:
    """Those of the ComfyUI in `folder`."""
    return load_tokenizers(folder / "comfy" / "sd1_tokenizer", folder / "comfy" / "text_encoders" / "t5_tokenizer")


def _clip(folder: Path) -> Any:
    """CLIP's byte-level BPE, as openai/CLIP's simple_tokenizer.py has it."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    lines = (folder / "merges.txt").read_text("utf-8").splitlines()[1:]
    merges = [(first, second) for first, second in (line.split() for line in lines if line.strip())]
    vocab = _read_json(folder / "vocab.json")
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as a tokenizer's: {error}. Copy it again.") from error


def _ends(tokenizer: Any) -> Tokenize:
    def ends(text: str) -> list[int]:
        return [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets]

    return ends
