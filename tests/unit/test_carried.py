"""What a file says of how it was made, whichever way it says it."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Prompt, Workflow
from kandiflux.carried import read_carried, sidecar_of, with_metadata, write_sidecar
from kandiflux.errors import WorkflowError
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
