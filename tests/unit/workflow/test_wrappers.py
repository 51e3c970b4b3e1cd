from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.errors import WorkflowError
from kandiflux.workflow.workflow import Workflow

API = {"1": {"class_type": "One", "inputs": {"a": 1}}}
EDITOR = {"nodes": [{"id": 1, "type": "One"}], "links": [], "version": 0.4}
QUEUED = [3, "id", API, {"extra_pnginfo": {"workflow": EDITOR}, "client_id": "x"}, ["1"]]


@pytest.mark.parametrize(
    ("data", "api", "editor"),
    [
        ({"input": {"workflow": API}}, True, False),
        ({"input": {"prompt": API, "images": []}}, True, False),
        ({"workflow": EDITOR}, False, True),
        ({"prompt": API, "workflow": EDITOR}, True, True),
        ({"prompt": "a fox", "workflow": EDITOR}, False, True),
        ({"prompt": json.dumps(API)}, True, False),
        ({"prompt": API, "extra_data": {"extra_pnginfo": {"workflow": EDITOR}}}, True, True),
        ({"extra_data": {"extra_pnginfo": {"workflow": EDITOR}}}, False, True),
        ({"output": API, "workflow": EDITOR}, True, True),
        (QUEUED, True, True),
        (QUEUED[:3], True, False),
        ({"id": {"prompt": QUEUED, "outputs": {}, "status": {}}}, True, True),
        ([EDITOR], False, True),
        ([API], True, False),
        ({**API, "_comment": "mine", "#id": {"v": 1}, "version": 1, "note": {"text": "x"}}, True, False),
        ({**API, "extra_data": {}, "workflow": EDITOR}, True, True),
    ],
)
def test_what_carries_a_workflow_is_unwrapped(data: Any, api: bool, editor: bool) -> None:
    found = Workflow.from_data(data)
    assert found.api == (API if api else None)
    assert found.editor == (EDITOR if editor else None)


def test_a_node_without_inputs_has_none() -> None:
    assert Workflow.from_data({"1": {"class_type": "One"}}).api == {"1": {"class_type": "One", "inputs": {}}}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"inputs": {}, "_meta": {"title": "Sampler"}}, r"node 2 \('Sampler'\) has no class_type"),
        ({"inputs": {}}, "node 2 has no class_type"),
        ("text", "node 2 is malformed"),
        ({"class_type": "One", "inputs": []}, r"the inputs of 'One' \(node 2\) is malformed"),
        ({"class_type": 5, "inputs": {}}, "the class_type of node 2 is malformed"),
    ],
)
def test_the_entry_that_is_wrong_is_named(entry: Any, said: str) -> None:
    with pytest.raises(WorkflowError, match=said):
        Workflow.from_data({**API, "2": entry})


def test_several_prompts_are_not_one() -> None:
    history = {key: {"prompt": QUEUED} for key in ("a", "b")}
    with pytest.raises(WorkflowError, match="has 2 workflows, not one"):
        Workflow.from_data(history)


@pytest.mark.parametrize("data", [None, 5, "x", [], {}, [1, 2, 3], {"prompt": "a fox"}, {"a": {"b": {"c": 1}}}])
def test_what_holds_none(data: Any) -> None:
    with pytest.raises(WorkflowError, match="is not a workflow"):
        Workflow.from_data(data)


def test_it_is_not_looked_for_without_end() -> None:
    data: Any = API
    for _ in range(50):
        data = {"prompt": data}
    with pytest.raises(WorkflowError, match="is not a workflow"):
        Workflow.from_data(data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"\xef\xbb\xbf\n <html>", "is a web page"),
        (b"PK\x03\x04" + bytes(30), "is a ZIP archive"),
        (b"\x1f\x8b\x08" + bytes(30), "is compressed with gzip"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"{,}", "is not valid JSON"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "noending"])
def test_other_files_are_told_as_what_they_are(content: bytes, said: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WorkflowError, match=said):
        Workflow.load(path)


def test_a_pointer_in_place_of_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WorkflowError, match="is a Git LFS pointer"):
        Workflow.load(path)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="is a folder") as caught:
        Workflow.load(tmp_path)
    assert caught.value.hint is None
    for number in range(7):
        (tmp_path / f"{number}.json").touch()
    with pytest.raises(WorkflowError, match=r"It has 0\.json, 1\.json, 2\.json, 3\.json, 4\.json and more"):
        Workflow.load(tmp_path)
