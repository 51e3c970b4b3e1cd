"""Files are written once, completely, under safe names, over nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kandiflux.errors import AnswerLost, KandifluxError, OutputError, OutputMissing
from kandiflux.outputs import Output, Saver, collect_outputs, safe_name

PNG = b"\x89PNG\r\n\x1a\n and so on"


class Source:
    """Serves every file as `content`, again and again; after the pieces in `broken`, one a time, it breaks off."""

    def __init__(self, content: bytes = PNG, broken: Sequence[bytes] = (), error: KandifluxError | None = None) -> None:
        self.content, self.broken = content, list(broken)
        self.error = error or AnswerLost("broke off")
        self.asked = 0

    def view(
        self, filename: str, subfolder: str, folder: str, *, kind: str = "file", within: float | None = None
    ) -> Iterator[bytes]:
        self.asked += 1
        if self.broken:
            yield self.broken.pop(0)
            raise self.error
        yield self.content[:5]
        yield self.content[5:]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.outputs._PAUSES", (0.0, 0.0))


def output(name: str = "a.png", subfolder: str = "", content: bytes = PNG) -> Output:
    return Output("image", "1", "Save", name, subfolder, source=Source(content))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a:b?c*.png", "a_b_c_.png"),
        ("line\nbreak\x00.png", "line_break_.png"),
        ("", "_"),
        ("..", "_"),
        ("con.png", "_con.png"),
        ("круг на синем.png", "круг на синем.png"),
        (" .hidden. ", "hidden"),
        ("-rf.png", "_-rf.png"),
        ("--out=x.png", "_--out=x.png"),
        ("\ud800.png", "_.png"),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_long_names_keep_their_extension() -> None:
    name = safe_name("я" * 500 + ".png")
    assert name.endswith(".png")
    assert len(name.encode()) <= 180


@pytest.mark.parametrize(
    "names",
    [
        ("a_00001_.png", "a_00002_.png", "a_00003_.png"),
        ("a_99999_.png", "a_100000_.png", "a_100001_.png"),
        ("b.png", "b_2.png", "b_3.png"),
        # Numbers that may be a date, a seed or part of a title are left as they are.
        ("render_20251121.png", "render_20251121_2.png", "render_20251121_3.png"),
        ("fox_seed_7.png", "fox_seed_7_2.png", "fox_seed_7_3.png"),
        ("take_2_.png", "take_2__2.png", "take_2__3.png"),
    ],
)
def test_a_name_that_is_taken_is_counted_up(tmp_path: Path, names: tuple[str, ...]) -> None:
    saver = Saver(tmp_path)
    paths = [saver.save(output(names[0])) for _ in names]
    assert [path.name for path in paths] == list(names)
    assert all(path.read_bytes() == PNG for path in paths)


def test_a_disk_without_hard_links_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    paths = [Saver(tmp_path).save(output("b.png", content=PNG + bytes([number]))) for number in range(3)]
    assert [path.name for path in paths] == ["b.png", "b_2.png", "b_3.png"]
    assert [path.read_bytes()[-1] for path in paths] == [0, 1, 2]


def test_every_call_of_one_saver_saves_a_file(tmp_path: Path) -> None:
    """Outputs of two jobs or servers may have the same name, and the folder may be emptied in between."""
    saver = Saver(tmp_path / "new" / "folder")
    paths = [saver.save(output()), saver.save(output()), saver.save(output(subfolder="other"))]
    assert len(set(paths)) == 3
    assert all(path.read_bytes() == PNG for path in paths)
    for path in paths:
        path.unlink()
    assert saver.save(output()).read_bytes() == PNG


WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 "


@pytest.mark.parametrize(
    ("name", "content", "saved_as"),
    [
        ("photo.jpg", PNG, "photo.png"),
        ("photo.png", b"\xff\xd8\xff\xe0 and so on", "photo.jpg"),
        ("photo.webp", b"GIF89a", "photo.gif"),
        ("photo.PNG", WEBP, "photo.webp"),
        ("photo.jpeg", b"\xff\xd8\xff\xe0", "photo.jpeg"),
        ("photo.png", b"an unknown format", "photo.png"),
        ("photo.exr", b"\x76\x2f\x31\x01", "photo.exr"),
    ],
)
def test_a_picture_of_another_format_gets_its_own_suffix(
    tmp_path: Path, name: str, content: bytes, saved_as: str
) -> None:
    source = Source(content)
    path = Saver(tmp_path).save(Output("image", "1", "Save", name, source=source))
    assert (path.name, path.read_bytes(), source.asked) == (saved_as, content, 1)


def test_a_timeout_ends_a_download_that_is_too_slow(tmp_path: Path) -> None:
    source = Source(broken=[PNG] * 100)
    with pytest.raises(OutputError, match="not fetched in time"):
        Saver(tmp_path).save(Output("image", "1", "Save", "a.png", source=source), timeout=-1.0)
    assert (source.asked, list(tmp_path.iterdir())) == (0, [])


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    source = Source(broken=[PNG] * 3)
    with pytest.raises(AnswerLost, match="broke off"):
        Saver(tmp_path).save(Output("image", "1", "Save", "a.png", source=source))
    assert list(tmp_path.iterdir()) == []
    assert source.asked == 3


def test_what_breaks_off_is_fetched_again_from_its_beginning(tmp_path: Path) -> None:
    source = Source(broken=[b"<html>not now</html>", PNG[:9]])
    path = Saver(tmp_path).save(Output("image", "1", "Save", "a.png", source=source))
    assert path.read_bytes() == PNG
    assert (source.asked, list(tmp_path.iterdir())) == (3, [path])


@pytest.mark.parametrize(
    "page",
    [
        b"<html>The gateway is sorry.</html>",
        b"\xef\xbb\xbf \n<!DOCTYPE html><title>Sign in</title>",
        b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">',
        b'{"error": "not now"}',
        b"[]",
    ],
)
@pytest.mark.parametrize(("kind", "name"), [("image", "a.png"), ("video", "a.mp4"), ("audio", "a.flac")])
def test_a_page_instead_of_a_picture_is_refused(tmp_path: Path, page: bytes, kind: str, name: str) -> None:
    with pytest.raises(OutputError, match=rf"A page came instead of {name}"):
        Saver(tmp_path).save(Output(kind, "1", "Save", name, source=Source(page)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("text", "a.html", b"<html>a page</html>"),
        ("text", "a.json", b"{}"),
        ("file", "a.bin", b"[1, 2]"),
        ("image", "a.svg", b'<?xml version="1.0"?>\n<!DOCTYPE svg>'),
    ],
)
def test_a_page_that_was_asked_for_is_saved(tmp_path: Path, kind: str, name: str, content: bytes) -> None:
    assert Saver(tmp_path).save(Output(kind, "1", "Save", name, source=Source(content))).name == name


@pytest.mark.parametrize("error", [OutputMissing("gone"), OutputError("closed")])
def test_a_file_that_the_server_does_not_hand_out_is_asked_for_once(tmp_path: Path, error: KandifluxError) -> None:
    source = Source(broken=[PNG], error=error)
    with pytest.raises(type(error)):
        Saver(tmp_path).save(Output("image", "1", "Save", "a.png", source=source))
    assert source.asked == 1


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="empty file"):
        Saver(tmp_path).save(Output("image", "1", "Save", "a.png", data=b""))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--out"):
        Saver(tmp_path / "file").save(output())


def test_the_outputs_of_a_node_are_bounded() -> None:
    shown = {"images": [{"filename": "a.png"}] * 100_000}
    assert len(collect_outputs("1", "Node", shown, None)) == 10_000


def test_outputs_of_every_kind_are_found() -> None:
    shown = {
        "images": [{"filename": "a.png", "subfolder": "s", "type": "temp"}, {"filename": "b.mp4"}],
        "animated": [True],
        "latents": [{"filename": "c.latent"}],
        "audio": [{"filename": "d.flac"}],
        "3d": [{"filename": "e.glb"}],
        "text": ["hello", "there"],
        "other": [{"filename": "f.bin"}, "not a text", 3],
    }
    found = collect_outputs("7", "Node", shown, None)
    kinds = ["image", "video", "latent", "audio", "model3d", "text", "text", "file"]
    assert [one.kind for one in found] == kinds
    assert (found[0].subfolder, found[0].folder) == ("s", "temp")
    assert found[5].read() == b"hello"
    assert collect_outputs("7", "Node", None, None) == []
