"""Records the progress of a batch in a file that stays valid if the process is killed at any time.

    jobs      each job of the list: its parameters, the values it was given, its name, its state
    attempts  each submission of a job to a server, recorded before it is sent
    files     the saved files, with sizes

SQLite in WAL mode. An attempt is synced to disk before the job is sent, so even after a power failure a job that a
server may have is looked for before it is sent again. The end of an attempt is not synced: if a power failure loses it,
the next run asks the server again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kandiflux.errors import OutputError, UsageError

__all__ = ["LEDGER", "Attempt", "Counts", "Entry", "Ledger", "Saved"]

LEDGER = ".kandiflux-batch.sqlite"
_VERSION = 1
_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,           -- hash of its parameters, and a count of equal jobs in the list
    position INTEGER,                   -- number in the list, from 1, or NULL if it is no longer listed
    place TEXT NOT NULL,                -- JSON: row, index on each axis, repetition
    vals TEXT NOT NULL,                 -- JSON: parameters, with a number for each seed
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,          -- path of its files without extension
    state TEXT NOT NULL DEFAULT 'waiting',   -- waiting, sent, done, failed
    failures INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    server TEXT, seconds REAL, ended REAL, texts TEXT
);
CREATE INDEX next ON jobs (state, failures, position);
CREATE TABLE attempts (
    id TEXT PRIMARY KEY,                -- the job's id on the server
    job INTEGER NOT NULL REFERENCES jobs (id),
    server TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open', -- open, done, failed, lost, withdrawn
    begun REAL NOT NULL, ended REAL
) WITHOUT ROWID;
CREATE INDEX open_attempts ON attempts (state);
CREATE INDEX attempts_of_job ON attempts (job);
CREATE TABLE files (path TEXT PRIMARY KEY, job INTEGER NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL,
    size INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX files_of_job ON files (job);
CREATE TABLE thumbnails (path TEXT PRIMARY KEY, size INTEGER NOT NULL, webp BLOB NOT NULL);
"""


@dataclass(frozen=True)
class Attempt:
    """One submission of one job. The ledger generates `id`."""

    id: str
    job: int
    index: int
    """The job's number in the list; 0 if it is no longer listed."""
    server: str
    values: Mapping[str, Any]
    name: str


@dataclass(frozen=True)
class Saved:
    """A file of a job; `path` is relative to the folder, `size` in bytes."""

    path: str
    kind: str
    title: str
    size: int


@dataclass(frozen=True)
class Entry:
    """The present state of a job of the list."""

    index: int
    place: tuple[int, ...]
    values: Mapping[str, Any]
    name: str
    state: str
    error: Mapping[str, Any] | None
    server: str | None
    seconds: float | None
    texts: Sequence[str]
    files: Sequence[Saved]


@dataclass(frozen=True)
class Counts:
    """Jobs of the list by state."""

    waiting: int = 0
    sent: int = 0
    done: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """Jobs in the list."""
        return self.waiting + self.sent + self.done + self.failed


class Ledger:
    """The ledger of one folder. The process must hold the folder's lock. Safe to use from many threads.

    OutputError if the file cannot be read or written; UsageError if it is not a ledger, has another version, or is
    empty (a batch never creates an empty one).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._mapped():
            if not path.exists():
                _create(path)
            elif path.stat().st_size == 0:
                raise UsageError(
                    f"{path} is empty, so the progress of the batch is not known.",
                    expected="the ledger of the batch in this folder",
                    hint="Restore it, choose another folder, or start over: every job runs again, and existing files "
                    "are kept.",
                    parameter="restart",
                )
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Closes the file. No other method may be called afterwards."""
        with self._lock, self._mapped():
            self._db.close()

    def about(self, key: str) -> str | None:
        """Returns the batch's own value for this key; None if it has none."""
        row = self._one("SELECT value FROM about WHERE key = ?", key)
        return None if row is None else str(row[0])

    # The list

    @contextlib.contextmanager
    def listing(self, about: Mapping[str, str]) -> Generator[Listing, None, None]:
        """Records a new list of jobs in one transaction."""
        with self._transaction(durable=True):
            self._db.executemany(
                "INSERT OR REPLACE INTO about VALUES (?, ?)", ((key, _text(value)) for key, value in about.items())
            )
            self._db.execute("UPDATE jobs SET position = NULL")
            yield Listing(self._db)

    def known(self, key: str) -> tuple[Mapping[str, Any], str, str] | None:
        """Returns the values, name and state of a job of an earlier list; None if it is new."""
        row = self._one("SELECT vals, name, state FROM jobs WHERE key = ?", key)
        return None if row is None else (json.loads(row[0]), row[1], row[2])

    def resume(self, folder: Path) -> int:
        """Resets failed jobs, and done jobs with missing or changed files, to waiting. Returns how many were done."""
        with self._transaction():
            # `sent` without an open attempt should not occur; such a job would never end.
            self._db.execute(
                "UPDATE jobs SET state = 'waiting', error = NULL WHERE position IS NOT NULL "
                "AND state IN ('failed', 'sent') AND id NOT IN (SELECT job FROM attempts WHERE state = 'open')"
            )
            # A runner that is killed repeatedly may lose the same job each time, so each run counts from 0.
            self._db.execute("UPDATE jobs SET failures = 0, losses = 0 WHERE state != 'done'")
            self._db.execute(
                "UPDATE jobs SET state = 'sent' WHERE id IN (SELECT job FROM attempts WHERE state = 'open')"
            )
            done = self._db.execute(
                "SELECT jobs.id, path, size FROM jobs JOIN files ON job = jobs.id "
                "WHERE state = 'done' AND position IS NOT NULL"
            )
            changed = {job for job, path, size in done if _size(folder / path) != size}
            self._db.executemany("UPDATE jobs SET state = 'waiting' WHERE id = ?", ((job,) for job in changed))
            self._db.executemany("DELETE FROM files WHERE job = ?", ((job,) for job in changed))
        return len(changed)

    def counts(self) -> Counts:
        """Returns the number of jobs of the list in each state."""
        rows = self._all("SELECT state, count(*) FROM jobs WHERE position IS NOT NULL GROUP BY state")
        return Counts(**{str(state): int(count) for state, count in rows})

    def unfinished(self) -> bool:
        """Returns whether a job of the list is waiting or on a server."""
        query = "SELECT 1 FROM jobs WHERE state IN ('waiting', 'sent') AND position IS NOT NULL LIMIT 1"
        return self._one(query) is not None

    def unlisted(self) -> int:
        """Returns the number of jobs of earlier lists that are not in the present one."""
        return int(self._one("SELECT count(*) FROM jobs WHERE position IS NULL")[0])

    def entries(self, state: str | None = None) -> Generator[Entry, None, None]:
        """Yields the jobs of the list in order, read in chunks so that a long list takes little memory."""
        last = 0
        while True:
            rows = self._all(
                "SELECT id, position, place, vals, name, state, error, server, seconds, texts FROM jobs "
                "WHERE position > ? AND (? IS NULL OR state = ?) ORDER BY position LIMIT 200",
                last, state, state,
            )  # fmt: skip
            for row in rows:
                yield self._entry(row)
            if not rows:
                return
            last = int(rows[-1][1])

    def has_name(self, name: str) -> bool:
        """Returns whether a job has this name."""
        return self._one("SELECT 1 FROM jobs WHERE name = ?", name) is not None

    def by_server(self) -> list[tuple[str, int, float | None, float | None]]:
        """Returns each server with its number of done jobs, and their mean and total seconds if known."""
        return self._all(
            "SELECT server, count(*), avg(seconds), sum(seconds) FROM jobs "
            "WHERE state = 'done' AND position IS NOT NULL AND server IS NOT NULL GROUP BY server ORDER BY server"
        )

    # Attempts

    def begin(self, server: str) -> Attempt | None:
        """Takes the next waiting job for a server and records the attempt; None if no job is waiting."""
        return next(iter(self.begin_some(server, 1)), None)

    def begin_some(self, server: str, count: int) -> list[Attempt]:
        """`begin` for the next `count` jobs, with one sync to disk."""
        waiting = "FROM jobs WHERE state = 'waiting' AND position IS NOT NULL"
        if self._one(f"SELECT 1 {waiting} LIMIT 1") is None:
            return []
        with self._transaction(durable=True):
            rows = self._all(f"SELECT id, position, vals, name {waiting} ORDER BY failures, position LIMIT ?", count)
            attempts = [
                Attempt(str(uuid.uuid4()), job, position, server, json.loads(values), name)
                for job, position, values, name in rows
            ]
            self._db.executemany(
                "INSERT INTO attempts (id, job, server, begun) VALUES (?, ?, ?, ?)",
                ((attempt.id, attempt.job, server, time.time()) for attempt in attempts),
            )
            self._db.executemany(
                "UPDATE jobs SET state = 'sent', server = ? WHERE id = ?",
                ((server, attempt.job) for attempt in attempts),
            )
        return attempts

    def open_attempts(self) -> list[Attempt]:
        """Returns the attempts that servers may still have, oldest first."""
        rows = self._all(
            "SELECT attempts.id, jobs.id, position, attempts.server, vals, name "
            "FROM attempts JOIN jobs ON jobs.id = job WHERE attempts.state = 'open' ORDER BY begun"
        )
        return [Attempt(row[0], row[1], row[2] or 0, row[3], json.loads(row[4]), row[5]) for row in rows]

    def done(
        self,
        attempt: Attempt,
        files: Iterable[Saved],
        *,
        texts: Sequence[str] = (),
        seconds: float | None = None,
    ) -> None:
        """Records that the job is done and its files are saved."""
        with self._transaction():
            self._end(attempt, "done")
            self._db.execute("DELETE FROM files WHERE job = ?", (attempt.job,))
            self._db.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                ((file.path, attempt.job, file.kind, _text(file.title), file.size) for file in files),
            )
            self._db.execute(
                "UPDATE jobs SET state = 'done', failures = 0, losses = 0, error = NULL, server = ?, seconds = ?, "
                "ended = ?, texts = ? WHERE id = ?",
                (attempt.server, seconds, time.time(), json.dumps(list(texts)) if texts else None, attempt.job),
            )

    def failed(self, attempt: Attempt, error: Mapping[str, Any], *, retries: int = 0) -> bool:
        """Records a failure. Returns whether the job waits for a retry, after all jobs with fewer failures."""
        with self._transaction():
            self._end(attempt, "failed")
            self._db.execute("UPDATE jobs SET failures = failures + 1 WHERE id = ?", (attempt.job,))
            return self._again_or_failed(attempt, error, "failures", retries)

    def lost(self, attempt: Attempt, error: Mapping[str, Any], *, resubmits: int) -> bool:
        """Records that the server does not have the job. Returns whether it waits to be sent again."""
        with self._transaction():
            self._end(attempt, "lost")
            self._db.execute("UPDATE jobs SET losses = losses + 1 WHERE id = ?", (attempt.job,))
            return self._again_or_failed(attempt, error, "losses", resubmits)

    def unknown(self, attempt: Attempt, error: Mapping[str, Any]) -> None:
        """Records an unknown outcome: the job counts as failed, and the next run first asks the server."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET state = 'failed', error = ?, ended = ? WHERE id = ?",
                (_json(error), time.time(), attempt.job),
            )

    def withdrawn(self, attempt: Attempt) -> None:
        """Records that the job was not run. That is not a failure: the job waits as if it had not been sent."""
        with self._transaction():
            self._end(attempt, "withdrawn")
            self._db.execute("UPDATE jobs SET state = 'waiting', server = NULL WHERE id = ?", (attempt.job,))

    # Pictures

    def thumbnail(self, file: Saved) -> bytes | None:
        """Returns a picture's thumbnail as WebP; None if there is none for this path and size."""
        row = self._one("SELECT webp FROM thumbnails WHERE path = ? AND size = ?", file.path, file.size)
        return None if row is None else bytes(row[0])

    def keep_thumbnail(self, file: Saved, webp: bytes) -> None:
        """Stores a picture's thumbnail."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)", (file.path, file.size, webp))

    def _open(self) -> None:
        with self._lock, self._mapped():
            self._db.execute("PRAGMA journal_mode = WAL").fetchone()
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version == 0:
            raise self._damaged()
        if version != _VERSION:
            raise UsageError(
                f"{self.path} was written by another version of kandiflux.",
                hint="Finish the batch with that version, or choose another folder.",
                parameter="folder",
            )

    def _end(self, attempt: Attempt, state: str) -> None:
        self._db.execute("UPDATE attempts SET state = ?, ended = ? WHERE id = ?", (state, time.time(), attempt.id))

    def _again_or_failed(self, attempt: Attempt, error: Mapping[str, Any], column: str, allowed: int) -> bool:
        count: int = self._db.execute(f"SELECT {column} FROM jobs WHERE id = ?", (attempt.job,)).fetchone()[0]
        again = count <= allowed
        self._db.execute(
            "UPDATE jobs SET state = ?, error = ?, server = ?, ended = ? WHERE id = ?",
            ("waiting" if again else "failed", _json(error), attempt.server, time.time(), attempt.job),
        )
        return again

    def _entry(self, row: Sequence[Any]) -> Entry:
        files = self._all("SELECT path, kind, title, size FROM files WHERE job = ? ORDER BY path", row[0])
        return Entry(
            index=row[1],
            place=tuple(json.loads(row[2])),
            values=json.loads(row[3]),
            name=row[4],
            state=row[5],
            error=json.loads(row[6]) if row[6] else None,
            server=row[7],
            seconds=row[8],
            texts=json.loads(row[9]) if row[9] else (),
            files=[Saved(*file) for file in files],
        )

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool = False) -> Generator[None, None, None]:
        with self._lock, self._mapped():
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # If the disk is full, SQLite may have rolled back already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._lock, self._mapped():
            return self._db.execute(query, values).fetchall()

    def _one(self, query: str, *values: Any) -> Any:
        with self._lock, self._mapped():
            return self._db.execute(query, values).fetchone()

    @contextlib.contextmanager
    def _mapped(self) -> Generator[None, None, None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error) or "malformed" in str(error):
                raise self._damaged() from error
            raise self._unusable(str(error)) from error
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error

    def _damaged(self) -> UsageError:
        return UsageError(
            f"{self.path} is damaged, or is not the ledger of a batch.",
            hint="Choose another folder, or start over.",
            parameter="restart",
        )

    def _unusable(self, reason: str) -> OutputError:
        return OutputError(
            f"The ledger {self.path} cannot be written or read: {reason}.",
            hint="Free disk space, or choose a folder on a local disk; then run the batch again.",
            parameter="folder",
        )


class Listing:
    """Writes a list of jobs into a ledger."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def names(self) -> list[str]:
        return [str(row[0]) for row in self._db.execute("SELECT name FROM jobs")]

    def relist(self, key: str, position: int, place: Sequence[int]) -> bool:
        """Sets the position of a known job in the new list. Returns False if the job is not known."""
        changed = self._db.execute(
            "UPDATE jobs SET position = ?, place = ? WHERE key = ?", (position, json.dumps(place), key)
        )
        return changed.rowcount > 0

    def add(self, key: str, position: int, place: Sequence[int], values: Mapping[str, Any], name: str) -> None:
        self._db.execute(
            "INSERT INTO jobs (key, position, place, vals, name) VALUES (?, ?, ?, ?, ?)",
            (key, position, json.dumps(place), _json(values), name),
        )


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, default=str)


def _text(text: str) -> str:
    """Returns the text with lone surrogates replaced, because SQLite does not store them."""
    return text.encode("utf-8", "replace").decode()


def _create(path: Path) -> None:
    """Creates an empty ledger atomically: renamed after it is synced, so a killed process leaves no incomplete one."""
    new = path.with_name(f"{path.name}.new")
    # SQLite would read the remaining WAL files of a deleted ledger as part of this one.
    for old in (new, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        old.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN")
            # executescript would commit first. No comment in the schema may contain a semicolon.
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("COMMIT")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    if os.name != "nt":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
