"""A deadline for a whole request. Socket timeouts are not deadlines: they start again with every byte.

With a read timeout of a minute, a server that sends one byte per second can block forever. Here a background thread
shuts down the socket at the deadline, which ends any call that is blocked on it.
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
"""`limit`: the TimeLimit of this thread's next request."""


class TimeLimit:
    """A deadline `seconds` from now for the next request of this thread, until `close`.

    Works with the pools of `limited_pool_classes`. At the deadline the request fails with a socket error, and `expired`
    is True. on_expiry: also called then, from another thread; it must not block.
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
        """Sets the deadline to `seconds` from now, which may be earlier than before."""
        self._when = time.monotonic() + seconds
        _watchdog.wake_by(self._when)

    def watch(self, connection: socket.socket | None) -> None:
        """Sets the socket to shut down at the deadline."""
        self._socket = connection
        if self.expired:
            self.expire()

    def expire(self) -> None:
        """Ends the request, because the deadline has passed."""
        self.expired = True
        if self._on_expiry is not None:
            self._on_expiry()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown: it drops the TLS layer, and the reader would continue without TLS.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Removes the deadline, because the request has ended."""
        _watchdog.remove(self)
        self._socket = None
        if getattr(_local, "limit", None) is self:
            _local.limit = None


class _Watchdog:
    """Expires time limits, in one thread that starts with the first limit."""

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
            # Do not wake the thread for each request: that would cost more than everything else here.
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
                    # Under the lock, so that a connection that was returned to its pool is not shut down.
                    limit.expire()
                    self._limits.discard(limit)
                self._wakes_at = min((limit.when for limit in self._limits), default=math.inf)
                self._changed.wait(None if self._wakes_at == math.inf else max(0.0, self._wakes_at - now))


_watchdog = _Watchdog()


class _Limited:
    """Mixin for connections: passes the socket of the response to the thread's TimeLimit."""

    sock: socket.socket | None

    def getresponse(self) -> Any:
        limit: TimeLimit | None = getattr(_local, "limit", None)
        if limit is not None:
            limit.watch(self.sock)
        return super().getresponse()  # type: ignore[misc]  # pyright: ignore[reportUnknownMemberType,reportAttributeAccessIssue,reportUnknownVariableType]


def limited_pool_classes(manager: urllib3.PoolManager) -> dict[str, type[HTTPConnectionPool]]:
    """Returns the connection pool classes of `manager`, by scheme, with support for TimeLimit."""
    classes: dict[str, type[HTTPConnectionPool]] = {}
    plain = cast("dict[str, Any]", manager.pool_classes_by_scheme)  # pyright: ignore[reportUnknownMemberType]
    for scheme, pool in plain.items():
        connection = type(f"Limited{pool.ConnectionCls.__name__}", (_Limited, pool.ConnectionCls), {})
        classes[scheme] = type(f"Limited{pool.__name__}", (pool,), {"ConnectionCls": connection})
    return classes
