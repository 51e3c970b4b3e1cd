"""Uploads and /view: what is stored under which name, and what is sent of it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from kandiflux.lite.file_routes import Sent, upload, view
from kandiflux.lite.folders import Folders
from kandiflux.lite.http import Form, Refused
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conversations.common import png


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "input", tmp_path / "output", tmp_path / "temp", [tmp_path / "models"])


def sent(folders: Folders, content: bytes, name: str = "up.png", mask: bool = False, **texts: str) -> dict[str, str]:
    with Form(texts, name, io.BytesIO(content)) as form:
        return upload(folders, form, mask)


def status(error: pytest.ExceptionInfo[Refused]) -> int:
    return error.value.status


def test_an_upload_never_changes_a_file_that_is_there(folders: Folders) -> None:
    for content, name in ((b"one", "up.png"), (b"two", "up (1).png"), (b"three", "up (2).png")):
        assert sent(folders, content) == {"name": name, "subfolder": "", "type": "input"}
    assert sent(folders, b"two")["name"] == "up (1).png", "the same content is stored once"
    (folders.input / "up (3).png").mkdir()
    assert sent(folders, b"four")["name"] == "up (4).png"
    assert {path.name: path.read_bytes() for path in folders.input.iterdir() if path.is_file()} == {
        "up.png": b"one",
        "up (1).png": b"two",
        "up (2).png": b"three",
        "up (4).png": b"four",
    }


def test_a_file_of_the_same_size_is_not_the_same(folders: Folders) -> None:
    assert [sent(folders, content)["name"] for content in (b"ab", b"cd", b"ab")] == ["up.png", "up (1).png", "up.png"]
    assert (folders.input / "up (1).png").read_bytes() == b"cd"


@pytest.mark.parametrize(
    ("overwrite", "name"), [("true", "up.png"), ("1", "up.png"), ("false", "up (1).png"), ("", "up (1).png")]
)
def test_overwriting_has_to_be_asked_for(folders: Folders, overwrite: str, name: str) -> None:
    sent(folders, b"one")
    assert sent(folders, b"two", overwrite=overwrite)["name"] == name
    assert (folders.input / name).read_bytes() == b"two"


@pytest.mark.parametrize("kind", ["input", "output", "temp"])
def test_each_folder_may_be_named(folders: Folders, kind: str) -> None:
    assert sent(folders, b"x", type=kind, subfolder="a/b") == {"name": "up.png", "subfolder": "a/b", "type": kind}
    folder = folders.of_type(kind)
    assert folder is not None
    assert (folder / "a" / "b" / "up.png").read_bytes() == b"x"


def test_a_name_with_folders_keeps_them_in_the_answer(folders: Folders) -> None:
    assert sent(folders, b"x", "a/up.png", subfolder="s")["name"] == "a/up.png"
    assert sent(folders, b"y", "a/up.png", subfolder="s") == {"name": "a/up (1).png", "subfolder": "s", "type": "input"}
    assert (folders.input / "s" / "a" / "up (1).png").read_bytes() == b"y"


@pytest.mark.parametrize(
    "form", [Form(), Form({"type": "models"}, "x.png", io.BytesIO(b"x")), Form({}, "", io.BytesIO(b"x"))]
)
def test_an_incomplete_form_is_refused(folders: Folders, form: Form) -> None:
    with pytest.raises(Refused, match="expected a file") as refused:
        upload(folders, form, False)
    assert status(refused) == 400


@pytest.mark.parametrize("name", [".", "a/..", "../x", "a\\b", "C:x", "a\x00", "x/", "/", "door/../../x", "\x7f"])
def test_a_name_that_is_none_is_refused(folders: Folders, name: str) -> None:
    with pytest.raises(Refused) as refused:
        sent(folders, b"x", name)
    assert status(refused) == 400
    assert list(folders.input.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_is_not_written_to(folders: Folders) -> None:
    os.mkfifo(folders.input / "pipe.png")
    with pytest.raises(Refused) as refused:
        sent(folders, b"x", "pipe.png", overwrite="true")
    assert status(refused) == 400


# Masks


ORIGINAL = {"filename": "plain.png", "type": "input"}


def masked(
    folders: Folders, reference: Any, name: str = "masked.png", mask: bytes = b"", **texts: str
) -> dict[str, str]:
    text = reference if isinstance(reference, str) else json.dumps(reference)
    return sent(folders, mask or png((0, 0, 0, 77)), name, mask=True, original_ref=text, **texts)


def picture(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        opened.load()
        return opened


def test_a_mask_becomes_the_alpha_of_its_picture(folders: Folders) -> None:
    metadata = PngInfo()
    metadata.add_text("prompt", "{}")
    for folder in (folders.input, folders.output, folders.temp / "sub"):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (10, 20, len(folder.name))).save(folder / "plain.png", pnginfo=metadata)
    for reference, blue in [
        (ORIGINAL, 5),
        ({"filename": "plain.png"}, 6),
        ({"filename": "plain.png", "type": None, "subfolder": None}, 6),
        ({"filename": "plain.png [input]", "type": "output"}, 5),
        ({"filename": "plain.png", "type": "temp", "subfolder": "sub"}, 3),
    ]:
        answer = masked(folders, reference, subfolder="masks", overwrite="true")
        assert answer == {"name": "masked.png", "subfolder": "masks", "type": "input"}
        found = picture(folders.input / "masks" / "masked.png")
        assert (found.getpixel((0, 0)), found.info["prompt"]) == ((10, 20, blue, 77), "{}")


def test_a_mask_of_a_picture_that_is_not_there_is_not_stored(folders: Folders) -> None:
    assert masked(folders, {"filename": "missing.png"})["name"] == "masked.png"
    assert list(folders.input.iterdir()) == []


@pytest.mark.parametrize(
    ("reference", "code", "why"),
    [
        ("{", 400, "not valid JSON"),
        ("", 400, "not valid JSON"),
        ([], 400, "expected an object"),
        ({}, 400, "expected an object"),
        ({"filename": ""}, 400, "expected an object"),
        ({"filename": 5}, 400, "expected an object"),
        ({"filename": "plain.png", "type": 5}, 400, "expected an object"),
        ({"filename": "plain.png", "subfolder": [1]}, 400, "expected an object"),
        ({"filename": "plain.png", "type": "models"}, 400, "type must be input, output or temp"),
        ({"filename": "../secret.png", "type": "input"}, 403, "is outside the folder"),
        ({"filename": "secret.png", "type": "input", "subfolder": ".."}, 403, "is outside the folder"),
    ],
    ids=str,
)
def test_a_reference_that_is_wrong(folders: Folders, reference: Any, code: int, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        masked(folders, reference)
    assert status(refused) == code


def test_a_mask_needs_a_name_and_content_of_a_picture(folders: Folders) -> None:
    (folders.input / "plain.png").write_bytes(png((1, 2, 3), mode="RGB"))
    for name, mask, why in (
        ("mask.txt", b"", "an image file name"),
        ("mask.png", b"x", "not a readable image"),
    ):
        with pytest.raises(Refused, match=why) as refused:
            masked(folders, ORIGINAL, name, mask)
        assert status(refused) == 400


# /view


@pytest.fixture
def seen(folders: Folders) -> Folders:
    for kind, folder in (("input", folders.input), ("output", folders.output / "deep"), ("temp", folders.temp)):
        folder.mkdir(exist_ok=True)
        (folder / f"{kind}.png").write_bytes(png((1, 2, 3, 4)))
    (folders.output / "page.html").write_bytes(b"<script>")
    (folders.input / "grey.png").write_bytes(png((9,), mode="L"))
    return folders


def test_a_file_is_sent_as_it_is(seen: Folders) -> None:
    deep = Sent("output.png", "image/png", seen.output / "deep" / "output.png")
    assert view(seen, {"filename": "output.png", "subfolder": "deep"}) == deep
    assert view(seen, {"filename": "input.png", "type": "input"}).path == seen.input / "input.png"
    assert view(seen, {"filename": "input.png [input]", "type": "temp"}).path == seen.input / "input.png"
    assert view(seen, {"filename": "x/y/temp.png", "type": "temp"}).path == seen.temp / "temp.png"
    assert view(seen, {"filename": "page.html"}) == Sent("page.html", None, seen.output / "page.html")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({}, 404),
        ({"filename": ""}, 400),
        ({"filename": "/etc/hostname"}, 400),
        ({"filename": "a..png"}, 400),
        ({"filename": "../input/input.png"}, 400),
        ({"filename": "input.png", "type": "elsewhere"}, 400),
        ({"filename": "input.png"}, 404),
        ({"filename": "deep"}, 404),
        ({"filename": "input.png", "type": "input", "subfolder": ".."}, 403),
        ({"filename": "hostname", "subfolder": "/etc"}, 403),
    ],
    ids=str,
)
def test_nothing_else_is_sent(seen: Folders, query: dict[str, str], code: int) -> None:
    with pytest.raises(Refused) as refused:
        view(seen, query)
    assert status(refused) == code


def drawn(folders: Folders, name: str = "input.png", **query: str) -> tuple[str | None, Image.Image]:
    answer = view(folders, {"filename": name, "type": "input", **query})
    assert answer.name == name
    assert answer.path is None
    return answer.content_type, Image.open(io.BytesIO(answer.body))


def test_channels(seen: Folders) -> None:
    kind, rgb = drawn(seen, channel="rgb")
    assert (kind, rgb.format, rgb.mode, rgb.getpixel((0, 0))) == ("image/png", "PNG", "RGB", (1, 2, 3))
    for name, alpha in (("input.png", 4), ("grey.png", 255)):
        kind, shown = drawn(seen, name, channel="a")
        assert (kind, shown.mode, shown.getpixel((0, 0))) == ("image/png", "RGBA", (0, 0, 0, alpha))
    assert view(seen, {"filename": "input.png", "type": "input", "channel": "rgba"}).path


@pytest.mark.parametrize(
    ("preview", "channel", "kind", "mode"),
    [
        ("webp", "", "webp", "RGBA"),
        ("webp;50", "rgb", "webp", "RGB"),
        ("jpeg", "", "jpeg", "RGB"),
        ("jpeg;90", "rgb", "jpeg", "RGB"),
        ("jpeg", "a", "webp", "RGBA"),
        ("jpeg", "rgba", "webp", "RGBA"),
        ("png", "", "webp", "RGBA"),
        ("", "", "webp", "RGBA"),
    ],
)
def test_previews(seen: Folders, preview: str, channel: str, kind: str, mode: str) -> None:
    query = {"preview": preview, **({"channel": channel} if channel else {})}
    content_type, picture = drawn(seen, **query)
    assert (content_type, picture.format, picture.mode) == (f"image/{kind}", kind.upper(), mode)


def test_the_quality_of_a_preview(seen: Folders) -> None:
    noise = Image.effect_noise((64, 64), 90)
    noise.save(seen.input / "noise.png")

    def size(preview: str) -> int:
        return len(view(seen, {"filename": "noise.png", "type": "input", "preview": preview}).body)

    assert size("jpeg;10") < size("jpeg;60") < size("jpeg;100")
    assert size("jpeg") == size("jpeg;90") == size("jpeg;x") == size("jpeg;1000")
    assert size("jpeg;999") == size("jpeg;100")


def test_what_is_not_a_picture_has_no_preview(seen: Folders) -> None:
    (seen.input / "broken.png").write_bytes(b"x")
    for query in ({"preview": "webp"}, {"channel": "rgb"}, {"channel": "a"}):
        with pytest.raises(Refused, match=r"not a readable image: PIL\.Unidentified") as refused:
            drawn(seen, "broken.png", **query)
        assert status(refused) == 400


def test_an_error_of_the_disk_is_not_the_pictures_fault(seen: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (seen.input / "plain.png").write_bytes(png((1, 2, 3), mode="RGB"))
    mask = png((0, 0, 0, 77))
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        masked(seen, ORIGINAL, mask=mask)
