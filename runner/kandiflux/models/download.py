"""Downloads one file: resumes it, verifies it, and renames it to its final name only when it is complete."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kandiflux.errors import DiskFull, DownloadError, KandifluxError, OutputError, WrongFile
from kandiflux.models.backoff import Patience, Stopped
from kandiflux.models.model_files import ModelFile, is_pickle
from kandiflux.models.part_file import PartFile
from kandiflux.models.remote_files import RemoteAnswer, RemoteFile, RemoteFiles, Trouble
from kandiflux.models.web_address import shown_address
from kandiflux.util.file_lock import held

__all__ = ["FileDownload"]

_log = logging.getLogger(__name__)

_CHUNK = 1 << 18
_RESERVED_BYTES = 64 << 20
_SPACE_EVERY = 64 << 20
_REPORT_EVERY = 0.1


class _Changed(Exception):
    """The file on the server has changed since the download began."""


class FileDownload:
    """Downloads `model` from its url to `target`.

    stop: set it to stop; the bytes received so far are kept for the next time.
    on_bytes: called with (bytes done, total bytes or None).
    on_state: called with a text if it is not downloading: waiting, verifying.
    """

    def __init__(
        self,
        model: ModelFile,
        target: Path,
        remotes: RemoteFiles,
        *,
        patience: Patience | None = None,
        stop: threading.Event | None = None,
        on_bytes: Callable[[int, int | None], None] = lambda _done, _total: None,
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.model, self.target = model, target
        self.url = model.url or ""
        self._shown = shown_address(self.url)
        self._remotes = remotes
        self._patience = patience or Patience()
        self._stop = stop or threading.Event()
        self._on_bytes, self._on_state = on_bytes, on_state
        self._part = PartFile(target)
        self._done = 0
        """Bytes in the part file."""

    def describe(self) -> RemoteFile:
        """Returns the server's information on the file. WrongFile if its size or hash is not the expected one."""
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
                    hint="The file was changed on the server, or the workflow is out of date: find another source.",
                )
        return remote

    def run(self, remote: RemoteFile | None = None) -> Path:
        """Downloads the file and returns its path, complete and verified.

        Raises Stopped; DownloadError, OutputError, ServerUnreachable.
        """
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
            raise self._disk_error(error) from error

    def _fetch(self, remote: RemoteFile | None) -> Path:
        for last in (False, True):
            remote = remote or self.describe()
            try:
                self._fill(remote)
            except _Changed as error:
                self._part.discard()
                if last:
                    raise DownloadError(
                        f"{self._shown} changes during the download.", hint="Try again later."
                    ) from error
                _log.warning("%s has changed on the server: starting over", self.target.name)
                remote = None
            else:
                break
        size = remote.size if remote is not None else None
        self._on_state("verifying")
        verified = self._part.verify(
            self.model, size, remote.sha256 if remote else None, lambda done: self._on_bytes(done, size)
        )
        if not verified and is_pickle(self.model.name):
            _log.warning(
                "%s is a pickle, which can run code when it is loaded, and there is no hash to verify it. "
                "Load it only if you trust %s.", self.target.name, self._shown,
            )  # fmt: skip
        return self._part.publish()

    def _fill(self, remote: RemoteFile) -> None:
        self._done = self._part.begin(self.url, remote)
        if self._done:
            _log.info("%s: resuming after %d bytes", self.target.name, self._done)

        def step() -> None:
            with self._remotes.open(self.url, self._range(remote), accepted=(200, 206, 416)) as answer:
                self._done = _first_byte(answer, self._done, remote)
                self._copy(answer, remote)
            if self._stop.is_set():
                raise Stopped
            if self._done < (remote.size or 0):
                raise Trouble(f"the response ended after {self._done} of {remote.size} bytes")

        try:
            if remote.size is None or self._done < remote.size:
                self._patience.retry(self.model.name, step, self._stop, progress=lambda: self._done)
        except (KandifluxError, OSError, Stopped):
            if not remote.ranges:
                # It cannot be resumed, and a response without end may have filled the disk.
                self._part.discard()
            raise

    def _range(self, remote: RemoteFile) -> dict[str, str]:
        if not self._done or not remote.ranges or remote.size is None:
            return {}
        condition = {} if remote.if_range is None else {"If-Range": remote.if_range}
        return {"Range": f"bytes={self._done}-{remote.size - 1}", **condition}

    def _copy(self, answer: RemoteAnswer, remote: RemoteFile) -> None:
        end = remote.size
        if end is None:
            # One byte more than the size in the workflow is enough to detect a wrong file.
            end = 1 << 62 if self.model.size is None else self.model.size + 1
        space_checked, last_report = self._done, 0.0
        with self._part.path.open("r+b", buffering=0) as file:
            file.truncate(self._done)
            file.seek(self._done)
            for chunk in answer.chunks(_CHUNK):
                if self._stop.is_set():
                    return
                if remote.size is None and self._done - space_checked >= _SPACE_EVERY:
                    space_checked = self._done
                    if shutil.disk_usage(self.target.parent).free < _RESERVED_BYTES:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                piece = memoryview(chunk)[: end - self._done]
                while piece:
                    written = file.write(piece)
                    self._done += written
                    piece = piece[written:]
                if self._done >= end or time.monotonic() - last_report >= _REPORT_EVERY:
                    last_report = time.monotonic()
                    self._on_bytes(self._done, remote.size)
                if self._done >= end:
                    return

    def _disk_error(self, error: OSError) -> KandifluxError:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            return DiskFull(
                f"The disk is full: {self.target} cannot be written.",
                hint="To continue, free some space and run the same command again.",
            )
        return OutputError(f"{self.target} cannot be written: {error.strerror or error}.")


def _first_byte(answer: RemoteAnswer, asked: int, remote: RemoteFile) -> int:
    """Returns the position in the file at which the response begins. _Changed if it is for a different file."""
    if answer.status == 416 or (answer.identity or "") != (remote.identity or ""):
        raise _Changed
    if answer.status == 200:
        return 0
    if answer.range != (asked, remote.size):
        raise _Changed
    return asked
