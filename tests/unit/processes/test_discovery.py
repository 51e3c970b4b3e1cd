"""Which server is used if none is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from kandiflux.processes.comfyui import Running
from kandiflux.processes.discovery import is_comfyui, named_server

from tests.support.stub_server import Answer, StubServer

GONE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"system": {"comfyui_version": "0.3.64"}}, True),
        ({"system": {"version": "1"}}, False),
        ({"system": "comfyui_version"}, False),
        ({}, False),
        (Answer("no", 500), False),
        (Answer("no", 503), False),
    ],
)
def test_what_describes_itself_as_comfyui(answer: object, expected: bool) -> None:
    with StubServer({"GET /system_stats": answer}).serving() as stub:
        assert is_comfyui(stub.url) is expected
    assert not is_comfyui(GONE)


def test_which_server_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kandiflux.toml"
    file.write_text('default_server = "http://of-the-file"\n')
    none = {"KANDIFLUX_CONFIG": str(tmp_path / "empty.toml")}
    (tmp_path / "empty.toml").write_text("")
    both = {"KANDIFLUX_CONFIG": str(file), "KANDIFLUX_SERVER": "http://of-the-environment"}

    def named(server: str | None, environ: Mapping[str, str]) -> str | None:
        return named_server(server, environ)

    with StubServer().serving() as usual, StubServer().serving() as started:
        monkeypatch.setattr("kandiflux.processes.discovery._USUAL", usual.url)
        monkeypatch.setattr("kandiflux.processes.discovery.running", lambda: [])
        assert named("http://given", both) == "http://given"
        assert named(None, both) == "http://of-the-environment"
        assert named(None, {"KANDIFLUX_CONFIG": str(file)}) == "http://of-the-file"
        assert named("lite", both) is None
        assert named(None, none) == usual.url
        runs = [Running("a", GONE, 1, 9, "log"), Running("b", started.url, 2, 9, "log")]
        monkeypatch.setattr("kandiflux.processes.discovery.running", lambda: runs)
        assert named(None, none) == started.url
        monkeypatch.setattr("kandiflux.processes.discovery.running", lambda: runs[:1])
        monkeypatch.setattr("kandiflux.processes.discovery._USUAL", GONE)
        assert named(None, none) is None
