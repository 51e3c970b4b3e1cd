"""Workflows in videos and sounds. The files in data/media were written with FFmpeg, with ComfyUI's own options."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from kandiflux.errors import WorkflowError
from kandiflux.workflow.metadata import read_carried
from kandiflux.workflow.workflow import Workflow

from tests.support.places import DATA, shared, why_no_shared

MEDIA = sorted((DATA / "media").iterdir())
CARRIERS = ("savevideo.mp4", "vhs.mp4", "savewebm.webm", "saveaudio.flac", "saveaudio.mp3")
PROMPT = '{"1": {"class_type": "One", "inputs": {}}}'


@pytest.mark.parametrize("path", MEDIA, ids=lambda path: path.name)
def test_what_a_file_carries(path: Path) -> None:
    loaded = Workflow.load(path)
    assert loaded.api is not None
    assert loaded.editor is not None
    assert loaded.api["1"]["inputs"] == {"image": "ä.png"}


@pytest.mark.skipif(why_no_shared() is not None, reason=why_no_shared() or "")
@pytest.mark.parametrize("name", CARRIERS)
def test_what_comfyui_and_packs_saved(name: str) -> None:
    loaded = Workflow.load(shared(f"cases/carriers/{name}"))
    assert loaded.api is not None
    assert loaded.editor is not None


@pytest.mark.parametrize("path", MEDIA, ids=lambda path: path.name)
def test_a_file_that_is_cut_off_anywhere(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    cut = tmp_path / path.name
    for length in range(12, len(content), 37):
        cut.write_bytes(content[:length])
        carried = read_carried(cut)
        assert carried is not None
        assert carried.prompt is None or "LoadImage" in carried.prompt


@pytest.mark.parametrize("path", MEDIA, ids=lambda path: path.name)
def test_a_file_with_a_wrong_byte_anywhere(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    wrong = tmp_path / path.name
    for place in range(12, min(len(content), 1200), 7):
        wrong.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        read_carried(wrong)


def id3(version: int, encoding: int, text: bytes) -> bytes:
    body = bytes([encoding]) + text
    length = len(body)
    size = bytes([0, 0, length >> 7, length & 0x7F]) if version == 4 else struct.pack(">I", length)
    frame = b"TXXX" + size + b"\0\0" + body
    whole = len(frame)
    return b"ID3" + bytes([version, 0, 0, 0, 0, whole >> 7, whole & 0x7F]) + frame + b"\xff\xfb"


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("encoding", "codec"), [(0, "latin-1"), (1, "utf-16"), (2, "utf-16-be"), (3, "utf-8"), (9, "utf-8")]
)
def test_the_encodings_of_mp3(version: int, encoding: int, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    separate = "prompt\0".encode(codec) + PROMPT.encode(codec)  # UTF-16 has a byte order mark before each
    path.write_bytes(id3(version, encoding, separate))
    carried = read_carried(path)
    assert carried is not None
    assert carried.prompt == PROMPT


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\x10ftypisom" + bytes(4),
        b"\0\0\0\x10ftypisom" + bytes(4) + struct.pack(">I4sQ", 1, b"moov", 16),
        b"\0\0\0\x10ftypisom" + bytes(4) + struct.pack(">I4s", 0, b"moov") + struct.pack(">I4s", 4, b"udta"),
        b"\x1aE\xdf\xa3" + bytes(20),
        b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff\x1f\x43\xb6\x75\xff" + bytes(20),
        b"OggS" + bytes(40),
        b"fLaC\x84\0\0\x04" + bytes(4),
        b"ID3" + bytes(20),
        b"GIF89a" + bytes(20),
        b"RIFF\x04\0\0\0WAVE",
    ],
)
def test_a_file_without_a_workflow(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(WorkflowError, match="contains no workflow"):
        Workflow.load(path)


@pytest.mark.parametrize(
    ("key", "text", "program"),
    [
        ("parameters", "a fox\nSteps: 20, Sampler: Euler", "AUTOMATIC1111"),
        ("parameters", '{"sui_image_params": {"prompt": "a fox"}}', "SwarmUI"),
        ("invokeai_metadata", "{}", "InvokeAI"),
        ("fooocus_scheme", "fooocus", "Fooocus"),
    ],
)
def test_pictures_of_other_programs_are_told(key: str, text: str, program: str, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(key, text)
    written = io.BytesIO()
    image.new("L", (1, 1)).save(written, "PNG", pnginfo=info)
    path = tmp_path / "a.png"
    path.write_bytes(written.getvalue())
    with pytest.raises(WorkflowError, match=f"contains no workflow: it was made with {program}"):
        Workflow.load(path)
