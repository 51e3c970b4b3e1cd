"""The options that select a server and how to connect to it, shared by all commands that use one."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from kandiflux.cli.common import saved_object_info
from kandiflux.cli.completion import complete_server
from kandiflux.errors import UsageError

if TYPE_CHECKING:
    from kandiflux.config import Connection
    from kandiflux.jobs.client import Client

__all__ = ["Reach", "reaching"]

_PANEL = "Reaching the server"


@dataclass(frozen=True)
class Reach:
    """The command-line options for the server. Each field is one option."""

    server: Annotated[
        str | None,
        typer.Option(
            help="URL of a ComfyUI, a name from kandiflux.toml, or `lite` to start a lite host. Default: "
            "$KANDIFLUX_SERVER, else kandiflux.toml's default_server, else what `kandiflux up` started, else a ComfyUI "
            "on 127.0.0.1:8188, else `lite`.",
            autocompletion=complete_server,
            rich_help_panel=_PANEL,
        ),
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="Sent with every request; may be repeated.", rich_help_panel=_PANEL),
    ] = None
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="User name for the server or the proxy before it. The password is read from $KANDIFLUX_PASSWORD, or "
            "asked for; NAME:PASSWORD is visible to all who can list processes.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    token_env: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE",
            help="Environment variable that holds a bearer token. Default: KANDIFLUX_TOKEN, if it is set.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    ca_bundle: Annotated[
        Path | None, typer.Option("--ca-bundle", help="Certificates to trust for https.", rich_help_panel=_PANEL)
    ] = None
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the server's certificate.", rich_help_panel=_PANEL)
    ] = False
    cert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[,KEY]",
            help="Client certificate: a PEM file with its key, or certificate and key separated by a comma.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def resolved(self) -> Reach:
        """Returns a copy with a server: a name or URL, or `lite` for a lite host that runs as long as its client."""
        from kandiflux.config import LITE
        from kandiflux.processes.discovery import named_server

        return replace(self, server=named_server(self.server) or LITE)

    def client(self) -> Client:
        """Opens a client of the server, or of a lite host that runs as long as the client."""
        from kandiflux.jobs.connect import open_client

        return open_client(self.server, **self._connection_options())

    def connection(self, server: str) -> Connection:
        """Returns the connection to the server with this name or URL, for commands with several servers."""
        from kandiflux.config import connection

        return connection(server, **self._connection_options())

    def object_info(self, file: Path | None) -> Mapping[str, Any]:
        """Returns object_info from the file, if given, else from the server."""
        if file is not None:
            return saved_object_info(file)
        with self.client() as client:
            return client.object_info()

    def _connection_options(self) -> dict[str, Any]:
        """Returns the arguments of `kandiflux.config.connection`."""
        from kandiflux.cli.assignments import parse_headers

        if self.insecure and self.ca_bundle is not None:
            raise UsageError("--insecure and --ca-bundle are both given.", expected="one of them")
        certificate, _, key = (self.cert or "").partition(",")
        return {
            "headers": parse_headers(self.header or ()),
            "user": self.user,
            "token_env": self.token_env,
            "verify": False if self.insecure else str(self.ca_bundle) if self.ca_bundle is not None else None,
            "cert": (certificate, key) if key else certificate or None,
            "ask": _ask if sys.stdin.isatty() else None,
        }


def reaching(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator that adds the options of `Reach` to a command, which receives them in its parameter `reach`.

    If the command defines an option of the same name, such as a repeatable --server, that one is used instead.
    """

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        reach = Reach(**{name: arguments.pop(name) for name in names})
        command(**arguments, reach=reach)

    added = [field for field in fields(Reach) if field.name not in inspect.signature(command).parameters]
    names = [field.name for field in added]
    hints = get_type_hints(Reach, include_extras=True)
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in added
    ]
    own_hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own_hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "reach"
    ]
    parameters = [*own, *options]
    # typer reads the signature, and resolves the annotations.
    del with_options.__wrapped__
    with_options.__dict__["__signature__"] = inspect.Signature(parameters)
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _ask(name: str) -> str:
    return str(typer.prompt(f"Password for {name}", hide_input=True, err=True))
