"""Values and headers as typed on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from kandiflux.assignments import parse_assignments, parse_headers
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
