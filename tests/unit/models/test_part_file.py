"""The unfinished form of a file: what is kept of it, and what is verified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.errors import WrongFile
from kandiflux.models.model_files import ModelFile
from kandiflux.models.part_file import PartFile
from kandiflux.models.remote_files import RemoteFile

URL = "https://a/x.bin"
CONTENT = bytes(range(256)) * 4
REMOTE = RemoteFile(len(CONTENT), True, '"1"')


def begun(tmp_path: Path, remote: RemoteFile = REMOTE) -> int:
    return PartFile(tmp_path / "x.bin").begin(URL, remote)


def noted(tmp_path: Path, length: int = 300, **changes: Any) -> None:
    """An earlier download of the file, with notes of it."""
    (tmp_path / "x.bin.part").write_bytes(CONTENT[:length].ljust(length, b"x"))
    notes = {"url": URL, "identity": '"1"', "size": len(CONTENT), **changes}
    (tmp_path / "x.bin.part.json").write_text(json.dumps(notes))


def test_what_has_come_is_kept(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "x.bin")
    assert (part.size, part.begin(URL, REMOTE), part.size) == (0, 0, 0)
    part.path.write_bytes(CONTENT[:300])
    assert (begun(tmp_path), part.size, part.path.read_bytes()) == (300, 300, CONTENT[:300])


@pytest.mark.parametrize(("length", "kept"), [(0, 0), (1, 1), (1024, 1024), (1025, 0)])
def test_a_part_that_is_longer_than_the_file_is_not_kept(tmp_path: Path, length: int, kept: int) -> None:
    noted(tmp_path, length)
    assert begun(tmp_path) == (tmp_path / "x.bin.part").stat().st_size == kept


@pytest.mark.parametrize(
    "changes", [{"url": "https://b/x.bin"}, {"identity": '"2"'}, {"size": 1023}, {"done": [[0, 300]]}]
)
def test_notes_of_another_file_do_not_count(tmp_path: Path, changes: dict[str, Any]) -> None:
    noted(tmp_path, **changes)
    assert begun(tmp_path) == 0
    assert (tmp_path / "x.bin.part").read_bytes() == b""
    noted(tmp_path)
    assert begun(tmp_path) == 300


@pytest.mark.parametrize("remote", [RemoteFile(1024, False, '"1"'), RemoteFile(None, False, '"1"')])
def test_without_ranges_nothing_is_kept(tmp_path: Path, remote: RemoteFile) -> None:
    noted(tmp_path, size=remote.size)
    assert begun(tmp_path, remote) == 0
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.bin.part", b"")]


def test_everything_is_discarded(tmp_path: Path) -> None:
    noted(tmp_path)
    PartFile(tmp_path / "x.bin").discard()
    assert list(tmp_path.iterdir()) == []
    PartFile(tmp_path / "x.bin").discard()


def test_a_whole_file_gets_its_name(tmp_path: Path) -> None:
    noted(tmp_path, 1024)
    assert PartFile(tmp_path / "x.bin").publish().read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


# What is verified

DIGEST = hashlib.sha256(CONTENT).hexdigest()


def verified(
    tmp_path: Path, model: ModelFile, content: bytes = CONTENT, *, told: int | None = None, sha256: str | None = None
) -> bool:
    part = PartFile(tmp_path / model.name)
    part.begin(URL, RemoteFile(told, False, None))
    part.path.write_bytes(content)
    seen: list[int] = []
    try:
        return part.verify(model, told, sha256, seen.append)
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
    with pytest.raises(WrongFile, match=r"x\.bin from https://a/x\.bin is not the expected file") as caught:
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
    assert (caught.value.expected, caught.value.got) == ("a weight file", f"text that begins with {shown!r}")


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
    assert caught.value.expected == f"{len(content) - size + end} bytes, by its own header"


@pytest.mark.parametrize("end", [-1, 10**6, True, 1.0, "5", None])
def test_a_safetensors_file_whose_header_leads_nowhere(tmp_path: Path, end: Any) -> None:
    with pytest.raises(WrongFile, match="not the expected file") as caught:
        verified(tmp_path, ModelFile("x.safetensors", "loras", URL), safetensors(end, 10))
    assert caught.value.got == "one whose header gives 'w' no valid data_offsets"
