"""A deadline for a whole request, which a socket's timeouts are not: they start again with every byte.

A server that sends one byte a second keeps a read timeout of a minute waiting for ever. Here a background thread shuts
the socket down at the deadline, which ends whatever call is blocked on it.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import urllib3
from urllib3.connectionpool import HTTPConnectionPool

__all__ = ["TimeLimit", "limited_pool_classes"]

_local = threading.local()
"""`limit`: the TimeLimit of the request that this thread is about to make."""


class TimeLimit:
    """A deadline `seconds` from now for the next request of this thread, until `close`.

    Works with the pools of `limited_pool_classes`. The request then fails with an error of the socket's, and `expired`
    is True. on_expiry: called as well, from another thread; it must not block.
    """

    def __init__(self, seconds: float, on_expiry: Callable[[], None] | None = None) -> None:
        self.expired = False
        self._on_expiry = on_expiry
        self._when = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        _local.limit = self
        _watchdog.add(self)

    def __enter__(self) -> TimeLimit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def when(self) -> float:
        """The deadline, on the monotonic clock."""
        return self._when

    def extend(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now, be that later or earlier than it was."""
        self._when = time.monotonic() + seconds
        _watchdog.wake_by(self._when)

    def watch(self, connection: socket.socket | None) -> None:
        """Shut this socket down at the deadline."""
        self._socket = connection
        if self.expired:
            self.expire()

    def expire(self) -> None:
        """The deadline has come."""
        self.expired = True
        if self._on_expiry is not None:
            self._on_expiry()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which would have the reader go on without TLS.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """The request is over."""
        _watchdog.remove(self)
        self._socket = None
        if getattr(_local, "limit", None) is self:
            _local.limit = None


class _Watchdog:
    """Expires time limits. One thread, started with the first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limits: set[TimeLimit] = set()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    def add(self, limit: TimeLimit) -> None:
        with self._changed:
            self._limits.add(limit)
            if self._thread is None or not self._thread.is_alive():  # it does not survive a fork
                self._thread = threading.Thread(target=self._run, name="kandiflux-time-limits", daemon=True)
                self._thread.start()
            # A wake-up for each request would cost more than the rest of this.
            elif limit.when < self._wakes_at:
                self._changed.notify()

    def wake_by(self, when: float) -> None:
        if when < self._wakes_at:
            with self._changed:
                self._changed.notify()

    def remove(self, limit: TimeLimit) -> None:
        with self._changed:
            self._limits.discard(limit)

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                for limit in [limit for limit in self._limits if limit.when <= now]:
                    # Under the lock: a connection that went back to its pool must not be shut down.
                    limit.expire()
                    self._limits.discard(limit)
                self._wakes_at = min((limit.when for limit in self._limits), default=math.inf)
                self._changed.wait(None if self._wakes_at == math.inf else max(0.0, self._wakes_at - now))


_watchdog = _Watchdog()


class _Limited:
    """Mixed into a connection: tells the thread's time limit which socket the answer comes from."""

    sock: socket.socket | None

    def getresponse(self) -> Any:
        limit: TimeLimit | None = getattr(_local, "limit", None)
        if limit is not None:
            limit.watch(self.sock)
        return super().getresponse()  # type: ignore[misc]  # pyright: ignore[reportUnknownMemberType,reportAttributeAccessIssue,reportUnknownVariableType]


def limited_pool_classes(manager: urllib3.PoolManager) -> dict[str, type[HTTPConnectionPool]]:
    """The connection pool classes of `manager`, by scheme, with connections that heed a TimeLimit."""
    classes: dict[str, type[HTTPConnectionPool]] = {}
    plain = cast("dict[str, Any]", manager.pool_classes_by_scheme)  # pyright: ignore[reportUnknownMemberType]
    for scheme, pool in plain.items():
        connection = type(f"Limited{pool.ConnectionCls.__name__}", (_Limited, pool.ConnectionCls), {})
        classes[scheme] = type(f"Limited{pool.__name__}", (pool,), {"ConnectionCls": connection})
    return classes
