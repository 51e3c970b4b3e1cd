"""Values and headers as typed on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from kandiflux.cli.assignments import parse_assignments, parse_headers
from kandiflux.errors import UsageError


def test_assignments() -> None:
    typed = ["prompt=a=b", '"A = B".text= x', "seed=", " steps =3", "mail=@@me"]
    assert parse_assignments(typed) == {
        "prompt": "a=b",
        '"A = B".text': " x",
        "seed": "",
        "steps": "3",
        "mail": "@me",
    }


def test_a_value_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("красный круг\n", "utf-8")
    assert parse_assignments([f"prompt=@{tmp_path / 'p.txt'}"]) == {"prompt": "красный круг"}
    with pytest.raises(UsageError, match="@@"):
        parse_assignments(["prompt=@nowhere.txt"])


@pytest.mark.parametrize("text", ["prompt", "=x", ""])
def test_what_is_no_assignment(text: str) -> None:
    with pytest.raises(UsageError, match="name=value"):
        parse_assignments([text])


def test_headers() -> None:
    assert parse_headers(["Authorization: Bearer a:b"]) == {"Authorization": "Bearer a:b"}
    with pytest.raises(UsageError, match="Name: value"):
        parse_headers(["nonsense"])


def test_the_last_value_of_a_name_counts_and_quotes_hold_anything() -> None:
    assert parse_assignments(["a=1", "b=2", "a=3"]) == {"a": "3", "b": "2"}
    assert parse_assignments(["'a=b'.c=d", '"x"=y']) == {"'a=b'.c": "d", '"x"': "y"}
    assert parse_assignments(['"never closed=1']) == {'"never closed': "1"}
    assert parse_headers(["X-A:1", "X-B: 2 ", "X-A: 3"]) == {"X-A": "3", "X-B": "2"}
    for wrong in (": value", "  : value", ""):
        with pytest.raises(UsageError, match="--header cannot be read"):
            parse_headers([wrong])


def test_only_the_end_of_the_last_line_of_a_file_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "p.txt").write_bytes(b" a\nb \r\n\n")
    assert parse_assignments(["x=@~/p.txt"]) == {"x": " a\nb "}
    (tmp_path / "p.txt").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="value of x cannot be read"):
        parse_assignments(["x=@~/p.txt"])
