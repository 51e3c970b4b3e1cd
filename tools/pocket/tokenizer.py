"""A small byte-level BPE in the files of CLIP's tokenizer, with the words of the captions as its vocabulary.

Latin and Cyrillic words become one token each. A Chinese character is one token and never merges with its neighbour:
CLIP takes a run of characters without spaces for one word, and a vocabulary of whole captions would have no token for
a caption that training never showed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from .captions import LANGUAGES, every_caption

MAX_LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
MAX_VOCABULARY = 2048

# The alphabets of the captions, known letter by letter before any word, so that a word the captions do not have costs
# one token a letter instead of two.
_LETTERS = "абвгдеёжзийклмнопрстуфхцчшщъыьэюяäöüß"
_PUNCTUATION = "，。、！"

Merge = tuple[str, str]


def byte_alphabet() -> dict[int, str]:
    """A printable character for each byte, as in GPT-2 and CLIP: a printable byte is itself, the rest follow 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_BYTES = byte_alphabet()


def _symbols(word: str, *, final: bool = True) -> tuple[str, ...]:
    """`word` as one symbol a byte; the last one of a word that ends here carries the end mark."""
    symbols = [_BYTES[byte] for byte in word.encode()]
    return (*symbols[:-1], symbols[-1] + WORD_END) if final else tuple(symbols)


def _is_chinese(text: str) -> bool:
    return "\u4e00" <= text[0] <= "\u9fff"


def count_units(captions: Iterable[str]) -> Counter[tuple[str, ...]]:
    """How often each unit occurs within which merges may be learned: a word, or one Chinese character."""
    words: Counter[str] = Counter()
    for caption in captions:
        # Runs of letters (Chinese ones apart), or of punctuation: CLIP's own rule, less what captions do not have.
        words.update(re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+|[^\s\w]+", caption.lower()))
    # Letters first: no word is more frequent.
    most = sum(words.values())
    single = set(_LETTERS) | set(_PUNCTUATION) | {word for word in words if _is_chinese(word)}
    units = Counter({_symbols(word): count for word, count in words.items() if word not in single})
    for letter in single:
        units[_symbols(letter)] = units[_symbols(letter, final=False)] = most
    return units


def _apply(unit: tuple[str, ...], merge: Merge) -> tuple[str, ...]:
    merged: list[str] = []
    for symbol in unit:
        if merged and (merged[-1], symbol) == merge:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def learn_merges(units: Mapping[tuple[str, ...], int], limit: int) -> list[Merge]:
    """Byte-pair encoding: join the most frequent pair until every unit is one symbol, or `limit` pairs are joined.

    A tie goes to the pair first in code point order, so the same captions always give the same files.
    """
    words = dict(units)
    merges: list[Merge] = []
    while len(merges) < limit:
        pairs: Counter[Merge] = Counter()
        for unit, count in words.items():
            for pair in pairwise(unit):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined: Counter[tuple[str, ...]] = Counter()
        for unit, count in words.items():
            joined[_apply(unit, best)] += count
        words = dict(joined)
    return merges


def train() -> tuple[dict[str, int], list[Merge]]:
    """(vocabulary, merges) of the captions in all four languages, at most `MAX_VOCABULARY` entries."""
    alphabet = list(_BYTES.values())
    alphabet += [symbol + WORD_END for symbol in alphabet]
    units = count_units(caption for language in LANGUAGES for caption in every_caption(language))
    merges = learn_merges(units, MAX_VOCABULARY - len(alphabet) - 2)
    # END must keep the highest id: a CLIP text encoder may look for the end of the text at the largest one.
    tokens = [*alphabet, *dict.fromkeys(left + right for left, right in merges), START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def write(folder: Path) -> int:
    """Train and write the tokenizer's four files into `folder`; returns the size of the vocabulary."""
    vocabulary, merges = train()
    # "!" is what the official Kandinsky 2.2 prior pads with. It is id 0, before the text's own "!</w>".
    special = {"bos_token": START, "eos_token": END, "pad_token": "!", "unk_token": END}
    config = {
        "add_prefix_space": False,
        **special,
        "clean_up_tokenization_spaces": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": MAX_LENGTH,
        "tokenizer_class": "CLIPTokenizer",
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = {"vocab.json": vocabulary, "special_tokens_map.json": special, "tokenizer_config.json": config}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(vocabulary)
