"""Prompts from Python: what is given reaches the node pack's code, and its errors are UsageErrors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kandiflux import prompt_tools as prompts
from kandiflux.errors import UsageError

LAYERS = [{"kind": "subject", "text": "a red fox"}, {"kind": "background", "text": "a forest"}]
JSON = json.dumps({"subjects": [{"description": "a red fox"}], "background": "a forest"}, indent=2)
TOKENIZERS = {"t5": lambda text: [1] * 600, "clip": lambda text: [1] * 80}


@pytest.mark.parametrize(
    ("arguments", "prompt"),
    [
        ({}, "A red fox. Background: a forest."),
        ({"form": "numbered"}, "1. A red fox.\n2. Background: a forest."),
        ({"form": "json", "target": "flux2-dev"}, JSON),
        ({"target": "sd15"}, "a red fox, a forest in the background"),
        ({"language": "de"}, "A red fox. A forest."),
    ],
)
def test_layers_become_a_prompt(arguments: dict[str, Any], prompt: str) -> None:
    composed = prompts.compose(LAYERS, **arguments)
    assert composed.prompt == prompt
    assert composed.target == arguments.get("target", "flux-dev")
    assert composed.language == arguments.get("language", "en")
    assert prompts.compose([prompts.Layer(**layer) for layer in LAYERS], **arguments) == composed


def test_what_is_wrong_with_a_prompt() -> None:
    def codes(*arguments: Any) -> list[str]:
        return [found.code for found in prompts.lint(*arguments)]

    assert codes("(red fox:1.3), no people") == codes("(red fox:1.3), no people", "flux-dev") == ["weights", "negation"]
    assert codes("(red fox:1.3)", "sd15") == []
    assert codes("A red fox in the snow.", "flux-dev", "de") == ["language"]
    assert isinstance(prompts.lint("no people")[0], prompts.Finding)


def test_what_can_be_mended() -> None:
    assert prompts.fix("(fox:1.3)") == prompts.fix("(fox:1.3)", "flux-dev", "de") == "fox"
    assert prompts.fix("(fox:1.3)", "sd15") == "(fox:1.3)"


def test_tokens_are_estimated_or_counted() -> None:
    def counts(*arguments: Any) -> list[tuple[str, int, bool]]:
        found = prompts.count_tokens(*arguments)
        return [(count.encoder.title, count.tokens, count.exact) for count in found]

    assert counts("a fox") == [("T5", 3, False), ("CLIP-L", 4, False)]
    assert counts("a fox", "sd15") == [("CLIP-L", 4, False)]
    assert counts("a fox", "flux-dev", TOKENIZERS) == [("T5", 601, True), ("CLIP-L", 82, True)]
    assert [found.code for found in prompts.lint("A red fox.", "flux-dev", "auto", TOKENIZERS)] == ["tokens"]
    assert prompts.compose(LAYERS, tokenizers=TOKENIZERS).notes != ()


def test_the_report_names_the_target() -> None:
    said = prompts.report(prompts.lint("x, no people"), prompts.count_tokens("x"), "flux-schnell")
    assert said.splitlines()[0].startswith("warning negation at 4")
    assert said.splitlines()[-1].startswith("FLUX.1 schnell: 1 warning; T5 about 2 of 512 tokens")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: prompts.compose(LAYERS, "sdxl"), "a target"),
        (lambda: prompts.compose(LAYERS, language="fr"), "a language"),
        (lambda: prompts.compose(LAYERS, form="list"), "a form"),
        (lambda: prompts.compose([{"kind": "object", "text": "x"}]), "object"),
        (lambda: prompts.lint("x", "sdxl"), "a target"),
        (lambda: prompts.lint("x", language="fr"), "a language"),
        (lambda: prompts.fix("x", "sdxl"), "a target"),
        (lambda: prompts.fix("x", language="fr"), "a language"),
        (lambda: prompts.count_tokens("x", "sdxl"), "a target"),
        (lambda: prompts.report([], [], "sdxl"), "a target"),
        (lambda: prompts.comfyui_tokenizers(Path("/nowhere")), "There is no ComfyUI in /nowhere"),
    ],
)
def test_what_cannot_be_is_a_usage_error(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()


def test_a_comfyui_without_tokenizers_has_none(tmp_path: Path) -> None:
    (tmp_path / "comfy").mkdir()
    assert prompts.comfyui_tokenizers(tmp_path) == {}


def test_the_choices() -> None:
    assert prompts.FORMS == ("hierarchical", "numbered", "json")
    assert set(prompts.LANGUAGES) == {"en", "ru", "zh", "de"}
    assert {"subject", "negative"} < set(prompts.KINDS)
    assert {"flux-dev", "sd15", "kandinsky-3"} < set(prompts.TARGETS)
    for name in prompts.__all__:
        assert getattr(prompts, name) is not None
