"""The routes of the graph editor: its files, templates, translations, model lists and logs."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.lite.editor_routes import frontend_folder
from kandiflux.lite.folders import MODEL_SUFFIXES
from kandiflux.util.paths import pack_root
from PIL import Image

from tests.support.lite_server import LiteServer, lite_server, new_host

Json = dict[str, Any]

TEMPLATES: dict[str, Any] = {
    "runs": {"nodes": [{"type": "PrimitiveInt"}, {"type": "MarkdownNote"}, {"type": "PreviewAny"}]},
    "unknown_node": {"nodes": [{"type": "PrimitiveInt"}, {"type": "Unheard"}]},
    "subgraph": {
        "nodes": [{"type": "sub"}],
        "definitions": {"subgraphs": [{"id": "sub", "nodes": [{"type": "PrimitiveInt"}]}]},
    },
    "unknown_in_subgraph": {
        "nodes": [{"type": "sub"}],
        "definitions": {"subgraphs": [{"id": "sub", "nodes": [{"type": "Unheard"}]}]},
    },
    "no_workflow": [1],
    "no_nodes": {},
}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteServer]:
    base = tmp_path_factory.mktemp("editor")
    static = base / "static"
    write(static / "index.html", "<p>editor</p>")
    write(static / "assets" / "app.js", "app")
    write(static / "extensions" / "core" / "own.js", "own")
    write(base / "secret.js", "secret")
    for name in ("one", "two"):
        pack = base / name
        write(pack / "__init__.py", "NODE_CLASS_MAPPINGS = {}\n")
        write(pack / "locales" / "en" / "main.json", {"nodes": {name: 1}, "same": name})
        write(pack / "locales" / "en" / "nodeDefs.json", {name: {"x": 1}})
    one, two = base / "one", base / "two"
    write(one / "__init__.py", "NODE_CLASS_MAPPINGS = {}\nWEB_DIRECTORY = 'web'\n")
    for name in ("b.js", "a.js", "deep/c.js", "page.html"):
        write(one / "web" / name, name)
    for name, workflow in TEMPLATES.items():
        write(one / "example_workflows" / f"{name}.json", workflow)
    write(one / "example_workflows" / "broken.json", "{")
    write(one / "example_workflows" / "runs.jpg", "a picture")
    write(one / "workflows" / "more.json", TEMPLATES["runs"])
    write(one / "workflows" / "runs.json", {"nodes": []})
    write(two / "locales" / "de" / "commands.json", {"c": "d"})
    write(two / "locales" / "de" / "settings.json", "{")
    write(two / "locales" / "de" / "other.json", {"left": "out"})
    host = new_host(base)
    host.load_packs([one, two])
    with lite_server(host, static) as server:
        yield server


# The page and its files


def test_the_page_and_its_files(server: LiteServer) -> None:
    page = server.get("/")
    assert (page.text, page.headers["Cache-Control"]) == ("<p>editor</p>", "no-store, must-revalidate")
    assert server.get("/assets/app.js").text == "app"
    assert server.get("/assets/unknown.js").status_code == 404
    assert server.get("/queue").json() == {"queue_running": [], "queue_pending": []}


def test_the_folder_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "comfyui_frontend_package", raising=False)
    assert frontend_folder() is None
    package = tmp_path / "comfyui_frontend_package"
    write(package / "__init__.py", "")
    monkeypatch.setattr("sys.path_importer_cache", {})
    assert frontend_folder() is None, "its files are missing"
    write(package / "static" / "index.html", "")
    assert frontend_folder() == package / "static"


def test_a_picture_to_begin_with(server: LiteServer, tmp_path: Path) -> None:
    with Image.open(server.host.folders.input / "example.png") as picture:
        assert (picture.size, picture.mode) == ((512, 512), "RGB")
        seen = [picture.getpixel(at) for at in ((100, 256), (140, 256), (372, 256), (412, 256), (256, 256))]
    blue, red = (0x3A, 0x5F, 0xCD), (0xE0, 0x3C, 0x31)
    assert seen == [blue, red, red, blue, red]
    host = new_host(tmp_path)
    write(host.folders.input / "mine.png", "x")
    with lite_server(host, server.host.folders.input):
        assert [path.name for path in host.folders.input.iterdir()] == ["mine.png"]


# Saved workflows: test_userdata.py has what is stored; here, what the query asks for


def test_files_of_the_user(server: LiteServer) -> None:
    name = "/userdata/workflows%2Fa%2Fone.json"
    assert server.post(name, data=b"[1]").json() == "workflows/a/one.json"
    about = server.post(name, data=b"[12]", params={"full_info": "True"}).json()
    assert (about["path"], about["size"]) == ("workflows/a/one.json", 4)
    assert server.post(name, data=b"[3]", params={"overwrite": "false"}).status_code == 409
    answer = server.get(name)
    assert (answer.content, answer.headers["Content-Type"]) == (b"[12]", "application/octet-stream")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert server.get("/userdata", dir="workflows").json() == []
    assert server.get("/userdata", dir="workflows", recurse="true").json() == ["a/one.json"]
    assert server.get("/userdata", dir="workflows", recurse="true", split="true").json() == [
        ["a/one.json", "a", "one.json"]
    ]
    (full,) = server.get("/userdata", dir="workflows", recurse="true", full_info="true").json()
    assert full["size"] == 4
    assert server.get("/userdata", dir="workflows", recurse="1").json() == []
    assert server.get("/userdata").status_code == 400
    assert [entry["name"] for entry in server.get("/v2/userdata", path="workflows").json()] == ["a", "one.json"]
    assert "workflows" in [entry["name"] for entry in server.get("/v2/userdata").json()]
    moved = server.request("POST", name + "/move/workflows%2Ftwo.json", params={"full_info": "true"})
    assert moved.json()["path"] == "workflows/two.json"
    server.post(name, data=b"")
    assert server.post(name + "/move/workflows%2Ftwo.json?overwrite=false").status_code == 409
    assert server.post(name + "/move/workflows%2Ftwo.json").json() == "workflows/two.json"
    assert server.get("/userdata/workflows%2Ftwo.json").content == b""
    deleted = server.request("DELETE", "/userdata/workflows%2Ftwo.json")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert server.get("/userdata/workflows%2Ftwo.json").status_code == 404
    assert server.get("/userdata/..%2F..%2Fsecret.js").status_code == 403


def test_a_browser_may_apply_only_the_users_own_style_sheet(server: LiteServer) -> None:
    for name in ("user.css", "other.css", "deep%2Fuser.css", "a.png"):
        server.post(f"/userdata/{name}", data=b"x")
    kinds = {name: server.get(f"/userdata/{name}").headers for name in ("user.css", "other.css", "deep%2Fuser.css")}
    assert {name: headers["Content-Type"] for name, headers in kinds.items()} == {
        "user.css": "text/css",
        "other.css": "application/octet-stream",
        "deep%2Fuser.css": "application/octet-stream",
    }
    assert kinds["user.css"]["Content-Disposition"] == "inline"
    picture = server.get("/userdata/a.png").headers
    assert (picture["Content-Type"], picture["Content-Disposition"]) == ("image/png", "attachment")


# What packs bring along


def test_scripts_of_packs(server: LiteServer) -> None:
    scripts = server.get("/extensions").json()
    assert scripts == ["/extensions/one/a.js", "/extensions/one/b.js", "/extensions/one/deep/c.js"]
    assert [server.get(script).text for script in scripts] == ["a.js", "b.js", "deep/c.js"]
    assert server.get("/extensions/core/own.js").text == "own"
    assert server.get("/extensions/one/unknown.js").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("one/..%2F..%2Fsecret.js", 403),
        ("..%2F..%2F..%2Fone/__init__.py", 403),
        ("..%2F/secret.js", 403),
        ("..%2F../secret.js", 403),
        ("two/a.js", 404),
        ("one/deep", 404),
    ],
)
def test_no_script_outside_of_its_folder(server: LiteServer, path: str, status: int) -> None:
    assert server.get(f"/extensions/{path}").status_code == status


def test_translations_of_all_packs_together(server: LiteServer, caplog: pytest.LogCaptureFixture) -> None:
    assert server.get("/i18n").json() == {
        "en": {"nodes": {"one": 1, "two": 1}, "same": "two", "nodeDefs": {"one": {"x": 1}, "two": {"x": 1}}},
        "de": {"commands": {"c": "d"}},
    }
    (warning,) = caplog.messages
    assert "settings.json is not valid JSON" in warning


def test_templates_whose_nodes_are_here(server: LiteServer, caplog: pytest.LogCaptureFixture) -> None:
    assert server.get("/workflow_templates").json() == {"one": ["runs", "subgraph", "more", "runs"]}
    told = sorted(message.partition(" is not a workflow")[0].rpartition("/")[2] for message in caplog.messages)
    assert told == ["broken.json", "no_nodes.json", "no_workflow.json"]


def test_a_template_and_its_picture(server: LiteServer) -> None:
    at = "/workflow_templates/one"
    assert server.get(f"{at}/runs.json").json() == TEMPLATES["runs"], "of the first folder"
    assert server.get(f"{at}/runs.jpg").text == "a picture"
    assert server.get(f"{at}/more.json").json() == TEMPLATES["runs"]
    for name in ("unknown.json", "..%2F__init__.py", "..%2F__init__.py%2F.."):
        assert server.get(f"{at}/{name}").status_code == 404
    assert server.get("/workflow_templates/two/runs.json").status_code == 404
    assert server.get(f"{at}/..%2Fruns.json").status_code == 403


def test_this_pack_is_called_kandiflux_whatever_its_folder_is(
    server: LiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.host, "packs", [pack_root()])
    assert server.get("/workflow_templates").json().keys() == {"kandiflux"}


def test_comfyuis_own_templates_are_none(server: LiteServer) -> None:
    assert server.get("/templates/index.json").json() == []
    assert server.get("/templates/x.json").status_code == 404


# Models


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header


def test_models_and_where_they_lie(server: LiteServer, tmp_path: Path) -> None:
    folders = server.host.folders
    server.host.add_model_folder("loras", tmp_path)
    first = folders.models[0] / "loras"
    for path, size in ((first / "a.pt", 3), (tmp_path / "a.pt", 5), (tmp_path / "b.safetensors", 7)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    (first / "0 dangling.pt").symlink_to(tmp_path / "gone")
    found = server.get("/experiment/models/loras").json()
    assert [(one["name"], one["pathIndex"], one["size"]) for one in found] == [("a.pt", 0, 3), ("b.safetensors", 1, 7)]
    assert found[1]["modified"] == (tmp_path / "b.safetensors").stat().st_mtime
    assert found[1]["created"] == (tmp_path / "b.safetensors").stat().st_ctime
    assert server.get("/experiment/models/unheard").status_code == 404
    listed = {entry["name"]: entry for entry in server.get("/experiment/models").json()}
    assert listed.keys() == {*folders.model_kinds()} - {"configs"}
    assert listed["loras"] == {
        "name": "loras",
        "folders": [str(first), str(tmp_path)],
        "extensions": sorted(MODEL_SUFFIXES),
    }
    paths = server.get("/internal/folder_paths").json()
    assert paths.keys() == {*folders.model_kinds()}
    assert paths["loras"] == [str(first), str(tmp_path)]


def test_what_a_safetensors_file_says_of_itself(server: LiteServer, tmp_path: Path) -> None:
    server.host.add_model_folder("told", tmp_path / "first")
    server.host.add_model_folder("told", tmp_path)
    header = b'{"__metadata__": {"a": "b"}}'
    contents = {
        "good": safetensors(header),
        "silent": safetensors(b'{"x": 1}'),
        "list": safetensors(b"[]"),
        "cut": safetensors(header, 5),
        "none": b"",
        "longest": safetensors(header + b" " * ((1 << 20) - len(header))),
        "longer": safetensors(header + b" " * ((1 << 20) + 1 - len(header))),
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    (tmp_path / "other.pt").write_bytes(contents["good"])
    answers = {name: server.get("/view_metadata/told", filename=f"{name}.safetensors") for name in contents}
    assert {name: answer.status_code for name, answer in answers.items()} == {
        **dict.fromkeys(contents, 404),
        "good": 200,
        "longest": 200,
    }
    assert answers["good"].json() == {"a": "b"}
    for kind, name in (("told", "other.pt"), ("told", "unknown.safetensors"), ("unheard", "good.safetensors")):
        assert server.get(f"/view_metadata/{kind}", filename=name).status_code == 404
    assert server.get("/view_metadata/told", filename=f"../{tmp_path.name}/good.safetensors").status_code == 200
    assert server.get("/view_metadata/told").status_code == 404


def test_files_the_newest_first(server: LiteServer) -> None:
    output = server.host.folders.output
    for name, age in (("b", 10), ("a", 10), ("old", 100), ("new", 1), (".hidden", 5)):
        os.utime(write(output / name, ""), (10**9 - age, 10**9 - age))
    (output / "folder").mkdir()
    assert server.get("/internal/files/output").json() == ["new [output]", "a [output]", "b [output]", "old [output]"]
    assert server.get("/internal/files/input").json() == ["example.png [input]"]
    unknown = server.get("/internal/files/unheard")
    assert (unknown.status_code, unknown.json()) == (400, {"error": "Invalid directory type"})


# Logs


def test_the_log_is_shown_and_sent_to_those_who_want_it(server: LiteServer) -> None:
    log = logging.getLogger("kandiflux.told")

    def subscribe(**body: Any) -> int:
        return server.request("PATCH", "/internal/logs/subscribe", json=body).status_code

    def entry_of(text: str) -> Json:
        return next(entry for entry in server.get("/internal/logs/raw").json()["entries"] if text in entry["m"])

    with server.socket("me") as socket:
        log.warning("before")
        assert subscribe(clientId="me", enabled=True) == 200
        log.warning("said %s", "this")
        assert subscribe(clientId="me", enabled=False) == 200
        assert subscribe(clientId="me", enabled=False) == 200
        log.warning("after")
        entry = entry_of("this")
        terminal = {"cols": 120, "rows": 30}
        frame = json.loads(socket.recv())
        assert frame == {"type": "logs", "data": {"entries": [entry], "size": terminal}}
        server.host.sockets.send("next", {}, "me")
        assert json.loads(socket.recv())["type"] == "next"
    assert entry["m"] == "WARNING kandiflux.told: said this\n"
    assert server.get("/internal/logs/raw").json()["size"] == terminal
    assert f"{entry['t']} - {entry['m']}" in server.get("/internal/logs").json()


def test_the_log_that_is_kept_is_bounded(server: LiteServer) -> None:
    log = logging.getLogger("kandiflux.told")
    for number in range(301):
        log.warning("line %d", number)
    log.warning("x" * 30_000)
    entries = server.get("/internal/logs/raw").json()["entries"]
    assert (len(entries), len(entries[-1]["m"])) == (300, 20_001)
    assert entries[0]["m"].endswith("line 2\n")


def test_a_line_that_cannot_be_written_is_left_out(server: LiteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handled: list[Any] = []
    monkeypatch.setattr(logging.Handler, "handleError", lambda _, record: handled.append(record.msg))
    (handler,) = (one for one in logging.getLogger().handlers if hasattr(one, "entries"))
    handler.handle(logging.LogRecord("x", logging.WARNING, "", 0, "%d", ("no number",), None))
    assert handled == ["%d"]


def test_who_may_ask_for_the_log(server: LiteServer) -> None:
    def subscribe(body: Json) -> int:
        return server.request("PATCH", "/internal/logs/subscribe", json=body).status_code

    assert [subscribe(body) for body in ({}, {"enabled": False}, {"clientId": 5})] == [400] * 3
    names = [f"client {number}" for number in range(101)]
    assert [subscribe({"clientId": name, "enabled": True}) for name in names] == [200] * 100 + [400]
    assert [subscribe({"clientId": name, "enabled": False}) for name in names] == [200] * 101
    assert subscribe({"clientId": names[-1], "enabled": True}) == 200
    assert subscribe({"clientId": names[-1]}) == 200
    assert subscribe({"clientId": names[-1], "enabled": False}) == 200
