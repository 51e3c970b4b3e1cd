"""Count the tokens of a text: with the model's own tokenizer if its files are here, otherwise by an estimate.

ComfyUI has the files of CLIP's (comfy/sd1_tokenizer), T5's and Qwen's tokenizers (comfy/text_encoders).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .detect import CYRILLIC, HAN, language_of
from .targets import CLIP, MCLIP, MISTRAL, QWEN, T5, Encoder

Tokenize = Callable[[str], "list[int]"]
"""A tokenizer: the position in the text where each token ends, special tokens left out."""

_CLIP_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d|\p{Han}|(?:(?!\p{Han})\p{L})+|\p{N}|[^\s\p{L}\p{N}]+"""
"""That of openai/CLIP's simple_tokenizer.py, and each Chinese character by itself, as in transformers."""
_QWEN_SPLIT = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
"""That of transformers' Qwen2Tokenizer."""
_WORDS = re.compile(rf"[{HAN}]|[{CYRILLIC}]+|[^\W\d_{HAN}{CYRILLIC}]+|\d|[^\w\s]+|_")
_LETTERS_PER_TOKEN = {
    CLIP: (8.0, 3.2, 0.9, 0.5),
    MCLIP: (5.0, 4.0, 4.0, 1.3),
    T5: (4.6, 3.0, 1.3, 0.0),
    QWEN: (8.0, 3.2, 2.6, 1.3),
    MISTRAL: (8.0, 3.6, 3.5, 1.1),
}
"""Average number of letters per token in English, German, Russian and Chinese words. T5 has one token, "unknown",
for any number of Chinese characters."""


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
    room = encoder.limit - encoder.marks
    read = len(text) if len(ends) <= room else ends[room - 1]
    return Count(encoder, len(ends) + encoder.marks, read, tokenize is not None)


def estimate(text: str, tokenizer: str) -> list[int]:
    """Where each token ends, estimated from the number of letters in each word."""
    english, german, cyrillic, han = _LETTERS_PER_TOKEN[tokenizer]
    latin = german if language_of([text]) == "de" else english
    ends: list[int] = []
    unknown = False
    for word in _WORDS.finditer(text):
        is_han = bool(re.match(f"[{HAN}]", word[0]))
        if is_han and not han:
            ends += [] if unknown else [word.end()]
            unknown = True
            continue
        unknown = False
        letters = han if is_han else cyrillic if re.match(f"[{CYRILLIC}]", word[0]) else latin
        tokens = max(1, round(len(word[0]) / letters + 0.2)) if word[0][0].isalpha() else 1
        ends += [word.start() + round(len(word[0]) * (i + 1) / tokens) for i in range(tokens)]
    return ends


def load_tokenizers(comfy: Path | None = None, mclip: Path | None = None) -> dict[str, Tokenize]:
    """The tokenizers that ComfyUI has in its folder `comfy`, and M-CLIP's in the folder `mclip`.

    None if the package tokenizers, which comes with transformers, is not installed. Raises ValueError for files that
    cannot be read.
    """
    try:
        import tokenizers
    except ImportError:
        return {}
    found: dict[str, Tokenize] = {}
    encoders = comfy / "text_encoders" if comfy else None
    for name, folder, build in (
        (CLIP, comfy and comfy / "sd1_tokenizer", _clip),
        (QWEN, encoders and encoders / "qwen25_tokenizer", _qwen),
    ):
        if folder and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            found[name] = _ends(build(folder))
    for name, folder in ((T5, encoders and encoders / "t5_tokenizer"), (MCLIP, mclip)):
        if folder and (file := folder / "tokenizer.json").is_file():
            found[name] = _ends(tokenizers.Tokenizer.from_str(json.dumps(_read_json(file))))
    return found


def _clip(folder: Path) -> Any:
    from tokenizers import normalizers

    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    return _byte_level_bpe(folder, _CLIP_SPLIT, normalizer, end_of_word_suffix="</w>", unk_token="<|endoftext|>")


def _qwen(folder: Path) -> Any:
    from tokenizers import normalizers

    return _byte_level_bpe(folder, _QWEN_SPLIT, normalizers.NFC())


def _byte_level_bpe(folder: Path, split: str, normalizer: Any, **options: Any) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    lines = [line.split() for line in (folder / "merges.txt").read_text("utf-8").splitlines()]
    merges = [(line[0], line[1]) for line in lines if len(line) == 2 and line[0] != "#version:"]
    tokenizer = Tokenizer(models.BPE(vocab=_read_json(folder / "vocab.json"), merges=merges, **options))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="removed", invert=True),
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
