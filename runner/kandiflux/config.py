"""Servers and their credentials, from `kandiflux.toml`, the environment and the caller's arguments.

    default_server = "gpu"

    [servers.gpu]
    url = "https://gpu.example:8188"
    token_env = "GPU_TOKEN"          # bearer token, read from this environment variable

The file is $KANDIFLUX_CONFIG, else the nearest kandiflux.toml in the working folder or above it, else the one in the
user's configuration folder. Arguments override the file. No repr or message contains a secret.
"""

from __future__ import annotations

import base64
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kandiflux.errors import UsageError
from kandiflux.util.json_values import as_list, is_object
from kandiflux.util.user_folders import config_folder

__all__ = [
    "LITE",
    "Config",
    "Connection",
    "NamedServer",
    "client_certificate",
    "connection",
    "find_config",
    "load_config",
    "server_url",
    "without_userinfo",
]

_log = logging.getLogger(__name__)

LITE = "lite"
"""The name to give instead of a server to start a lite host for the run."""

FILE_NAME = "kandiflux.toml"
_PASSWORD, _TOKEN = "KANDIFLUX_PASSWORD", "KANDIFLUX_TOKEN"


@dataclass(frozen=True)
class Connection:
    """The connection settings of one server.

    verify: False, or the path of a CA bundle. cert: a PEM file with certificate and key, or one file for each.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None
    name: str | None = None


@dataclass(frozen=True)
class NamedServer:
    """A `[servers.NAME]` table of the file. For secrets, it names the environment variables that contain them."""

    name: str
    url: str = field(repr=False)
    token_env: str | None = None
    user: str | None = field(default=None, repr=False)
    password_env: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    headers_env: Mapping[str, str] = field(default_factory=dict[str, str])
    ca_bundle: str | None = None
    insecure: bool = False
    cert: str | tuple[str, str] | None = None


@dataclass(frozen=True)
class Config:
    """The content of the configuration file. `path` is None if there is no file."""

    path: Path | None = None
    default_server: str | None = None
    servers: Mapping[str, NamedServer] = field(default_factory=dict[str, NamedServer])


def connection(
    server: str,
    *,
    headers: Mapping[str, str] | None = None,
    user: str | None = None,
    token_env: str | None = None,
    verify: bool | str | None = None,
    cert: str | tuple[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
    config: Config | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Connection:
    """Returns the connection settings of the server with this name or URL.

    user: `NAME:PASSWORD`, or `NAME` with the password from $KANDIFLUX_PASSWORD or `ask(NAME)`.
    token_env: the environment variable with a bearer token; $KANDIFLUX_TOKEN if no credentials are given.
    verify: False, or the path of a CA bundle; None for the setting in the file.

    Raises UsageError if the server is unknown, or a setting is not valid.
    """
    config = load_config(environ) if config is None else config
    named = config.servers.get(server)
    if named is None:
        _refuse_unknown_name(server, config)
        named = NamedServer("", server)
    url, from_url = without_userinfo(server_url(named.url))
    stored = {**named.headers, **{name: _secret(var, environ) for name, var in named.headers_env.items()}}
    given = dict(headers or {})
    authorisation: str | None
    if user or token_env:
        authorisation = _authorisation(user, token_env, _PASSWORD, ask, environ)
        if any(name.lower() == "authorization" for name in given):
            raise UsageError("Both credentials and an Authorization header are given.", expected="only one of them")
    elif named.user or named.token_env:
        authorisation = _authorisation(named.user, named.token_env, named.password_env or _PASSWORD, ask, environ)
    elif from_url is not None:
        authorisation = from_url
    else:
        token = environ.get(_TOKEN, "").strip()
        authorisation = f"Bearer {token}" if token else None
    merged = {**stored, **given}
    if authorisation is not None and not any(name.lower() == "authorization" for name in merged):
        merged["Authorization"] = authorisation
    trusted = verify if verify is not None else (False if named.insecure else named.ca_bundle or True)
    if isinstance(trusted, str) and not Path(trusted).exists():
        raise UsageError(f"There is no CA bundle {trusted}.", expected="a PEM file, or a folder of PEM files")
    return Connection(url, merged, trusted, client_certificate(cert or named.cert), named.name or None)


def server_url(text: str) -> str:
    """Converts `127.0.0.1:8188`, `http://host:8188/` or `https://host/comfy` to a base URL without a trailing slash.

    UsageError if it is not valid.
    """
    url = text.strip()
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            "The server's URL is not valid.",
            expected="http://host:port or https://host",
            got=text.rpartition("@")[2],
        )
    return url.rstrip("/")


def without_userinfo(url: str) -> tuple[str, str | None]:
    """Returns the URL without `user:password@`, and the value of an Authorization header for these, or None."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, None
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return address, _basic(unquote(parts.username or ""), unquote(parts.password or ""))


def client_certificate(cert: str | tuple[str, str] | None) -> str | tuple[str, str] | None:
    """Returns `cert` unchanged. UsageError if one of its files does not exist."""
    for file in (cert,) if isinstance(cert, str) else cert or ():
        if not Path(file).is_file():
            raise UsageError(
                f"There is no client certificate {file}.",
                expected="a PEM file with certificate and key, or one file for each",
            )
    return cert


def find_config(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> Path | None:
    """Returns the path of the configuration file, or None. UsageError if $KANDIFLUX_CONFIG names a missing file."""
    if environ.get("KANDIFLUX_CONFIG"):
        named = Path(environ["KANDIFLUX_CONFIG"]).expanduser()
        if not named.is_file():
            raise UsageError(f"$KANDIFLUX_CONFIG names {named}, which does not exist or is not a file.")
        return named
    here = (folder or Path.cwd()).absolute()
    for place in (here, *here.parents):
        file = place / FILE_NAME
        if file.is_file() and _is_ours(file):
            return file
    users = config_folder() / FILE_NAME
    return users if users.is_file() else None


def load_config(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> Config:
    """Reads the configuration file. UsageError, with file and key, if it is not valid."""
    path = find_config(environ, folder)
    if path is None:
        return Config()
    try:
        tables = _parse_toml(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    return _Reader(path).config(tables)


def _parse_toml(text: str) -> dict[str, Any]:
    # tomllib is in Python 3.11 and later; tomli is the same code for earlier versions.
    tables: dict[str, Any] = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)
    return tables


class _Reader:
    """Reads the tables of one file. Its errors name the file and the key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def config(self, tables: Mapping[str, Any]) -> Config:
        self._known(tables, ("default_server", "servers"), "")
        servers = {
            name: self._server(name, self._table(value, f"servers.{name}"))
            for name, value in self._table(tables.get("servers", {}), "servers").items()
        }
        default = self._text(tables, "default_server", "")
        if default is not None and default not in servers and default != LITE and _is_name(default):
            raise self._invalid("default_server", ", ".join([*servers, LITE]) + ", or a URL", default)
        return Config(self._path, default, servers)

    def _server(self, name: str, table: Mapping[str, Any]) -> NamedServer:
        at = f"servers.{name}."
        if name == LITE or not _is_name(name):
            raise self._invalid(
                at[:-1], f"a name without dots, colons and slashes, other than {LITE!r} (the lite host)", name
            )
        known = ("url", "token_env", "user", "password_env", "headers", "headers_env", "ca_bundle", "insecure", "cert")
        self._known(table, known, at)
        url = self._text(table, "url", at)
        if url is None:
            raise self._invalid(f"{at}url", "the server's URL, as in https://gpu.example:8188", "")
        insecure = table.get("insecure", False)
        if not isinstance(insecure, bool):
            raise self._invalid(f"{at}insecure", "true or false", insecure)
        user, token_env = self._text(table, "user", at), self._text(table, "token_env", at)
        if user and token_env:
            raise self._invalid(f"{at}token_env", "either user or token_env", "both")
        ca_bundle = self._text(table, "ca_bundle", at)
        return NamedServer(
            name,
            url,
            token_env=token_env,
            user=user,
            password_env=self._text(table, "password_env", at),
            headers=self._texts(table, "headers", at),
            headers_env=self._texts(table, "headers_env", at),
            ca_bundle=self._file(ca_bundle) if ca_bundle else None,
            insecure=insecure,
            cert=self._cert(table.get("cert"), f"{at}cert"),
        )

    def _known(self, table: Mapping[str, Any], known: tuple[str, ...], at: str) -> None:
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                raise UsageError(
                    f"{self._path}: there is no key {at + key!r}.",
                    expected=", ".join(known),
                    hint=f"Did you mean {near[0]!r}?" if near else None,
                )

    def _table(self, value: object, key: str) -> Mapping[str, Any]:
        if not is_object(value):
            raise self._invalid(key, f"a table, [{key}]", value)
        return value

    def _text(self, table: Mapping[str, Any], key: str, at: str) -> str | None:
        value = table.get(key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise self._invalid(at + key, "a non-empty string", value)
        return value

    def _texts(self, table: Mapping[str, Any], key: str, at: str) -> dict[str, str]:
        values = self._table(table.get(key, {}), at + key)
        for name, value in values.items():
            if not isinstance(value, str):
                # The message must not contain the value: a header may be a secret.
                raise self._invalid(f"{at}{key}.{name}", "a string", None)
        return dict(values)

    def _cert(self, value: object, key: str) -> str | tuple[str, str] | None:
        if value is None:
            return None
        if isinstance(value, str):
            return self._file(value)
        files = as_list(value)
        if len(files) != 2 or not all(isinstance(file, str) for file in files):
            raise self._invalid(key, 'a file, or ["certificate", "key"]', None)
        return self._file(str(files[0])), self._file(str(files[1]))

    def _file(self, name: str) -> str:
        """Resolves a path relative to the folder of the configuration file."""
        return str(self._path.absolute().parent / Path(name).expanduser())

    def _invalid(self, key: str, expected: str, got: object) -> UsageError:
        shown = repr(got) if isinstance(got, (str, bool, int, float)) else "something else"
        return UsageError(f"{self._path}: {key} is not valid.", expected=expected, got=shown)


def _authorisation(
    user: str | None,
    token_env: str | None,
    password_env: str,
    ask: Callable[[str], str] | None,
    environ: Mapping[str, str],
) -> str:
    if user and token_env:
        raise UsageError("Both a user and a token are given.", expected="only one of them")
    if token_env:
        return f"Bearer {_secret(token_env, environ)}"
    name, colon, password = (user or "").partition(":")
    if not colon:
        if password_env in environ:
            password = environ[password_env]
        elif ask is not None:
            password = ask(name)
        else:
            raise UsageError(f"There is no password for {name}.", hint=f"Put it into ${password_env}.")
    return _basic(name, password)


def _secret(variable: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable, "").strip()
    if not value:
        raise UsageError(f"The environment variable {variable} is not set.", expected="the token or secret to send")
    return value


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode("ascii")


def _is_name(text: str) -> bool:
    return not any(char in text for char in ".:/@") and text != "localhost"


def _refuse_unknown_name(server: str, config: Config) -> None:
    if not _is_name(server):
        return
    near = get_close_matches(server, config.servers, n=1)
    raise UsageError(
        f"There is no server called {server!r}.",
        expected=", ".join([*config.servers, LITE]) + ", or a URL",
        hint=f"Did you mean {near[0]!r}?"
        if near
        else f"Define it in {config.path or FILE_NAME}; a machine of that name is http://{server}:8188.",
    )


def _is_ours(file: Path) -> bool:
    """Returns whether the file belongs to this user or root. A file of another user could redirect tokens elsewhere."""
    if sys.platform == "win32":
        return True
    owner = file.stat().st_uid
    if owner in (0, os.getuid()):
        return True
    _log.warning("Ignored %s, which belongs to another user; to use it, set $KANDIFLUX_CONFIG to its path", file)
    return False
