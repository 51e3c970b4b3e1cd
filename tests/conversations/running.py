"""Good prompts: what runs, in which order, what is cached, and what is told of progress."""

from __future__ import annotations

import json

from tests.conversations.common import forget, node, scenario, show
from tests.support.recorder import Recorder

WHOLE_RUN = ["execution_start", "execution_cached"]


@scenario
def a_picture_is_made_and_saved(client: Recorder) -> None:
    prompt = {
        "1": node("EmptyImage", width=24, height=16, batch_size=2, color=0xFF8000),
        "2": node("SaveImage", images=["1", 0], filename_prefix="made/%width%x%height%"),
    }
    ran = client.run(prompt, extra_data={"extra_pnginfo": {"workflow": {"version": 0.4}, "note": "ä"}})
    assert ran.types == [
        "execution_start",
        "execution_cached",
        "progress_state",
        "executing",
        "progress_state",
        "progress_state",
        "executing",
        "executed",
        "progress_state",
        "execution_success",
        "executing",
    ]
    assert ran.executing == ["1", "2", None]
    assert ran.history["status"]["status_str"] == "success"
    images = ran.history["outputs"]["2"]["images"]
    assert [image["filename"] for image in images] == ["24x16_00001_.png", "24x16_00002_.png"]
    picture = client.picture(images[1])
    assert picture.getpixel((3, 3)) == (255, 128, 0)
    assert json.loads(picture.info["prompt"]) == prompt
    assert json.loads(picture.info["workflow"]) == {"version": 0.4}


@scenario
def previews_go_to_the_temp_folder(client: Recorder) -> None:
    ran = client.run(
        {
            "1": node("EmptyImage", width=8, height=8, batch_size=1, color=255),
            "2": node("PreviewImage", images=["1", 0]),
        }
    )
    (image,) = ran.history["outputs"]["2"]["images"]
    assert image["type"] == "temp"
    assert image["filename"].startswith("ComfyUI_temp_")
    client.picture(image)


@scenario
def any_value_is_shown_as_text(client: Recorder) -> None:
    values = {
        "ein Fuchs\n狐狸": node("PrimitiveString", value="ein Fuchs\n狐狸"),
        "1.5": node("PrimitiveFloat", value=1.5),
        "True": node("PrimitiveBoolean", value=True),
        "tensor([[[[0., 0., 0.]]]])": node("EmptyImage", width=1, height=1, batch_size=1, color=0),
    }
    for shown, value in values.items():
        ran = client.run({"1": value, "2": node("PreviewAny", source=["1", 0])})
        assert ran.history["outputs"]["2"]["text"] == [shown]


@scenario
def a_second_run_is_answered_from_the_cache(client: Recorder) -> None:
    prompt = {"1": node("PrimitiveInt", value=3), "2": node("ProbeAdd", a=["1", 0], b=2), "3": show("2", 0)}
    client.run(prompt)
    again = client.run(prompt)
    assert again.data("execution_cached")["nodes"] == ["1", "2", "3"]
    assert again.types == [*WHOLE_RUN, "executed", "progress_state", "execution_success", "executing"]
    assert again.history["outputs"]["3"] == {"text": ["5"]}
    partly = client.run({**prompt, "2": node("ProbeAdd", a=["1", 0], b=3)})
    assert partly.data("execution_cached")["nodes"] == ["1"]
    assert partly.executing == ["2", "3", None]


@scenario
def the_cache_knows_nodes_by_what_they_do_not_by_their_ids(client: Recorder) -> None:
    client.run({"1": node("PrimitiveInt", value=3), "2": node("ProbeAdd", a=["1", 0], b=2), "3": show("2", 0)})
    renamed = client.run(
        {"x": node("PrimitiveInt", value=3), "y": node("ProbeAdd", a=["x", 0], b=2), "z": show("y", 0)}
    )
    assert renamed.data("execution_cached")["nodes"] == ["x", "y", "z"]


@scenario
def a_cached_output_without_ui_is_told_as_null(client: Recorder) -> None:
    prompt = {"1": node("PrimitiveInt", value=4), "2": node("ProbeQuiet", value=["1", 0])}
    first = client.run(prompt)
    assert "executed" not in first.types
    assert client.run(prompt).data("executed")["output"] is None


@scenario
def is_changed_decides_about_the_cache(client: Recorder) -> None:
    for mode in ("same", "list", "nan", "fresh nan", "raise"):
        prompt = {"1": node("ProbeChanged", mode=mode), "2": show("1", 0)}
        client.run(prompt)
        again = client.run(prompt)
        assert (again.executing == [None]) == (mode in ("same", "list", "nan"))


@scenario
def is_changed_may_come_with_the_prompt(client: Recorder) -> None:
    prompt = {"1": {**node("ProbeChanged", mode="fresh nan"), "is_changed": ["told"]}, "2": show("1", 0)}
    client.run(prompt)
    assert client.run(prompt).executing == [None]


@scenario
def lists_are_mapped_over(client: Recorder) -> None:
    ran = client.run({"1": node("ProbeList", n=3), "2": node("ProbeAdd", a=["1", 0], b=5), "3": show("2", 0)})
    assert ran.history["outputs"]["3"] == {"text": ["5", "6", "7"]}


@scenario
def lists_may_be_taken_whole(client: Recorder) -> None:
    ran = client.run(
        {"1": node("ProbeList", n=3), "2": node("ProbeJoin", values=["1", 0], separator="+"), "3": show("2", 0)}
    )
    assert ran.history["outputs"]["3"] == {"text": ["0+1+2"]}


@scenario
def an_empty_list_is_an_error_of_the_node_that_gets_it(client: Recorder) -> None:
    ran = client.run({"1": node("ProbeList", n=0), "2": node("ProbeAdd", a=["1", 0], b=5), "3": show("2", 0)})
    assert ran.history["status"]["status_str"] == "error"


@scenario
def only_the_lazy_input_that_is_asked_for_is_computed(client: Recorder) -> None:
    for second, value in ((False, "1"), (True, "2")):
        forget(client)
        ran = client.run(
            {
                "a": node("PrimitiveInt", value=1),
                "b": node("PrimitiveInt", value=2),
                "c": node("ProbeLazy", second=second, a=["a", 0], b=["b", 0]),
                "d": show("c", 0),
            }
        )
        assert ran.executing == ["c", "b" if second else "a", "c", "d", None]
        assert ran.history["outputs"]["d"] == {"text": [value]}


@scenario
def hidden_inputs_are_filled_in(client: Recorder) -> None:
    prompt = {"1": node("PrimitiveString", value="x"), "2": node("ProbeHidden", value=["1", 0])}
    ran = client.run(prompt, extra_data={"extra_pnginfo": {"workflow": {"id": "w"}}})
    (text,) = ran.history["outputs"]["2"]["text"]
    assert json.loads(text) == {
        "prompt": prompt,
        "extra": {"workflow": {"id": "w"}},
        "node_id": "2",
        "class": "ProbeHidden",
    }


@scenario
def constants_are_converted_and_wrapped_lists_unwrapped(client: Recorder) -> None:
    good = {"short": "a", "long": "choice 1", "number": "0.25", "whole": 2.9, "flag": 1}
    prompt = {"1": node("ProbeChoice", **good, anything={"__value__": ["x", "y"]}), "2": show("1", 0)}
    ran = client.run(prompt)
    (text,) = ran.history["outputs"]["2"]["text"]
    assert json.loads(text)["whole"] == 2
    assert json.loads(text)["anything"] == ["x", "y"]


@scenario
def coroutines_are_nodes_too(client: Recorder) -> None:
    ran = client.run({"1": node("ProbeAsync", value=4), "2": show("1", 0)})
    assert ran.history["outputs"]["2"] == {"text": ["5"]}


@scenario
def any_type_fits(client: Recorder) -> None:
    client.run({"1": show("2", 0), "2": node("PrimitiveFloat", value=0.5)})
    client.run({"1": node("PrimitiveInt", value=7), "2": node("ProbeTypes", value=["1", 0]), "3": show("2", 0)})


@scenario
def outputs_in_the_middle_run_as_soon_as_they_can(client: Recorder) -> None:
    ran = client.run(
        {
            "1": node("PrimitiveInt", value=1),
            "2": node("ProbeAdd", a=["1", 0], b=1),
            "3": show("2", 0),
            "4": node("ProbeAdd", a=["3", 0], b=1),
            "5": show("4", 0),
        },
        partial_execution_targets=["5"],
    )
    assert ran.executing == ["1", "2", "3", "4", "5", None]


@scenario
def only_the_targets_run(client: Recorder) -> None:
    ran = client.run(
        {"1": node("PrimitiveInt", value=1), "2": show("1", 0), "3": node("ProbeHidden", value=["1", 0])},
        partial_execution_targets=["3"],
    )
    assert ran.executing == ["1", "3", None]


@scenario
def nodes_run_in_comfyuis_order(client: Recorder) -> None:
    ran = client.run(
        {
            "a": node("PrimitiveInt", value=1),
            "b": node("PrimitiveInt", value=2),
            "c": node("ProbeAsync", value=3),
            "d": node("ProbeAdd", a=["b", 0], b=1),
            "e": node("ProbeJoin", values=["d", 0], separator="+"),
            "f": node("ProbeLazy", second=False, a=["c", 0], b=["a", 0]),
            "g": node("ProbeChoice", short="a", long="choice 2", number=1, whole=1, flag=True, either=["e", 0]),
            "h": node("ProbeTypes", value=["f", 0]),
            "i": node("ProbeJoin", values=["g", 0], separator=","),
            "j": node("ProbeFail", message="never", kind="value", after=["i", 0]),
            "k": node("ProbeChecked", answer="true", number=["h", 0], free=1),
            "l": show("i", 0),
        }
    )
    assert ran.history["status"]["status_str"] == "success"


@scenario
def progress_is_told_step_by_step(client: Recorder) -> None:
    # Steps less than 0.1 s after the last that was told may be left out.
    ran = client.run({"1": node("ProbeSteps", steps=3, delay=0.15, preview="none"), "2": show("1", 0)})
    steps = [frame["data"] for frame in ran.frames if frame["type"] == "progress"]
    assert [(step["value"], step["max"], step["node"]) for step in steps] == [(1, 3, "1"), (2, 3, "1"), (3, 3, "1")]


@scenario
def previews_are_plain_unless_metadata_is_negotiated(client: Recorder) -> None:
    for image_format in ("JPEG", "PNG"):
        client.connect()
        ran = client.run({"1": node("ProbeSteps", steps=2, delay=0, preview=image_format), "2": show("1", 0)})
        assert ran.data("binary")["kind"] == 1
        assert ran.data("binary")["picture"] == [image_format, 16, 8]
        forget(client)
        client.connect({"supports_preview_metadata": True})
        ran = client.run({"1": node("ProbeSteps", steps=2, delay=0, preview=image_format), "2": show("1", 0)})
        assert ran.data("binary")["kind"] == 4
        assert ran.data("binary")["metadata"]["node_id"] == "1"
        assert ran.data("binary")["metadata"]["prompt_id"] == ran.prompt_id
