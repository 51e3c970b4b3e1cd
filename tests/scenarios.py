"""What a host must do, as conversations with it. Each runs on the lite host and on ComfyUI.

A scenario asserts what matters and leaves the whole conversation in the recorder's log; tests/host
also compares the two logs.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import websocket
from PIL import Image

from tests.recorder import Json, Recorder

Scenario = Callable[[Recorder], None]
SCENARIOS: list[Scenario] = []

WHOLE_RUN = ["execution_start", "execution_cached"]


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def node(class_type: str, **inputs: Any) -> Json:
    return {"class_type": class_type, "inputs": inputs}


def forget(client: Recorder) -> None:
    """Have the host drop its cached outputs: it keeps only what the last prompt uses."""
    prompt = {"f": node("PrimitiveInt", value=time.time_ns() % 10**9), "g": node("ProbeQuiet", value=["f", 0])}
    client.connect()
    client.run(prompt)
    client.log.clear()


def show(*source: Any) -> Json:
    return node("ProbeShow", value=list(source))


# Good prompts.


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


# Progress.


@scenario
def progress_is_told_step_by_step(client: Recorder) -> None:
    ran = client.run({"1": node("ProbeSteps", steps=3, delay=0, preview="none"), "2": show("1", 0)})
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


# Failing validation.

PICTURE = node("EmptyImage", width=8, height=8, batch_size=1, color=0)
CHOICE = {"short": "a", "long": "choice 1", "number": 0.5, "whole": 1, "flag": True}
INVALID: dict[str, Json] = {
    "no nodes": {},
    "no output": {"1": PICTURE},
    "missing class": {"1": node("NoSuchNode"), "2": show("1", 0)},
    "no class_type": {"1": {"inputs": {}}},
    "no inputs": {"1": {"class_type": "ProbeShow"}},
    "no inputs further up": {"1": {"class_type": "PrimitiveInt"}, "2": show("1", 0)},
    "required input missing": {"1": PICTURE, "2": node("SaveImage", images=["1", 0])},
    "wrong link type": {
        "1": node("PrimitiveInt", value=1),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    },
    "wrong type further up": {
        "1": PICTURE,
        "2": node("ProbeAdd", a=["1", 0], b=1),
        "3": node("ProbeAdd", a=["2", 0], b=100),
        "4": show("3", 0),
    },
    "link to nothing": {"1": show("9", 0)},
    "link to nothing further up": {"1": node("ProbeAdd", a=["9", 0], b=1), "2": show("1", 0)},
    "link to no output": {"1": node("PrimitiveInt", value=1), "2": show("1", 3)},
    "list that is no link": {"1": node("ProbeAdd", a=[1, 2, 3], b=1), "2": show("1", 0)},
    "too small": {"1": node("ProbeChoice", **{**CHOICE, "number": -1}), "2": show("1", 0)},
    "too big": {"1": node("ProbeChoice", **{**CHOICE, "whole": 6}), "2": show("1", 0)},
    "not a number": {"1": node("ProbeChoice", **{**CHOICE, "whole": "six"}), "2": show("1", 0)},
    "no value at all": {"1": node("ProbeChoice", **{**CHOICE, "number": None}), "2": show("1", 0)},
    "not in a short list": {"1": node("ProbeChoice", **{**CHOICE, "short": "c"}), "2": show("1", 0)},
    "not in a long list": {"1": node("ProbeChoice", **{**CHOICE, "long": "c"}), "2": show("1", 0)},
    "all at once": {"1": node("ProbeChoice", short="c", long="c", number=7, flag=0), "2": show("1", 0)},
    "the class says no": {"1": node("ProbeChecked", answer="false", number=1, free=1), "2": show("1", 0)},
    "the class says why": {"1": node("ProbeChecked", answer="text", number=1, free=99), "2": show("1", 0)},
    "the class fails": {"1": node("ProbeChecked", answer="raise", number=1, free=1), "2": show("1", 0)},
    "the class looks at types": {
        "1": node("PrimitiveFloat", value=1),
        "2": node("ProbeTypes", value=["1", 0]),
        "3": show("2", 0),
    },
    "no such image": {
        "1": node("LoadImage", image="no such.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    },
    "a cycle": {"1": node("ProbeAdd", a=["2", 0], b=1), "2": node("ProbeAdd", a=["1", 0], b=1), "3": show("2", 0)},
    "two bad outputs": {
        "1": node("ProbeAdd", a=["9", 0], b=100),
        "2": show("1", 0),
        "3": node("ProbeHidden", value=["1", 0]),
    },
}


@scenario
def invalid_prompts_are_refused_with_the_reason(client: Recorder) -> None:
    for name, prompt in INVALID.items():
        client.log.append(name)
        client.rejected(prompt)


@scenario
def a_valid_output_runs_beside_an_invalid_one(client: Recorder) -> None:
    prompt = {
        "1": node("PrimitiveInt", value=5),
        "2": show("1", 0),
        "3": node("ProbeAdd", a=["1", 0], b=1000),
        "4": show("3", 0),
    }
    client.connect()
    answer = client.submit(prompt)
    assert answer.status_code == 200
    assert list(answer.json()["node_errors"]) == ["3"]
    ran = client.follow(answer.json()["prompt_id"])
    assert ran.history["outputs"] == {"2": {"text": ["5"]}}


@scenario
def a_body_without_a_prompt_is_refused(client: Recorder) -> None:
    assert client.request("POST", "/prompt", json={"client_id": "x"}).json()["error"]["type"] == "no_prompt"


# Failing at run time.


@scenario
def an_exception_in_a_node_ends_the_prompt(client: Recorder) -> None:
    for kind in ("value", "own", "none"):
        forget(client)
        ran = client.run(
            {
                "1": node("ProbeList", n=2),
                "2": node("ProbeFail", message="broken ä", kind=kind, after=["1", 0]),
                "3": show("2", 0),
            }
        )
        assert ran.types[-3:] == ["executing", "execution_error", "executing"]
        assert ran.history["status"] == {
            "status_str": "error",
            "completed": False,
            "messages": ran.history["status"]["messages"],
        }
        error = ran.data("execution_error")
        assert (error["node_id"], error["node_type"], error["executed"]) == ("2", "ProbeFail", ["1"])
        assert error["current_inputs"]["after"] == [0, 1]


@scenario
def what_ran_before_the_error_is_cached(client: Recorder) -> None:
    prompt = {
        "1": node("PrimitiveInt", value=8),
        "2": node("ProbeFail", message="m", kind="value", after=["1", 0]),
        "3": show("2", 0),
    }
    client.run(prompt)
    assert client.run(prompt).executing == ["2", None]


@scenario
def an_unknown_input_is_an_error_of_the_node(client: Recorder) -> None:
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": node("ProbeShow", value=["1", 0], more=["1", 0])})
    assert ran.data("execution_error")["exception_type"] == "TypeError"


# Interrupting.

SLOW = {
    "1": node("PrimitiveInt", value=1),
    "2": node("ProbeSteps", steps=400, delay=0.05, preview="none"),
    "3": show("2", 0),
}


def without_progress(client: Recorder) -> None:
    """How far a node gets before it is interrupted is chance."""
    client.log = [one for one in client.log if one.get("type") not in ("progress", "progress_state")]


@scenario
def an_interrupt_ends_the_running_prompt(client: Recorder) -> None:
    for targeted in (False, True):
        forget(client)
        asked: list[int] = []

        def interrupt(frame: Json, prompt_id: str, asked: list[int] = asked, targeted: bool = targeted) -> None:
            if frame["type"] == "progress" and not asked:
                body = {"json": {"prompt_id": prompt_id}} if targeted else {}
                asked.append(client.quietly("POST", "/interrupt", **body).status_code)

        ran = client.run(SLOW, on_frame=interrupt)
        assert asked == [200]
        assert ran.types[-2:] == ["execution_interrupted", "executing"]
        assert ran.history["status"]["status_str"] == "error"
        assert ran.history["status"]["completed"] is False
        without_progress(client)


@scenario
def an_interrupt_of_another_prompt_does_nothing(client: Recorder) -> None:
    def interrupt(frame: Json, prompt_id: str) -> None:
        if frame["type"] == "progress":
            client.quietly("POST", "/interrupt", json={"prompt_id": "another"})

    ran = client.run(
        {"1": node("ProbeSteps", steps=3, delay=0.05, preview="none"), "2": show("1", 0)}, on_frame=interrupt
    )
    assert ran.history["status"]["status_str"] == "success"


@scenario
def an_interrupt_while_nothing_runs_is_forgotten(client: Recorder) -> None:
    client.request("POST", "/interrupt", json={})
    ran = client.run({"1": node("ProbeSteps", steps=2, delay=0, preview="none"), "2": show("1", 0)})
    assert ran.history["status"]["status_str"] == "success"


# The queue and the history.


@scenario
def the_queue_is_shown_and_pending_prompts_can_be_taken_back(client: Recorder) -> None:
    client.connect()
    running = client.submit(SLOW).json()["prompt_id"]
    while client.frame()["type"] != "progress":
        pass
    pending = [client.submit({"1": node("PrimitiveInt", value=n), "2": show("1", 0)}).json() for n in (1, 2)]
    front = client.submit({"1": node("PrimitiveInt", value=3), "2": show("1", 0)}, front=True).json()
    assert front["number"] < 0
    queue = client.quietly("GET", "/queue").json()
    assert [entry[1] for entry in queue["queue_running"]] == [running]
    assert sorted(entry[1] for entry in queue["queue_pending"]) == sorted(one["prompt_id"] for one in (*pending, front))
    assert client.quietly("GET", "/prompt").json() == {"exec_info": {"queue_remaining": 4}}
    client.request("POST", "/queue", json={"delete": [pending[0]["prompt_id"], "unknown"]})
    queue = client.quietly("GET", "/queue").json()
    assert len(queue["queue_pending"]) == 2
    client.request("POST", "/queue", json={"clear": True})
    assert client.quietly("GET", "/queue").json()["queue_pending"] == []
    client.quietly("POST", "/interrupt")
    ran = client.follow(running)
    assert ran.types[-1] == "executing"
    for one in (*pending, front):
        assert client.quietly("GET", f"/history/{one['prompt_id']}").json() == {}
    client.log = [one for one in client.log if one.get("type") not in ("progress", "progress_state", "status")]


@scenario
def front_goes_first(client: Recorder) -> None:
    client.connect()
    running = client.submit(SLOW).json()["prompt_id"]
    while client.frame()["type"] != "progress":
        pass
    ids = [
        client.submit({"1": node("PrimitiveInt", value=n), "2": show("1", 0)}, **options).json()["prompt_id"]
        for n, options in ((11, {}), (12, {"front": True}), (13, {"number": -5000}))
    ]
    client.quietly("POST", "/interrupt")
    client.follow(running)
    started: list[str] = []
    while len(started) < 3:
        frame = client.frame()
        if frame["type"] == "execution_start":
            started.append(frame["data"]["prompt_id"])
    assert started == [ids[2], ids[1], ids[0]]
    client.follow(ids[0])
    client.log = [one for one in client.log if one.get("type") not in ("progress", "progress_state", "status")]


@scenario
def history_can_be_read_in_parts_and_deleted(client: Recorder) -> None:
    client.quietly("POST", "/history", json={"clear": True})
    ids = [client.run({"1": node("PrimitiveInt", value=n), "2": show("1", 0)}).prompt_id for n in range(4)]
    everything = list(client.request("GET", "/history").json())
    assert everything == ids
    assert list(client.request("GET", "/history?max_items=2").json()) == ids[2:]
    assert list(client.request("GET", "/history?max_items=2&offset=1").json()) == ids[1:3]
    assert list(client.request("GET", "/history?offset=3").json()) == ids[3:]
    assert list(client.request("GET", "/history?max_items=9").json()) == ids
    client.request("POST", "/history", json={"delete": [ids[0], "unknown"]})
    assert list(client.request("GET", "/history").json()) == ids[1:]
    assert client.request("GET", f"/history/{ids[0]}").json() == {}
    client.request("POST", "/history", json={"clear": True})
    assert client.request("GET", "/history").json() == {}


@scenario
def secrets_do_not_reach_the_history(client: Recorder) -> None:
    extra = {"api_key_comfy_org": "secret", "auth_token_comfy_org": "secret", "kept": 1}
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)}, extra_data=extra)
    assert "secret" not in json.dumps(ran.history)


# Connections.


@scenario
def the_first_frame_is_the_status(client: Recorder) -> None:
    (status,) = client.connect()
    assert status["data"]["sid"] == client.client_id
    assert status["data"]["status"] == {"exec_info": {"queue_remaining": 0}}


@scenario
def feature_flags_are_answered_only_as_the_first_message(client: Recorder) -> None:
    frames = client.connect({"supports_preview_metadata": True})
    assert frames[1]["type"] == "feature_flags"
    assert frames[1]["data"] == client.request("GET", "/features").json()
    client.connect()
    assert client.socket is not None
    client.socket.send("not JSON")
    client.socket.send(json.dumps({"type": "something else"}))
    client.socket.send(json.dumps({"type": "feature_flags", "data": {}}))
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
    assert "feature_flags" not in ran.types


@scenario
def a_client_that_comes_back_is_told_what_runs(client: Recorder) -> None:
    client.connect()
    running = client.submit(SLOW).json()["prompt_id"]
    while client.frame()["type"] != "progress":
        pass
    assert client.socket is not None
    client.socket.close()
    time.sleep(0.5)  # or the old connection's end takes the new one along
    (status,) = client.connect(client_id=client.client_id)
    assert status["data"]["status"]["exec_info"]["queue_remaining"] == 1
    executing = client.frame()
    assert executing == {"type": "executing", "data": {"node": "2"}}
    client.quietly("POST", "/interrupt")
    assert client.follow(running).types[-2:] == ["execution_interrupted", "executing"]
    without_progress(client)


@scenario
def without_a_client_id_everyone_hears_of_the_progress(client: Recorder) -> None:
    client.connect()
    prompt = {"1": node("ProbeSteps", steps=2, delay=0, preview="PNG"), "2": show("1", 0)}
    prompt_id = client.submit(prompt, client_id=None).json()["prompt_id"]
    client.history(prompt_id)
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
    before = ran.types[: ran.types.index("execution_start")]
    assert before == ["progress_state", *["progress_state", "progress", "binary"] * 2, *["progress_state"] * 3]


@scenario
def clients_hear_of_their_own_prompts_only(client: Recorder) -> None:
    client.connect()
    with Recorder(client.host) as other:
        other.connect()
        running = other.submit({"1": node("ProbeSteps", steps=2, delay=0.05, preview="PNG"), "2": show("1", 0)}).json()
        mine = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
        other.follow(running["prompt_id"])
        assert {frame["data"].get("prompt_id") for frame in mine.frames if frame["type"] != "status"} == {
            mine.prompt_id
        }
    # When the queue's length changes depends on which of the two is quicker.
    client.log = [one for one in client.log if one.get("type") != "status"]


@scenario
def the_end_of_an_old_connection_takes_a_new_one_of_the_same_id_along(client: Recorder) -> None:
    client.connect()
    old, client.socket = client.socket, None
    assert old is not None
    client.connect(client_id=client.client_id)
    old.close()
    time.sleep(0.5)
    assert client.socket is not None
    client.history(client.submit({"1": node("PrimitiveInt", value=1), "2": show("1", 0)}).json()["prompt_id"])
    client.socket.settimeout(0.5)
    with pytest.raises(websocket.WebSocketTimeoutException):
        client.frame()


@scenario
def requests_from_other_sites_are_refused(client: Recorder) -> None:
    for origin in ("http://example.com", "http://127.0.0.1:1", "http://localhost:1"):
        assert client.request("GET", "/queue", headers={"Origin": origin}).status_code == 403
        assert client.request("POST", "/prompt", json={}, headers={"Origin": origin}).status_code == 403
    assert client.request("GET", "/queue", headers={"Origin": client.host.url}).status_code == 200


# Files.


def png(colour: tuple[int, ...], size: tuple[int, int] = (6, 4), mode: str = "RGBA") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@scenario
def images_are_uploaded_without_overwriting(client: Recorder) -> None:
    def upload(content: bytes, name: str = "up.png", **form: str) -> requests.Response:
        return client.request("POST", "/upload/image", files={"image": (name, content)}, data=form)

    red, blue = png((255, 0, 0, 255)), png((0, 0, 255, 128))
    assert upload(red).json() == {"name": "up.png", "subfolder": "", "type": "input"}
    assert upload(red).json()["name"] == "up.png"
    assert upload(blue).json()["name"] == "up (1).png"
    assert upload(blue).json()["name"] == "up (1).png"
    assert upload(blue, overwrite="true").json()["name"] == "up.png"
    assert upload(red, subfolder="deep/er").json() == {"name": "up.png", "subfolder": "deep/er", "type": "input"}
    assert upload(red, type="temp").json()["type"] == "temp"
    assert upload(red, name="../out.png").status_code == 400
    assert upload(red, subfolder="../..").status_code == 400
    assert client.request("POST", "/upload/image", files={"other": ("a.png", red)}).status_code == 400


@scenario
def masks_are_laid_over_the_original(client: Recorder) -> None:
    client.quietly("POST", "/upload/image", files={"image": ("plain.png", png((10, 20, 30), mode="RGB"))})
    mask = png((0, 0, 0, 77))
    for subfolder, original in (("masks", "plain.png"), ("nothing", "missing.png")):
        reference = json.dumps({"filename": original, "type": "input"})
        form = {"original_ref": reference, "subfolder": subfolder}
        answer = client.request("POST", "/upload/mask", files={"image": ("masked.png", mask)}, data=form)
        assert answer.json() == {"name": "masked.png", "subfolder": subfolder, "type": "input"}
    picture = client.picture({"filename": "masked.png", "subfolder": "masks", "type": "input"})
    assert picture.getpixel((0, 0)) == (10, 20, 30, 77)
    client.request("GET", "/view?filename=masked.png&subfolder=nothing&type=input")


@scenario
def view_gives_files_and_nothing_outside_the_folders(client: Recorder) -> None:
    client.quietly("POST", "/upload/image", files={"image": ("see.png", png((1, 2, 3, 4)))}, data={"overwrite": "1"})
    statuses = {
        "?filename=see.png&type=input": 200,
        "?filename=see.png [input]": 200,
        "?filename=see.png": 404,
        "?filename=see.png&type=elsewhere": 400,
        "?filename=../input/see.png&type=output": 400,
        "?filename=/etc/hostname&type=input": 400,
        "?filename=see.png&type=input&subfolder=../..": 403,
        "?filename=hostname&type=input&subfolder=/etc": 403,
        "?filename=": 400,
        "": 404,
    }
    for query, status in statuses.items():
        assert client.request("GET", f"/view{query}").status_code == status, query
    for query in ("", "&channel=rgb", "&channel=a", "&preview=webp;80", "&preview=jpeg;50", "&preview=jpeg&channel=a"):
        answer = client.quietly("GET", f"/view?filename=see.png&type=input{query}")
        picture = Image.open(io.BytesIO(answer.content))
        headers = {name: answer.headers[name] for name in ("Content-Type", "Content-Disposition")}
        client.log.append([query, headers, picture.format, picture.mode, picture.size])


@scenario
def pages_are_not_shown_as_pages(client: Recorder) -> None:
    client.quietly("POST", "/upload/image", files={"image": ("page.html", b"<script>")})
    answer = client.quietly("GET", "/view?filename=page.html&type=input")
    assert answer.headers["Content-Type"] == "application/octet-stream"


@scenario
def loaded_images_are_scaled_batched_and_saved_alike(client: Recorder) -> None:
    buffer = io.BytesIO()
    gradient = Image.new("RGBA", (12, 9))
    gradient.putdata([(x * 20, y * 25, (x * y) % 256, 255 - x * 10) for y in range(9) for x in range(12)])
    gradient.save(buffer, "PNG")
    client.request("POST", "/upload/image", files={"image": ("gradient.png", buffer.getvalue())})
    prompt: Json = {"load": node("LoadImage", image="gradient.png")}
    scaled = [("nearest-exact", 7, 5, "disabled"), ("bilinear", 30, 10, "center"), ("area", 6, 0, "disabled")]
    scaled += [("bicubic", 10, 20, "center"), ("lanczos", 0, 18, "disabled")]
    for method, width, height, crop in scaled:
        prompt[method] = node(
            "ImageScale", image=["load", 0], upscale_method=method, width=width, height=height, crop=crop
        )
        batch = node("ImageBatch", image1=["load", 0], image2=[method, 0])
        save = node("SaveImage", images=["batch", 0], filename_prefix=f"scaled/{method}")
        ran = client.run({**prompt, "batch": batch, "save": save})
        for image in ran.history["outputs"]["save"]["images"]:
            client.picture(image)
        del prompt[method]


@scenario
def masks_are_loaded_from_each_channel(client: Recorder) -> None:
    client.quietly("POST", "/upload/image", files={"image": ("channels.png", png((51, 102, 153, 204)))})
    client.quietly("POST", "/upload/image", files={"image": ("grey.png", png((90,), mode="L"))})
    for name in ("channels.png", "grey.png"):
        for channel in ("alpha", "red", "green", "blue"):
            ran = client.run({"1": node("LoadImageMask", image=name, channel=channel), "2": show("1", 0)})
            assert ran.history["status"]["status_str"] == "success"
        ran = client.run({"1": node("LoadImage", image=name), "2": show("1", 1)})


@scenario
def a_changed_file_is_loaded_again(client: Recorder) -> None:
    prompt = {
        "1": node("LoadImage", image="changing.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="changing/x"),
    }
    for colour, executing in (
        ((1, 1, 1, 255), ["1", "2", None]),
        ((1, 1, 1, 255), [None]),
        ((2, 2, 2, 255), ["1", "2", None]),
    ):
        files = {"image": ("changing.png", png(colour))}
        client.quietly("POST", "/upload/image", files=files, data={"overwrite": "true"})
        ran = client.run(prompt)
        assert ran.executing == executing
        client.picture(ran.history["outputs"]["2"]["images"][0])


@scenario
def files_are_numbered_after_the_last(client: Recorder) -> None:
    names = ["number_00007_.png", "number_x_.png", "numbers_00099_.png", "number.png"]
    for name in names:
        form = {"subfolder": "numbers", "type": "output"}
        client.quietly("POST", "/upload/image", files={"image": (name, png((0, 0, 0, 0)))}, data=form)
    for prefix in ("numbers/number", "numbers/other%batch_num%", "./numbers//number"):
        ran = client.run({"1": PICTURE, "2": node("SaveImage", images=["1", 0], filename_prefix=prefix)})
        client.log.append(ran.history["outputs"]["2"])


@scenario
def saving_outside_the_output_folder_fails(client: Recorder) -> None:
    ran = client.run({"1": PICTURE, "2": node("SaveImage", images=["1", 0], filename_prefix="../../outside")})
    assert ran.history["status"]["status_str"] == "error"
    client.log.clear()  # the two say it in different words


# What the host says of itself.

CORE = ["LoadImage", "LoadImageMask", "SaveImage", "PreviewImage", "ImageScale", "EmptyImage", "ImageBatch"]
CORE += [f"Primitive{kind}" for kind in ("Int", "Float", "String", "StringMultiline", "Boolean")]


@scenario
def nodes_are_described_alike(client: Recorder) -> None:
    every = client.quietly("GET", "/object_info").json()
    packed = [name for name, info in every.items() if info["python_module"].startswith("custom_nodes.")]
    assert len([name for name in packed if name.startswith("Probe")]) == 14
    assert any(name.startswith("Kandinsky") for name in packed)
    for name in sorted([*CORE, *packed]):
        described = client.quietly("GET", f"/object_info/{name}").json()
        assert described == {name: every[name]}
        if name not in ("LoadImage", "LoadImageMask"):  # they list the input folder's files
            client.log.append(described)
    assert client.request("GET", "/object_info/NoSuchNode").json() == {}


@scenario
def every_route_also_lies_under_api(client: Recorder) -> None:
    for path in ("/queue", "/features", "/prompt", "/object_info/EmptyImage", "/embeddings", "/history?max_items=1"):
        assert client.quietly("GET", path).json() == client.quietly("GET", f"/api{path}").json()
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
    assert ran.prompt_id in client.quietly("GET", f"/api/history/{ran.prompt_id}").json()


@scenario
def system_stats_have_comfyuis_keys(client: Recorder) -> None:
    stats = client.request("GET", "/system_stats").json()
    client.log.clear()
    stats["system"].pop("kandiflux_lite", None)
    client.log.append([list(stats), sorted(stats["system"]), sorted(stats["devices"][0])])
    assert stats["system"]["comfyui_version"] == "0.3.64"


@scenario
def model_folders_are_listed(client: Recorder) -> None:
    kinds = set(client.quietly("GET", "/models").json()) - {"custom_nodes"}  # which holds no models
    assert {"checkpoints", "loras", "vae"} <= kinds
    client.log.append(sorted(kinds))
    assert client.request("GET", "/models/loras").json() == []
    assert client.request("GET", "/models/nothing").status_code == 404


@scenario
def free_drops_the_cached_outputs(client: Recorder) -> None:
    prompt = {"1": node("PrimitiveInt", value=1), "2": show("1", 0)}
    client.run(prompt)
    client.request("POST", "/free", json={"unload_models": True, "free_memory": True})
    time.sleep(1)
    assert client.run(prompt).executing == ["1", "2", None]
