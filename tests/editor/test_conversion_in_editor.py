"""The real editors, installed and beside ComfyUI, make of each small file what the runner makes of it.

With `runner` on PYTHONPATH, `python -m tests.editor.test_conversion_in_editor` records data/conversions.json anew: from
the editor, and for the cases in STAND_APART from the runner. Look at what changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.workflow.editor_format.convert import convert

from tests.editor.lone_editor import LoneEditor, editor_packages, lone_editor, version_of
from tests.support.conversion_cases import CASES, OBJECT_INFO, STAND_APART
from tests.support.places import DATA

RECORDED_FROM = "1.27.10"
NEWER = {
    "an_empty_picture_is_the_first": "an empty name stays empty, and ComfyUI refuses it",
    "texts_are_those_of_a_text_area": "line ends and numbers stay as the file has them",
    "a_bypassed_node_before_an_input_of_any_type": "PreviewAny's text is not sent",
    "a_primitive_before_a_subgraph": "the subgraph's own value counts, not the primitive's",
    **dict.fromkeys(
        (
            "a_group_node",
            "two_group_nodes_of_the_oldest_spelling",
            "a_group_node_with_a_picture_to_upload",
            "a_primitive_in_a_group_node",
            "a_group_node_of_two_samplers_that_names_the_second",
            "a_group_node_with_inputs_and_outputs_renamed_and_hidden",
        ),
        "the subgraph they make of a group node has values in the wrong places, or lacks a class",
    ),
}
"""Cases of which newer editors (seen in 1.49.6) make something else than 1.27.10 and the runner, with the reason."""


@pytest.fixture(scope="module", params=editor_packages() or [None], ids=lambda package: package and version_of(package))
def editor(request: pytest.FixtureRequest) -> Iterator[LoneEditor]:
    package: Path | None = request.param
    with lone_editor(OBJECT_INFO, package) as editor:
        yield editor


@pytest.mark.parametrize("name", [name for name in CASES if name not in STAND_APART])
def test_the_editor_makes_the_same(editor: LoneEditor, name: str) -> None:
    theirs, ours = bare(editor.prompt(CASES[name])), bare(convert(CASES[name], OBJECT_INFO).prompt)
    if editor.version != RECORDED_FROM and "group_node" in name:  # they make a subgraph of it, with new ids
        theirs, ours = unnumbered(theirs), unnumbered(ours)
    if editor.version != RECORDED_FROM and name in NEWER:
        assert theirs != ours, f"no longer true: {NEWER[name]}"
    else:
        assert theirs == ours


def bare(prompt: dict[str, Any]) -> dict[str, Any]:
    """What a server runs of a prompt."""
    return {node_id: [about["class_type"], about["inputs"]] for node_id, about in prompt.items()}


def unnumbered(prompt: dict[str, Any]) -> list[str]:
    """The nodes that feed no other, with what feeds them in the place of links to it."""

    def whole(node_id: str) -> list[Any]:
        class_type, inputs = prompt[node_id]
        fed = {name: [whole(value[0]), value[1]] if is_link(value) else value for name, value in inputs.items()}
        return [class_type, fed]

    def is_link(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 2 and value[0] in prompt

    fed = {value[0] for _, inputs in prompt.values() for value in inputs.values() if is_link(value)}
    return sorted(json.dumps(whole(node_id), sort_keys=True) for node_id in prompt if node_id not in fed)


def _record() -> None:
    (package,) = (package for package in editor_packages() if version_of(package) == RECORDED_FROM)
    with lone_editor(OBJECT_INFO, package) as editor:
        recorded = {
            name: bare(convert(workflow, OBJECT_INFO).prompt if name in STAND_APART else editor.prompt(workflow))
            for name, workflow in CASES.items()
        }
    lines = [f" {json.dumps(name)}: {json.dumps(prompt, ensure_ascii=False)}" for name, prompt in recorded.items()]
    target = DATA / "conversions.json"
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    _record()
