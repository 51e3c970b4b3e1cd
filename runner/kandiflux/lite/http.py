"""Reads requests and writes responses: types and limits, errors, and content types that are safe in a browser.

Handlers read a body only through `read_json`, `read_object` and `read_form`. These, and the code that does the work,
raise Refused for malformed input; `answer_errors` turns it into a response.
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
"""A request handler."""

_LARGE_BODY = 1 << 16
"""JSON bodies of at least this many bytes are parsed in a thread, so that other requests are not blocked."""

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
"""The HTTP status for an OSError: the client sent an invalid name, or the machine is out of a resource."""

_RASTER = {"png", "apng", "jpeg", "gif", "webp", "avif", "bmp", "tiff", "x-icon", "vnd.microsoft.icon"}

mimetypes.add_type("image/webp", ".webp")
mimetypes.add_type("image/avif", ".avif")


class Refused(Exception):
    """A request that is rejected. `status`: HTTP status of the response; `body`: its JSON, or None for plain text."""

    def __init__(self, status: int, reason: str, body: Any = None) -> None:
        super().__init__(status, reason, body)  # all arguments, so that it can be pickled
        self.status = status
        self.body = body

    def __str__(self) -> str:
        return str(self.args[1])


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns exceptions into responses: client errors into 4xx and a log line, others into 500 and a traceback."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # No client needs it. A few kB can expand to gigabytes, and aiohttp blocks the handler if decoding fails.
        answer = web.Response(status=415, text="Content-Encoding: expected an uncompressed body.")
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
        # A name may contain a lone surrogate.
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
    except Exception:  # the last resort: one request fails, the host continues
        log.exception("%s %.200r failed", request.method, request.path)
        return web.Response(status=500, text="An error in the lite host; its log has the traceback.")


def error_json(kind: str, message: str, details: str = "") -> dict[str, Any]:
    """Returns an error of /prompt in ComfyUI's JSON format."""
    error: dict[str, Any] = {"type": kind, "message": message, "details": details or message, "extra_info": {}}
    return {"error": error, "node_errors": {}}


def _bad_request(details: str) -> Refused:
    return Refused(400, details, error_json("invalid_request", "Invalid request", details))


async def read_json(request: web.Request, *, longest: int | None = None) -> Any:
    """Returns the body's JSON. longest: maximum size in bytes. Refuses NaN, infinities, huge numbers, deep nesting."""
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
    """Returns the body's JSON object. Refuses it if a member in `types` has another type and is not null."""
    body = await read_json(request)
    if not is_dict(body):
        raise _bad_request(f"The body is not a JSON object: expected {{…}}, got {type(body).__name__}")
    for name, kind in (types or {}).items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            names = [one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,))]
            raise _bad_request(f"{name}: expected {' or '.join(names)}, got {type(body[name]).__name__}")
    return body


def query_int(request: web.Request, name: str) -> int | None:
    """Returns an integer parameter of the query string; None if it is absent."""
    text = request.query.get(name)
    if text is None:
        return None
    # A number with thousands of digits is not a useful count, and is slow to parse.
    if re.fullmatch(r"[+-]?\d{1,18}", text) is None:
        raise _bad_request(f"{name}: expected a whole number, got {text[:40]!r}")
    return int(text)


@dataclass
class Form:
    """A multipart form: its text fields by name, and the file in the field "image"."""

    texts: dict[str, str] = field(default_factory=dict[str, str])
    filename: str = ""
    file: IO[bytes] | None = None

    def __enter__(self) -> Form:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()


async def read_form(request: web.Request, largest: int) -> Form:
    """Reads the body as a multipart form of at most `largest` bytes. If field names repeat, the first is used."""
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
            raise Refused(400, f"a form with more than {_MOST_PARTS} fields")
        if not isinstance(part, BodyPartReader) or not part.name:
            raise Refused(400, "a form field without a name, or a form within a form")
        if part.headers.get("Content-Encoding") or part.headers.get("Content-Transfer-Encoding", "binary") != "binary":
            raise Refused(400, f"the form field {part.name!r:.40} is encoded; expected unencoded bytes")
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
    """Returns a response with `data` as JSON."""
    return web.Response(text=json_text(data), status=status, content_type="application/json")


async def large_json_answer(data: Any) -> web.Response:
    """Like json_answer, for data that may contain thousands of prompts: does not block other requests."""
    text = await asyncio.to_thread(json_text, data, split=2)
    return web.Response(text=text, content_type="application/json")


def shown_type(name: str) -> str | None:
    """Returns the content type of a raster image, audio or video file by its name; None for all other files.

    A browser runs no code in these. An SVG, XML, PDF or HTML file can contain scripts, which would run in this host's
    origin and could use its whole API and the editor's settings.
    """
    kind, encoding = mimetypes.guess_type(name)
    main, _, sub = (kind or "").partition("/")
    shown = main in ("audio", "video") or (main == "image" and sub in _RASTER)
    return kind if shown and encoding is None else None


def file_answer(path: Path, content_type: str | None, disposition: str) -> web.FileResponse:
    """Returns a stored file as a response. Without a content type (see `shown_type`), browsers only download it."""
    headers = {"Content-Type": content_type or "application/octet-stream", "Content-Disposition": disposition}
    if content_type is None:
        headers["Content-Disposition"] = f"attachment; {disposition}"
        headers["Content-Security-Policy"] = "sandbox"
    return web.FileResponse(path, headers=headers)
