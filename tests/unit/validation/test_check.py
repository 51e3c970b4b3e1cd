"""`kandiflux check`: what a server would refuse, and what is missing, is said before anything is sent."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.errors import InvalidPrompt, ParameterError, UsageError
from kandiflux.models.model_files import ModelFile, declared_models, why_unsafe
from kandiflux.models.model_folders import ModelFolders
from kandiflux.workflow.validation.check import Report, check
from kandiflux.workflow.validation.findings import Finding, Pack
from kandiflux.workflow.workflow import Workflow

from tests.support.checking_cases import OBJECT_INFO, api, node, only_problem
from tests.support.commands import RUNNER
from tests.support.file_server import serving
from tests.support.places import DATA

# Files


def test_a_missing_checkpoint_has_its_source_from_the_workflow() -> None:
    workflow = editor(values=["flux1-dev.safetensors"], models=[{
        "name": "flux1-dev.safetensors", "directory": "checkpoints", "hash": "AB" * 32, "hash_type": "SHA256",
        "url": "https://huggingface.co/a/b/blob/main/flux1-dev.safetensors",
    }])  # fmt: skip
    (finding,) = check(workflow, OBJECT_INFO).findings
    assert finding.kind == "missing_model"
    assert finding.models == (
        ModelFile(
            "flux1-dev.safetensors",
            "checkpoints",
            "https://huggingface.co/a/b/resolve/main/flux1-dev.safetensors",
            "ab" * 32,
        ),
    )


def test_a_missing_checkpoint_that_is_widely_known_needs_no_source_in_the_workflow() -> None:
    (finding,) = check(editor(values=["flux1-dev-fp8.safetensors"]), OBJECT_INFO).findings
    (model,) = finding.models
    assert model.directory == "checkpoints"
    assert model.size == 17246524772
    assert str(model.url).startswith("https://huggingface.co/Comfy-Org/flux1-dev/")


def test_a_missing_checkpoint_nobody_knows() -> None:
    (finding,) = check(editor(values=["dreamshaper_9.safetensors"]), OBJECT_INFO).findings
    assert finding.kind == "missing_model"
    assert "Put it into models/checkpoints" in str(finding.hint)
    assert "'dreamshaper_8.safetensors'" in str(finding.hint)


@pytest.mark.parametrize("value", ["base.safetensors", "SDXL\\base.safetensors", "xl/base.safetensors"])
def test_a_file_that_the_server_has_in_another_folder(value: str) -> None:
    workflow = editor(values=[value])
    report = check(workflow, OBJECT_INFO)
    assert report.findings == ()
    (note,) = report.notes
    assert note.said == f"ckpt_name is 'SDXL/base.safetensors' on the server, which is used: got {value!r}"
    prompt = workflow.prompt(OBJECT_INFO)
    assert prompt.nodes["1"]["inputs"]["ckpt_name"] == "SDXL/base.safetensors"
    assert prompt.workflow is not None
    assert prompt.workflow["nodes"][0]["widgets_values"] == ["SDXL/base.safetensors"]
    assert [note.said in one for one in prompt.notes] == [True]


def test_a_file_on_the_disk_settles_it_for_a_saved_object_info(tmp_path: Path) -> None:
    place = tmp_path / "models" / "checkpoints"
    place.mkdir(parents=True)
    workflow, folders = editor(values=["mine.safetensors"]), ModelFolders(tmp_path)
    assert len(check(workflow, OBJECT_INFO, folders=folders, live=False).findings) == 1
    (place / "mine.safetensors").write_bytes(b"x")
    assert check(workflow, OBJECT_INFO, folders=folders, live=False).findings == ()
    (finding,) = check(workflow, OBJECT_INFO, folders=folders, live=True).findings
    assert "restart" in str(finding.hint)


def test_a_picture_that_is_not_in_the_input_folder() -> None:
    nodes = {
        "1": node("LoadImage", "Picture", image="mine.png"),
        "2": node("SaveImage", "Save", images=["1", 0], filename_prefix="x"),
    }
    finding = only_problem(nodes)
    assert (finding.kind, finding.title) == ("missing_file", "Picture")
    assert "Set 1.image to a file on this machine" in str(finding.hint)
    for elsewhere in ("clipspace/a.png [input]", "a.png [output]", "sub/a.png"):
        nodes["1"]["inputs"]["image"] = elsewhere
        assert only_problem(nodes).is_note


def test_an_embedding_that_a_prompt_names() -> None:
    nodes = api()
    nodes["3"]["inputs"]["text"] = "(embedding:EasyNegative:1.2), embedding:here.pt"
    workflow = Workflow.from_data(nodes)
    assert check(workflow, OBJECT_INFO).findings == ()
    (finding,) = check(workflow, OBJECT_INFO, embeddings=["here"]).findings
    assert (finding.title, finding.input_name) == ("Negative", "text")
    assert "'EasyNegative'" in str(finding)
    assert check(workflow, OBJECT_INFO, embeddings=["here", "EasyNegative"]).findings == ()


def test_an_embedding_that_lies_on_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embeddings" / "sub"
    folder.mkdir(parents=True)
    nodes = api()
    nodes["3"]["inputs"]["text"] = "embedding:sub/Mine, embedding:Other"
    workflow, folders = Workflow.from_data(nodes), ModelFolders(tmp_path)
    said = [finding.message for finding in check(workflow, OBJECT_INFO, folders=folders).findings]
    assert said == [f"uses the embedding {name!r}, which is missing" for name in ("sub/Mine", "Other")]
    (folder / "Mine.pt").touch()
    (finding,) = check(workflow, OBJECT_INFO, folders=folders).findings
    assert finding.models == (ModelFile("Other.safetensors", "embeddings"),)
    assert finding.hint == "Put it into models/embeddings, or remove it from the text."
    assert check(workflow, OBJECT_INFO, folders=folders, embeddings=["Other"]).findings == ()
    (finding,) = check(workflow, OBJECT_INFO, embeddings=["sub\\Mine"]).findings
    assert "'Other'" in finding.message


def test_an_embedding_that_the_workflow_says_the_source_of() -> None:
    about = {"name": "Mine.pt", "directory": "embeddings", "url": "https://a/b"}
    text = {"id": 1, "type": "CLIPTextEncode", "title": "Words", "widgets_values": ["embedding:Mine"],
            "outputs": [{"name": "C", "type": "CONDITIONING", "links": [1]}]}  # fmt: skip
    shown = {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]}
    for of_node, of_file in (([about], []), ([], [about])):
        node_of = {**text, "properties": {"models": of_node}}
        data = {"nodes": [node_of, shown], "links": [[1, 1, 0, 2, 0, "*"]], "models": of_file}
        findings = check(Workflow.from_data(data), OBJECT_INFO, embeddings=[]).findings
        (finding,) = [one for one in findings if one.kind == "missing_model"]
        assert (finding.title, finding.input_name) == ("Words", "text")
        assert (finding.models, finding.hint) == (
            (ModelFile("Mine.pt", "embeddings", "https://a/b"),), "Get it with `kandiflux models pull`.",
        )  # fmt: skip


def test_of_several_missing_files_those_on_the_disk_are_left_out(tmp_path: Path) -> None:
    """As with a published folder, of which each file is named."""
    models = [{"name": f"sub/{name}", "directory": "checkpoints", "url": "https://a/b"} for name in ("a.pt", "b.pt")]
    workflow, folders = editor(values=["sub"], models=models), ModelFolders(_comfyui(tmp_path))
    (finding,) = check(workflow, OBJECT_INFO, folders=folders, live=False).findings
    assert [model.name for model in finding.models] == ["sub/a.pt", "sub/b.pt"]
    place = tmp_path / "models" / "checkpoints" / "sub"
    place.mkdir(parents=True)
    (place / "a.pt").touch()
    report = check(workflow, OBJECT_INFO, folders=folders, live=False)
    assert [model.name for model in report.models] == ["sub/b.pt"]
    (place / "b.pt").touch()
    (finding,) = check(workflow, OBJECT_INFO, folders=folders).findings
    listed = f"{place / 'a.pt'}, {place / 'b.pt'}"
    assert finding.hint == (
        f"The file is on this machine: {listed}. If the server is the ComfyUI of that folder, restart it."
    )
    assert finding.models == ()


def _comfyui(folder: Path) -> Path:
    (folder / "models").mkdir()
    return folder


@pytest.mark.parametrize("live", [True, False])
def test_what_lies_on_the_disk_settles_nothing_else(tmp_path: Path, live: bool) -> None:
    nodes = api()
    nodes["5"]["inputs"]["steps"] = 0
    folders = ModelFolders(_comfyui(tmp_path))
    found = check(Workflow.from_data(nodes), OBJECT_INFO, folders=folders, live=live).findings
    assert [finding.kind for finding in found] == ["out_of_range"]


def test_sizes_are_asked_for_once_and_only_if_they_are_not_known() -> None:
    known = ModelFile("known.pt", "loras", "https://a/known", size=5)
    unknown, sourceless = ModelFile("x.pt", "loras", "https://a/x"), ModelFile("y.pt", "loras")
    asked: list[str] = []

    def size_of(model: ModelFile) -> int | None:
        asked.append(model.name)
        return 7

    findings = [
        Finding("missing_model", "gone", models=(known, unknown)),
        Finding("missing_model", "gone", models=(unknown, sourceless)),
    ]
    report = Report(tuple(findings)).with_sizes(size_of)
    assert asked == ["x.pt"]
    assert [(model.name, model.size) for model in report.models] == [("known.pt", 5), ("x.pt", 7), ("y.pt", None)]


@pytest.mark.parametrize("version", [None, ""])
def test_without_a_version_nothing_is_too_old(version: str | None) -> None:
    workflow = editor(["dreamshaper_8.safetensors"])
    assert workflow.editor is not None
    needy = Workflow.from_data({**workflow.editor, "extra": {"kandiflux": {"needs": {"comfyui": ">=99"}}}})
    assert check(needy, OBJECT_INFO, comfyui_version=version).findings == ()


def test_a_folder_that_is_converted_and_not_downloaded() -> None:
    (finding,) = check(editor(values=["kandinsky-3-flash"]), OBJECT_INFO).findings
    assert finding.kind == "missing_model"
    assert str(finding.hint).startswith("Convert it from the original weights with `kandiflux models convert`")
    assert finding.models == (ModelFile("kandinsky-3-flash", "kandinsky"),)


def test_a_file_that_another_node_or_the_top_of_the_file_declares() -> None:
    about = {"name": "mine.safetensors", "directory": "checkpoints", "url": "https://a/b", "size": 5}
    workflow = editor(values=["mine.safetensors"])
    assert workflow.editor is not None
    other = {"id": 7, "type": "CheckpointLoaderSimple", "widgets_values": ["dreamshaper_8.safetensors"],
             "properties": {"models": [about]}}  # fmt: skip
    for data in ({"models": [about]}, {"nodes": [*workflow.editor["nodes"], other]}):
        (finding,) = check(Workflow.from_data({**workflow.editor, **data}), OBJECT_INFO).findings
        assert finding.models == (ModelFile("mine.safetensors", "checkpoints", "https://a/b", size=5),)
        assert str(finding.hint).startswith("Get it with `kandiflux models pull`.")


def test_a_declared_file_without_a_folder_gets_its_loaders() -> None:
    about = {"name": "mine.safetensors", "url": "https://a/b"}
    (finding,) = check(
        editor(values=["mine.safetensors"], models=[about, {**about, "url": "https://c/d"}]), OBJECT_INFO
    ).findings
    assert finding.models == (ModelFile("mine.safetensors", "checkpoints", "https://a/b"),)


# Nodes in the editor's file


def editor(values: list[Any], models: list[dict[str, Any]] | None = None, **changes: Any) -> Workflow:
    """A loader whose MODEL goes to a class that shows it."""
    loader = {"id": 1, "type": "CheckpointLoaderSimple", "title": "Base", "widgets_values": values,
              "outputs": [{"name": "MODEL", "type": "MODEL", "links": [1]}],
              "properties": {"models": models or []}, **changes}  # fmt: skip
    shown = {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]}
    return Workflow.from_data({"nodes": [loader, shown], "links": [[1, 1, 0, 2, 0, "*"]]})


@pytest.fixture(autouse=True)
def _models_can_be_saved_as_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two nodes make a whole workflow."""
    monkeypatch.setitem(OBJECT_INFO, "SaveImage", copy.deepcopy(OBJECT_INFO["SaveImage"]))
    OBJECT_INFO["SaveImage"]["input"]["required"]["images"] = ["IMAGE,MODEL"]


@pytest.mark.parametrize("mode", [2, 4])
def test_muted_and_bypassed_nodes_are_no_findings_but_what_they_fed_is(mode: int) -> None:
    (finding,) = check(editor(["gone.safetensors"], mode=mode), OBJECT_INFO).findings
    assert (finding.kind, finding.node_id, finding.input_name) == ("not_connected", "2", "images")
    assert finding.hint == "Unmute 'Base', which is linked to it, or connect another node."


def test_the_pack_of_a_missing_class() -> None:
    pack = {"cnr_id": "comfyui-riddles", "aux_id": "sphinx/ComfyUI-Riddles", "ver": "1.2.0"}
    (finding,) = check(editor([], type="Riddle", properties=pack), OBJECT_INFO).findings
    assert finding.kind == "missing_node"
    assert finding.as_dict()["pack"] == {
        "name": "comfyui-riddles",
        "version": "1.2.0",
        "repository": "sphinx/ComfyUI-Riddles",
        "source": "file",
    }
    assert "Install the pack comfyui-riddles, version 1.2.0 (https://github.com/sphinx/ComfyUI-Riddles)" in str(finding)


def test_a_pack_that_the_file_does_not_name_is_asked_of_the_servers_manager() -> None:
    asked: list[bool] = []

    def node_map() -> dict[str, Any] | None:
        asked.append(True)
        return {"riddles": [["Riddle"], {}]}

    (finding,) = check(editor([], type="Riddle"), OBJECT_INFO, node_map=node_map).findings
    assert finding.pack == Pack("riddles", source="manager")
    named = editor([], type="Riddle", properties={"cnr_id": "sphinx"})
    assert check(named, OBJECT_INFO, node_map=node_map).packs[0].pack == Pack("sphinx")
    assert check(editor(["dreamshaper_8.safetensors"]), OBJECT_INFO, node_map=node_map).packs == ()
    assert len(asked) == 1


def test_run_says_which_packs_to_install_in_one_line_each() -> None:
    nodes = {str(number): node("VHS_VideoCombine", f"Video {number}") for number in range(40)}
    nodes |= {"x": node("FaceDetailer", "Face"), "y": node("FaceDetailerPipe", "Pipe"), "z": node("Riddle", "Lost")}
    with pytest.raises(InvalidPrompt) as caught:
        Workflow.from_data(nodes).prompt(OBJECT_INFO)
    assert [problem.title for problem in caught.value.problems] == ["Video 0", "Face", "Lost"]
    assert caught.value.hint == ("Install 2 packs: ComfyUI-VideoHelperSuite (40 nodes), ComfyUI-Impact-Pack (2 nodes).")
    with pytest.raises(InvalidPrompt, match=r"template video_kandinsky5_t2v\."):
        Workflow.from_data({"1": node("KandinskyV5_Loader", "Load")}).prompt(OBJECT_INFO)


def test_an_older_kandinsky_packs_workflow_is_told_which_of_ours_does_the_same() -> None:
    report = check(editor([], type="comfy-kandinsky22-hint-combiner"), OBJECT_INFO)
    assert [note.kind for note in report.notes] == ["same_without_pack"]
    assert "kandiflux run kandinsky22_depth" in report.notes[0].message


def test_a_workflow_that_is_muted_says_that_it_is() -> None:
    muted = Workflow.from_data({"nodes": [{"id": 2, "type": "SaveImage", "mode": 2}], "links": []})
    (finding,) = check(muted, OBJECT_INFO).findings
    assert (finding.kind, finding.said) == (
        "no_output", "Nothing runs: 1 of 1 nodes are muted or bypassed, the rest is not sent",
    )  # fmt: skip


def test_what_the_conversion_could_not_decide_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = editor(["dreamshaper_8.safetensors"])
    conversion = workflow.converted(OBJECT_INFO)
    conversion = replace(conversion, notes=[*conversion.notes, "The values of 'Sampler' may be shifted."])
    monkeypatch.setattr(Workflow, "converted", lambda self, object_info: conversion)
    notes = check(workflow, OBJECT_INFO).notes
    assert [(note.kind, str(note)) for note in notes] == [("conversion", "The values of 'Sampler' may be shifted.")]


def test_the_version_of_a_pack_may_stand_at_the_top() -> None:
    workflow = editor([], type="Riddle", properties={"cnr_id": "comfy-core"})
    assert workflow.editor is not None
    data = {**workflow.editor, "extra": {"node_versions": {"comfy-core": "0.9.1"}}}
    (finding,) = check(Workflow.from_data(data), OBJECT_INFO).findings
    assert "built-in node of ComfyUI (the file was made with 0.9.1): update ComfyUI" in str(finding)


@pytest.mark.parametrize(
    ("properties", "pack"),
    [
        ({"aux_id": "sphinx/ComfyUI-Riddles"}, Pack("ComfyUI-Riddles", None, "sphinx/ComfyUI-Riddles")),
        ({"aux_id": "riddles"}, Pack("riddles", None, "riddles")),
        ({"cnr_id": "riddles"}, Pack("riddles", "7")),
        ({"cnr_id": "riddles", "ver": "1.2"}, Pack("riddles", "1.2")),
        ({"cnr_id": " ", "aux_id": 5, "ver": "1.2"}, None),
    ],
)
def test_what_a_file_says_of_a_pack(properties: dict[str, Any], pack: Pack | None) -> None:
    workflow = editor([], type="Riddle", properties=properties)
    assert workflow.editor is not None
    data = {**workflow.editor, "extra": {"node_versions": {"riddles": "7"} if "cnr_id" in properties else {}}}
    (finding,) = check(Workflow.from_data(data), OBJECT_INFO).findings
    assert finding.pack == pack


def test_a_node_in_a_subgraph_is_named_with_the_titles_around_it() -> None:
    inner = {"id": 5, "type": "CheckpointLoaderSimple", "title": "Inner", "widgets_values": ["gone.safetensors"],
             "outputs": [{"name": "MODEL", "type": "MODEL", "links": [1]}]}  # fmt: skip
    definition = {
        "id": "aaaa", "name": "Loading", "nodes": [inner], "inputs": [], "outputs": [{"name": "m", "type": "MODEL"}],
        "links": [{"id": 1, "origin_id": 5, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "MODEL"}],
    }  # fmt: skip
    data = {
        "nodes": [
            {"id": 1, "type": "aaaa", "title": "Outer", "outputs": [{"name": "m", "type": "MODEL", "links": [9]}]},
            {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE", "link": 9}]},
        ],
        "links": [[9, 1, 0, 2, 0, "MODEL"]],
        "definitions": {"subgraphs": [definition]},
    }
    (finding,) = check(Workflow.from_data(data), OBJECT_INFO).findings
    assert (finding.title, finding.node_id) == ("Outer / Inner", "1:5")


def test_a_comfyui_that_is_too_old() -> None:
    workflow = editor(["dreamshaper_8.safetensors"])
    assert workflow.editor is not None
    needy = Workflow.from_data({**workflow.editor, "extra": {"kandiflux": {"needs": {"comfyui": ">=0.3.60"}}}})
    assert check(needy, OBJECT_INFO, comfyui_version="0.3.64").findings == ()
    (finding,) = check(needy, OBJECT_INFO, comfyui_version="0.3.9").findings
    assert (finding.kind, finding.expected, finding.got) == ("too_old", "0.3.60 or newer", "0.3.9")


# Before a run


def test_run_refuses_what_check_finds_unless_told_not_to() -> None:
    nodes = api()
    nodes["5"]["inputs"]["steps"] = 0
    workflow = Workflow.from_data(nodes)
    with pytest.raises(InvalidPrompt, match=r"'Sampler' \(node 5, KSampler\): steps is out of range") as caught:
        workflow.prompt(OBJECT_INFO)
    assert len(caught.value.problems) == 1
    assert workflow.prompt(OBJECT_INFO, check=False).nodes["5"]["inputs"]["steps"] == 0
    assert workflow.prompt(OBJECT_INFO, {"Sampler.steps": 4}).nodes["5"]["inputs"]["steps"] == 4


def test_a_picture_that_was_uploaded_just_now_is_in_no_list_yet(tmp_path: Path) -> None:
    nodes = {
        "1": node("LoadImage", "Picture", image="gone.png"),
        "2": node("SaveImage", "Save", images=["1", 0], filename_prefix="x"),
    }
    picture = tmp_path / "mine.png"
    picture.touch()
    prompt = Workflow.from_data(nodes).prompt(OBJECT_INFO, {"Picture.image": picture}, upload=lambda _: "mine (1).png")
    assert prompt.nodes["1"]["inputs"]["image"] == "mine (1).png"


def test_nothing_is_uploaded_for_a_workflow_that_is_refused(tmp_path: Path) -> None:
    info = copy.deepcopy(OBJECT_INFO)
    info["Blur"]["output"] = ["IMAGE"]
    nodes = {
        "1": node("LoadImage", "Picture", image="example.png"),
        "2": node("Blur", "Soft", image=["1", 0], mask=["1", 1], radius=99),
        "3": node("SaveImage", "Save", images=["2", 0], filename_prefix="x"),
    }
    picture = tmp_path / "mine.png"
    picture.touch()
    sent: list[Path] = []

    def upload(path: Path) -> str:
        sent.append(path)
        return "mine.png"

    workflow = Workflow.from_data(nodes)
    with pytest.raises(InvalidPrompt, match="radius is out of range"):
        workflow.prompt(info, {"Picture.image": picture}, upload=upload)
    assert sent == []
    assert workflow.prompt(info, {"Picture.image": picture, "2.radius": 3}, upload=upload).values == {
        "Picture.image": "mine.png",
        "2.radius": 3,
    }
    assert sent == [picture]


def test_every_input_that_a_parameter_sets_must_take_the_value() -> None:
    data = json.loads((DATA / "empty_image.json").read_text("utf-8"))
    data["extra"]["kandiflux"]["parameters"]["both"] = {"nodes": [[1, "width"], [1, "batch_size"]]}
    with pytest.raises(ParameterError, match=r"both \('Canvas', batch_size\) is out of range"):
        Workflow.from_data(data).prompt(OBJECT_INFO, {"both": 5000})


# The command


def run_check(tmp_path: Path, nodes: dict[str, Any], *options: str) -> Any:
    (tmp_path / "w.json").write_text(json.dumps(nodes))
    (tmp_path / "info.json").write_text(json.dumps(OBJECT_INFO))
    return RUNNER.invoke(
        app, ["check", str(tmp_path / "w.json"), "--object-info", str(tmp_path / "info.json"), *options]
    )


def test_the_command_is_silent_on_standard_output_when_all_is_well(tmp_path: Path) -> None:
    shown = run_check(tmp_path, api())
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "nothing is missing" in shown.stderr


def test_the_command_lists_each_finding_and_exits_with_2(tmp_path: Path) -> None:
    nodes = api()
    nodes["5"]["inputs"] |= {"steps": 0, "sampler_name": "eular"}
    shown = run_check(tmp_path, nodes)
    assert shown.exit_code == 2
    head, *rows = [line.split("\t") for line in shown.stdout.splitlines()]
    assert head == ["what", "node", "input", "problem", "to do"]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("out of range", "Sampler (5, KSampler)", "steps"),
        ("not in list", "Sampler (5, KSampler)", "sampler_name"),
    ]


def test_the_command_says_the_same_as_json(tmp_path: Path) -> None:
    nodes = api()
    nodes["1"]["inputs"]["ckpt_name"] = "flux1-dev-fp8.safetensors"
    shown = run_check(tmp_path, nodes, "--json")
    assert shown.exit_code == 2
    answer = json.loads(shown.stdout)
    assert answer["ok"] is False
    (finding,) = answer["findings"]
    assert (finding["kind"], finding["title"], finding["input_name"]) == ("missing_model", "Checkpoint", "ckpt_name")
    assert finding["models"][0]["hash"].startswith("8e91b680")


def test_the_command_lists_missing_files_with_what_is_known_of_them(tmp_path: Path) -> None:
    nodes = api()
    nodes["1"]["inputs"]["ckpt_name"] = "flux1-dev-fp8.safetensors"
    shown = run_check(tmp_path, nodes)
    _, files = shown.stdout.split("\n\n")
    head, row = (line.split("\t") for line in files.splitlines())
    assert head == ["file", "folder", "size", "hash", "from"]
    assert row[:3] == ["flux1-dev-fp8.safetensors", "models/checkpoints", "17.2 GB"]
    assert row[3].startswith("sha256 8e91b680")
    assert row[4].startswith("https://huggingface.co/")
    assert "downloads 1 of the files: 17.2 GB." in shown.stderr


def test_sizes_that_are_not_known_are_asked_for_on_request(tmp_path: Path) -> None:
    workflow = editor(["mine.pt"], [])
    with serving() as server:
        about = {"name": "mine.pt", "directory": "checkpoints", "url": server.add("/mine", b"x" * 1234)}
        gone = {"name": "gone.pt", "directory": "checkpoints", "url": f"{server.url}/gone"}
        assert workflow.editor is not None
        data = {**workflow.editor, "models": [about, gone]}
        (tmp_path / "w.json").write_text(json.dumps(data))
        (tmp_path / "info.json").write_text(json.dumps(OBJECT_INFO))
        command = ["check", str(tmp_path / "w.json"), "--object-info", str(tmp_path / "info.json"), "--json"]
        assert "size" not in json.loads(RUNNER.invoke(app, command).stdout)["findings"][0]["models"][0]
        assert server.requests == []
        shown = json.loads(RUNNER.invoke(app, [*command, "--sizes"]).stdout)
    assert shown["findings"][0]["models"][0]["size"] == 1234


def test_help_of_the_command() -> None:
    shown = RUNNER.invoke(app, ["check", "--help"])
    assert shown.exit_code == 0
    assert "kandiflux check" in shown.output
    assert "Example" in shown.output


def test_a_server_that_is_not_there_is_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps(api()))
    shown = RUNNER.invoke(app, ["check", str(tmp_path / "w.json"), "--server", "127.0.0.1:9"])
    assert shown.exit_code == 3


# What a workflow may make us write


@pytest.mark.parametrize(
    ("name", "directory", "url"),
    [
        ("../x.safetensors", "loras", "https://a/b"),
        ("..", "loras", "https://a/b"),
        (".hidden", "loras", "https://a/b"),
        ("c:x.safetensors", "loras", "https://a/b"),
        ("nul.safetensors", "loras", "https://a/b"),
        ("x.safetensors", "../custom_nodes", "https://a/b"),
        ("x.safetensors", "/etc", "https://a/b"),
        ("x.safetensors", "..", "https://a/b"),
        ("x.safetensors", "", "https://a/b"),
        ("x.safetensors", "loras", "file:///etc/passwd"),
        ("x.safetensors", "loras", "ftp://a/b"),
        ("a/../../x", "kandinsky", "https://a/b"),
        ("/x", "kandinsky", "https://a/b"),
    ],
)
def test_a_workflow_cannot_name_a_place_outside_the_model_folders(name: str, directory: str, url: str) -> None:
    (model,) = declared_models([{"name": name, "directory": directory, "url": url}])
    assert why_unsafe(model)


def test_only_published_folders_have_folders_in_them() -> None:
    assert why_unsafe(ModelFile("kandinsky-3/unet/a.safetensors", "kandinsky", "https://a/b")) is None
    assert why_unsafe(ModelFile("x.safetensors", "loras", "https://a/b")) is None


def test_a_models_list_of_any_form_is_read_without_a_fall() -> None:
    for odd in (None, 5, "x", {}, [None], [{}], [{"name": 5}], [{"name": "a", "size": "big", "hash": 7, "url": []}]):
        assert isinstance(declared_models(odd), list)


# Folders


def test_folders_of_extra_model_paths(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    comfyui = tmp_path / "ComfyUI"
    (comfyui / "models").mkdir(parents=True)
    (tmp_path / "webui" / "more" / "Lora").mkdir(parents=True)
    (tmp_path / "webui" / "more" / "Lora" / "a.safetensors").touch()
    (comfyui / "extra_model_paths.yaml").write_text(
        f"a1111:\n  base_path: {tmp_path / 'webui'}\n  loras: |\n    models/Lora\n    more/Lora\n  clip: te\n"
        f"main:\n  base_path: big\n  is_default: true\n  checkpoints: ckpt\nempty:\n"
    )
    folders = ModelFolders(comfyui)
    assert folders.find(ModelFile("a.safetensors", "loras")) == tmp_path / "webui" / "more" / "Lora" / "a.safetensors"
    assert folders.target(ModelFile("b.safetensors", "loras")) == comfyui / "models" / "loras" / "b.safetensors"
    assert folders.target(ModelFile("c.safetensors", "checkpoints")) == comfyui / "big" / "ckpt" / "c.safetensors"
    assert (
        folders.target(ModelFile("d.safetensors", "unet")) == comfyui / "models" / "diffusion_models" / "d.safetensors"
    )
    assert tmp_path / "webui" / "te" in folders.places("text_encoders")


def test_a_folder_that_is_no_comfyui(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a ComfyUI folder"):
        ModelFolders(tmp_path / "nowhere")
