"""Running a job without a server: what is sent, cached, lazy, wrong or interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from kandiflux.lite import seam
from kandiflux.lite.execute import Executor
from kandiflux.lite.job_queue import Interrupt, LiteJob, Outcome
from kandiflux.lite.nodes_primitive import CLASSES as PRIMITIVES

from tests.conversations.common import node, show
from tests.protocol_pack.probes import NODE_CLASS_MAPPINGS as PROBES

Json = dict[str, Any]


class Outbox:
    """Writes down each frame, with the client it went to."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, Json, str | None]] = []
        self.with_metadata = False
        self.on_frame: Callable[[str], None] = lambda _: None

    def send(self, event: str, data: Json, client_id: str | None) -> None:
        self.frames.append((event, data, client_id))
        self.on_frame(event)

    def takes_preview_metadata(self, client_id: str | None) -> bool:
        return self.with_metadata

    def send_preview(self, preview: Any, metadata: Json | None, client_id: str | None) -> None:
        self.frames.append(("preview", {"metadata": metadata, "format": preview[0]}, client_id))


class OutOfMemoryError(RuntimeError):
    """Known by its name, as torch's is."""


class NeedsMemory:
    FUNCTION, RETURN_TYPES, OUTPUT_NODE = "run", (), True

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"required": {"value": ("INT",)}}

    def run(self, **_: Any) -> Any:
        raise OutOfMemoryError("full")


class Counts(NeedsMemory):
    """Counts how often this object has run."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, **_: Any) -> Json:
        self.runs += 1
        return {"ui": {"runs": [self.runs]}}


class Reads(NeedsMemory):
    """Writes into its prompt, and shows what no JSON has."""

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"required": {"value": ("INT",)}, "hidden": {"prompt": "PROMPT", "extra": "EXTRA_PNGINFO"}}

    def run(self, *, prompt: Json, extra: Json, **_: Any) -> Json:  # pyright: ignore[reportIncompatibleMethodOverride]
        prompt["1"]["inputs"]["value"] = "changed"
        extra["workflow"] = "changed"
        return {"ui": {"text": [math.nan, {1: object}]}}


class AsksForMore(NeedsMemory):
    """Lazy inputs asked for all at once, and one that is there already."""

    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        lazy = {"lazy": True}
        return {"required": {"wanted": ("LIST",), "a": ("INT", lazy), "b": ("INT", lazy), "c": ("INT", lazy)}}

    def check_lazy_status(self, wanted: Any, **_: Any) -> Any:
        return wanted

    def run(self, **values: Any) -> Json:
        del values["wanted"]
        return {"ui": {"text": [json.dumps(values, sort_keys=True)]}, "result": (1,)}


CLASSES = {**PRIMITIVES, **PROBES, **{one.__name__: one for one in (NeedsMemory, Counts, Reads, AsksForMore)}}


class Host:
    """An executor with all that it talks to."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.interrupt = Interrupt()
        self.freed = 0
        self.executor = Executor(CLASSES, self.outbox, self.interrupt, self._free)
        self.jobs = 0

    def _free(self) -> None:
        self.freed += 1

    def run(self, prompt: Json, outputs: list[str] | None = None, client: str | None = "me", **extra: Any) -> Outcome:
        self.outbox.frames.clear()
        self.jobs += 1
        outputs = list(prompt)[-1:] if outputs is None else outputs
        if client is not None:
            extra["client_id"] = client
        return self.executor.run(LiteJob(0, f"job {self.jobs}", prompt, extra, outputs))

    @property
    def types(self) -> list[str]:
        return [event for event, _, _ in self.outbox.frames]

    def sent(self, kind: str) -> list[Json]:
        return [data for event, data, _ in self.outbox.frames if event == kind]

    @property
    def ran(self) -> list[str]:
        return [data["node"] for data in self.sent("executing")]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    # How the probes report progress.
    monkeypatch.setattr(seam, "active", host.executor)
    return host


GOOD = {"1": node("PrimitiveInt", value=3), "2": node("ProbeAdd", a=["1", 0], b=2), "3": show("2", 0)}


def test_a_good_job(host: Host) -> None:
    outcome = host.run(GOOD)
    assert (outcome.success, outcome.outputs) == (True, {"3": {"text": ["5"]}})
    assert outcome.meta == {"3": {"node_id": "3", "display_node": "3", "parent_node": None, "real_node_id": "3"}}
    ids = {"prompt_id": "job 1"}
    assert [(kind, {**data, "timestamp": 0}) for kind, data in outcome.messages] == [
        ("execution_start", {**ids, "timestamp": 0}),
        ("execution_cached", {**ids, "nodes": [], "timestamp": 0}),
        ("execution_success", {**ids, "timestamp": 0}),
    ]
    assert all(data["timestamp"] > 1_700_000_000_000 for _, data in outcome.messages), "milliseconds"
    of_a_node = ["progress_state", "executing", "progress_state"]
    shown = ["progress_state", "executing", "executed", "progress_state"]
    assert host.types == ["execution_start", "execution_cached", *of_a_node * 2, *shown, "execution_success"]
    assert host.sent("executing")[0] == {"node": "1", "display_node": "1", **ids}
    assert host.sent("executed") == [{"node": "3", "display_node": "3", "output": {"text": ["5"]}, **ids}]
    assert {client for _, _, client in host.outbox.frames} == {"me"}


def test_the_second_run_is_answered_from_the_cache(host: Host) -> None:
    host.run(GOOD)
    outcome = host.run(GOOD)
    assert (outcome.success, outcome.outputs) == (True, {"3": {"text": ["5"]}})
    assert outcome.messages[1][1]["nodes"] == ["1", "2", "3"]
    assert host.types == ["execution_start", "execution_cached", "executed", "progress_state", "execution_success"]
    assert host.sent("executed")[0]["output"] == {"text": ["5"]}
    host.run({**GOOD, "2": node("ProbeAdd", a=["1", 0], b=3)})
    assert host.ran == ["2", "3"]
    host.executor.forget()
    host.run(GOOD)
    assert host.ran == ["1", "2", "3"]


def test_a_cached_output_that_showed_nothing_is_told_as_null(host: Host) -> None:
    prompt = {"1": node("PrimitiveInt", value=3), "2": node("ProbeQuiet", value=["1", 0])}
    assert host.run(prompt).outputs == {}
    assert "executed" not in host.types
    assert host.run(prompt).outputs == {}
    assert host.sent("executed")[0]["output"] is None


def test_the_history_is_of_this_prompts_ids(host: Host) -> None:
    host.run(GOOD)
    outcome = host.run({"a": GOOD["1"], "b": node("ProbeAdd", a=["a", 0], b=2), "c": show("b", 0)})
    assert host.ran == []
    assert outcome.outputs == {"c": {"text": ["5"]}}
    assert outcome.meta["c"]["node_id"] == "3", "the node that showed it"


def test_a_node_object_is_kept_while_its_id_and_class_stay(host: Host) -> None:
    for value, runs in ((1, 1), (2, 2), (3, 3)):
        assert host.run({"1": node("Counts", value=value)}).outputs == {"1": {"runs": [runs]}}
    host.run(GOOD)
    assert host.run({"1": node("Counts", value=4)}).outputs == {"1": {"runs": [1]}}


def test_without_a_client_only_progress_is_sent_to_all(host: Host) -> None:
    outcome = host.run(GOOD, client=None)
    assert [kind for kind, _ in outcome.messages] == ["execution_start", "execution_cached", "execution_success"]
    assert set(host.types) == {"progress_state"}
    assert {client for _, _, client in host.outbox.frames} == {None}


def test_the_history_has_the_prompt_as_it_was_sent_and_valid_json(host: Host) -> None:
    prompt = {"1": node("Reads", value=1)}
    extra = {"workflow": "as sent"}
    outcome = host.run(prompt, extra_pnginfo=extra)
    assert outcome.success
    assert prompt == {"1": node("Reads", value=1)}
    assert extra == {"workflow": "as sent"}
    text = {"text": [None, {"1": str(object)}]}
    assert outcome.outputs == {"1": text}
    assert host.sent("executed")[0]["output"] == text


def test_lists_are_mapped_over(host: Host) -> None:
    prompt = {"1": node("ProbeList", n=3), "2": node("ProbeAdd", a=["1", 0], b=5), "3": show("2", 0)}
    assert host.run(prompt).outputs == {"3": {"text": ["5", "6", "7"]}}


def test_hidden_inputs(host: Host) -> None:
    prompt = {"1": node("PrimitiveInt", value=3), "2": node("ProbeHidden", value=["1", 0])}
    (text,) = host.run(prompt, extra_pnginfo={"w": 1}).outputs["2"]["text"]
    assert json.loads(text) == {"prompt": prompt, "extra": {"w": 1}, "node_id": "2", "class": "ProbeHidden"}


# Lazy inputs


def lazily(wanted: Any, **more: Any) -> Json:
    sources = {letter: node("PrimitiveInt", value=ord(letter)) for letter in "abc"}
    asks = {letter: [letter, 0] for letter in "abc"}
    return {**sources, "n": node("AsksForMore", wanted=wanted, **{**asks, **more}), "out": show("n", 0)}


@pytest.mark.parametrize(
    ("wanted", "ran"),
    [
        (["a", "b"], ["n", "a", "b", "n", "out"]),
        (["c"], ["n", "c", "n", "out"]),
        (["c", "c"], ["n", "c", "n", "out"]),
        ([], ["n", "out"]),
        (None, ["n", "out"]),
        ("abc", ["n", "out"]),
    ],
)
def test_lazy_inputs_that_are_asked_for_are_computed(host: Host, wanted: Any, ran: list[str]) -> None:
    outcome = host.run(lazily(wanted))
    assert host.ran == ran
    values = {letter: ord(letter) if wanted and letter in ran else None for letter in "abc"}
    assert json.loads(outcome.outputs["n"]["text"][0]) == values
    assert outcome.success
    assert host.types.count("execution_error") == 0


def test_a_lazy_input_that_is_a_constant_is_there_already(host: Host) -> None:
    assert host.run(lazily(["a"], a=7)).success
    assert host.ran == ["n", "out"]


def test_a_lazy_input_that_is_not_there_is_an_error(host: Host) -> None:
    outcome = host.run(lazily(["nothing"]))
    (error,) = host.sent("execution_error")
    assert error["exception_type"] == "kandiflux.lite.prompt_graph.GraphError"
    assert error["node_id"] == "n"
    assert not outcome.success


# Errors


def test_an_exception_ends_the_job(host: Host) -> None:
    prompt = {
        "1": node("ProbeList", n=2),
        "2": node("ProbeFail", message="broken", kind="own", after=["1", 0]),
        "3": show("2", 0),
    }
    outcome = host.run(prompt)
    assert not outcome.success
    assert host.types[-2:] == ["executing", "execution_error"]
    kind, error = outcome.messages[-1]
    assert kind == "execution_error"
    traceback = error.pop("traceback")
    assert "in run" in traceback[-1]
    assert error.pop("timestamp") > 0
    assert error == {
        "prompt_id": "job 1",
        "node_id": "2",
        "node_type": "ProbeFail",
        "executed": ["1"],
        "exception_message": "broken\n",
        "exception_type": "tests.protocol_pack.probes.ProbeError",
        "current_inputs": {"message": ["broken"], "kind": ["own"], "node_id": ["2"], "after": [0, 1]},
        "current_outputs": ["1", "2", "3"],
    }
    assert host.freed == 0
    host.run(prompt)
    assert host.ran == ["2"], "what ran before is cached"


def test_inputs_of_an_error_are_numbers_or_texts_of_bounded_length(host: Host) -> None:
    for value, shown in [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (math.nan, None),
        ("x" * 10_001, "x" * 10_000),
        ({"v": "y" * 20_000}, ("{'v': '" + "y" * 20_000)[:10_000]),
        (object, str(object)),
    ]:
        host.run({"1": node("ProbeFail", message="m", kind="value", after=value)})
        assert host.sent("execution_error")[0]["current_inputs"]["after"] == [shown]


def test_out_of_memory_gives_memory_back_and_advice(host: Host) -> None:
    assert not host.run({"1": node("NeedsMemory", value=1)}).success
    (error,) = host.sent("execution_error")
    assert error["exception_message"].startswith("full\nThe device is out of memory")
    assert host.freed == 1
    assert host.run(GOOD).success
    assert host.freed == 1


def test_a_job_that_cannot_be_scheduled_blames_no_node(host: Host) -> None:
    outcome = host.run({**GOOD, "9": {"class_type": "PrimitiveInt"}}, ["3"])
    assert not outcome.success
    (error,) = host.sent("execution_error")
    assert (error["node_id"], error["node_type"], error["executed"]) == (None, None, [])
    assert (error["exception_type"], error["current_inputs"]) == ("KeyError", {})
    assert host.run(GOOD).success


# Progress, previews, interrupts


STEPS = {"1": node("ProbeSteps", steps=3, delay=0, preview="PNG"), "2": show("1", 0)}


def test_progress_step_by_step(host: Host) -> None:
    host.run(STEPS)
    step = {"max": 3, "prompt_id": "job 1", "node": "1"}
    assert host.sent("progress") == [{"value": value, **step} for value in (1, 2, 3)]
    states = [data["nodes"] for data in host.sent("progress_state")]
    ids = {"node_id": "1", "prompt_id": "job 1", "display_node_id": "1", "parent_node_id": None, "real_node_id": "1"}
    assert states[0] == {"1": {"value": 0.0, "max": 1.0, "state": "running", **ids}}
    assert [state["1"]["value"] for state in states] == [0, 1, 2, 3, 3, 3, 3]
    assert states[4] == {"1": {"value": 3, "max": 3, "state": "finished", **ids}}
    assert states[-1]["2"]["value"] == states[-1]["2"]["max"] == 1
    assert {data["prompt_id"] for data in host.sent("progress_state")} == {"job 1"}


def test_a_value_beyond_the_total_is_the_total(host: Host) -> None:
    def beyond(event: str) -> None:
        if event == "executing" and host.ran == ["1"]:
            host.executor.progress(9, 4, None)

    host.outbox.on_frame = beyond
    host.run(GOOD)
    assert host.sent("progress") == [{"value": 4, "max": 4, "prompt_id": "job 1", "node": "1"}]


def test_progress_outside_a_job_is_nobodys(host: Host) -> None:
    host.executor.progress(1, 2, None)
    host.run(GOOD)
    host.outbox.frames.clear()
    host.executor.progress(1, 2, None)
    assert host.outbox.frames == []


@pytest.mark.parametrize("with_metadata", [False, True])
def test_previews_go_with_metadata_before_and_without_it_after_the_step(host: Host, with_metadata: bool) -> None:
    host.outbox.with_metadata = with_metadata
    host.run({"1": node("ProbeSteps", steps=1, delay=0, preview="PNG"), "2": show("1", 0)})
    at = host.types.index("progress")
    assert host.types[at - 1 : at + 2] == (
        ["preview", "progress", "progress_state"] if with_metadata else ["progress_state", "progress", "preview"]
    )
    ids = {"node_id": "1", "prompt_id": "job 1", "display_node_id": "1", "parent_node_id": None, "real_node_id": "1"}
    assert host.sent("preview") == [{"metadata": ids if with_metadata else None, "format": "PNG"}]


def test_who_comes_back_is_told_what_runs(host: Host) -> None:
    told: list[tuple[str | None, str | None]] = []

    def ask(event: str) -> None:
        if event in ("execution_start", "progress", "execution_success"):
            told.append((host.executor.running_node_for("me"), host.executor.running_node_for("another")))

    host.outbox.on_frame = ask
    host.run({**STEPS, "1": node("ProbeSteps", steps=1, delay=0, preview="none")})
    assert told[:2] == [(None, None), ("1", None)]
    assert host.executor.running_node_for("me") is None


@pytest.mark.parametrize("event", ["execution_start", "execution_cached", "executing", "progress"])
def test_an_interrupt_ends_the_job_wherever_it_is(host: Host, event: str) -> None:
    host.outbox.on_frame = lambda each: host.interrupt.request() if each == event else None
    outcome = host.run(STEPS)
    host.outbox.on_frame = lambda _: None
    assert not outcome.success
    kind, told = outcome.messages[-1]
    assert kind == "execution_interrupted"
    assert told["prompt_id"] == "job 1"
    assert told["executed"] == []
    in_node = event in ("executing", "progress")
    assert (told["node_id"], told["node_type"]) == (("1", "ProbeSteps") if in_node else (None, None))
    assert len(host.sent("progress")) == (1 if event == "progress" else 0)
    assert host.run(STEPS).success, "it was for that job only"


def test_an_interrupt_between_items_of_a_list(host: Host) -> None:
    prompt = {
        "1": node("ProbeList", n=3),
        "2": node("ProbeSteps", steps=["1", 0], delay=0, preview="none"),
        "3": show("2", 0),
    }
    host.outbox.on_frame = lambda event: (
        host.interrupt.request() if host.types[-2:] == ["progress_state", "progress"] else None
    )
    outcome = host.run(prompt)
    assert outcome.messages[-1][0] == "execution_interrupted"
    assert outcome.messages[-1][1]["executed"] == ["1"]


def test_everyone_hears_of_an_interrupt_even_without_a_client(host: Host) -> None:
    host.outbox.on_frame = lambda event: host.interrupt.request() if event == "progress" else None
    host.run(STEPS, client=None)
    assert [client for event, _, client in host.outbox.frames if event == "execution_interrupted"] == [None]


def test_progress_frames_are_bounded(host: Host) -> None:
    """The nodes that finished first are left out, never one that runs."""
    prompt = {str(number): show(str(number - 1), 0) for number in range(1, 120)}
    host.run({"0": node("PrimitiveInt", value=0), **prompt})
    states = [data["nodes"] for data in host.sent("progress_state")]
    assert max(map(len, states)) == 100
    assert list(states[-1]) == [str(number) for number in range(20, 120)]
    assert len(host.ran) == 120
