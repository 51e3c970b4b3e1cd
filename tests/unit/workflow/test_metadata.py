"""The metadata of saved files, in every format; damaged and hostile files."""

from __future__ import annotations

import binascii
import io
import json
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Prompt, Workflow
from kandiflux.errors import WorkflowError
from kandiflux.workflow.metadata import read_carried, sidecar_of, with_metadata, write_sidecar
from PIL import Image
from PIL.PngImagePlugin import PngInfo

NODES: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "text": "ein Stück „Zucker“ 糖"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}
EDITOR: dict[str, Any] = {
    "nodes": [],
    "links": [],
    "extra": {"kandiflux": {"parameters": {"width": {"node": 1, "input": "width"}}}},
}


def picture() -> Image.Image:
    return Image.new("RGB", (8, 6), (1, 2, 3))


def encoded(kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    picture().save(content, kind, **options)
    return content.getvalue()


def png() -> bytes:
    texts = PngInfo()
    texts.add_text("prompt", json.dumps(NODES))
    texts.add_text("workflow", json.dumps(EDITOR))
    return encoded("PNG", pnginfo=texts)


def apng() -> bytes:
    texts = PngInfo()
    for key, value in (("prompt", NODES), ("workflow", EDITOR)):
        texts.add(b"comf", key.encode("latin-1") + b"\0" + json.dumps(value).encode("latin-1"), after_idat=True)
    return encoded("PNG", pnginfo=texts, save_all=True, append_images=[picture()])


def exif(kind: str) -> bytes:
    tags = Image.Exif()
    tags[0x0110] = f"prompt:{json.dumps(NODES)}"
    tags[0x010F] = f"workflow:{json.dumps(EDITOR)}"
    return encoded(kind, exif=tags)


def latent() -> bytes:
    header = json.dumps({"__metadata__": {"prompt": json.dumps(NODES), "workflow": json.dumps(EDITOR)}}).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.png", png()), ("b.png", apng()), ("c.webp", exif("WEBP")), ("d.jpg", exif("JPEG")), ("e.latent", latent())],
)
def test_as_comfyui_writes_it(name: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    workflow = Workflow.load(file)
    assert workflow.api == NODES
    assert workflow.editor == EDITOR
    assert list(workflow.declared) == ["width"]


def test_a_file_beside_it_says_it_for_any_other(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.mp4", "d.txt"):
        file = tmp_path / name
        content = {"a.png": encoded("PNG"), "b.jpg": encoded("JPEG"), "c.mp4": b"\0\0\0\x18ftypmp42" + bytes(9)}
        file.write_bytes(content.get(name, b"a text"))
        beside = write_sidecar(file, Prompt(NODES, EDITOR, {"width": 8}), server="http://x")
        assert beside == sidecar_of(file)
        assert Workflow.load(file).api == NODES
        told = json.loads(beside.read_bytes())
        assert (told["file"], told["values"], told["server"]) == (name, {"width": 8}, "http://x")
        assert Workflow.load(beside).api == NODES
    assert not list(tmp_path.glob("*.part"))


def test_what_the_file_itself_says_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png())
    write_sidecar(file, Prompt({"9": NODES["1"]}))
    assert Workflow.load(file).api == NODES


@pytest.mark.parametrize(
    "content",
    [encoded("PNG"), encoded("JPEG"), encoded("WEBP"), png()[:60], b"\0\0\0\x18ftypmp42", struct.pack("<Q", 9) + b"{x"],
)
def test_what_says_nothing_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(content)
    with pytest.raises(WorkflowError):
        Workflow.load(file)


def test_a_damaged_file_beside_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded("JPEG"))
    sidecar_of(file).write_text("{")
    with pytest.raises(WorkflowError, match=r"a\.jpg\.json"):
        read_carried(file)


def test_a_picture_from_the_websocket_is_given_what_made_it(tmp_path: Path) -> None:
    plain = encoded("PNG")
    given = with_metadata(plain, Prompt(NODES, EDITOR))
    file = tmp_path / "a.png"
    file.write_bytes(given)
    assert Workflow.load(file).api == NODES
    with Image.open(io.BytesIO(plain)) as one, Image.open(io.BytesIO(given)) as other:
        assert one.tobytes() == other.tobytes()
    for content in (encoded("JPEG"), b"", plain[:20]):
        assert with_metadata(content, Prompt(NODES)) == content


def test_what_made_it_run_again_is_not_carried_on(tmp_path: Path) -> None:
    forced = Prompt(NODES).forced_again(["2"])
    assert forced.nodes["2"]["inputs"] != NODES["2"]["inputs"]
    assert forced.nodes["1"] == NODES["1"]
    file = tmp_path / "a.png"
    file.write_bytes(with_metadata(encoded("PNG"), forced))
    assert Workflow.load(file).api == NODES


# Damaged and hostile files


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", binascii.crc32(kind + body))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = chunk(b"IEND", b"")
PROMPT = json.dumps(NODES).encode()


def ihdr(wide: int, tall: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", wide, tall, 8, 2, 0, 0, 0))


def text_png(*chunks: bytes, size: tuple[int, int] = (8, 6), pixels: bytes = b"") -> bytes:
    return SIGNATURE + ihdr(*size) + b"".join(chunks) + chunk(b"IDAT", pixels) + END


def read(content: bytes, tmp_path: Path, name: str = "a.png") -> Any:
    file = tmp_path / name
    file.write_bytes(content)
    return read_carried(file)


def costs(action: Callable[[], Any]) -> int:
    """The largest number of bytes that Python held at once."""
    tracemalloc.start()
    try:
        action()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (0, 0)])
def test_the_size_of_a_picture_does_not_matter(size: tuple[int, int], tmp_path: Path) -> None:
    content = text_png(chunk(b"tEXt", b"prompt\0" + PROMPT), size=size, pixels=b"nonsense")
    assert json.loads(read(content, tmp_path).prompt) == NODES
    assert Workflow.load(tmp_path / "a.png").api == NODES


def test_pixels_are_not_decoded(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(300 << 20), 9)
    content = text_png(pixels=bomb, size=(10_000, 10_000)).removesuffix(END)
    content += chunk(b"tEXt", b"workflow\0{}") + END
    start = time.thread_time()
    assert costs(lambda: read(content, tmp_path)) < 8 << 20
    assert read(content, tmp_path).workflow == "{}"
    assert time.thread_time() - start < 2


@pytest.mark.parametrize(
    "texts",
    [
        [chunk(b"tEXt", b"prompt\0" + PROMPT)],
        [chunk(b"zTXt", b"prompt\0\0" + zlib.compress(PROMPT))],
        [chunk(b"iTXt", b"prompt\0\0\0\0\0" + PROMPT)],
        [chunk(b"iTXt", b"prompt\0\1\0en\0Prompt\0" + zlib.compress(PROMPT))],
        [chunk(b"tEXt", b"other\0" + bytes(1000)), chunk(b"tEXt", b"prompt\0" + PROMPT)],
    ],
    ids=["tEXt", "zTXt", "iTXt", "iTXt compressed", "another before it"],
)
@pytest.mark.parametrize("after", [False, True])
def test_every_kind_of_text_chunk_before_and_after_the_pixels(texts: list[bytes], after: bool, tmp_path: Path) -> None:
    content = SIGNATURE + ihdr(8, 6)
    parts = [chunk(b"IDAT", b"x"), *texts] if after else [*texts, chunk(b"IDAT", b"x")]
    assert json.loads(read(content + b"".join(parts) + END, tmp_path).prompt) == NODES


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ([chunk(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(100 << 20), 9))], "too large"),
        ([chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(100 << 20), 9))], "too large"),
        ([chunk(b"tEXt", b"prompt\0" + bytes(20 << 20))], "the maximum is"),
        ([chunk(b"zTXt", b"prompt\0\0nonsense")], "cannot be decompressed"),
        ([chunk(b"iTXt", b"prompt\0\0\0")], "cannot be read"),
        ([chunk(b"iTXt", b"prompt\0\0\0\0\0\xff")], "not valid UTF-8"),
        ([chunk(b"tEXt", b"prompt\0{}")[:-4] + b"abcd"], "checksum"),
        ([struct.pack(">I", 2**31) + b"tEXtprompt\0"], "cut off"),
        ([chunk(b"tEXt", b"")] * 10 + [b"\xff" * 7], "cut off"),
    ],
)  # fmt: skip
def test_a_damaged_or_too_large_text_is_refused_in_plain_words(chunks: list[bytes], said: str, tmp_path: Path) -> None:
    content = text_png(*chunks)

    def attempt() -> None:
        with pytest.raises(WorkflowError, match=said):
            read(content, tmp_path)

    assert costs(attempt) < len(content) + (64 << 20)


def test_a_text_that_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    content = text_png(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(500 << 20), 1)))
    assert costs(lambda: read(content, tmp_path)) < 8 << 20


@pytest.mark.parametrize("cut", [200, 400, -30, -5])
def test_a_png_cut_off_in_its_pixels_still_has_its_workflow(cut: int, tmp_path: Path) -> None:
    content = text_png(chunk(b"tEXt", b"prompt\0" + PROMPT), pixels=bytes(1000))
    end = len(content) - 1000 + cut if cut > 0 else len(content) + cut
    assert json.loads(read(content[:end], tmp_path).prompt) == NODES


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", SIGNATURE + b"\0\0", "is a damaged PNG: it is cut off"),
        ("a.png", b"\x89PNG\n\x1a\n" + bytes(20), "is a damaged PNG"),
        ("a.png", b"\x89", "damaged"),
        ("broken.png", b"\x89PN", "is a damaged PNG"),
        ("a.png", b"", "damaged"),
        ("a.png", b"<html>", "is a web page"),
        ("a.jpg", b"\xff\xd8\xff", "is a damaged JPEG"),
        ("a.jpg", b"\xff\xd8\xff\xe1\xff\xff", "is a damaged JPEG"),
        ("a.jpg", b"nonsense\xff", "damaged, or is not a JPG"),
        ("a.webp", b"RIFF\xff\xff\xff\xffWEBPVP8X\xff\xff\xff\xff", "is a damaged WebP"),
        ("a.avif", b"\0\0\0\x20ftypavif" + bytes(40), "AVIF"),
        ("a.latent", struct.pack("<Q", 9) + b"{x", "is a damaged safetensors file"),
        ("a.latent", struct.pack("<Q", 100_003) + b'{"":' + b"[" * 99_999, "nested deeper|is not valid JSON"),
        ("a.safetensors", struct.pack("<Q", 1 << 62) + b"{}", "the maximum is"),
        ("a.safetensors", struct.pack("<Q", 30 << 20) + b"{}", "the maximum is"),
        ("a.safetensors", struct.pack("<Q", 200) + b"{}", "it ends after 2"),
    ],
)
def test_a_damaged_file_is_called_one(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=said) as caught:
        read(content, tmp_path, name)
    assert "codec" not in str(caught.value)
    with pytest.raises(WorkflowError):
        Workflow.load(tmp_path / name)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"prompt":' + b"[" * 5000 + b"]" * 5000 + b"}", b"\xff", b""])
def test_a_nested_or_damaged_sidecar_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4.json").write_bytes(content)
    with pytest.raises(WorkflowError, match=r"a\.mp4\.json is not valid JSON"):
        read(b"\0\0\0\x18ftypmp42" + bytes(9), tmp_path, "a.mp4")


def test_exif_that_names_one_text_many_times_costs_little(tmp_path: Path) -> None:
    text = b"prompt:" + b"x" * (4 << 20)
    count = 60_000
    entry = struct.pack("<HHII", 0x110, 2, len(text), 10 + 12 * count)
    tiff = b"II*\0" + struct.pack("<IH", 8, count) + entry * count + text
    content = b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", len(tiff)) + tiff
    start = time.thread_time()
    assert costs(lambda: read(content, tmp_path, "a.webp")) < 64 << 20
    assert time.thread_time() - start < 3


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One random change: bytes, a length field, a cut, a repetition."""
    data = bytearray(content)
    at = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            data[at] = chance.randrange(256)
        case 1:
            data[at : at + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0"])
        case 2:
            del data[at:]
        case 3:
            del data[at : at + chance.randrange(1, 40)]
        case _:
            data[at:at] = data[at : at + chance.randrange(1, 200)] * chance.randrange(1, 20)
    return bytes(data)


def avif() -> bytes:
    try:
        return exif("AVIF")
    except (KeyError, OSError):  # this Pillow cannot write it
        return b"\0\0\0\x20ftypavif" + bytes(100)


def test_random_damage_ends_in_words_and_costs_little(tmp_path: Path) -> None:
    chance = random.Random(11)
    compressed = text_png(chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(PROMPT)),
                          chunk(b"zTXt", b"workflow\0\0" + zlib.compress(PROMPT)))  # fmt: skip
    kinds = {"a.png": png(), "b.png": apng(), "c.webp": exif("WEBP"), "d.jpg": exif("JPEG"), "e.latent": latent(),
             "f.png": compressed, "g.avif": avif()}  # fmt: skip
    fine = 0

    def campaign() -> None:
        nonlocal fine
        for number in range(1400):
            name, content = list(kinds.items())[number % len(kinds)]
            for _ in range(chance.choice([1, 1, 2, 5])):
                content = damaged(content, chance) or b"x"
            try:
                read(content, tmp_path, name)
                Workflow.load(tmp_path / name)
            except WorkflowError as error:
                assert "codec" not in str(error) or name == "e.latent"  # noqa: PT017 - the words
            else:
                fine += 1

    assert costs(campaign) < 64 << 20
    assert 50 < fine < 1300
