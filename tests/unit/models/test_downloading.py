"""Model files from a server that goes wrong: what ends under the final name is whole and right, or it is not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.errors import (
    AccessDenied,
    DiskFull,
    DownloadError,
    KandifluxError,
    OutputError,
    ServerUnreachable,
    WrongFile,
)
from kandiflux.models.backoff import Patience, Stopped
from kandiflux.models.download import FileDownload
from kandiflux.models.model_files import ModelFile
from kandiflux.models.remote_files import RemoteFiles, Token, page_of
from kandiflux.util.file_lock import held

from tests.support.file_server import Fault, FileServer, serving
from tests.support.places import ROOT

CONTENT = random.Random(1).randbytes(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(attempts=4, first_pause=0.01, longest_pause=0.02, longest_wait=5.0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


def download(
    tmp_path: Path, url: str, *, hash: str | None = SHA256, name: str = "x.bin", **options: Any
) -> FileDownload:
    options = {"patience": QUICK, **options}
    remotes = options.pop("remotes", None) or RemoteFiles(timeout=(5.0, 2.0))
    return FileDownload(ModelFile(name, "loras", url, hash), tmp_path / name, remotes, **options)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_in_one_answer_and_nothing_else_is_left(tmp_path: Path, server: FileServer) -> None:
    assert download(tmp_path, server.add("/x", CONTENT)).run().read_bytes() == CONTENT
    assert left_in(tmp_path) == ["x.bin"]
    assert [request.range for request in server.requests] == [(0, 0), None]
    assert server.sent == len(CONTENT) + 1


def test_how_far_it_is_grows_to_the_whole(tmp_path: Path, server: FileServer) -> None:
    seen: list[tuple[int, int | None]] = []
    download(tmp_path, server.add("/x", CONTENT, pace=2e6), on_bytes=lambda *now: seen.append(now)).run()
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert any(0 < done < len(CONTENT) for done, _ in seen)


def faults(*list_of: Fault | None) -> tuple[Fault | None, ...]:
    """After the first question, which goes well."""
    return (None, *list_of)


@pytest.mark.parametrize(
    "list_of",
    [
        faults(Fault(cut=1000), Fault(cut=0), Fault(cut=100_000)),
        faults(Fault(status=500), Fault(status=503), Fault(status=502)),
        (Fault(status=503), Fault(cut=0)),
        faults(Fault(stall=50_000, seconds=3.0)),
        faults(Fault(length=10)),
        faults(Fault(length=10_000_000)),
        faults(Fault(status=408), Fault(status=429, headers={"Retry-After": "0"})),
    ],
    ids=["cut", "5xx", "at once", "stalled", "short length", "long length", "busy"],
)
def test_what_passes_is_waited_for(tmp_path: Path, server: FileServer, list_of: tuple[Fault | None, ...]) -> None:
    assert download(tmp_path, server.add("/x", CONTENT, *list_of)).run().read_bytes() == CONTENT
    assert left_in(tmp_path) == ["x.bin"]


@pytest.mark.parametrize(
    "list_of",
    [faults(Fault(cut=1000)), faults(Fault(status=503)), faults(Fault(stall=50_000, seconds=3.0))],
    ids=["cut", "503", "stalled"],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_the_same_from_a_server_without_ranges(
    tmp_path: Path, server: FileServer, list_of: tuple[Fault | None, ...], chunked: bool
) -> None:
    url = server.add("/x", CONTENT, *list_of, ranges=False, chunked=chunked)
    assert download(tmp_path, url).run().read_bytes() == CONTENT


def test_retry_after_is_obeyed(tmp_path: Path, server: FileServer) -> None:
    """And not the pause that would else be made."""
    url = server.add("/x", CONTENT[:1000], None, Fault(status=429, headers={"Retry-After": "0"}))
    patient = Patience(first_pause=600.0, longest_pause=600.0)
    assert download(tmp_path, url, hash=None, patience=patient).run().read_bytes() == CONTENT[:1000]


def test_a_retry_after_of_hours_is_said_and_not_waited_for(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, None, always=Fault(status=429, headers={"Retry-After": "7200"}))
    with pytest.raises(DownloadError, match="retry in 7200 seconds"):
        download(tmp_path, url).run()


def test_a_server_that_stays_broken_is_given_up_and_what_came_is_kept(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, *faults(*[Fault(cut=60_000)] * 4), always=Fault(status=500))
    with pytest.raises(DownloadError, match=r"HTTP 500 \(4 times in a row\)") as caught:
        download(tmp_path, url).run()
    assert "Run the same command again" in str(caught.value)
    assert left_in(tmp_path) == ["x.bin.part", "x.bin.part.json"]
    server.files["/x"].always = None
    server.forget()
    assert download(tmp_path, url).run().read_bytes() == CONTENT
    assert server.sent < len(CONTENT) - 100_000


def test_ranges_that_are_ignored_when_it_comes_to_it(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, None, Fault(cut=100_000), always=Fault(whole=True))
    assert download(tmp_path, url).run().read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [(0, 0), None, (100_000, len(CONTENT) - 1)]
    assert server.sent == 1 + 100_000 + len(CONTENT)


def test_answers_without_a_body_are_given_up(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, None, always=Fault(length=0))
    with pytest.raises(DownloadError, match=f"ended after 0 of {len(CONTENT)} bytes"):
        download(tmp_path, url).run()


def test_nobody_there_is_exit_code_3(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable):
        download(tmp_path, "http://127.0.0.1:9/x").run()
    assert left_in(tmp_path) == []


def test_a_file_that_is_not_there(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(DownloadError, match=r"does not exist \(HTTP 404\)"):
        download(tmp_path, f"{server.url}/gone").run()


def test_an_empty_file(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", b"")
    assert download(tmp_path, url, hash=hashlib.sha256(b"").hexdigest()).run().read_bytes() == b""


# What is not the file


def test_a_wrong_hash_is_said_and_nothing_stays(tmp_path: Path, server: FileServer) -> None:
    wanted = "0" * 64
    with pytest.raises(WrongFile) as caught:
        download(tmp_path, server.add("/x", CONTENT), hash=wanted).run()
    assert wanted in str(caught.value.expected)
    assert SHA256 in str(caught.value.got)
    assert left_in(tmp_path) == []


def test_a_hash_the_server_tells_counts_where_the_workflow_has_none(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, headers={"X-Linked-Etag": f'"{"1" * 64}"'})
    with pytest.raises(WrongFile, match="deleted"):
        download(tmp_path, url, hash=None).run()


def test_a_hash_the_server_tells_saves_the_download_of_another_file(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, headers={"X-Linked-Etag": f'"{"1" * 64}"'})
    with pytest.raises(WrongFile, match=r"not the x\.bin that the workflow was made with"):
        download(tmp_path, url).run()
    assert server.sent == 1


@pytest.mark.parametrize("length", [1000, 5_000_000])
def test_a_wrong_content_length_does_not_pass_for_a_file(tmp_path: Path, server: FileServer, length: int) -> None:
    url = server.add("/x", CONTENT, ranges=False, always=Fault(length=length))
    with pytest.raises(DownloadError):
        download(tmp_path, url).run()
    assert "x.bin" not in left_in(tmp_path)


def safetensors(size: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + CONTENT[:size]


def test_a_safetensors_file_that_was_cut_short_is_known_without_a_hash(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", safetensors(5000)[:-1])
    with pytest.raises(WrongFile, match="not the expected file") as caught:
        download(tmp_path, url, hash=None, name="x.safetensors").run()
    assert "by its own header" in str(caught.value.expected)
    url = server.add("/y", safetensors(5000))
    assert download(tmp_path, url, hash=None, name="x.safetensors").run().stat().st_size > 5000


@pytest.mark.parametrize("content", [b"", b"x", b"Not found", b"\xff" * 100, struct.pack("<Q", 5) + b"[1,2]"])
def test_what_is_no_safetensors_file_at_all(tmp_path: Path, server: FileServer, content: bytes) -> None:
    with pytest.raises(WrongFile):
        download(tmp_path, server.add("/x", content), hash=None, name="x.safetensors").run()
    assert left_in(tmp_path) == []


def test_a_page_to_log_in_is_no_file(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(DownloadError, match="is a web page"):
        download(tmp_path, url).run()


# Taking up


def interrupted(tmp_path: Path, server: FileServer, **options: Any) -> str:
    """A download of which something has come."""
    url = server.add("/x", CONTENT, *faults(*[Fault(cut=100_000)] * 4), always=Fault(status=500), **options)
    with pytest.raises(DownloadError):
        download(tmp_path, url).run()
    server.files["/x"].always = None
    server.forget()
    return url


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path, server: FileServer) -> None:
    url = interrupted(tmp_path, server)
    changed = CONTENT[::-1]
    server.add("/x", changed, etag='"2"')
    assert download(tmp_path, url, hash=hashlib.sha256(changed).hexdigest()).run().read_bytes() == changed
    assert server.sent == len(changed) + 1


def test_a_file_that_changes_while_it_comes_is_fetched_anew(tmp_path: Path, server: FileServer) -> None:
    changed = CONTENT[::-1]
    url = server.add("/x", CONTENT, None, Fault(cut=1_000_000))

    def change(done: int, total: int | None) -> None:
        if 0 < done < len(CONTENT) and server.files["/x"].etag == '"1"':
            server.add("/x", changed, etag='"2"')

    assert download(tmp_path, url, hash=None, on_bytes=change).run().read_bytes() == changed


ANOTHER = {
    "another beginning": Fault(headers={"Content-Range": f"bytes 1-1000/{len(CONTENT)}"}),
    "another size": Fault(headers={"Content-Range": f"bytes 0-1000/{len(CONTENT) + 1}"}),
    "no size": Fault(headers={"Content-Range": "bytes 0-1000/*"}),
    "another unit": Fault(headers={"Content-Range": f"lines 0-1000/{len(CONTENT)}"}),
    "none": Fault(headers={"Content-Range": ""}),
    "another tag": Fault(headers={"ETag": '"other"'}),
    "all of another tag": Fault(headers={"ETag": '"other"'}, whole=True),
    "not there": Fault(status=416),
}


@pytest.mark.parametrize("name", ANOTHER)
def test_an_answer_that_is_not_the_range_asked_for_is_not_taken(tmp_path: Path, server: FileServer, name: str) -> None:
    """The first time the download starts over; the second time it is given up."""
    fault = ANOTHER[name]
    cut = Fault(cut=100_000)
    url = server.add("/x", CONTENT, None, cut, fault)
    assert download(tmp_path, url, hash=None).run().read_bytes() == CONTENT
    assert [request.range for request in server.requests].count((0, 0)) == 2
    url = server.add("/y", CONTENT, None, cut, fault, None, cut, fault)
    with pytest.raises(DownloadError, match="changes during the download"):
        download(tmp_path, url, hash=None, name="y.bin").run()
    assert left_in(tmp_path) == ["x.bin"]


def test_a_file_that_became_shorter_is_fetched_anew(tmp_path: Path, server: FileServer) -> None:
    url = interrupted(tmp_path, server, etag=None)
    server.add("/x", CONTENT[:50_000], etag=None)
    assert download(tmp_path, url, hash=None).run().read_bytes() == CONTENT[:50_000]


def test_a_file_that_never_stays_the_same_is_given_up(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT)
    tags = iter(range(1000))

    class Restless(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            served = super().get(key, default)
            served.etag = f'"{next(tags)}"'
            return served

    server.files = Restless(server.files)
    with pytest.raises(DownloadError, match="changes during the download"):
        download(tmp_path, url).run()


@pytest.mark.parametrize("notes", [b"", b"[]", b'{"done": 5}', b'{"done": [[0, 99999999999]]}', b"\xff"])
def test_notes_that_make_no_sense_are_not_believed(tmp_path: Path, server: FileServer, notes: bytes) -> None:
    url = server.add("/x", CONTENT)
    (tmp_path / "x.bin.part").write_bytes(bytes(len(CONTENT)))
    (tmp_path / "x.bin.part.json").write_bytes(notes)
    assert download(tmp_path, url).run().read_bytes() == CONTENT


def test_stopped_it_can_go_on(tmp_path: Path, server: FileServer) -> None:
    url, stop = server.add("/x", CONTENT, pace=8e5), threading.Event()

    def stop_midway(done: int, total: int | None) -> None:
        if done > 500_000:
            stop.set()

    with pytest.raises(Stopped):
        download(tmp_path, url, stop=stop, on_bytes=stop_midway).run()
    assert left_in(tmp_path) == ["x.bin.part", "x.bin.part.json"]
    server.files["/x"].pace = None
    server.forget()
    assert download(tmp_path, url).run().read_bytes() == CONTENT
    assert server.sent < len(CONTENT) - 300_000


KILLED = """
import sys
from pathlib import Path
from kandiflux.models.download import FileDownload
from kandiflux.models.model_files import ModelFile
from kandiflux.models.remote_files import RemoteFiles
url, target = sys.argv[1:]
FileDownload(ModelFile("x.bin", "loras", url), Path(target), RemoteFiles()).run()
"""


def killed_midway(url: str, target: Path, enough: Callable[[], bool]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, url, str(target)], env={**os.environ, "PYTHONPATH": str(ROOT / "runner")}
    )
    deadline = time.monotonic() + 30
    while not enough() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_midway_only_the_rest_is_fetched(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, pace=5e5)
    killed_midway(url, tmp_path / "x.bin", lambda: server.sent_so_far > len(CONTENT) // 2)
    had = server.sent
    assert len(CONTENT) // 2 < had < len(CONTENT)
    assert "x.bin" not in left_in(tmp_path)
    server.files["/x"].pace = None
    server.forget()
    assert download(tmp_path, url).run().read_bytes() == CONTENT
    # A piece may have been on its way.
    assert server.sent <= len(CONTENT) - had + (256 << 10)
    assert left_in(tmp_path) == ["x.bin"]


# Two at once


def test_two_downloads_of_one_file_are_one(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, pace=1e6)
    said: list[str] = []
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(download(tmp_path, url, on_state=said.append).run()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [tmp_path / "x.bin"] * 2
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.sent <= len(CONTENT) + 2
    assert any("waiting" in text for text in said)
    assert left_in(tmp_path) == ["x.bin"]


def test_the_lock_of_a_process_that_was_killed_is_nobodys(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, pace=5e5)
    killed_midway(url, tmp_path / "x.bin", lambda: server.sent_so_far > 500_000)
    assert "x.bin.part.lock" in left_in(tmp_path)
    server.files["/x"].pace = None
    said: list[str] = []
    download(tmp_path, url, on_state=said.append).run()
    assert not any("waiting" in text for text in said)


# Tokens


def test_a_token_goes_to_its_host_and_to_no_other(tmp_path: Path, server: FileServer) -> None:
    with serving() as elsewhere:
        there = elsewhere.add("/cdn", CONTENT)
        url = server.add("/x", b"", redirect=there)
        host = server.url.removeprefix("http://")
        download(tmp_path, url, remotes=RemoteFiles({host: Token("MY_TOKEN", "secret")})).run()
        assert {request.headers.get("Authorization") for request in server.requests} == {"Bearer secret"}
        assert elsewhere.requests
        assert not any("Authorization" in request.headers for request in elsewhere.requests)


def test_a_password_in_netrc_is_not_sent(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    (tmp_path / "models").mkdir()
    download(tmp_path / "models", server.add("/x", CONTENT)).run()
    assert not any("Authorization" in request.headers for request in server.requests)


def test_a_gated_file_names_the_page_and_the_variable(tmp_path: Path, server: FileServer) -> None:
    url, host = server.add("/x", CONTENT, token="secret"), server.url.removeprefix("http://")
    without = RemoteFiles({host: Token("MY_TOKEN", None)})
    with pytest.raises(AccessDenied, match=r"is gated: .* HTTP 401 \(GatedRepo\)") as caught:
        download(tmp_path, url, remotes=without).run()
    assert f"Accept the licence at {server.url}, and set the environment variable MY_TOKEN" in str(caught.value)
    with pytest.raises(AccessDenied) as caught:
        download(tmp_path, url, remotes=RemoteFiles({host: Token("MY_TOKEN", "wrong")})).run()
    assert "of the token in MY_TOKEN" in str(caught.value)
    with pytest.raises(AccessDenied, match=f"{host}=VARIABLE"):
        download(tmp_path, url, remotes=RemoteFiles()).run()
    assert "secret" not in str(caught.value)
    download(tmp_path, url, remotes=RemoteFiles({host: Token("MY_TOKEN", "secret")})).run()


def test_hugging_faces_page_is_the_repositorys() -> None:
    url = "https://huggingface.co/black-forest-labs/FLUX.1-dev/resolve/main/ae.safetensors"
    assert page_of(url) == "https://huggingface.co/black-forest-labs/FLUX.1-dev"
    assert page_of("https://huggingface.co/datasets/a/b/resolve/main/c") == "https://huggingface.co/datasets/a/b"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://a/b"])
def test_a_redirect_leads_to_the_web_only(tmp_path: Path, server: FileServer, location: str) -> None:
    with pytest.raises(DownloadError, match="expected: an http or https URL"):
        download(tmp_path, server.add("/x", b"", redirect=location)).run()


def test_redirects_in_a_circle(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(DownloadError, match="redirected more than 10 times"):
        download(tmp_path, server.add("/x", b"", redirect="/x")).run()


def test_another_servers_tag_is_not_asked_for(tmp_path: Path, server: FileServer) -> None:
    """As on Hugging Face: it tells the tag of a file that lies elsewhere under another."""
    with serving() as elsewhere:
        there = elsewhere.add("/cdn", CONTENT, None, Fault(cut=1000), etag='"theirs"')
        url = server.add("/x", b"", redirect=there, headers={"X-Linked-Etag": '"ours"'})
        assert download(tmp_path, url).run().read_bytes() == CONTENT
        assert elsewhere.requests[-1].range is not None
        assert not any("If-Range" in request.headers for request in elsewhere.requests)


def test_a_file_is_asked_for_in_parts_on_condition_of_its_tag(tmp_path: Path, server: FileServer) -> None:
    cut = Fault(cut=1000)
    download(tmp_path, server.add("/x", CONTENT, None, cut)).run()
    download(tmp_path, server.add("/y", CONTENT, None, cut, etag='W/"1"'), name="y.bin").run()
    asked = [(request.path, request.headers.get("If-Range")) for request in server.requests if request.range]
    assert asked == [("/x", None), ("/x", '"1"'), ("/y", None), ("/y", None)]


# The disk


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EIO, OutputError), (errno.EACCES, OutputError)]
)
def test_a_disk_that_says_no(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[KandifluxError]
) -> None:
    def write(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileDownload, "_copy", write)
    with pytest.raises(kind, match=r"x\.bin"):
        download(tmp_path, server.add("/x", CONTENT)).run()
    assert "x.bin" not in left_in(tmp_path)


def test_a_small_disk_that_fills_up(server: FileServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(DiskFull, match="free some space and run the same command again"):
            download(disk, server.add("/x", CONTENT)).run()
        assert "x.bin" not in left_in(disk)
    finally:
        with contextlib.suppress(OSError):
            subprocess.run(["umount", str(disk)], check=False)


# One at a time, and what is asked before


def test_a_download_that_waits_for_another_can_be_stopped(tmp_path: Path, server: FileServer) -> None:
    url, stop = server.add("/x", CONTENT), threading.Event()
    states: list[str] = []

    def note(state: str) -> None:
        states.append(state)
        stop.set()

    with held(tmp_path / "x.bin.part.lock", threading.Event()):
        with pytest.raises(Stopped):
            download(tmp_path, url, stop=stop, on_state=note).run()
        assert left_in(tmp_path) == ["x.bin.part.lock"]
    assert states == ["waiting for another download of it"]
    assert server.requests == []


def test_a_file_that_is_there_is_not_asked_for(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "x.bin").write_bytes(b"mine")
    assert download(tmp_path, server.add("/x", CONTENT)).run() == tmp_path / "x.bin"
    assert (tmp_path / "x.bin").read_bytes() == b"mine"
    assert server.requests == []


def test_what_is_done_after_the_download(tmp_path: Path, server: FileServer) -> None:
    told: list[Any] = []
    content = CONTENT[:1000]
    found = download(
        tmp_path, server.add("/x", content), hash=hashlib.sha256(content).hexdigest(),
        on_state=told.append, on_bytes=lambda *now: told.append(now),
    ).run()  # fmt: skip
    assert found.read_bytes() == content
    assert told[told.index("verifying") :] == ["verifying", (1000, 1000)]
    assert told.count("verifying") == 1


@pytest.mark.parametrize(
    ("size", "digest", "expected"),
    [(None, None, None), (1000, "ab" * 32, None), (999, None, "bytes 999"), (1000, "0" * 64, f"sha256 {'0' * 64}")],
)
def test_what_a_server_says_is_compared_with_the_workflow(
    tmp_path: Path, server: FileServer, size: int | None, digest: str | None, expected: str | None
) -> None:
    url = server.add("/x", CONTENT[:1000], headers={"X-Linked-Etag": f'"{"ab" * 32}"'})
    model = ModelFile("x.bin", "loras", url, digest, size=size)
    asked = FileDownload(model, tmp_path / "x.bin", RemoteFiles(), patience=QUICK)
    if expected is None:
        assert (asked.describe().size, asked.describe().sha256) == (1000, "ab" * 32)
    else:
        with pytest.raises(WrongFile, match=r"is not the x\.bin that the workflow was made with") as caught:
            asked.describe()
        assert caught.value.expected == expected


def test_only_a_sha256_is_compared_before_the_download(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT, headers={"X-Linked-Etag": f'"{SHA256}"'})
    digest = hashlib.blake2s(CONTENT).hexdigest()
    model = ModelFile("x.bin", "loras", url, digest, hash_type="blake2s")
    assert FileDownload(model, tmp_path / "x.bin", RemoteFiles(), patience=QUICK).run().read_bytes() == CONTENT
