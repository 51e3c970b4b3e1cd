"""The unfinished form of a file: what is taken up of it, in which pieces the rest is fetched, and what is verified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.errors import WrongFile
from kandiflux.models.model_files import ModelFile
from kandiflux.models.part_file import PartFile, Span
from kandiflux.models.remote_files import RemoteFile

URL = "https://a/x.bin"
MIB = 1 << 20
CONTENT = bytes(range(256)) * 4
REMOTE = RemoteFile(len(CONTENT), True, '"1"')


def begun(tmp_path: Path, remote: RemoteFile = REMOTE, connections: int = 4, url: str = URL) -> tuple[PartFile, int]:
    part = PartFile(tmp_path / "x.bin")
    return part, part.begin(url, remote, connections)


def noted(tmp_path: Path, done: Any, **changes: Any) -> None:
    """An earlier download of the file, with notes of it."""
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    notes = {"url": URL, "identity": '"1"', "size": len(CONTENT), "done": done, **changes}
    (tmp_path / "x.bin.part.json").write_text(json.dumps(notes))


def test_what_was_saved_is_taken_up(tmp_path: Path) -> None:
    first, taken_up = begun(tmp_path)
    assert taken_up == 0
    (span,) = first.spans
    span.at = 300
    first.save()
    assert json.loads(first.notes.read_text()) == {
        "url": URL, "identity": '"1"', "size": 1024, "done": [[0, 300]],
    }  # fmt: skip
    again, taken_up = begun(tmp_path)
    assert (taken_up, again.done) == (300, 300)
    assert again.spans == [Span(0, 300, 300), Span(300, 1024)]


@pytest.mark.parametrize(
    ("done", "spans"),
    [
        ([], [(0, 1024, 0)]),
        ([[0, 100]], [(0, 100, 100), (100, 1024, 100)]),
        ([[100, 200]], [(0, 100, 0), (100, 200, 200), (200, 1024, 200)]),
        ([[500, 1024], [0, 100]], [(0, 100, 100), (100, 500, 100), (500, 1024, 1024)]),
        ([[0, 100], [100, 200]], [(0, 100, 100), (100, 200, 200), (200, 1024, 200)]),
        ([[0, 1024]], [(0, 1024, 1024)]),
        # Stretches that overlap, are empty, or lie outside are of another file.
        ([[0, 100], [99, 200]], [(0, 1024, 0)]),
        ([[0, 100], [0, 100]], [(0, 1024, 0)]),
        ([[0, 200], [50, 100]], [(0, 1024, 0)]),
        ([[5, 5]], [(0, 1024, 0)]),
        ([[10, 5]], [(0, 1024, 0)]),
        ([[-1, 5]], [(0, 1024, 0)]),
        ([[0, 1025]], [(0, 1024, 0)]),
        ([[0]], [(0, 1024, 0)]),
        ([[0, "x"]], [(0, 1024, 0)]),
        (5, [(0, 1024, 0)]),
    ],
)
def test_the_gaps_between_what_is_there_are_fetched(tmp_path: Path, done: Any, spans: list[Any]) -> None:
    noted(tmp_path, done)
    part, taken_up = begun(tmp_path)
    assert [(span.start, span.end, span.at) for span in part.spans] == spans
    assert taken_up == sum(at - start for start, _, at in spans)
    assert part.path.stat().st_size == 1024
    if not taken_up:
        assert part.path.read_bytes() == bytes(1024)


@pytest.mark.parametrize("changes", [{"url": "https://b/x.bin"}, {"identity": '"2"'}, {"size": 1023}, {"more": 1}])
def test_notes_of_another_file_do_not_count(tmp_path: Path, changes: dict[str, Any]) -> None:
    noted(tmp_path, [[0, 100]], **changes)
    assert begun(tmp_path)[1] == 0


@pytest.mark.parametrize("length", [0, 1023, 1025])
def test_a_part_of_another_length_does_not_count(tmp_path: Path, length: int) -> None:
    noted(tmp_path, [[0, 100]])
    (tmp_path / "x.bin.part").write_bytes(bytes(length))
    assert begun(tmp_path)[1] == 0


@pytest.mark.parametrize("remote", [RemoteFile(1024, False, '"1"'), RemoteFile(None, True, '"1"')])
def test_without_ranges_or_a_size_nothing_is_taken_up(tmp_path: Path, remote: RemoteFile) -> None:
    noted(tmp_path, [[0, 100]])
    part, taken_up = begun(tmp_path, remote)
    assert (taken_up, part.spans, part.size) == (0, [], remote.size)
    assert part.path.read_bytes() == b""
    assert not part.notes.exists()


@pytest.mark.parametrize(
    ("size", "connections", "piece"),
    [
        (100 * MIB, 4, 8 * MIB),
        (128 * MIB, 4, 8 * MIB),
        (160 * MIB, 4, 10 * MIB),
        (160 * MIB, 1, 40 * MIB),
        (8192 * MIB, 4, 256 * MIB),
        (7 * MIB, 4, 7 * MIB),
    ],
)
def test_the_pieces_of_a_file(tmp_path: Path, size: int, connections: int, piece: int) -> None:
    """Four for each connection, but of 8 to 256 MiB each."""
    part, _ = begun(tmp_path, RemoteFile(size, True, None), connections)
    assert part.path.stat().st_size == size
    assert {span.end - span.start for span in part.spans[:-1]} <= {piece}
    assert 0 < part.spans[-1].end - part.spans[-1].start <= piece
    assert [span.start for span in part.spans[1:]] == [span.end for span in part.spans[:-1]]
    assert (part.spans[0].start, part.spans[0].end, part.spans[-1].end) == (0, piece, size)


def test_the_folder_is_made_and_everything_is_discarded(tmp_path: Path) -> None:
    part, _ = begun(tmp_path / "new" / "folder")
    part.save()
    part.notes.with_name("x.bin.part.json.new").touch()
    part.discard()
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    assert part.spans == []
    part.discard()


def test_a_whole_file_gets_its_name(tmp_path: Path) -> None:
    part, _ = begun(tmp_path)
    part.path.write_bytes(CONTENT)
    part.save()
    assert part.publish() == tmp_path / "x.bin"
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


# What is verified

DIGEST = hashlib.sha256(CONTENT).hexdigest()


def verified(
    tmp_path: Path, model: ModelFile, content: bytes = CONTENT, *, told: int | None = None, sha256: str | None = None
) -> bool:
    part = PartFile(tmp_path / model.name)
    part.begin(URL, RemoteFile(told, False, None), 1)
    part.path.write_bytes(content)
    seen: list[int] = []
    try:
        return part.verify(model, sha256, seen.append)
    except WrongFile:
        assert list(tmp_path.iterdir()) == []
        raise
    finally:
        assert seen in ([], [len(content)])


@pytest.mark.parametrize(
    ("size", "told", "message"),
    [(1024, None, None), (None, 1024, None), (1024, 1024, None), (None, None, None), (1023, None, "1023 bytes"),
     (None, 1025, "1025 bytes"), (1024, 1025, "1025 bytes"), (0, 1024, "0 bytes")],
)  # fmt: skip
def test_the_size_is_that_of_the_workflow_and_of_the_server(
    tmp_path: Path, size: int | None, told: int | None, message: str | None
) -> None:
    model = ModelFile("x.bin", "loras", URL, size=size)
    if message is None:
        assert verified(tmp_path, model, told=told) is False
        return
    with pytest.raises(WrongFile, match=r"x\.bin from https://a/x\.bin is not the file") as caught:
        verified(tmp_path, model, told=told)
    assert (caught.value.expected, caught.value.got) == (message, "1024 bytes")


@pytest.mark.parametrize(
    ("hash", "kind", "sha256", "right"),
    [
        (DIGEST, "sha256", None, True),
        (DIGEST, "sha256", "0" * 64, True),
        (None, "sha256", DIGEST, True),
        (None, "md5", DIGEST, True),
        (hashlib.md5(CONTENT).hexdigest(), "md5", None, True),
        (DIGEST[:10], "autov2", None, True),
        ("0" * 64, "sha256", DIGEST, False),
        (None, "sha256", "0" * 64, False),
    ],
)
def test_the_workflows_hash_counts_or_else_the_servers(
    tmp_path: Path, hash: str | None, kind: str, sha256: str | None, right: bool
) -> None:
    model = ModelFile("x.bin", "loras", URL, hash, kind)
    if right:
        assert verified(tmp_path, model, sha256=sha256) is True
        return
    with pytest.raises(WrongFile) as caught:
        verified(tmp_path, model, sha256=sha256)
    assert (caught.value.expected, caught.value.got) == (f"sha256 {'0' * 64}", f"sha256 {DIGEST}")


@pytest.mark.parametrize(
    ("name", "begin", "refused"),
    [
        ("x.bin", b"<!doctype html>", True),
        ("x.bin", b'  {"error": 1}\n', True),
        ("x.PT", b"<html>\r\n\t", True),
        ("x.bin", b"not found", False),
        ("x.bin", b"<\x80", False),
        ("x.bin", b"{\x00", False),
        ("x.bin", b"{\x7f", False),
        ("x.bin", b"", False),
        ("x.bin", b"<" + b"a" * 63 + b"\x80", True),  # the first 64 bytes are looked at
        ("x.json", b'{"a": 1}', False),
    ],
)
def test_a_text_does_not_pass_for_weights(tmp_path: Path, name: str, begin: bytes, refused: bool) -> None:
    model = ModelFile(name, "loras", URL)
    if not refused:
        assert verified(tmp_path, model, begin) is False
        return
    with pytest.raises(WrongFile) as caught:
        verified(tmp_path, model, begin)
    shown = begin.strip()[:20].decode("ascii", "replace")
    assert (caught.value.expected, caught.value.got) == ("a file of weights", f"text that begins with {shown!r}")


def safetensors(end: Any, size: int, start: Any = 0) -> bytes:
    header = json.dumps({"__metadata__": {"a": "b"}, "w": {"data_offsets": [start, end]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


@pytest.mark.parametrize("name", ["x.safetensors", "x.SFT"])
@pytest.mark.parametrize(("end", "size", "whole"), [(10, 10, True), (0, 0, True), (10, 9, False), (10, 11, False)])
def test_a_safetensors_file_is_as_long_as_its_header_says(
    tmp_path: Path, name: str, end: int, size: int, whole: bool
) -> None:
    content = safetensors(end, size)
    if whole:
        assert verified(tmp_path, ModelFile(name, "loras", URL), content) is False
        return
    with pytest.raises(WrongFile) as caught:
        verified(tmp_path, ModelFile(name, "loras", URL), content)
    assert caught.value.expected == f"{len(content) - size + end} bytes, as it says itself"


@pytest.mark.parametrize("end", [-1, 10**6, True, 1.0, "5", None])
def test_a_safetensors_file_whose_header_leads_nowhere(tmp_path: Path, end: Any) -> None:
    with pytest.raises(WrongFile, match="not the file") as caught:
        verified(tmp_path, ModelFile("x.safetensors", "loras", URL), safetensors(end, 10))
    assert caught.value.got == "one whose header gives 'w' no valid data_offsets"
