"""A client of one ComfyUI (or lite host): submits jobs, follows them, and downloads their outputs.

with Client("http://127.0.0.1:8188") as client:
    result = client.run("kandinsky22_pocket_text_to_image", prompt="a red circle", seed=1)
    paths = result.save("pictures")
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from kandiflux.api.events import (
    Event,
    ExecutionFailed,
    ExecutionInterrupted,
    ExecutionStarted,
    ExecutionSucceeded,
    NodeStarted,
    NodeText,
    Preview,
)
from kandiflux.api.rest import ComfyApi
from kandiflux.api.websocket import EventStream
from kandiflux.config import Connection
from kandiflux.errors import (
    AnswerLost,
    InvalidPrompt,
    JobTimeout,
    KandifluxError,
    ParameterError,
    ServerError,
    ServerUnreachable,
    UsageError,
)
from kandiflux.jobs.job import Job
from kandiflux.jobs.queue import cancel_on_server
from kandiflux.jobs.result import Result
from kandiflux.jobs.retry import OnLost, cancelled_after, run_with_retries
from kandiflux.jobs.submit import find_prompts, submit_prompt
from kandiflux.jobs.tracker import JobTracker
from kandiflux.workflow.prompt import Prompt, is_api_format
from kandiflux.workflow.workflow import Workflow

__all__ = ["Client", "WorkflowLike"]

_log = logging.getLogger(__name__)

_SOCKET_WAIT = 10.0
_BEFORE_HISTORY = 0.02
_BRISK = (5.0, 15.0)


WorkflowLike = Workflow | Prompt | Mapping[str, Any] | str | Path
"""A workflow or prompt, as an object, parsed JSON or the path of a file; or the name of a shipped workflow."""


class Client:
    """Follows any number of jobs on one server over one websocket. Safe to use from many threads.

    url: the server's URL, or a `Connection`, which includes headers, verify and cert. poll_seconds: interval between
    reads of queue and history while events arrive. patience: seconds to wait for a server that has stopped answering
    before its jobs are given up. headers, verify, cert and timeout as in `ComfyApi`.
    """

    def __init__(
        self,
        url: str | Connection,
        *,
        headers: Mapping[str, str] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        timeout: tuple[float, float] = (5.0, 60.0),
        poll_seconds: float = 5.0,
        patience: float = 120.0,
    ) -> None:
        if isinstance(url, Connection):
            url, headers, verify, cert = url.url, {**url.headers, **(headers or {})}, url.verify, url.cert
        self.api = ComfyApi(url, headers=headers, verify=verify, cert=cert, timeout=timeout)
        self._patience = patience
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._running: Job | None = None
        self._object_info: dict[str, Any] | None = None
        self._reading_object_info = threading.Lock()
        self._closed = False
        self._warned = False
        self._stream = EventStream(
            self.api.url,
            on_event=self._route,
            on_connect=self._on_connect,
            headers=self.api.headers,
            verify=verify,
            cert=cert,
        )
        self._watcher = JobTracker(self.api, poll_seconds=poll_seconds, patience=patience, orphaned=self._is_orphaned)

    def __repr__(self) -> str:
        return f"<Client {self.url}: {'closed' if self.closed else f'{len(self.jobs)} jobs'}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The server's base URL."""
        return self.api.url

    @property
    def closed(self) -> bool:
        """Whether it is closed and no longer follows jobs."""
        return self._closed

    @property
    def jobs(self) -> list[Job]:
        """The jobs that are being submitted or have not ended."""
        with self._lock:
            return list(self._jobs.values())

    def close(self) -> None:
        """Closes the connections. Jobs continue on the server, but are no longer followed."""
        self._closed = True
        self._stream.close()
        self._watcher.close()
        self.api.close()

    def object_info(self, *, refresh: bool = False) -> dict[str, Any]:
        """Returns the server's node classes with their inputs. They are requested once, and again with `refresh`."""
        with self._reading_object_info:
            if self._object_info is None or refresh:
                self._object_info = self.api.object_info()
            return self._object_info

    def upload(self, path: str | Path, *, subfolder: str = "") -> str:
        """Uploads a picture to the server's input folder. Returns the value for LoadImage's `image`."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                return self.api.upload_image(path.name, file, subfolder=subfolder)
        except OSError as error:
            raise ParameterError(f"{path} cannot be read: {error.strerror or error}.") from error

    def prompt(
        self,
        workflow: WorkflowLike,
        /,
        *,
        values: Mapping[str, Any] | None = None,
        preset: str | None = None,
        check: bool = True,
        **parameters: Any,
    ) -> Prompt:
        """Returns the prompt that `submit` sends for this workflow and these values. Uploads local pictures.

        Errors as `Workflow.prompt`; UsageError if values are given for a prompt, whose values are fixed.
        """
        wanted = {**(values or {}), **parameters}
        if isinstance(workflow, Prompt) or (not wanted and preset is None and is_api_format(workflow)):
            if wanted or preset is not None:
                raise UsageError(
                    "Values cannot be set in a Prompt.", expected="the workflow it was made from, with these values"
                )
            return workflow if isinstance(workflow, Prompt) else Prompt.from_api(workflow)
        if isinstance(workflow, Mapping):
            workflow = Workflow.from_data(workflow)
        elif not isinstance(workflow, Workflow):
            workflow = Workflow.load(workflow)
        return workflow.prompt(self.object_info(), wanted, preset=preset, upload=self.upload, check=check)

    def run(
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
        """Runs a workflow to its end and returns the result: `client.run("flux_dev", prompt="a fox", seed=1)`.

        wanted: parameters of the workflow, and `values`, `preset` and `check` as in `submit`. timeout: seconds until
        the job is cancelled; Ctrl-C also cancels it. retry_oom, on_lost: as `run_with_retries`. Errors as `submit` and
        `Job.result`.
        """

        def finish(job: Job) -> Result:
            try:
                return job.result(timeout)
            except (JobTimeout, KeyboardInterrupt) as error:
                with contextlib.suppress(KandifluxError):
                    job.cancel()
                if isinstance(error, JobTimeout):
                    raise cancelled_after(error) from None
                raise

        prompt = self.prompt(workflow, **wanted)
        return run_with_retries(self, prompt, finish, front=front, retry_oom=retry_oom, on_lost=on_lost)

    def map(
        self,
        workflow: WorkflowLike,
        rows: Iterable[Mapping[str, Any]],
        /,
        *,
        ahead: int = 8,
        timeout: float | None = None,
        preset: str | None = None,
        **parameters: Any,
    ) -> Iterator[Result]:
        """Runs a workflow once for each row of values, and yields the results in the order of the rows.

        ahead: number of jobs on the server at a time. timeout: seconds for each. preset, parameters: for all rows, as
        in `submit`; a row's values override them. The first error is raised, and cancels the jobs that were sent.
        """
        if isinstance(workflow, (str, Path)):
            workflow = Workflow.load(workflow)
        jobs: deque[Job] = deque()
        try:
            for row in rows:
                jobs.append(self.submit(workflow, values={**parameters, **row}, preset=preset))
                if len(jobs) >= ahead:
                    yield jobs[0].result(timeout)
                    jobs.popleft()
            while jobs:
                yield jobs[0].result(timeout)
                jobs.popleft()
        finally:
            for job in jobs:
                with contextlib.suppress(ServerError, ServerUnreachable):
                    job.cancel()

    def submit(
        self,
        workflow: WorkflowLike,
        /,
        *,
        values: Mapping[str, Any] | None = None,
        preset: str | None = None,
        check: bool = True,
        strict: bool = True,
        front: bool = False,
        on_event: Callable[[Event], None] | None = None,
        job_id: str | None = None,
        patience: float = 30.0,
        **parameters: Any,
    ) -> Job:
        """Submits a workflow with these parameters to the server, and follows the job.

        parameters: by name, as `prompt="a fox"`; use `values` for names such as `6.text`. preset: its values are set
        before them. check: raises what the server would refuse before anything is sent. A Prompt is sent unchanged.
        strict: raises InvalidPrompt if the server would drop a part of the prompt, which then does not run.
        front: before all waiting jobs, the newest such job first. on_event: called with each event of the job; see
        `Job.add_event_callback`.
        job_id: a new UUID for the job; default: a generated one.
        patience: seconds to look for the job if the answer is lost, or to wait for a server that becomes unreachable.
        InvalidPrompt, ServerUnreachable, AnswerLost, BodyTooLarge as `submit_prompt`.
        """
        if self._closed:
            raise UsageError("This client is closed.", hint="Create a new one.")
        try:
            prompt = self.prompt(workflow, values=values, preset=preset, check=check, **parameters)
            self._open_socket()
        except AnswerLost as error:
            # An AnswerLost from `submit` means that the job may run. This one concerns another request.
            raise ServerUnreachable(f"{error.message} No job was submitted.") from error
        job = Job(self, prompt, job_id or str(uuid.uuid4()))
        if on_event is not None:
            job.add_event_callback(on_event)
        if not job.has_all_pictures:
            # These pictures come over the websocket only.
            self._stream.wait_connected(_SOCKET_WAIT)
        with self._lock:
            self._jobs[job.prompt_id] = job
        try:
            job.client_id = self._stream.client_id
            dropped = submit_prompt(
                self.api,
                prompt,
                job.prompt_id,
                job.client_id,
                front=front,
                patience=min(self._patience, patience),
                heard=lambda: bool(job.told()),
            )
        except KeyboardInterrupt:
            # The server may have accepted it already.
            try:
                self.cancel(job)
            except KandifluxError as error:
                _log.warning("The job %s may still be on the server: %s", job.prompt_id, error.message)
            self._forget(job)
            raise
        except KandifluxError:
            self._forget(job)
            raise
        job.add_done_callback(self._forget)
        self._watcher.add(job)
        if dropped and strict:
            job.cancel()
            raise InvalidPrompt("The server would run only a part of the prompt, so the job was cancelled.", dropped)
        job.queued(None)
        # The job may have ended, or the websocket reconnected, while the answer was in flight.
        if self._is_orphaned(job):
            self._watcher.sweep_now()
        elif job.current_node is not None or job.state == "running":
            self._watcher.hint(job)
        return job

    def adopt(
        self,
        prompt: Prompt | Mapping[str, Any],
        job_id: str,
        *,
        settle: float = 0.0,
        patience: float = 0.0,
    ) -> Job | None:
        """Follows a job that was submitted earlier, by this process or another; None if the server does not know it.

        settle: seconds to look for it, if its request may still be in flight. Posts nothing. ServerUnreachable or
        ServerError if the server has not answered for `patience` seconds.
        """
        return self.adopt_some({job_id: prompt}, settle=settle, patience=patience).get(job_id)

    def adopt_some(
        self,
        prompts: Mapping[str, Prompt | Mapping[str, Any]],
        *,
        settle: float = 0.0,
        patience: float = 0.0,
    ) -> dict[str, Job]:
        """`adopt` for many jobs at once. Returns the jobs that the server knows, by id."""
        if self._closed:
            raise UsageError("This client is closed.", hint="Create a new one.")
        found, _ = find_prompts(self.api, prompts.keys(), settle, patience)
        jobs: dict[str, Job] = {}
        for job_id in found:
            prompt = prompts[job_id]
            job = Job(self, prompt if isinstance(prompt, Prompt) else Prompt.from_api(prompt), job_id)
            with self._lock:
                self._jobs[job_id] = job
            job.add_done_callback(self._forget)
            self._watcher.add(job)
            jobs[job_id] = job
        if jobs:
            self._watcher.sweep_now()
        return jobs

    def withdraw(self, job: Job) -> None:
        """Removes a job from the queue; a running job goes on."""
        if job.finished:
            return
        job.withdrawn()
        self.api.delete_pending(job.prompt_id)
        self._watcher.sweep_now()

    def cancel(self, job: Job) -> None:
        """Removes a job from the queue, or interrupts it if it is running."""
        if job.finished:
            return
        # A short timeout: the user is waiting.
        with self.api.with_timeout(_BRISK) as server:
            cancel_on_server(server, job.prompt_id)
        self._watcher.sweep_now()

    def listen(self, timeout: float = _SOCKET_WAIT) -> bool:
        """Opens the websocket, as `submit` does. Returns whether it is open within `timeout` seconds."""
        self._stream.start()
        return self._stream.wait_first_attempt(timeout)

    def _open_socket(self) -> None:
        # If the server or a proxy has no websocket, jobs are followed by polling.
        if self.listen() or self._warned:
            return
        # Check that the server answers at all before a job is sent.
        with contextlib.suppress(ServerError):
            self.api.queue()
        self._warned = True
        _log.warning("no websocket to %s: following jobs by polling, without progress", self.url)

    def _is_orphaned(self, job: Job) -> bool:
        return not self._stream.connected or job.client_id != self._stream.client_id

    def _on_connect(self) -> None:
        self._watcher.sweep_now()

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._jobs.pop(job.prompt_id, None)
            if self._running is job:
                self._running = None

    def _route(self, event: Event) -> None:
        """Delivers an event to its job. Called by the websocket's reader thread."""
        with self._lock:
            if event.prompt_id is not None:
                job = self._jobs.get(event.prompt_id)
            else:
                # Old previews and texts have no prompt id: they belong to the running job.
                job = self._running if isinstance(event, (Preview, NodeText, NodeStarted)) else None
            if job is not None and isinstance(event, (ExecutionStarted, NodeStarted)):
                self._running = job
        if job is None:
            return
        job.deliver(event)
        if isinstance(event, NodeStarted) and event.node_id is None:
            self._watcher.hint(job)
        elif isinstance(event, (ExecutionSucceeded, ExecutionInterrupted)) or (
            isinstance(event, ExecutionFailed) and event.terminal
        ):
            self._watcher.hint(job, _BEFORE_HISTORY)
