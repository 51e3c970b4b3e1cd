"""Opens a client of a named server, or of a lite host that is started for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from kandiflux.config import connection
from kandiflux.jobs.client import Client
from kandiflux.processes.discovery import named_server
from kandiflux.processes.lite_host import running_lite_host

__all__ = ["open_client"]

_DEAD_SECONDS = 5.0


class _HostedClient(Client):
    """A client with a lite host of its own, which ends when the client is closed."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as starting:
            url = starting.enter_context(running_lite_host())
            # A lite host that has ended is never restarted, so the timeout is short.
            super().__init__(url, poll_seconds=1.0, patience=_DEAD_SECONDS)
            self._host = starting.pop_all()

    def close(self) -> None:
        super().close()
        self._host.close()


def open_client(
    server: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    user: str | None = None,
    token_env: str | None = None,
    verify: bool | str | None = None,
    cert: str | tuple[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
) -> Client:
    """Returns a client of a server, or of a lite host that is started now and ends with the client.

    Use it as `with open_client() as client`, or close it yourself. server: a name or URL; see `named_server` for None.
    The other arguments as in `kandiflux.config.connection`. No request is sent to a named server before the first call.
    ServerUnreachable if a lite host does not start.
    """
    named = named_server(server)
    if named is None:
        return _HostedClient()
    return Client(connection(named, headers=headers, user=user, token_env=token_env, verify=verify, cert=cert, ask=ask))
