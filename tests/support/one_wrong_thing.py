"""Shipped workflows with one thing wrong in them, and what has to be said of it: once, by title and widget.

test_one_wrong_thing.py in tests/lite and in tests/host hold every workflow to it, with what those hosts know of nodes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from kandiflux import Workflow
from kandiflux.errors import InvalidPrompt, ParameterError
from kandiflux.workflow.editor_format.inputs import input_specs
from kandiflux.workflow.editor_format.writeback import write_back
from kandiflux.workflow.validation.check import check
from kandiflux.workflow.validation.problems import find_problems

__all__ = ["Broken", "breakages", "require_one_message", "require_one_message_on_setting", "with_every_file"]


@dataclass(frozen=True)
class Broken:
    """`editor`, a file in which `input_name` of the node `title` is wrong in the way `how`."""

    how: str
    editor: dict[str, Any]
    node_id: str
    title: str
    input_name: str | None


def with_every_file(workflow: Workflow, object_info: Mapping[str, Any]) -> dict[str, Any]:
    """The same nodes on a server that has every model and picture the workflow names."""
    full = dict(object_info)
    nodes = workflow.nodes(object_info)
    for finding in find_problems(nodes, object_info, workflow.editor):
        if finding.kind in ("missing_model", "missing_file") and finding.input_name:
            full[finding.class_type] = about = copy.deepcopy(full[finding.class_type])
            value = nodes[finding.node_id]["inputs"][finding.input_name]
            for group in about["input"].values():
                declared = group.get(finding.input_name)
                if declared:
                    choices = declared[0] if isinstance(declared[0], list) else declared[1]["options"]
                    choices.append(value)
    return full


def breakages(workflow: Workflow, object_info: Mapping[str, Any]) -> Iterator[Broken]:
    """Each way of going wrong, once a workflow, at the last place that has what it takes."""
    nodes = workflow.nodes(object_info)
    for how, fits, wrong in _VALUES:
        found = None
        for node_id, node in nodes.items():
            for name, spec in input_specs(object_info[node["class_type"]]).items():
                if name in node["inputs"] and not isinstance(node["inputs"][name], list) and fits(spec):
                    found = node_id, name, wrong(spec)
        if found is not None:
            node_id, name, value = found
            editor = _copy(workflow)
            write_back(editor, object_info, [(node_id, name)], value)
            yield Broken(how, editor, node_id, nodes[node_id]["_meta"]["title"], name)
    yield _without_a_link(workflow, object_info)
    yield _of_no_class(workflow, nodes)


_VALUES = (
    ("too large", lambda spec: "max" in spec.options, lambda spec: spec.options["max"] * 2 + 1),
    ("too small", lambda spec: "min" in spec.options, lambda spec: spec.options["min"] - 1),
    ("no number", lambda spec: spec.type in ("INT", "FLOAT"), lambda _: "many"),
    ("no value", lambda spec: spec.type in ("INT", "FLOAT"), lambda _: None),
    ("no choice", lambda spec: bool(spec.choices) and not spec.takes_file, lambda _: "no such choice"),
    ("no file", lambda spec: spec.takes_file, lambda _: "no_such_picture.png"),
)


def _without_a_link(workflow: Workflow, object_info: Mapping[str, Any]) -> Broken:
    editor, nodes = _copy(workflow), workflow.nodes(object_info)
    for node in reversed(editor["nodes"]):
        class_info = object_info.get(node["type"])
        for declared in node.get("inputs") or () if class_info and str(node["id"]) in nodes else ():
            spec = input_specs(class_info or {}).get(declared["name"])
            if declared.get("link") is not None and spec is not None and spec.required and not spec.is_value:
                editor["links"] = [link for link in editor["links"] if link[0] != declared["link"]]
                declared["link"] = None
                node_id = str(node["id"])
                return Broken("no link", editor, node_id, nodes[node_id]["_meta"]["title"], spec.name)
    raise AssertionError(f"{workflow.name} has no link to remove")


def _of_no_class(workflow: Workflow, nodes: Mapping[str, Mapping[str, Any]]) -> Broken:
    editor = _copy(workflow)
    node = next(node for node in reversed(editor["nodes"]) if str(node["id"]) in nodes)
    node["type"], node["title"] = "NobodyHasThis", "Riddle"
    return Broken("no class", editor, str(node["id"]), "Riddle", None)


def _copy(workflow: Workflow) -> dict[str, Any]:
    return copy.deepcopy(dict(workflow.editor or {}))


def require_one_message(broken: Broken, object_info: Mapping[str, Any]) -> None:
    """`check` and the preparation of a run each say it once, and name the node and the widget."""
    workflow = Workflow.from_data(broken.editor)
    (finding,) = check(workflow, object_info).findings
    assert (finding.title, finding.node_id, finding.input_name) == (broken.title, broken.node_id, broken.input_name)
    assert finding.message
    assert finding.hint or finding.expected
    with pytest.raises(InvalidPrompt) as refused:
        workflow.prompt(object_info)
    (problem,) = refused.value.problems
    assert (problem.title, problem.input_name) == (broken.title, broken.input_name)
    said = str(refused.value)
    assert said.count(repr(broken.title)) == 1
    assert broken.input_name is None or broken.input_name in said
    assert "Traceback" not in said


def require_one_message_on_setting(workflow: Workflow, object_info: Mapping[str, Any]) -> None:
    """Each parameter of the workflow, set to what it cannot be; and names that are not quite one."""
    for info in workflow.describe(object_info):
        wrong = {"INT": "many", "FLOAT": "nan", "BOOLEAN": "perhaps", "COMBO": "no such choice"}.get(info.type, 5)
        with pytest.raises(ParameterError) as refused:
            workflow.prompt(object_info, {info.name: wrong})
        node_id, input_name = workflow.declared[info.name].targets[0]
        title = workflow.nodes(object_info)[node_id]["_meta"]["title"]
        assert f"{info.name} ({title!r}, {input_name})" in str(refused.value)
        assert refused.value.expected
        with pytest.raises(ParameterError, match=f"Did you mean '{info.name}'"):
            workflow.prompt(object_info, {f"{info.name}x": 1})
    node_id, node = next(iter(workflow.nodes(object_info).items()))
    with pytest.raises(ParameterError, match="has no input 'nonsense'") as refused:
        workflow.prompt(object_info, {f"{node_id}.nonsense": 1})
    assert repr(node["_meta"]["title"]) in str(refused.value)
