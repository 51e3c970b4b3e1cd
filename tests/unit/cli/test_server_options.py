"""Which server the options name, and what is sent to it with every request."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.cli import server_options as reach
from kandiflux.cli.server_options import Reach
from kandiflux.errors import UsageError
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.stub_server import StubServer, prompt

EMPTY = {"queue_running": [], "queue_pending": []}
HOW = {"--server", "--header", "--user", "--token-env", "--ca-bundle", "--insecure", "--cert"}


@pytest.fixture
def seen() -> list[dict[str, str]]:
    """The headers of each GET /queue."""
    return []


@pytest.fixture(autouse=True)
def stub(seen: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubServer]:
    def answer(handler: Any) -> dict[str, Any]:
        seen.append(dict(handler.headers))
        return EMPTY

    with StubServer({"GET /queue": answer}).serving() as stub:
        for name in ("KANDIFLUX_SERVER", "KANDIFLUX_TOKEN", "KANDIFLUX_PASSWORD", "KANDIFLUX_CONFIG"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
        monkeypatch.chdir(tmp_path)
        yield stub


def queue(*words: str, command: str = "queue") -> Result:
    return RUNNER.invoke(app, [command, *words])


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_what_is_sent(stub: StubServer, seen: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T", "token")
    monkeypatch.setenv("KANDIFLUX_PASSWORD", "secret")
    for words, name, value in (
        (("--header", "X-Key: a b", "--header", "X-Other: c"), "X-Key", "a b"),
        (("--header", "X-Key: a b", "--header", "X-Other: c"), "X-Other", "c"),
        (("--user", "anna:pw"), "Authorization", basic("anna:pw")),
        (("--user", "anna"), "Authorization", basic("anna:secret")),
        (("--token-env", "T"), "Authorization", "Bearer token"),
        ((), "Authorization", None),
    ):
        assert queue("--server", stub.url, *words).exit_code == 0
        assert seen[-1].get(name) == value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--user", "anna"), "There is no password for anna."),
        (("--user", "anna:x", "--token-env", "T"), "Both a user and a token are given."),
        (("--token-env", "NOT_SET"), "NOT_SET is not set"),
        (("--insecure", "--ca-bundle", "x.pem"), "--insecure and --ca-bundle are both given."),
        (("--ca-bundle", "x.pem"), "There is no CA bundle x.pem."),
        (("--cert", "x.pem"), "There is no client certificate x.pem."),
        (("--cert", "there.pem,key.pem"), "There is no client certificate key.pem."),
        (("--header", "nonsense"), "--header cannot be read."),
        (("--server", "gpuu"), "There is no server called 'gpuu'."),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_sent(words: tuple[str, ...], said: str, stub: StubServer) -> None:
    Path("there.pem").touch()
    for command in ("queue", "params"):
        arguments = (str(Path("w.json")),) if command == "params" else ()
        Path("w.json").write_text(json.dumps(prompt()))
        shown = queue(*arguments, "--server", stub.url, *words, command=command)
        assert (shown.exit_code, shown.stdout) == (2, "")
        assert said in shown.stderr
    assert stub.asked == []


def test_a_password_is_asked_for_on_a_terminal_and_never_shown(
    stub: StubServer, seen: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(text: str, **how: Any) -> str:
        asked.append((text, how))
        return "typed"

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("typer.prompt", ask)
    monkeypatch.setattr(reach.sys, "stdin", Terminal())
    assert Reach(user="anna").connection(stub.url).headers["Authorization"] == basic("anna:typed")
    assert asked == [("Password for anna", {"hide_input": True, "err": True})]


def test_the_option_goes_before_the_environment_and_that_before_the_file(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = 'default_server = "{}"\n[servers.gpu]\nurl = "http://gpu.invalid"\n[servers.desk]\nurl = "http://desk"\n'
    Path("kandiflux.toml").write_text(named.format("gpu"))
    assert Reach().resolved().server == "gpu"
    monkeypatch.setenv("KANDIFLUX_SERVER", "desk")
    assert Reach().resolved().server == "desk"
    assert Reach(server="http://x").resolved().server == "http://x"
    assert Reach(server="gpu").connection("gpu").url == "http://gpu.invalid"
    assert Reach(server="lite", user="a").resolved() == Reach(server="lite", user="a")


def test_certificates() -> None:
    for name in ("ca.pem", "both.pem", "key.pem"):
        Path(name).touch()
    assert Reach(cert="both.pem,key.pem").connection("https://x").cert == ("both.pem", "key.pem")
    assert Reach(cert="both.pem").connection("https://x").cert == "both.pem"
    assert Reach().connection("https://x").cert is None
    assert Reach(ca_bundle=Path("ca.pem")).connection("https://x").verify == "ca.pem"
    assert [Reach(insecure=yes).connection("https://x").verify for yes in (False, True)] == [True, False]
    with pytest.raises(UsageError, match="both given"):
        Reach(insecure=True, ca_bundle=Path("ca.pem")).connection("https://x")


@pytest.mark.parametrize(
    "command", ["run", "rerun", "check", "queue", "cancel", "interrupt", "free", "doctor", "convert", "params", "batch"]
)
def test_every_command_that_talks_to_a_server_has_the_same_options(command: str) -> None:
    shown = RUNNER.invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert {word for word in HOW if word in shown.stdout} == HOW
    assert "Reaching the server" in shown.stdout


def test_without_a_saved_object_info_the_server_is_asked(stub: StubServer) -> None:
    Path("w.json").write_text(json.dumps(prompt()))
    shown = queue("w.json", "--server", stub.url, command="params")
    assert shown.stdout.splitlines()[1].startswith("1.width\tINT\t64\t1 … 4096\tCanvas")
    assert stub.asked == ["GET /object_info"]


def test_a_saved_object_info_needs_no_server(stub: StubServer) -> None:
    Path("w.json").write_text(json.dumps(prompt()))
    info = stub.usual("GET", "/object_info", None)
    Path("info.json").write_text(json.dumps(info))
    words = ("w.json", "--server", "http://127.0.0.1:9", "--object-info", "info.json")
    assert queue(*words, command="params").stdout.splitlines()[1].startswith("1.width\tINT\t64\t1 … 4096\tCanvas")
    for content in ("[]", '{"A": 3}', '{"A": {}}', "{", None):
        if content is None:
            Path("info.json").unlink()
        else:
            Path("info.json").write_text(content)
        shown = queue(*words, command="params")
        assert (shown.exit_code, shown.stdout) == (2, "")
        assert "object_info" in shown.stderr
