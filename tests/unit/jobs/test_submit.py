"""Handing a prompt over, with a server that follows a script and a clock that only moves when somebody waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from kandiflux.api.rest import Answer, ComfyApi, Queue, QueueEntry
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    InvalidPrompt,
    KandifluxError,
    NodeProblem,
    ProtocolError,
    ServerError,
    ServerUnreachable,
)
from kandiflux.jobs.owner import OWNER, this_owner
from kandiflux.jobs.submit import find_prompts, prompt_body, submit_prompt
from kandiflux.workflow.prompt import Prompt

from tests.support.clock import Clock
from tests.support.fake_comfyui import prompt

PROMPT = Prompt.from_api(prompt())
CUT = AnswerLost("cut")
SLOW = AnswerLost("slow", still_coming=True)
GONE = ServerUnreachable("gone", refused=True)
SILENT = ServerUnreachable("silent")


def answer(body: object, status: int = 200) -> Answer:
    return Answer(status, body.encode() if isinstance(body, str) else json.dumps(body).encode())


TAKEN = answer({"prompt_id": "j", "number": 1, "node_errors": {}})


@dataclass
class Script:
    """A server. posts: what each POST meets, then TAKEN. has_it(now): whether it knows the job. looks: what happens to
    each look before that."""

    clock: Clock
    posts: list[Answer | KandifluxError] = field(default_factory=list)
    has_it: Callable[[float], bool] = lambda now: False
    looks: list[KandifluxError | float | None] = field(default_factory=list)
    """An error; or seconds that a look takes; or None."""
    where: str = "pending"
    posted: list[Mapping[str, Any]] = field(default_factory=list)
    looked: int = 0
    url: str = "http://comfy.test"

    def post_prompt(self, body: Mapping[str, Any]) -> Answer:
        self.posted.append(body)
        meets = self.posts.pop(0) if self.posts else TAKEN
        if isinstance(meets, KandifluxError):
            raise meets
        return meets

    def queue(self) -> Queue:
        self.looked += 1
        meets = self.looks.pop(0) if self.looks else None
        if isinstance(meets, KandifluxError):
            raise meets
        self.clock.now += meets or 0.0
        there = self.has_it(self.clock.now - 1000)
        entries = {
            "running": ([QueueEntry(1, "j")], []),
            "pending": ([], [QueueEntry(1, "j")]),
        }.get(self.where, ([], []))
        return Queue(*map(tuple, entries)) if there else Queue((), ())

    def history(self, prompt_id: str) -> Mapping[str, Any] | None:
        there = self.where == "history" and prompt_id == "j" and self.has_it(self.clock.now - 1000)
        return {"prompt": []} if there else None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("kandiflux.jobs.submit.time", clock)
    return clock


def submit(script: Script, settle: float = 1.0, patience: float = 30.0) -> tuple[NodeProblem, ...]:
    return submit_prompt(cast(ComfyApi, script), PROMPT, "j", "c", settle=settle, patience=patience)


# What is sent


def test_what_is_posted() -> None:
    body = prompt_body(PROMPT, "j", "c")
    assert body == {
        "prompt": PROMPT.nodes, "prompt_id": "j", "client_id": "c", "extra_data": {OWNER: this_owner()}
    }  # fmt: skip
    assert prompt_body(PROMPT, "j", "c", front=True) == {**body, "front": True}
    of_editor = Prompt(PROMPT.nodes, {"nodes": []}, {"seed": 3})
    assert prompt_body(of_editor, "j", "c")["extra_data"]["extra_pnginfo"] == {
        "workflow": {"nodes": []}, "kandiflux": {"values": {"seed": 3}}
    }  # fmt: skip


def test_a_prompt_that_is_taken_is_posted_once_and_not_looked_for(clock: Clock) -> None:
    script = Script(clock)
    assert submit(script) == ()
    assert (len(script.posted), script.looked, clock.slept) == (1, 0, [])
    assert "front" not in script.posted[0]
    submit_prompt(cast(ComfyApi, script), PROMPT, "j", "c", front=True)
    assert script.posted[1]["front"] is True


# Lost answers


@pytest.mark.parametrize("where", ["running", "pending", "history"])
def test_a_job_that_is_there_is_not_posted_again(clock: Clock, where: str) -> None:
    script = Script(clock, [CUT], lambda now: True, where=where)
    assert submit(script) == ()
    assert (len(script.posted), script.looked) == (1, 1)


@pytest.mark.parametrize(
    ("lost", "arrives", "posts", "ends"),
    [
        # A broken connection: what has not come within `settle` does not come, and is posted again.
        (CUT, 0.7, 1, ()),
        (CUT, 9.0, 2, ()),
        (answer("busy", 500), 0.7, 1, ()),
        (answer("busy", 500), 9.0, 2, ()),
        (answer("a page"), 9.0, 2, ()),
        # An answer that is only slow: the request may arrive much later, so it is looked for as long, and never again.
        (SLOW, 9.0, 1, ()),
        (SLOW, 29.5, 1, ()),
        (SLOW, 40.0, 1, None),
    ],
)
def test_what_arrives_late_does_not_run_twice(
    clock: Clock, lost: Any, arrives: float, posts: int, ends: tuple[()] | None
) -> None:
    script = Script(clock, [lost], lambda now: now >= arrives)
    if ends is None:
        with pytest.raises(AnswerLost, match="not known whether") as caught:
            submit(script)
        assert caught.value.__cause__ is lost
        assert clock.now - 1000 >= 30.0
    else:
        assert submit(script) == ends
    assert len(script.posted) == posts


@pytest.mark.parametrize(
    ("looks", "posts"),
    [
        ([], 2),
        ([ServerError("nonsense")], 2),  # it is there, so it was not restarted
        ([SILENT], 2),
        ([GONE], 1),
        ([SILENT] * 4, 2),
        ([SILENT] * 6, 1),  # away for more than a second: it may have forgotten what it took
        ([0.9, SILENT], 2),
    ],
)
def test_it_is_posted_again_only_if_the_server_was_there_all_the_time(
    clock: Clock, looks: list[Any], posts: int
) -> None:
    script = Script(clock, [CUT], looks=looks)
    if posts == 1:
        with pytest.raises(AnswerLost, match=r"http://comfy\.test accepted the job j"):
            submit(script)
    else:
        assert submit(script) == ()
    assert len(script.posted) == posts


def test_three_attempts_are_the_most(clock: Clock) -> None:
    script = Script(clock, [CUT] * 9)
    with pytest.raises(AnswerLost, match="not known whether"):
        submit(script)
    assert len(script.posted) == 3


@pytest.mark.parametrize(
    ("body", "kind"), [(answer("x" * 900, 500), ServerError), (answer({"prompt_id": 3}), ProtocolError)]
)
def test_an_answer_that_says_nothing_again_and_again_is_the_error(
    clock: Clock, body: Answer, kind: type[ServerError]
) -> None:
    script = Script(clock, [body] * 9)
    with pytest.raises(kind) as caught:
        submit(script)
    assert type(caught.value) is kind
    assert len(script.posted) == 3
    assert len(caught.value.got or "") <= 300


def test_after_a_lost_answer_an_unclear_one_is_still_no_refusal(clock: Clock) -> None:
    with pytest.raises(AnswerLost, match="not known whether"):
        submit(Script(clock, [CUT, answer("", 500), answer("", 500)]))


def test_a_server_that_is_not_there_is_told_as_that(clock: Clock) -> None:
    script = Script(clock, [GONE])
    with pytest.raises(ServerUnreachable) as caught:
        submit(script)
    assert caught.value is GONE
    assert script.looked == 0


@pytest.mark.parametrize("first", [CUT, answer("", 500)])
def test_a_server_that_goes_after_an_attempt_may_have_taken_it(clock: Clock, first: Any) -> None:
    script = Script(clock, [first, GONE])
    with pytest.raises(AnswerLost if first is CUT else ServerError) as caught:
        submit(script)
    assert "not known whether" in caught.value.message or "HTTP 500" in caught.value.message
    assert len(script.posted) == 2


@pytest.mark.parametrize("error", [AccessDenied("no"), SILENT, GONE])
def test_a_server_that_cannot_be_asked_leaves_it_open(clock: Clock, error: KandifluxError) -> None:
    script = Script(clock, [answer("", 500)], looks=[error] * 1000)
    with pytest.raises(AnswerLost, match="not known whether") as caught:
        submit(script, patience=5.0)
    assert isinstance(caught.value.__cause__, AnswerLost)
    assert "does not say whether it has the job j" in str(caught.value.__cause__)
    assert len(script.posted) == 1
    assert 5.0 < clock.now - 1000 < 6.0


def test_a_busy_server_is_asked_again_after_growing_pauses(clock: Clock) -> None:
    busy = answer("", 429)
    script = Script(clock, [busy, busy])
    assert submit(script) == ()
    assert (clock.slept, script.looked) == ([0.25, 0.5], 0)
    script = Script(clock, [busy] * 3)
    with pytest.raises(ServerError, match="too many requests") as caught:
        submit(script)
    assert caught.value.hint == "Try again later."


# Looking


def test_a_look_is_repeated_until_all_are_found(clock: Clock) -> None:
    script = Script(clock, has_it=lambda now: now >= 3.0)
    assert find_prompts(cast(ComfyApi, script), ["j"], 10.0, 0.0) == ({"j"}, True)
    assert 3.0 <= clock.now - 1000 < 3.5
    script = Script(clock, has_it=lambda now: True)
    assert find_prompts(cast(ComfyApi, script), ["j", "k"], 1.0, 0.0) == ({"j"}, True)
    assert script.looked == 4


def test_it_is_looked_for_twice_at_least(clock: Clock) -> None:
    """Between queue and history a job is in neither for a moment."""
    script = Script(clock)
    assert find_prompts(cast(ComfyApi, script), ["j"], 0.0, 0.0) == (set(), True)
    assert script.looked == 2


def test_a_look_that_fails_does_not_count(clock: Clock) -> None:
    script = Script(clock, looks=[SILENT, None, SILENT])
    assert find_prompts(cast(ComfyApi, script), ["j"], 0.0, 5.0) == (set(), True)
    assert script.looked == 4


def test_the_silence_is_counted_from_one_answer_to_the_next(clock: Clock) -> None:
    looks: Sequence[Any] = [*[SILENT] * 4, None] * 2
    script = Script(clock, looks=list(looks))
    assert find_prompts(cast(ComfyApi, script), ["j"], 2.5, 1.1) == (set(), True)
    script = Script(clock, looks=[SILENT] * 99)
    with pytest.raises(ServerUnreachable) as caught:
        find_prompts(cast(ComfyApi, script), ["j"], 0.0, 1.0)
    assert caught.value is SILENT
    assert script.looked == 6


# Refusals


def test_a_refusal_names_each_problem() -> None:
    errors = [
        {
            "type": "value_not_in_list",
            "message": "Value not in list",
            "details": "x",
            "extra_info": {"input_name": "w"},
        },
        {"message": None, "extra_info": {"input_name": 3}},
        "no object",
    ]
    body = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "It failed"},
        "node_errors": {"1": {"errors": errors}, "9": {"errors": errors[:1], "class_type": "Other"}, "2": 3},
    }
    with pytest.raises(InvalidPrompt) as caught:
        submit(Script(Clock(), [answer(body, 400)]))
    empty = NodeProblem("1", "Canvas", "EmptyImage", "", "", "", None)
    assert caught.value.problems == (
        NodeProblem("1", "Canvas", "EmptyImage", "value_not_in_list", "Value not in list", "x", "w"),
        empty, empty,
        NodeProblem("9", "node 9", "Other", "value_not_in_list", "Value not in list", "x", "w"),
    )  # fmt: skip
    assert str(caught.value).splitlines()[0] == "The server refused the prompt: It failed"
    assert caught.value.hint is None


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        ("no words", "The server refused the prompt: no words", False),
        ({"type": "no_prompt"}, "The server refused the prompt: no_prompt", False),
        (
            {"type": "invalid_prompt", "message": "There is no such class", "details": "Node ID '#1'"},
            "The server refused the prompt because of 'Canvas': There is no such class",
            True,
        ),
        ({"type": "missing_node_type", "message": "Node 'X' not found"}, None, True),
        ({"type": "other", "message": "m", "details": "Node #1"}, "The server refused the prompt: m", False),
    ],
)
def test_how_a_refusal_is_told(error: Any, said: str | None, hint: bool) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        submit(Script(Clock(), [answer({"error": error}, 400)]))
    assert said is None or caught.value.message == said
    assert (caught.value.hint is not None) == hint


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [({}, 400, ServerError), ({"error": "x"}, 404, ServerError), ({"prompt_id": "j"}, 400, ServerError)],
)
def test_a_refusal_without_a_reason(body: object, status: int, kind: type[ServerError]) -> None:
    script = Script(Clock(), [answer(body, status)])
    with pytest.raises(kind, match=rf"did not accept the prompt \(HTTP {status}\)") as caught:
        submit(script)
    assert type(caught.value) is kind
    assert (len(script.posted), script.looked) == (1, 0)


def test_what_the_server_drops_is_told() -> None:
    problems = {"2": {"errors": [{"type": "t", "message": "m"}]}}
    dropped = submit(Script(Clock(), [answer({"prompt_id": "j", "node_errors": problems})]))
    assert dropped == (NodeProblem("2", "Result", "SaveImage", "t", "m", "", None),)


def test_a_job_under_another_id_is_an_error(clock: Clock) -> None:
    script = Script(clock, [answer({"prompt_id": "theirs"})])
    with pytest.raises(ProtocolError, match="under another id") as caught:
        submit(script)
    assert (caught.value.expected, caught.value.got, len(script.posted)) == ("j", "theirs", 1)


@pytest.mark.parametrize("prompt_id", ["x" * 201, "", 7, "é", "a\nb"])
def test_an_answer_without_an_id_that_can_be_one_says_nothing(clock: Clock, prompt_id: object) -> None:
    script = Script(clock, [answer({"prompt_id": prompt_id})])
    assert submit(script) == ()
    assert len(script.posted) == 2
