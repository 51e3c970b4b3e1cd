"""The commands around a run, against the lite host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Client, Workflow
from kandiflux.cli import app
from kandiflux.errors import JobInterrupted, JobLost, OutputMissing
from PIL import Image
from typer.testing import Result

from tests.lite.test_runner import steps
from tests.support.commands import RUNNER
from tests.support.hosts import RunningHost
from tests.support.places import ROOT
from tests.support.waiting import until

PLAIN = ROOT / "tests" / "data" / "empty_image.json"
WAIT = 30


@pytest.fixture
def client(lite_host: RunningHost) -> Iterator[Client]:
    with Client(lite_host.url, poll_seconds=1.0) as client:
        yield client


@pytest.fixture(autouse=True)
def _server(lite_host: RunningHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KANDIFLUX_SERVER", lite_host.url)
    monkeypatch.chdir(tmp_path)


def kandiflux(*words: str) -> Result:
    return RUNNER.invoke(app, list(words))


def told(*words: str) -> Any:
    ended = kandiflux(*words, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


# The queue


@pytest.fixture
def busy(client: Client) -> Iterator[list[Any]]:
    """One job that runs for long, and two that wait."""
    jobs = [client.submit(steps(0.05, count=1000 - number)) for number in range(2)]
    jobs.append(client.submit({**steps(0.05, count=7), "3": words("  a red\n circle ")}))
    until(lambda: jobs[0].state == "running")
    yield jobs
    for job in jobs:
        job.cancel()
    for job in jobs:
        with pytest.raises((JobInterrupted, JobLost)):
            job.result(WAIT)


def words(text: str) -> dict[str, Any]:
    return {"class_type": "PrimitiveString", "inputs": {"prompt": text, "value": ""}}


def test_the_queue_is_listed_in_its_order(busy: list[Any]) -> None:
    jobs = told("queue")["jobs"]
    assert [(job["prompt_id"], job["state"], job["position"]) for job in jobs] == [
        (busy[0].prompt_id, "running", 0),
        (busy[1].prompt_id, "pending", 1),
        (busy[2].prompt_id, "pending", 2),
    ]
    assert jobs[2]["text"] == "a red circle"
    assert all(job["mine"] for job in jobs)
    lines = kandiflux("queue").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["position", "runs", "1", "2"]


def test_a_waiting_job_is_cancelled_by_the_beginning_of_its_id(busy: list[Any]) -> None:
    assert kandiflux("cancel", busy[1].prompt_id[:8]).stdout.split() == [busy[1].prompt_id]
    with pytest.raises(JobLost):
        # Whoever waits for it cannot tell that somebody took it away from a server that forgot it.
        busy[1].result(WAIT)
    assert [job["prompt_id"] for job in told("queue")["jobs"]] == [busy[0].prompt_id, busy[2].prompt_id]


def test_the_running_job_is_cancelled_and_the_next_one_begins(busy: list[Any]) -> None:
    assert told("cancel", busy[0].prompt_id) == {"deleted": [], "interrupted": [busy[0].prompt_id], "gone": []}
    until(lambda: busy[1].state == "running")


def test_interrupting_a_job_that_does_not_run_is_refused(busy: list[Any]) -> None:
    ended = kandiflux("interrupt", busy[2].prompt_id)
    assert ended.exit_code == 2
    assert busy[0].state == "running"


def test_whatever_runs_is_interrupted(busy: list[Any]) -> None:
    assert kandiflux("interrupt").stdout.strip() == busy[0].prompt_id
    until(lambda: busy[0].finished)


@pytest.mark.parametrize("which", ["--mine", "--all"])
def test_all_are_cancelled(busy: list[Any], which: str) -> None:
    done = told("cancel", which)
    assert set(done["deleted"]) == {busy[1].prompt_id, busy[2].prompt_id}
    assert done["interrupted"] == [busy[0].prompt_id]
    until(lambda: told("queue")["jobs"] == [])


def test_mine_are_not_those_of_another_user(busy: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.jobs.queue.this_owner", lambda: "somebody else")
    assert kandiflux("cancel", "--mine").stdout == ""
    assert busy[0].state == "running"


@pytest.mark.parametrize("words", [(), ("--all", "--mine"), ("abcd", "--all"), ("abcd-no-such-id",)])
def test_what_to_cancel_has_to_be_clear(words: tuple[str, ...]) -> None:
    assert kandiflux("cancel", *words).exit_code == 2


def test_memory_is_freed_and_results_are_forgotten(client: Client) -> None:
    prompt = Workflow.load(PLAIN).prompt(client.object_info(), {"name": "freed"})
    client.submit(prompt).result(WAIT)
    assert client.submit(prompt).result(WAIT).cached_nodes
    assert told("free")["results_forgotten"] is True
    # At the latest after the job that runs next.
    assert not all(client.submit(prompt).result(WAIT).cached_nodes for _ in range(2))


# Running again


def drawn(*words: str) -> Path:
    ended = kandiflux("run", str(PLAIN), "--quiet", *words)
    assert ended.exit_code == 0, ended.output
    return Path(ended.stdout.strip())


def test_a_picture_is_made_again_and_carries_what_was_set(lite_host: RunningHost) -> None:
    first = drawn("--set", "width=40", "--set", "name=again", "--out", "first")
    ended = kandiflux("rerun", str(first), "--set", "height=24", "--out", "second")
    assert ended.exit_code == 0, ended.output
    second = Path(ended.stdout.strip())
    with Image.open(second) as picture:
        assert picture.size == (40, 24)
        editor = json.loads(picture.info["workflow"])
        assert json.loads(picture.info["kandiflux"]) == {"values": {"height": 24}}
    assert editor["nodes"][0]["widgets_values"][:2] == [40, 24], "the values that were set stand in the workflow"
    names = [one["name"] for one in told("params", str(second))["parameters"]]
    assert names == ["width", "height", "size", "colour", "name"], "parameters keep their names"


def test_a_file_without_metadata_is_made_again_from_its_sidecar() -> None:
    picture = drawn("--set", "width=40", "--set", "name=bare", "--sidecar")
    about = json.loads(picture.with_name(f"{picture.name}.json").read_bytes())
    assert about["values"] == {"width": 40, "name": "bare"}
    bare = Path("bare.png")
    with Image.open(picture) as image:
        Image.new("RGB", image.size).save(bare)
    refused = kandiflux("rerun", str(bare))
    assert refused.exit_code == 2
    assert "contains no workflow" in refused.output
    Path("bare.png.json").write_text(json.dumps(about))
    again = kandiflux("rerun", str(bare), "--out", "again")
    assert again.exit_code == 0, again.output
    with Image.open(again.stdout.strip()) as image:
        assert image.width == 40
    assert told("params", "bare.png.json")["parameters"][0]["value"] == 40


def test_one_picture_that_cannot_be_made_again_does_not_stop_the_others() -> None:
    good = drawn("--set", "name=good")
    bad = Path("bad.png")
    Image.new("RGB", (8, 8)).save(bad)
    ended = kandiflux("rerun", str(bad), str(good), "--out", "again")
    assert ended.exit_code == 2
    assert len(ended.stdout.splitlines()) == 1
    assert "bad.png: could not be run again" in ended.stderr


def test_a_cached_picture_whose_file_is_gone_is_made_once_more(lite_host: RunningHost) -> None:
    words = ("--set", "name=gone", "--set", "width=33")
    drawn(*words, "--out", "first")
    saved = sorted(lite_host.output.glob("gone*.png"))
    for file in saved:
        file.unlink()
    again = drawn(*words, "--out", "second")
    with Image.open(again) as picture:
        assert picture.width == 33
        assert "kandiflux_again" in picture.info["prompt"]
    assert len(list(lite_host.output.glob("gone*.png"))) == 1, "only what was missing was made again"
    assert "kandiflux_again" not in json.dumps(Workflow.load(again).api)


def test_a_picture_that_stays_missing_is_an_error_after_one_more_run(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> Iterator[bytes]:
        raise OutputMissing("The file is no longer there.")
        yield

    words = ("run", str(PLAIN), "--quiet", "--set", "name=stays", "--set", "width=34")
    assert kandiflux(*words).exit_code == 0
    before = len(client.api.recent_history(10_000))
    monkeypatch.setattr("kandiflux.api.rest.ComfyApi.view", missing)
    ended = kandiflux(*words)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "no longer there" in ended.stderr
    assert len(client.api.recent_history(10_000)) == before + 2


# The server itself


def test_the_doctor_names_what_it_finds(lite_host: RunningHost) -> None:
    answer = told("doctor")
    lines = {line["what"]: line for line in answer["lines"]}
    assert answer["ok"] is True
    assert lines["server"]["found"] == lite_host.url
    assert lines["websocket"]["found"].startswith("open after")
    assert lines["kandiflux nodes"]["state"] == "ok"
    assert {"ComfyUI", "Python", "torch", "device", "HTTP", "queue", "upload limit", "nodes"} <= lines.keys()


def test_the_doctor_looks_for_what_a_workflow_needs() -> None:
    assert told("doctor", str(PLAIN))["lines"][-1]["found"] == "nothing is missing"
    file = Path("odd.json")
    file.write_text(json.dumps({"1": {"class_type": "NoSuchNode", "inputs": {}}}))
    ended = kandiflux("doctor", "odd.json")
    assert ended.exit_code == 2
    assert "fail\todd" in ended.stdout
    missing = {str(number): {"class_type": f"NoSuch{number % 2}", "inputs": {}} for number in range(9)}
    file.write_text(json.dumps(missing))
    lines = [line for line in kandiflux("doctor", "odd.json").stdout.splitlines() if "NoSuch" in line]
    assert len(lines) == 1
    assert "2 node classes are missing: NoSuch0, NoSuch1" in lines[0]
    assert kandiflux("doctor", "--server", "http://127.0.0.1:9").exit_code == 3
