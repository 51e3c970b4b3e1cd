"""Long texts, cut to head and tail at their exact bounds."""

from __future__ import annotations

import pytest
from kandiflux.util.safe_text import escaped, one_line, shortened


@pytest.mark.parametrize(
    ("text", "limit", "lines", "cut"),
    [
        ("abcdef", 6, 9, "abcdef"),
        ("abcdefg", 6, 9, "abcd\n… 1 characters left out …\nfg"),
        ("0123456789", 9, 9, "012345\n… 1 characters left out …\n789"),
        ("a\nb\nc", 99, 3, "a\nb\nc"),
        ("a\nb\nc\nd", 99, 3, "a\nb\n… 1 lines left out …\nd"),
        ("1\n2\n3\n4\n5\n6\n7\n8", 99, 6, "1\n2\n3\n4\n… 2 lines left out …\n7\n8"),
    ],
)
def test_shortened(text: str, limit: int, lines: int, cut: str) -> None:
    assert shortened(text, limit, lines) == cut


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [
        (" a \n b\t", 9, "a b"),
        ("abcdefghi", 9, "abcdefghi"),
        ("abcdefghij", 9, "abc … hij"),
        ("abcdefghijkl", 10, "abcd … jkl"),
        ("a\x1bb", 9, r"a\x1bb"),
        ("x" * 1000 + "end", 12, "xxxxx … xend"),
    ],
)
def test_one_line(text: str, limit: int, line: str) -> None:
    assert one_line(text, limit) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc\r\nd\re", "a\tb\nc\nd\\x0de"),
        ("\0\x1f\x7f\x80\xa0é", "\\x00\\x1f\\x7f\\x80\xa0é"),
        ("\x9f", "\\x9f"),
        ("\u061c\u200e\u202a\u2028\ud800\uffff", "\\u061c\\u200e\\u202a\\u2028\\ud800\uffff"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_how_long_a_text_is_shown_if_nothing_else_is_said() -> None:
    assert shortened("x" * 4000) == "x" * 4000
    assert "… 2 characters left out …" in shortened("x" * 4001)
    hundred = "\n".join(["x"] * 100)
    assert shortened(hundred) == hundred
    assert "… 2 lines left out …" in shortened(f"{hundred}\nx")
    assert one_line("x" * 200) == "x" * 200
    assert len(one_line("x" * 201)) == 200
