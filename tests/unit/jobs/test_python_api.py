"""What a Python program does with a client: run, map, wait for many, save, look; with asyncio, too."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kandiflux
import pytest
from kandiflux import AsyncClient, Client, Connection, Job, Prompt, Workflow, as_completed
from kandiflux.api.events import Event, JobFinished
from kandiflux.errors import JobLost, JobTimeout, OutOfMemory, ParameterError, UsageError
from kandiflux.jobs import async_client
from kandiflux.jobs.outputs import Output
from kandiflux.jobs.result import Result
from PIL import Image

from tests.support.fake_comfyui import PNG, FakeComfyUI, prompt
from tests.support.stub_server import StubServer
from tests.support.waiting import until


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(prompt()))
    return file


def widths(comfy: FakeComfyUI) -> list[Any]:
    return [nodes["1"]["inputs"]["width"] for nodes in comfy.prompts]


# Running


def test_a_workflow_is_run_with_values_by_name(comfy: FakeComfyUI, client: Client, workflow: Path) -> None:
    loaded = Workflow.load(workflow)
    for given in (workflow, str(workflow), loaded, prompt()):
        result = client.run(given, values={"1.width": 24}, timeout=30)
        assert result.prompt.nodes["1"]["inputs"]["width"] == 24
    assert widths(comfy) == [24] * 4
    assert client.run(prompt(), timeout=30).prompt.nodes == prompt(), "without values it is sent as it is"


def test_values_that_do_not_fit_are_refused_before_anything_is_sent(
    comfy: FakeComfyUI, client: Client, workflow: Path
) -> None:
    for wrong in ({"1.width": 0}, {"1.breadth": 8}, {"nothing": 1}):
        with pytest.raises(ParameterError):
            client.run(workflow, values=wrong)
    ready = Prompt.from_api(prompt())
    impossible: list[dict[str, Any]] = [{"preset": "fast"}, {"values": {"1.width": 8}}, {"width": 8}]
    for given in impossible:
        with pytest.raises(UsageError, match="Values cannot be set in a Prompt"):
            client.run(ready, **given)
    assert comfy.accepted == []


def test_what_is_set_on_a_workflow_holds_for_all_its_prompts(client: Client, workflow: Path) -> None:
    loaded = Workflow.load(workflow)
    loaded["1"].width = 40
    loaded[2].filename_prefix = "mine"
    assert loaded["1"].width == 40
    with pytest.raises(AttributeError, match="is not set;"):
        loaded["1"].height  # noqa: B018
    nodes = client.prompt(loaded, values={"2.filename_prefix": "yours"}).nodes
    assert (nodes["1"]["inputs"]["width"], nodes["2"]["inputs"]["filename_prefix"]) == (40, "yours")
    assert client.prompt(loaded).nodes["2"]["inputs"]["filename_prefix"] == "mine"
    assert Workflow.load(workflow).values == {}


def test_map_keeps_the_order_and_never_has_more_than_so_many_on_the_server(
    comfy: FakeComfyUI, client: Client, workflow: Path
) -> None:
    seen: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for width in range(8, 8 + 6):
            seen.append(len(comfy.accepted))
            yield {"1.width": width}

    results = client.map(workflow, rows(), ahead=2, timeout=30)
    assert [result.prompt.nodes["1"]["inputs"]["width"] for result in results] == list(range(8, 14))
    assert seen == [0, 1, 2, 3, 4, 5]
    assert widths(comfy) == list(range(8, 14))


def test_map_cancels_what_it_sent_when_it_is_left(comfy: FakeComfyUI, client: Client, workflow: Path) -> None:
    comfy.ending = "hold"
    rows = [{"1.width": width} for width in (8, 16, 24)]
    with pytest.raises(JobTimeout):
        next(client.map(workflow, rows, ahead=3, timeout=0.2))
    until(lambda: not comfy.pending and not comfy.running)


def test_jobs_are_given_as_they_end(comfy: FakeComfyUI, client: Client) -> None:
    told: list[tuple[int, int]] = []
    jobs = [client.submit(prompt()) for _ in range(3)]
    ended = list(as_completed(jobs, timeout=30, progress=lambda done, total: told.append((done, total))))
    assert sorted(job.prompt_id for job in ended) == sorted(job.prompt_id for job in jobs)
    assert all(job.finished for job in ended)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert list(as_completed([])) == []
    comfy.ending = "hold"
    with pytest.raises(JobTimeout, match="1 of 1 jobs"):
        list(as_completed([client.submit(prompt())], timeout=0.1))


def test_a_local_picture_is_uploaded(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(PNG)
    with StubServer({"POST /upload/image": {"name": "mine.png"}}).serving() as stub, Client(stub.url) as client:
        assert client.upload(str(tmp_path / "mine.png")) == client.upload(tmp_path / "mine.png") == "mine.png"
        with pytest.raises(ParameterError, match="cannot be read"):
            client.upload(str(tmp_path / "none.png"))
        assert stub.count("POST /upload/image") == 2


def test_a_connection_says_how_a_server_is_reached(comfy: FakeComfyUI) -> None:
    how = Connection(comfy.url, {"X-Team": "art"}, verify=False)
    with Client(how, headers={"X-More": "1"}) as client:
        assert client.api.headers.items() >= {"X-Team": "art", "X-More": "1"}.items()
        assert client.api.verify is False


def test_a_run_that_takes_too_long_is_cancelled(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    with pytest.raises(JobTimeout) as caught:
        client.run(prompt(), timeout=0.2)
    assert caught.value.hint == "The job was cancelled. Use a longer timeout."
    assert comfy.accepted == [caught.value.prompt_id]
    until(lambda: not comfy.running and not comfy.pending)
    assert comfy.interrupts == comfy.accepted


def test_a_job_of_a_closed_client_is_not_waited_for(comfy: FakeComfyUI) -> None:
    comfy.ending = "hold"
    with Client(comfy.url) as client:
        job = client.submit(prompt())
    for wait in (job.result, lambda: list(job.events())):
        with pytest.raises(UsageError, match="is closed"):
            wait()
    assert (client.closed, repr(client)) == (True, f"<Client {comfy.url}: closed>")


def test_a_wrong_choice_is_refused(comfy: FakeComfyUI, client: Client) -> None:
    with pytest.raises(UsageError, match="on_lost cannot be 'retry'"):
        client.run(prompt(), on_lost="retry")  # type: ignore[arg-type]
    assert comfy.accepted == []


# Results


def a_picture(name: str = "a.png", kind: str = "image", data: bytes | None = None) -> Output:
    return Output(kind, "2", "Save", name, data=PNG if data is None else data)


def test_a_result_is_saved_whole_and_keeps_what_is_there(client: Client, tmp_path: Path) -> None:
    result = client.run(prompt(), timeout=30)
    first, second = result.save(tmp_path / "out"), result.save(str(tmp_path / "out"))
    assert len(first) == len(second) == len(result.files) > 0
    assert not {*first} & {*second}
    assert all(path.read_bytes() == result.files[0].bytes() for path in (*first, *second))


def test_a_picture_is_decoded() -> None:
    content = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(content, "PNG")
    picture = a_picture(data=content.getvalue()).pil()
    assert (picture.size, picture.getpixel((0, 0))) == ((3, 2), (255, 0, 0))
    with pytest.raises(kandiflux.errors.OutputError, match="cannot be decoded"):
        a_picture(data=b"no picture").pil()


@pytest.mark.parametrize(
    ("output", "mime"),
    [
        (a_picture(), "image/png"),
        (a_picture("A.JPG"), "image/jpeg"),
        (a_picture("a.exr"), None),
        (a_picture("a.png", "text"), None),
        (Output("text", "2", "Show", "", text="hello"), None),
    ],
)
def test_what_a_notebook_shows(output: Output, mime: str | None) -> None:
    assert output.mime == mime
    (shown,) = output._repr_mimebundle_()
    assert shown == (mime or "text/plain")
    html = Result("p", Prompt.from_api(prompt()), (output,))._repr_html_()
    assert ("<img" in html) == (mime is not None)


def test_texts_are_escaped_for_a_notebook() -> None:
    text = Output("text", "2", "Show", "", text="<script>")
    assert Result("p", Prompt.from_api(prompt()), (text,))._repr_html_() == "<pre>&lt;script&gt;</pre>"


def test_what_is_printed_is_short(comfy: FakeComfyUI, client: Client, workflow: Path) -> None:
    job = client.submit(workflow)
    result = job.result(30)
    for shown in (client, job, result, result.prompt, Workflow.load(workflow), result.files[0]):
        assert len(repr(shown)) < 200
    assert job.prompt_id in job._repr_html_()
    assert f"{len(result.files)} files" in repr(result)


def test_the_public_names_are_listed() -> None:
    assert dir(kandiflux) == kandiflux.__all__
    assert all(hasattr(kandiflux, name) for name in kandiflux.__all__)
    with pytest.warns(DeprecationWarning, match="run_with_retries"):
        assert kandiflux.run_to_the_end is kandiflux.run_with_retries  # type: ignore[attr-defined]


# asyncio


def test_an_async_client_runs_and_follows(comfy: FakeComfyUI, workflow: Path) -> None:
    async def draw() -> tuple[Result, list[Event], list[Result]]:
        async with AsyncClient(comfy.url) as client:
            result = await client.run(workflow, values={"1.width": 24}, timeout=30)
            job = await client.submit(workflow)
            events = [event async for event in job.events()]
            assert (job.finished, job.state, await job) == (True, "done", await job.result())
            assert await client.object_info() == await client.object_info(refresh=True)
            more = [await client.submit(workflow) for _ in range(3)]
            return result, events, list(await asyncio.gather(*more))

    result, events, more = asyncio.run(draw())
    assert result.prompt.nodes["1"]["inputs"]["width"] == 24
    assert isinstance(events[-1], JobFinished)
    assert len({one.prompt_id for one in more}) == 3


def test_the_loop_goes_on_while_a_server_is_waited_for(comfy: FakeComfyUI, workflow: Path) -> None:
    comfy.ending = "hold"

    async def draw() -> int:
        async with AsyncClient(comfy.url) as client:
            job = await client.submit(workflow)
            turns = 0
            waiting = asyncio.ensure_future(job.result(0.3))
            while not waiting.done():
                await asyncio.sleep(0)
                turns += 1
            with pytest.raises(JobTimeout):
                await waiting
            assert not job.finished, "it goes on on the server"
            await job.cancel()
            return turns

    assert asyncio.run(draw()) > 100


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
def test_a_run_that_is_given_up_is_cancelled_on_the_server(comfy: FakeComfyUI, workflow: Path, how: str) -> None:
    comfy.ending = "hold"

    async def draw() -> None:
        async with AsyncClient(comfy.url) as client:
            if how == "timeout":
                with pytest.raises(JobTimeout, match="The job was cancelled"):
                    await client.run(workflow, timeout=0.2)
            else:
                running = asyncio.ensure_future(client.run(workflow))
                while not comfy.running:
                    await asyncio.sleep(0.01)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            await asyncio.to_thread(until, lambda: not comfy.running)

    said: list[Any] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        await draw()
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(watched())
    assert comfy.interrupts == comfy.accepted
    assert said == [], "no exception is left to nobody"


@pytest.mark.parametrize(
    ("ending", "options", "ran", "freed"),
    [
        ("memory", {"retry_oom": True}, 2, 1),
        ("memory", {"on_lost": "resubmit"}, 1, 0),
        ("forget", {"on_lost": "resubmit"}, 4, 0),
        ("forget", {"retry_oom": True}, 1, 0),
    ],
)
def test_an_async_run_is_tried_again_if_that_is_wanted(
    comfy: FakeComfyUI,
    workflow: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    options: dict[str, Any],
    ran: int,
    freed: int,
) -> None:
    comfy.ending = ending
    monkeypatch.setattr(async_client, "open_client", lambda *_, **__: Client(comfy.url, poll_seconds=0.05))

    async def draw() -> None:
        async with AsyncClient(comfy.url) as client:
            await client.run(workflow, **options)

    with pytest.raises(OutOfMemory if ending == "memory" else JobLost):
        asyncio.run(draw())
    assert len(set(comfy.ran)) == len(comfy.ran) == ran
    assert len(comfy.freed) == freed


def test_an_unknown_option_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"AsyncClient.*'token'"):
        AsyncClient("http://127.0.0.1:9", token="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_a_client_that_is_not_open_says_so() -> None:
    client = AsyncClient("http://127.0.0.1:9")
    assert repr(client) == "<AsyncClient, not open>"
    with pytest.raises(UsageError, match="is not open"):
        client.sync  # noqa: B018


def test_events_of_a_loop_that_is_closed_harm_nobody(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job: Job = client.submit(prompt())

    async def look() -> None:
        async for _ in kandiflux.AsyncJob(job).events():
            return

    asyncio.run(look())
    job.cancel()
    with pytest.raises(kandiflux.errors.JobInterrupted):
        job.result(30)
    assert threading.current_thread() is threading.main_thread()
