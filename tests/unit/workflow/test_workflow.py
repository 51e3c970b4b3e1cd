"""Loading workflows, and setting their parameters by name, title and id."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from kandiflux.errors import InvalidPrompt, KandifluxError, ParameterError, UsageError, WorkflowError
from kandiflux.workflow.workflow import Workflow
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.places import DATA

OBJECT_INFO = json.loads((DATA / "object_info.json").read_text("utf-8"))
FILE = DATA / "empty_image.json"

SAMPLER = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["9", 0]}, "_meta": {"title": "Positive"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "b", "clip": ["9", 0]}, "_meta": {"title": "Prompt"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "c", "clip": ["9", 0]}, "_meta": {"title": "Prompt"}},
    "4": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
    },
    "5": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "9": {"class_type": "Loader", "inputs": {"fast": True}},
}


def sampler(values: dict[str, Any], **options: Any) -> dict[str, Any]:
    """{id: inputs} of SAMPLER with these values set."""
    prompt = Workflow.from_data(copy.deepcopy(SAMPLER)).prompt(OBJECT_INFO, values, **options)
    return {node_id: dict(node["inputs"]) for node_id, node in prompt.nodes.items()}


def test_parameters_by_plain_name_and_preset() -> None:
    workflow = Workflow.load(FILE)
    prompt = workflow.prompt(OBJECT_INFO, {"height": "24"}, preset="tiny")
    assert prompt.nodes["1"]["inputs"] == {"width": 16, "height": 24, "batch_size": 1, "color": 255}
    assert prompt.values == {"width": 16, "height": 24}
    assert workflow.title == "One plain picture"


def test_one_parameter_may_set_several_inputs() -> None:
    inputs = Workflow.load(FILE).prompt(OBJECT_INFO, {"size": 40}).nodes["1"]["inputs"]
    assert (inputs["width"], inputs["height"]) == (40, 40)


def test_the_editor_file_sent_along_says_the_same() -> None:
    workflow = Workflow.load(FILE)
    prompt = workflow.prompt(OBJECT_INFO, {"width": 99})
    assert prompt.workflow is not None
    assert prompt.workflow["nodes"][0]["widgets_values"] == [99, 32, 1, 255]
    assert workflow.editor is not None
    assert workflow.editor["nodes"][0]["widgets_values"] == [64, 32, 1, 255], "the loaded workflow was changed"


@pytest.mark.parametrize("address", ["Positive.text", '"Positive".text', "positive.text", "1.text"])
def test_parameters_by_title_and_id(address: str) -> None:
    assert sampler({address: "a fox"})["1"]["text"] == "a fox"


def test_titles_without_one_are_class_names() -> None:
    assert sampler({"KSampler.steps": "7"})["4"]["steps"] == 7


def test_an_ambiguous_title_lists_its_nodes() -> None:
    with pytest.raises(ParameterError, match=r"2 nodes are called 'Prompt': 2 .*, 3 .*"):
        sampler({"Prompt.text": "x"})


@pytest.mark.parametrize(
    ("address", "said"),
    [("Positiv.text", "Did you mean 'Positive'"), ("Positive.txt", "no input 'txt'"), ("prompt", "no parameter")],
)
def test_a_wrong_address_says_what_there_is(address: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        sampler({address: "x"})


@pytest.mark.parametrize(
    ("address", "value", "said"),
    [
        ("4.steps", "0", "nearest value is 1"),
        ("4.steps", 99999, "nearest value is 10000"),
        ("4.steps", 10**400, "nearest value is 10000"),
        ("4.seed", "9" * 30, "nearest value is 18446744073709551615"),
        ("4.steps", "2.5", "a whole number from 1 to 10000"),
        ("4.steps", True, "a whole number"),
        ("4.cfg", "nan", "a number from"),
        ("4.cfg", "much", "a number from"),
        ("4.sampler_name", "eular", "Did you mean 'euler'"),
        ("4.scheduler", "carras", "Did you mean 'karras'"),
        ("9.fast", "perhaps", "true or false"),
        ("1.text", 5, "must be a string"),
        ("1.clip", "x", "takes a CLIP from another node"),
        ("5.image", "nowhere.png", "neither a local file nor a file in the server's"),
    ],
)
def test_a_wrong_value_says_what_is_right(address: str, value: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        sampler({address: value})
    assert caught.value.exit_code == 2


def test_values_become_what_the_input_takes() -> None:
    prompt = sampler({"4.steps": "7", "4.cfg": "2", "9.fast": "off", "4.sampler_name": "dpmpp_2m", "1.text": ""})
    assert (prompt["4"]["steps"], prompt["4"]["cfg"], prompt["9"]["fast"]) == (7, 2.0, False)
    assert prompt["1"]["text"] == ""


def test_a_workflow_narrows_a_range() -> None:
    with pytest.raises(ParameterError, match="nearest value is 512"):
        Workflow.load(FILE).prompt(OBJECT_INFO, {"width": 600})


MULTIPLES = {
    "said": (["INT", {"default": 512, "min": 64, "max": 4096, "step": 64, "tooltip": "In pixels, a multiple of 64."}]),
    "rounded": (["INT", {"default": 512, "min": 0, "step": 64, "tooltip": "In pixels; rounded to a multiple of 64."}]),
    "arrows": (["INT", {"default": 512, "min": 0, "step": 64}]),
    "other": (["INT", {"default": 512, "step": 8, "tooltip": "Best if larger, a multiple of 64."}]),
    "float": (["FLOAT", {"default": 1.0, "step": 0.5}]),
}


def sized(description: str = "") -> Workflow:
    """A node with each kind of input; the parameter `width` sets `arrows`."""
    editor = {
        "nodes": [{"id": 1, "type": "Sized", "inputs": [], "outputs": [], "widgets_values": [512, 512, 512, 512, 1.0]}],
        "links": [],
        "extra": {"kandiflux": {"parameters": {"width": {"node": "1", "input": "arrows", "description": description}}}},
    }
    return Workflow.from_data(editor)


@pytest.mark.parametrize(
    ("name", "description", "value", "hint"),
    [
        ("1.said", "", "100", "Use 64 or 128."),
        ("1.said", "", "4095", "Use 4032 or 4096."),
        ("width", "Width in pixels, a multiple of 64.", "100", "Use 64 or 128."),
        ("width", "Width in pixels, a multiple of 64.", 100.0, "Use 64 or 128."),
        ("width", "Width in pixels, a multiple of 64. 1024 is best.", 1, "Use 0 or 64."),
        ("1.said", "", "128", None),
        ("1.rounded", "", "100", None),
        ("1.arrows", "", "100", None),
        ("1.other", "", "100", None),
        ("1.float", "", "0.3", None),
        ("width", "Width in pixels; rounded to a multiple of 64.", "100", None),
        ("width", "", "100", None),
    ],
)
def test_a_multiple_is_required_only_if_the_workflow_or_the_node_says_so(
    name: str, description: str, value: Any, hint: str | None
) -> None:
    object_info = {"Sized": {"input": {"required": MULTIPLES}, "output": [], "output_node": True}}
    if hint is None:
        sized(description).prompt(object_info, {name: value})
        return
    with pytest.raises(ParameterError, match="must be a multiple of 64") as refused:
        sized(description).prompt(object_info, {name: value})
    assert (refused.value.hint, refused.value.exit_code) == (hint, 2)


@pytest.mark.parametrize("bound", [float("inf"), float("-inf"), float("nan"), 10**400, "many", None, [1], True])
def test_bounds_that_are_not_numbers_are_not_heeded(bound: Any) -> None:
    object_info = copy.deepcopy(OBJECT_INFO)
    for name in ("seed", "steps"):
        object_info["KSampler"]["input"]["required"][name][1].update(min=bound, max=bound)
    workflow = Workflow.from_data(copy.deepcopy(SAMPLER))
    seed = workflow.prompt(object_info, {"4.seed": "random", "4.steps": 1}, check=False).values["4.seed"]
    assert isinstance(seed, int)


JUNK: list[Any] = [
    None, 5, -1, 10**400, float("nan"), float("inf"), "x", "", [], {}, [[]], [{}], True, "\ud800\x1b", [5], ["INT"],
    ["COMBO", 5], ["COMBO", {"options": 5}], ["INT", {"min": "x", "max": []}], [["a", 5, None]], {"required": []},
]  # fmt: skip


def with_junk(value: Any, chance: random.Random) -> Any:
    """A copy in which one thing, at any depth, is replaced."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        return {**value, key: with_junk(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        return [*value[:at], with_junk(value[at], chance), *value[at + 1 :]]
    return chance.choice(JUNK)


@pytest.mark.parametrize("seed", range(0, 2000, 100))
def test_a_server_that_describes_its_nodes_wrongly_gets_an_error_or_none(seed: int) -> None:
    """Never an exception of another kind, whatever it says."""
    small = {name: OBJECT_INFO[name] for name in ("EmptyImage", "SaveImage", "KSampler", "LoadImage")}
    workflows = [(Workflow.load(FILE), "width"), (Workflow.from_data(copy.deepcopy(SAMPLER)), "4.steps")]
    for number in range(seed, seed + 100):
        chance = random.Random(number)
        object_info = with_junk(with_junk(small, chance), chance)
        if not isinstance(object_info, dict):
            continue
        for workflow, name in workflows:
            with contextlib.suppress(KandifluxError):
                workflow.describe(object_info)
            with contextlib.suppress(KandifluxError):
                workflow.prompt(object_info, {name: "3"})
            with contextlib.suppress(KandifluxError):
                workflow.seed_parameters(object_info)


def test_a_random_seed_is_reported() -> None:
    workflow = Workflow.from_data(copy.deepcopy(SAMPLER))
    assert workflow.seed_parameters(OBJECT_INFO) == ["4.seed"]
    prompt = workflow.prompt(OBJECT_INFO, {"4.seed": "random"})
    assert prompt.nodes["4"]["inputs"]["seed"] == prompt.values["4.seed"]
    assert isinstance(prompt.values["4.seed"], int)


def test_a_local_picture_is_uploaded_once(tmp_path: Path) -> None:
    picture = tmp_path / "mine.png"
    picture.write_bytes(b"x")
    sent: list[Path] = []

    def upload(path: Path) -> str:
        sent.append(path)
        return "mine (1).png"

    assert sampler({"5.image": str(picture)}, upload=upload)["5"]["image"] == "mine (1).png"
    assert sent == [picture]
    assert sampler({"5.image": "other.png"}, upload=upload)["5"]["image"] == "other.png"


def test_missing_node_classes_are_named_before_anything_is_sent() -> None:
    data = {"1": {"class_type": "Riddle", "inputs": {}, "_meta": {"title": "Puzzle"}}}
    for check in (True, False):
        with pytest.raises(InvalidPrompt, match=r"(?s)lacks node classes.*Riddle.*'Puzzle'"):
            Workflow.from_data(data).prompt(OBJECT_INFO, check=check)


def test_what_a_workflow_needs() -> None:
    data = {"nodes": [], "links": [], "extra": {"kandiflux": {"needs": {"comfyui": ">=0.3.60"}}}}
    workflow = Workflow.from_data(data)
    assert workflow.too_new_for("0.3.9") == "0.3.60"
    assert workflow.too_new_for("0.3.60") is None
    assert workflow.too_new_for("1.0") is None
    assert Workflow.load(FILE).too_new_for("0.0.1") is None


def test_an_unknown_preset() -> None:
    with pytest.raises(UsageError, match="no preset 'huge'"):
        Workflow.load(FILE).prompt(OBJECT_INFO, preset="huge")


def png(path: Path, **texts: Any) -> Path:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, json.dumps(value))
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return path


def test_a_png_runs_what_made_it_and_keeps_the_parameters_of_its_workflow(tmp_path: Path) -> None:
    editor = json.loads(FILE.read_text("utf-8"))
    ran = {"1": {"class_type": "EmptyImage", "inputs": {"width": 5, "height": 6, "batch_size": 1, "color": 7}}}
    workflow = Workflow.load(png(tmp_path / "both.png", prompt=ran, workflow=editor))
    assert workflow.origin.startswith("the prompt in ")
    prompt = workflow.prompt(OBJECT_INFO, {"height": 9})
    assert prompt.nodes["1"]["inputs"] == {"width": 5, "height": 9, "batch_size": 1, "color": 7}
    assert prompt.title("1") == "Canvas"


def test_a_png_with_only_one_of_them(tmp_path: Path) -> None:
    editor = json.loads(FILE.read_text("utf-8"))
    assert Workflow.load(png(tmp_path / "editor.png", workflow=editor)).prompt(OBJECT_INFO).nodes.keys() == {"1", "2"}
    assert Workflow.load(png(tmp_path / "api.png", prompt=SAMPLER)).api == SAMPLER


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b"\x89PNG\r\n\x1a\nxxxx", b"\xff\xfe"])
def test_what_is_no_workflow_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(WorkflowError):
        Workflow.load(path)


def test_a_png_without_a_workflow(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="contains no workflow"):
        Workflow.load(png(tmp_path / "bare.png"))


def test_an_unknown_name() -> None:
    with pytest.raises(WorkflowError, match="no file and no shipped workflow 'nothing_like_it'") as missing:
        Workflow.load("nothing_like_it")
    assert len(str(missing.value)) < 300
    with pytest.raises(WorkflowError, match="Did you mean 'kandinsky22_pocket_text_to_image'"):
        Workflow.load("kandinsky22_pocket_text_to_imag")
    for name in ("nowhere.json", "folder/flux_dev", "a/b/flux_dev", "a" * 1000 + ".json"):
        with pytest.raises(WorkflowError, match=r"There is no file '"):
            Workflow.load(name)
    with pytest.raises(WorkflowError, match="There is no file and no shipped workflow"):
        Workflow.load("a\n" * 200)


def test_a_class_that_the_server_lacks_is_named_where_its_input_is_asked_for() -> None:
    api = {"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}, "_meta": {"title": "Prompt"}}}
    editor = {"nodes": [{"id": 6, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["a"]}], "links": [],
              "extra": {"kandiflux": {"parameters": {"prompt": {"node": "6", "input": "text"}}}}}  # fmt: skip
    for workflow in (Workflow.from_data({"prompt": api, "workflow": editor}), Workflow.from_data(editor)):
        with pytest.raises(ParameterError, match="no node class CLIPTextEncode") as refused:
            workflow.describe({"Other": {}})
        assert refused.value.parameter == "server"


def test_what_can_be_set_is_listed() -> None:
    listed = {info.name: info for info in Workflow.load(FILE).describe(OBJECT_INFO)}
    assert list(listed) == ["width", "height", "size", "colour", "name"]
    assert (listed["width"].value, listed["width"].min, listed["width"].max) == (64, 1, 512)
    plain = [info.name for info in Workflow.from_data(SAMPLER).describe(OBJECT_INFO)]
    assert "4.seed" in plain
    assert "1.clip" not in plain


def test_a_declared_parameter_that_points_nowhere() -> None:
    with pytest.raises(WorkflowError, match="does not say what it sets"):
        Workflow.from_data({"nodes": [], "links": [], "extra": {"kandiflux": {"parameters": {"x": {}}}}})


def test_setting_a_primitive_sets_what_it_feeds() -> None:
    data = {
        "nodes": [
            {"id": 9, "type": "PrimitiveNode", "widgets_values": [33, "fixed"]},
            {
                "id": 2,
                "type": "EmptyImage",
                "widgets_values": [1, 2, 1, 0],
                "inputs": [{"name": "width", "type": "INT", "link": 5, "widget": {"name": "width"}}],
            },
        ],
        "links": [[5, 9, 0, 2, 0, "INT"]],
        "extra": {"kandiflux": {"parameters": {"side": {"node": 9, "input": "value"}}}},
    }
    prompt = Workflow.from_data(data).prompt(OBJECT_INFO, {"side": 44})
    assert prompt.nodes["2"]["inputs"]["width"] == 44
    assert prompt.workflow is not None
    assert prompt.workflow["nodes"][0]["widgets_values"][0] == 44


def test_a_value_set_over_a_link_takes_its_place() -> None:
    data = json.loads(FILE.read_text("utf-8"))
    data["nodes"].append({"id": 3, "type": "Loader", "widgets_values": [True], "outputs": [{"links": [2]}]})
    data["nodes"][0]["inputs"] = [{"name": "width", "type": "INT", "link": 2, "widget": {"name": "width"}}]
    data["links"].append([2, 3, 0, 1, 0, "INT"])
    workflow = Workflow.from_data(data)
    assert workflow.prompt(OBJECT_INFO).nodes["1"]["inputs"]["width"] == ["3", 0]
    prompt = workflow.prompt(OBJECT_INFO, {"width": 9})
    assert prompt.nodes["1"]["inputs"]["width"] == 9
    assert prompt.workflow is not None
    assert Workflow.from_data(prompt.workflow).prompt(OBJECT_INFO).nodes["1"]["inputs"]["width"] == 9


def one_node(**inputs: list[Any]) -> dict[str, Any]:
    """object_info with one class, `One`."""
    return {"One": {"input": {"required": inputs}, "output": [], "output_node": True}}


def api(**inputs: Any) -> Workflow:
    return Workflow.from_data({"1": {"class_type": "One", "inputs": inputs}})


def test_a_list_is_written_as_a_value_and_not_as_a_link() -> None:
    object_info = one_node(names=["COMBO", {"multi_select": True, "remote": {"route": "/x"}}], text=["STRING"])
    prompt = api(names="", text="").prompt(object_info, {"1.names": ["a", 0], "1.text": "b"})
    assert prompt.nodes["1"]["inputs"] == {"names": {"__value__": ["a", 0]}, "text": "b"}
    assert prompt.values == {"1.names": ["a", 0], "1.text": "b"}


def test_links_whose_node_is_a_number_are_written_with_texts() -> None:
    data = {"1": {"class_type": "One", "inputs": {"a": [2, 0], "b": [2, 0, 1], "c": [True, 0], "d": ["2", 0]}}}
    found = Workflow.from_data(data).nodes({})["1"]
    assert found["inputs"] == {"a": ["2", 0], "b": [2, 0, 1], "c": [True, 0], "d": ["2", 0]}


def test_a_node_is_called_by_its_title_or_by_what_the_server_calls_it() -> None:
    info = {"One": {**one_node()["One"], "display_name": "The One"}}
    editor = {"nodes": [{"id": 2, "type": "One", "title": "Mine"}], "links": []}
    node = {"class_type": "One", "inputs": {}}
    data = {"1": {**node, "_meta": {"title": "Written"}}, "2": node, "3": node, "4": {**node, "class_type": "Two"}}
    found = Workflow.from_data({"prompt": data, "workflow": editor}).nodes(info)
    assert [about["_meta"]["title"] for about in found.values()] == ["Written", "Mine", "The One", "Two"]


def test_where_a_workflow_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Workflow.load("kandinsky22_pocket_text_to_image")
    assert Workflow.load("kandinsky22_pocket_text_to_image.json") == shipped
    assert (shipped.name, Path(shipped.origin).name) == (
        "kandinsky22_pocket_text_to_image", "kandinsky22_pocket_text_to_image.json",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("kandinsky22_pocket_text_to_image").write_text(json.dumps(SAMPLER))
    assert Workflow.load("kandinsky22_pocket_text_to_image").api == SAMPLER, "a file goes first"
    monkeypatch.setattr("kandiflux.workflow.workflow._LARGEST_FILE", 10)
    with pytest.raises(WorkflowError, match="too large"):
        Workflow.load("kandinsky22_pocket_text_to_image")
    Path("exact").write_text('{"1": {}} ')
    with pytest.raises(WorkflowError, match="is not a workflow"):
        Workflow.load("exact")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError("Permission denied")])
def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refuse(_path: Path) -> bytes:
        raise error

    (tmp_path / "mine.json").write_text(json.dumps(SAMPLER))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(WorkflowError, match=r"mine\.json cannot be read: Permission denied\.$"):
        Workflow.load(tmp_path / "mine.json")


def test_what_is_said_of_a_workflow() -> None:
    about = {"title": "T", "description": "D", "presets": {"a": {"x": 1}}, "needs": {"comfyui": ">= 0.3.60"}}
    editor = {"nodes": [], "links": [], "extra": {"kandiflux": about}}
    told = Workflow.from_data(editor, name="n", origin="o")
    assert (told.title, told.description, told.presets, told.name, told.origin) == ("T", "D", {"a": {"x": 1}}, "n", "o")
    bare = Workflow.from_data({"nodes": [], "links": []}, name="n")
    assert (bare.title, bare.description, bare.presets, bare.needs) == ("n", "", {}, {})
    assert [told.too_new_for(version) for version in ("0.3.59", "0.3.60", "0.3", "0.3.60.1", "0.4", "")] == [
        "0.3.60", None, "0.3.60", None, None, "0.3.60",
    ]  # fmt: skip
    both = Workflow.from_data({"prompt": SAMPLER, "workflow": editor}, name="n", origin="o")
    assert (both.title, both.origin, both.api, both.editor) == ("T", "o", SAMPLER, editor)
    alone = Workflow.from_data({"prompt": SAMPLER, "workflow": {"x": 1}}, name="n")
    assert (alone.title, alone.editor) == ("n", None)


def test_the_parameter_seed_goes_before_all_seed_inputs() -> None:
    info = one_node(seed=["INT", {}], noise_seed=["INT", {}], steps=["INT", {}])
    assert api(seed=1, noise_seed=["2", 0]).seed_parameters(info) == ["1.seed"]
    assert api(steps=1).seed_parameters(info) == ["1.seed", "1.noise_seed"]
    nodes = [{"id": 1, "type": "One", "widgets_values": [1, 2, 3]}]
    declared = {"parameters": {"seed": {"node": 1, "input": "noise_seed"}, "x": {"node": 1, "input": "seed"}}}
    named = Workflow.from_data({"nodes": nodes, "links": [], "extra": {"kandiflux": declared}})
    assert named.seed_parameters(info) == ["seed"]


def test_what_can_be_set_is_told_with_its_range_and_choices() -> None:
    info = one_node(
        steps=["INT", {"min": 1, "max": 9, "default": 4}], name=[["a", "b"], {}], link=["MODEL"], on=["BOOLEAN", {}]
    )
    first, second, third = api(name="b", on=True).describe(info)
    assert vars(first) == {
        "name": "1.steps", "type": "INT", "value": 4, "description": "One", "min": 1, "max": 9, "choices": None,
    }  # fmt: skip
    assert (second.name, second.value, second.choices, second.min) == ("1.name", "b", ("a", "b"), None)
    assert (third.name, third.value) == ("1.on", True)
    assert [found.name for found in api(steps=["2", 0], name="a", on=True).describe(info)] == ["1.name", "1.on"]
    about = {"steps": {"node": 1, "input": "steps", "description": "How many.", "max": 0}}
    nodes = [{"id": 1, "type": "One", "widgets_values": [7, "a", True]}]
    editor = {"nodes": nodes, "links": [], "extra": {"kandiflux": {"parameters": about}}}
    (declared,) = Workflow.from_data(editor).describe(info)
    assert (declared.name, declared.value, declared.description, declared.min, declared.max) == (
        "steps", 7, "How many.", 1, 0,
    )  # fmt: skip


def test_a_file_is_uploaded_last_and_once_for_all_that_it_sets(tmp_path: Path) -> None:
    picture = tmp_path / "mine.png"
    picture.touch()
    choices: list[Any] = [["x.png"], {"image_upload": True}]
    info = one_node(a=choices, b=choices, c=["INT", {"max": 3}])
    sent: list[Path] = []

    def upload(path: Path) -> str:
        sent.append(path)
        return f"stored-{len(sent)}.png"

    both = {"1.a": str(picture), "1.b": str(picture)}
    workflow = api(a="x.png", b="x.png", c=1)
    with pytest.raises(ParameterError, match="out of range"):
        workflow.prompt(info, {**both, "1.c": 4}, upload=upload)
    assert sent == [], "nothing is sent for a workflow that is not going to run"
    prompt = workflow.prompt(info, both, upload=upload)
    assert prompt.nodes["1"]["inputs"] == {"a": "stored-1.png", "b": "stored-1.png", "c": 1}
    assert prompt.values == {"1.a": "stored-1.png", "1.b": "stored-1.png"}
    assert sent == [picture]
    with pytest.raises(ParameterError, match="neither a local file"):
        workflow.prompt(info, both)


def test_what_the_file_itself_says_is_checked_unless_it_is_set_or_not_wanted() -> None:
    info = one_node(a=["INT", {"max": 3}], b=["INT", {"max": 3}])
    with pytest.raises(InvalidPrompt, match="would refuse") as refused:
        api(a=9, b=9).prompt(info, {"1.b": 1})
    assert [(problem.input_name, refused.value.exit_code) for problem in refused.value.problems] == [("a", 2)]
    assert refused.value.parameter == "check"
    assert api(a=9, b=9).prompt(info, {"1.b": 1}, check=False).nodes["1"]["inputs"] == {"a": 9, "b": 1}
    assert api(a=9, b=9).prompt(info, {"1.a": 3, "1.b": 1}).nodes["1"]["inputs"] == {"a": 3, "b": 1}


def test_a_node_that_does_not_run_cannot_be_set() -> None:
    info = one_node(a=["INT", {}])
    about = {"parameters": {"a": {"node": 1, "input": "a"}, "b": {"node": 5, "input": "a"}}}
    nodes = [{"id": 1, "type": "One", "title": "Off", "mode": 2, "widgets_values": [1]},
             {"id": 2, "type": "One", "widgets_values": [1]}]  # fmt: skip
    workflow = Workflow.from_data({"nodes": nodes, "links": [], "extra": {"kandiflux": about}})
    with pytest.raises(ParameterError, match=r"'Off' \(node 1\) does not run") as refused:
        workflow.prompt(info, {"a": 1})
    assert "muted or bypassed" in str(refused.value.hint)
    with pytest.raises(ParameterError, match="there is no node 5") as refused:
        workflow.prompt(info, {"b": 1})
    assert refused.value.hint is None


def test_values_set_as_attributes_go_before_a_preset_and_after_the_callers() -> None:
    info = one_node(a=["INT", {}], b=["INT", {}], c=["INT", {}], d=["INT", {}])
    nodes = [{"id": 1, "type": "One", "title": "The node", "widgets_values": [0, 0, 0, 0]}]
    presets = {"p": {"1.a": 1, "1.b": 1, "1.c": 1}}
    editor = {"nodes": nodes, "links": [], "extra": {"kandiflux": {"presets": presets}}}
    workflow, other = Workflow.from_data(editor), Workflow.from_data(editor)
    workflow[1].b = 2
    workflow["1"].c = 2
    prompt = workflow.prompt(info, {"1.c": 3}, preset="p")
    assert prompt.nodes["1"]["inputs"] == {"a": 1, "b": 2, "c": 3, "d": 0}
    assert workflow["1"].b == 2
    workflow["The node"].d = 4
    assert workflow.prompt(info).nodes["1"]["inputs"] == {"a": 0, "b": 2, "c": 2, "d": 4}
    assert workflow == other, "what was set is no part of the file"
    assert other.values == {}
    workflow["1"]._b = 5
    for name in ("a", "_b", "_workflow_"):
        with pytest.raises(AttributeError, match=f"{name} of '1' is not set;"):
            getattr(workflow["1"], name)


def test_one_seed_for_all_seed_inputs_but_those_that_are_set() -> None:
    info = one_node(seed=["INT", {}], noise_seed=["INT", {}], steps=["INT", {}])
    workflow = api(seed=1, noise_seed=2, steps=3)
    assert workflow.prompt(info, {"seed": 7}).values == {"1.seed": 7, "1.noise_seed": 7}
    assert workflow.prompt(info, {"seed": 7, "1.seed": 8}).values == {"1.seed": 8, "1.noise_seed": 7}
    with pytest.raises(ParameterError, match="no parameter 'seed'"):
        api(steps=3).prompt(one_node(steps=["INT", {}]), {"seed": 7})


def test_an_input_that_a_node_does_not_have() -> None:
    info = one_node(steps=["INT", {}], model=["MODEL"])
    found: list[tuple[str | None, str | None]] = []
    for name in ("step", "zzz"):
        with pytest.raises(ParameterError, match=f"has no input '{name}'") as refused:
            api(steps=1).prompt(info, {f"1.{name}": 1})
        found.append((refused.value.expected, refused.value.hint))
    assert found == [("steps", "Did you mean 'steps'?"), ("steps", None)]
    with pytest.raises(ParameterError) as refused:
        api().prompt(one_node(model=["MODEL"]), {"1.x": 1})
    assert refused.value.expected == "(it has no inputs that can be set)"


def test_presets_that_there_are() -> None:
    found: list[str | None] = []
    for presets in ({"a": {}, "b": {}}, {}):
        editor = {"nodes": [], "links": [], "extra": {"kandiflux": {"presets": presets}}}
        with pytest.raises(UsageError, match="n has no preset 'x'") as refused:
            Workflow.from_data(editor, name="n").prompt({}, preset="x")
        found.append(refused.value.expected)
    assert found == ["a, b", "(it has none)"]


@pytest.mark.parametrize(("node_id", "set_to"), [("2", 44), ("3", None)])
def test_a_primitive_of_the_workflow_sets_what_ran(node_id: str, set_to: int | None) -> None:
    """A prompt that ran has no PrimitiveNode; its workflow says what that one fed."""
    info = one_node(a=["INT", {}])
    editor = {
        "nodes": [
            {"id": 9, "type": "PrimitiveNode", "widgets_values": [33, "fixed"]},
            {"id": 2, "type": "One", "widgets_values": [1],
             "inputs": [{"name": "a", "type": "INT", "link": 5, "widget": {"name": "a"}}]},
        ],
        "links": [[5, 9, 0, 2, 0, "INT"]],
        "extra": {"kandiflux": {"parameters": {"side": {"node": 9, "input": "value"}}}},
    }  # fmt: skip
    ran = {node_id: {"class_type": "One", "inputs": {"a": 33}}}
    workflow = Workflow.from_data({"prompt": ran, "workflow": editor})
    if set_to is not None:
        assert workflow.prompt(info, {"side": set_to}).nodes[node_id]["inputs"] == {"a": set_to}
        assert workflow.describe(info)[0].value == 33
    else:
        with pytest.raises(ParameterError, match="node 9"):
            workflow.prompt(info, {"side": 1})


def test_a_mistyped_path_gets_the_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "portrait.json").touch()
    with pytest.raises(WorkflowError, match="There is no file") as caught:
        Workflow.load(tmp_path / "portait.json")
    assert caught.value.hint == "That folder contains 'portrait.json'."
    with pytest.raises(WorkflowError) as caught:
        Workflow.load(tmp_path / "none" / "portait.json")
    assert caught.value.hint is None


def test_a_workflow_of_which_all_is_muted_is_refused() -> None:
    muted = {"nodes": [{"id": 1, "type": "EmptyImage", "mode": 2}], "links": []}
    with pytest.raises(InvalidPrompt, match="Nothing runs: 1 of 1 nodes are muted or bypassed"):
        Workflow.from_data(muted).prompt(OBJECT_INFO)


def test_a_seed_that_a_node_draws_is_told_and_kept_in_the_picture() -> None:
    info = {"Seed (rgthree)": {"input": {"required": {"seed": ["INT"]}}, "output_node": True}}
    node = {"id": 1, "type": "Seed (rgthree)", "title": "Dice", "widgets_values": [-1, "", "", ""]}
    workflow = Workflow.from_data({"nodes": [node], "links": []})
    prompt = workflow.prompt(info)
    drawn = prompt.nodes["1"]["inputs"]["seed"]
    assert drawn >= 0
    assert prompt.values == {"1.seed": drawn}
    assert prompt.notes == (f"'Dice' (node 1) draws a seed for each run: {drawn}.",)
    assert prompt.workflow is not None
    assert prompt.workflow["nodes"][0]["widgets_values"][0] == drawn
    given = workflow.prompt(info, {"1.seed": 7})
    assert (given.nodes["1"]["inputs"]["seed"], given.notes) == (7, ())
