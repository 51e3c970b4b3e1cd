"""`kandiflux check` and how every command tells an error: tables, summaries, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from kandiflux.cli import app
from kandiflux.cli.check_command import in_bytes
from kandiflux.cli.common import print_error, reporting_errors
from kandiflux.errors import AccessDenied, InvalidPrompt, KandifluxError, ServerUnreachable, UsageError
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.stub_server import StubServer

INFO: dict[str, Any] = {
    "Loader": {"input": {"required": {"lora": [["there.pt"]]}}, "output": [], "output_node": True},
    "Steps": {"input": {"required": {"steps": ["INT", {"min": 1, "max": 9}]}}, "output": [], "output_node": True},
}


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubServer]:
    with StubServer({"GET /object_info": INFO}).serving() as stub:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KANDIFLUX_SERVER", stub.url)
        yield stub


def model(name: str, size: int | None = None, url: str | None = None) -> dict[str, Any]:
    about = {"name": name, "directory": "loras", "url": url or f"https://huggingface.co/a/b/resolve/main/{name}"}
    return {**about, "size": size} if size is not None else about


def check(*words: str, models: list[dict[str, Any]] | None = None, steps: int = 3) -> Result:
    nodes: list[dict[str, Any]] = [{"id": 1, "type": "Steps", "title": "How many", "widgets_values": [steps]}]
    for number, about in enumerate(models or (), 2):
        nodes.append({"id": number, "type": "Loader", "widgets_values": [about["name"]], "properties": {
            "models": [about]}})  # fmt: skip
    Path("w.json").write_text(json.dumps({"nodes": nodes, "links": []}))
    return RUNNER.invoke(app, ["check", "w.json", *words])


def test_a_workflow_that_would_run(stub: StubServer) -> None:
    shown = check()
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == f"w.json: nothing is missing on {stub.url}.\n"
    assert check("--quiet").stderr == ""
    answer = json.loads(check("--json").stdout)
    assert answer == {"workflow": "w.json", "checked_against": stub.url, "ok": True, "findings": []}


def test_what_is_wrong_is_a_table_and_exit_code_2(stub: StubServer) -> None:
    shown = check(steps=10)
    assert shown.exit_code == 2
    head, row = shown.stdout.splitlines()
    assert head == "what\tnode\tinput\tproblem\tto do"
    assert row.startswith("out of range\tHow many (1, Steps)\tsteps\tsteps is out of range")
    assert shown.stderr == "w.json: 1 missing or invalid.\n"
    quiet = check("--quiet", steps=10)
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (2, shown.stdout, "")
    answer = json.loads(check("--json", steps=10).stdout)
    assert (answer["ok"], [finding["kind"] for finding in answer["findings"]]) == (False, ["out_of_range"])


def test_missing_files_are_a_table_of_their_own(stub: StubServer) -> None:
    shown = check(models=[model("there.pt"), model("a.safetensors"), model("b.safetensors")])
    assert shown.exit_code == 2
    lines = shown.stdout.splitlines()
    assert lines[3:5] == ["", "file\tfolder\tsize\thash\tfrom"]
    assert [line.split("\t")[:2] for line in lines[5:]] == [
        ["a.safetensors", "models/loras"], ["b.safetensors", "models/loras"],
    ]  # fmt: skip
    said = "`kandiflux models pull w.json --comfyui PATH` downloads 2 of the files.\n"
    assert shown.stderr == f"w.json: 2 missing or invalid.\n{said}"
    Path("info.json").write_text(json.dumps(INFO))
    shown = check("--object-info", "info.json", "--server", "http://127.0.0.1:9", models=[model("a.safetensors")])
    assert shown.stderr.endswith("--comfyui PATH` downloads 1 of the files.\n")


def test_a_server_that_is_not_there_is_exit_code_3() -> None:
    shown = check("--server", "http://127.0.0.1:9")
    assert (shown.exit_code, shown.stdout) == (3, "")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (10**6, "1.0 MB"),
        (23_840_000_000, "23.8 GB"), (10**9, "1.0 GB"), (10**9 - 1, "1000.0 MB"),
    ],
)  # fmt: skip
def test_sizes_in_words(size: int, text: str) -> None:
    assert in_bytes(size) == text


# Errors


def test_an_error_is_told_with_what_was_expected_what_came_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(UsageError("It is wrong.", expected="a", got="b\nc", hint="Do d."))
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "Error: It is wrong.\n  expected: a\n  got:      b c\n  hint:     Do d.\n")
    print_error(UsageError("It is wrong.", hint="Do d.", parameter="folder"))
    assert capsys.readouterr().err == "Error: It is wrong.\n  hint:     Do d. (--out)\n"
    print_error(UsageError("It is wrong.", got=""))
    assert capsys.readouterr().err == "Error: It is wrong.\n  got:      \n"
    print_error(UsageError("x" * 10_000, got="y" * 10_000))
    assert len(capsys.readouterr().err) < 5_000


@pytest.mark.parametrize(
    ("error", "code"),
    [(KandifluxError("x"), 1), (UsageError("x"), 2), (InvalidPrompt("x"), 2), (AccessDenied("x"), 2),
     (ServerUnreachable("x"), 3)],
)  # fmt: skip
@pytest.mark.parametrize("as_json", [False, True])
def test_exit_codes(error: KandifluxError, code: int, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reporting_errors(as_json):
        raise error
    shown = capsys.readouterr()
    assert (ended.value.exit_code, shown.err) == (code, "Error: x\n")
    if as_json:
        assert json.loads(shown.out) == {"schema_version": 1, "event": "error", **error.as_dict()}
    else:
        assert shown.out == ""
