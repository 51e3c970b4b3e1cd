"""Saving what a job made under the job's own name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kandiflux.batch.ledger import Saved
from kandiflux.batch.saving import remove_partials, save_outputs
from kandiflux.errors import OutputError, OutputMissing, ServerUnreachable
from kandiflux.jobs.outputs import Output

from tests.support.fake_comfyui import PNG


def output(name: str, data: bytes = PNG) -> Output:
    return Output("image", "2", "Result", name, data=data)


@dataclass
class Failing:
    """A server that does not hand the file out."""

    error: Exception

    def view(self, *_: object, **__: object) -> Iterator[bytes]:
        raise self.error
        yield b""


def test_files_get_the_name_of_their_job(tmp_path: Path) -> None:
    outputs = [output("x.png"), output("y.png"), output("z.webp", b"RIFF\0\0\0\0WEBP"), output("u.png")]
    saved = save_outputs(outputs, tmp_path, "sub/7", lambda name: name == "sub/7_2")
    assert [file.path for file in saved] == ["sub/7.png", "sub/7_3.png", "sub/7.webp", "sub/7_4.png"]
    assert [file.size for file in saved] == [len(PNG), len(PNG), 12, len(PNG)]
    assert (tmp_path / "sub" / "7_3.png").read_bytes() == PNG
    assert list(tmp_path.glob(".*")) == []
    (again,) = save_outputs([output("x.png", PNG + b"new")], tmp_path, "sub/7", lambda name: True)
    assert (tmp_path / again.path).read_bytes() == PNG + b"new", "an earlier attempt of the same job is replaced"


def test_one_file_that_cannot_be_had_keeps_no_other_from_being_saved(tmp_path: Path) -> None:
    gone = Output("image", "2", "Result", "x.png", source=Failing(OutputMissing("It is gone.")))
    with pytest.raises(OutputMissing, match="It is gone"):
        save_outputs([gone, output("y.png"), output("z.png", b"")], tmp_path, "7")
    assert [path.name for path in tmp_path.iterdir()] == ["7.png"]
    with pytest.raises(OutputError, match=r"an empty file for z\.png"):
        save_outputs([output("z.png", b"")], tmp_path, "8")


def test_what_a_killed_run_was_saving_is_removed(tmp_path: Path) -> None:
    for name in (".kandiflux-batch-1.part", "7.png", "mine.part"):
        (tmp_path / name).touch()
    remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7.png", "mine.part"]


def test_the_first_failure_is_told_and_a_disk_that_says_no_ends_all(tmp_path: Path) -> None:
    for error in (OutputMissing("first"), OutputError("first")):
        outputs = [
            Output("image", "2", "R", f"{name}.png", source=Failing(failure))
            for name, failure in (("a", error), ("b", OutputError("second")))
        ]
        with pytest.raises(type(error), match="first"):
            save_outputs(outputs, tmp_path, "7")
    with pytest.raises(ServerUnreachable):
        save_outputs(
            [Output("image", "2", "R", "a.png", source=Failing(ServerUnreachable("gone"))), output("y.png")],
            tmp_path,
            "7",
        )
    assert list(tmp_path.iterdir()) == [], "what is not about a file ends all at once"
    (tmp_path / "sub").touch()
    with pytest.raises(
        OutputError, match=rf"x\.png cannot be written to {tmp_path}: (Not a directory|File exists)\."
    ) as refused:
        save_outputs([output("x.png"), output("y.png")], tmp_path, "sub/7")
    assert (refused.value.parameter, isinstance(refused.value.__cause__, OSError)) == ("folder", True)
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_a_file_has_the_suffix_of_its_content_and_says_what_it_is(tmp_path: Path) -> None:
    (saved,) = save_outputs([output("x.jpg")], tmp_path / "new" / "folder", "a/b/7")
    assert saved == Saved("a/b/7.png", "image", "Result", len(PNG))
    assert (tmp_path / "new" / "folder" / "a" / "b" / "7.png").exists()


def test_partial_files_that_cannot_be_removed_are_left(tmp_path: Path) -> None:
    (tmp_path / ".kandiflux-batch-1.part").mkdir()
    remove_partials(tmp_path)
    remove_partials(tmp_path / "none")
