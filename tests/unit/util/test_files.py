"""Whether results can be saved in a folder: what is asked of the disk, and that nothing is left there."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest
from kandiflux.errors import OutputError, UsageError
from kandiflux.util.files import require_writable, written_whole


def test_a_folder_that_is_there_or_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "a" / "b" / "c"):
        require_writable(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"], "nothing is left"


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "a", tmp_path / ("a" * 300)):
        with pytest.raises(UsageError, match="cannot be written to") as refused:
            require_writable(folder)
        assert refused.value.parameter == "folder"


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSPC, OutputError), (errno.EDQUOT, OutputError), (errno.EFBIG, OutputError), (errno.EACCES, UsageError),
     (errno.EROFS, UsageError)],
)  # fmt: skip
def test_a_full_disk_is_not_the_users_fault(
    code: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(kind, match="cannot be written to: no"):
        require_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == [], "what was made for the question is removed"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    with written_whole(path) as part:
        assert part.parent == tmp_path
        part.write_text("first")
        assert not path.exists()
    with pytest.raises(UnicodeEncodeError), written_whole(path) as part:
        part.write_text("half \ud800", "utf-8")
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["notes.json"]
