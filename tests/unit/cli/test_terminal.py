"""What is printed: escaped, cut, and in every encoding."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata

import pytest
from kandiflux.cli import terminal
from kandiflux.util.safe_text import UNSAFE, escaped, one_line, shortened

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
