"""Settings and files of the graph editor's user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.lite.http import Refused
from kandiflux.lite.userdata import UserData


@pytest.fixture
def data(tmp_path: Path) -> UserData:
    return UserData(tmp_path / "user" / "default")


def put(data: UserData, name: str, content: bytes = b"x", **options: bool) -> Any:
    return data.store(name, content, **{"overwrite": True, "full": False, **options})


def refused(status: int, call: Any, *inputs: Any, **options: Any) -> None:
    with pytest.raises(Refused) as error:
        call(*inputs, **options)
    assert error.value.status == status


def test_settings(data: UserData, caplog: pytest.LogCaptureFixture) -> None:
    assert data.settings() == {}
    assert caplog.messages == [], "there are none yet"
    data.change_settings({"a": 1, "b": [2]})
    data.change_settings({"b": "é"})
    assert data.settings() == {"a": 1, "b": "é"}
    file = data.folder / "comfy.settings.json"
    assert json.loads(file.read_text("utf-8")) == {"a": 1, "b": "é"}
    assert [path.name for path in data.folder.iterdir()] == [file.name], "no part is left"
    file.write_text("{")
    assert data.settings() == {}
    assert "not valid JSON" in caplog.messages[0]
    file.write_text("[1]")
    assert data.settings() == {}
    data.change_settings({"c": 3})
    assert data.settings() == {"c": 3}


def test_files_are_stored_and_read(data: UserData) -> None:
    assert put(data, "workflows/a.json", b"one") == "workflows/a.json"
    assert data.file("workflows/a.json").read_bytes() == b"one"
    told = put(data, "workflows/a.json", b"three", full=True)
    assert (told["path"], told["size"]) == ("workflows/a.json", 5)
    assert {"modified", "created"} < told.keys()
    refused(409, put, data, "workflows/a.json", b"no", overwrite=False)
    assert data.file("workflows/a.json").read_bytes() == b"three"
    assert put(data, "new.json", overwrite=False) == "new.json"
    refused(404, data.file, "missing.json")
    refused(404, data.file, "workflows")
    refused(400, put, data, "new.json/below")


@pytest.mark.parametrize("name", ["", ".", "workflows", "a\nb", "\x1f"])
def test_names_that_are_none(data: UserData, name: str) -> None:
    put(data, "workflows/a.json")
    refused(400, put, data, name)
    refused(400, data.move, "workflows/a.json", name, overwrite=True, full=False)
    assert data.file("workflows/a.json")


def test_names_that_lead_out(data: UserData) -> None:
    (data.folder.parent / "secret").mkdir(parents=True)
    (data.folder.parent / "secret" / "x").write_bytes(b"x")
    put(data, "a")
    for call in (data.file, data.delete, data.tree, lambda name: put(data, name)):
        refused(403, call, "../secret/x")
    refused(403, data.listing, "../secret", recurse=False, full=False, split=False)
    refused(403, data.move, "a", "../secret/y", overwrite=True, full=False)
    refused(403, data.move, "../secret/x", "y", overwrite=True, full=False)


def test_files_are_moved_and_deleted(data: UserData) -> None:
    put(data, "a", b"one")
    put(data, "b", b"two")
    refused(409, data.move, "a", "b", overwrite=False, full=False)
    refused(404, data.move, "none", "c", overwrite=True, full=False)
    assert data.move("a", "deep/er/c", overwrite=False, full=False) == "deep/er/c"
    assert data.move("b", "deep/er/c", overwrite=True, full=True)["size"] == 3
    assert data.file("deep/er/c").read_bytes() == b"two"
    refused(404, data.file, "a")
    refused(400, data.move, "deep/er/c", "deep/er/c/d", overwrite=True, full=False)
    data.delete("deep/er/c")
    refused(404, data.delete, "deep/er/c")


@pytest.fixture
def filled(data: UserData) -> UserData:
    for name in ("w/b.json", "w/a.json", "w/deep/c.json", "top.json"):
        put(data, name, name.encode())
    return data


def test_lists(filled: UserData) -> None:
    def listed(name: str = "w", **wanted: bool) -> list[Any]:
        return filled.listing(name, **{"recurse": False, "full": False, "split": False, **wanted})

    assert listed() == ["a.json", "b.json"]
    assert listed(recurse=True) == ["a.json", "b.json", "deep/c.json"]
    assert listed(recurse=True, split=True)[1:] == [["b.json", "b.json"], ["deep/c.json", "deep", "c.json"]]
    full = listed(recurse=True, full=True, split=True)
    assert [(one["path"], one["size"]) for one in full] == [("a.json", 8), ("b.json", 8), ("deep/c.json", 13)]
    assert listed(".") == ["top.json"]
    refused(400, listed, "")
    refused(404, listed, "none")
    refused(404, listed, "top.json")


def test_the_tree(filled: UserData) -> None:
    tree = filled.tree("")
    shown = [(one["type"], one["path"], one["name"], one.get("size")) for one in tree]
    assert shown == [
        ("directory", "w/deep", "deep", None),
        ("directory", "w", "w", None),
        ("file", "w/a.json", "a.json", 8),
        ("file", "w/b.json", "b.json", 8),
        ("file", "w/deep/c.json", "c.json", 13),
        ("file", "top.json", "top.json", 8),
    ]
    assert "modified" in tree[-1]
    assert [one["path"] for one in filled.tree("w/deep")] == ["w/deep/c.json"]
    refused(404, filled.tree, "none")
    refused(400, filled.tree, "top.json")


def test_a_full_disk_loses_nothing(filled: UserData, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Refused, match="No space left"):
        put(filled, "w/a.json", b"new")
    monkeypatch.undo()
    assert filled.file("w/a.json").read_bytes() == b"w/a.json"
    assert len(list((filled.folder / "w").iterdir())) == 3, "no part is left"
