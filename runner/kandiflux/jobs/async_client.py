"""The client for asyncio: like `Client`, without blocking the event loop.

async with AsyncClient() as client:
    result = await client.run("kandinsky22_pocket_text_to_image", prompt="a red circle")
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from kandiflux.api.events import Event
from kandiflux.errors import JobTimeout, KandifluxError, UsageError
from kandiflux.jobs.client import Client, WorkflowLike
from kandiflux.jobs.connect import open_client
from kandiflux.jobs.job import Job, JobState
from kandiflux.jobs.result import Result
from kandiflux.jobs.retry import RETRIED, OnLost, Retries, cancelled_after

__all__ = ["AsyncClient", "AsyncJob"]


class AsyncClient:
    """Opens a client at the beginning of `async with` and closes it at the end. Arguments as `open_client`."""

    def __init__(
        self,
        server: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        user: str | None = None,
        token_env: str | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
    ) -> None:
        self._open = partial(
            open_client, server, headers=headers, user=user, token_env=token_env, verify=verify, cert=cert
        )
        self._client: Client | None = None

    def __repr__(self) -> str:
        return f"<Async{repr(self._client)[1:]}" if self._client is not None else "<AsyncClient, not open>"

    async def __aenter__(self) -> AsyncClient:
        self._client = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self.sync, None
        await asyncio.to_thread(client.close)

    @property
    def sync(self) -> Client:
        """The underlying `Client`, for methods that this class lacks. UsageError outside `async with`."""
        if self._client is None:
            raise UsageError("This client is not open.", hint="Use it inside `async with AsyncClient() as client`.")
        return self._client

    async def object_info(self, *, refresh: bool = False) -> dict[str, Any]:
        """As `Client.object_info`."""
        return await asyncio.to_thread(self.sync.object_info, refresh=refresh)

    async def upload(self, path: str | Path, *, subfolder: str = "") -> str:
        """As `Client.upload`."""
        return await asyncio.to_thread(self.sync.upload, path, subfolder=subfolder)

    async def submit(self, workflow: WorkflowLike, /, **wanted: Any) -> AsyncJob:
        """As `Client.submit`. If the task is cancelled before it returns, the job is cancelled on the server."""
        sending = asyncio.ensure_future(asyncio.to_thread(partial(self.sync.submit, workflow, **wanted)))
        try:
            return AsyncJob(await asyncio.shield(sending))
        except asyncio.CancelledError:
            # The thread continues, and the job would run although nobody waits for it.
            sending.add_done_callback(_cancel_it)
            raise

    async def run(
        self,
        workflow: WorkflowLike,
        /,
        *,
        timeout: float | None = None,
        retry_oom: bool = False,
        on_lost: OnLost = "fail",
        front: bool = False,
        **wanted: Any,
    ) -> Result:
        """As `Client.run`. If the task is cancelled, so is the job."""
        prompt = await asyncio.to_thread(partial(self.sync.prompt, workflow, **wanted))
        retries = Retries(self.sync.api, prompt, retry_oom=retry_oom, on_lost=on_lost)
        while True:
            job = await self.submit(retries.prompt, front=front)
            try:
                return await job.result(timeout)
            except RETRIED as error:
                await asyncio.to_thread(retries.prepare, job.sync, error)
            except JobTimeout as error:
                raise cancelled_after(error) from None
            finally:
                if not job.finished:
                    # Not awaited: the task may be cancelled again, and the loop must not be blocked.
                    asyncio.get_running_loop().run_in_executor(None, _quietly, job.sync.cancel)


class AsyncJob:
    """A job of an `AsyncClient`. `await job` is `await job.result()`."""

    def __init__(self, job: Job) -> None:
        self.sync = job
        """The underlying `Job`."""

    def __repr__(self) -> str:
        return f"<Async{repr(self.sync)[1:]}"

    def __await__(self) -> Generator[Any, None, Result]:
        return self.sync.__await__()

    @property
    def prompt_id(self) -> str:
        """Its id on the server."""
        return self.sync.prompt_id

    @property
    def state(self) -> JobState:
        """As `Job.state`."""
        return self.sync.state

    @property
    def finished(self) -> bool:
        """Whether it has ended, however it ended."""
        return self.sync.finished

    async def result(self, timeout: float | None = None) -> Result:
        """Waits for the end and returns the result. Errors as `Job.result`; a timeout does not cancel the job."""
        try:
            return await asyncio.wait_for(_awaited(self.sync), timeout)
        except asyncio.TimeoutError:
            return self.sync.result(0)

    async def cancel(self) -> None:
        """As `Job.cancel`."""
        await asyncio.to_thread(self.sync.cancel)

    async def events(self) -> AsyncIterator[Event]:
        """Yields events from the beginning until the job ends, as `Job.events`."""
        loop, more = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: object) -> None:
            # If the loop is closed, nobody reads the events.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(more.set)

        self.sync.add_event_callback(wake)
        self.sync.add_done_callback(wake)
        position = 0
        while True:
            more.clear()
            finished = self.sync.finished
            events, position = self.sync.events_since(position)
            for event in events:
                yield event
            if finished and not events:
                return
            if not events:
                await more.wait()


async def _awaited(job: Job) -> Result:
    return await job


def _cancel_it(sending: asyncio.Future[Job]) -> None:
    if not sending.cancelled() and sending.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, _quietly, sending.result().cancel)


def _quietly(act: Callable[[], None]) -> None:
    with contextlib.suppress(KandifluxError):
        act()
