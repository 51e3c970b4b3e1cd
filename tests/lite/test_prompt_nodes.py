"""Prompt layers, composed and looked over in a workflow, on the lite host; and what the nodes tell of themselves."""

from __future__ import annotations

import json

import pytest
from kandiflux.errors import NodeFailed

from nodes import prompt
from nodes.text.layers import KINDS, RELATIONS
from nodes.text.targets import TARGETS
from tests.support.hosts import RunningHost
from tests.support.prompt_runs import graph, texts


def test_flux(lite_host: RunningHost) -> None:
    shown = texts(lite_host, graph("flux-dev"))
    said = "A red fox. A grey wolf to the left of the fox. Background: a birch forest."
    assert shown["prompt"] == shown["t5xxl"] == shown["text"] == said
    assert shown["clip_l"] == "A red fox, a grey wolf to the left of the fox, a birch forest in the background"
    assert shown["negative"] == ""
    assert shown["notes"].startswith("FLUX.1 dev has no negative prompt: 'people' is left out.")
    assert shown["report"] == shown["6"]
    assert shown["report"].startswith("FLUX.1 dev: no findings; T5 about ")


def test_flux_numbered(lite_host: RunningHost) -> None:
    assert texts(lite_host, graph("flux-schnell", form="numbered"))["prompt"] == (
        "1. A red fox.\n2. A grey wolf to the left of the fox.\n3. Background: a birch forest."
    )


def test_flux2_gets_json(lite_host: RunningHost) -> None:
    shown = texts(lite_host, graph("flux2-dev", form="json"))
    assert json.loads(shown["prompt"]) == {
        "subjects": [
            {"description": "a red fox"},
            {"description": "a grey wolf", "position": "to the left of the fox"},
        ],
        "background": "a birch forest",
    }
    assert shown["report"].startswith("FLUX.2 dev: no findings; Mistral about ")


def test_sd15(lite_host: RunningHost) -> None:
    shown = texts(lite_host, graph("sd15"))
    assert shown["prompt"] == "(a red fox:1.3), a grey wolf to the left of the fox, a birch forest in the background"
    assert (shown["negative"], shown["notes"]) == ("people", "")


def test_lint_mends_a_typed_text(lite_host: RunningHost) -> None:
    inputs = {"text": "A (red fox:1.3)  in the snow.", "target": "flux-dev", "language": "auto", "mend": True}
    shown = texts(
        lite_host,
        {
            "1": {"class_type": "KandifluxPromptLint", "inputs": inputs},
            "show text": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        },
    )
    assert shown["text"] == "A red fox in the snow."
    assert "warning weights at 3" in shown["1"]


def test_a_wrong_layer_is_one_message_that_names_the_node(lite_host: RunningHost) -> None:
    wrong = graph("flux-dev")
    wrong["3"]["inputs"] |= {"relation": "behind", "relation_to": "subject"}
    with pytest.raises(NodeFailed, match="refers to 'subject', which 2 layers are called"):
        texts(lite_host, wrong)
    wrong["2"]["inputs"]["relation_to"] = ""
    with pytest.raises(NodeFailed, match=r"'The subject' .*'subject' is 'left of' nothing"):
        texts(lite_host, wrong)


# What the nodes tell of themselves


@pytest.mark.parametrize("name", prompt.NODES)
def test_every_node_explains_itself(name: str) -> None:
    node, title = prompt.NODES[name]
    assert name.startswith("Kandiflux")
    assert title.startswith("Prompt ")
    assert title.endswith(" (kandiflux)")
    assert len(node.DESCRIPTION) > 30
    assert node.SEARCH_ALIASES
    assert node.CATEGORY.startswith("kandiflux/")
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS)
    for group in node.INPUT_TYPES().values():
        for input_name, spec in group.items():
            assert spec[1].get("tooltip"), f"{name}.{input_name} has no tooltip"


def test_the_lists_are_what_the_work_knows() -> None:
    required = prompt.KandifluxPromptLayer.INPUT_TYPES()["required"]
    assert required["kind"][0] == list(KINDS)
    assert required["relation"][0] == list(RELATIONS)
    assert prompt.KandifluxPromptCompose.INPUT_TYPES()["required"]["target"][0] == list(TARGETS)
