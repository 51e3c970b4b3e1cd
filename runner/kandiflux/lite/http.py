"""Reading requests and writing answers: types and limits, the errors, and what a browser may do with an answer.

A handler reads a body only through `read_json`, `read_object` and `read_form`. What is malformed raises Refused there,
or in the code that does the work, and `answer_errors` turns it into the answer.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mimetypes
import re
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from kandiflux.lite.jsontext import json_text
from kandiflux.util.json_values import is_dict, parse_json

__all__ = [
    "Form",
    "Handler",
    "Refused",
    "answer_errors",
    "error_json",
    "file_answer",
    "json_answer",
    "large_json_answer",
    "query_int",
    "read_form",
    "read_json",
    "read_object",
    "shown_type",
]

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What answers a request."""

_LARGE_BODY = 1 << 16
"""Bytes from which JSON is read in a thread, so that other requests are answered meanwhile."""

_MOST_PARTS = 100
_LONGEST_TEXT = 1 << 20
_IN_MEMORY = 1 << 22

_STATUS_OF_ERRNO = {
    **dict.fromkeys((errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP), 400),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY), 400),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), 403),
    errno.ENOENT: 404,
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOMEM), 503),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), 507),
}
"""The status for an error of the operating system: a name from a client is wrong, or the machine lacks something."""

_RASTER = {"png", "apng", "jpeg", "gif", "webp", "avif", "bmp", "tiff", "x-icon", "vnd.microsoft.icon"}

mimetypes.add_type("image/webp", ".webp")
mimetypes.add_type("image/avif", ".avif")


class Refused(Exception):
    """A request that is not carried out. `status` is the HTTP status of the answer, `body` its JSON if it has one."""

    def __init__(self, status: int, reason: str, body: Any = None) -> None:
        super().__init__(status, reason, body)  # all of them, so that it can be pickled
        self.status = status
        self.body = body

    def __str__(self) -> str:
        return str(self.args[1])


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what a handler raises: a client's error with 4xx and a line in the log, ours with 500 and a traceback."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # Nobody needs it. A few kB can unpack to gigabytes, and aiohttp leaves a handler waiting if they do not unpack.
        answer = web.Response(status=415, text="Content-Encoding: expected the body as it is.")
        answer.force_close()
        return answer
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise
    except Refused as refused:
        log.info("%s %.200r: %s %.500s", request.method, request.path, refused.status, refused)
        if refused.body is not None:
            return json_answer(refused.body, refused.status)
        # A name may hold half of a surrogate pair.
        text = str(refused).encode("utf-8", "backslashreplace").decode()
        return web.Response(status=refused.status, text=text)
    except (HttpProcessingError, web.RequestPayloadError) as error:
        return web.Response(status=400, text=f"The body cannot be read: {error}")
    except OSError as error:
        status = _STATUS_OF_ERRNO.get(error.errno or 0)
        if status is None:
            log.exception("%s %.200r failed", request.method, request.path)
        else:
            log.warning("%s %.200r: %s %s", request.method, request.path, status, error.strerror)
        return web.Response(status=status or 500, text=f"{error.strerror or type(error).__name__}")
    except Exception:  # the last resort: one request fails, the host goes on
        log.exception("%s %.200r failed", request.method, request.path)
        return web.Response(status=500, text="An error in the lite host; its log has the traceback.")


def error_json(kind: str, message: str, details: str = "") -> dict[str, Any]:
    """The JSON of ComfyUI's errors of /prompt."""
    error: dict[str, Any] = {"type": kind, "message": message, "details": details or message, "extra_info": {}}
    return {"error": error, "node_errors": {}}


def _bad_request(details: str) -> Refused:
    return Refused(400, details, error_json("invalid_request", "Invalid request", details))


async def read_json(request: web.Request, *, longest: int | None = None) -> Any:
    """The body's JSON, of at most `longest` bytes. Refused for NaN, infinities, too large numbers and deep nesting."""
    body = await request.read()
    if longest is not None and len(body) > longest:
        raise web.HTTPRequestEntityTooLarge(longest, len(body))
    try:
        if len(body) < _LARGE_BODY:
            return parse_json(body, finite=True)
        return await asyncio.to_thread(partial(parse_json, body, finite=True))
    except ValueError as error:
        raise _bad_request(f"The body is not valid JSON: {error}") from error


async def read_object(
    request: web.Request, types: Mapping[str, type | tuple[type, ...]] | None = None
) -> dict[str, Any]:
    """The body's JSON object. A member named in `types` is of that type, absent or null."""
    body = await read_json(request)
    if not is_dict(body):
        raise _bad_request(f"The body is not a JSON object: expected {{…}}, got {type(body).__name__}")
    for name, kind in (types or {}).items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            names = [one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,))]
            raise _bad_request(f"{name}: expected {' or '.join(names)}, got {type(body[name]).__name__}")
    return body


def query_int(request: web.Request, name: str) -> int | None:
    """A whole number of the query string; None if it is absent."""
    text = request.query.get(name)
    if text is None:
        return None
    # A number of thousands of digits is no use as a count, and slow to handle.
    if re.fullmatch(r"[+-]?\d{1,18}", text) is None:
        raise _bad_request(f"{name}: expected a whole number, got {text[:40]!r}")
    return int(text)


@dataclass
class Form:
    """A multipart form: its texts by name, and the file of the field "image"."""

    texts: dict[str, str] = field(default_factory=dict[str, str])
    filename: str = ""
    file: IO[bytes] | None = None

    def __enter__(self) -> Form:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()


async def read_form(request: web.Request, largest: int) -> Form:
    """The body as a multipart form of at most `largest` bytes. Of fields with one name, the first counts."""
    form = Form()
    if not request.content_type.startswith("multipart/"):
        raise Refused(400, "expected a multipart form")
    try:
        await _read_parts(await request.multipart(), form, largest)
    except BaseException as error:
        form.__exit__()
        # aiohttp raises anything from AssertionError to zlib.error for a malformed form.
        if isinstance(error, (web.HTTPException, Refused, OSError)) or not isinstance(error, Exception):
            raise
        raise Refused(400, f"the form cannot be read: {type(error).__name__}: {error}") from error
    return form


async def _read_parts(reader: MultipartReader, form: Form, largest: int) -> None:
    size = parts = 0
    while (part := await reader.next()) is not None:
        parts += 1
        if parts > _MOST_PARTS:
            raise Refused(400, f"a form of more than {_MOST_PARTS} fields")
        if not isinstance(part, BodyPartReader) or not part.name:
            raise Refused(400, "a form field without a name, or a form within a form")
        if part.headers.get("Content-Encoding") or part.headers.get("Content-Transfer-Encoding", "binary") != "binary":
            raise Refused(400, f"the form field {part.name!r:.40} is encoded; expected its bytes as they are")
        is_image = part.name == "image" and part.filename is not None and form.file is None
        if is_image:
            form.filename = part.filename or ""
            form.file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the form closes it
        text = bytearray()
        while chunk := await part.read_chunk(1 << 16):
            size += len(chunk)
            if size > largest:
                raise web.HTTPRequestEntityTooLarge(largest, size)
            if is_image and form.file is not None:
                form.file.write(chunk)
            elif part.filename is None:
                text += chunk
                if len(text) > _LONGEST_TEXT:
                    raise Refused(400, f"the form field {part.name!r:.40} is longer than {_LONGEST_TEXT} bytes")
        if part.filename is None:
            form.texts.setdefault(part.name, text.decode("utf-8"))
    if form.file is not None:
        form.file.seek(0)


def json_answer(data: Any, status: int = 200) -> web.Response:
    """`data` as JSON."""
    return web.Response(text=json_text(data), status=status, content_type="application/json")


async def large_json_answer(data: Any) -> web.Response:
    """The same for what may hold thousands of prompts: other requests are answered while it is written."""
    text = await asyncio.to_thread(json_text, data, split=2)
    return web.Response(text=text, content_type="application/json")


def shown_type(name: str) -> str | None:
    """The content type of a raster picture, sound or video, by its file name. None for everything else.

    A browser shows these and runs nothing in them. An SVG, XML, PDF or HTML file can hold scripts, which would run with
    this host's origin: with all of its API and the editor's settings.
    """
    kind, encoding = mimetypes.guess_type(name)
    main, _, sub = (kind or "").partition("/")
    shown = main in ("audio", "video") or (main == "image" and sub in _RASTER)
    return kind if shown and encoding is None else None


def file_answer(path: Path, content_type: str | None, disposition: str) -> web.FileResponse:
    """A file that a client or a node has stored. Without a content type (see `shown_type`) it is only downloaded."""
    headers = {"Content-Type": content_type or "application/octet-stream", "Content-Disposition": disposition}
    if content_type is None:
        headers["Content-Disposition"] = f"attachment; {disposition}"
        headers["Content-Security-Policy"] = "sandbox"
    return web.FileResponse(path, headers=headers)
