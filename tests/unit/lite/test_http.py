"""What a client is answered for an error that is not of ours."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from typing import NoReturn

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from kandiflux.lite.http import Refused, answer_errors

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


def test_what_aiohttp_answers_by_itself_goes_on() -> None:
    with pytest.raises(web.HTTPNotFound):
        answered(web.HTTPNotFound())
    with pytest.raises(ConnectionResetError):
        answered(ConnectionResetError())
