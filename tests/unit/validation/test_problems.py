"""What a server would refuse in a prompt is found from object_info; each wrong value is one finding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kandiflux.workflow.validation.problems import find_problems

from tests.support.checking_cases import OBJECT_INFO, api, node, only_problem


def test_a_whole_prompt_has_no_problem() -> None:
    assert find_problems(api(), OBJECT_INFO) == []


@pytest.mark.parametrize(
    ("where", "value", "kind", "said"),
    [
        ("5.steps", 0, "out_of_range", "steps is out of range: expected a whole number from 1 to 10000, got 0"),
        ("5.steps", "many", "wrong_type", "steps is not a whole number"),
        ("5.steps", "2.5", "wrong_type", "steps is not a whole number"),
        ("5.steps", None, "wrong_type", "steps is not a whole number"),
        ("5.steps", 2.5, "converted", "steps becomes 2 on the server: expected a whole number, got 2.5"),
        ("5.steps", True, "converted", "steps becomes 1 on the server: expected a whole number, got True"),
        ("5.cfg", False, "converted", "cfg becomes 0.0 on the server: expected a number, got False"),
        ("5.steps", 10**400, "out_of_range", "steps is out of range"),
        ("5.seed", "9" * 30, "out_of_range", "The nearest value is 18446744073709551615."),
        ("5.cfg", -(10**400), "out_of_range", "The nearest value is 0."),
        ("5.cfg", float("nan"), "wrong_type", "cfg is not a number"),
        ("5.denoise", 1.5, "out_of_range", "denoise is out of range: expected a number from 0.0 to 1.0, got 1.5"),
        ("5.sampler_name", "eular", "not_in_list", "sampler_name is not in the list"),
        ("5.scheduler", 7, "not_in_list", "scheduler is not in the list"),
        ("2.text", {"a": 1}, "converted", "text becomes its text on the server: expected a string, got {'a': 1}"),
        ("5.model", ["2", 0], "wrong_link", "expected MODEL, got CONDITIONING from 'Positive'"),
        ("5.model", ["1", 7], "wrong_link", "model comes from output 7 of 'Checkpoint', which has 3"),
        ("5.model", ["99", 0], "wrong_link", "model comes from node 99, which does not exist"),
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
    [("5.steps", -3, "1"), ("5.steps", 10**9, "10000"), ("5.steps", "2.6", "3"), ("5.denoise", 1.5, "1"),
     ("4.width", 3, "16"), ("4.width", 99999, "16384"), ("4.width", "1000.5", "1000")],
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
    assert finding.hint == "Connect it, for example to 'Positive' or 'Negative'."


def test_what_the_node_itself_feeds_is_not_offered_to_it() -> None:
    """Newer servers give SaveImage an output, and following the advice would make a circle."""
    info = copy.deepcopy(OBJECT_INFO)
    info["SaveImage"]["output"] = ["IMAGE"]
    info["Blur"]["output"] = ["IMAGE"]
    nodes = api()
    nodes["8"] = node("Blur", "Soft", image=["7", 0], mask=["9", 1], radius=1)
    nodes["9"] = node("LoadImage", "Picture", image="example.png")
    nodes["10"] = node("SaveImage", "Again", images=["8", 0], filename_prefix="y")
    del nodes["7"]["inputs"]["images"]
    (finding,) = find_problems(nodes, info)
    assert finding.hint == "Connect it, for example to 'Decode' or 'Picture'."
    del nodes["6"], nodes["8"], nodes["9"], nodes["10"]
    (finding,) = find_problems(nodes, info)
    assert finding.hint == "Connect it."


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
    assert finding.hint == "Did you mean 'KSampler'?"


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


# Links


def changed(info: dict[str, Any], **classes: Any) -> dict[str, Any]:
    """Another server, on which these classes have these entries."""
    return {**info, **{name: {**info.get(name, {}), **about} for name, about in classes.items()}}


def test_a_link_from_a_class_whose_outputs_the_server_does_not_tell_is_not_judged() -> None:
    for output in (None, 5):
        assert find_problems(api(), changed(OBJECT_INFO, VAEDecode={"output": output})) == []


@pytest.mark.parametrize("link", [["1", 0, 1], ["1", True], ["1", "0"], ["1", -1], ["1"], []])
def test_a_broken_link_is_shown(link: list[Any]) -> None:
    nodes = api()
    nodes["5"]["inputs"]["model"] = link
    finding = only_problem(nodes)
    assert finding.kind == "wrong_link"
    assert finding.got == repr(link) or "comes from output -1 of 'Checkpoint', which has 3" in finding.message


def test_a_link_may_name_its_node_by_a_number() -> None:
    nodes = api()
    nodes["5"]["inputs"]["model"] = [1, 0]
    assert find_problems(nodes, OBJECT_INFO) == []


def test_a_link_of_the_wrong_kind_names_both_kinds_and_what_fits() -> None:
    nodes = api()
    nodes["6"]["inputs"]["vae"] = ["5", 0]
    finding = only_problem(nodes)
    assert (finding.expected, finding.got) == ("VAE", "LATENT from 'Sampler'")
    assert finding.hint == "Connect it, for example to 'Checkpoint'."
    nodes["7"]["inputs"]["filename_prefix"] = ["8", 0]
    nodes["8"] = node("Chooser", "Choice", choice="a")
    info = changed(OBJECT_INFO, Chooser={"output": [["a", "b"]], "output_node": False, "input": {}})
    assert [one.got for one in find_problems(nodes, info)] == ["LATENT from 'Sampler'", "a choice from 'Choice'"]


def test_at_most_three_nodes_are_offered() -> None:
    nodes = api()
    for number in range(20, 23):
        nodes[str(number)] = node("CLIPTextEncode", f"More {number}", text="", clip=["1", 1])
    del nodes["5"]["inputs"]["positive"]
    assert only_problem(nodes).hint == "Connect it, for example to 'Positive' or 'Negative' or 'More 20'."


def test_a_wrong_link_is_not_followed_in_search_of_a_circle() -> None:
    nodes = api()
    nodes["5"]["inputs"]["latent_image"] = ["6", 0]
    assert [finding.kind for finding in find_problems(nodes, OBJECT_INFO)] == ["wrong_link"]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_circle_is_one_finding_that_names_the_nodes_in_it_and_no_others(length: int) -> None:
    info = changed(OBJECT_INFO, Blur={"output": ["IMAGE"]})
    names = ["One", "Two", "Three"][:length]
    nodes = {
        str(at): node("Blur", name, mask=["9", 1], image=[str((at + 1) % length), 0], radius=1)
        for at, name in enumerate(names)
    }
    nodes["9"] = node("LoadImage", "Picture", image="example.png")
    nodes["10"] = node("Blur", "Before", mask=["9", 1], image=["0", 0], radius=1)
    nodes["11"] = node("SaveImage", "Save", images=["10", 0], filename_prefix="x")
    (finding,) = find_problems(nodes, info)
    assert (finding.kind, finding.hint) == ("loop", "Remove one of these links.")
    assert sorted(finding.message.removeprefix("depends on itself, through ").split(" ← ")) == sorted(names)
    assert finding.title in names


def test_two_ways_to_one_node_are_no_circle() -> None:
    info = changed(OBJECT_INFO, Blur={"output": ["IMAGE"]})
    nodes = {
        "1": node("LoadImage", "Picture", image="example.png"),
        "2": node("Blur", "One", image=["1", 0], mask=["1", 1], radius=1),
        "3": node("Blur", "Two", image=["2", 0], mask=["1", 1], radius=1),
        "4": node("SaveImage", "Save", images=["3", 0], filename_prefix="x"),
        "5": node("SaveImage", "Save", images=["2", 0], filename_prefix="x"),
    }
    assert find_problems(nodes, info) == []


# What is absent


def test_an_input_without_a_value_says_what_it_takes() -> None:
    for name, takes in (("steps", "a whole number"), ("cfg", "a number"), ("scheduler", "one of simple, ")):
        nodes = api()
        del nodes["5"]["inputs"][name]
        finding = only_problem(nodes)
        assert (finding.kind, finding.message, finding.hint) == ("not_connected", "has no value", None)
        assert str(finding.expected).startswith(takes)


def test_what_need_not_be_there_is_no_finding() -> None:
    more = {"image": ["IMAGE"], "count": ["INT"]}
    both = {"required": OBJECT_INFO["SaveImage"]["input"]["required"], "optional": more}
    assert find_problems(api(), changed(OBJECT_INFO, SaveImage={"input": both})) == []
    growing = {"required": {**both["required"], "grown": ["COMFY_AUTOGROW_V3", {}]}}
    assert find_problems(api(), changed(OBJECT_INFO, SaveImage={"input": growing})) == []


def test_a_value_that_is_always_a_socket_is_to_be_connected() -> None:
    required = {**OBJECT_INFO["SaveImage"]["input"]["required"], "count": ["INT", {"forceInput": True}]}
    (finding,) = find_problems(api(), changed(OBJECT_INFO, SaveImage={"input": {"required": required}}))
    assert (finding.message, finding.expected) == ("is not connected", "INT from another node")


def test_a_misspelt_input_is_not_meant_for_one_that_a_newer_server_grows() -> None:
    required = {**OBJECT_INFO["SaveImage"]["input"]["required"], "grown": ["COMFY_AUTOGROW_V3", {}]}
    nodes = api()
    nodes["7"]["inputs"] |= {"growm": 1, "grown.image0": ["6", 0]}
    assert find_problems(nodes, changed(OBJECT_INFO, SaveImage={"input": {"required": required}})) == []


# Values


@pytest.mark.parametrize(
    ("declared", "value", "said"),
    [
        (["BOOLEAN"], "perhaps", "x becomes true on the server: expected true or false, got 'perhaps'"),
        (["BOOLEAN"], "false", "x becomes true on the server: expected true or false, got 'false'"),
        (["BOOLEAN"], "", "x becomes false on the server: expected true or false, got ''"),
        (["STRING"], {"a": 1}, "x becomes its text on the server: expected a string, got {'a': 1}"),
        (["STRING"], {"__value__": [1]}, "x becomes its text on the server: expected a string, got [1]"),
        (["INT"], "many", "x is not a whole number: expected a whole number, got 'many'"),
        (["FLOAT", {"min": 2}], "many", "x is not a number: expected a number of at least 2, got 'many'"),
        (["FLOAT", {"max": 2}], 3, "x is out of range: expected a number of at most 2, got 3"),
        (["INT", {"min": 2, "max": 4}], {"__value__": 1}, "expected a whole number from 2 to 4, got 1"),
        ([["a", "b"]], {"b": 1}, "x is not one of its choices: expected a, b, got {'b': 1}"),
        ([["a", "b"]], {"__value__": ["a", "c", "d"]}, "x is not in the list: expected a, b, got 'c'"),
        ([[]], "a", "put the files that the node needs into its folder"),
        ([["a.png"], {"image_upload": True}], "b.png", "not in the server's input folder: expected a.png, got 'b.png'"),
        ([[], {"image_upload": True}], "b.png", "x is not in the server's input folder: got 'b.png'"),
    ],
)
def test_a_wrong_value_of_each_type(declared: list[Any], value: Any, said: str) -> None:
    info = {"Show": {"output_node": True, "output": [], "input": {"required": {"x": declared}}}}
    (finding,) = find_problems({"1": node("Show", "Mine", x=value)}, info)
    assert said in str(finding)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (["BOOLEAN"], "true"), (["BOOLEAN"], 1), (["STRING"], 5), (["STRING"], None), (["INT", {"min": 2}], 2),
        (["INT", {"max": 2}], 2), (["FLOAT", {"min": 2, "max": 3}], 2.5), (["INT", {"min": "1"}], -5),
        (["COMBO", {}], "anything"), (["COMBO", {"options": ["a"], "remote": {"route": "/x"}}], "b"),
        ([["a", "b"]], {"__value__": ["a", "b"]}), (["IMAGE"], "odd"), ([[1, 2]], 2),
    ],
)  # fmt: skip
def test_a_right_value_of_each_type(declared: list[Any], value: Any) -> None:
    info = {"Show": {"output_node": True, "output": [], "input": {"required": {"x": declared}}}}
    assert find_problems({"1": node("Show", "Mine", x=value)}, info) == []


@pytest.mark.parametrize(
    ("value", "used"),
    [
        ("sub\\base.safetensors", "SDXL/base.safetensors"),
        ("SDXL\\base.safetensors", "SDXL/base.safetensors"),
        ("base.safetensors", "SDXL/base.safetensors"),
        ("flux/vae.safetensors", None),
        ("twice.safetensors", None),
        ("two/twice.safetensors", "two\\twice.safetensors"),
    ],
)
def test_a_model_in_another_folder_is_used_if_it_is_certainly_the_same(value: str, used: str | None) -> None:
    names = ["SDXL/base.safetensors", "SDXL/vae.safetensors", "one/twice.safetensors", "two\\twice.safetensors"]
    info = changed(OBJECT_INFO, CheckpointLoaderSimple={"input": {"required": {"ckpt_name": [names]}}})
    nodes = api()
    nodes["1"]["inputs"]["ckpt_name"] = value
    (finding,) = find_problems(nodes, info)
    assert (finding.kind, finding.used) == ("same_file" if used else "missing_model", used)
    assert finding.is_note is (used is not None)


def test_the_choices_of_custom_combo_are_the_users_own() -> None:
    info = {"CustomCombo": {"output_node": True, "output": [], "input": {"required": {"choice": [[]]}}}}
    assert find_problems({"1": node("CustomCombo", "Mine", choice="a")}, info) == []


def test_only_files_of_the_input_folder_may_be_elsewhere() -> None:
    nodes = api()
    nodes["5"]["inputs"]["scheduler"] = "sub/simple"
    assert only_problem(nodes).kind == "not_in_list"


# Files of the input folder


PASTED = "pasted/image (72).png"
MASKED = "clipspace/clipspace-mask-1.png [input]"
URL = "https://example.com/a.png"
LOADER = {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}, "output": [], "output_node": True}


@pytest.mark.parametrize("name", [PASTED, MASKED, "b.png [temp]", "sub\\b.png", "b.png"])
@pytest.mark.parametrize(("there", "kinds"), [(True, []), (False, ["missing_file"]), (None, ["not_checked"])])
def test_the_server_is_asked_for_files_that_its_list_lacks(name: str, there: bool | None, kinds: list[str]) -> None:
    asked: list[str] = []

    def has_file(name: str) -> bool | None:
        asked.append(name)
        return there

    found = find_problems({"1": node("LoadImage", "Mine", image=name)}, {"LoadImage": LOADER}, None, has_file)
    # A name without a folder is in the list if the file is there.
    assert [one.kind for one in found] == (["missing_file"] if (name, there) == ("b.png", None) else kinds)
    assert asked == [name]


def test_without_a_server_files_outside_the_list_are_only_noted() -> None:
    (note,) = find_problems({"1": node("LoadImage", "Mine", image=PASTED)}, {"LoadImage": LOADER})
    assert note.is_note
    assert note.said == (
        "image could not be looked for: only a server itself can tell whether it has this file: "
        "got 'pasted/image (72).png'"
    )


def test_a_url_is_no_file_of_the_input_folder() -> None:
    (finding,) = find_problems({"1": node("LoadImage", "Mine", image=URL)}, {"LoadImage": LOADER})
    assert (finding.kind, finding.message) == ("missing_file", "is a URL")
    assert "Set 1.image to a file on this machine" in str(finding.hint)


@pytest.mark.parametrize("name", [URL, PASTED])
def test_a_pack_may_look_for_files_elsewhere(name: str) -> None:
    info = {"LoadAny": {**LOADER, "python_module": "custom_nodes.any"}}
    found = find_problems({"1": node("LoadAny", "Mine", image=name)}, info, None, lambda name: False)
    assert [one.kind for one in found] == ["not_checked"]


def test_latents_are_files_of_the_input_folder() -> None:
    info = {"LoadLatent": {"input": {"required": {"latent": [["a.latent"]]}}, "output": [], "output_node": True}}
    nodes = {"1": node("LoadLatent", "Mine", latent="sub/b.latent")}
    assert find_problems(nodes, info, None, lambda name: True) == []
    (finding,) = find_problems(nodes, info, None, lambda name: False)
    assert finding.kind == "missing_file"


# Classes and outputs


def test_a_class_that_nobody_knows_may_be_an_output() -> None:
    nodes = api()
    nodes["7"]["class_type"] = "Mystery"
    nodes["5"]["inputs"]["steps"] = 0
    assert [finding.kind for finding in find_problems(nodes, OBJECT_INFO)] == ["out_of_range", "missing_node"]


def test_a_class_that_nobody_knows_is_said_even_if_it_feeds_nothing() -> None:
    nodes = api() | {"8": node("Mystery", "Riddle")}
    finding = only_problem(nodes)
    assert (finding.kind, finding.title, finding.hint) == (
        "missing_node", "Riddle", "No pack with it is known: install the one that provides it.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "without", "hint"),
    [
        ("KandinskyLoader", None, "By its name it is a node of the pack kandiflux (https://github.com/kandiflux/kandi"),
        ("KandifluxGrid", None, "By its name it is a node of the pack kandiflux (https://github.com/kandiflux/kandi"),
        ("Kandinsky5ImageToVideo", None, "It is a built-in node of ComfyUI: update ComfyUI"),
        ("VHS_VideoCombine", None, "Install the pack ComfyUI-VideoHelperSuite (https://github.com/Kosinkadink/"),
        ("Anything", "KSampler", "This server is not a ComfyUI and has few nodes"),
        ("CLIPTextEnocde", None, "Did you mean 'CLIPTextEncode'?"),
    ],
)
def test_what_to_do_about_a_class_that_nobody_knows(kind: str, without: str | None, hint: str) -> None:
    info = {name: about for name, about in OBJECT_INFO.items() if name != without}
    (finding,) = find_problems({"1": node(kind, "Mine")}, info)
    assert str(finding.hint).startswith(hint)


def test_a_node_without_a_title_is_called_as_the_server_calls_its_class() -> None:
    for about, title in (({"display_name": "Shown"}, "Shown"), ({}, "Show")):
        info = {"Show": {"output_node": True, "output": [], "input": {"required": {"x": ["INT"]}}, **about}}
        (finding,) = find_problems({"1": {"class_type": "Show", "inputs": {"x": "y"}}}, info)
        assert finding.title == title
