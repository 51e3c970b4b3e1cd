"""How every command tells an error, and saved answers of /object_info."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import typer
from kandiflux.cli.common import print_error, reporting, reporting_errors, saved_object_info
from kandiflux.cli.signals import SignalReceived
from kandiflux.errors import AccessDenied, InvalidPrompt, KandifluxError, ServerUnreachable, UsageError


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


@pytest.mark.parametrize(
    ("parameter", "option"),
    [
        ("server", " (--server)"), ("restart", " (--restart)"), ("check", " (--no-check)"),
        ("credentials", " (--user, --token-env or --header)"), ("verify", " (--ca-bundle)"),
        ("timeout", " (--timeout)"), ("comfyui", " (--comfyui)"), ("python", " (--python)"),
        ("projection", " (--projection)"), ("overwrite", " (--out, --force)"), ("tokens", " (--token-env)"),
        ("only", " (--only)"), ("something else", ""), (None, ""),
    ],
)  # fmt: skip
def test_a_hint_names_the_option(parameter: str | None, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_error(UsageError("It is wrong.", hint="Name it.", parameter=parameter))
    assert capsys.readouterr().err == f"Error: It is wrong.\n  hint:     Name it.{option}\n"


def test_what_came_is_cut_to_one_line_and_the_rest_to_some(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(UsageError("m" * 9_000, expected="e" * 9_000, got="g" * 9_000, hint="h" * 9_000))
    said = capsys.readouterr().err
    assert len(said.split("got:      ")[1].split("\n")[0]) == 300
    for letter in "meh":
        assert 3_999 <= said.count(letter) < 4_100
    print_error(UsageError("It is wrong.", expected=""))
    assert capsys.readouterr().err == "Error: It is wrong.\n  expected: \n"


@pytest.mark.parametrize(
    ("interrupt", "code"),
    [(KeyboardInterrupt(), 130), (SignalReceived(signal.SIGTERM), 143), (SignalReceived(signal.SIGHUP), 129)],
)
def test_a_signal_is_an_exit_code_and_no_error(
    interrupt: KeyboardInterrupt, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, reporting(True):
        raise interrupt
    assert (ended.value.exit_code, capsys.readouterr()) == (code, ("", ""))


def test_a_block_without_error_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(True):
        pass
    with pytest.raises(ZeroDivisionError), reporting(True):
        _ = 1 / 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content", ['{"A": {"input": {}}}', "{}", '{"A": {"input": {"required": {}}, "output": []}, "B": {"input": {}}}']
)
def test_an_answer_of_object_info(content: str, tmp_path: Path) -> None:
    file = tmp_path / "info.json"
    file.write_text(content)
    assert saved_object_info(file) == json.loads(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "is not a valid object_info"), ('{"A": 3}', "is not a valid object_info"),
        ('{"A": {}}', "is not a valid object_info"), ('{"A": {"input": {}}, "B": {}}', "is not a valid object_info"),
        ("{", "cannot be read as object_info"), (None, "cannot be read as object_info"),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_object_info(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "info.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=said):
        saved_object_info(file)
