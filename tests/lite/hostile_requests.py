"""Requests as an attacker or a broken program might send them: seeded, over all routes of the lite host."""

from __future__ import annotations

import http.client
import json
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.conversations.common import png

CANARY = "canary-7f3a"
"""In files that no request may read. Some are below the names in NAMES, seen from the host's folders."""

GOOD = {
    "1": {"class_type": "PrimitiveInt", "inputs": {"value": 3}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


def _words(text: str) -> list[str]:
    return text.split()


PARTS = ["..", ".", "", "a", "file.png", "file.png/", "file.png/x", "folder", "fifo", "loop", "link.png", "secret.txt"]
PARTS += [
    "secret.png",
    "door",
    "door/secret.txt",
    "x" * 300,
    "é" * 130,
    "\0",
    "a\0.png",
    "\n",
    "\r\nX-Evil: 1",
    "%2e%2e",
]
PARTS += [
    "..%2f..",
    "C:\\Windows\\win.ini",
    "\\\\host\\share",
    "..\\..\\secret.txt",
    "con",
    "nul.png",
    " ",
    ".hidden",
    "...",
]
PARTS += ["~", "$HOME", "/etc/passwd", "../../../../../../etc/passwd", "....//....//secret.txt", "file:///etc/passwd"]
PARTS += ["\ud800.png", "\U0001f98a", "a" * 4000, "a/" * 900, "*.png", "[input]", "secret.txt [input]", "²", "x;y"]
PARTS += ["../secret.txt [output]", "file.png [temp]"]

NUMBERS: list[Any] = [
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**400,
    -(10**400),
    1e308,
    -0.0,
    True,
    None,
    "1",
    "-1",
    "²",
    "1e999",
]
NUMBERS += ["nan", "9" * 5000, "", " 5 ", "٣", "0x10", "1_000", [], {}]

JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "text",
    "\ud800",
    "\0",
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["1", 0],
    ["1", -1],
]
JUNK += [["1", 10**30], ["1", 0.5], [["1"], 0], ["9", 0], [1, 2, 3], {"__value__": ["x"]}, "a" * 20_000, 2**70]
JUNK += [list(range(2000))]

RAW = [
    b"",
    b"{",
    b"[",
    b"null",
    b"NaN",
    b"Infinity",
    b"[NaN]",
    b'{"number": 1e999}',
    b'{"a": -Infinity}',
    b"\xff\xfe\x00",
]
RAW += [b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"[" * 201 + b"]" * 201, b"9" * 5000]
RAW += [b'"' + b"a" * 70_000, b"1e" + b"9" * 400, b'{"a": "\\ud800"}', b'{"a": 1, "a": 2}', b"{'a': 1}", b"\0" * 100]
RAW += [b'{"prompt": ' + b'{"x":' * 260 + b"{}" + b"}" * 261]

GET_ROUTES = _words("""
/ /prompt /queue /history /features /system_stats /object_info /extensions /embeddings /models /users /settings
/i18n /workflow_templates /experiment/models /internal/logs /internal/logs/raw /internal/folder_paths /jobs /ws
/userdata /v2/userdata /view /upload/image /free
""")
NAMED_ROUTES = _words("""
/history/{} /object_info/{} /models/{} /settings/{} /userdata/{} /userdata/{}/move/{} /jobs/{} /jobs/{}/cancel
/extensions/{}/{} /workflow_templates/{}/{} /templates/{} /experiment/models/{} /view_metadata/{}
/internal/files/{} /{} /assets/{} /api/{}
""")
POST_ROUTES = _words("""
/prompt /queue /history /interrupt /free /jobs/cancel /settings /settings/x /userdata/x.json /users /view /ws
/nothing /internal/logs/subscribe
""")
QUERY = _words("""
filename type subfolder channel preview max_items offset limit status sort_by sort_order workflow_id dir path
recurse split full_info overwrite clientId
""")
WORDS = _words("""
input output temp true rgb a webp;90 jpeg;² webp;99999999999999999999999999999 png ; completed desc , loras
execution_duration pending,failed checkpoints
""")
NODES = _words("PrimitiveInt PreviewAny EmptyImage SaveImage LoadImage ImageScale ProbeShow ProbeAdd ProbeChoice")
INPUTS = _words("value source images image width height batch_size color filename_prefix a b x")
FORM_HEADERS = ["Content-Transfer-Encoding: base64", "Content-Encoding: gzip", "Content-Length: 5"]
FORM_HEADERS += ["Content-Type: multipart/mixed; boundary=C", "Content-Type: text/plain; charset=nonsense"]
FORM_TYPES = ["multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=B", "text/plain"]
FORM_TYPES += ["multipart/form-data; boundary=" + "b" * 100, "application/x-www-form-urlencoded"]
HEADERS = {
    "Range": ["bytes=0-", "bytes=5-2", "bytes=a-b", "bytes=" + "9" * 500, "x=1", "bytes=-0", "bytes=0-0,5-6"],
    "If-Modified-Since": ["x", "Thu, 99 Foo 9999 99:99:99 GMT", "0"],
    "If-None-Match": ['"' + "x" * 300],
    "Accept-Encoding": ["gzip", "br;q=x", "\xff"],
    "Accept": ["text/html"],
    "Cookie": ["a=" + "b" * 4000],
    "X-Long": ["y" * 7000],
    "Content-Type": ["\xff\xfe"],
    "Upgrade": ["websocket"],
    "Connection": ["Upgrade"],
    "Sec-WebSocket-Key": ["x"],
    "Sec-WebSocket-Version": ["13", "99", "x"],
    "Expect": ["100-continue", "x"],
    "Content-Length": ["-1", "x", "5", "9" * 30],
    "Transfer-Encoding": ["chunked", "x"],
    "X-HTTP-Method-Override": ["DELETE"],
    "Comfy-User": ["../../x"],
    "Forwarded": ["host=evil"],
}


@dataclass
class Request:
    """One request. `target` is sent as it is."""

    method: str
    target: str
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


def requests(seed: int, count: int) -> Iterator[Request]:
    """Different for each seed, the same for the same seed."""
    rng = random.Random(seed)
    makers = (_path, _path, _query, _query, _prompt, _prompt, _json, _json, _raw, _upload, _upload, _upload, _headers)
    for _ in range(count):
        request = rng.choice(makers)(rng)
        if rng.random() < 0.03:
            request.method = rng.choice(("HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "GET", "POST"))
        yield request


def _encoded(rng: random.Random, name: str) -> str:
    """A name as part of a target: quoted in full, in part, or as it is if the line stays one."""
    plain = name.encode("utf-8", "surrogatepass")
    if rng.random() < 0.5:
        return quote(plain, safe="")[:7000]
    text = quote(plain, safe="/\\.:;*[]~$" if rng.random() < 0.8 else "/")
    return text[:7000]


def _name(rng: random.Random) -> str:
    return "/".join(rng.choice(PARTS) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _prefix(rng: random.Random) -> str:
    return rng.choice(("", "/api"))


def _path(rng: random.Random) -> Request:
    route = rng.choice(NAMED_ROUTES)
    method = rng.choice(("GET", "GET", "GET", "POST", "DELETE"))
    if method != "GET" and "userdata" not in route and "jobs" not in route and "settings" not in route:
        method = "GET"
    names = [_encoded(rng, _name(rng)) for _ in range(route.count("{}"))]
    body = json.dumps(rng.choice(JUNK)).encode() if method == "POST" else b""
    return Request(method, _prefix(rng) + route.format(*names), body)


def _query(rng: random.Random) -> Request:
    pairs: list[tuple[str, str]] = []
    routes = (
        "/view",
        "/view",
        "/view",
        "/history",
        "/jobs",
        "/userdata",
        "/v2/userdata",
        "/view_metadata/loras",
        "/prompt",
    )
    route = rng.choice(routes)
    if route == "/view":
        pairs = [("filename", _name(rng)), ("type", rng.choice(("input", "output", "temp", "elsewhere")))]
    for _ in range(rng.randrange(4)):
        value = rng.choice((_name(rng), rng.choice(WORDS), str(rng.choice(NUMBERS))))
        pairs.append((rng.choice(QUERY), value))
    text = "&".join(f"{quote(key)}={_encoded(rng, value)}" for key, value in pairs)
    return Request("GET", f"{_prefix(rng)}{route}?{text}"[:8000])


def _node(rng: random.Random) -> Any:
    if rng.random() < 0.1:
        return rng.choice(JUNK)
    names = NODES
    inputs = INPUTS
    node: dict[str, Any] = {"class_type": rng.choice(names) if rng.random() < 0.85 else rng.choice(JUNK)}
    node["inputs"] = {}
    for name in rng.sample(inputs, rng.randrange(6)):
        link = [str(rng.randrange(4)), rng.choice((0, 0, 1, -1))]
        node["inputs"][name] = rng.choice((rng.choice(JUNK), link, _name(rng), 8))
    if rng.random() < 0.1:
        node["inputs"] = rng.choice(JUNK)
    if rng.random() < 0.1:
        node["is_changed"] = rng.choice(JUNK)
    if rng.random() < 0.05:
        del node["inputs"]
    return node


def _nested(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


def _prompt(rng: random.Random) -> Request:
    prompt: Any = {str(number): _node(rng) for number in range(rng.randrange(4))}
    if rng.random() < 0.3:
        prompt = {**GOOD, "9": _node(rng)} if rng.random() < 0.5 else GOOD
    body: dict[str, Any] = {"prompt": prompt if rng.random() < 0.95 else rng.choice(JUNK)}
    for name in ("number", "front", "extra_data", "client_id", "prompt_id", "partial_execution_targets"):
        if rng.random() < 0.15:
            body[name] = rng.choice(JUNK + NUMBERS)
    if rng.random() < 0.1:
        name = rng.choice(("extra_pnginfo", "client_id", "a"))
        body["extra_data"] = {name: rng.choice((*JUNK, _nested(150), _nested(190), _nested(500)))}
    return Request("POST", _prefix(rng) + "/prompt", json.dumps(body).encode())


def _json(rng: random.Random) -> Request:
    names = ["clear", "delete", "prompt_id", "unload_models", "free_memory", "job_ids", "clientId", "enabled", "x"]
    body: Any = {rng.choice(names): rng.choice(JUNK + NUMBERS) for _ in range(rng.randrange(4))}
    if rng.random() < 0.2:
        body = rng.choice(JUNK)
    method = "PATCH" if (route := rng.choice(POST_ROUTES)).endswith("subscribe") else "POST"
    return Request(method, _prefix(rng) + route, json.dumps(body).encode())


def _raw(rng: random.Random) -> Request:
    kinds = ("application/json", "text/plain", "application/x-www-form-urlencoded", "\xff", "a/b/c")
    headers = [("Content-Type", rng.choice(kinds))]
    if rng.random() < 0.2:
        headers.append(("Content-Encoding", rng.choice(("gzip", "deflate", "br", "zstd", "identity", "x"))))
    return Request("POST", _prefix(rng) + rng.choice(POST_ROUTES), rng.choice(RAW), headers)


def _png(rng: random.Random) -> bytes:
    good = png((1, 2, 3, 200), size=(4, 4))
    kind = rng.randrange(6)
    if kind == 0:
        return good
    if kind == 1:
        return good[: rng.randrange(len(good))]
    if kind == 2:
        return bytes(byte ^ (1 << rng.randrange(8)) if rng.random() < 0.03 else byte for byte in good)
    if kind == 3:  # a small file of 30,000 x 30,000 pixels
        header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        return good[:8] + chunk + good[33:]
    return rng.choice(
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"GIF89a",
            b"%!PS-Adobe-3.0 EPSF-3.0\n",
            b"",
            b"\xff\xd8\xff\xe0",
            b"BM" * 40,
        )
    )


def _upload(rng: random.Random) -> Request:
    boundary = rng.choice(("B", "B", "B", "b" * 70))
    name = rng.choice((_name(rng), _name(rng), "up.png", "up.svg", "x.html")).replace("\r", "").replace("\n", "")
    shown = name.replace('"', "%22").encode("utf-8", "surrogatepass")[:3000].decode("latin-1")
    field_name = rng.choice(("image",) * 8 + ("other", ""))
    fields: list[tuple[str, bytes]] = [(f'name="{field_name}"; filename="{shown}"', _png(rng))]
    for field_name in ("type", "subfolder", "overwrite", "original_ref"):
        if rng.random() < 0.35:
            value = rng.choice((rng.choice(WORDS), _name(rng), "true", "output"))
            if field_name == "original_ref":
                parts = {key: rng.choice((_name(rng), "file.png", "input", rng.choice(JUNK)))
                         for key in ("filename", "type", "subfolder")}  # fmt: skip
                value = json.dumps(rng.choice((parts, {"filename": "file.png", "type": "input"}, rng.choice(JUNK))))
            fields.append((f'name="{field_name}"', value.encode("utf-8", "surrogatepass")))
    rng.shuffle(fields)
    body = b""
    for disposition, content in fields:
        head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n"
        if rng.random() < 0.05:
            head += rng.choice(FORM_HEADERS) + "\r\n"
        body += head.encode("latin-1") + b"\r\n" + content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    if rng.random() < 0.15:
        cut, broken = body[: rng.randrange(len(body))], body.replace(b"name=", b"eman=")
        body = rng.choice((cut, broken, b"--B\r\n\r\n--B--", b"", body.replace(b"--\r\n", b"\r\n")))
    kind = rng.choice(FORM_TYPES) if rng.random() < 0.1 else f"multipart/form-data; boundary={boundary}"
    route = rng.choice(("/upload/image", "/upload/image", "/upload/mask"))
    return Request("POST", _prefix(rng) + route, body, [("Content-Type", kind)])


def _headers(rng: random.Random) -> Request:
    headers = [(name, rng.choice(HEADERS[name])) for name in rng.sample(list(HEADERS), rng.randrange(1, 4))]
    file = "/view?filename=file.png&type=input"
    target = rng.choice((file, "/", "/queue", "/ws?clientId=" + "x" * 500, rng.choice(GET_ROUTES)))
    return Request("GET", _prefix(rng) + target, b"", headers)


UNFINISHED = {"content-length", "transfer-encoding", "expect", "upgrade"}
"""Headers with which the host may wait for more, or close the connection without an answer."""


class Sender:
    """Sends requests over one connection for as long as the host keeps it."""

    def __init__(self, address: str, port: int) -> None:
        self._address = address, port
        self._connection: http.client.HTTPConnection | None = None

    def send(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers; status 0 for an unfinished request that the host does not answer."""
        unfinished = bool({name.lower() for name, _ in request.headers} & UNFINISHED)
        for last in (False, True):
            if unfinished or last:
                self.close()
            try:
                return self._send(request, unfinished)
            except (http.client.HTTPException, OSError):
                # The host closes a connection after an answer that it gave before it had the whole body.
                if unfinished:
                    return 0, b"", {}
                if last:
                    raise
            finally:
                if unfinished:
                    self.close()
        raise AssertionError("not reached")

    def _send(self, request: Request, unfinished: bool) -> tuple[int, bytes, dict[str, str]]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=0.3 if unfinished else 5)
        connection = self._connection
        connection.putrequest(request.method, "/", skip_accept_encoding=True)
        # http.client refuses a target that is not plain ASCII; the host must not rely on that.
        connection._buffer[0] = f"{request.method} {request.target} HTTP/1.1".encode("latin-1", "replace")  # type: ignore[attr-defined]
        for name, value in request.headers:
            connection.putheader(name, value.encode("latin-1"))
        if request.body or request.method == "POST":
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        answer = connection.getresponse()
        result = answer.status, answer.read(), dict(answer.getheaders())
        if answer.will_close:
            self.close()
        return result

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
