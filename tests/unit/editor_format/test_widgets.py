"""Which slot of a file's `widgets_values` belongs to which input, and what the editor's widgets make of the values."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.widgets import javascript_text, node_widgets, widget_slots, widget_values

DYNAMIC, GROUP, GROWING = "COMFY_DYNAMICCOMBO_V3", "COMFY_DYNAMICGROUP_V3", "COMFY_AUTOGROW_V3"


def info(required: dict[str, Any], optional: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"input": {"required": required, "optional": optional or {}}, **more}


def values(about: dict[str, Any], stored: Any, kind: str = "Some", linked: tuple[str, ...] = (), **more: Any) -> Any:
    inputs = [{"name": name, "link": 1} for name in linked] + [{"name": "loose", "link": None}]
    return widget_values({"type": kind, "widgets_values": stored, "inputs": inputs, **more}, about)


NUMBER = ["INT", {"default": 5}]
PICTURE = [["p.png", "q.png"], {"image_upload": True}]


# Slots


@pytest.mark.parametrize(
    ("kind", "about", "slots"),
    [
        ("Some", info({"a": NUMBER, "b": ["IMAGE"], "c": ["STRING"]}), ["a", "c"]),
        ("Some", info({"seed": ["INT"], "b": NUMBER}), ["seed", None, "b"]),
        ("Some", info({"which": [["x"], {"control_after_generate": True}], "b": NUMBER}), ["which", None, None, "b"]),
        ("Some", info({"area": ["BOUNDING_BOX"], "b": NUMBER}), ["area", None, None, None, None, "b"]),
        ("Some", info({"w": ["COMBO", {"remote": {}}], "b": NUMBER}), ["w", "b"]),
        ("Some", info({"w": ["COMBO", {"remote": {"route": "/x"}}], "b": NUMBER}), ["w", None, "b"]),
        ("Some", info({"w": ["COMBO", {"remote": {"refresh_button": True}}], "b": NUMBER}), ["w", None, None, "b"]),
        ("Some", info({"upload": ["IMAGEUPLOAD"], "b": NUMBER}), [None, "b"]),
        ("Some", info({"shown": ["IMAGECOMPARE"], "b": NUMBER}), ["b"]),
        ("Some", info({"shown": ["RESOLUTION_PREVIEW"], "b": NUMBER}), ["b"]),
        # The button to choose a file comes after the required inputs, or after all that are in the declared order.
        ("Some", info({"image": PICTURE}, {"b": NUMBER}), ["image", None, "b"]),
        ("Some", info({"image": PICTURE}, {"b": NUMBER}, input_order={"required": ["image"]}), ["image", "b", None]),
        ("Some", info({"image": PICTURE, "upload": ["IMAGEUPLOAD"]}, {"b": NUMBER}), ["image", None, "b"]),
        ("Some", info({"video": [["a"], {"video_upload": True}]}), ["video", None]),
        ("Some", info({"image": [["a"], {"animated_image_upload": True}]}), ["image", None]),
        ("Some", info({"image": [["a"], {"image_upload": 1}]}), ["image"]),
        ("Some", info({"audio": [["a"], {"audio_upload": True}]}), ["audio", None]),
        ("Some", info({"sound": [["a"], {"audio_upload": True}]}), ["sound"]),
        ("Some", info({"b": NUMBER}, {"image": PICTURE}), ["b", "image"]),
        ("LoadAudio", info({"audio": [["a"], {"audio_upload": True}]}, {"b": NUMBER}), ["audio", None, "b"]),
        ("SaveGLB", info({"name": ["STRING"]}), ["name", "image"]),
        ("Preview3D", info({"name": ["STRING"]}), ["name", "image"]),
        ("PreviewAny", info({"source": ["*"]}), []),
    ],
)  # fmt: skip
def test_the_slots_of_a_class(kind: str, about: dict[str, Any], slots: list[str | None]) -> None:
    assert widget_slots(kind, about) == slots


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("LoadAudio", {"audio": "a"}), ("SaveGLB", {"audio": "a", "image": ""}),
     ("PreviewAny", {"audio": "a", "preview": ""}), ("Some", {"audio": "a"})],
)  # fmt: skip
def test_what_the_editors_extensions_add_is_sent(kind: str, sent: dict[str, Any]) -> None:
    assert values(info({"audio": [["a"]]}), [], kind) == sent


def test_a_dynamic_choice_brings_its_own_widgets_along() -> None:
    branches = [
        {"key": "size", "inputs": {"required": {"w": NUMBER, "seed": ["INT"]}, "optional": {"h": NUMBER}}},
        {"key": "deep", "inputs": {"required": {"inner": [DYNAMIC, {"options": [
            {"key": "one", "inputs": {"required": {"n": NUMBER}}}]}]}}},
        {"key": "rows", "inputs": {"required": {"many": [GROWING, {"template": {}}], "n": NUMBER}}},
        {"key": "none"},
    ]  # fmt: skip
    about = info({"how": [DYNAMIC, {"options": branches}], "last": NUMBER})
    assert values(about, ["size", 1, 2, 3, 4]) == {"how": "size", "how.w": 1, "how.seed": 2, "how.h": 3, "last": 4}
    assert values(about, ["deep", "one", 6, 4]) == {"how": "deep", "how.inner": "one", "how.inner.n": 6, "last": 4}
    assert values(about, ["rows", 6, 4]) == {"how": "rows", "how.n": 6, "last": 4}
    assert values(about, ["none", 4]) == {"how": "none", "last": 4}
    assert values(about, ["gone", 4]) == {"how": "gone", "last": 4}
    assert values(about, [7, 4]) == {"how": 7, "last": 4}
    assert values(about, []) == {"how": "size", "how.w": 5, "how.seed": 0, "how.h": 5, "last": 5}


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ([2, "a", "b", 9], {"rows.0.t": "a", "rows.1.t": "b", "last": 9}),
        ([0, 9], {"last": 9}),
        ([-1, 9], {"last": 9}),
        (["x", 9], {"last": 9}),
        ([], {"rows.0.t": "", "last": 5}),
    ],
)
def test_a_group_of_rows_has_as_many_as_its_first_slot_says(stored: list[Any], sent: dict[str, Any]) -> None:
    template = {"required": {"t": ["STRING"], "picture": ["IMAGE"]}}
    assert values(info({"rows": [GROUP, {"template": template, "min": 1}], "last": NUMBER}), stored) == sent


def test_a_group_has_at_most_a_hundred_rows() -> None:
    about = info({"rows": [GROUP, {"template": {"required": {"t": ["STRING"]}}}]})
    assert len(values(about, [101])) == len(values(about, [10**12])) == 100


def growing(fields: dict[str, Any] | None = None, **template: Any) -> dict[str, Any]:
    template = {"input": {"required": fields or {"v": NUMBER}}, "prefix": "v", **template}
    return info({"many": [GROWING, {"template": template}], "last": NUMBER})


def grown(about: dict[str, Any], *linked: str) -> list[str]:
    return [widget.name for widget in node_widgets("Some", about, (), linked)]


@pytest.mark.parametrize(
    ("template", "linked", "names"),
    [
        # One row more than the least is there at first, before the other inputs; more come after them.
        ({"min": 1}, [], ["many.v0", "many.v1", "last"]),
        ({}, [], ["many.v0", "many.v1", "last"]),
        ({"min": 2}, [], ["many.v0", "many.v1", "many.v2", "last"]),
        ({"min": True}, [], ["many.v0", "many.v1", "last"]),
        ({"min": 1}, ["many.v0"], ["many.v0", "many.v1", "last"]),
        ({"min": 1}, ["many.v1"], ["many.v0", "many.v1", "last", "many.v2"]),
        ({"min": 1}, ["many.v3"], ["many.v0", "many.v1", "last", "many.v2", "many.v3", "many.v4"]),
        ({"min": 1}, ["many.v3", "many.v1"], ["many.v0", "many.v1", "last", "many.v2", "many.v3", "many.v4"]),
        ({"min": 1}, ["other.v3", "v3", "many.v"], ["many.v0", "many.v1", "last"]),
        ({"min": 1, "max": 3}, ["many.v2"], ["many.v0", "many.v1", "last", "many.v2"]),
        ({"min": 4, "max": 2}, [], ["many.v0", "many.v1", "last"]),
        ({"min": 1, "names": ["a", "b", "c"]}, [], ["many.a", "many.b", "last"]),
        ({"min": 1, "names": ["a", "b", "c"]}, ["many.b"], ["many.a", "many.b", "last", "many.c"]),
        ({"min": 1, "names": ["a", "b", "c"]}, ["many.c"], ["many.a", "many.b", "last", "many.c"]),
        ({"min": 1, "names": ["a", "b", "c"]}, ["many.a", "many.v7"], ["many.a", "many.b", "last"]),
        ({"min": 1, "prefix": None}, [], ["many.0", "many.1", "last"]),
    ],
)
def test_rows_of_inputs_that_grow(template: dict[str, Any], linked: list[str], names: list[str]) -> None:
    assert grown(growing(**template), *linked) == names


def test_rows_of_several_inputs_are_called_after_each() -> None:
    about = growing({"a": NUMBER, "b": NUMBER}, min=1)
    assert grown(about) == ["many.a0", "many.b0", "many.a1", "many.b1", "last"]


def test_rows_that_grow_end_at_a_hundred() -> None:
    assert len(grown(growing(min=1), "many.v999999999")) == 101
    assert len(grown(growing(min=1, max=1000), "many.v500")) == 101


@pytest.mark.parametrize(
    "template", [{"min": 99}, {"min": 100}, {"min": 100, "max": 200}, {"min": 10**9, "max": 10**9}]
)
def test_rows_that_are_there_at_first_end_at_a_hundred_too(template: dict[str, Any]) -> None:
    assert len(grown(growing(**template))) == 101


def test_the_values_of_rows_stand_where_the_rows_do() -> None:
    assert values(growing(min=1), [1, 2, 3, 4], linked=("many.v1",)) == {
        "many.v0": 1, "many.v1": 2, "last": 3, "many.v2": 4,
    }  # fmt: skip


# Values


@pytest.mark.parametrize(
    ("stored", "sent"),
    [([1, 2], {"a": 1, "b": 2}), ([1], {"a": 1, "b": 5}), ([], {"a": 5, "b": 5}), (None, {"a": 5, "b": 5}),
     ([1, None, 3], {"a": 1, "b": None}), ("ab", {"a": 5, "b": 5})],
)  # fmt: skip
def test_values_by_position(stored: Any, sent: dict[str, Any]) -> None:
    assert values(info({"a": NUMBER, "b": NUMBER}), stored) == sent


def test_values_by_name_and_those_of_widgets_that_only_the_pack_knows() -> None:
    stored = {"b": 7, "more": "x", "ratio": 0.5, "on": True, "list": [1], "nothing": None, "hidden": {}}
    assert values(info({"a": NUMBER, "b": NUMBER}), stored) == {"a": 5, "b": 7, "more": "x", "ratio": 0.5, "on": True}


def test_names_count_only_where_the_order_was_another() -> None:
    about = info({"a": NUMBER, "seed": ["INT"], "b": NUMBER})
    same = {"a": 10, "seed": 20, "some control": 0, "b": 30}
    assert values(about, [1, 2, "fixed", 3], widgets_values_named=same) == {"a": 1, "seed": 2, "b": 3}
    other = {"b": 30, "a": 10}
    assert values(about, [1, 2, "fixed", 3], widgets_values_named=other) == {"a": 10, "seed": 0, "b": 30}


def test_an_empty_list_of_choices_is_sent_as_nothing_only_if_it_is_required() -> None:
    about = info({"need": [[]], "picture": ["IMAGE"]}, {"may": [[]]})
    assert values(about, []) == {"need": None}
    assert values(about, ["x", "y"]) == {"need": "x", "may": "y"}


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        (
            ["old", 7, 1, "fixed"],
            {"b": 7, "seed": 1},
        ),  # as many values as there were widgets: the first is the socket's
        ([7, 1, "fixed"], {"b": 7, "seed": 1}),
        (["old", 7, 1, "fixed", 9], {"b": 7, "seed": 1}),  # another number: the only arrangement that fits
    ],
)
def test_an_input_that_became_a_socket_loses_its_slot(stored: list[Any], sent: dict[str, Any]) -> None:
    about = info({"socket": ["INT", {"forceInput": True}], "b": NUMBER, "seed": ["INT"], "image": ["IMAGE"]})
    assert values(about, stored) == sent


def test_an_input_that_became_a_socket_beside_a_widget_with_a_control() -> None:
    about = info({"b": ["INT", {"control_after_generate": True}], "socket": ["INT", {"forceInput": True}]})
    assert values(about, [3, "fixed", "old"]) == {"b": 3}
    about = info({"socket": ["INT", {"forceInput": True}], "noise_seed": ["INT"], "b": NUMBER})
    assert values(about, ["old", 3, "fixed", 7]) == {"noise_seed": 3, "b": 7}


@pytest.mark.parametrize(
    ("value", "text"),
    [("a\r\nb\rc\n", "a\nb\nc\n"), (None, ""), (7, "7"), (8.0, "8"), (0.5, "0.5"), (True, "true"), (False, "false"),
     ([1, None, [2.0, "x"]], "1,,2,x"), ({}, "[object Object]")],
)  # fmt: skip
def test_a_text_area_holds_text(value: Any, text: str) -> None:
    assert values(info({"t": ["STRING", {"multiline": True}]}), [value]) == {"t": text}
    assert values(info({"t": ["STRING", {}]}), [value]) == {"t": value}
    if isinstance(value, (float, bool, list, dict)):
        assert javascript_text(value) == text


@pytest.mark.parametrize(
    ("options", "value", "sent"),
    [
        ({}, "q.png", "q.png"),
        ({}, "", "p.png"),
        ({}, None, "p.png"),
        ({}, "gone.png", "gone.png"),
        ({"image_folder": "output"}, "q.png", "q.png [output]"),
        ({"image_folder": "output"}, "q.png [input]", "q.png [input]"),
        ({"image_folder": "output"}, "q.png [Temp]", "q.png [Temp]"),
        ({"image_folder": "output"}, 5, 5),
        ({"image_folder": "input"}, "q.png", "q.png"),
    ],
)
def test_choices_of_pictures(options: dict[str, Any], value: Any, sent: Any) -> None:
    about = info({"image": [["p.png", "q.png"], {"image_upload": True, **options}]})
    assert values(about, [value]) == {"image": sent}
    plain = info({"image": [["p.png", "q.png"], options]})
    assert values(plain, [value]) == {"image": value}


def test_old_names_of_samplers() -> None:
    about = info({"sampler_name": [["euler"]], "x": ["STRING"]})
    for kind, sent in (("KSampler", "euler"), ("KSamplerAdvanced", "euler"), ("Other", "sample_euler")):
        assert values(about, ["sample_euler", "sample_x"], kind) == {"sampler_name": sent, "x": "sample_x"}
    assert values(about, [5, "x"], "KSampler") == {"sampler_name": 5, "x": "x"}
