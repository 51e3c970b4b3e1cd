"""Whatever a server, a workflow or a file says: no terminal obeys it, and no encoding fails for it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.util.safe_text import UNSAFE
from typer.testing import CliRunner

from tests.support.commands import Ended, kandiflux, on_a_terminal
from tests.support.stub_server import HTML, Answer, StubServer, html

PAYLOADS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;b3duZWQ=\x1b\\",
    "link": "\x1b]8;;file:///etc/passwd\x1b\\x",
    "clear": "\x1b[2J\x1b[1;1H",
    "C1": "\x9d0;owned\x9c\x9b2J\x90q\x9c",
    "bell and back": "\x07\x08\x08\x7f\r",
    "direction": "\u202egpj.exe\u2066x\u2069\u200f",
    "markup": "[link=file:///x]y[/link] [/bold] [bold",
    "half": "\ud800",
    "lines": "a\u2028b\x85c\x0bd\x0ce",
}
ALL = "".join(PAYLOADS.values())

OURS = re.compile(rb"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\x1b\[2K|\r")
"""What rich draws with: colours, the cursor hidden and shown, up and to the end of a line."""


FAILURE = {
    "node_id": f"1{ALL}", "node_type": f"Empty{ALL}", "exception_type": f"Value{ALL}Error",
    "exception_message": f"no colour {ALL}" * 2000, "traceback": [f"line {ALL}"],
}  # fmt: skip
REFUSAL = {
    "error": {"type": "prompt_outputs_failed_validation", "message": f"no {ALL}", "details": ALL},
    "node_errors": {"1": {"errors": [{"type": ALL, "message": ALL, "details": ALL}], "class_type": f"Empty{ALL}"}},
}


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer().serving() as stub:
        said = f"before {ALL} after"
        stub.outputs = {"2": {"images": [{"filename": f"a{ALL}.png", "subfolder": ALL}], "text": [said]}}
        item = [1, f"id{ALL}", {"1": {"inputs": {"text": said}}}, {}, []]
        stub.reactions["GET /queue"] = {"queue_running": [item], "queue_pending": [item]}
        stub.reactions["GET /system_stats"] = {
            "system": {"comfyui_version": said, "python_version": said, "pytorch_version": said},
            "devices": [{"name": said, "type": said}],
        }
        yield stub


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of workflows and lists whose every text is a payload."""
    plain = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64}, "_meta": {"title": f"Canvas{ALL}"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}, "_meta": {"title": f"Result{ALL}"}},
    }
    named = {
        "nodes": [{"id": 1, "type": f"No{ALL}", "title": ALL, "inputs": [], "widgets_values": [ALL]}],
        "links": [],
        "extra": {"kandiflux": {"title": ALL, "presets": {ALL: {ALL: ALL}}, "parameters": {
            f"p{ALL}": {"node": "1", "input": f"i{ALL}", "description": ALL}}}},
    }  # fmt: skip
    model = {"name": f"m{ALL}.safetensors", "url": f"http://127.0.0.1:9/{ALL}", "directory": f"vae{ALL}"}
    made: dict[str, Any] = {
        "plain.json": plain,
        "unknown.json": {f"7{ALL}": {"class_type": f"No{ALL}", "inputs": {f"a{ALL}": 1}}},
        "neither.json": {"x": ALL},
        "named.json": named,
        "models.json": {"nodes": [{"id": 1, "type": "X", "properties": {"models": [model]}}], "links": []},
        "lines.jsonl": {f"width{ALL}": ALL},
        "object_info.json": {"X": {"input": ALL}, ALL: ALL},
    }
    for name, content in made.items():
        (tmp_path / name).write_text(json.dumps(content) + "\n")
    (tmp_path / "ComfyUI" / "models").mkdir(parents=True)
    return tmp_path


def require_clean(ended: Ended) -> None:
    """Nothing unsafe was written, but for what draws our own lines; and no traceback."""
    for text in (ended.out, ended.said):
        # A line feed comes to a terminal as CR LF.
        left = OURS.sub(b"", text.replace(b"\r\n", b"\n")).decode("utf-8", "surrogateescape")
        found = UNSAFE.search(left)
        assert found is None, (found, left[max(0, found.start() - 300) : found.end() + 300])
        assert "Traceback" not in left, left
        assert len(left) < 60_000


def in_process(*words: str, folder: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """The command with pipes, quicker than as a process of its own."""
    monkeypatch.setenv("KANDIFLUX_SERVER", server)
    monkeypatch.chdir(folder)
    shown = CliRunner().invoke(app, list(words))
    assert shown.exception is None or isinstance(shown.exception, SystemExit), shown.exception
    return Ended(shown.exit_code, shown.stdout_bytes, shown.stderr_bytes, 0.0)


COMMANDS = [
    "run plain.json", "run unknown.json", "run plain.json --set tilt=3", "run neither.json", "run named.json --set q=1",
    "run models.json", "rerun plain.json", "params plain.json", "params named.json", "params unknown.json",
    "check plain.json", "check unknown.json", "check named.json", "check models.json --comfyui ComfyUI",
    "convert unknown.json", "convert named.json", "convert plain.json --object-info object_info.json",
    "queue", "cancel --all", "cancel abcd", "interrupt", "free", "doctor unknown.json",
    "batch plain.json --grid 1.width=8,16", "batch plain.json --jobs lines.jsonl",
    "batch plain.json --grid a=1 --dry-run",
]  # fmt: skip


@pytest.mark.parametrize("line", [*COMMANDS, "models pull models.json --comfyui ComfyUI"])
def test_no_text_of_a_server_or_a_file_is_obeyed(
    line: str, stub: StubServer, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_clean(on_a_terminal(*line.split(), folder=files, KANDIFLUX_SERVER=stub.url))
    require_clean(in_process(*line.split(), folder=files, server=stub.url, monkeypatch=monkeypatch))


@pytest.mark.parametrize("line", ["run plain.json", "batch plain.json --grid 1.width=8,16"])
@pytest.mark.parametrize("kind", ["node fails", "refused", "strange refusal", "no file", "page instead of a file"])
def test_no_error_of_a_server_is_obeyed(line: str, kind: str, stub: StubServer, files: Path) -> None:
    if kind == "node fails":
        stub.status = {"status_str": "error", "completed": False, "messages": [["execution_error", FAILURE]]}
    elif kind == "refused":
        stub.reactions["POST /prompt"] = Answer(REFUSAL, 400)
    elif kind == "strange refusal":
        stub.reactions["POST /prompt"] = Answer(HTML, 418)
    elif kind == "no file":
        stub.reactions["GET /view"] = Answer(HTML, 410)
    else:
        stub.reactions["GET /view"] = html
    ended = on_a_terminal(*line.split(), folder=files, KANDIFLUX_SERVER=stub.url)
    assert ended.code != 0
    require_clean(ended)
    if report := [*files.glob("*/batch-report.html")]:
        assert not UNSAFE.search(report[0].read_text("utf-8"))
        assert len(report[0].read_text("utf-8")) < 100_000


def test_json_has_the_whole_message(stub: StubServer, files: Path) -> None:
    stub.status = {"status_str": "error", "completed": False, "messages": [["execution_error", FAILURE]]}
    ended = kandiflux("run", "plain.json", "--json", folder=files, KANDIFLUX_SERVER=stub.url)
    error = json.loads(ended.out.decode().splitlines()[-1])
    assert str(FAILURE["exception_message"]) in error["message"]
    assert not UNSAFE.search(ended.out.decode().replace("\n", ""))
    assert len(ended.said) < 10_000
    assert b"characters left out" in ended.said


NOT_COMFYUI = [
    "run plain.json", "rerun plain.json", "params plain.json", "check plain.json", "convert named.json", "queue",
    "cancel --all", "interrupt", "free", "doctor", "batch plain.json --grid 1.width=8,16",
]  # fmt: skip


@pytest.mark.parametrize("line", NOT_COMFYUI)
def test_a_server_that_is_not_a_comfyui_is_told_shortly_with_exit_code_3(
    line: str, stub: StubServer, files: Path
) -> None:
    stub.reactions = {"": html}
    ended = kandiflux(*line.split(), folder=files, KANDIFLUX_SERVER=stub.url)
    assert ended.code == 3, ended.said
    assert ended.said.count(b"\n") <= 6
    assert len(ended.said) < 1500
    require_clean(ended)


# Encodings


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
@pytest.mark.parametrize(
    "line",
    ["run plain.json", "run plain.json --json", "params plain.json", "workflows", "doctor unknown.json", "queue",
     "check unknown.json", "convert unknown.json", "prompt lint masterpiece,кот",
     "prompt compose --subject лиса", "run кот", "servers",
     "batch plain.json --grid 1.width=8 --name кот_{index}", "run plain.json --out кот"],
)  # fmt: skip
def test_no_output_encoding_fails(line: str, encoding: str, stub: StubServer, files: Path) -> None:
    text = (files / "plain.json").read_text()
    (files / "plain.json").write_text(text.replace("Canvas", "Холст 画布"))
    ended = kandiflux(*line.split(), folder=files, KANDIFLUX_SERVER=stub.url, PYTHONIOENCODING=encoding)
    assert b"Traceback" not in ended.said, ended.said.decode()
    refused = line in ("run кот", "check unknown.json", "doctor unknown.json")
    assert ended.code == (2 if refused else 0), ended.said
    if "--json" in line:
        for written in ended.out.decode(encoding.partition(":")[0]).splitlines():
            json.loads(written)


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_that_are_not_text(encoding: str, stub: StubServer, files: Path) -> None:
    """A program that reads the path can open it; nothing fails for it."""
    folder = os.fsencode(files)
    os.rename(files / "plain.json", os.path.join(folder, b"pl\xffain.json"))  # noqa: PTH104, PTH118
    named = {"folder": files, "KANDIFLUX_SERVER": stub.url, "PYTHONIOENCODING": encoding}
    ended = kandiflux("run", b"pl\xffain.json", "--out", b"o\xfft", "--sidecar", **named)
    assert ended.code == 0, ended.said
    (path,) = ended.out.splitlines()
    with open(os.path.join(folder, path), "rb") as file:  # noqa: PTH118, PTH123
        assert file.read(4) == b"\x89PNG"
    ended = kandiflux("batch", b"pl\xffain.json", "--out", b"b\xfft", "--grid", "1.width=8,16", **named)
    assert (ended.code, len(ended.out.splitlines())) == (0, 2), ended.said
    ended = kandiflux("run", b"pl\xff.json", **named)
    assert ended.code == 2
    require_clean(ended)


def test_names_that_no_file_can_have(stub: StubServer, files: Path) -> None:
    for words in (("run", "a" * 5000), ("run", "plain.json", "--set", "1.image=" + "a" * 5000),
                  ("run", "~nobody~/x.json"), ("batch", "plain.json", "--jobs", "~nobody~/x.csv"),
                  ("batch", "plain.json", "--jobs", "a" * 5000 + ".csv"), ("params", "a\n" * 300)):  # fmt: skip
        ended = kandiflux(*words, folder=files, KANDIFLUX_SERVER=stub.url)
        assert ended.code == 2, (words[:2], ended.said)
        require_clean(ended)
