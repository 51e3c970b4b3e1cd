"""Reading requests and writing answers: what is refused, with which status, and what a browser may do with a file."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from kandiflux.lite.http import (
    Refused,
    answer_errors,
    error_json,
    file_answer,
    json_answer,
    large_json_answer,
    query_int,
    read_form,
    read_json,
    read_object,
    shown_type,
)

STATUSES = {
    400: ("ENAMETOOLONG", "EINVAL", "EILSEQ", "ELOOP", "ENOTDIR", "EISDIR", "EEXIST", "ENOTEMPTY"),
    403: ("EACCES", "EPERM", "EROFS"),
    404: ("ENOENT",),
    503: ("EMFILE", "ENFILE", "ENOMEM"),
    507: ("ENOSPC", "EDQUOT", "EFBIG"),
    500: ("EIO", "EBADF"),
}


def answered(error: Exception) -> web.Response:
    async def handler(_: web.Request) -> NoReturn:
        raise error

    answer = asyncio.run(answer_errors(make_mocked_request("GET", "/x"), handler))
    assert isinstance(answer, web.Response)
    return answer


@pytest.mark.parametrize(("status", "name"), [(status, name) for status, names in STATUSES.items() for name in names])
def test_the_status_of_an_error_of_the_system(status: int, name: str, caplog: pytest.LogCaptureFixture) -> None:
    number = getattr(errno, name)
    with caplog.at_level(logging.WARNING):
        answer = answered(OSError(number, os.strerror(number)))
    assert (answer.status, answer.text) == (status, os.strerror(number))
    assert ("Traceback" in caplog.text) == (status == 500), "what nobody expects is logged whole"


def test_an_error_without_a_number(caplog: pytest.LogCaptureFixture) -> None:
    assert answered(OSError()).status == 500
    assert answered(ZeroDivisionError()).status == 500
    assert "ZeroDivisionError" in caplog.text


def test_a_refusal_is_answered_as_it_says() -> None:
    answer = answered(Refused(418, "no tea \ud800"))
    assert (answer.status, answer.text) == (418, "no tea \\ud800")
    answer = answered(Refused(400, "no", {"error": "no"}))
    assert (answer.status, answer.content_type) == (400, "application/json")


@pytest.mark.parametrize("error", [web.RequestPayloadError("cut"), HttpProcessingError(message="cut")])
def test_a_body_that_cannot_be_read(error: Exception) -> None:
    answer = answered(error)
    assert answer.status == 400
    assert answer.text is not None
    assert answer.text.startswith("The body cannot be read: ")


def test_what_aiohttp_answers_by_itself_goes_on() -> None:
    with pytest.raises(web.HTTPNotFound):
        answered(web.HTTPNotFound())
    with pytest.raises(ConnectionResetError):
        answered(ConnectionResetError())


Read = Callable[[web.Request], Awaitable[Any]]


def asked(read: Read, body: Any = None, method: str = "POST", path: str = "/x", **options: Any) -> tuple[int, str]:
    """Status and text of the answer of a server that sends what `read` finds as JSON."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return json_answer(await read(request))

    async def ask() -> tuple[int, str]:
        app = web.Application(middlewares=[answer_errors], client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", handler)
        async with TestClient(TestServer(app)) as client, client.request(method, path, data=body, **options) as answer:
            return answer.status, await answer.text()

    return asyncio.run(ask())


def error_of(told: tuple[int, str]) -> str:
    """The details of a bad request."""
    status, text = told
    answer = json.loads(text)
    assert (status, answer["error"]["type"], answer["error"]["message"]) == (400, "invalid_request", "Invalid request")
    assert answer["error"]["extra_info"] == answer["node_errors"] == {}
    return answer["error"]["details"]


# Bodies of JSON


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP"])
def test_a_compressed_body_is_refused_and_the_connection_closed(encoding: str) -> None:
    async def handler(_: web.Request) -> NoReturn:
        raise AssertionError

    answer = asyncio.run(answer_errors(make_mocked_request("POST", "/", {"Content-Encoding": encoding}), handler))
    assert (answer.status, answer.keep_alive) == (415, False)


def test_a_body_may_say_that_it_is_not_compressed() -> None:
    assert asked(read_json, b"[1]", headers={"Content-Encoding": "Identity"}) == (200, "[1]")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[NaN]", b"[1e999]", b"[" * 300 + b"]" * 300, b"\xff", b"[NaN" + b" " * (1 << 16)]
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    assert error_of(asked(read_json, body)).startswith("The body is not valid JSON: ")


def test_a_body_has_a_largest_size_if_one_is_given() -> None:
    def read(request: web.Request) -> Awaitable[Any]:
        return read_json(request, longest=8)

    assert asked(read, b"[123456]") == (200, "[123456]")
    assert asked(read, b"[1234567]")[0] == 413
    large = json.dumps(["x" * (1 << 17)])
    assert asked(read_json, large.encode()) == (200, large)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"a": 1, "b": "x", "other": []}, None),
        ({}, None),
        ({"a": None, "b": 5}, None),
        ({"a": "1"}, "a: expected int, got str"),
        ({"b": []}, "b: expected str or int, got list"),
        ([], "The body is not a JSON object: expected {…}, got list"),
        (None, "The body is not a JSON object: expected {…}, got NoneType"),
    ],
)
def test_the_members_of_an_object_have_types(body: Any, error: str | None) -> None:
    told = asked(lambda request: read_object(request, {"a": int, "b": (str, int)}), json.dumps(body).encode())
    if error is None:
        assert (told[0], json.loads(told[1])) == (200, body)
    else:
        assert error_of(told) == error


def test_an_object_without_types_may_hold_anything() -> None:
    assert asked(read_object, b'{"a": [1]}') == (200, '{"a": [1]}')


@pytest.mark.parametrize(
    ("query", "number"),
    [("n=5", 5), ("n=-5", -5), ("n=%2B5", 5), ("m=5", None), ("n=" + "9" * 18, 10**18 - 1), ("n=5&n=6", 5)],
)
def test_whole_numbers_of_the_query(query: str, number: int | None) -> None:
    assert query_int(make_mocked_request("GET", f"/?{query}"), "n") == number


@pytest.mark.parametrize("text", ["", "x", "1.5", "-", "--5", "1e3", " 5", "0x1", "1" * 19, "x" * 50])
def test_what_is_not_a_whole_number(text: str) -> None:
    with pytest.raises(Refused) as refused:
        query_int(make_mocked_request("GET", f"/?n={text}"), "n")
    details = refused.value.body["error"]["details"]
    assert refused.value.status == 400
    assert details == f"n: expected a whole number, got {text[:40]!r}"


def test_errors_of_the_prompt() -> None:
    assert error_json("a", "b", "c")["error"] == {"type": "a", "message": "b", "details": "c", "extra_info": {}}
    assert error_json("a", "b") == {
        "error": {"type": "a", "message": "b", "details": "b", "extra_info": {}},
        "node_errors": {},
    }


# Forms

LARGEST = 2 << 20


async def read_all(request: web.Request) -> list[Any]:
    with await read_form(request, LARGEST) as form:
        content = None if form.file is None else form.file.read()
    assert form.file is None or form.file.closed
    return [form.texts, form.filename, None if content is None else len(content), (content or b"")[:20].decode()]


def form_of(*fields: tuple[str, str | bytes, str | None]) -> tuple[int, str]:
    """The answer to a form of these fields: name, value, and the file's name if it is one."""
    parts: list[bytes] = []
    for name, value, filename in fields:
        file = "" if filename is None else f'; filename="{filename}"'
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts += [head.encode(), value if isinstance(value, bytes) else value.encode(), b"\r\n"]
    body = io.BytesIO(b"".join([*parts, b"--b--\r\n"]))
    return asked(read_all, body, headers={"Content-Type": "multipart/form-data; boundary=b"})


def found(told: tuple[int, str]) -> list[Any]:
    assert told[0] == 200, told[1]
    return json.loads(told[1])


def test_a_form_has_texts_and_a_file() -> None:
    fields = [("a", "x", None), ("image", b"1234", "i.png"), ("b", "ü", None)]
    assert found(form_of(*fields)) == [{"a": "x", "b": "ü"}, "i.png", 4, "1234"]
    assert found(form_of(("a", "", None))) == [{"a": ""}, "", None, ""]


def test_of_fields_with_one_name_the_first_counts() -> None:
    fields = [("a", "1", None), ("a", "2", None), ("image", b"one", "1.png"), ("image", b"second", "2.png")]
    assert found(form_of(*fields)) == [{"a": "1"}, "1.png", 3, "one"]


def test_only_a_file_called_image_is_taken() -> None:
    fields = [("picture", b"no", "no.png"), ("image", "a text", None), ("image", b"yes", "yes.png")]
    assert found(form_of(*fields)) == [{"image": "a text"}, "yes.png", 3, "yes"]


def test_a_form_of_many_fields() -> None:
    assert len(found(form_of(*((str(number), "x", None) for number in range(100))))[0]) == 100
    assert form_of(*((str(number), "x", None) for number in range(101))) == (400, "a form with more than 100 fields")


def test_a_form_has_a_largest_size() -> None:
    half = b"x" * (LARGEST // 2)
    assert found(form_of(("image", half, "a"), ("other", half, "b")))[2] == LARGEST // 2
    assert form_of(("image", half, "a"), ("other", half + b"x", "b"))[0] == 413


def test_a_text_has_a_largest_size() -> None:
    assert len(found(form_of(("a", "x" * (1 << 20), None)))[0]["a"]) == 1 << 20
    assert form_of(("abc", "x" * (1 << 20) + "x", None)) == (400, "the form field 'abc' is longer than 1048576 bytes")


PART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n%s\r\nx\r\n--b--\r\n'


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (PART % b"", "multipart/form-data; boundary=b", None),
        (PART % b"Content-Transfer-Encoding: binary\r\n", "multipart/form-data; boundary=b", None),
        (PART % b"Content-Transfer-Encoding: base64\r\n", "multipart/form-data; boundary=b", "is encoded"),
        (PART % b"Content-Encoding: gzip\r\n", "multipart/form-data; boundary=b", "is encoded"),
        (PART.replace(b'; name="a"', b"") % b"", "multipart/form-data; boundary=b", "without a name"),
        (PART % b"Content-Type: multipart/mixed; boundary=c\r\n", "multipart/form-data; boundary=b", "within a form"),
        ((PART % b"").replace(b"x\r", b"\xff\r"), "multipart/form-data; boundary=b", "read: UnicodeDecodeError: "),
        (b"a=x", "application/x-www-form-urlencoded", "expected a multipart form"),
        (PART % b"", "multipart/form-data", "the form cannot be read: "),
    ],
    ids=range(9),
)
def test_a_form_that_is_not_as_it_should_be(body: bytes, kind: str, error: str | None) -> None:
    status, text = asked(read_all, body, headers={"Content-Type": kind})
    assert (status, error is None) in ((200, True), (400, False))
    assert (error or "") in text


# Answers


def test_answers_are_json() -> None:
    assert (json_answer([1]).status, json_answer({"a": "ü"}, 418).status) == (200, 418)
    many = [{"a": [number]} for number in range(3)]
    for answer in (json_answer(many), asyncio.run(large_json_answer(many))):
        assert answer.content_type == "application/json"
        assert answer.text is not None
        assert json.loads(answer.text) == many


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("a." + ending, "image/" + kind) for ending, kind in [("png", "png"), ("JPG", "jpeg"), ("jpeg", "jpeg")]),
        *(("a." + ending, "image/" + ending) for ending in ("gif", "webp", "avif", "bmp", "tiff")),
        *(("a." + ending, kind) for ending, kind in [("mp4", "video/mp4"), ("mp3", "audio/mpeg"), ("flac", "audio/")]),
        ("a.ico", "image/"),
        *(("a." + ending, None) for ending in ("svg", "svgz", "png.gz", "html", "xml", "pdf", "js", "css", "txt", "x")),
        ("png", None),
        ("", None),
    ],
)
def test_what_a_browser_may_show(name: str, kind: str | None) -> None:
    assert (shown_type(name) or "").startswith(kind or "None") == (kind is not None)
    assert (shown_type(name) is None) == (kind is None)


def test_a_file_without_a_type_is_only_downloaded(tmp_path: Path) -> None:
    def headers(kind: str | None) -> list[str | None]:
        told = file_answer(tmp_path / "a", kind, 'filename="a"').headers
        return [told.get(name) for name in ("Content-Type", "Content-Disposition", "Content-Security-Policy")]

    assert headers("image/png") == ["image/png", 'filename="a"', None]
    assert headers(None) == ["application/octet-stream", 'attachment; filename="a"', "sandbox"]
