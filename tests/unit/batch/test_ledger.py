"""The ledger holds what was committed, whenever its process ends."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from kandiflux.batch.ledger import LEDGER, Attempt, Ledger, Saved
from kandiflux.batch.thumbnails import thumbnail
from kandiflux.errors import OutputError, UsageError
from PIL import Image

from tests.support.places import ROOT

LOST = {"error": "JobLost", "message": "gone"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        list_jobs(ledger, "abc")
        yield ledger


def list_jobs(ledger: Ledger, keys: str) -> None:
    with ledger.listing({"workflow": "w", "name": "n"}) as listing:
        for position, key in enumerate(keys, 1):
            if not listing.relist(key, position, [0, 0]):
                listing.add(key, position, [0, 0], {"letter": key}, key)


def begun(ledger: Ledger) -> Attempt:
    attempt = ledger.begin("http://a")
    assert attempt is not None
    return attempt


def state(ledger: Ledger) -> str:
    return " ".join(f"{entry.name}:{entry.state}" for entry in ledger.entries())


def test_an_attempt_is_written_down_before_it_is_sent(ledger: Ledger) -> None:
    attempt = begun(ledger)
    assert (attempt.index, attempt.values, attempt.name) == (1, {"letter": "a"}, "a")
    assert state(ledger) == "a:sent b:waiting c:waiting"
    with contextlib.closing(Ledger(ledger.path)) as other:
        assert [found.id for found in other.open_attempts()] == [attempt.id]


def test_failures_come_again_after_the_others(ledger: Ledger) -> None:
    first = begun(ledger)
    assert ledger.failed(first, {"message": "no"}, retries=1)
    second, third, again = begun(ledger), begun(ledger), begun(ledger)
    assert [attempt.name for attempt in (second, third, again)] == ["b", "c", "a"]
    assert not ledger.failed(again, {"message": "no"}, retries=1)
    assert ledger.begin("http://a") is None
    assert next(ledger.entries("failed")).error == {"message": "no"}


def test_a_job_is_lost_so_often_and_no_more(ledger: Ledger) -> None:
    assert [ledger.lost(begun(ledger), LOST, resubmits=2) for _ in range(3)] == [True, True, False]
    assert state(ledger) == "a:failed b:waiting c:waiting"


def test_what_is_withdrawn_waits_as_before(ledger: Ledger) -> None:
    ledger.withdrawn(begun(ledger))
    assert begun(ledger).name == "a"


def test_resuming(ledger: Ledger, tmp_path: Path) -> None:
    done, failed, unknown = begun(ledger), begun(ledger), begun(ledger)
    (tmp_path / "a.png").write_bytes(b"12345")
    ledger.done(done, [Saved("a.png", "image", "Result", 5)], texts=["said"], seconds=2.0)
    ledger.failed(failed, {"message": "no"})
    ledger.unknown(unknown, {"message": "no answer"})
    assert state(ledger) == "a:done b:failed c:failed"
    assert ledger.resume(tmp_path) == 0
    assert state(ledger) == "a:done b:waiting c:sent", "what a server may have is looked for first"
    entry = next(ledger.entries("done"))
    assert (entry.texts, entry.seconds, entry.files) == (["said"], 2.0, [Saved("a.png", "image", "Result", 5)])
    (tmp_path / "a.png").write_bytes(b"1234")
    assert ledger.resume(tmp_path) == 1, "a file that was cut short is no file"
    assert state(ledger) == "a:waiting b:waiting c:sent"


def test_another_list(ledger: Ledger) -> None:
    ledger.done(begun(ledger), [])
    list_jobs(ledger, "ca")
    assert state(ledger) == "c:waiting a:done"
    assert ledger.unlisted() == 1
    with pytest.raises(OutputError), ledger.listing({}) as listing:
        listing.add("z", 1, [], {}, "a")
    assert state(ledger) == "c:waiting a:done", "half a list is no list"


def test_no_two_servers_get_the_same_job(ledger: Ledger) -> None:
    list_jobs(ledger, "abcdefghijklmnopqrstuvwxyz")
    taken: list[str] = []

    def take(server: str) -> None:
        while (attempt := ledger.begin(server)) is not None:
            taken.append(attempt.name)

    threads = [threading.Thread(target=take, args=(f"http://{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list("abcdefghijklmnopqrstuvwxyz")


WRITER = """
import os, sys
from dataclasses import replace
from pathlib import Path
from kandiflux.batch.ledger import Ledger, Saved
ledger = Ledger(Path(sys.argv[1]))
while (attempt := ledger.begin("http://a")) is not None:
    os.write(1, f"sent {attempt.name}\\n".encode())  # a whole line or none of it, whenever it is killed
    ledger.done(attempt, [Saved(f"{attempt.name}.png", "image", "", 1)])
    os.write(1, f"done {attempt.name}\\n".encode())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_writer_leaves_all_it_said(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    names = [f"{number:04}" for number in range(600)]
    with contextlib.closing(Ledger(path)) as ledger, ledger.listing({}) as listing:
        for position, name in enumerate(names, 1):
            listing.add(name, position, [], {}, name)
    said: dict[str, set[str]] = {"sent": set(), "done": set()}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner")}
    rng = random.Random(20261128)
    for _ in range(5):
        lines = rng.randrange(1, 120)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True,
                              env=environment) as writer:  # fmt: skip
            for line in writer.stdout or ():
                kind, name = line.split()
                said[kind].add(name)
                lines -= 1
                if lines == 0:
                    writer.send_signal(signal.SIGKILL)
        with contextlib.closing(Ledger(path)) as ledger:
            states = {entry.name: entry.state for entry in ledger.entries()}
            opened = {attempt.name for attempt in ledger.open_attempts()}
            assert said["done"] <= {name for name, state in states.items() if state == "done"}
            assert said["sent"] - said["done"] <= opened | {name for name, found in states.items() if found == "done"}
            assert opened == {name for name, found in states.items() if found == "sent"}
            assert len(opened) <= 5


def test_thumbnails_are_made_once(ledger: Ledger, tmp_path: Path) -> None:
    Image.new("RGB", (600, 300), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    saved = [Saved(name, "image", "", (tmp_path / name).stat().st_size) for name in ("a.png", "b.png")]
    made = [thumbnail(ledger, tmp_path, file) for file in saved]
    assert made[0] is not None
    with Image.open(io.BytesIO(made[0])) as small:
        assert (small.format, small.size) == ("WEBP", (256, 128))
    assert made[1] is None
    (tmp_path / "a.png").unlink()
    assert thumbnail(ledger, tmp_path, saved[0]) == made[0]


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"", b"SQLite format 3\0"])
def test_a_file_that_is_not_a_ledger_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEDGER).write_bytes(content)
    with pytest.raises(UsageError, match=r"not the ledger|is empty") as refused:
        Ledger(tmp_path / LEDGER)
    assert refused.value.parameter == "restart"
    assert (tmp_path / LEDGER).read_bytes() == content, "it may still be worth something"


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(UsageError, match="not the ledger"):
        Ledger(tmp_path / LEDGER)
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]


def test_a_ledger_has_its_name_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that is killed at any moment while it makes one leaves none, and the next run begins anew."""
    seen: list[bool] = []
    real = sqlite3.connect

    class Watched(sqlite3.Connection):
        def execute(self, *words: Any) -> sqlite3.Cursor:
            seen.append((tmp_path / LEDGER).exists())
            return super().execute(*words)

    monkeypatch.setattr(sqlite3, "connect", lambda *words, **named: real(*words, factory=Watched, **named))
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        assert seen.index(True) > 10, "all tables were made before"
        assert ledger.counts().total == 0
    (tmp_path / LEDGER).unlink()
    (tmp_path / f"{LEDGER}.new").write_bytes(b"half of one")
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        assert ledger.counts().total == 0
    assert not (tmp_path / f"{LEDGER}.new").exists()


def test_what_is_left_of_a_deleted_ledger_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    first = Ledger(tmp_path / LEDGER)
    list_jobs(first, "abc")
    left = (tmp_path / f"{LEDGER}-wal").read_bytes()
    first.close()
    (tmp_path / LEDGER).unlink()
    (tmp_path / f"{LEDGER}-wal").write_bytes(left)
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        assert ledger.counts().total == 0


def test_text_that_no_encoding_has_is_kept(ledger: Ledger) -> None:
    broken = "\ud800"
    attempt = begun(ledger)
    ledger.done(attempt, [Saved("a.png", "image", f"a{broken}", 3)], texts=[broken])
    ledger.failed(begun(ledger), {"message": broken}, retries=0)
    with ledger.listing({"name": broken}) as listing:
        listing.add("new", 1, (0,), {"prompt": broken}, "x")
    assert next(ledger.entries("waiting")).values == {"prompt": broken}


def test_a_newer_ledger(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="another version"):
        Ledger(tmp_path / LEDGER)


def test_an_attempt_is_on_the_disk_before_its_server_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power failure a job that a server may have is still known; how it ended is asked again."""
    real, mode, written = sqlite3.connect, "", list[tuple[str, str]]()

    class Watched(sqlite3.Connection):
        def execute(self, statement: str, *words: Any) -> sqlite3.Cursor:
            nonlocal mode
            if statement.startswith("PRAGMA synchronous"):
                mode = statement.rpartition(" ")[2]
            elif statement.startswith(("COMMIT", "INSERT", "UPDATE")):
                written.append((statement.split(" WHERE")[0], mode))
            return super().execute(statement, *words)

        def executemany(self, statement: str, *words: Any) -> sqlite3.Cursor:
            written.append((statement.split(" (")[0], mode))
            return super().executemany(statement, *words)

    monkeypatch.setattr(sqlite3, "connect", lambda *words, **named: real(*words, factory=Watched, **named))
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        assert written == [("COMMIT", "FULL")]
        list_jobs(ledger, "ab")
        assert {mode for _, mode in written} == {"FULL"}
        attempt = begun(ledger)
        assert ("INSERT INTO attempts", "FULL") in written
        written.clear()
        ledger.done(attempt, [])
        ledger.failed(begun(ledger), {})
        assert ("UPDATE attempts SET state = ?, ended = ?", "NORMAL") in written, "nobody waits for the disk then"
        assert ledger.open_attempts() == []


def test_how_an_attempt_ends(ledger: Ledger) -> None:
    """The state of the job, of the attempt, and whether a server may still have it."""
    attempts = [begun(ledger) for _ in range(3)]
    assert [found.id for found in ledger.open_attempts()] == [attempt.id for attempt in attempts]
    ledger.done(attempts[0], [Saved("x.png", "image", "", 1)])
    assert ledger.failed(attempts[1], {"message": "no"}, retries=0) is False
    ledger.unknown(attempts[2], {"message": "silence"})
    assert [found.id for found in ledger.open_attempts()] == [attempts[2].id]
    first, second, third = ledger.entries()
    assert (first.server, second.server, third.server) == ("http://a",) * 3
    assert (first.error, second.error, third.error) == (None, {"message": "no"}, {"message": "silence"})
    assert (first.index, first.place, first.texts) == (1, (0, 0), ())
    with contextlib.closing(sqlite3.connect(ledger.path)) as database:
        states = database.execute("SELECT state, ended IS NULL FROM attempts ORDER BY begun").fetchall()
    assert states == [("done", 0), ("failed", 0), ("open", 1)]


def test_a_job_that_is_done_again_has_its_new_files_and_no_error(ledger: Ledger) -> None:
    attempt = begun(ledger)
    assert ledger.failed(attempt, {"message": "no"}, retries=1)
    for name in ("b", "c"):
        ledger.done(begun(ledger), [Saved(f"{name}.png", "image", "", 1)])
    again = begun(ledger)
    ledger.done(again, [Saved("a.png", "image", "", 1), Saved("a.webp", "image", "T", 2)], texts=["x"], seconds=1.5)
    ledger.done(again, [Saved("a_2.png", "image", "", 1)])
    entry = next(ledger.entries())
    assert ([file.path for file in entry.files], entry.texts, entry.seconds) == (["a_2.png"], (), None)
    assert (entry.state, entry.error) == ("done", None)
    assert [file.path for entry in ledger.entries("done") for file in entry.files] == ["a_2.png", "b.png", "c.png"]


def test_failures_and_losses_are_counted_by_themselves_and_anew_by_each_run(ledger: Ledger, tmp_path: Path) -> None:
    list_jobs(ledger, "a")
    assert ledger.failed(begun(ledger), {}, retries=1)
    assert ledger.lost(begun(ledger), LOST, resubmits=1)
    assert not ledger.lost(begun(ledger), LOST, resubmits=1)
    ledger.resume(tmp_path)
    assert next(ledger.entries()).error is None
    assert [ledger.failed(begun(ledger), {}, retries=1) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("left", ["waiting", "sent"])
def test_a_job_that_each_of_many_killed_runners_lost_is_sent_again(ledger: Ledger, tmp_path: Path, left: str) -> None:
    for _ in range(3):
        assert ledger.lost(begun(ledger), LOST, resubmits=1)
        sent = [begun(ledger)] if left == "sent" else []
        ledger.resume(tmp_path)
        assert [attempt.id for attempt in ledger.open_attempts()] == [attempt.id for attempt in sent]
        for attempt in sent:
            ledger.withdrawn(attempt)


def test_a_job_whose_files_are_gone_runs_again(ledger: Ledger, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"1")
        ledger.done(begun(ledger), [Saved(f"{name}.png", "image", "", 1)], texts=[name])
    (tmp_path / "a.png").unlink()
    (tmp_path / "c.png").write_bytes(b"12")
    assert ledger.resume(tmp_path) == 2
    assert state(ledger) == "a:waiting b:done c:waiting"
    assert [(entry.name, len(entry.files), entry.texts) for entry in ledger.entries("done")] == [("b", 1, ["b"])]
    assert [entry.files for entry in ledger.entries("waiting")] == [[], []]
    list_jobs(ledger, "b")
    (tmp_path / "b.png").unlink()
    assert ledger.resume(tmp_path) == 1
    list_jobs(ledger, "ab")
    assert ledger.resume(tmp_path) == 0


def test_counts(ledger: Ledger) -> None:
    list_jobs(ledger, "abcdef")
    attempts = [begun(ledger) for _ in range(4)]
    ledger.done(attempts[0], [], seconds=2.0)
    ledger.done(attempts[1], [], seconds=4.0)
    ledger.failed(attempts[2], {})
    counts = ledger.counts()
    assert (counts.waiting, counts.sent, counts.done, counts.failed, counts.total) == (2, 1, 2, 1, 6)
    assert ledger.by_server() == [("http://a", 2, 3.0, 6.0)]
    assert ledger.unfinished()
    ledger.done(attempts[3], [])
    list_jobs(ledger, "abcd")
    assert not ledger.unfinished(), "what is no longer listed is not waited for"
    assert (ledger.counts().total, ledger.unlisted()) == (4, 2)
    assert ledger.begin("http://a") is None


def test_several_jobs_are_taken_at_once(ledger: Ledger) -> None:
    assert [attempt.name for attempt in ledger.begin_some("http://a", 2)] == ["a", "b"]
    assert [(attempt.name, attempt.server) for attempt in ledger.begin_some("http://b", 5)] == [("c", "http://b")]
    assert ledger.begin_some("http://a", 2) == []
    assert [attempt.server for attempt in ledger.open_attempts()] == ["http://a", "http://a", "http://b"]


def test_a_long_list_is_read_whole_and_in_its_order(tmp_path: Path) -> None:
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        with ledger.listing({}) as listing:
            for position in range(401, 0, -1):
                listing.add(str(position), position, [position], {}, f"n{position}")
        assert [entry.index for entry in ledger.entries()] == list(range(1, 402))
        assert list(ledger.entries("done")) == []
        assert (ledger.has_name("N7"), ledger.has_name("n402")) == (True, False)


def test_what_a_batch_notes_of_itself(ledger: Ledger) -> None:
    assert (ledger.about("workflow"), ledger.about("name"), ledger.about("other")) == ("w", "n", None)
    assert ledger.known("a") == ({"letter": "a"}, "a", "waiting")
    assert ledger.known("z") is None


def test_thumbnails_are_those_of_the_very_file(ledger: Ledger) -> None:
    file = Saved("a.png", "image", "", 5)
    ledger.keep_thumbnail(file, b"small")
    assert ledger.thumbnail(file) == b"small"
    assert ledger.thumbnail(Saved("a.png", "image", "", 6)) is None
    ledger.keep_thumbnail(Saved("a.png", "image", "", 6), b"new")
    assert ledger.thumbnail(file) is None


def test_an_attempt_is_of_the_job_and_not_of_its_number(ledger: Ledger) -> None:
    list_jobs(ledger, "zca")
    attempts = ledger.begin_some("http://a", 3)
    assert [(attempt.index, attempt.name) for attempt in attempts] == [(1, "z"), (2, "c"), (3, "a")]
    ledger.done(attempts[0], [Saved("z.png", "image", "", 1)])
    ledger.failed(attempts[1], {"message": "no"})
    assert state(ledger) == "z:done c:failed a:sent"
    list_jobs(ledger, "z")
    (left,) = ledger.open_attempts()
    assert (left, left.index) == (replace(attempts[2], index=0), 0), "it is no longer listed, and may be on a server"
    ledger.lost(left, LOST, resubmits=1)
    assert (ledger.open_attempts(), ledger.known("a")) == ([], ({"letter": "a"}, "a", "waiting"))


def test_nothing_of_what_fails_halfway_is_written(ledger: Ledger) -> None:
    attempt = begun(ledger)
    files = [Saved("a.png", "image", "", 1), Saved("b.png", "image", "", cast(int, object()))]
    with pytest.raises(OutputError):
        ledger.done(attempt, files)
    assert [(entry.state, entry.files) for entry in ledger.entries("sent")] == [("sent", [])]
    ledger.done(attempt, files[:1])
    assert state(ledger) == "a:done b:waiting c:waiting"


def test_a_ledger_of_an_earlier_run_is_read(tmp_path: Path) -> None:
    """Its version and the names of its columns stay as they are, or batches of earlier versions cannot go on."""
    with contextlib.closing(Ledger(tmp_path / LEDGER)):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        columns = [name for _, name, *_ in file.execute("PRAGMA table_info(jobs)")]
    assert columns == [
        "id", "key", "position", "place", "vals", "name", "state", "failures", "losses", "error", "server", "seconds",
        "ended", "texts",
    ]  # fmt: skip


def test_a_ledger_that_is_damaged_or_closed(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    with pytest.raises(OutputError, match=r"cannot be written or read: Cannot operate on a closed") as refused:
        ledger.counts()
    assert refused.value.parameter == "folder"
    with (tmp_path / LEDGER).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(UsageError, match="is damaged"), contextlib.closing(Ledger(tmp_path / LEDGER)) as damaged:
        damaged.known("a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="unable to open"):
        Ledger(tmp_path / "folder")
    with pytest.raises(OutputError, match="unable to open"):
        Ledger(tmp_path / "none" / LEDGER)
