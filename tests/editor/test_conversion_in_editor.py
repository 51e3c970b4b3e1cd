"""The real editor makes of each small file what the runner makes of it.

With `runner` on PYTHONPATH, `python -m tests.editor.test_conversion_in_editor` records data/conversions.json anew: from
the editor, and for the cases in STAND_APART from the runner. Look at what changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kandiflux.conversion.convert import convert

from tests.editor.lone_editor import LoneEditor, lone_editor
from tests.support.conversion_cases import CASES, OBJECT_INFO, STAND_APART
from tests.support.places import DATA

_RECORDED_FROM = "1.27.10"


@pytest.fixture(scope="module")
def editor() -> Iterator[LoneEditor]:
    with lone_editor(OBJECT_INFO) as editor:
        yield editor


@pytest.mark.parametrize("name", [name for name in CASES if name not in STAND_APART])
def test_the_editor_makes_the_same(editor: LoneEditor, name: str) -> None:
    if editor.version != _RECORDED_FROM:
        pytest.skip(f"the editor here is {editor.version}; others number nodes anew, and leave out what does nothing")
    assert bare(editor.prompt(CASES[name])) == bare(convert(CASES[name], OBJECT_INFO).prompt)


def bare(prompt: dict[str, Any]) -> dict[str, Any]:
    """What a server runs of a prompt."""
    return {node_id: [about["class_type"], about["inputs"]] for node_id, about in prompt.items()}


def _record() -> None:
    with lone_editor(OBJECT_INFO) as editor:
        recorded = {
            name: bare(convert(workflow, OBJECT_INFO).prompt if name in STAND_APART else editor.prompt(workflow))
            for name, workflow in CASES.items()
        }
    lines = [f" {json.dumps(name)}: {json.dumps(prompt, ensure_ascii=False)}" for name, prompt in recorded.items()]
    target = DATA / "conversions.json"
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    _record()
