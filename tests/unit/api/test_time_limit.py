"""A deadline for a whole request: what is cut off, and when."""

from __future__ import annotations

import socket
import threading
import time

import urllib3
from kandiflux.api.time_limit import TimeLimit, limited_pool_classes

from tests.support.stub_server import StubServer, drip
from tests.support.waiting import until


def test_a_socket_is_shut_down_at_the_deadline_and_not_before() -> None:
    ours, theirs = socket.socketpair()
    told: list[float] = []
    before = time.monotonic()
    with ours, theirs, TimeLimit(1.0, lambda: told.append(time.monotonic())) as limit:
        assert before + 1.0 <= limit.when <= time.monotonic() + 1.0
        limit.watch(ours)
        assert not limit.expired
        assert ours.recv(1) == b""
        assert limit.expired
        assert told[0] >= limit.when
    until(lambda: len(told) == 1)


def test_a_socket_that_comes_after_the_deadline_is_shut_down_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, TimeLimit(0.0) as limit:
        until(lambda: limit.expired)
        limit.watch(ours)
        assert ours.recv(1) == b""


def test_a_request_that_is_over_is_not_cut_off() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with TimeLimit(0.5) as limit:
            limit.watch(ours)
        with TimeLimit(0.6) as later:
            until(lambda: later.expired)
        assert not limit.expired
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"


def test_a_deadline_may_be_put_off_or_brought_forward() -> None:
    expired: list[str] = []
    with (
        TimeLimit(1.0, lambda: expired.append("put off")) as late,
        TimeLimit(1000.0, lambda: expired.append("brought forward")) as soon,
        TimeLimit(2.0, lambda: expired.append("as it was")),
    ):
        late.extend(3.0)
        soon.extend(0.5)
        until(lambda: len(expired) == 3)
    assert expired == ["brought forward", "as it was", "put off"]


def test_an_earlier_deadline_wakes_the_thread_that_waits_for_a_later_one() -> None:
    with TimeLimit(1000.0) as long:
        for seconds in (0.05, 0.0):
            with TimeLimit(seconds) as short:
                until(lambda: short.expired)
        assert not long.expired


def test_it_holds_for_the_next_request_of_its_thread_only() -> None:
    with StubServer({"GET /slow": drip}).serving() as stub:
        pool = urllib3.PoolManager()
        pool.pool_classes_by_scheme = limited_pool_classes(pool)
        assert set(pool.pool_classes_by_scheme) == {"http", "https"}
        ended: list[BaseException | None] = []

        def elsewhere() -> None:
            ended.append(None if pool.request("GET", f"{stub.url}/queue").status == 200 else AssertionError())

        with TimeLimit(1000.0) as limit:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            response = pool.request("GET", f"{stub.url}/slow", preload_content=False)
            limit.extend(0.1)
            until(lambda: limit.expired)
            response.close()
        with TimeLimit(1000.0), TimeLimit(1000.0):
            pass
        assert ended == [None]
        assert pool.request("GET", f"{stub.url}/queue", timeout=5).status == 200
        pool.clear()
