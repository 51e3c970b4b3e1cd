"""The prompt nodes, and where their tokenizers come from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nodes import host
from nodes.models.spiece import tokenizer_json
from nodes.prompt import KandifluxPromptCompose, KandifluxPromptLayer, KandifluxPromptLint, tokenizers
from nodes.text.layers import Layer
from tests.support.places import ROOT
from tests.support.spiece import PIECES, spiece_model

POCKET = ROOT / "weights" / "pocket" / "kandinsky-2-2-pocket-prior" / "tokenizer"
VOCABULARY = json.dumps(tokenizer_json(spiece_model(PIECES)))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> host.Host:
    found = host.Host()
    found.add_model_folder("kandinsky", tmp_path / "kandinsky")
    monkeypatch.setattr(host, "current", lambda: found)
    return found


def test_layers_are_put_one_behind_the_other() -> None:
    node = KandifluxPromptLayer()
    (one,) = node.run("subject", "a fox", 1.0, "none", "")
    (two,) = node.run("text in the picture", "FOX", 1.5, "on", "fox", "title", one)
    assert two == (Layer("subject", "a fox"), Layer("text in the picture", "FOX", 1.5, "on", "fox", "title"))


def test_compose_gives_the_prompts_and_a_line_for_each_note(here: host.Host) -> None:
    layers = (Layer("subject", "a fox"), Layer("mood", "calm", 0.0), Layer("negative", "people"))
    prompt, negative, t5xxl, clip_l, notes = KandifluxPromptCompose().run(layers, "flux-dev", "hierarchical", "auto")
    assert (prompt, negative, t5xxl, clip_l) == ("A fox.", "", "A fox.", "A fox")
    assert notes == "FLUX.1 dev has no negative prompt: 'people' is left out. Say what is there instead."
    assert KandifluxPromptCompose().run(layers, "sd15", "hierarchical", "en")[:2] == ("a fox", "people")


@pytest.mark.parametrize(("mend", "text"), [(False, "a the the fox"), (True, "a the fox")])
def test_lint_reports_and_mends_if_asked(mend: bool, text: str, here: host.Host) -> None:
    made = KandifluxPromptLint().run("a the the fox", "flux-dev", "auto", mend)
    assert made["result"] == (text, made["ui"]["text"][0])
    assert made["ui"]["text"][0].startswith("warning doubled-word at 3: ")


def test_tokenizers_are_the_host_s_and_kandinsky_21_s(here: host.Host, tmp_path: Path) -> None:
    assert tokenizers() == {}
    for name, kind in (("2-0", "CLIPTokenizer"), ("2-1", "XLMRobertaTokenizerFast")):
        folder = tmp_path / "kandinsky" / name / "tokenizer"
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text(VOCABULARY, "utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}), "utf-8")
    broken = tmp_path / "kandinsky" / "1-broken" / "tokenizer"
    broken.mkdir(parents=True)
    (broken / "tokenizer_config.json").write_text("{", "utf-8")
    assert tokenizers().keys() == {"mclip"}
    clip = tmp_path / "comfy" / "sd1_tokenizer"
    shutil.copytree(POCKET, clip)
    here.clip_tokenizer_folder = lambda: clip
    assert tokenizers().keys() == {"clip", "mclip"}
    t5 = tmp_path / "comfy" / "text_encoders" / "t5_tokenizer"
    t5.mkdir(parents=True)
    (t5 / "tokenizer.json").write_text(VOCABULARY, "utf-8")
    shutil.rmtree(tmp_path / "kandinsky")  # or the answer for these folders is remembered
    assert tokenizers().keys() == {"clip", "t5"}
