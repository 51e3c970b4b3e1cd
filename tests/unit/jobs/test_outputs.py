"""Files are written once, completely, under safe names, over nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kandiflux.errors import AnswerLost, KandifluxError, OutputError, OutputMissing, ServerError
from kandiflux.jobs.outputs import Output, Saver, collect_outputs, safe_name

from tests.support.clock import Clock

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
    monkeypatch.setattr("kandiflux.jobs.outputs._PAUSES", (0.0, 0.0))


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
    with pytest.raises(OutputError, match="not downloaded in time"):
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
    with pytest.raises(OutputError, match=rf"an HTML or JSON page instead of {name}"):
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
    with pytest.raises(OutputError, match="Choose another folder"):
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


# Attempts


@pytest.mark.parametrize(
    ("error", "again", "asked", "kind"),
    [
        (AnswerLost("x"), True, 3, AnswerLost),
        (AnswerLost("x"), False, 1, AnswerLost),
        (ServerError("x", expected="e", got="g", hint="h"), True, 3, OutputError),
        (ServerError("x", expected="e", got="g", hint="h"), False, 3, OutputError),
        (OutputMissing("x"), True, 1, OutputMissing),
    ],
)
def test_how_many_times_a_download_is_begun(
    error: KandifluxError, again: bool, asked: int, kind: type[KandifluxError]
) -> None:
    source = Source(broken=[PNG] * 9, error=error)
    with pytest.raises(kind) as caught:
        Output("image", "1", "Save", "a.png", source=source).write(io.BytesIO(), again=again)
    assert type(caught.value) is kind
    assert source.asked == asked
    assert (caught.value.expected, caught.value.got, caught.value.hint) == (error.expected, error.got, error.hint)
    assert caught.value is error or caught.value.__cause__ is error


def test_a_download_is_written_behind_what_is_there_and_its_size_returned() -> None:
    file = io.BytesIO(b"before")
    file.seek(0, io.SEEK_END)
    source = Source(broken=[b"half"])
    assert Output("image", "1", "Save", "a.png", source=source).write(file) == len(PNG)
    assert file.getvalue() == b"before" + PNG


def test_the_pauses_grow_and_end_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("kandiflux.jobs.outputs.time", clock)
    monkeypatch.setattr("kandiflux.jobs.outputs._PAUSES", (2.0, 4.0, 8.0, 16.0))
    given: list[float | None] = []

    class Timed(Source):
        def view(
            self, filename: str, subfolder: str, folder: str, *, kind: str = "file", within: float | None = None
        ) -> Iterator[bytes]:
            given.append(within)
            return super().view(filename, subfolder, folder)

    broken = Output("image", "1", "Save", "a.png", source=Timed(broken=[PNG] * 20))
    with pytest.raises(AnswerLost):
        broken.write(io.BytesIO())
    assert given == [None] * 5
    assert all(low <= slept <= 3 * low for low, slept in zip((1.0, 2.0, 4.0, 8.0), clock.slept, strict=True))
    clock.slept.clear()
    given.clear()
    with pytest.raises(OutputError, match=r"a\.png was not downloaded in time") as caught:
        broken.write(io.BytesIO(), timeout=3.5)
    assert isinstance(caught.value.__cause__, AnswerLost)
    assert given[0] == 3.5
    assert given[1:] == [pytest.approx(3.5 - clock.slept[0])]
    assert sum(clock.slept) == pytest.approx(3.5)
    refused = Source(broken=[PNG] * 9, error=ServerError("no"))
    with pytest.raises(OutputError):
        Output("image", "1", "Save", "a.png", source=refused).write(io.BytesIO(), again=False)
    assert refused.asked == 4


# What an output is


def test_an_output_as_json_and_its_content() -> None:
    file = Output("image", "1", "Save", "a.png", "s", "temp", data=PNG)
    text = Output("text", "2", "Show", "Show_1.txt", text="é\ud800")
    assert file.as_dict() == {
        "kind": "image", "node_id": "1", "title": "Save", "filename": "a.png", "subfolder": "s", "type": "temp"
    }  # fmt: skip
    assert text.as_dict() == {"kind": "text", "node_id": "2", "title": "Show", "text": "é\ud800"}
    assert (file.is_file, text.is_file) == (True, False)
    assert (file.read(), text.read()) == (PNG, "é?".encode())
    assert Output("image", "1", "Save", "a.png").read() == b""


def test_an_empty_text_is_saved(tmp_path: Path) -> None:
    path = Saver(tmp_path).save(Output("text", "2", "Show", "Show_1.txt", text=""))
    assert (path.name, path.read_bytes()) == ("Show_1.txt", b"")


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ({"images": {"filename": "A.PNG"}}, [("image", "A.PNG", "", "output")]),
        ({"x": [{"filename": "a.b.WEBM", "subfolder": 3, "type": 4}]}, [("video", "a.b.WEBM", "", "output")]),
        ({"x": ({"filename": "a"}, {"filename": 3})}, [("file", "a", "", "output")]),
        ({"string": "hi", "strings": ["a"]}, [("text", "Node_1.txt", "", "output")] * 2),
        ({"texts": [3, "b"], "other": "no"}, [("text", "Node_2.txt", "", "output")]),
        ([1], []),
    ],
)  # fmt: skip
def test_what_a_node_shows(shown: Any, found: list[tuple[str, ...]]) -> None:
    outputs = collect_outputs("7", "Node", shown, None)
    assert [(one.kind, one.filename, one.subfolder, one.folder) for one in outputs] == found
    assert all((one.node_id, one.title) == ("7", "Node") for one in outputs)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("e\u0301.png", "\u00e9.png"),
        ("a\u200eb.png", "a_b.png"),
        ("LPT1.txt", "_LPT1.txt"),
        ("com", "com"),
        ("a" * 176 + ".png", "a" * 176 + ".png"),
        ("a" * 177 + ".png", "a" * 176 + ".png"),
        ("a." + "b" * 300, "a." + "b" * 178),
    ],
)
def test_more_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("kind", ["video", "file", "text"])
def test_only_a_picture_gets_another_suffix(tmp_path: Path, kind: str) -> None:
    path = Saver(tmp_path).save(Output(kind, "1", "Save", "a.mp4", data=PNG))
    assert path.name == "a.mp4"


def test_a_disk_that_refuses_is_told_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match=rf"a\.png cannot be written to {re.escape(str(tmp_path))}: No space left"):
        Saver(tmp_path).save(output())
