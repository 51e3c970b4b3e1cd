"""`check` finds what POST /prompt of a real ComfyUI refuses, and nothing else, in its own templates and blueprints."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from kandiflux import Client, Workflow
from kandiflux.errors import WorkflowError
from kandiflux.util.json_values import as_list, as_object
from kandiflux.workflow.validation.check import check

from tests.editor.test_templates_in_editor import templates
from tests.support.hosts import RunningHost

_MOST_MISSED = 0.01


@pytest.mark.skipif(not templates(), reason="no comfyui-workflow-templates-json beside ComfyUI")
def test_check_says_what_the_server_says_of_official_templates(comfy_host: RunningHost) -> None:
    said, extra, missed = 0, list[str](), list[str]()
    with Client(comfy_host.url) as client:
        info = client.object_info()
        for path in templates():
            try:
                workflow = Workflow.load(path)
            except WorkflowError:
                continue  # lists of templates stand beside them
            nodes = workflow.nodes(info)
            report = check(workflow, info, has_file=client.api.has_input)
            errors = refused(client, nodes)
            said += len(errors)
            # ComfyUI tells of one missing class only, and of nothing else then.
            found = {(one.node_id, _input(one.input_name)) for one in report.findings}
            if any(one.kind == "missing_node" for one in report.findings):
                found = {("", "missing_node_type")}
            elif any(one.kind == "no_output" for one in report.findings):
                found = {("", "prompt_no_outputs")}
            found_nodes, refused_nodes = ({node_id for node_id, _ in some} for some in (found, errors - named(errors)))
            extra += [f"{path.name}: {one}" for one in found - errors if one[0] not in refused_nodes]
            missed += [f"{path.name}: {one}" for one in named(errors) - found]
            missed += [f"{path.name}: {node_id}" for node_id in refused_nodes - found_nodes]
    assert said > 100
    assert extra == []
    assert len(missed) <= _MOST_MISSED * said, missed


def named(errors: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The errors with an input."""
    return {(node_id, name) for node_id, name in errors if name}


def refused(client: Client, nodes: Any) -> set[tuple[str, str]]:
    """Node and input of each error (no input: the class refuses it), or no node and the type of the whole's error."""
    prompt_id = str(uuid.uuid4())
    answer = client.api.post_prompt({"prompt": nodes, "prompt_id": prompt_id})
    if answer.status == 200:
        client.api.cancel_job(prompt_id)
    body = as_object(answer.body)
    found: set[tuple[str, str]] = set()
    for node_id, about in as_object(body.get("node_errors")).items():
        for error in map(as_object, as_list(as_object(about).get("errors"))):
            # What a class validates by itself is said of each of its inputs.
            own = error.get("type") == "custom_validation_failed"
            found.add((node_id, "" if own else _input(as_object(error.get("extra_info")).get("input_name"))))
    kind = as_object(body.get("error")).get("type")
    return found if found or kind is None else {("", str(kind))}


def _input(name: Any) -> str:
    """The input without what a dynamic one adds: `how` for `how.width`."""
    return str(name or "").partition(".")[0]
