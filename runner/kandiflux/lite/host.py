"""The lite host: its folders, nodes, queue, worker and sockets. Implements the interface for packs, `seam.Seam`."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from kandiflux.lite import nodes_image, nodes_preview, nodes_primitive, nodes_transform, seam
from kandiflux.lite.execute import Executor
from kandiflux.lite.folders import Folders
from kandiflux.lite.guard import Failure, attempt
from kandiflux.lite.job_queue import Interrupt, JobQueue, LiteJob, Outcome
from kandiflux.lite.progress import Preview
from kandiflux.lite.registry import Registry
from kandiflux.lite.sockets import Sockets
from kandiflux.lite.userdata import UserData

__all__ = ["Host"]

log = logging.getLogger(__name__)


class Host(seam.Seam):
    """One lite host. There is one per process, because packs find it in `seam.active`.

    max_upload: maximum size of a request body in bytes. user: folder for settings and the editor's saved workflows.
    """

    def __init__(self, folders: Folders, max_upload: int, user: Path) -> None:
        self.folders = folders
        self.user = UserData((user / "default").resolve())
        self.input_directory = folders.input
        self.output_directory = folders.output
        self.temp_directory = folders.temp
        self.features: dict[str, Any] = {
            "supports_preview_metadata": True,
            "max_upload_size": max_upload,
            "assets": False,
        }
        self.sockets = Sockets(self.features)
        self.interrupt = Interrupt()
        self.jobs = JobQueue(self._jobs_changed, self.interrupt)
        others = (nodes_transform, nodes_primitive, nodes_preview)
        classes, titles = nodes_image.image_nodes(folders), dict(nodes_image.DISPLAY_NAMES)
        for module in others:
            classes.update(module.CLASSES)
            titles.update(module.DISPLAY_NAMES)
        self.registry = Registry(classes, titles)
        self.executor = Executor(self.registry.classes, self.sockets, self.interrupt, self._unload)
        self.packs: list[Path] = []
        self.max_upload = max_upload
        self._unloaders: list[Callable[[], None]] = []
        self._unload_requested = False
        self._forget_requested = False
        self._stopping = False

    def load_packs(self, packs: Iterable[Path]) -> None:
        """Imports node packs. Sets `seam.active` first, where they find this host."""
        seam.active = self
        for pack in packs:
            if self.registry.load_pack(pack.absolute()):
                self.packs.append(pack.absolute())

    # The interface for packs: see seam.Seam.

    def model_folders(self, kind: str) -> list[Path]:
        return self.folders.model_folders(kind)

    def add_model_folder(self, kind: str, folder: Path) -> None:
        self.folders.add_model_folder(kind, folder)

    def progress(self, value: int, total: int, preview: Preview | None = None) -> None:
        self.executor.progress(value, total, preview)

    def throw_if_interrupted(self) -> None:
        self.interrupt.check()

    def on_free(self, unload: Callable[[], None]) -> None:
        self._unloaders.append(unload)

    # The interface for the server.

    def queue_info(self) -> dict[str, Any]:
        """Returns the response to GET /prompt."""
        return {"exec_info": {"queue_remaining": self.jobs.remaining()}}

    def free(self, unload: bool, forget: bool) -> None:
        """Frees memory after the running prompt, if any: unloads models and, with `forget`, clears cached outputs."""
        self._unload_requested |= unload or forget
        self._forget_requested |= forget
        self.jobs.wake()

    def stop(self) -> None:
        """Interrupts the running prompt, removes the pending ones, and ends `work`."""
        self._stopping = True
        self.interrupt.request()
        self.jobs.clear()
        self.jobs.wake()

    def work(self) -> None:
        """Runs prompts one at a time until `stop` is called."""
        # Imported here so that the server answers requests while torch loads.
        import torch

        with torch.inference_mode():
            while not self._stopping:
                job = self.jobs.take()
                if job is not None and not self._stopping:
                    done = attempt(partial(self._run, job))
                    if isinstance(done, Failure):
                        log.error("%sThe prompt %s failed: %s", done.text, job.prompt_id, done.message)
                        self.jobs.finish(Outcome(success=False))  # does nothing if the job is in the history already
                attempt(self._free_if_requested)

    def _run(self, job: LiteJob) -> None:
        began = time.monotonic()
        outcome = self.executor.run(job)
        self.jobs.finish(outcome)
        result = "done" if outcome.success else "failed"
        log.info("Prompt %s: %s after %.2f s", job.prompt_id, result, time.monotonic() - began)
        if job.client_id is not None:
            self.sockets.send("executing", {"node": None, "prompt_id": job.prompt_id}, job.client_id)

    def _free_if_requested(self) -> None:
        unload, self._unload_requested = self._unload_requested, False
        forget, self._forget_requested = self._forget_requested, False
        if forget:
            self.executor.forget()
        if unload:
            self._unload()

    def _unload(self) -> None:
        import torch

        for unload in self._unloaders:
            done = attempt(unload)
            if isinstance(done, Failure):
                log.error("%sA node pack failed to free memory: %s", done.text, done.message)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _jobs_changed(self) -> None:
        self.sockets.send("status", {"status": self.queue_info()})
