"""`kandiflux queue`, `cancel`, `interrupt` and `free`: what they ask of a server, and what they print where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.jobs.owner import OWNER, this_owner
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.fake_comfyui import FakeComfyUI
from tests.support.stub_server import StubServer

ABOUT = {"extra": {"kandiflux": {"title": "A title"}}}


def item(prompt_id: str, text: str = "", *, owner: str = "", titled: bool = False) -> list[Any]:
    extra = {OWNER: owner, "extra_pnginfo": {"workflow": ABOUT if titled else {}}}
    return [1, prompt_id, {"1": {"class_type": "X", "inputs": {"text": text}}}, extra, []]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    with StubServer().serving() as stub:
        monkeypatch.setenv("KANDIFLUX_SERVER", stub.url)
        yield stub


def kandiflux(*words: str) -> Result:
    return RUNNER.invoke(app, list(words))


def test_a_queue_is_a_table_on_stdout(stub: StubServer) -> None:
    pending = [item("bbbb-2", "a\n fox", owner=this_owner()), item("cccc-3", "", titled=True)]
    stub.reactions["GET /queue"] = {"queue_running": [item("aaaa-1", owner="other")], "queue_pending": pending}
    shown = kandiflux("queue")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines() == [
        "position\tid\t\tworkflow\tprompt",
        "runs\taaaa-1",
        "1\tbbbb-2\tmine\t\ta fox",
        "2\tcccc-3\t\tA title",
    ]
    answer = json.loads(kandiflux("queue", "--json").stdout)
    assert answer["url"] == stub.url
    assert [(job["prompt_id"], job["state"], job["position"], job["mine"]) for job in answer["jobs"]] == [
        ("aaaa-1", "running", 0, False),
        ("bbbb-2", "pending", 1, True),
        ("cccc-3", "pending", 2, False),
    ]


def test_an_empty_queue_is_said_on_stderr(stub: StubServer) -> None:
    shown = kandiflux("queue")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == f"No jobs are running or waiting on {stub.url}.\n"
    assert json.loads(kandiflux("queue", "--json").stdout) == {"url": stub.url, "jobs": []}


@pytest.fixture
def waiting(stub: StubServer) -> StubServer:
    """A server of the newer kind, that cancels by id: one job runs, one of ours and one of another user wait."""
    pending = [item("bbbb-2", owner=this_owner()), item("bbcc-3", owner="other")]
    stub.reactions["GET /queue"] = {"queue_running": [item("aaaa-1", owner="other")], "queue_pending": pending}
    stub.reactions["POST /api/jobs/"] = {"cancelled": True}
    return stub


def cancelled(stub: StubServer) -> list[str]:
    """The jobs that were asked for to be cancelled, in their order."""
    return [asked.split("/")[3] for asked in stub.asked if asked.startswith("POST /api/jobs/")]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (("bbbb-2",), ["bbbb-2"]),
        (("bbcc", "aaaa-1"), ["bbcc-3", "aaaa-1"]),
        (("--mine",), ["bbbb-2"]),
        (("--all",), ["bbbb-2", "bbcc-3", "aaaa-1"]),
    ],
)
def test_which_jobs_are_cancelled(words: tuple[str, ...], ids: list[str], waiting: StubServer) -> None:
    shown = kandiflux("cancel", *words)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert sorted(shown.stdout.split()) == sorted(cancelled(waiting)) == sorted(ids)
    assert [line for line in shown.stdout.split() if line != "aaaa-1"] == [one for one in ids if one != "aaaa-1"]


def test_what_was_cancelled_as_json(waiting: StubServer) -> None:
    answer = json.loads(kandiflux("cancel", "--all", "--json").stdout)
    assert answer == {"deleted": ["bbbb-2", "bbcc-3"], "interrupted": ["aaaa-1"], "gone": []}


@pytest.mark.parametrize(
    "words", [(), ("bbbb-2", "--all"), ("--all", "--mine"), ("bbbb-2", "--mine"), ("bb",), ("bbbb-2", "none-9")]
)
def test_nothing_is_cancelled_if_it_is_not_clear_what(words: tuple[str, ...], waiting: StubServer) -> None:
    shown = kandiflux("cancel", *words)
    assert (shown.exit_code, shown.stdout, cancelled(waiting)) == (2, "", [])


def test_nothing_to_cancel_is_no_error(stub: StubServer) -> None:
    shown = kandiflux("cancel", "--all")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "", "There was nothing to cancel.\n")
    assert kandiflux("cancel", "--all", "--quiet").stderr == ""
    shown = kandiflux("cancel", "--all", "--json")
    assert json.loads(shown.stdout) == {"deleted": [], "interrupted": [], "gone": []}
    assert shown.stderr == ""


def test_the_running_job_is_interrupted(waiting: StubServer) -> None:
    shown = kandiflux("interrupt")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "aaaa-1\n", "")
    assert json.loads(kandiflux("interrupt", "aaaa", "--json").stdout) == {"interrupted": "aaaa-1"}
    shown = kandiflux("interrupt", "bbbb-2")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert cancelled(waiting) == ["aaaa-1", "aaaa-1"]


def test_nothing_to_interrupt_is_no_error(stub: StubServer) -> None:
    shown = kandiflux("interrupt")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "", f"No job is running on {stub.url}.\n")
    assert kandiflux("interrupt", "--quiet").stderr == ""
    shown = kandiflux("interrupt", "--json")
    assert (json.loads(shown.stdout), shown.stderr) == ({"interrupted": None}, "")


@pytest.mark.parametrize(("option", "results"), [((), True), (("--keep-results",), False)])
def test_memory_is_freed(option: tuple[str, ...], results: bool, comfy: FakeComfyUI) -> None:
    words = ("free", "--server", comfy.url, *option)
    shown = kandiflux(*words)
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "", f"{comfy.url} frees its memory.\n")
    assert comfy.freed == [{"unload_models": True, "free_memory": results}]
    assert kandiflux(*words, "--quiet").stderr == ""
    comfy.running.append(item("aaaa-1"))
    assert kandiflux(*words).stderr == f"{comfy.url} frees its memory after the running job.\n"
    shown = kandiflux(*words, "--json")
    assert json.loads(shown.stdout) == {"url": comfy.url, "results_forgotten": results, "after_the_running_job": True}
    assert shown.stderr == ""


def test_a_server_that_is_not_there_is_exit_code_3() -> None:
    for words in (("queue",), ("cancel", "--all"), ("interrupt",), ("free",)):
        shown = kandiflux(*words, "--server", "http://127.0.0.1:9")
        assert (shown.exit_code, shown.stdout) == (3, ""), words
        assert "Error: Nothing answers" in shown.stderr
