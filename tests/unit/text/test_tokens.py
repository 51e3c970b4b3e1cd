"""Counting tokens: by tokenizer files, and by an estimate if there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodes.models.spiece import tokenizer_json
from nodes.text.targets import CLIP, MCLIP, T5, Encoder, find_target
from nodes.text.tokens import comfyui_tokenizers, count, estimate, load_tokenizers
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


@pytest.mark.parametrize(("words", "over"), [(4, False), (5, True)])
def test_a_text_is_over_if_it_and_the_marks_are_more_than_the_limit(words: int, over: bool) -> None:
    text = " ".join(["fox"] * words)
    for tokenizer, limit in ((CLIP, 6), (MCLIP, 6), (T5, 5)):  # CLIP's put a mark at both ends, T5 one at the end
        found = count(text, Encoder(tokenizer, "E", limit, "lost"), {})
        assert (found.over, found.exact) == (over, False)
        assert found.tokens == limit + over
        assert text[: found.read] == "fox fox fox fox"
        assert str(found) == f"E about {found.tokens} of {limit} tokens"


def test_a_tokenizer_is_exact() -> None:
    encoder = Encoder(CLIP, "CLIP-L", 6, "lost")
    found = count("abcdef", encoder, {CLIP: lambda text: list(range(1, len(text) + 1))})
    assert (found.tokens, found.read, found.exact) == (8, 4, True)
    assert str(found) == "CLIP-L 8 of 6 tokens"


def test_tokenizers_are_read_from_the_folders_that_have_them(tmp_path: Path) -> None:
    for name in ("t5", "mclip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(tokenizer_json(spiece_model(PIECES))), "utf-8")
    found = load_tokenizers(POCKET, tmp_path / "t5", tmp_path / "mclip")
    assert found.keys() == {CLIP, T5, MCLIP}
    assert found[CLIP]("a red circle") == [1, 5, 12]
    assert found[CLIP]("A RED circle!")[:3] == [1, 5, 12]
    assert found[T5]("a red star") == found[MCLIP]("a red star") == [1, 1, 5, 10]
    assert load_tokenizers(clip=POCKET).keys() == {CLIP}
    assert load_tokenizers(t5=tmp_path / "t5").keys() == {T5}
    assert load_tokenizers() == {}


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_clip_needs_both_of_its_files(missing: str, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((POCKET / name).read_bytes())
    assert load_tokenizers(tmp_path).keys() == {CLIP}
    (tmp_path / missing).unlink()
    assert load_tokenizers(tmp_path) == {}


def test_comfyui_has_clips_and_t5s(tmp_path: Path) -> None:
    clip, t5 = tmp_path / "comfy" / "sd1_tokenizer", tmp_path / "comfy" / "text_encoders" / "t5_tokenizer"
    for folder in (clip, t5):
        folder.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt"):
        (clip / name).write_bytes((POCKET / name).read_bytes())
    (t5 / "tokenizer.json").write_text(json.dumps(tokenizer_json(spiece_model(PIECES))), "utf-8")
    assert comfyui_tokenizers(tmp_path).keys() == {CLIP, T5}


@pytest.mark.parametrize(
    ("target", "encoders"),
    [
        ("FLUX", [(T5, 512, "untrained"), (CLIP, 77, "unread")]),
        ("flux-schnell", [(T5, 256, "untrained"), (CLIP, 77, "unread")]),
        (" sd1.5 ", [(CLIP, 77, "chunked")]),
        ("kandinsky21", [(CLIP, 77, "lost"), (MCLIP, 77, "lost")]),
        ("kandinsky", [(CLIP, 77, "lost")]),
        ("kandinsky3", [(T5, 128, "lost")]),
    ],
)
def test_what_each_target_reads(target: str, encoders: list[tuple[str, int, str]]) -> None:
    assert [(each.tokenizer, each.limit, each.beyond) for each in find_target(target).encoders] == encoders
