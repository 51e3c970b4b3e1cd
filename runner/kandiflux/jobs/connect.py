"""Opens a client of a named server, or of a lite host that is started for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping

from kandiflux.config import connection
from kandiflux.jobs.client import Client
from kandiflux.processes.discovery import named_server
from kandiflux.processes.lite_host import running_lite_host

__all__ = ["open_client"]

_DEAD_SECONDS = 5.0


@contextlib.contextmanager
def open_client(
    server: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    user: str | None = None,
    token_env: str | None = None,
    verify: bool | str | None = None,
    cert: str | tuple[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
) -> Generator[Client, None, None]:
    """A client of the server of that name or URL, or of a lite host that lives as long as the `with` block.

    server: see `named_server` for what None means. The rest as in `kandiflux.config.connection`.
    The server is not asked for anything before the first request. ServerUnreachable if a lite host does not start.
    """
    named = named_server(server)
    if named is not None:
        how = connection(named, headers=headers, user=user, token_env=token_env, verify=verify, cert=cert, ask=ask)
        with Client(how.url, headers=how.headers, verify=how.verify, cert=how.cert) as client:
            yield client
        return
    # A host of our own that has died does not come back.
    with running_lite_host() as url, Client(url, poll_seconds=1.0, patience=_DEAD_SECONDS) as client:
        yield client
