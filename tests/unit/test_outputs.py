"""Files are written once, completely, under safe names, over nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kandiflux.errors import AccessDenied, AnswerLost, KandifluxError, OutputError, OutputMissing, ProtocolError
from kandiflux.outputs import Output, Saver, collect_outputs, safe_name

PNG = b"\x89PNG\r\n\x1a\n and so on"


class Source:
    """Serves every file as `content`, again and again; after the pieces in `broken`, one a time, it breaks off."""

    def __init__(self, content: bytes = PNG, broken: Sequence[bytes] = (), error: KandifluxError | None = None) -> None:
        self.content, self.broken = content, list(broken)
        self.error = error or AnswerLost("broke off")
        self.asked = 0

    def view(self, filename: str, subfolder: str, folder: str) -> Iterator[bytes]:
        self.asked += 1
        if self.broken:
            yield self.broken.pop(0)
            raise self.error
        yield self.content[:5]
        yield self.content[5:]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.outputs._PAUSES", (0.0, 0.0))


def output(name: str = "a.png", subfolder: str = "") -> Output:
    return Output("image", "1", "Save", name, subfolder, source=Source())


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
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_long_names_keep_their_extension() -> None:
    name = safe_name("я" * 500 + ".png")
    assert name.endswith(".png")
    assert len(name.encode()) <= 180


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    paths = [Saver(tmp_path).save(output("a_00001_.png")) for _ in range(3)]
    assert [path.name for path in paths if path] == ["a_00001_.png", "a_00002_.png", "a_00003_.png"]
    paths = [Saver(tmp_path).save(output("b.png")) for _ in range(3)]
    assert [path.name for path in paths if path] == ["b.png", "b_2.png", "b_3.png"]


def test_each_output_is_saved_once(tmp_path: Path) -> None:
    saver = Saver(tmp_path / "new" / "folder")
    assert saver.save(output()) is not None
    assert saver.save(output()) is None
    assert saver.save(output(subfolder="other")) is not None


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    source = Source(broken=[PNG] * 3)
    with pytest.raises(AnswerLost, match="broke off"):
        Saver(tmp_path).save(Output("image", "1", "Save", "a.png", source=source))
    assert list(tmp_path.iterdir()) == []
    assert source.asked == 3


def test_what_breaks_off_is_fetched_again_from_its_beginning(tmp_path: Path) -> None:
    source = Source(broken=[b"<html>not now</html>", PNG[:9]])
    path = Saver(tmp_path).save(Output("image", "1", "Save", "a.png", source=source))
    assert path is not None
    assert path.read_bytes() == PNG
    assert (source.asked, list(tmp_path.iterdir())) == (3, [path])


def test_a_page_is_no_picture(tmp_path: Path) -> None:
    page = b"<html>The gateway is sorry.</html>"
    with pytest.raises(ProtocolError, match=r"a\.png is no such picture"):
        Saver(tmp_path).save(Output("image", "1", "Save", "a.png", source=Source(page)))
    assert list(tmp_path.iterdir()) == []
    assert Saver(tmp_path).save(Output("text", "1", "Save", "a.html", source=Source(page))) is not None


@pytest.mark.parametrize("error", [OutputMissing("gone"), AccessDenied("closed")])
def test_what_will_not_come_is_asked_for_once(tmp_path: Path, error: KandifluxError) -> None:
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
