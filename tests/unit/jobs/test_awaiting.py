"""A job in asyncio: `await job` is `job.result()` without a thread that waits."""

from __future__ import annotations

import asyncio
import threading

import pytest
from kandiflux import Client
from kandiflux.errors import JobLost, NodeFailed
from kandiflux.jobs.result import Result

from tests.support.fake_comfyui import FakeComfyUI, prompt

WAIT = 10


def test_awaiting_gives_the_result(comfy: FakeComfyUI, client: Client) -> None:
    async def draw() -> Result:
        return await asyncio.wait_for(client.submit(prompt()), WAIT)

    assert asyncio.run(draw()).images


def test_awaiting_raises_what_the_job_ended_with(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "error"

    async def draw() -> Result:
        return await client.submit(prompt())

    with pytest.raises(NodeFailed, match="no such colour"):
        asyncio.run(draw())


def test_a_job_that_has_ended_is_awaited_at_once_and_again(comfy: FakeComfyUI, client: Client) -> None:
    job = client.submit(prompt())
    job.result(WAIT)

    async def twice() -> list[Result]:
        return [await job, await job]

    assert asyncio.run(twice()) == [job.result(), job.result()]


def test_many_are_awaited_together_and_no_thread_waits_for_each(comfy: FakeComfyUI, client: Client) -> None:
    async def draw_all() -> tuple[list[Result], int]:
        jobs = [client.submit(prompt(width)) for width in range(20)]
        waiting = asyncio.gather(*jobs)
        await asyncio.sleep(0)
        threads = threading.active_count()
        return await asyncio.wait_for(waiting, WAIT), threads

    before = threading.active_count()
    results, threads = asyncio.run(draw_all())
    assert len({result.prompt_id for result in results}) == 20
    assert threads <= before + 2, "one reader and one watcher, however many jobs"


def test_a_wait_that_is_given_up_leaves_the_job_alone(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())

    async def impatient() -> None:
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(job, 0.02)

    callbacks = len(job._callbacks)
    asyncio.run(impatient())
    assert not job.finished
    assert len(job._callbacks) == callbacks, "a wait that was given up is still remembered"
    comfy.call(comfy.release())
    assert job.result(WAIT).images


def test_a_loop_that_is_gone_does_not_trouble_the_client(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        job.__await__()

    loop.run_until_complete(begin())
    loop.close()
    comfy.call(comfy.forget())
    with pytest.raises(JobLost):
        job.result(WAIT)
