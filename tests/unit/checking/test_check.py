"""`kandiflux check`: what a server would refuse, and what is missing, is said before anything is sent."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.checking.check import check
from kandiflux.checking.findings import Finding
from kandiflux.checking.problems import find_problems
from kandiflux.cli import app
from kandiflux.errors import InvalidPrompt, ParameterError, UsageError
from kandiflux.weights.model_files import ModelFile, declared_models, why_unsafe
from kandiflux.weights.model_folders import ModelFolders
from kandiflux.workflow import Workflow
from typer.testing import CliRunner

from tests.support.file_server import serving
from tests.support.places import DATA

OBJECT_INFO: dict[str, Any] = json.loads((DATA / "object_info.json").read_text("utf-8")) | {
    "CheckpointLoaderSimple": {
        "display_name": "Load Checkpoint",
        "output": ["MODEL", "CLIP", "VAE"],
        "input": {"required": {"ckpt_name": [["dreamshaper_8.safetensors", "SDXL/base.safetensors"]]}},
    },
    "EmptyLatentImage": {
        "display_name": "Empty Latent Image",
        "output": ["LATENT"],
        "input": {"required": {"width": ["INT", {"default": 512, "min": 16, "max": 16384, "step": 8}]}},
    },
    "VAEDecode": {
        "display_name": "VAE Decode",
        "output": ["IMAGE"],
        "input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}},
    },
}
OBJECT_INFO["KSampler"]["output"] = ["LATENT"]
OBJECT_INFO["CLIPTextEncode"]["output"] = ["CONDITIONING"]
OBJECT_INFO["LoadImage"]["output"] = ["IMAGE", "MASK"]
OBJECT_INFO["SaveImage"]["output"] = []
RUNNER = CliRunner()


def api() -> dict[str, dict[str, Any]]:
    """A whole picture from a prompt, as the server would run it."""
    return {
        "1": node("CheckpointLoaderSimple", "Checkpoint", ckpt_name="dreamshaper_8.safetensors"),
        "2": node("CLIPTextEncode", "Positive", text="a fox", clip=["1", 1]),
        "3": node("CLIPTextEncode", "Negative", text="", clip=["1", 1]),
        "4": node("EmptyLatentImage", "Size", width=512),
        "5": node(
            "KSampler", "Sampler", model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0], seed=1,
            steps=20, cfg=8.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        ),
        "6": node("VAEDecode", "Decode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", "Save", images=["6", 0], filename_prefix="x"),
    }  # fmt: skip


def node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


def only_problem(nodes: dict[str, Any]) -> Finding:
    found = find_problems(nodes, OBJECT_INFO)
    assert len(found) == 1, [str(finding) for finding in found]
    return found[0]


def test_a_whole_prompt_has_no_problem() -> None:
    assert find_problems(api(), OBJECT_INFO) == []


@pytest.mark.parametrize(
    ("where", "value", "kind", "said"),
    [
        ("5.steps", 0, "out_of_range", "steps is out of range: expected a whole number from 1 to 10000, got 0"),
        ("5.steps", "many", "wrong_type", "steps is not a whole number"),
        ("5.steps", 2.5, "wrong_type", "steps is not a whole number"),
        ("5.steps", None, "wrong_type", "steps is not a whole number"),
        ("5.steps", True, "wrong_type", "steps is not a whole number"),
        ("5.steps", 10**400, "out_of_range", "steps is out of range"),
        ("5.seed", "9" * 30, "out_of_range", "The nearest value is 18446744073709551615."),
        ("5.cfg", -(10**400), "out_of_range", "The nearest value is 0."),
        ("5.cfg", float("nan"), "wrong_type", "cfg is not a number"),
        ("5.denoise", 1.5, "out_of_range", "denoise is out of range: expected a number from 0.0 to 1.0, got 1.5"),
        ("5.sampler_name", "eular", "not_in_list", "sampler_name is not in the list"),
        ("5.scheduler", 7, "not_in_list", "scheduler is not in the list"),
        ("2.text", {"a": 1}, "wrong_type", "text takes a text"),
        ("5.model", ["2", 0], "wrong_link", "expected MODEL, got CONDITIONING from 'Positive'"),
        ("5.model", ["1", 7], "wrong_link", "model comes from output 7 of 'Checkpoint', which has 3"),
        ("5.model", ["99", 0], "wrong_link", "model comes from node 99, which is not there"),
        ("5.model", ["1"], "wrong_link", "model has a broken link"),
        ("2.clip", ["7", 0], "wrong_link", "comes from output 0 of 'Save', which has none"),
    ],
)
def test_one_wrong_value_is_one_finding(where: str, value: Any, kind: str, said: str) -> None:
    nodes = api()
    node_id, _, name = where.partition(".")
    nodes[node_id]["inputs"][name] = value
    finding = only_problem(nodes)
    assert (finding.kind, finding.node_id, finding.input_name) == (kind, node_id, name)
    assert said in str(finding)
    assert repr(nodes[node_id]["_meta"]["title"]) in str(finding)


@pytest.mark.parametrize(
    ("where", "value", "nearest"),
    [("5.steps", -3, "1"), ("5.steps", 10**9, "10000"), ("5.steps", 2.6, "3"), ("5.denoise", 1.5, "1"),
     ("4.width", 3, "16"), ("4.width", 99999, "16384"), ("4.width", 1000.5, "1000")],
)  # fmt: skip
def test_the_nearest_number_is_one_the_widget_has(where: str, value: Any, nearest: str) -> None:
    nodes = api()
    node_id, _, name = where.partition(".")
    nodes[node_id]["inputs"][name] = value
    assert only_problem(nodes).hint == f"The nearest value is {nearest}."


def test_the_nearest_choices_are_named() -> None:
    nodes = api()
    nodes["5"]["inputs"]["sampler_name"] = "Euler_ancestrall"
    assert "'euler_ancestral'" in str(only_problem(nodes).hint)


@pytest.mark.parametrize("value", ["20", 20.0])
def test_what_the_server_turns_into_the_right_type_is_no_finding(value: Any) -> None:
    nodes = api()
    nodes["5"]["inputs"]["steps"] = value
    assert find_problems(nodes, OBJECT_INFO) == []


def test_a_removed_link_names_what_could_be_connected() -> None:
    nodes = api()
    del nodes["5"]["inputs"]["positive"]
    finding = only_problem(nodes)
    assert (finding.kind, finding.input_name) == ("not_connected", "positive")
    assert finding.hint == "Connect it; 'Positive' or 'Negative' makes one."


def test_a_misspelt_input_is_one_finding_not_two() -> None:
    nodes = api()
    nodes["5"]["inputs"]["stepz"] = nodes["5"]["inputs"].pop("steps")
    finding = only_problem(nodes)
    assert (finding.kind, finding.input_name, finding.hint) == ("unknown_input", "stepz", "Write steps.")


@pytest.mark.parametrize(("name", "kinds"), [("picture3", []), ("pictur2", ["unknown_input"]), ("extra", [])])
def test_inputs_that_a_node_grows_are_not_taken_for_misspelt_ones(name: str, kinds: list[str]) -> None:
    info = copy.deepcopy(OBJECT_INFO)
    info["SaveImage"]["input"]["optional"] = {"picture2": ["IMAGE"]}
    nodes = api()
    nodes["7"]["inputs"][name] = ["6", 0]
    assert [finding.kind for finding in find_problems(nodes, info)] == kinds


def test_a_missing_class_that_is_like_another() -> None:
    nodes = api()
    nodes["5"]["class_type"] = "Ksampler"
    finding = only_problem(nodes)
    assert finding.kind == "missing_node"
    assert "or use 'KSampler'" in str(finding.hint)


def test_a_circle_of_links() -> None:
    info = copy.deepcopy(OBJECT_INFO)
    info["Blur"]["output"] = ["IMAGE"]
    nodes = {
        "1": node("Blur", "One", mask=["9", 1], image=["2", 0], radius=1),
        "2": node("Blur", "Two", mask=["9", 1], image=["1", 0], radius=1),
        "9": node("LoadImage", "Picture", image="example.png"),
        "3": node("SaveImage", "Save", images=["1", 0], filename_prefix="x"),
    }
    (finding,) = find_problems(nodes, info)
    assert finding.kind == "loop"
    assert "'One'" in str(finding) or "'Two'" in str(finding)


def test_what_feeds_no_output_does_not_run_and_is_not_looked_at() -> None:
    nodes = api() | {"8": node("CheckpointLoaderSimple", "Leftover", ckpt_name="gone.safetensors")}
    assert find_problems(nodes, OBJECT_INFO) == []


def test_nothing_that_runs() -> None:
    nodes = api()
    del nodes["7"]
    assert [finding.kind for finding in find_problems(nodes, OBJECT_INFO)] == ["no_output"]


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
    (finding,) = check(editor(values=[value]), OBJECT_INFO).findings
    assert (finding.kind, finding.hint) == ("not_in_list", "The server has it as 'SDXL/base.safetensors'.")


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
    assert "--set '1.image=PATH'" in str(finding.hint)
    for elsewhere in ("clipspace/a.png [input]", "a.png [output]", "sub/a.png"):
        nodes["1"]["inputs"]["image"] = elsewhere
        assert find_problems(nodes, OBJECT_INFO) == []


def test_an_embedding_that_a_prompt_names() -> None:
    nodes = api()
    nodes["3"]["inputs"]["text"] = "(embedding:EasyNegative:1.2), embedding:here.pt"
    workflow = Workflow.from_data(nodes)
    assert check(workflow, OBJECT_INFO).findings == ()
    (finding,) = check(workflow, OBJECT_INFO, embeddings=["here"]).findings
    assert (finding.title, finding.input_name) == ("Negative", "text")
    assert "'EasyNegative'" in str(finding)
    assert check(workflow, OBJECT_INFO, embeddings=["here", "EasyNegative"]).findings == ()


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
    assert finding.hint == "Unmute 'Base', which feeds it, or connect another."


def test_the_pack_of_a_missing_class() -> None:
    pack = {"cnr_id": "comfyui-riddles", "aux_id": "sphinx/ComfyUI-Riddles", "ver": "1.2.0"}
    (finding,) = check(editor([], type="Riddle", properties=pack), OBJECT_INFO).findings
    assert finding.kind == "missing_node"
    assert finding.as_dict()["pack"] == {
        "name": "comfyui-riddles",
        "version": "1.2.0",
        "repository": "sphinx/ComfyUI-Riddles",
    }
    assert "Install the pack comfyui-riddles, version 1.2.0 (https://github.com/sphinx/ComfyUI-Riddles)" in str(finding)


def test_the_version_of_a_pack_may_stand_at_the_top() -> None:
    workflow = editor([], type="Riddle", properties={"cnr_id": "comfy-core"})
    assert workflow.editor is not None
    data = {**workflow.editor, "extra": {"node_versions": {"comfy-core": "0.9.1"}}}
    (finding,) = check(Workflow.from_data(data), OBJECT_INFO).findings
    assert "ComfyUI's own (the file was made with 0.9.1): update ComfyUI" in str(finding)


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
    with pytest.raises(UsageError, match="is no ComfyUI"):
        ModelFolders(tmp_path / "nowhere")
