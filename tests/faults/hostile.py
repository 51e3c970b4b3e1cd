"""Answers that no ComfyUI gives: what a broken gateway, a login page or an attacker may send instead."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import random
from collections.abc import Iterator

__all__ = ["ANSWERS", "send_hostile"]

_STATUSES = ("401", "403", "404", "410", "418", "451", "500")
_REDIRECTS = {
    "login": "comfy-login://sso/expired",
    "nowhere": "http://[::1",
    "port": "http://127.0.0.1:99999/",
    "empty": "",
    "circle": None,
    "host": "http://" + "a" * 300 + "/",
    "file": "file:///etc/passwd",
}
_TYPES = (
    "null", "true", "3", '"text"', "[]", "[[]]", "{}", '{"prompt_id": 7}',
    '{"queue_running": 3, "queue_pending": null}',
    '{"queue_running": [[1]], "queue_pending": []}', '{"queue_running": [{}], "queue_pending": [null]}',
    '{"queue_running": [[null, null, null, null, null]], "queue_pending": []}', '{"prompt_id": "\\ud800", "number": 1}',
    '{"prompt_id": "%s"}' % ("a" * 5000),
    '{"error": {"message": ["x"]}, "node_errors": {"1": {"errors": {"a": 1}}}}',
)  # fmt: skip
_NUMBERS = ("1" + "0" * 400, "-1" + "0" * 400, "NaN", "Infinity", "1e999", "1" * 5000)
ANSWERS = (
    *_STATUSES, *(f"to {name}" for name in _REDIRECTS), "types", "entry", "numbers", "deep", "announced", "endless",
    "bomb", "lines", "headers", "chunks", "length", "drip", "half", "noise",
)  # fmt: skip
"""Kinds for `send_hostile`."""


async def send_hostile(
    kind: str, target: str, job: str | None, writer: asyncio.StreamWriter, rng: random.Random
) -> None:
    """Write an answer of this kind to the request for `target`, which is about `job`; the connection is then closed.

    ConnectionError if the client has had enough of it.
    """
    for piece in _pieces(kind, target, job, rng):
        if isinstance(piece, bytes):
            writer.write(piece)
            await writer.drain()
        else:
            await asyncio.sleep(piece)


def _pieces(kind: str, target: str, job: str | None, rng: random.Random) -> Iterator[bytes | float]:
    """What to write, and seconds to wait."""
    if kind in _STATUSES:
        yield _answer(b"<html>\x1b]0;no\x07 not for you</html>", status=int(kind), content_type="text/html")
    elif kind.startswith("to "):
        location = _REDIRECTS[kind[3:]]
        yield _answer(b"", status=rng.choice((301, 302, 303, 307, 308)), more=f"Location: {location or target}\r\n")
    elif kind == "types":
        yield _answer(rng.choice(_TYPES).encode())
    elif kind == "entry":
        yield _answer(_strange_history(job, rng).encode())
    elif kind == "numbers":
        number = rng.choice(_NUMBERS)
        item = f'[{number}, "{job}", {{}}, {{}}, []]'
        yield _answer(f'{{"queue_running": [{item}], "queue_pending": [{item}], "{job}": {_entry(number)}}}'.encode())
    elif kind == "deep":
        depth = rng.choice((300, 3_000, 100_000))
        yield _answer(f'{{"queue_running": [], "{job}": '.encode() + b"[" * depth + b"]" * depth + b"}")
    elif kind == "announced":
        yield _answer(b"{}", length=str(10 ** rng.choice((9, 12, 18, 30))))
        yield 0.5
    elif kind == "endless":
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        piece = b" " * (1 << 20)
        # A picture is given up after 1 GiB, which takes too long here.
        for _ in range(64 if target.startswith("/view") else 4096):
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    elif kind == "bomb":
        yield _answer(_bomb(), more="Content-Encoding: gzip\r\n")
    elif kind == "lines":
        yield b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n"
    elif kind == "headers":
        yield b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(500)) + b"\r\n"
    elif kind == "chunks":
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rng.choice((b"-1\r\n", b"zz\r\n", b"9" * 5000))
    elif kind == "length":
        yield _answer(b"{}", length=rng.choice(("-1", "1" * 5000, "2, 3", "two")))
    elif kind == "drip":
        content_type = b"image/png" if target.startswith("/view") else b"application/json"
        yield b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type + b"\r\nContent-Length: 1000000\r\n\r\n"
        while True:
            yield b" "
            yield 0.05
    elif kind == "half":
        yield _answer(b'{"queue_running": [', length="1000")
    else:
        yield bytes(rng.randrange(256) for _ in range(rng.randrange(400)))


@functools.cache
def _bomb() -> bytes:
    """More than the 64 MiB that are read of an answer, once it is unpacked."""
    return gzip.compress(b" " * (96 << 20), 1)


def _strange_history(job: str | None, rng: random.Random) -> str:
    parts = {
        "prompt": rng.choice([[], None, 3, {}, [0, job, {}, {}, []]]),
        "outputs": rng.choice([[], 3, {"3": 4}, {"3": {"images": [{"filename": 3}]}}, {"3": {"images": "x"}}, {}]),
        "status": rng.choice(
            [
                None,
                3,
                {"messages": [["execution_error", {}]]},
                {"messages": {}},
                {"status_str": []},
                {"messages": [[1, 2]]},
            ]
        ),
        "meta": rng.choice([None, [], 3, {"3": []}, {"3": {"display_node": {}}}]),
    }
    return json.dumps({job or "x": parts})


def _entry(number: str) -> str:
    messages = ",".join(f'["{kind}", {{"timestamp": {number}}}]' for kind in ("execution_start", "execution_success"))
    return f'{{"prompt": [], "outputs": {{}}, "status": {{"messages": [{messages}]}}, "meta": {{}}}}'


def _answer(
    content: bytes,
    *,
    status: int = 200,
    content_type: str = "application/json",
    more: str = "",
    length: str | None = None,
) -> bytes:
    head = f"HTTP/1.1 {status} So\r\nContent-Type: {content_type}\r\n{more}"
    return f"{head}Content-Length: {length or len(content)}\r\n\r\n".encode() + content
