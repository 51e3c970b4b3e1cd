"""Lines of values read from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from kandiflux.batch.grid import read_lines
from kandiflux.errors import UsageError


def test_lines_without_comments_and_empty_ones(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa fox\r\n\n  # no\n a\u2028cat \n#b\n".encode())
    assert read_lines(file) == ["a fox", "a\u2028cat"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"prompts.txt cannot be read: No such file or directory\."),
        (b"\xff\xfe", r"cannot be read: 'utf-8' codec can't decode"),
        (b"# only\n\n", "contains no values"),
    ],
)
def test_a_file_that_holds_none(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_lines(file)
