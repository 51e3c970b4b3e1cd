"""Small editor files, one rule of their conversion each, and the node classes they use.

What they become stands in data/conversions.json. It was recorded from the editor itself, version 1.27.10, but for the
cases in STAND_APART; tests/editor/test_conversion_in_editor.py opens them all in the editor, and says how to record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

File = dict[str, Any]

__all__ = ["CASES", "OBJECT_INFO", "STAND_APART"]


def _class(inputs: dict[str, Any], outputs: str = "", optional: dict[str, Any] | None = None, **more: Any) -> File:
    types = outputs.split()
    groups = {"required": inputs, **({"optional": optional} if optional else {})}
    return {
        "input": groups,
        "input_order": {group: list(listed) for group, listed in groups.items()},
        "output": types,
        "output_name": types,
        "output_is_list": [False] * len(types),
        "output_node": not types,
        "description": "",
        "category": "test",
        "python_module": "test",
        **more,
    }


_SAMPLERS, _SCHEDULERS = ["euler", "heun", "dpmpp_2m"], ["simple", "karras", "normal"]
_TEXT = {"multiline": True, "dynamicPrompts": True}
_CLASSES = {
    "LoadAll": _class({"model_name": [["a.safetensors", "b.safetensors"]]}, "MODEL CLIP VAE"),
    "CLIPTextEncode": _class({"text": ["STRING", _TEXT], "clip": ["CLIP"]}, "CONDITIONING"),
    "EmptyLatentImage": _class(
        {
            "width": ["INT", {"default": 512, "min": 16, "max": 16384, "step": 8}],
            "height": ["INT", {"default": 512, "min": 16, "max": 16384, "step": 8}],
            "batch_size": ["INT", {"default": 1, "min": 1, "max": 4096}],
        },
        "LATENT",
    ),
    "KSampler": _class(
        {
            "model": ["MODEL"],
            "seed": ["INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}],
            "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
            "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1}],
            "sampler_name": [_SAMPLERS],
            "scheduler": ["COMBO", {"options": _SCHEDULERS}],
            "positive": ["CONDITIONING"],
            "negative": ["CONDITIONING"],
            "latent_image": ["LATENT"],
            "denoise": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}],
        },
        "LATENT",
    ),
    "VAEDecode": _class({"samples": ["LATENT"], "vae": ["VAE"]}, "IMAGE"),
    "SaveImage": _class({"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "ComfyUI"}]}),
    "PreviewImage": _class({"images": ["IMAGE"]}),
    "PreviewAny": _class({"source": ["*"]}),
    "LoadImage": _class({"image": [["p.png", "q.png"], {"image_upload": True}]}, "IMAGE MASK"),
    "LoadOptional": _class(
        {"image": [["p.png", "q.png"], {"image_upload": True}]}, "IMAGE", {"scale": ["FLOAT", {"default": 2.0}]}
    ),
    "EmptyImage": _class({"width": ["INT", {"default": 64}], "height": ["INT", {"default": 32}]}, "IMAGE"),
    # The first input is no picture, so that a bypass has to look for one.
    "Blur": _class({"mask": ["MASK"], "image": ["IMAGE"], "radius": ["INT", {"default": 1, "min": 1}]}, "IMAGE"),
    "Split": _class({"image": ["IMAGE"], "mask": ["MASK"]}, "MASK IMAGE"),
    "Either": _class({"source": ["IMAGE,MASK"]}, "IMAGE"),
    "Anything": _class({"any": ["*"], "image": ["IMAGE"]}, "*"),
    "PrimitiveInt": _class({"value": ["INT", {"default": 0, "control_after_generate": True}]}, "INT"),
    "Text": _class({"value": ["STRING", {"multiline": True}]}, "STRING"),
    "Choice": _class({"which": [["one", "two"], {"control_after_generate": True}], "after": ["INT", {}]}, "INT"),
    "Many": _class({"kinds": ["COMBO", {"options": ["x", "y", "z"], "multi_select": True}]}, "INT"),
    "Late": _class({"socket": ["STRING", {"forceInput": True}], "kept": ["INT", {"default": 1}]}, "IMAGE"),
    "Mixed": _class(
        {"a": ["INT", {"default": 1}], "b": ["FLOAT", {"default": 0.5}]},
        "IMAGE",
        {"text": ["STRING", {"default": "x"}], "flag": ["BOOLEAN", {"default": True}], "image": ["IMAGE"]},
    ),
}
# Inputs whose number depends on what is chosen or connected: newer editors only.
_DYNAMIC = {
    "Resize": _class(
        {
            "image": ["IMAGE"],
            "how": ["COMFY_DYNAMICCOMBO_V3", {"options": [
                {"key": "to a size", "inputs": {"required": {
                    "width": ["INT", {"default": 512}], "crop": ["COMBO", {"options": ["center", "none"]}],
                }}},
                {"key": "by a factor", "inputs": {"required": {"factor": ["FLOAT", {"default": 1.5}]}}},
                {"key": "as another", "inputs": {"required": {"other": ["IMAGE", {}]}}},
            ]}],
            "method": ["COMBO", {"options": ["area", "lanczos"]}],
        },
        "IMAGE",
    ),
    "Batch": _class(
        {
            "images": ["COMFY_AUTOGROW_V3", {"template": {
                "input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image", "min": 2, "max": 8,
            }}],
            "loop": ["BOOLEAN", {"default": False}],
        },
        "IMAGE",
    ),
}  # fmt: skip
OBJECT_INFO: File = {
    name: {"name": name, "display_name": name, **about} for name, about in {**_CLASSES, **_DYNAMIC}.items()
}


def node(
    node_id: Any,
    kind: str,
    values: Any = None,
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    /,
    **more: Any,
) -> File:
    """inputs: [name, type, link or None], and True as a fourth where it is a widget too. outputs: [type, *links]."""
    slots = [
        {"name": name, "type": type_, "link": link, **({"widget": {"name": name}} if widget else {})}
        for name, type_, link, *widget in inputs or []
    ]
    made = [
        one if isinstance(one, dict) else {"name": one[0], "type": one[0], "links": one[1:]} for one in outputs or []
    ]
    order = node_id if isinstance(node_id, int) else 0
    return {
        "id": node_id, "type": kind, "pos": [0, 0], "size": [200, 100], "flags": {}, "order": order, "mode": 0,
        "inputs": slots, "outputs": made, "properties": {}, "widgets_values": values, **more,
    }  # fmt: skip


def file(nodes: list[File], links: list[Any] | None = None, **more: Any) -> File:
    ids = [about["id"] for about in nodes if isinstance(about["id"], int)]
    return {
        "last_node_id": max(ids, default=0), "last_link_id": 99, "nodes": nodes, "links": links or [], "groups": [],
        "config": {}, "extra": {}, "version": 0.4, **more,
    }  # fmt: skip


def link(link_id: int, origin: int, origin_slot: int, target: int, target_slot: int, kind: str) -> File:
    ends = {"origin_id": origin, "origin_slot": origin_slot, "target_id": target, "target_slot": target_slot}
    return {"id": link_id, **ends, "type": kind}


def slot(name: str, kind: str, links: list[int]) -> File:
    return {"id": f"{name}-{kind}", "name": name, "type": kind, "linkIds": links, "pos": [0, 0]}


def subgraph(subgraph_id: str, nodes: list[File], links: list[File], inputs: list[File], outputs: list[File]) -> File:
    ends = [{"id": end, "bounding": [0, 0, 100, 100]} for end in (-10, -20)]
    return {
        "id": subgraph_id, "version": 1, "name": subgraph_id[:4], "revision": 0, "config": {}, "extra": {},
        "state": {"lastNodeId": 50, "lastLinkId": 50, "lastGroupId": 0, "lastRerouteId": 0},
        "inputNode": ends[0], "outputNode": ends[1], "inputs": inputs, "outputs": outputs, "widgets": [],
        "nodes": nodes, "links": links, "groups": [],
    }  # fmt: skip


CASES: dict[str, File] = {}
STAND_APART: dict[str, str] = {}
"""Cases of which the runner makes something else than the editor 1.27.10, with the reason: what that one does."""


def case(make: Callable[[], File]) -> Callable[[], File]:
    CASES[make.__name__] = make()
    return make


def case_apart(because: str) -> Callable[[Callable[[], File]], Callable[[], File]]:
    def note(make: Callable[[], File]) -> Callable[[], File]:
        STAND_APART[make.__name__] = because
        return case(make)

    return note


_IMAGE = node(1, "EmptyImage", [640, 480], [], [["IMAGE", 1]])
_SAVE = node(9, "SaveImage", ["out"], [["images", "IMAGE", 9]])


@case
def widgets_in_the_order_of_object_info() -> File:
    return file([node(1, "KSampler", [7, "randomize", 12, 3.5, "heun", "karras", 0.5])])


@case
def a_missing_value_takes_its_default() -> File:
    return file([node(1, "KSampler", [7, "fixed", 12]), node(2, "Mixed", None), node(3, "Text", [])])


@case
def legacy_booleans_fill_the_control() -> File:
    return file([node(1, "KSampler", [7, True, 12, 3.5, "sample_heun", "karras", 0.5])])


@case
def a_choice_with_control_has_a_filter() -> File:
    return file([node(1, "Choice", ["two", "fixed", "", 5]), node(2, "PrimitiveInt", [4, "increment"])])


@case
def the_upload_button_is_no_input() -> File:
    return file([node(1, "LoadImage", ["q.png", "image"]), node(2, "LoadOptional", ["q.png", 3.0, "image"])])


@case
def an_empty_picture_is_the_first() -> File:
    return file([node(1, "LoadImage", ["", "image"])])


@case
def lists_are_wrapped() -> File:
    return file([node(1, "Many", [["x", "z"]]), node(2, "Many", [])])


@case
def texts_are_those_of_a_text_area() -> File:
    return file([node(1, "Text", ["a\r\nb\rc"]), node(2, "Text", [None]), node(3, "Text", [7])])


@case
def dynamic_prompts_without_choices() -> File:
    return file([
        node(1, "CLIPTextEncode", ["a {red} fox // not this\nand /* nor\nthat */ a \\{hen\\}"]),
        node(2, "CLIPTextEncode", ["see {{deep}} \\\\ x"]),
        node(3, "Text", ["{kept} // all of it"]),
    ])  # fmt: skip


@case
def names_of_files_made_of_widgets() -> File:
    named = {"Node name for S&R": "Canvas"}
    return file([
        node(1, "EmptyImage", [640, 480], [], [["IMAGE", 9]], properties=named),
        node(2, "KSampler", [7, "fixed", 12, 3.5, "heun", "karras", 0.5], title="My: sampler"),
        {**_SAVE, "widgets_values": ["%Canvas.width%-%My: sampler.seed%-%Nobody.x%-%width%-%Canvas.depth%"]},
    ], [[9, 1, 0, 9, 0, "IMAGE"]])  # fmt: skip


@case
def a_linked_widget_keeps_its_slot() -> File:
    return file([
        node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 5]]),
        node(2, "EmptyImage", [10, 20], [["width", "INT", 5, True]], [["IMAGE", 9]]),
        _SAVE,
    ], [[5, 1, 0, 2, 0, "INT"], [9, 2, 0, 9, 0, "IMAGE"]])  # fmt: skip


@case
def a_forced_input_has_no_slot() -> File:
    return file([node(1, "Late", ["old", 5]), node(2, "Late", [6])])


@case
def a_primitive_is_written_into_what_it_feeds() -> File:
    return file([
        node(1, "PrimitiveNode", [33, "fixed"], [], [["INT", 5, 6]]),
        node(2, "EmptyImage", [10, 20], [["width", "INT", 5, True], ["height", "INT", 6, True]], [["IMAGE", 9]]),
        _SAVE,
    ], [[5, 1, 0, 2, 0, "INT"], [6, 1, 0, 2, 1, "INT"], [9, 2, 0, 9, 0, "IMAGE"]])  # fmt: skip


@case
def a_primitive_of_a_text_is_a_dynamic_prompt() -> File:
    return file([
        node(1, "PrimitiveNode", ["a {blue} hen"], [], [["STRING", 5]]),
        node(2, "CLIPTextEncode", ["old"], [["clip", "CLIP", None], ["text", "STRING", 5, True]]),
    ], [[5, 1, 0, 2, 1, "STRING"]])  # fmt: skip


@case
def reroutes_and_notes_are_no_nodes() -> File:
    return file([
        _IMAGE,
        node(2, "Reroute", None, [["", "*", 1]], [["*", 2]]),
        node(3, "Reroute", None, [["", "*", 2]], [["IMAGE", 9]]),
        node(5, "MarkdownNote", ["read me"]),
        node(6, "Note", ["me too"]),
        _SAVE,
    ], [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "*"], [9, 3, 0, 9, 0, "IMAGE"]])  # fmt: skip


@case
def native_reroutes() -> File:
    extra = {
        "reroutes": [{"id": 1, "pos": [5, 5], "linkIds": [9]}],
        "linkExtensions": [{"id": 9, "parentId": 1}],
    }
    image = node(1, "EmptyImage", [640, 480], [], [["IMAGE", 9]])
    return file([image, _SAVE], [[9, 1, 0, 9, 0, "IMAGE"]], extra=extra)


@case
def format_1() -> File:
    image = node(1, "EmptyImage", [640, 480], [], [["IMAGE", 9]])
    return {
        "version": 1, "config": {}, "extra": {}, "groups": [], "nodes": [image, _SAVE],
        "state": {"lastNodeId": 9, "lastLinkId": 12, "lastGroupId": 0, "lastRerouteId": 2},
        "links": [{**link(9, 1, 0, 9, 0, "IMAGE"), "parentId": 2}],
        "reroutes": [{"id": 1, "pos": [5, 5], "linkIds": [9]}, {"id": 2, "parentId": 1, "pos": [6, 6], "linkIds": [9]}],
        "floatingLinks": [{**link(12, 1, 0, -1, -1, "IMAGE"), "parentId": 1}],
    }  # fmt: skip


def _chain(middle: File, links: list[Any] | None = None) -> File:
    tail = [[1, 1, 0, 2, 1, "IMAGE"], [9, 2, 0, 9, 0, "IMAGE"]]
    return file([_IMAGE, middle, _SAVE], links or tail)


_BLUR = node(2, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", 1]], [["IMAGE", 9]])


@case
def a_muted_node_is_dropped_with_its_links() -> File:
    return _chain({**_BLUR, "mode": 2})


@case
def a_bypassed_node_passes_on_the_input_of_the_type() -> File:
    return _chain({**_BLUR, "mode": 4})


@case
def a_bypassed_node_prefers_the_same_place() -> File:
    middle = node(2, "Split", None, [["image", "IMAGE", 1], ["mask", "MASK", 3]], [["MASK"], ["IMAGE", 9]], mode=4)
    load = node(3, "LoadImage", ["q.png", "image"], [], [["IMAGE"], ["MASK", 3]])
    links = [[1, 1, 0, 2, 0, "IMAGE"], [3, 3, 1, 2, 1, "MASK"], [9, 2, 1, 9, 0, "IMAGE"]]
    return file([_IMAGE, middle, load, _SAVE], links)


@case
def a_bypassed_node_without_the_type_passes_on_nothing() -> File:
    middle = node(2, "VAEDecode", None, [["samples", "LATENT", 1], ["vae", "VAE", None]], [["IMAGE", 9]], mode=4)
    latent = node(1, "EmptyLatentImage", [64, 64, 1], [], [["LATENT", 1]])
    return file([latent, middle, _SAVE], [[1, 1, 0, 2, 0, "LATENT"], [9, 2, 0, 9, 0, "IMAGE"]])


@case
def a_bypassed_node_of_several_types() -> File:
    middle = node(2, "Either", None, [["source", "IMAGE,MASK", 1]], [["IMAGE", 9]], mode=4)
    return file([_IMAGE, middle, _SAVE], [[1, 1, 0, 2, 0, "IMAGE"], [9, 2, 0, 9, 0, "IMAGE"]])


@case
def a_bypassed_node_before_an_input_of_any_type() -> File:
    middle = {**_BLUR, "mode": 4, "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [9]}]}
    show = node(9, "PreviewAny", [], [["source", "*", 9]])
    return file([_IMAGE, middle, show], [[1, 1, 0, 2, 1, "IMAGE"], [9, 2, 0, 9, 0, "*"]])


@case
def bypassed_nodes_in_a_row_and_behind_a_reroute() -> File:
    second = node(3, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", 2]], [["IMAGE", 3]], mode=4)
    reroute = node(4, "Reroute", None, [["", "*", 3]], [["IMAGE", 9]])
    first = {**_BLUR, "mode": 4, "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}]}
    links = [[1, 1, 0, 2, 1, "IMAGE"], [2, 2, 0, 3, 1, "IMAGE"], [3, 3, 0, 4, 0, "IMAGE"], [9, 4, 0, 9, 0, "IMAGE"]]
    return file([_IMAGE, first, second, reroute, _SAVE], links)


@case
def a_muted_node_behind_a_bypassed_one() -> File:
    muted = {**_IMAGE, "mode": 2}
    return file([muted, {**_BLUR, "mode": 4}, _SAVE], [[1, 1, 0, 2, 1, "IMAGE"], [9, 2, 0, 9, 0, "IMAGE"]])


_SIZED = subgraph(
    "aaaaaaaa-0000-4000-8000-000000000001",
    [node(21, "EmptyImage", [11, 22], [["width", "INT", 1, True], ["height", "INT", 3, True]], [["IMAGE", 2]])],
    [link(1, -10, 0, 21, 0, "INT"), link(3, -10, 1, 21, 1, "INT"), link(2, 21, 0, -20, 0, "IMAGE")],
    [slot("width", "INT", [1]), slot("tall", "INT", [3])],
    [slot("IMAGE", "IMAGE", [2])],
)


def _instance(values: Any, inputs: list[Any] | None = None, **more: Any) -> File:
    listed = inputs or [["width", "INT", None, True], ["tall", "INT", None, True]]
    return node(5, _SIZED["id"], values, listed, [["IMAGE", 9]], **more)


def _with_subgraphs(nodes: list[File], links: list[Any], *subgraphs: File) -> File:
    return file(nodes, links, definitions={"subgraphs": list(subgraphs)})


_OUT = [9, 5, 0, 9, 0, "IMAGE"]


@case
def a_subgraph_with_values_of_its_own() -> File:
    return _with_subgraphs([_instance([99, 88]), _SAVE], [_OUT], _SIZED)


@case
def a_subgraph_without_values_of_its_own() -> File:
    return _with_subgraphs([_instance([]), _SAVE], [_OUT], _SIZED)


@case
def a_link_to_a_subgraph_wins_over_its_value() -> File:
    number = node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 5]])
    listed = [["width", "INT", 5, True], ["tall", "INT", None, True]]
    links = [[5, 1, 0, 5, 0, "INT"], _OUT]
    return _with_subgraphs([number, _instance([99, 88], listed), _SAVE], links, _SIZED)


@case
def an_instance_that_lists_fewer_inputs_than_its_definition() -> File:
    number = node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 5]])
    links = [[5, 1, 0, 5, 0, "INT"], _OUT]
    return _with_subgraphs([number, _instance([99, 88], [["tall", "INT", 5, True]]), _SAVE], links, _SIZED)


@case
def two_instances_of_one_subgraph() -> File:
    second = {**_instance([7, 6]), "id": 6, "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [10]}]}
    preview = node(10, "PreviewImage", [], [["images", "IMAGE", 10]])
    links = [_OUT, [10, 6, 0, 10, 0, "IMAGE"]]
    return _with_subgraphs([_instance([99, 88]), second, _SAVE, preview], links, _SIZED)


@case
def one_input_of_a_subgraph_for_two_widgets() -> File:
    both = subgraph(
        "aaaaaaaa-0000-4000-8000-000000000002",
        [node(21, "EmptyImage", [11, 22], [["width", "INT", 1, True], ["height", "INT", 3, True]], [["IMAGE", 2]])],
        [link(1, -10, 0, 21, 0, "INT"), link(3, -10, 0, 21, 1, "INT"), link(2, 21, 0, -20, 0, "IMAGE")],
        [slot("side", "INT", [1, 3])],
        [slot("IMAGE", "IMAGE", [2])],
    )
    use = node(5, both["id"], [], [["side", "INT", None, True]], [["IMAGE", 9]])
    return _with_subgraphs([use, _SAVE], [_OUT], both)


_NESTING = subgraph(
    "bbbbbbbb-0000-4000-8000-000000000001",
    [
        node(27, _SIZED["id"], [55, 44], [["width", "INT", 1, True], ["tall", "INT", None, True]], [["IMAGE", 2]]),
        node(28, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", 2]], [["IMAGE", 3]]),
    ],
    [link(1, -10, 0, 27, 0, "INT"), link(2, 27, 0, 28, 1, "IMAGE"), link(3, 28, 0, -20, 0, "IMAGE")],
    [slot("wide", "INT", [1])],
    [slot("IMAGE", "IMAGE", [3])],
)


@case
def nested_subgraphs() -> File:
    use = node(5, _NESTING["id"], [77], [["wide", "INT", None, True]], [["IMAGE", 9]])
    return _with_subgraphs([use, _SAVE], [_OUT], _SIZED, _NESTING)


@case
def nested_subgraphs_linked_through() -> File:
    number = node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 5]])
    use = node(5, _NESTING["id"], [77], [["wide", "INT", 5, True]], [["IMAGE", 9]])
    return _with_subgraphs([number, use, _SAVE], [[5, 1, 0, 5, 0, "INT"], _OUT], _SIZED, _NESTING)


@case
def a_primitive_before_a_subgraph() -> File:
    number = node(1, "PrimitiveNode", [33, "fixed"], [], [["INT", 5]])
    listed = [["width", "INT", 5, True], ["tall", "INT", None, True]]
    return _with_subgraphs([number, _instance([99, 88], listed), _SAVE], [[5, 1, 0, 5, 0, "INT"], _OUT], _SIZED)


_PASSING = subgraph(
    "cccccccc-0000-4000-8000-000000000001",
    [node(31, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", 1]], [["IMAGE", 2]])],
    [link(1, -10, 0, 31, 1, "IMAGE"), link(2, 31, 0, -20, 0, "IMAGE")],
    [slot("image", "IMAGE", [1])],
    [slot("IMAGE", "IMAGE", [2])],
)


@case_apart("it sends the nodes inside, which nothing needs; newer editors do not")
def a_bypassed_subgraph_is_led_around() -> File:
    use = node(5, _PASSING["id"], [], [["image", "IMAGE", 1]], [["IMAGE", 9]], mode=4)
    return _with_subgraphs([_IMAGE, use, _SAVE], [[1, 1, 0, 5, 0, "IMAGE"], _OUT], _PASSING)


@case
def a_bypassed_node_in_a_subgraph() -> File:
    inner = {**_PASSING["nodes"][0], "mode": 4}
    use = node(5, _PASSING["id"], [], [["image", "IMAGE", 1]], [["IMAGE", 9]])
    definition = {**_PASSING, "nodes": [inner]}
    return _with_subgraphs([_IMAGE, use, _SAVE], [[1, 1, 0, 5, 0, "IMAGE"], _OUT], definition)


@case
def proxies_of_widgets_that_no_input_leads_to() -> File:
    listed = {"properties": {"proxyWidgets": [["31", "radius"]]}}
    use = node(5, _PASSING["id"], [], [["image", "IMAGE", 1]], [["IMAGE", 9]], **listed)
    return _with_subgraphs([_IMAGE, use, _SAVE], [[1, 1, 0, 5, 0, "IMAGE"], _OUT], _PASSING)


@case_apart("it gives the values to other widgets than those they were saved from")
def proxies_with_holes() -> File:
    """Null stands for a widget whose value the inner node keeps; the list ends with the last of the instance's own."""
    both = {"proxyWidgets": [["31", "radius"], ["-1", "tall"], ["-1", "width"], ["31", "control_after_generate"]]}
    nodes = [_SIZED["nodes"][0], node(31, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", 2]], [["IMAGE", 4]])]
    links = [*_SIZED["links"][:2], link(2, 21, 0, 31, 1, "IMAGE"), link(4, 31, 0, -20, 0, "IMAGE")]
    definition = {**_SIZED, "nodes": nodes, "links": links, "outputs": [slot("IMAGE", "IMAGE", [4])]}
    return _with_subgraphs([_instance([None, 88, 99], properties=both), _SAVE], [_OUT], definition)


@case
def proxies_of_inputs_with_values() -> File:
    proxies = {"proxyWidgets": [["-1", "width"], ["-1", "tall"]]}
    return _with_subgraphs([_instance([99, 88], properties=proxies), _SAVE], [_OUT], _SIZED)


def _group(nodes: list[File], links: list[Any], external: list[Any], **more: Any) -> File:
    inner = [{**about, "id": -1, "index": number} for number, about in enumerate(nodes)]
    return {"nodes": inner, "links": links, "external": external, **more}


_SAMPLING = _group(
    [
        node(0, "CLIPTextEncode", ["inner"], [["clip", "CLIP", None]], [["CONDITIONING"]]),
        node(
            0, "KSampler", [1, "fixed", 2, 3, "euler", "simple", 1],
            [["model", "MODEL", None], ["positive", "CONDITIONING", None], ["negative", "CONDITIONING", None],
             ["latent_image", "LATENT", None]], [["LATENT"]],
        ),
        node(0, "VAEDecode", [], [["samples", "LATENT", None], ["vae", "VAE", None]], [["IMAGE"]]),
    ],
    [[0, 0, 1, 1, 4, "CONDITIONING"], [1, 0, 2, 0, 5, "LATENT"]],
    [[2, 0, "IMAGE"]],
)  # fmt: skip


@case
def a_group_node() -> File:
    loader = node(1, "LoadAll", ["b.safetensors"], [], [["MODEL", 1], ["CLIP", 2], ["VAE", 3]])
    use = node(
        5, "workflow>sampling", ["a hen", 42, "fixed", 9, 4.5, "heun", "karras", 0.9],
        [["clip", "CLIP", 2], ["model", "MODEL", 1], ["negative", "CONDITIONING", None],
         ["latent_image", "LATENT", None], ["vae", "VAE", 3]],
        [["IMAGE", 9]],
    )  # fmt: skip
    links = [[1, 1, 0, 5, 1, "MODEL"], [2, 1, 1, 5, 0, "CLIP"], [3, 1, 2, 5, 4, "VAE"], _OUT]
    return file([loader, use, _SAVE], links, extra={"groupNodes": {"sampling": _SAMPLING}})


@case
def two_group_nodes_of_the_oldest_spelling() -> File:
    values = ["a hen", 42, "fixed", 9, 4.5, "heun", "karras", 0.9]
    other = ["a fox", 43, "randomize", 8, 2.5, "euler", "normal", 0.8]
    uses = [node(5, "workflow/sampling", values), node(6, "workflow/sampling", other)]
    return file(uses, extra={"groupNodes": {"sampling": _SAMPLING}})


@case
def a_group_node_of_two_alike() -> File:
    pair = _group([node(0, "EmptyImage", [1, 2], [], [["IMAGE"]]) for _ in range(2)], [], [])
    use = node(5, "workflow>pair", [10, 20, 30, 40], [], [["IMAGE"], ["IMAGE", 9]])
    return file([use, _SAVE], [[9, 5, 1, 9, 0, "IMAGE"]], extra={"groupNodes": {"pair": pair}})


@case
def a_group_node_with_a_picture_to_upload() -> File:
    load = node(0, "LoadImage", ["p.png", "image"], [], [["IMAGE"], ["MASK"]])
    inner = [load, node(0, "EmptyImage", [3, 4], [], [["IMAGE"]])]
    use = node(5, "workflow>load", ["q.png", "image", 30, 40], [], [["IMAGE", 9], ["MASK"], ["IMAGE"]])
    return file([use, _SAVE], [_OUT], extra={"groupNodes": {"load": _group(inner, [], [])}})


@case_apart("it does not know such inputs")
def choices_that_bring_inputs_along() -> File:
    first = node(
        2, "Resize", ["by a factor", 2.5, "lanczos"],
        [["image", "IMAGE", 1], ["how", "COMFY_DYNAMICCOMBO_V3", None, True], ["how.factor", "FLOAT", None, True],
         ["method", "COMBO", None, True]], [["IMAGE", 2]],
    )  # fmt: skip
    second = node(
        3, "Resize", ["as another", "lanczos"],
        [["image", "IMAGE", 2], ["how", "COMFY_DYNAMICCOMBO_V3", None, True], ["how.other", "IMAGE", 3],
         ["method", "COMBO", None, True]], [["IMAGE", 9]],
    )  # fmt: skip
    image = {**_IMAGE, "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1, 3]}]}
    links = [[1, 1, 0, 2, 0, "IMAGE"], [3, 1, 0, 3, 2, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"], [9, 3, 0, 9, 0, "IMAGE"]]
    return file([image, first, second, _SAVE], links)


@case
def inputs_that_grow() -> File:
    names = ["images.image0", "images.image1", "images.image2", "images.image3"]
    listed = [[name, "IMAGE", 1 + at if at in (0, 2) else None] for at, name in enumerate(names)]
    batch = node(2, "Batch", [True], [*listed, ["loop", "BOOLEAN", None, True]], [["IMAGE", 9]])
    image = {**_IMAGE, "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1, 3]}]}
    return file([image, batch, _SAVE], [[1, 1, 0, 2, 0, "IMAGE"], [3, 1, 0, 2, 2, "IMAGE"], [9, 2, 0, 9, 0, "IMAGE"]])


@case
def a_primitive_reaches_no_further_than_a_reroute() -> File:
    return file([
        node(1, "PrimitiveNode", [33, "fixed"], [], [["INT", 5]]),
        node(2, "Reroute", None, [["", "*", 5]], [["INT", 6]]),
        node(3, "EmptyImage", [10, 20], [["width", "INT", 6, True]], [["IMAGE", 9]]),
        _SAVE,
    ], [[5, 1, 0, 2, 0, "INT"], [6, 2, 0, 3, 0, "INT"], [9, 3, 0, 9, 0, "IMAGE"]])  # fmt: skip


@case
def a_file_that_lists_only_its_linked_inputs() -> File:
    number = node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 5]])
    latent = node(2, "EmptyLatentImage", [64, 64, 1], [], [["LATENT", 6]])
    sampler = node(
        3, "KSampler", [7, "fixed", 12, 3.5, "heun", "karras", 0.5],
        [["latent_image", "LATENT", 6], ["steps", "INT", 5, True]], [["LATENT", 7]],
    )  # fmt: skip
    decode = node(4, "VAEDecode", None, [["samples", "LATENT", 7], ["vae", "VAE", None]], [["IMAGE"]])
    links = [[5, 1, 0, 3, 1, "INT"], [6, 2, 0, 3, 0, "LATENT"], [7, 3, 0, 4, 0, "LATENT"]]
    return file([number, latent, sampler, decode], links)


@case
def an_inner_input_that_is_found_by_its_link() -> File:
    """A file that lists few inputs numbers them differently from the editor."""
    inner = node(
        21, "KSampler", [7, "fixed", 12, 3.5, "heun", "karras", 0.5],
        [["latent_image", "LATENT", 4], ["steps", "INT", 1, True], ["cfg", "FLOAT", 3, True]], [["LATENT", 2]],
    )  # fmt: skip
    definition = subgraph(
        "dddddddd-0000-4000-8000-000000000001",
        [inner],
        [link(4, -10, 0, 21, 0, "LATENT"), link(1, -10, 1, 21, 1, "INT"), link(3, -10, 2, 21, 2, "FLOAT"),
         link(2, 21, 0, -20, 0, "LATENT")],
        [slot("latent", "LATENT", [4]), slot("steps", "INT", [1]), slot("cfg", "FLOAT", [3])],
        [slot("LATENT", "LATENT", [2])],
    )  # fmt: skip
    latent = node(2, "EmptyLatentImage", [64, 64, 1], [], [["LATENT", 6]])
    use = node(5, definition["id"], [], [["latent", "LATENT", 6]], [["LATENT", 7]])
    decode = node(4, "VAEDecode", None, [["samples", "LATENT", 7], ["vae", "VAE", None]], [["IMAGE"]])
    return _with_subgraphs([latent, use, decode], [[6, 2, 0, 5, 0, "LATENT"], [7, 5, 0, 4, 0, "LATENT"]], definition)


@case_apart("it sends what is inside, as if the subgraph were not muted")
def a_muted_subgraph() -> File:
    use = node(5, _PASSING["id"], [], [["image", "IMAGE", 1]], [["IMAGE", 9]], mode=2)
    return _with_subgraphs([_IMAGE, use, _SAVE], [[1, 1, 0, 5, 0, "IMAGE"], _OUT], _PASSING)


@case_apart("it would save pictures that the user has switched off")
def output_in_a_bypassed_subgraph() -> File:
    saving = {**_PASSING, "nodes": [*_PASSING["nodes"], node(32, "SaveImage", ["no"], [["images", "IMAGE", 4]])]}
    saving["links"] = [*_PASSING["links"], link(4, 31, 0, 32, 0, "IMAGE")]
    use = node(5, saving["id"], [], [["image", "IMAGE", 1]], [["IMAGE", 9]], mode=4)
    return _with_subgraphs([_IMAGE, use, _SAVE], [[1, 1, 0, 5, 0, "IMAGE"], _OUT], saving)


@case_apart("it gives the values to other widgets than those they were saved from")
def proxies_in_another_order_than_the_inputs() -> File:
    proxies = {"proxyWidgets": [["-1", "tall"], ["-1", "width"]]}
    return _with_subgraphs([_instance([88, 99], properties=proxies), _SAVE], [_OUT], _SIZED)


@case_apart("it loses what comes in through the reroute")
def a_reroute_in_a_group_node() -> File:
    inner = [
        node(0, "Reroute", None, [["", "*", None]], [["IMAGE"]]),
        node(0, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", None]], [["IMAGE"]]),
    ]
    group = _group(inner, [[0, 0, 1, 1, 4, "IMAGE"]], [])
    use = node(5, "workflow>soft", [8], [["IMAGE", "IMAGE", 1], ["mask", "MASK", None]], [["IMAGE", 9]])
    return file([_IMAGE, use, _SAVE], [[1, 1, 0, 5, 0, "IMAGE"], _OUT], extra={"groupNodes": {"soft": group}})


@case
def a_primitive_in_a_group_node() -> File:
    output = {"name": "INT", "type": "INT", "links": [], "widget": {"name": "width"}}
    inner = [
        node(0, "PrimitiveNode", [3, "fixed"], [], [output], title="side"),
        node(0, "EmptyImage", [1, 2], [["width", "INT", None, True]], [["IMAGE"]]),
    ]
    group = _group(inner, [[0, 0, 1, 0, 4, "INT"]], [])
    use = node(5, "workflow>square", [30, "fixed", 40], [], [["IMAGE", 9]])
    return file([use, _SAVE], [_OUT], extra={"groupNodes": {"square": group}})


@case_apart("only the pack that stores values so restores them")
def values_stored_by_name() -> File:
    return file([node(1, "EmptyImage", {"width": 8, "made_by_the_pack": 19, "preview": {"hidden": False}})])


@case_apart("it looks for the inner links among the outer ones, and fails")
def a_primitive_in_a_subgraph() -> File:
    definition = subgraph(
        "eeeeeeee-0000-4000-8000-000000000001",
        [
            node(21, "PrimitiveNode", [33, "fixed"], [], [["INT", 40]]),
            node(22, "EmptyImage", [11, 22], [["width", "INT", 40, True]], [["IMAGE", 41]]),
        ],
        [link(40, 21, 0, 22, 0, "INT"), link(41, 22, 0, -20, 0, "IMAGE")],
        [],
        [slot("IMAGE", "IMAGE", [41])],
    )
    use = node(5, definition["id"], [], [], [["IMAGE", 9]])
    return _with_subgraphs([use, _SAVE], [_OUT], definition)


@case
def a_bypassed_node_of_any_type() -> File:
    middle = node(2, "Anything", None, [["any", "*", None], ["image", "IMAGE", 1]], [["*", 9]], mode=4)
    return file([_IMAGE, middle, _SAVE], [[1, 1, 0, 2, 1, "IMAGE"], [9, 2, 0, 9, 0, "IMAGE"]])


@case
def a_reroute_in_a_subgraph() -> File:
    definition = subgraph(
        "ffffffff-0000-4000-8000-000000000001",
        [
            node(21, "Reroute", None, [["", "*", 40]], [["IMAGE", 41]]),
            node(22, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", 41]], [["IMAGE", 42]]),
        ],
        [link(40, -10, 0, 21, 0, "*"), link(41, 21, 0, 22, 1, "IMAGE"), link(42, 22, 0, -20, 0, "IMAGE")],
        [slot("image", "IMAGE", [40])],
        [slot("IMAGE", "IMAGE", [42])],
    )
    use = node(5, definition["id"], [], [["image", "IMAGE", 1]], [["IMAGE", 9]])
    return _with_subgraphs([_IMAGE, use, _SAVE], [[1, 1, 0, 5, 0, "IMAGE"], _OUT], definition)


@case
def one_subgraph_after_another() -> File:
    first = node(5, _PASSING["id"], [], [["image", "IMAGE", 1]], [["IMAGE", 2]])
    second = node(6, _PASSING["id"], [], [["image", "IMAGE", 2]], [["IMAGE", 9]])
    links = [[1, 1, 0, 5, 0, "IMAGE"], [2, 5, 0, 6, 0, "IMAGE"], [9, 6, 0, 9, 0, "IMAGE"]]
    return _with_subgraphs([_IMAGE, first, second, _SAVE], links, _PASSING)


@case_apart("it sends what is inside, for nothing")
def a_group_node_that_is_bypassed() -> File:
    soft = _group([node(0, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", None]], [["IMAGE"]])], [], [])
    listed = [["mask", "MASK", None], ["image", "IMAGE", 1]]
    use = node(5, "workflow>soft", [8], listed, [["IMAGE", 9]], mode=4)
    return file([_IMAGE, use, _SAVE], [[1, 1, 0, 5, 1, "IMAGE"], _OUT], extra={"groupNodes": {"soft": soft}})


@case_apart("it gives every widget the value of another")
def values_saved_with_their_names_where_the_class_had_other_widgets() -> File:
    names = ["steps", "seed", "control_after_generate", "cfg", "sampler_name", "scheduler", "denoise"]
    values = [12, 7, "fixed", 3.5, "heun", "karras", 0.5]
    return file([node(1, "KSampler", values, widgets_values_named=dict(zip(names, values, strict=True)))])


@case_apart("it gives the values to other widgets than those they were saved from")
def a_subgraph_around_a_class_that_had_another_widget() -> File:
    inner = [["mode", "COMBO", 4, True], ["width", "INT", 1, True], ["height", "INT", 3, True]]
    definition = {
        **_SIZED,
        "nodes": [node(21, "EmptyImage", ["old", 11, 22], inner, [["IMAGE", 2]])],
        "links": [
            link(4, -10, 0, 21, 2, "COMBO"),
            link(1, -10, 1, 21, 0, "INT"),
            link(3, -10, 2, 21, 1, "INT"),
            link(2, 21, 0, -20, 0, "IMAGE"),
        ],
        "inputs": [slot("mode", "COMBO", [4]), slot("width", "INT", [1]), slot("tall", "INT", [3])],
    }
    return _with_subgraphs([_instance(["gone", 99, 88]), _SAVE], [_OUT], definition)


def _sampler_in_a_group() -> File:
    listed = [["model", "MODEL", None], ["positive", "CONDITIONING", None], ["negative", "CONDITIONING", None]]
    return node(
        0,
        "KSampler",
        [1, "fixed", 2, 3, "euler", "simple", 1],
        [*listed, ["latent_image", "LATENT", None]],
        [["LATENT"]],
    )


@case
def a_group_node_of_two_samplers_that_names_the_second() -> File:
    group = _group([_sampler_in_a_group(), _sampler_in_a_group()], [], [])
    latent = node(1, "EmptyLatentImage", [64, 64, 1], [], [["LATENT", 1]])
    values = [11, "fixed", 5, 1.5, "heun", "karras", 0.5, 22, "randomize", 6, 2.5, "dpmpp_2m", "normal", 0.6]
    names = ["model", "positive", "negative", "latent_image"]
    kinds = ["MODEL", "CONDITIONING", "CONDITIONING", "LATENT"]
    own = [[name, kind, None] for name, kind in zip(names, kinds, strict=True)]
    second = [[f"KSampler {name}", kind, None] for name, kind in zip(names, kinds, strict=True)]
    second[3][2] = 1
    use = node(5, "workflow>two", values, [*own, *second], [["LATENT"], ["LATENT", 9]])
    decode = node(9, "VAEDecode", None, [["samples", "LATENT", 9], ["vae", "VAE", None]], [["IMAGE"]])
    links = [[1, 1, 0, 5, 7, "LATENT"], [9, 5, 1, 9, 0, "LATENT"]]
    return file([latent, use, decode], links, extra={"groupNodes": {"two": group}})


@case
def a_group_node_with_inputs_and_outputs_renamed_and_hidden() -> File:
    config = {
        "0": {"input": {"steps": {"name": "how many"}, "model": {"visible": False}}},
        "1": {"input": {"latent_image": {"name": "noise"}}, "output": {"0": {"visible": True}}},
        "2": {"output": {"0": {"visible": False}}},
    }
    image = node(0, "EmptyImage", [3, 4], [], [["IMAGE"]])
    group = _group([_sampler_in_a_group(), _sampler_in_a_group(), image, image], [], [], config=config)
    latent = node(1, "EmptyLatentImage", [64, 64, 1], [], [["LATENT", 1]])
    listed = [
        ["positive", "CONDITIONING", None], ["negative", "CONDITIONING", None], ["latent_image", "LATENT", None],
        ["KSampler model", "MODEL", None], ["KSampler positive", "CONDITIONING", None],
        ["KSampler negative", "CONDITIONING", None], ["noise", "LATENT", 1],
    ]  # fmt: skip
    values = [
        11,
        "fixed",
        5,
        1.5,
        "heun",
        "karras",
        0.5,
        22,
        "randomize",
        6,
        2.5,
        "dpmpp_2m",
        "normal",
        0.6,
        7,
        8,
        9,
        10,
    ]
    use = node(5, "workflow>many", values, listed, [["LATENT"], ["LATENT"], ["IMAGE", 9]])
    links = [[1, 1, 0, 5, 6, "LATENT"], [9, 5, 2, 9, 0, "IMAGE"]]
    return file([latent, use, _SAVE], links, extra={"groupNodes": {"many": group}})


@case_apart("it looks for the link at another place among the inputs, and loses it")
def a_group_node_with_a_widget_made_an_input() -> File:
    inner = [
        node(0, "EmptyImage", [3, 4], [["width", "INT", None, True]], [["IMAGE"]]),
        node(0, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", None]], [["IMAGE"]]),
    ]
    group = _group(inner, [[0, 0, 1, 1, 4, "IMAGE"]], [])
    number = node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 5]])
    use = node(5, "workflow>sized", [40, 6, 30], [["mask", "MASK", None], ["width", "INT", 5, True]], [["IMAGE", 9]])
    links = [[5, 1, 0, 5, 1, "INT"], _OUT]
    return file([number, use, _SAVE], links, extra={"groupNodes": {"sized": group}})
