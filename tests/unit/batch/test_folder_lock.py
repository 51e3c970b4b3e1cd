"""One batch a folder: who holds it, and what is left there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from kandiflux.batch.folder_lock import HOLDER, held_folder
from kandiflux.errors import OutputError, UsageError


def test_a_folder_is_made_and_held(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "one"
    with held_folder(folder):
        assert (folder / HOLDER).read_text() == f"{os.getpid()}\n"
        with (
            pytest.raises(UsageError, match=rf"running in {folder} \(process {os.getpid()}\)\.") as refused,
            held_folder(folder),
        ):
            pass
        assert refused.value.parameter == "folder"
        assert (folder / HOLDER).exists(), "it is still the first one's"
        (folder / HOLDER).unlink()
        with pytest.raises(UsageError, match=rf"running in {folder}\."), held_folder(folder):
            pass
    assert not (folder / HOLDER).exists()
    with held_folder(folder):
        pass
    assert not (folder / HOLDER).exists()


def test_a_failure_lets_go_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held_folder(tmp_path):
        raise ZeroDivisionError
    ended: list[bool] = []

    def hold() -> None:
        with held_folder(tmp_path):
            ended.append(True)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert ended == [True]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"file cannot be written to: File exists\.") as refused,
        held_folder(tmp_path / "file"),
    ):
        pass
    assert refused.value.parameter == "folder"


def test_a_process_id_that_cannot_be_written_or_removed_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / HOLDER / "folder").mkdir(parents=True)
    for _ in range(2):
        with held_folder(tmp_path), pytest.raises(UsageError, match=rf"running in {tmp_path}\."), held_folder(tmp_path):
            pass
