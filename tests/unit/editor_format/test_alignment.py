from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.alignment import arrange
from kandiflux.workflow.editor_format.convert import convert
from kandiflux.workflow.editor_format.widgets import node_widgets

from tests.support.conversion_cases import node

INT, FLOAT, TEXT, TRUTH = ["INT"], ["FLOAT"], ["STRING"], ["BOOLEAN"]
MODE, FILES = [["single", "range"]], [["a.safetensors"]]


def info(**inputs: Any) -> dict[str, Any]:
    return {"input": {"required": inputs}, "input_order": {"required": list(inputs)}, "output_node": True}


def arranged(values: list[Any], **inputs: Any) -> tuple[dict[str, Any], bool]:
    widgets = node_widgets("Some", info(**inputs), values)
    found = arrange(values, [widget.spec for widget in widgets])
    return {widgets[slot].name: values[place] for slot, place in found.places.items()}, found.certain


@pytest.mark.parametrize(
    ("values", "inputs", "given", "certain"),
    [
        # As many values as widgets: as the editor, whatever they are.
        (["x", "y"], {"a": INT, "b": INT}, {"a": "x", "b": "y"}, True),
        # A widget was added in the middle, at the start, at the end.
        ([5, "range"], {"a": INT, "new": TRUTH, "mode": MODE}, {"a": 5, "mode": "range"}, True),
        (["range", 2.5], {"new": FLOAT, "mode": MODE, "b": FLOAT}, {"mode": "range", "b": 2.5}, True),
        ([5], {"a": INT, "mode": MODE}, {"a": 5}, True),
        ([5], {"a": INT, "new": INT}, {"a": 5}, False),
        # Seed without its control, as programs write it.
        ([7, 20, 1.5], {"seed": INT, "steps": INT, "cfg": FLOAT}, {"seed": 7, "steps": 20, "cfg": 1.5}, True),
        # Buttons that object_info does not know.
        (["go", "range", 3], {"mode": MODE, "a": INT}, {"mode": "range", "a": 3}, True),
        (["x", "go", 3], {"t": TEXT, "a": INT}, {"t": "x", "a": 3}, False),
        (["x", "go", "y"], {"t": TEXT, "u": TEXT}, {"t": "x", "u": "go"}, False),
        # Values of buttons and controls at the end.
        (["single", None, "", "fixed", "image"], {"mode": MODE}, {"mode": "single"}, True),
        # Nothing fits: as the editor.
        ([None, "x", 5], {"a": TRUTH, "b": TRUTH}, {"a": None, "b": "x"}, False),
        # A file of another server, beside a choice that is none.
        (["z.ckpt", 5], {"mode": MODE, "name": FILES, "a": INT}, {"name": "z.ckpt", "a": 5}, True),
        ([1.0], {"a": MODE, "b": INT}, {"b": 1.0}, True),
        ([True], {"a": INT, "b": TRUTH}, {"b": True}, True),
        ([2.5], {"a": INT, "b": FLOAT}, {"b": 2.5}, True),
    ],
)
def test_values_find_their_widgets(values: list[Any], inputs: Any, given: dict[str, Any], certain: bool) -> None:
    assert arranged(values, **inputs) == (given, certain)


def test_more_values_than_can_be_tried_stay_in_order() -> None:
    values: list[Any] = ["go", *range(400)]
    assert arranged(values, **{f"n{number}": INT for number in range(400)})[0]["n0"] == "go"


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ([5], "'Some' (node 1): values in the file: 1, widgets of the class: 2, given a=5, default b."),
        (
            ["x", 5, 6, 7],
            "'Some' (node 1): values in the file: 4, widgets of the class: 2, given a=5, b=6; they may be shifted.",
        ),
        (["x" * 50], None),
        ([], None),
        ([5, 6], None),
    ],
)
def test_a_doubt_is_told(values: list[Any], note: str | None) -> None:
    file = {"nodes": [node(1, "Some", values)], "links": [], "version": 0.4}
    notes = convert(file, {"Some": info(a=INT, b=INT)}).notes
    if note is not None:
        assert notes == [note]
    elif values != ["x" * 50]:
        assert notes == []
    else:
        assert "a='xxxx" in notes[0]
        assert len(notes[0]) < 160


def test_the_same_doubt_of_several_nodes_is_told_once() -> None:
    file = {"nodes": [node(number, "Some", [5]) for number in (1, 2, 3)], "links": [], "version": 0.4}
    (note,) = convert(file, {"Some": info(a=INT, b=INT)}).notes
    assert note.startswith("'Some' (node 1) and 2 more: ")
