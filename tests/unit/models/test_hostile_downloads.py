"""`kandiflux models pull` with workflows and servers made to do harm: nothing but weights is written, nothing outside
the model folders, and every failure is a typed error."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import random
import shutil
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.errors import DiskFull, DownloadError, KandifluxError, UsageError, WrongFile
from kandiflux.models import download
from kandiflux.models import pull as pulling
from kandiflux.models.backoff import Patience
from kandiflux.models.download import FileDownload
from kandiflux.models.model_files import ModelFile, why_misplaced
from kandiflux.models.model_folders import ModelFolders
from kandiflux.models.pull import read_tokens
from kandiflux.models.remote_files import RemoteFiles, Token, Trouble
from kandiflux.models.web_address import parse_address, shown_address

from tests.support.commands import RUNNER
from tests.support.file_server import FileServer, serving, serving_raw
from tests.support.places import shared

CONTENT = random.Random(4).randbytes(300_000)
QUICK = Patience(attempts=2, first_pause=0.01, longest_pause=0.01, longest_wait=5.0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    for folder in ("models/loras", "custom_nodes/pack"):
        (tmp_path / "ComfyUI" / folder).mkdir(parents=True)
    return tmp_path / "ComfyUI"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "_ASKING", QUICK)


def pull_model(comfyui: Path, *options: str, choice: str | None = None, **about: Any) -> Any:
    """`models pull` of a workflow whose loader names this model."""
    about = {"directory": "loras", **about}
    node = {"id": 1, "type": "LoraLoader", "widgets_values": [choice or about["name"]],
            "properties": {"models": [about]}}  # fmt: skip
    file = comfyui.parent / "w.json"
    file.write_text(json.dumps({"nodes": [node], "links": []}))
    return RUNNER.invoke(app, ["models", "pull", str(file), "--comfyui", str(comfyui), *options])


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def require_typed(shown: Any) -> None:
    """It ended with an error in words."""
    assert isinstance(shown.exception, SystemExit), repr(shown.exception)
    assert shown.exit_code in (1, 2, 3), shown.output
    assert "Error: " in shown.stderr
    assert len(shown.stderr) < 4000


# Names and folders

CODE = ["evil.py", "x.safetensors.py", "x.safetensors.PY", "__init__.py", "x.pyd", "x.so", "x.dll", "x.exe", "x.bat",
        "x.sh", "x.pth.py", "x", "x.", "safetensors", ".safetensors", "x.yaml", "x.json", "x.js", "x.html", "x.lnk",
        "x.safetensors\x00.py", "x.safetensors\n", "x.safetensors ", " x.safetensors", "x.safetensors.",
        "x.safetensors. ", "x.py\x00.safetensors"]  # fmt: skip
OUTSIDE = ["../x.safetensors", "..\\x.safetensors", "a/../../x.safetensors", "a.safetensors/../x.safetensors",
           "/x.safetensors", "//host/share/x.safetensors", "\\\\host\\share\\x.safetensors", "C:\\x.safetensors",
           "C:x.safetensors", "./x.safetensors", "a//x.safetensors", "a/./x.safetensors", "~/x.safetensors/..",
           "x.safetensors/", "..", ".", "", ".git/x.safetensors", "a /x.safetensors", "a./x.safetensors",
           "x.py:y.safetensors", "x:stream.safetensors", "x.safetensors::$DATA", "x?.safetensors", "x*.safetensors",
           "nul.safetensors", "CON.safetensors", "com1.safetensors", "COM².safetensors", "lpt9.x.safetensors",
           "aux /x.safetensors", "NUL .safetensors", "conin$.safetensors", "nul/x.safetensors",
           "x\u202ey.safetensors", "x\u200b.safetensors", "x\u2028.safetensors", "x\x7f.safetensors",
           "x\ud800.safetensors", "x\udcff.safetensors", "n" * 300 + ".safetensors", "ж" * 150 + ".safetensors",
           "a/" * 500 + "x.safetensors", "a" * 100_000 + ".safetensors"]  # fmt: skip


@pytest.mark.parametrize("directory", ["loras", "kandinsky", "configs"])
@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: ascii(name)[:40])
def test_no_name_leads_out_of_its_folder(name: str, directory: str) -> None:
    assert why_misplaced(ModelFile(name, directory))


@pytest.mark.parametrize("name", CODE, ids=ascii)
def test_only_weights_are_written(name: str) -> None:
    assert why_misplaced(ModelFile(name, "loras"))


@pytest.mark.parametrize("name", [*CODE[:8], *CODE[16:], *OUTSIDE], ids=lambda name: ascii(name)[:40])
def test_the_command_writes_nothing_of_such_a_name(name: str, comfyui: Path, server: FileServer) -> None:
    before = files_in(comfyui.parent)
    url = server.add("/x", CONTENT)
    for choice in {name, name.rpartition("/")[2]} - {""}:
        shown = pull_model(comfyui, name=name, url=url, choice=choice)
        assert shown.exception is None or isinstance(shown.exception, SystemExit), repr(shown.exception)
        assert shown.stdout == ""
    assert set(files_in(comfyui.parent)) - set(before) <= {"w.json"}
    assert server.requests == []


def test_a_choice_outside_the_folder_is_not_obeyed(comfyui: Path, server: FileServer) -> None:
    for choice in ("../../custom_nodes/x.safetensors", "..\\x.safetensors", "/x.safetensors", "a/../x.safetensors"):
        require_typed(pull_model(comfyui, name="x.safetensors", url=server.add("/x", CONTENT), choice=choice))
    assert server.requests == []


@pytest.mark.parametrize(
    "directory",
    ["custom_nodes", "Custom_Nodes", "custom_nodes.", "custom_nodes/", "CUSTOM_NODES", "../custom_nodes", "web",
     "scripts", "datasets", "nul", "loras/../../custom_nodes", "loras\x00", ".", "..", "/", "input",
     "user", "LORAS2", "a" * 300, "\ud800"],
    ids=lambda name: ascii(name)[:30],
)  # fmt: skip
def test_only_model_folders_are_written_to(directory: str, comfyui: Path, server: FileServer) -> None:
    (comfyui / "extra_model_paths.yaml").write_text(
        "ui:\n  base_path: .\n  is_default: true\n  custom_nodes: custom_nodes\n  Custom_Nodes: custom_nodes\n"
        "  scripts: custom_nodes\n  web: web\n  LORAS2: custom_nodes\n"
    )
    shown = pull_model(comfyui, name="x.pt", url=server.add("/x", CONTENT), directory=directory)
    require_typed(shown)
    assert server.requests == []
    assert files_in(comfyui) == ["extra_model_paths.yaml"]


def test_a_folder_that_exists_is_a_model_folder_unless_it_is_linked_elsewhere(
    comfyui: Path, tmp_path: Path, server: FileServer
) -> None:
    (comfyui / "models" / "my_pack").mkdir()
    (comfyui / "models" / "linked").symlink_to(comfyui / "custom_nodes")
    url = server.add("/x", CONTENT)
    assert pull_model(comfyui, name="x.bin", url=url, directory="my_pack").exit_code == 0
    assert (comfyui / "models" / "my_pack" / "x.bin").read_bytes() == CONTENT
    require_typed(pull_model(comfyui, name="x.bin", url=url, directory="linked"))
    require_typed(pull_model(comfyui, name="x.bin", url=url, directory="MY_PACK"))


def test_a_link_inside_a_model_folder_is_not_followed_out_of_it(
    comfyui: Path, tmp_path: Path, server: FileServer
) -> None:
    (tmp_path / "elsewhere").mkdir()
    loras = comfyui / "models" / "loras"
    (loras / "out").symlink_to(tmp_path / "elsewhere")
    (loras / "loop").symlink_to(loras / "loop")
    url = server.add("/x", CONTENT)
    for name in ("out/x.bin", "out\\x.bin", "out/new/x.bin"):
        require_typed(pull_model(comfyui, name=name, url=url))
    assert files_in(tmp_path / "elsewhere") == []
    require_typed(pull_model(comfyui, name="loop/x.bin", url=url))
    (loras / "in").mkdir()
    (loras / "alias").symlink_to(loras / "in")
    assert pull_model(comfyui, name="alias/x.bin", url=url).exit_code == 0
    assert (loras / "in" / "x.bin").read_bytes() == CONTENT


def test_a_model_folder_that_is_itself_a_link_is_used_but_not_into_custom_nodes(
    comfyui: Path, tmp_path: Path, server: FileServer
) -> None:
    (tmp_path / "disk").mkdir()
    (comfyui / "models" / "vae").symlink_to(tmp_path / "disk")
    (comfyui / "models" / "gligen").symlink_to(comfyui / "custom_nodes" / "pack")
    url = server.add("/x", CONTENT)
    assert pull_model(comfyui, name="x.bin", url=url, directory="vae").exit_code == 0
    assert files_in(tmp_path / "disk") == ["x.bin"]
    require_typed(pull_model(comfyui, name="x.bin", url=url, directory="gligen"))


def test_texts_belong_into_published_folders_and_configs_only(comfyui: Path, server: FileServer) -> None:
    url = server.add("/x", b"a: 1")
    shown = pull_model(comfyui, name="v1.yaml", url=url, directory="configs", choice="v1.yaml")
    assert shown.exit_code == 0, shown.output
    assert (comfyui / "models" / "configs" / "v1.yaml").read_bytes() == b"a: 1"
    require_typed(pull_model(comfyui, name="v1.yaml", url=url, directory="loras", choice="v1.yaml"))
    require_typed(pull_model(comfyui, name="v1.py", url=url, directory="configs", choice="v1.py"))
    assert not (comfyui / "models" / "loras" / "v1.yaml").exists()


def test_a_file_outside_does_not_count_as_there(comfyui: Path, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"secret")
    folders = ModelFolders(comfyui)
    for name in (str(tmp_path / "x.bin"), "../../../x.bin"):
        for directory in (None, "loras"):
            assert folders.find(ModelFile(name, directory)) is None


# Where a file goes


@pytest.mark.parametrize(
    ("name", "choice"),
    [("sub/m.bin", "sub/m.bin"), ("sub\\m.bin", "sub\\m.bin"), ("m.bin", "sub/m.bin"), ("m.bin", "sub\\m.bin"),
     ("sub\\m.bin", "sub/m.bin"), ("sub/m.bin", "sub\\m.bin")],
)  # fmt: skip
def test_a_file_goes_where_its_loader_looks_for_it(name: str, choice: str, comfyui: Path, server: FileServer) -> None:
    url = server.add("/m", CONTENT)
    shown = pull_model(comfyui, name=name, url=url, choice=choice)
    assert (shown.exit_code, shown.stdout) == (0, f"{comfyui / 'models' / 'loras' / 'sub' / 'm.bin'}\n")
    assert files_in(comfyui) == ["models/loras/sub/m.bin"]
    server.forget()
    assert pull_model(comfyui, name=name, url=url, choice=choice).exit_code == 0
    assert server.requests == []


def test_a_model_at_the_top_of_the_file_goes_where_a_node_looks_and_nowhere_else(
    comfyui: Path, server: FileServer
) -> None:
    about = {"name": "m.bin", "url": server.add("/m", CONTENT), "directory": "loras"}
    file = comfyui.parent / "top.json"
    nodes = [{"id": 1, "type": "LoraLoader", "widgets_values": ["sub/m.bin"], "properties": {}}]
    file.write_text(json.dumps({"nodes": nodes, "links": [], "models": [about]}))
    assert RUNNER.invoke(app, ["models", "pull", str(file), "--comfyui", str(comfyui)]).exit_code == 0
    assert files_in(comfyui) == ["models/loras/sub/m.bin"]


@pytest.mark.parametrize("case", ["slash", "backslash", "stale_name", "stale_name_backslash", "good"])
def test_the_shared_cases(case: str, comfyui: Path, server: FileServer) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    server.add("/good/m.safetensors", struct.pack("<Q", len(header)) + header + b"abcd")
    file = comfyui.parent / "w.json"
    file.write_text(
        shared(f"cases/51-models-pull/{case}.json").read_text("utf-8").replace("http://127.0.0.1:10330", server.url)
    )
    assert RUNNER.invoke(app, ["models", "pull", str(file), "--comfyui", str(comfyui)]).exit_code == 0
    sub = "" if case == "good" else "sub/"
    assert files_in(comfyui) == [f"models/checkpoints/{sub}m.safetensors"]


# Hashes


@pytest.mark.parametrize(
    "kind", ["SHA256", "sha-256", "SHA-512", "sha1", "MD5", "blake2b", "SHA3-256", "sha3_512", "AutoV2"]
)
@pytest.mark.parametrize("right", [True, False])
def test_a_hash_is_verified(kind: str, right: bool, comfyui: Path, server: FileServer) -> None:
    plain = kind.lower().replace("-", "").replace("_", "")
    name = {"autov2": "sha256", "sha3256": "sha3_256", "sha3512": "sha3_512"}.get(plain, plain)
    content = CONTENT if right else CONTENT + b"x"
    digest = hashlib.new(name, content).hexdigest()[: 10 if plain == "autov2" else None].upper()
    shown = pull_model(comfyui, name="x.bin", url=server.add("/x", CONTENT), hash=digest, hash_type=kind)
    assert (shown.exit_code == 0) is right
    assert files_in(comfyui) == (["models/loras/x.bin"] if right else [])
    assert "pickle" not in shown.stderr


@pytest.mark.parametrize(
    ("kind", "digest"),
    [("AutoV1", "ab" * 4), ("AutoV3", "ab" * 6), ("CRC32", "abababab"), ("mdc2", "ab" * 16), ("shake_128", "ab" * 16),
     ("shake_256", "ab" * 32), ("SHAKE-128", "ab"), ("x" * 5000, "ab"), ("\ud800", "ab"), ("sm3", "ab" * 32),
     ("SHA256", "ab" * 5), ("SHA256", "ab" * 33), ("SHA256", "zz" * 32), ("SHA256", "a" * 5000), ("SHA1", "ab" * 32),
     ("AutoV2", "ab" * 32), ("sha256", "0x" + "ab" * 31), ("SHA256", "٣" * 64), ("sha256sum", "ab" * 32)],
    ids=lambda text: ascii(text)[:20],
)  # fmt: skip
def test_a_hash_that_cannot_be_verified_is_refused_before_the_download(
    kind: str, digest: str, comfyui: Path, server: FileServer
) -> None:
    shown = pull_model(comfyui, name="x.bin", url=server.add("/x", CONTENT), hash=digest, hash_type=kind)
    require_typed(shown)
    assert "is not downloaded" in shown.stderr
    assert server.requests == []
    (comfyui / "models" / "loras" / "x.bin").write_bytes(CONTENT)
    shown = pull_model(comfyui, "--verify", name="x.bin", url=f"{server.url}/x", hash=digest, hash_type=kind)
    require_typed(shown)
    assert "cannot be verified" in shown.stderr


def test_blake3_is_verified_if_its_library_is_there(
    comfyui: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.add("/x", CONTENT)
    monkeypatch.setitem(sys.modules, "blake3", None)
    shown = pull_model(comfyui, name="x.bin", url=url, hash="ab" * 32, hash_type="BLAKE3")
    require_typed(shown)
    assert "pip install blake3" in shown.stderr
    monkeypatch.undo()
    blake3 = pytest.importorskip("blake3")
    monkeypatch.setattr(pulling, "_ASKING", QUICK)
    digest = blake3.blake3(CONTENT).hexdigest()
    assert pull_model(comfyui, name="x.bin", url=url, hash=digest, hash_type="BLAKE3").exit_code == 0
    assert pull_model(comfyui, name="y.bin", url=url, hash="ab" * 32, hash_type="BLAKE3").exit_code == 1


@pytest.mark.parametrize(
    ("name", "told"), [("x.ckpt", True), ("x.PT", True), ("x.pth", True), ("x.bin", True), ("x.gguf", False)]
)
def test_an_unverified_pickle_is_pointed_out(
    name: str, told: bool, comfyui: Path, server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    content = pickle.dumps({"a": list(range(1000))})
    with caplog.at_level(logging.WARNING):
        assert pull_model(comfyui, name=name, url=server.add("/x", content)).exit_code == 0
    assert ("is a pickle" in caplog.text) is told


# Addresses


BAD_URLS = [
    "http://[::1", "http://[::1]x/", "http://127.0.0.1:99999/x", "http://127.0.0.1:abc/x", "http://127.0.0.1:-1/x",
    "http://", "http:///x", "http:x", "https://", "//host/x", "host/x", "file:///etc/passwd", "ftp://a/b",
    "data:,x", "javascript:alert(1)", "http://a b/x", "http://\x00/x", "http://\ud800/x",
    f"http://{'a' * 300}.example/x", f"http://{'a.' * 300}example/x", "http://[zz]/x", "http://1.2.3.4.5:1:2/x",
    f"http://127.0.0.1:{'9' * 5000}/x", "http://xn--\u0661/x", "http://.../x", "http://%00/x",
    "http://[fe80::1%25]/x", "http://a..b/x", "\x00", "http://?", "http://#", "http://@", "http://:@/x",
    "http://user:hunter2@[::1", "http://user:hunter2@127.0.0.1:99999/x",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: ascii(url)[:40])
def test_a_malformed_address_is_a_typed_error(url: str, comfyui: Path) -> None:
    shown = pull_model(comfyui, name="x.bin", url=url)
    require_typed(shown)
    assert "hunter2" not in shown.output
    shown = RUNNER.invoke(app, ["models", "pull", str(comfyui.parent / "w.json"), "--comfyui", str(comfyui), "--json"])
    assert "hunter2" not in shown.output
    assert files_in(comfyui) == []


@pytest.mark.parametrize("location", [*BAD_URLS[:10], *BAD_URLS[11:]], ids=lambda url: ascii(url)[:40])
def test_a_redirect_to_a_malformed_address_is_a_typed_error(location: str, comfyui: Path) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with serving_raw(head.encode("utf-8", "surrogatepass")) as url:
        shown = pull_model(comfyui, name="x.bin", url=f"{url}/x")
    require_typed(shown)
    assert "hunter2" not in shown.output


def test_a_password_in_an_address_is_never_shown(
    comfyui: Path, server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    content = pickle.dumps(["x"])
    host = server.url.removeprefix("http://")
    for path in ("/x", "/gone"):
        server.add("/x", content)
        for options in (["--dry-run"], ["--dry-run", "--json"], ["--json"], []):
            with caplog.at_level(logging.DEBUG):
                shown = pull_model(comfyui, *options, name="x.bin", url=f"http://user:hunter2@{host}{path}")
            assert "hunter2" not in shown.output + caplog.text
    server.add("/r", b"", redirect=f"http://user:hunter2@{host}/gone")
    shown = pull_model(comfyui, name="r.bin", url=f"{server.url}/r")
    require_typed(shown)
    assert "hunter2" not in shown.output
    assert (
        shown_address("https://a/b?token=hunter2&x=1&X-Amz-Signature=hunter2")
        == "https://a/b?token=…&x=1&X-Amz-Signature=…"
    )


@pytest.mark.parametrize(
    "url",
    ["https://evil.example\\@huggingface.co/x", "https://evil.example/\\@huggingface.co/x",
     "https://evil.example#@huggingface.co/x", "https://evil.example?@huggingface.co/x",
     "https://huggingface.co@evil.example/x", "https://huggingface.co.evil.example/x", "https://huggingface.co:8443/x",
     "http://huggingface.co/x", "https://huggingface.co\t.evil.example/x", "https://huggingface.co%2eevil.example/"],
)  # fmt: skip
def test_a_token_is_not_for_a_host_that_only_looks_right(url: str) -> None:
    remotes = RemoteFiles({"huggingface.co": Token("HF_TOKEN", "secret")})
    address = parse_address(url)
    if address is not None and address.scheme == "https":
        assert remotes.token_for(address) is None


def test_a_token_that_cannot_be_sent_is_refused_without_showing_it(server: FileServer) -> None:
    for value in ("hunter2\r\nX: y", "hunter2 and more", "hünter2", "hunter2\x00"):
        with pytest.raises(UsageError, match=r"\$MINE") as caught:
            RemoteFiles(read_tokens(["localhost=MINE"], {"MINE": value}))
        assert "unter2" not in str(caught.value)
    assert RemoteFiles({"a": Token("MINE", "secret\n")})


# Answers


BIG = "9" * 5000
HEADS = [
    f"HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nContent-Length: ٣\r\n\r\nx",
    f"HTTP/1.1 200 OK\r\nContent-Length: {10**17}\r\n\r\nx",
    f"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-0/{BIG}\r\nContent-Length: 1\r\n\r\nx",
    f"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-0/{10**17}\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-4/3\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-0/-1\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.1 206 Partial\r\nContent-Range: nonsense\r\nContent-Length: 1\r\n\r\nx",
    f"HTTP/1.1 429 Slow\r\nRetry-After: {BIG}\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 503 Busy\r\nRetry-After: -5\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 503 Busy\r\nRetry-After: Mon, 01 Jan 99999999 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 503 Busy\r\nRetry-After: Mon, 01 Jan 0001 00:00:00 -9999\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + "f" * 100 + "\r\nabc\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\nContent-Encoding: gzip\r\n\r\n5\r\nab",
    "HTTP/1.1 403 No\r\nX-Error-Message: " + "m" * 60_000 + "\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 418 " + "r" * 60_000 + "\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 99999 OK\r\n\r\n",
    "HTTP/1.1 -1 OK\r\n\r\n",
    "HTTP/9.9 OK\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "\x00\x01\x02",
    "",
    "HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 2000 + "\r\n",
    "HTTP/1.1 200 OK\r\nX: " + "y" * 200_000 + "\r\n\r\n",
    "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n" * 50,
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>",
    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 9\r\n\r\n<!doctype",
]


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: ascii(head[:60]))
def test_a_malformed_answer_is_a_typed_error_and_leaves_nothing_broken(
    head: str, name: str, tmp_path: Path, server: FileServer
) -> None:
    remotes = RemoteFiles(timeout=(1.0, 0.5), rate_window=0.5)
    with serving_raw(head.encode()) as url:
        model = ModelFile(name, "loras", f"{url}/x")
        try:
            FileDownload(model, tmp_path / name, remotes, patience=QUICK).run()
        except KandifluxError as error:
            assert len(str(error)) < 1500  # noqa: PT017 - whatever it says
            assert not (tmp_path / name).exists()
        else:
            # One byte and no safetensors header: for a pickle of unknown length that is a file.
            assert name == "x.pt"
            (tmp_path / name).unlink()
    header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    right = struct.pack("<Q", len(header)) + header + b"abcd"
    model = ModelFile(name, "loras", server.add("/x", right))
    assert FileDownload(model, tmp_path / name, remotes, patience=QUICK).run().read_bytes() == right


def nested(depth: int) -> bytes:
    text = b'{"w":' + b"[" * depth + b"]" * depth + b"}"
    return struct.pack("<Q", len(text)) + text


def entry(value: str) -> bytes:
    text = b'{"w":' + value.encode() + b"}"
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [nested(300), nested(100_000), struct.pack("<Q", 1 << 63) + b"{}", struct.pack("<Q", 0),
     struct.pack("<Q", 200 << 20),
     entry("5"), entry("null"), entry("[]"), entry("{}"), entry('{"data_offsets":5}'), entry('{"data_offsets":[]}'),
     entry('{"data_offsets":[0,"x"]}'), entry('{"data_offsets":[0,null]}'), entry('{"data_offsets":[0,-5]}'),
     entry('{"data_offsets":[0,1e999]}'), entry('{"data_offsets":[0,NaN]}'), entry('{"data_offsets":[0,true]}'),
     entry(f'{{"data_offsets":[0,{"9" * 4300}]}}'), entry(f'{{"data_offsets":[0,{"9" * 5000}]}}'), entry("{"),
     entry('"\\ud800"'), b"", b"{}", b"\xff" * 20],
    ids=lambda content: repr(content[:30]),
)  # fmt: skip
def test_a_malformed_safetensors_header_is_a_typed_error_and_leaves_no_part(
    content: bytes, tmp_path: Path, server: FileServer
) -> None:
    model = ModelFile("x.safetensors", "loras", server.add("/x", content))
    for _ in range(2):
        with pytest.raises(WrongFile):
            FileDownload(model, tmp_path / "x.safetensors", RemoteFiles(), patience=QUICK).run()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "notes", [b"[" * 100_000, b'{"done": [[0, 1e999]]}', b'{"done": [[NaN, 5]]}', b'"x"', b"{}", b"5"]
)
def test_notes_of_a_download_that_make_no_sense_are_not_believed(
    notes: bytes, tmp_path: Path, server: FileServer
) -> None:
    (tmp_path / "x.bin.part").write_bytes(bytes(len(CONTENT)))
    (tmp_path / "x.bin.part.json").write_bytes(notes)
    model = ModelFile("x.bin", "loras", server.add("/x", CONTENT))
    assert FileDownload(model, tmp_path / "x.bin", RemoteFiles(), patience=QUICK).run().read_bytes() == CONTENT


def test_the_list_of_a_repository_is_bounded(server: FileServer) -> None:
    remotes = RemoteFiles()
    for content in (b"[" * 100_000, b"[" + b"1," * (9 << 20) + b"1]", b"{", b"\xff", b""):
        with pytest.raises(DownloadError):
            remotes.read_json(server.add("/list", content))


# Slow servers


SLOW = {"timeout": (5.0, 5.0), "min_rate": 500.0, "rate_window": 0.2}


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
     b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10_000,
     b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-0/100000\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000],
    ids=["length", "close", "chunked", "range"],
)  # fmt: skip
@pytest.mark.parametrize("slow_head", [True, False])
def test_a_server_that_sends_byte_after_byte_is_given_up(answer: bytes, slow_head: bool, tmp_path: Path) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    with serving_raw(answer, pause=0.005) if slow_head else serving_slowly(head + b"\r\n\r\n", body) as url:
        model = ModelFile("x.bin", "loras", f"{url}/x")
        with pytest.raises(KandifluxError, match=r"fewer than 100 bytes were received in 0\.2 seconds|changes during"):
            FileDownload(model, tmp_path / "x.bin", RemoteFiles(**SLOW), patience=QUICK).run()


def serving_slowly(head: bytes, body: bytes) -> Any:
    """The head at once, then the body byte after byte."""
    return serving_raw(head + body, pause=0.005, at_once=len(head))


def test_what_a_slow_server_sent_is_kept_and_resumed(tmp_path: Path, server: FileServer) -> None:
    url = server.add("/x", CONTENT)
    patience = Patience(attempts=2, first_pause=0.01, longest_pause=0.01, min_rate=1e9)
    model = ModelFile("x.bin", "loras", url)
    half = {"timeout": (5.0, 5.0), "min_rate": 1e9, "rate_window": 1.0}
    server.files["/x"].pace = 5e4
    with pytest.raises(DownloadError, match="Run the same command again"):
        FileDownload(model, tmp_path / "x.bin", RemoteFiles(**half), patience=patience).run()
    assert (tmp_path / "x.bin.part.json").exists()
    server.files["/x"].pace = None
    server.forget()
    assert FileDownload(model, tmp_path / "x.bin", RemoteFiles(), patience=QUICK).run().read_bytes() == CONTENT
    assert server.sent < len(CONTENT)


def test_a_fast_server_is_not_given_up(tmp_path: Path, server: FileServer) -> None:
    model = ModelFile("x.bin", "loras", server.add("/x", CONTENT, pace=2e5))
    remotes = RemoteFiles(timeout=(1.0, 2.0), min_rate=2e4, rate_window=0.5)
    assert FileDownload(model, tmp_path / "x.bin", remotes, patience=QUICK).run().read_bytes() == CONTENT


def test_little_by_little_does_not_count_as_progress() -> None:
    """A server that breaks off after a few bytes each time is asked a bounded number of times."""
    done, steps = 0, 0

    def step() -> None:
        nonlocal done, steps
        done, steps = done + 1, steps + 1
        time.sleep(0.01)
        raise Trouble("broke off")

    with pytest.raises(DownloadError, match="4 times in a row"):
        Patience(attempts=4, first_pause=0.001, longest_pause=0.002).retry(
            "x", step, threading.Event(), progress=lambda: done
        )
    assert steps == 4


def test_an_endless_file_of_unknown_length_ends_with_the_size_the_workflow_says(tmp_path: Path) -> None:
    with serving_raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (8 << 20)) as url:
        model = ModelFile("x.bin", "loras", f"{url}/x", size=1000)
        with pytest.raises(WrongFile, match="1000 bytes"):
            FileDownload(model, tmp_path / "x.bin", RemoteFiles(), patience=QUICK).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("free", "enough"), [(1 << 20, False), ((64 << 20) - 1, False), (64 << 20, True)])
def test_a_file_of_unknown_length_leaves_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, enough: bool
) -> None:
    monkeypatch.setattr(download, "_SPACE_EVERY", 1 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: namedtuple("usage", "total used free")(1, 1, free))
    with serving_raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (8 << 20)) as url:
        coming = FileDownload(
            ModelFile("x.bin", "loras", f"{url}/x"), tmp_path / "x.bin", RemoteFiles(), patience=QUICK
        )
        if enough:
            assert coming.run().stat().st_size == 8 << 20
            return
        with pytest.raises(DiskFull):
            coming.run()
    assert list(tmp_path.iterdir()) == []


# Proxies and certificates


def test_loopback_is_not_asked_for_through_a_proxy(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    model = ModelFile("x.bin", "loras", server.add("/x", CONTENT))
    assert FileDownload(model, tmp_path / "x.bin", RemoteFiles(), patience=QUICK).run().read_bytes() == CONTENT
    with pytest.raises(KandifluxError, match="Connection refused"):
        FileDownload(ModelFile("y.bin", "loras", "http://127.example.com/y"), tmp_path / "y.bin", RemoteFiles(),
                 patience=QUICK).run()  # fmt: skip


def test_other_hosts_are_asked_for_through_the_proxy(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("http://models.example/x", CONTENT)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    model = ModelFile("x.bin", "loras", "http://models.example/x")
    assert FileDownload(model, tmp_path / "x.bin", RemoteFiles(), patience=QUICK).run().read_bytes() == CONTENT


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with the key and the self-signed certificate of localhost."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days",
         "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem"


@pytest.fixture
def secure_server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with serving(context) as server:
        server.add("/x", CONTENT)
        yield server


def test_downloads_trust_what_every_other_request_trusts(
    secure_server: FileServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{secure_server.url}/x"
    with pytest.raises(DownloadError, match=r"cannot be trusted: .*self.signed"):
        RemoteFiles().describe(url)
    assert RemoteFiles(verify=str(certificate)).describe(url).size == len(CONTENT)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        with monkeypatch.context() as patched:
            patched.setenv(name, str(certificate))
            assert RemoteFiles().describe(url).size == len(CONTENT), name
    for wrong in (certificate.with_name("gone.pem"), certificate.with_name("key.pem")):
        with pytest.raises(UsageError, match="trusted certificates cannot be read"):
            RemoteFiles(verify=str(wrong)).describe(url)


def test_a_redirect_never_leads_from_https_to_http_and_takes_no_token_along(
    secure_server: FileServer, server: FileServer, certificate: Path
) -> None:
    host = secure_server.url.removeprefix("https://")
    remotes = RemoteFiles({host: Token("MINE", "secret")}, verify=str(certificate))
    secure_server.add("/down", b"", redirect=server.add("/x", CONTENT))
    with pytest.raises(DownloadError, match="from https to http"):
        remotes.describe(f"{secure_server.url}/down")
    assert server.requests == []
    server.add("/up", b"", redirect=f"{secure_server.url}/x")
    assert remotes.describe(f"{server.url}/up").size == len(CONTENT)
    assert "Authorization" not in server.requests[0].headers
    assert secure_server.requests[-1].headers["Authorization"] == "Bearer secret"


def test_random_models_of_a_workflow_never_break_the_command(comfyui: Path) -> None:
    """Seeded nonsense in every field of `models`."""
    chance = random.Random(7)
    odd: list[Any] = [None, True, -1, 10**400, 1e300, float("nan"), "", "\x00", "\ud800", "x" * 1000, [], {}, [[]],
                      "x.pt", "..", "http://[", "sha256", "loras", "a/b\\c.pt"]  # fmt: skip
    for _ in range(150):
        models = [{key: chance.choice(odd) for key in ("name", "url", "directory", "hash", "hash_type", "size")}
                  for _ in range(3)]  # fmt: skip
        node = {"id": 1, "type": "LoraLoader", "title": chance.choice(odd),
                "widgets_values": [chance.choice(odd), "x.pt"],
                "properties": {"models": chance.choice([models, *odd])}}  # fmt: skip
        file = comfyui.parent / "w.json"
        file.write_text(json.dumps({"nodes": [node], "links": [], "models": models}))
        shown = RUNNER.invoke(app, ["models", "pull", str(file), "--comfyui", str(comfyui), "--dry-run"])
        assert shown.exception is None or isinstance(shown.exception, SystemExit), (models, repr(shown.exception))
