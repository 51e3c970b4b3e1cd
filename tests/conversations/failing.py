"""Prompts that are refused, fail, or are interrupted."""

from __future__ import annotations

from tests.conversations.common import PICTURE, SLOW, forget, node, scenario, show, without_progress
from tests.support.recorder import Json, Recorder

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
        {"1": node("ProbeSteps", steps=3, delay=0.15, preview="none"), "2": show("1", 0)}, on_frame=interrupt
    )
    assert ran.history["status"]["status_str"] == "success"


@scenario
def an_interrupt_while_nothing_runs_is_forgotten(client: Recorder) -> None:
    client.request("POST", "/interrupt", json={})
    ran = client.run({"1": node("ProbeSteps", steps=2, delay=0, preview="none"), "2": show("1", 0)})
    assert ran.history["status"]["status_str"] == "success"
