"""What is printed: escaped, cut, and in every encoding."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import terminal
from kandiflux.util.safe_text import UNSAFE, escaped, one_line, shortened

from tests.support.screen import on_screen

SURROGATE = "\ud800"


def test_every_control_character_is_unsafe_but_for_tab_and_line_feed() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char not in "\t\n":
            assert UNSAFE.search(char), hex(code)
    for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)):
        assert UNSAFE.search(chr(code)), hex(code)


def test_letters_of_all_languages_stay() -> None:
    text = "masterpiece, кот, 狐狸, Füchse, नमस्ते, שלום, 👩‍🚀 a\u00a0b\tc\nd"
    assert escaped(text) == text


def test_escaped_text_shows_what_there_was() -> None:
    assert escaped("a\x1b]0;x\x07\x9b2J\u202eb\rc\r\nd" + SURROGATE) == (
        "a\\x1b]0;x\\x07\\x9b2J\\u202eb\\x0dc\nd\\ud800"
    )


@pytest.mark.parametrize("text", ["x" * 100_000, "x\n" * 100_000, "\n" * 100_000, "x" * 50_000 + "\n" * 50_000])
def test_long_text_keeps_head_and_tail(text: str) -> None:
    cut = shortened(f"head{text}tail", 1000, 20)
    assert cut.startswith("head")
    assert cut.endswith("tail")
    assert "left out" in cut
    assert len(cut) < 1200
    assert cut.count("\n") < 24


def test_short_text_is_not_cut() -> None:
    assert shortened("a\nb") == "a\nb"
    assert one_line(" a\n b\tc ") == "a b c"


@pytest.mark.parametrize("text", ["y" * 500, "y " * 500_000, "\x1b" * 500])
def test_one_line_is_one_line_of_its_length(text: str) -> None:
    assert len(one_line(text, 120)) <= 120
    assert "\n" not in one_line(text + "\n" + text, 120)


VALUES = [
    {"text": "кот 狐狸 \x1b\x7f\x9b\u202e\u2028 " + SURROGATE, "astral": "👩‍🚀"},
    {"list": [1, 2.5, None, True, float("nan"), float("inf"), (float("-inf"),)]},
    ["é" * 3, {"é": "\x85"}],
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp437", "ascii", "utf-16"])
def test_json_is_valid_and_whole_in_every_encoding(
    value: object, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, newline=""))
    terminal.print_json(value)
    text = raw.getvalue().decode(encoding)
    assert not UNSAFE.search(text)
    assert text.count("\n") == 1

    def refuse(word: str) -> float:
        raise AssertionError(word)

    read = json.loads(text, parse_constant=refuse)
    if "nan" not in str(value):
        assert read == value


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp437", "ascii"])
def test_no_letter_raises(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    handlers = logging.root.handlers[:]
    monkeypatch.setattr(logging.root, "handlers", [])
    terminal.prepare()
    logging.warning("кот \x1b]0;x\x07 %s", SURROGATE)
    assert logging.root.handlers != handlers
    terminal.print_message("кот 狐狸 " + SURROGATE)
    terminal.print_result("кот …")
    terminal.print_path("кот/\udcff.png")
    terminal.print_table(("a",), [("кот\x1b",)])
    said = streams["stderr"].buffer.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert b"\x1b" not in said
    assert b"WARNING" in said
    out = streams["stdout"].buffer.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert out.splitlines()[1].endswith(b"/\xff.png"), "the name's own bytes, for the program that reads it"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"NO_COLOR": "1"}, False),
    ],
)
def test_colours_as_the_environment_says(
    variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal.print_message("Error: [bold]x[/] :smile:", style="red")
    said = capsys.readouterr().err
    assert ("\x1b[31m" in said) == coloured
    assert "Error: [bold]x[/] :smile:" in said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": Path("x"), "b": (1, float("nan"), [float("-inf"), 2.5])}, '{"a": "x", "b": [1, null, [null, 2.5]]}'),
        ({"nan": float("nan"), "path": Path("кот")}, '{"nan": null, "path": "кот"}'),
        ("кот", '"кот"'),
        ("a\x1b\x9b\u2028", '"a\\u001b\\u009b\\u2028"'),
        (SURROGATE, '"\\ud800"'),
        (SURROGATE + "\x9b", '"\\ud800\\u009b"'),
        (True, "true"),
    ],
)
def test_a_value_as_json(value: object, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json(value)
    assert capsys.readouterr().out == f"{text}\n"


def test_json_for_people_is_indented_and_an_event_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("x", SURROGATE, float("nan")):
        terminal.print_json({"a": value}, indent=2)
        assert capsys.readouterr().out.startswith('{\n  "a": ')
    terminal.print_event({"event": "x"})
    assert capsys.readouterr().out == '{"schema_version": 1, "event": "x"}\n'


def test_a_long_message_keeps_head_and_tail(capsys: pytest.CaptureFixture[str]) -> None:
    for text, cut in (("x" * 20_000, False), ("x" * 20_001, True), ("x\n" * 399, False), ("x\n" * 400, True)):
        terminal.print_message(text)
        shown = capsys.readouterr()
        assert (shown.out, "left out" in shown.err) == ("", cut), len(text)


def test_a_table_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table(("a", "b"), [(" x\n y ", "\x1b"), ("", "z"), ("w", ""), ("l" * 2_000, "")])
    assert capsys.readouterr().out == f"a\tb\nx y\t\\x1b\n\tz\nw\n{'l' * 2_000}\n"


def test_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch, "stdout")
    terminal.print_table(("name", "about"), [("[red]x\n y\x1b", "z" * 3_000), ("b", "c")])
    head, line, first, *others = [text.strip() for text in screen.text.splitlines() if text.strip()]
    assert (head.split(), set(line)) == (["name", "about"], {"─"})
    assert first.startswith("[red]x y\\x1b   zzz")
    assert others[-1].split() == ["b", "c"]
    assert screen.text.count("z") == 1_000 - len(" … ")
    assert all(len(text) <= 200 for text in screen.text.splitlines())


def test_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch, "stderr")
    terminal.print_parts(("plain ", ""), ("[b]red\x1b", "red"), ("x" * 300, ""), stream=sys.stderr)
    assert "plain \x1b[31m[b]red\\x1b\x1b[0mxxx" in screen.getvalue()
    assert screen.text.splitlines() == ["plain [b]red\\x1b" + "x" * 300], "long lines are the terminal's to wrap"
    screen.seek(screen.truncate(0))
    terminal.print_parts(("a\x1b", ""), ("b", ""), stream=sys.stderr)
    assert screen.getvalue() == "a\\x1bb\n"


def test_paths_are_escaped_for_people_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_path("a\x1b.png")
    terminal.print_path(Path("b.png"))
    assert capsys.readouterr().out == "a\x1b.png\nb.png\n"
    screen = on_screen(monkeypatch, "stdout")
    terminal.print_path("a\x1b.png")
    assert screen.getvalue() == "a\\x1b.png\n"


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, io.BytesIO]]]:
    """Sets up standard streams in ASCII as the commands do; gives the bytes that are written."""

    def prepare() -> dict[str, io.BytesIO]:
        raw = {name: io.BytesIO() for name in ("stdout", "stderr")}
        for name, written in raw.items():
            monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding="ascii", newline=""))
        monkeypatch.setattr(logging.root, "handlers", [])
        terminal.prepare()
        return raw

    level = logging.root.level
    yield prepare
    logging.root.setLevel(level)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a\udc80\udcff.png", b"a\x80\xff.png"),
        ("\udc7f", b"\\udc7f"),
        ("\udd00", b"\\udd00"),
        ("é1", b"\\xe91"),
        ("é\udc80é", b"\\xe9\x80\\xe9"),
    ],
)
def test_the_bytes_of_a_file_name_are_written_as_they_are(name: str, written: bytes, prepared: Any) -> None:
    raw = prepared()
    terminal.print_path(name)
    assert raw["stdout"].getvalue() == written + b"\n"


def test_a_stream_that_cannot_be_read_is_no_matter_of_file_names(prepared: Any) -> None:
    prepared()
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", "kandiflux-file-names")


def test_what_is_logged(prepared: Any) -> None:
    raw = prepared()
    log = logging.getLogger("kandiflux.test")
    log.info("not this")
    log.warning("a\x1b%s", "\n" * 500)
    said = raw["stderr"].getvalue().decode()
    assert said.startswith("WARNING: a\\x1b\n")
    assert "lines left out" in said
    assert "not this" not in said
    terminal.log_to_stderr(logging.INFO, "%(message)s!")
    log.info("this")
    assert raw["stderr"].getvalue().decode().removeprefix(said) == "this!\n", "once, and as it is wanted now"
