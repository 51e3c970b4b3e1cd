"""The client for asyncio: what it hands on, and what becomes of jobs whose task is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from kandiflux import AsyncClient, AsyncJob, Client, Job, Prompt
from kandiflux.api.events import Event, ExecutionStarted, JobFinished, JobQueued
from kandiflux.errors import InvalidPrompt, JobInterrupted, JobTimeout, UsageError

from tests.support.fake_comfyui import PNG, FakeComfyUI, prompt
from tests.support.stub_server import StubServer
from tests.support.waiting import until

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 30))


def test_it_is_open_inside_the_block_and_closed_after_it(comfy: FakeComfyUI) -> None:
    async def use() -> Client:
        async with AsyncClient(comfy.url) as client:
            assert repr(client) == f"<AsyncClient {comfy.url}: 0 jobs>"
            assert (client.sync.url, client.sync.closed) == (comfy.url, False)
            behind = client.sync
        with pytest.raises(UsageError, match="is not open"):
            client.sync  # noqa: B018
        with pytest.raises(UsageError, match="is not open"):
            await client.submit(prompt())
        assert repr(client) == "<AsyncClient, not open>"
        return behind

    assert run(use()).closed


def test_it_is_closed_after_an_error(comfy: FakeComfyUI) -> None:
    async def use() -> None:
        nonlocal behind
        async with AsyncClient(comfy.url) as client:
            behind = client.sync
            raise ZeroDivisionError

    behind: Client | None = None
    with pytest.raises(ZeroDivisionError):
        run(use())
    assert behind is not None
    assert behind.closed


def test_how_a_server_is_reached_is_handed_on(comfy: FakeComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_TOKEN", "secret")

    async def use() -> None:
        async with AsyncClient(comfy.url, headers={"X-Team": "art"}, token_env="GPU_TOKEN", verify=False) as client:
            assert client.sync.api.headers.items() >= {"X-Team": "art", "Authorization": "Bearer secret"}.items()
            assert client.sync.api.verify is False

    run(use())


def test_node_classes_and_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)

    async def use(url: str) -> None:
        async with AsyncClient(url) as client:
            info = await client.object_info()
            assert await client.object_info() is info
            assert await client.object_info(refresh=True) == info
            assert await client.upload(tmp_path / "a.png", subfolder="s") == "s/b.png"

    with StubServer({"POST /upload/image": {"name": "b.png", "subfolder": "s"}}).serving() as stub:
        run(use(stub.url))
    assert stub.count("GET /object_info") == 2


def test_a_job_tells_what_the_one_behind_it_tells(comfy: FakeComfyUI) -> None:
    comfy.ending = "hold"

    async def use() -> None:
        async with AsyncClient(comfy.url) as client:
            job = await client.submit(prompt(), job_id="00000000-0000-4000-8000-000000000001")
            assert isinstance(job, AsyncJob)
            assert (job.prompt_id, job.finished) == ("00000000-0000-4000-8000-000000000001", False)
            assert job.state in ("queued", "running")
            assert repr(job).startswith(f"<AsyncJob {job.prompt_id} ")
            seen = []
            async for event in job.events():
                seen.append(event)
                if isinstance(event, ExecutionStarted):
                    await asyncio.to_thread(comfy.call, comfy.release())
            assert (job.finished, job.state) == (True, "done")
            assert isinstance(seen[-1], JobFinished)
            assert [event async for event in job.events()] == job.sync.told(), "from the beginning"
            assert (await job).prompt_id == (await job.result()).prompt_id == (await job.result(0)).prompt_id

    run(use())


def test_errors_are_those_of_the_job(comfy: FakeComfyUI) -> None:
    async def use() -> None:
        async with AsyncClient(comfy.url) as client:
            comfy.posts = ["refuse"]
            with pytest.raises(InvalidPrompt):
                await client.submit(prompt())
            comfy.ending = "hold"
            job = await client.submit(prompt())
            with pytest.raises(JobTimeout):
                await job.result(0.05)
            assert not job.finished
            await job.cancel()
            with pytest.raises(JobInterrupted):
                await job.result(20)
            with pytest.raises(JobInterrupted):
                await job

    run(use())
    assert comfy.interrupts == comfy.accepted


@pytest.mark.parametrize("refused", [False, True])
def test_a_task_that_is_cancelled_while_it_sends_leaves_no_job(
    refused: bool, comfy: FakeComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    comfy.ending = "hold"
    comfy.posts = ["refuse"] if refused else []
    sending, go = threading.Event(), threading.Event()
    submit = Client.submit

    def slow(self: Client, *words: Any, **options: Any) -> Any:
        sending.set()
        assert go.wait(20)
        return submit(self, *words, **options)

    monkeypatch.setattr(Client, "submit", slow)
    said: list[Any] = []

    async def use() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        async with AsyncClient(comfy.url) as client:
            task = asyncio.ensure_future(client.submit(prompt()))
            await asyncio.to_thread(sending.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go.set()
            if refused:
                await asyncio.to_thread(until, lambda: not comfy.posts)
            else:
                await asyncio.to_thread(until, lambda: comfy.accepted)
                await asyncio.to_thread(until, lambda: not comfy.pending and not comfy.running)

    run(use())
    assert (len(comfy.accepted), said) == (0 if refused else 1, [])


def test_a_run_in_front(comfy: FakeComfyUI) -> None:
    comfy.ending = "hold"

    async def use() -> list[str]:
        async with AsyncClient(comfy.url) as client:
            first = await client.submit(prompt(1))
            await asyncio.to_thread(until, lambda: comfy.running)
            second = await client.submit(prompt(2))
            front = asyncio.ensure_future(client.run(prompt(3), front=True))
            await asyncio.to_thread(until, lambda: len(comfy.pending) == 2)
            comfy.ending = "success"
            await asyncio.to_thread(comfy.call, comfy.release())
            return [result.prompt_id for result in await asyncio.gather(first, front, second)]

    assert run(use()) == comfy.ran


def test_an_event_wakes_whoever_waits_for_the_next() -> None:
    job = Job(cast(Any, SimpleNamespace(closed=False)), Prompt(prompt()), "x")

    async def use() -> None:
        events = AsyncJob(job).events()
        job.queued(None)
        assert isinstance(await events.__anext__(), JobQueued)

        async def read() -> Event:
            return await events.__anext__()

        for tell, kind in (
            (lambda: job.deliver(ExecutionStarted("x")), ExecutionStarted),
            (lambda: job.finish(JobInterrupted("It was stopped.", prompt_id="x")), JobFinished),
        ):
            coming = asyncio.ensure_future(read())
            for _ in range(5):
                await asyncio.sleep(0)
            assert not coming.done()
            tell()
            assert isinstance(await asyncio.wait_for(coming, 10), kind)
        with pytest.raises(StopAsyncIteration):
            await events.__anext__()

    run(use())
