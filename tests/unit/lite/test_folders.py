"""The host's folders: names from clients, model folders, the numbers of saved pictures."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kandiflux.lite.folders import MODEL_KINDS, Folders, OutsideFolder, inside, save_path


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "input", tmp_path / "output", tmp_path / "temp", [tmp_path / "m1", tmp_path / "m2"])


def test_the_folders_are_made_and_free_of_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    made = Folders(tmp_path / "link" / "a" / "input", tmp_path / "o", tmp_path / "t", [tmp_path / "link" / "models"])
    assert made.input == tmp_path / "real" / "a" / "input"
    assert made.models == [tmp_path / "real" / "models"]
    assert all(folder.is_dir() for folder in (made.input, made.output, made.temp, *made.models))


def test_folders_by_their_names(folders: Folders) -> None:
    found = [folders.of_type(kind) for kind in ("input", "output", "temp", "models", "")]
    assert found == [folders.input, folders.output, folders.temp, None, None]


@pytest.mark.parametrize(
    ("name", "plain", "kind"),
    [
        ("cat.png", "cat.png", None),
        ("cat.png [input]", "cat.png", "input"),
        ("a/cat.png [output]", "a/cat.png", "output"),
        ("cat.png [temp]", "cat.png", "temp"),
        ("cat.png [models]", "cat.png [models]", None),
        ("cat.png [temp] ", "cat.png [temp] ", None),
    ],
)
def test_a_name_may_name_its_folder(folders: Folders, name: str, plain: str, kind: str | None) -> None:
    assert folders.annotated(name) == (plain, folders.of_type(kind) if kind else None)
    if not name.endswith(" "):
        assert folders.input_file(name) == (folders.of_type(kind or "input") or folders.input) / plain


def test_model_folders(folders: Folders, tmp_path: Path) -> None:
    own = [tmp_path / "m1" / "loras", tmp_path / "m2" / "loras"]
    assert folders.model_folders("loras") == own
    assert folders.model_folders("kandinsky") == []
    for kind, folder in (
        ("loras", tmp_path / "x"),
        ("loras", own[1]),
        ("kandinsky", tmp_path / "y"),
        ("loras", tmp_path / "x"),
    ):
        folders.add_model_folder(kind, folder)
    assert folders.model_folders("loras") == [*own, tmp_path / "x"]
    assert folders.model_folders("kandinsky") == [
        tmp_path / "m1" / "kandinsky",
        tmp_path / "m2" / "kandinsky",
        tmp_path / "y",
    ]
    assert folders.model_kinds() == [*MODEL_KINDS, "kandinsky"]


def test_model_files(folders: Folders, tmp_path: Path) -> None:
    for name in ("m1/loras/b.safetensors", "m2/loras/a.PT", "m2/loras/b.safetensors", "m2/loras/deep/c.ckpt",
                 "m1/loras/readme.txt", "m1/loras/.git/d.pt", "elsewhere/e.bin"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "m1" / "loras" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert folders.model_files("loras") == ["a.PT", "b.safetensors", "deep/c.ckpt", "link/e.bin"]
    assert folders.model_files("vae") == folders.model_files("unheard of") == []


# Names


def test_names_stay_inside(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "door").symlink_to(tmp_path, target_is_directory=True)
    (folder / "back").symlink_to(folder / "x", target_is_directory=True)
    assert inside(folder, "a", "b.png") == folder / "a" / "b.png"
    assert inside(folder, "a/../b.png") == folder / "b.png"
    assert inside(folder) == inside(folder, "") == inside(folder, "a/..") == folder
    assert inside(folder, "back/y") == folder / "x" / "y"
    for name in ("..", "../in2/x", "/etc/passwd", "door/x", "a/../../x"):
        with pytest.raises(OutsideFolder, match="is outside the folder 'in'"):
            inside(folder, name)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutsideFolder, match="is not a file name"):
        inside(tmp_path, name)


def test_the_number_of_folders_is_bounded(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/" * 99 + "x").name == "x"
    with pytest.raises(OutsideFolder, match="too many folders; the maximum is 100"):
        inside(tmp_path, "a/" * 100 + "x")


# Saving


def test_where_a_picture_is_saved(tmp_path: Path) -> None:
    assert save_path(tmp_path, "a", 1, 2) == (tmp_path, "a", 1, "")
    assert save_path(tmp_path, "sub/deep/a", 1, 2) == (tmp_path / "sub" / "deep", "a", 1, "sub/deep")
    assert (tmp_path / "sub" / "deep").is_dir()
    assert save_path(tmp_path, "./sub//x/../a", 1, 2) == (tmp_path / "sub", "a", 1, "sub")
    assert save_path(tmp_path, "%width%x%height%%batch_num%", 640, 480)[1] == "640x480%batch_num%"
    with pytest.raises(OutsideFolder):
        save_path(tmp_path, "../a", 1, 2)


def test_the_counter_follows_the_highest_of_the_stem(tmp_path: Path) -> None:
    for name in ("a_00007_.png", "a_00003_.png", "a_x_.png", "ab_00099_.png", "a.png", "a_²_.png", "b_a_00050_.png"):
        (tmp_path / name).write_bytes(b"x")
    assert save_path(tmp_path, "a", 1, 2)[2] == 8
    assert save_path(tmp_path, "ab", 1, 2)[2] == 100
    assert save_path(tmp_path, "A", 1, 2)[2] == 1
    (tmp_path / "a_12").write_bytes(b"x")
    assert save_path(tmp_path, "a", 1, 2)[2] == 13


def test_a_prefix_may_have_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "localtime", lambda: time.struct_time((2026, 3, 4, 5, 6, 7, 0, 0, 0)))
    assert save_path(tmp_path, "%year%-%month%-%day% %hour%.%minute%.%second%", 1, 1)[1] == "2026-03-04 05.06.07"
