"""Download one file: in parallel ranges, resumed, verified, and given its name only when it is complete."""

from __future__ import annotations

import errno
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from kandiflux.errors import DiskFull, DownloadError, KandifluxError, OutputError, WrongFile
from kandiflux.models.backoff import Patience, Stopped
from kandiflux.models.model_files import ModelFile, is_pickle
from kandiflux.models.part_file import PartFile, Span
from kandiflux.models.remote_files import RemoteAnswer, RemoteFile, RemoteFiles, Trouble
from kandiflux.models.web_address import shown_address
from kandiflux.util.file_lock import held

__all__ = ["FileDownload"]

_log = logging.getLogger(__name__)

_CHUNK = 1 << 15  # what is lost when a connection breaks off: it comes whole or not at all
_KEPT_FREE = 64 << 20
_SPACE_EVERY = 64 << 20
_TICK = 0.1
_PARTING = 1.0


class _Changed(Exception):
    """The server has another file now than when the download began."""


class _NoRanges(Exception):
    """The server sends the whole file although a part was asked for."""


class FileDownload:
    """`model` from its url to `target`.

    connections: ranges at a time. stop: set to end it; what has come stays for the next time. on_bytes: called with
    (bytes there, bytes in all or None). on_state: called with a word on what it does instead: waiting, verifying.
    """

    def __init__(
        self,
        model: ModelFile,
        target: Path,
        remotes: RemoteFiles,
        *,
        connections: int = 6,
        patience: Patience | None = None,
        stop: threading.Event | None = None,
        on_bytes: Callable[[int, int | None], None] = lambda _done, _total: None,
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.model, self.target = model, target
        self.url = model.url or ""
        self._shown = shown_address(self.url)
        self._remotes = remotes
        self._connections = max(1, connections)
        self._patience = patience or Patience()
        self._stop = stop or threading.Event()
        self._on_bytes, self._on_state = on_bytes, on_state
        self._part = PartFile(target)
        self._whole = 0

    def describe(self) -> RemoteFile:
        """What the server says of the file. WrongFile if that cannot be the one that is wanted."""
        remote = self._patience.retry(self.model.name, lambda: self._remotes.describe(self.url), self._stop)
        for what, wanted, got in (
            ("bytes", self.model.size, remote.size),
            ("sha256", self.model.hash if self.model.hash_type == "sha256" else None, remote.sha256),
        ):
            if wanted is not None and got is not None and wanted != got:
                raise WrongFile(
                    f"{self._shown} is not the {self.model.name} that the workflow was made with.",
                    expected=f"{what} {wanted}",
                    got=f"{what} {got}",
                    hint="The file was changed there, or the workflow is out of date: look for the file elsewhere.",
                )
        return remote

    def kept(self) -> int:
        """Bytes of an unfinished download that lie on the disk."""
        try:
            stat = self._part.path.stat()
        except OSError:
            return 0
        return min(stat.st_size, getattr(stat, "st_blocks", 0) * 512)

    def run(self, remote: RemoteFile | None = None) -> Path:
        """The path of the file, whole and verified. Stopped; DownloadError, OutputError, ServerUnreachable."""
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            lock = self.target.with_name(f"{self.target.name}.part.lock")
            with held(lock, self._stop, lambda: self._on_state("waiting for another download of it")) as mine:
                if not mine:
                    raise Stopped
                if self.target.exists():
                    return self.target
                return self._fetch(remote)
        except OSError as error:
            raise self._disk_trouble(error) from error

    def _fetch(self, remote: RemoteFile | None) -> Path:
        for last in (False, True):
            remote = remote or self.describe()
            taken_up = self._part.begin(self.url, remote, self._connections)
            if taken_up:
                _log.info("%s: %d bytes are there already", self.target.name, taken_up)
            try:
                self._fill(remote)
            except _Changed as error:
                self._part.discard()
                if last:
                    raise DownloadError(
                        f"{self._shown} changes while it is downloaded.", hint="Try again later."
                    ) from error
                _log.warning("%s has changed on the server: starting over", self.target.name)
                remote = None
            else:
                break
        self._on_state("verifying")
        verified = self._part.verify(
            self.model, remote.sha256 if remote else None, lambda done: self._on_bytes(done, self._part.size)
        )
        if not verified and is_pickle(self.model.name):
            _log.warning(
                "%s is a pickle, which can run code when it is loaded, and there was no hash to verify it with. "
                "Load it only if you trust %s.", self.target.name, self._shown,
            )  # fmt: skip
        return self._part.publish()

    # Bytes

    def _fill(self, remote: RemoteFile) -> None:
        if remote.ranges:
            try:
                self._in_ranges(remote)
            except _NoRanges:
                _log.info("%s is sent in one piece after all", self._shown)
                remote = RemoteFile(remote.size, False, remote.identity, remote.sha256)
                self._part.begin(self.url, remote, 1)
            else:
                return
        self._in_one_piece(remote)

    def _in_ranges(self, remote: RemoteFile) -> None:
        waiting: queue.SimpleQueue[Span] = queue.SimpleQueue()
        open_spans = [span for span in self._part.spans if span.at < span.end]
        for span in open_spans:
            waiting.put(span)
        failures: list[BaseException] = []
        halt = threading.Event()

        def work(file: BinaryIO) -> None:
            try:
                with file:
                    while not halt.is_set():
                        self._of_span(waiting.get_nowait(), remote, file, halt)
            except queue.Empty:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that asked for the file
                failures.append(error)
                halt.set()

        # Each opens the part now: one that still waits for the network when the others have given up must not write
        # into another part that is begun meanwhile.
        files = [self._part.path.open("r+b", buffering=0) for _ in range(min(self._connections, len(open_spans)))]
        workers = [threading.Thread(target=work, args=(file,), daemon=True) for file in files]
        for worker in workers:
            worker.start()
        try:
            self._watch(workers, halt)
        finally:
            halt.set()
            _join(workers, _PARTING)
            self._part.save()
        if failures:
            raise failures[0]
        if self._stop.is_set():
            raise Stopped

    def _watch(self, workers: list[threading.Thread], halt: threading.Event) -> None:
        """Tells how far it is and notes it, until all is there or it has to stop."""
        noted = time.monotonic()
        while not self._halted(halt) and (alive := [worker for worker in workers if worker.is_alive()]):
            alive[0].join(_TICK)
            self._on_bytes(self._part.done, self._part.size)
            if time.monotonic() - noted > self._patience.between_notes:
                self._part.save()
                noted = time.monotonic()

    def _of_span(self, span: Span, remote: RemoteFile, file: BinaryIO, halt: threading.Event) -> None:
        def step() -> None:
            headers = {"Range": f"bytes={span.at}-{span.end - 1}"}
            if remote.if_range is not None:
                headers["If-Range"] = remote.if_range
            with self._remotes.open(self.url, headers, accepted=(200, 206, 416)) as answer:
                _require_same(answer, span, remote)
                self._copy(answer, span, file, halt)
            if span.at < span.end and not self._halted(halt):
                raise Trouble(f"an answer ends {span.end - span.at} bytes early")

        while span.at < span.end and not self._halted(halt):
            self._patience.retry(self.model.name, step, halt, progress=lambda: span.at)

    def _in_one_piece(self, remote: RemoteFile) -> None:
        """From the beginning each time, as the server does not support ranges."""
        # One byte more than the workflow says is enough to know that it is another file.
        most = 1 << 62 if self.model.size is None else self.model.size + 1

        def step() -> None:
            span = Span(0, remote.size if remote.size is not None else most)
            self._part.spans = [span]
            with (
                self._remotes.open(self.url, {}, accepted=(200,)) as answer,
                self._part.path.open("r+b", buffering=0) as file,
            ):
                if (answer.identity or "") != (remote.identity or ""):
                    raise _Changed
                self._copy(answer, span, file, self._stop, tell=True)
                file.truncate(span.at)
            if remote.size is not None and span.at < remote.size and not self._stop.is_set():
                raise Trouble(f"the file ends after {span.at} of {remote.size} bytes")

        try:
            self._patience.retry(self.model.name, step, self._stop)
        except (KandifluxError, OSError, Stopped):
            # It cannot be resumed, and an endless one may have filled the disk.
            self._part.discard()
            raise
        if self._stop.is_set():
            self._part.discard()
            raise Stopped

    def _copy(
        self, answer: RemoteAnswer, span: Span, file: BinaryIO, halt: threading.Event, *, tell: bool = False
    ) -> None:
        file.seek(span.at)
        checked = span.at
        for chunk in answer.chunks(_CHUNK):
            if self._halted(halt):
                return
            if self._part.size is None and span.at - checked >= _SPACE_EVERY:
                checked = span.at
                if shutil.disk_usage(self.target.parent).free < _KEPT_FREE:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            piece = memoryview(chunk)[: span.end - span.at]
            while piece:
                written = file.write(piece)
                span.at += written
                piece = piece[written:]
            if tell:
                self._on_bytes(span.at, self._part.size)
            if span.at >= span.end:
                return

    # Trouble

    def _halted(self, halt: threading.Event | None) -> bool:
        return self._stop.is_set() or (halt is not None and halt.is_set())

    def _disk_trouble(self, error: OSError) -> KandifluxError:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            return DiskFull(
                f"The disk is full: {self.target} cannot be written.",
                hint="To go on, make room, and run the same command again.",
            )
        return OutputError(f"{self.target} cannot be written: {error.strerror or error}.")


def _join(workers: list[threading.Thread], seconds: float) -> None:
    """Waits for them, but not for a network that does not answer."""
    deadline = time.monotonic() + seconds
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def _require_same(answer: RemoteAnswer, span: Span, remote: RemoteFile) -> None:
    """The answer to a range must be that range of the file the download began with."""
    if answer.status == 416:
        raise _Changed
    same = (answer.identity or "") == (remote.identity or "")
    if answer.status == 200:
        raise _NoRanges if same else _Changed
    if not same or answer.range != (span.at, remote.size):
        raise _Changed
