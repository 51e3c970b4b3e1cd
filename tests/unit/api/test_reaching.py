"""Users, tokens and certificates: what goes over the wire, for HTTP and for the websocket, and what is never shown."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kandiflux import Client, open_client
from kandiflux.api.rest import ComfyApi
from kandiflux.cli import app
from kandiflux.errors import AccessDenied, ProtocolError, ServerUnreachable, UsageError
from typer.testing import CliRunner

SECRET = "s3cr3t-t0k3n"
BEARER = f"Bearer {SECRET}"


@dataclass
class Guard:
    """A server that answers /system_stats, /queue and /ws to those who send `wanted`, and notes what it was sent."""

    wanted: str | None = None
    tls: ssl.SSLContext | None = None
    elsewhere: str | None = None
    """Where it redirects to."""
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    hosts: list[tuple[str, str | None]] = field(default_factory=list)
    """What was asked of it as a proxy: the host that is meant, and who asks."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Guard]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._up(), loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _up(self) -> web.AppRunner:
        server = web.Application()
        server.router.add_get("/ws", self._ws)
        server.router.add_get("/{any}", self._json)
        runner = web.AppRunner(server, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "localhost", 0, ssl_context=self.tls).start()
        self.port = runner.addresses[0][1]
        return runner

    def _note(self, request: web.Request) -> None:
        given = request.headers.get("Authorization")
        self.seen.append((request.path, given))
        if self.wanted is not None and given != self.wanted:
            raise web.HTTPUnauthorized

    async def _json(self, request: web.Request) -> web.Response:
        self._note(request)
        self.keys.append(request.headers.get("X-Key"))
        self.hosts.append((request.headers["Host"], request.headers.get("Proxy-Authorization")))
        if self.elsewhere is not None:
            raise web.HTTPFound(f"{self.elsewhere}{request.path}")
        answers: dict[str, Any] = {
            "/queue": {"queue_running": [], "queue_pending": []},
            "/system_stats": {"system": {"comfyui_version": "0.3.64"}, "devices": []},
        }
        return web.json_response(answers.get(request.path, {}))

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket


def reaches(client: Client) -> bool:
    """Over HTTP, and over the websocket."""
    client.api.queue()
    return client.listen(5)


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard(wanted=BEARER).serving() as server:
        yield server


def test_a_token_goes_over_both(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    with open_client(guard.url, token_env="MY_TOKEN") as client:
        assert reaches(client)
    assert guard.seen == [("/queue", BEARER), ("/ws", BEARER)]


def test_without_it_nothing_is_open(guard: Guard) -> None:
    with open_client(guard.url) as client:
        with pytest.raises(AccessDenied, match="Give a user, a token"):
            client.api.queue()
        assert not client.listen(0.5)


def test_a_user_in_the_url_is_not_left_there() -> None:
    basic = "Basic " + base64.b64encode(f"anna:{SECRET}".encode()).decode()
    with Guard(wanted=basic).serving() as guard, Client(guard.url.replace("://", f"://anna:{SECRET}@")) as client:
        assert client.url == guard.url
        assert reaches(client)


def test_a_netrc_does_not_take_the_place_of_what_was_asked_for(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine localhost login other password other\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.setattr("kandiflux.api.proxies.is_loopback", lambda host: False)
    with ComfyApi(guard.url, headers={"Authorization": BEARER}) as server:
        server.queue()
    with ComfyApi(guard.url) as server, pytest.raises(AccessDenied):
        server.queue()
    assert guard.seen == [("/queue", BEARER), ("/queue", None)]


def test_a_named_server_is_one_everywhere(guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kandiflux.toml"
    file.write_text(f'default_server = "gpu"\n[servers.gpu]\nurl = "{guard.url}"\ntoken_env = "GPU"\n')
    monkeypatch.setenv("KANDIFLUX_CONFIG", str(file))
    monkeypatch.setenv("GPU", SECRET)
    monkeypatch.delenv("KANDIFLUX_SERVER", raising=False)
    for words in (["queue", "--json", "--server", "gpu"], ["queue", "--json"]):
        shown = CliRunner().invoke(app, words)
        assert json.loads(shown.stdout) == {"url": guard.url, "jobs": []}
    listed = json.loads(CliRunner().invoke(app, ["servers", "--json"]).stdout)
    assert listed["servers"] == [{"name": "gpu", "url": guard.url, "default": True}]


def test_a_server_that_points_elsewhere_does_not_hand_our_secrets_on(guard: Guard) -> None:
    with Guard().serving() as other:
        guard.elsewhere = other.url
        with Client(guard.url, headers={"Authorization": BEARER, "X-Key": SECRET}) as client:
            client.api.queue()
        assert (guard.seen, guard.keys) == ([("/queue", BEARER)], [SECRET])
        assert (other.seen, other.keys) == ([("/queue", None)], [None])


def test_a_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    basic = "Basic " + base64.b64encode(f"anna:{SECRET}".encode()).decode()
    with Guard().serving() as proxy:
        for name in ("HTTP_PROXY", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", f"://anna:{SECRET}@"))
        with ComfyApi("http://comfy.invalid") as server:
            server.queue()
        assert proxy.hosts == [("comfy.invalid", basic)]
        with ComfyApi(proxy.url) as server:
            server.queue()
        assert proxy.hosts[1:] == [(f"localhost:{proxy.port}", None)], "not asked for this machine itself"
        monkeypatch.setenv("no_proxy", "invalid")
        with ComfyApi("http://comfy.invalid") as server, pytest.raises(ServerUnreachable, match="Nothing answers"):
            server.queue()
    with ComfyApi("http://other.test") as server, pytest.raises(ServerUnreachable, match="The proxy for"):
        server.queue()


@pytest.mark.parametrize("words", [["queue"], ["queue", "--json"], ["doctor", "--json"]])
def test_no_message_shows_a_secret(
    words: list[str], guard: Guard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    guard.wanted = "something else"
    monkeypatch.setenv("T", SECRET)
    gone = "http://127.0.0.1:9"
    with caplog.at_level(logging.DEBUG):
        for url in (guard.url, gone):
            for how in (
                ["--token-env", "T", "--server", url],
                ["--user", f"anna:{SECRET}", "--server", url],
                ["--header", f"Authorization: {BEARER}", "--server", url],
                ["--header", f"Authorization: {SECRET}\n", "--header", f"X: {SECRET}\nY", "--server", url],
                ["--header", SECRET, "--server", url],
                ["--server", url.replace("://", f"://anna:{SECRET}@")],
            ):
                shown = CliRunner().invoke(app, [*words, *how])
                assert shown.exit_code in (2, 3), shown.output
                for secret in (SECRET, base64.b64encode(f"anna:{SECRET}".encode()).decode()):
                    assert secret not in shown.output
                    assert secret not in caplog.text


# Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; server.pem for localhost; client.crt and client.key; each of the latter signed by it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-keyout")
    run(*new, "ca.key", "-x509", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA", "-addext",
        "keyUsage=critical,keyCertSign")  # fmt: skip
    for name in ("localhost", "client"):
        (folder / "names").write_text(f"subjectAltName=DNS:{name}\n")
        run(*new, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-out", f"{name}.crt", "-extfile", "names")  # fmt: skip
    return folder


def tls(folder: Path, *, ask_client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "localhost.crt", folder / "localhost.key")
    if ask_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
    return context


def test_a_certificate_that_nobody_vouches_for(
    certificates: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with Guard(tls=tls(certificates)).serving() as guard:
        with open_client(guard.url) as client:
            with pytest.raises(ServerUnreachable, match="No secure connection"):
                client.api.queue()
            assert not client.listen(0.5)
        with open_client(guard.url, verify=str(certificates / "ca.pem")) as client:
            assert reaches(client)
        with caplog.at_level(logging.WARNING), open_client(guard.url, verify=False) as client:
            assert reaches(client)
        assert "is not verified" in caplog.text
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "ca.pem"))
        monkeypatch.setattr("kandiflux.api.proxies.is_loopback", lambda host: False)
        with open_client(guard.url) as client:
            assert reaches(client)


def test_from_a_secure_address_only_another_secure_one_is_followed(certificates: Path) -> None:
    with Guard().serving() as plain, Guard(tls=tls(certificates)).serving() as other:
        for elsewhere in (plain, other):
            with (
                Guard(tls=tls(certificates), elsewhere=elsewhere.url).serving() as guard,
                ComfyApi(guard.url, verify=str(certificates / "ca.pem"), headers={"X-Key": SECRET}) as server,
            ):
                if elsewhere is plain:
                    with pytest.raises(ProtocolError, match="not from https to http"):
                        server.queue()
                else:
                    server.queue()
    assert (plain.seen, other.keys) == ([], [None])


def test_a_server_that_asks_who_we_are(certificates: Path) -> None:
    both = (str(certificates / "client.crt"), str(certificates / "client.key"))
    one = certificates / "both.pem"
    one.write_bytes(Path(both[0]).read_bytes() + Path(both[1]).read_bytes())
    with Guard(tls=tls(certificates, ask_client=True)).serving() as guard:
        for cert in (both, str(one)):
            with open_client(guard.url, verify=str(certificates / "ca.pem"), cert=cert) as client:
                assert reaches(client)
        with open_client(guard.url, verify=str(certificates / "ca.pem")) as client:
            with pytest.raises(ServerUnreachable):
                client.api.queue()
            assert not client.listen(0.5)
        words = ["queue", "--server", guard.url, "--ca-bundle", str(certificates / "ca.pem"), "--cert", ",".join(both)]
        assert CliRunner().invoke(app, words).exit_code == 0
    with pytest.raises(UsageError, match="no client certificate"):
        Client("https://localhost", cert=str(certificates / "none.pem"))


def test_insecure_and_a_bundle_are_not_both_meant() -> None:
    shown = CliRunner().invoke(app, ["queue", "--server", "https://localhost", "--insecure", "--ca-bundle", "x"])
    assert shown.exit_code == 2
