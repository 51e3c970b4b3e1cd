"""Which server is meant, and how to reach it: kandiflux.toml, the environment, and what the caller says."""

from __future__ import annotations

import base64
import logging
import os
import sys
from pathlib import Path

import pytest
from kandiflux.config import (
    Config,
    Connection,
    NamedServer,
    client_certificate,
    connection,
    find_config,
    load_config,
    server_url,
    without_userinfo,
)
from kandiflux.errors import UsageError

GPU = """
default_server = "gpu"

[servers.gpu]
url = "https://gpu.example:8188/comfy/"
token_env = "GPU_TOKEN"
headers = { X-Team = "art" }
headers_env = { X-Key = "GPU_KEY" }
ca_bundle = "ca.pem"

[servers.desk]
url = "http://anna:s%20ecret@desk:8188"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "kandiflux.toml"
    file.write_text(GPU)
    (tmp_path / "ca.pem").touch()
    return file


def read(file: Path) -> Config:
    return load_config({"KANDIFLUX_CONFIG": str(file)})


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


# The file


def test_named_servers(file: Path) -> None:
    config = read(file)
    assert config.default_server == "gpu"
    assert list(config.servers) == ["gpu", "desk"]
    assert config.servers["gpu"].ca_bundle == str(file.parent / "ca.pem"), "relative to the file"


def test_the_nearest_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "users"))
    (tmp_path / "a" / "kandiflux.toml").touch()
    assert find_config({}, inner) == tmp_path / "a" / "kandiflux.toml"
    (inner / "kandiflux.toml").touch()
    assert find_config({}, inner) == inner / "kandiflux.toml"
    assert find_config({"KANDIFLUX_CONFIG": str(tmp_path / "a" / "kandiflux.toml")}, inner).parent.name == "a"  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="another folder there")
def test_the_users_file_is_read_where_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = tmp_path / "kandiflux" / "kandiflux.toml"
    users.parent.mkdir()
    users.touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert find_config({}, Path("/")) == users
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    assert load_config({}, Path("/")) == Config()


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    file = tmp_path / "kandiflux.toml"
    file.touch()
    os.chown(file, 12345, -1)
    with caplog.at_level(logging.WARNING):
        assert find_config({}, tmp_path) is None
    assert "belongs to another user" in caplog.text


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("default = 3", "'default'", "default_server, servers"),
        ("[servers.gpu]\nurl = 'x'\ntokenenv = 'A'", "'servers.gpu.tokenenv'", "Did you mean 'token_env'"),
        ("[servers.gpu]\nurl = 3", "servers.gpu.url", "a non-empty string"),
        ("[servers.gpu]\n", "servers.gpu.url", "https://gpu.example:8188"),
        ("[servers.gpu]\nurl = 'x'\ninsecure = 'no'", "servers.gpu.insecure", "true or false"),
        ("[servers.gpu]\nurl = 'x'\nheaders = ['A: b']", "servers.gpu.headers", "a table"),
        ("[servers.gpu]\nurl = 'x'\nheaders = { A = 1 }", "servers.gpu.headers.A", "a string"),
        ("[servers.gpu]\nurl = 'x'\ncert = ['a']", "servers.gpu.cert", "certificate"),
        ("[servers.gpu]\nurl = 'x'\nuser = 'a'\ntoken_env = 'B'", "servers.gpu.token_env", "either"),
        ("[servers.lite]\nurl = 'x'", "servers.lite", "(the lite host)"),
        ("[servers]\ngpu = 'http://gpu'", "servers.gpu", "a table"),
        ("default_server = 'cpu'\n[servers.gpu]\nurl = 'x'", "default_server", "gpu, lite"),
        ("not toml", "is not valid TOML", "line 1"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, key: str, said: str) -> None:
    file = tmp_path / "kandiflux.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read(file)
    assert str(file) in str(caught.value)
    assert key in str(caught.value)
    assert said in str(caught.value)


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="KANDIFLUX_CONFIG"):
        find_config({"KANDIFLUX_CONFIG": str(tmp_path / "none.toml")})


# The connection


def test_a_name_stands_for_all_that_the_file_says(file: Path) -> None:
    how = connection("gpu", config=read(file), environ={"GPU_TOKEN": " abc\n", "GPU_KEY": "k"})
    assert how.url == "https://gpu.example:8188/comfy"
    assert how.headers == {"X-Team": "art", "X-Key": "k", "Authorization": "Bearer abc"}
    assert how.verify == str(file.parent / "ca.pem")
    assert how.name == "gpu"


def test_what_the_caller_says_goes_first(file: Path) -> None:
    environ = {"GPU_TOKEN": "abc", "GPU_KEY": "k", "MINE": "mine"}
    how = connection("gpu", config=read(file), environ=environ, token_env="MINE", headers={"X-Team": "music"})
    assert how.headers == {"X-Team": "music", "X-Key": "k", "Authorization": "Bearer mine"}
    how = connection("gpu", config=read(file), environ=environ, headers={"authorization": "Digest x"})
    assert how.headers["authorization"] == "Digest x"
    assert "Authorization" not in how.headers


def test_a_user_in_the_url_becomes_a_header(file: Path) -> None:
    how = connection("desk", config=read(file))
    assert how.url == "http://desk:8188"
    assert how.headers == {"Authorization": basic("anna:s ecret")}


def test_where_a_password_comes_from() -> None:
    def how(user: str, **environ: str) -> str:
        asked = lambda name: f"{name}'s"  # noqa: E731
        return connection("http://x", user=user, environ=environ, config=Config(), ask=asked).headers["Authorization"]

    assert how("anna:pw:d") == basic("anna:pw:d")
    assert how("anna", KANDIFLUX_PASSWORD="from the environment") == basic("anna:from the environment")
    assert how("anna") == basic("anna:anna's")
    with pytest.raises(UsageError, match="no password for anna"):
        connection("http://x", user="anna", environ={}, config=Config())


def test_a_token_of_the_environment_is_sent_where_nothing_else_is_said() -> None:
    environ = {"KANDIFLUX_TOKEN": "abc", "KANDIFLUX_PASSWORD": "pw"}
    assert connection("http://x", environ=environ, config=Config()).headers == {"Authorization": "Bearer abc"}
    how = connection("http://x", environ=environ, config=Config(), user="anna")
    assert how.headers == {"Authorization": basic("anna:pw")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "anna:x", "token_env": "T"},
        {"user": "anna:x", "headers": {"Authorization": "y"}},
        {"token_env": "NOT_SET"},
        {"verify": "no-such-file.pem"},
        {"cert": "no-such-file.pem"},
    ],
)
def test_what_cannot_be(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        connection("http://x", config=Config(), environ={"T": "t"}, **wrong)  # pyright: ignore[reportArgumentType]


def test_a_name_that_is_none(file: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'gpu'"):
        connection("gppu", config=read(file))
    with pytest.raises(UsageError, match="gpu, desk, lite, or a URL"):
        connection("elsewhere", config=read(file))


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8188", "localhost", "gpu:8188", "http://gpu", "https://a.b/c/", "[::1]:80"]
)
def test_addresses(text: str) -> None:
    assert connection(text, config=Config(), environ={}).url == server_url(text)
    assert not server_url(text).endswith("/")


@pytest.mark.parametrize("text", ["ftp://x", "http://", "http://x:many", "http://user:secret@:1"])
def test_addresses_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        server_url(text)
    assert "secret" not in str(caught.value)


def test_no_secret_is_shown(file: Path) -> None:
    config = read(file)
    how = connection("gpu", config=config, environ={"GPU_TOKEN": "abcdef", "GPU_KEY": "ghijkl"})
    shown = repr(how) + repr(config)
    for secret in ("abcdef", "ghijkl", "ecret@"):
        assert secret not in shown


def test_no_secret_of_the_file_is_shown() -> None:
    named = NamedServer("a", "http://u:hidden1@a", user="anna:hidden2", headers={"X-Key": "hidden3"}, token_env="T")
    for shown in (repr(named), repr(Connection("http://a", {"X-Key": "hidden3"}))):
        assert "hidden" not in shown
    assert "token_env='T'" in repr(named)


def test_an_address_that_cannot_be_read_is_shown_without_its_password() -> None:
    for text in ("ftp://anna:hidden@gpu", "anna:hidden@gpu:0"):
        with pytest.raises(UsageError) as caught:
            server_url(text)
        assert caught.value.got == text.partition("@")[2]


def test_certificates_are_checked_unless_it_is_said_otherwise() -> None:
    assert Connection("https://a", {}).verify is connection("https://a", config=Config(), environ={}).verify is True


def test_headers_and_secrets_that_cannot_both_be_meant() -> None:
    file = Config(servers={"a": NamedServer("a", "http://u:p@a", headers={"X": "file"}, insecure=True)})
    how = connection("a", config=file, environ={"KANDIFLUX_TOKEN": "unused"}, headers={"X": "said"})
    assert (how.url, how.name, how.verify) == ("http://a", "a", False)
    assert how.headers == {"X": "said", "Authorization": basic("u:p")}, "the user in the URL before $KANDIFLUX_TOKEN"
    how = connection("a", config=file, environ={}, user="other:pw", verify=True)
    assert (how.headers["Authorization"], how.verify) == (basic("other:pw"), True)
    stored = Config(servers={"b": NamedServer("b", "http://b", user="u", password_env="P")})
    assert connection("b", config=stored, environ={"P": "x", "KANDIFLUX_PASSWORD": "y"}).headers == {
        "Authorization": basic("u:x"),
    }  # fmt: skip
    assert connection("http://c", config=stored, environ={"KANDIFLUX_TOKEN": " "}).headers == {}
    assert connection("http://c", config=stored, environ={}).name is None


def test_an_address_is_not_a_name() -> None:
    for text in ("gpu.local", "gpu:8188", "http://gpu", "localhost", "user@gpu"):
        assert connection(text, config=Config(), environ={}).name is None
    with pytest.raises(UsageError, match="There is no server called 'gpu'") as refused:
        connection("gpu", config=Config(path=Path("/x.toml")), environ={})
    assert refused.value.hint == "Define it in /x.toml; a machine of that name is http://gpu:8188."
    for text in ("http://gpu:0", "http://gpu:70000", "gpu://x", "http://[::1"):
        with pytest.raises(UsageError, match="URL is not valid"):
            server_url(text)
    assert server_url(" https://gpu/comfy// ") == "https://gpu/comfy"


# Each key of the file, and each bound


def test_all_that_a_server_can_have(tmp_path: Path) -> None:
    file = tmp_path / "kandiflux.toml"
    file.write_text(
        "[servers.a]\nurl = 'http://a'\nuser = 'anna'\npassword_env = 'P'\nheaders_env = { X = 'V' }\n"
        "insecure = true\ncert = ['a.crt', '/abs/a.key']\n"
        "[servers.b]\nurl = 'http://b'\ntoken_env = 'T'\ncert = 'both.pem'\nca_bundle = '~/ca.pem'\n"
    )
    config = read(file)
    assert (config.path, config.default_server) == (file, None)
    assert config.servers["a"] == NamedServer(
        "a", "http://a", user="anna", password_env="P", headers_env={"X": "V"}, insecure=True,
        cert=(str(tmp_path / "a.crt"), "/abs/a.key"),
    )  # fmt: skip
    assert config.servers["b"] == NamedServer(
        "b", "http://b", token_env="T", cert=str(tmp_path / "both.pem"), ca_bundle=str(Path("~/ca.pem").expanduser())
    )


@pytest.mark.parametrize(
    ("default", "fits"),
    [("a", True), ("lite", True), ("localhost", True), ("http://x", True), ("x:1", True), ("x.y", True), ("x", False),
     ("", False), (" ", False)],
)  # fmt: skip
def test_what_may_be_the_default_server(tmp_path: Path, default: str, fits: bool) -> None:
    file = tmp_path / "kandiflux.toml"
    file.write_text(f"default_server = '{default}'\n[servers.a]\nurl = 'http://a'\n")
    if fits:
        assert read(file).default_server == default
    else:
        with pytest.raises(UsageError, match="default_server is not valid") as caught:
            read(file)
        assert caught.value.got == repr(default)


@pytest.mark.parametrize("name", ["a.b", "a:b", "a/b", "a@b", "localhost", "lite"])
def test_names_that_no_server_may_have(tmp_path: Path, name: str) -> None:
    file = tmp_path / "kandiflux.toml"
    file.write_text(f"[servers.'{name}']\nurl = 'http://a'\n")
    with pytest.raises(UsageError, match="is not valid") as caught:
        read(file)
    assert caught.value.got == repr(name)


@pytest.mark.parametrize(
    "line", ["headers = { A = 5 }", "headers_env = [1]", "cert = ['a', 5]", "cert = ['a', 'b', 'c']"]
)
def test_a_value_that_may_be_a_secret_is_not_shown(tmp_path: Path, line: str) -> None:
    file = tmp_path / "kandiflux.toml"
    file.write_text(f"[servers.a]\nurl = 'http://a'\n{line}\n")
    with pytest.raises(UsageError, match="is not valid") as caught:
        read(file)
    assert caught.value.got == "something else"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (" gpu:8188 ", "http://gpu:8188"),
        ("HTTPS://gpu//", "HTTPS://gpu"),
        ("http://gpu:65535/a/", "http://gpu:65535/a"),
        ("http://gpu:0", None),
        ("http://gpu:65536", None),
        ("http:///a", None),
        ("", None),
    ],
)
def test_the_url_of_an_address(text: str, url: str | None) -> None:
    if url is not None:
        assert server_url(text) == url
    else:
        with pytest.raises(UsageError, match="URL is not valid"):
            server_url(text)


@pytest.mark.parametrize(
    ("url", "bare", "user"),
    [
        ("http://a/b@c", "http://a/b@c", None),
        ("http://u%40x:p%3A@a:1/b?c", "http://a:1/b?c", "u@x:p:"),
        ("http://u@a", "http://a", "u:"),
        ("http://:p@a", "http://a", ":p"),
        ("http://u:p@q@a", "http://a", "u:p@q"),
    ],
)
def test_a_user_in_an_address(url: str, bare: str, user: str | None) -> None:
    assert without_userinfo(url) == (bare, None if user is None else basic(user))


def test_a_client_certificate_of_one_file_or_two(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.touch()
    assert client_certificate(None) is None
    assert client_certificate(str(first)) == str(first)
    for wrong in (str(second), (str(first), str(second)), (str(second), str(first)), str(tmp_path)):
        with pytest.raises(UsageError, match="no client certificate"):
            client_certificate(wrong)
    second.touch()
    assert client_certificate((str(first), str(second))) == (str(first), str(second))


def test_what_cannot_both_be_said_and_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Both a user and a token are given"):
        connection("http://x", config=Config(), environ={"T": "t"}, user="anna:x", token_env="T")
    with pytest.raises(UsageError, match="and an Authorization header"):
        connection("http://x", config=Config(), environ={"T": "t"}, token_env="T", headers={"authorization": "x"})
    with pytest.raises(UsageError, match="variable T is not set"):
        connection("http://x", config=Config(), environ={"T": " "}, token_env="T")
    with pytest.raises(UsageError, match="There is no CA bundle"):
        connection("http://x", config=Config(), environ={}, verify=str(tmp_path / "none"))
    assert connection("http://x", config=Config(), environ={}, verify=str(tmp_path)).verify == str(tmp_path)


def test_a_name_that_is_near_none(file: Path) -> None:
    for config, said in ((read(file), str(file)), (Config(), "kandiflux.toml")):
        with pytest.raises(UsageError) as caught:
            connection("elsewhere", config=config)
        assert caught.value.hint == f"Define it in {said}; a machine of that name is http://elsewhere:8188."


@pytest.mark.skipif(sys.platform == "win32", reason="everything there is ours")
@pytest.mark.parametrize(("owner", "read_by_us"), [(0, True), (1234, True), (1235, False)])
def test_whose_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, read_by_us: bool) -> None:
    real = Path.stat
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / "kandiflux.toml").touch()

    def stat(path: Path, **options: bool) -> os.stat_result:
        found = real(path, **options)
        return os.stat_result((*found[:4], owner, *found[5:]))

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    assert (find_config({}, tmp_path) is not None) == read_by_us
