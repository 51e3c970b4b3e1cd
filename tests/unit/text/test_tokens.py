"""Counting tokens: by tokenizer files, and by an estimate if there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodes.models.spiece import tokenizer_json
from nodes.text.targets import CLIP, MCLIP, MISTRAL, QWEN, T5, Encoder, find_target
from nodes.text.tokens import count, estimate, load_tokenizers
from tests.support.places import ROOT
from tests.support.spiece import PIECES, spiece_model

POCKET = ROOT / "weights" / "pocket" / "kandinsky-2-2-pocket-prior" / "tokenizer"


@pytest.mark.parametrize(
    ("text", "clip", "mclip", "t5"),
    [
        ("", 0, 0, 0),
        ("a red fox", 3, 3, 3),
        ("extraordinarily", 2, 3, 3),
        ("рыжая лиса", 11, 2, 7),
        ("一只狐狸", 8, 4, 1),
        ("ein sehr alter Wolkenkratzer im Nebel", 11, 8, 13),
        ("fox 狐狸狐狸 fox", 10, 6, 3),
        ("狐狸 fox 狐狸", 9, 5, 3),
        ("a_b 12!!", 6, 6, 6),
    ],
)
def test_the_estimate_goes_by_letters_and_alphabets(text: str, clip: int, mclip: int, t5: int) -> None:
    for tokenizer, expected in ((CLIP, clip), (MCLIP, mclip), (T5, t5)):
        ends = estimate(text, tokenizer)
        assert len(ends) == expected
        assert ends == sorted(ends)
        if tokenizer != T5:  # to which a run of Chinese is one token, whatever its length
            assert ends[-1:] == ([len(text)] if text else [])


@pytest.mark.parametrize(
    ("text", "qwen", "mistral"),
    [
        ("a red fox", 3, 3),
        ("extraordinarily", 2, 2),
        ("a characteristic, 12", 6, 6),
        ("рыжая лиса", 4, 3),
        ("一只狐狸", 4, 4),
        ("ein sehr alter Wolkenkratzer im Nebel", 11, 11),
    ],
)
def test_the_estimate_for_language_models(text: str, qwen: int, mistral: int) -> None:
    assert (len(estimate(text, QWEN)), len(estimate(text, MISTRAL))) == (qwen, mistral)


@pytest.mark.parametrize(("words", "over"), [(4, False), (5, True)])
def test_a_text_is_over_if_it_and_the_marks_are_more_than_the_limit(words: int, over: bool) -> None:
    text = " ".join(["fox"] * words)
    for tokenizer, limit, marks in ((CLIP, 6, 2), (MCLIP, 6, 2), (T5, 5, 1), (QWEN, 16, 12)):
        found = count(text, Encoder(tokenizer, "E", limit, "lost", marks), {})
        assert (found.over, found.exact) == (over, False)
        assert found.tokens == limit + over
        assert text[: found.read] == "fox fox fox fox"
        assert str(found) == f"E about {found.tokens} of {limit} tokens"


def test_a_tokenizer_is_exact() -> None:
    encoder = Encoder(CLIP, "CLIP-L", 6, "lost")
    found = count("abcdef", encoder, {CLIP: lambda text: list(range(1, len(text) + 1))})
    assert (found.tokens, found.read, found.exact) == (8, 4, True)
    assert str(found) == "CLIP-L 8 of 6 tokens"


def comfy(folder: Path) -> Path:
    """ComfyUI's folder `comfy` with the pocket model's tokenizers for CLIP and Qwen, and one of a few pieces for T5."""
    clip, qwen, t5 = (
        folder / name for name in ("sd1_tokenizer", "text_encoders/qwen25_tokenizer", "text_encoders/t5_tokenizer")
    )
    for place in (clip, qwen, t5):
        place.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt"):
        (clip / name).write_bytes((POCKET / name).read_bytes())
        (qwen / name).write_bytes((POCKET / name).read_bytes())
    (t5 / "tokenizer.json").write_text(json.dumps(tokenizer_json(spiece_model(PIECES))), "utf-8")
    return folder


def test_tokenizers_are_read_from_the_folders_that_have_them(tmp_path: Path) -> None:
    there = comfy(tmp_path / "comfy")
    mclip = there / "text_encoders" / "t5_tokenizer"
    found = load_tokenizers(there, mclip)
    assert found.keys() == {CLIP, T5, MCLIP, QWEN}
    assert found[CLIP]("a red circle") == [1, 5, 12]
    assert found[CLIP]("A RED circle!")[:3] == [1, 5, 12]
    assert found[T5]("a red star") == found[MCLIP]("a red star") == [1, 1, 5, 10]
    assert load_tokenizers(there).keys() == {CLIP, T5, QWEN}
    assert load_tokenizers(mclip=mclip).keys() == {MCLIP}
    assert load_tokenizers() == {}


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_a_byte_level_tokenizer_needs_both_of_its_files(missing: str, tmp_path: Path) -> None:
    there = comfy(tmp_path / "comfy")
    (there / "sd1_tokenizer" / missing).unlink()
    assert load_tokenizers(there).keys() == {T5, QWEN}
    (there / "text_encoders" / "qwen25_tokenizer" / missing).unlink()
    assert load_tokenizers(there).keys() == {T5}


@pytest.mark.parametrize(
    ("target", "encoders"),
    [
        ("FLUX", [(T5, 512, "untrained"), (CLIP, 77, "unread")]),
        ("flux-schnell", [(T5, 256, "untrained"), (CLIP, 77, "unread")]),
        (" sd1.5 ", [(CLIP, 77, "chunked")]),
        ("kandinsky21", [(CLIP, 77, "lost"), (MCLIP, 77, "lost")]),
        ("kandinsky", [(CLIP, 77, "lost")]),
        ("kandinsky3", [(T5, 128, "lost")]),
        ("flux.2", [(MISTRAL, 512, "untrained")]),
        ("flux2-klein", [(QWEN, 512, "untrained")]),
        ("kandinsky5", [(QWEN, 512, "untrained"), (CLIP, 77, "unread")]),
        ("kandinsky-5-video", [(QWEN, 256, "untrained"), (CLIP, 77, "unread")]),
    ],
)
def test_what_each_target_reads(target: str, encoders: list[tuple[str, int, str]]) -> None:
    assert [(each.tokenizer, each.limit, each.beyond) for each in find_target(target).encoders] == encoders
