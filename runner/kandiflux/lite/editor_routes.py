"""ComfyUI's graph editor on the lite host: `kandiflux host --editor`.

The editor is a web page from the PyPI package comfyui-frontend-package. This module serves its files and the routes
that only the editor uses: saved workflows, templates, translations, model lists and logs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web
from PIL import Image, ImageDraw

from kandiflux.lite.folders import MODEL_SUFFIXES, OutsideFolder, inside
from kandiflux.lite.http import Handler, Refused, file_answer, json_answer, read_object, shown_type
from kandiflux.util.json_values import as_list, as_object, is_dict, is_object, parse_json
from kandiflux.util.paths import pack_root

if TYPE_CHECKING:
    from kandiflux.lite.host import Host

__all__ = ["PACKAGE", "Editor", "frontend_folder"]

log = logging.getLogger(__name__)


PACKAGE = "comfyui-frontend-package"
_TEMPLATE_FOLDERS = ("example_workflows", "example", "examples", "workflow", "workflows")
"""The folders in which ComfyUI looks for a pack's templates."""

_VIRTUAL = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
"""Node types that only the editor knows, not the server."""

_TRANSLATIONS = ("main", "nodeDefs", "commands", "settings")
_LONGEST_HEADER = 1 << 20
_LOG_LINES = 300
_LONGEST_LINE = 20_000
_MOST_LOG_CLIENTS = 100
_STYLE_SHEET = "user.css"
"""The only user file that is served with a type browsers apply. The editor links to it."""
_TERMINAL = {"cols": 120, "rows": 30}


def frontend_folder() -> Path | None:
    """Returns the folder of the editor's files; None if the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / "static" / "index.html").is_file():
            return Path(location) / "static"
    return None


class Editor:
    """The editor's routes of one host. `static`: the folder of the editor's files."""

    def __init__(self, host: Host, static: Path) -> None:
        self._host = host
        self.static = static
        host.user.folder.mkdir(parents=True, exist_ok=True)
        self._data = host.user
        self._log = _LogTail(lambda client, data: host.sockets.send("logs", data, client))
        logging.getLogger().addHandler(self._log)
        _put_example(host.folders.input)

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Returns the routes, each also under /api. Add them first: they replace the server's "/" and /extensions."""
        return [
            ("GET", "/", self._index),
            ("GET", "/userdata", self._list_userdata),
            ("GET", "/v2/userdata", self._tree_of_userdata),
            ("GET", "/userdata/{file}", self._userdata),
            ("POST", "/userdata/{file}", self._store_userdata),
            ("DELETE", "/userdata/{file}", self._delete_userdata),
            ("POST", "/userdata/{file}/move/{dest}", self._move_userdata),
            ("GET", "/extensions", self._extensions),
            ("GET", "/extensions/{pack}/{file:.+}", self._extension_file),
            ("GET", "/i18n", self._translations),
            ("GET", "/workflow_templates", self._templates),
            ("GET", "/workflow_templates/{pack}/{file}", self._template),
            ("GET", "/templates/{file}", self._core_templates),
            ("GET", "/experiment/models", self._model_folders),
            ("GET", "/experiment/models/{folder}", self._models),
            ("GET", "/view_metadata/{folder}", self._metadata),
            ("GET", "/internal/logs", self._logs),
            ("GET", "/internal/logs/raw", self._raw_logs),
            ("PATCH", "/internal/logs/subscribe", self._subscribe_logs),
            ("GET", "/internal/folder_paths", self._folder_paths),
            ("GET", "/internal/files/{type}", self._files),
        ]

    async def _index(self, _: web.Request) -> web.StreamResponse:
        # Must not be cached: it links to the scripts of one version of the package.
        return web.FileResponse(self.static / "index.html", headers={"Cache-Control": "no-store, must-revalidate"})

    # Saved workflows and other files

    async def _list_userdata(self, request: web.Request) -> web.StreamResponse:
        options = {
            "recurse": _is_true(request, "recurse"),
            "full": _is_true(request, "full_info"),
            "split": _is_true(request, "split"),
        }
        return await _answer(self._data.listing, request.query.get("dir", ""), **options)

    async def _tree_of_userdata(self, request: web.Request) -> web.StreamResponse:
        return await _answer(self._data.tree, request.query.get("path", ""))

    async def _userdata(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        path = await asyncio.to_thread(self._data.file, name)
        if path == self._data.folder / _STYLE_SHEET:
            return file_answer(path, "text/css", "inline")
        return file_answer(path, shown_type(path.name), "attachment")

    async def _store_userdata(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        return await _answer(self._data.store, request.match_info["file"], content, **_write_options(request))

    async def _move_userdata(self, request: web.Request) -> web.StreamResponse:
        names = request.match_info["file"], request.match_info["dest"]
        return await _answer(self._data.move, *names, **_write_options(request))

    async def _delete_userdata(self, request: web.Request) -> web.StreamResponse:
        await asyncio.to_thread(self._data.delete, request.match_info["file"])
        return web.Response(status=204)

    # Files of packs for the editor

    async def _extensions(self, _: web.Request) -> web.StreamResponse:
        """Lists the packs' scripts that the editor loads. Its own scripts are not listed."""
        scripts = [
            f"/extensions/{name}/{path.relative_to(folder).as_posix()}"
            for name, folder in self._host.registry.web_folders.items()
            for path in sorted(folder.rglob("*.js"))
        ]
        return json_answer(scripts)

    async def _extension_file(self, request: web.Request) -> web.StreamResponse:
        # The pack's name also comes from the client: it may contain "..", and slashes encoded as %2F.
        pack = request.match_info["pack"]
        folder = self._host.registry.web_folders.get(pack)
        return _file_in(folder, request) if folder else _file_in(self.static / "extensions", request, pack)

    async def _translations(self, _: web.Request) -> web.StreamResponse:
        return json_answer(await asyncio.to_thread(_translations, self._host.packs))

    def _template_folders(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for pack in self._host.packs:
            folders = [pack / name for name in _TEMPLATE_FOLDERS if (pack / name).is_dir()]
            if folders:
                # In a checkout, the pack's folder may have any name.
                found["kandiflux" if pack == pack_root() else pack.name] = folders
        return found

    async def _templates(self, _: web.Request) -> web.StreamResponse:
        return json_answer(await asyncio.to_thread(self._runnable_templates))

    def _runnable_templates(self) -> dict[str, list[str]]:
        """Returns by pack the templates whose nodes this host has. FLUX's, for example, need a ComfyUI."""
        known = {*self._host.registry.classes, *_VIRTUAL}
        found: dict[str, list[str]] = {}
        for name, folders in self._template_folders().items():
            files = [file for folder in folders for file in sorted(folder.glob("*.json"))]
            found[name] = [file.stem for file in files if _node_types(file) <= known]
        return found

    async def _template(self, request: web.Request) -> web.StreamResponse:
        """Sends a template's workflow or image."""
        for folder in self._template_folders().get(request.match_info["pack"], []):
            if (folder / Path(request.match_info["file"]).name).is_file():
                return _file_in(folder, request)
        return web.Response(status=404)

    async def _core_templates(self, request: web.Request) -> web.StreamResponse:
        """Returns an empty list: ComfyUI's own templates need ComfyUI."""
        if request.match_info["file"].startswith("index."):
            return json_answer([])
        return web.Response(status=404)

    # Models

    async def _model_folders(self, _: web.Request) -> web.StreamResponse:
        folders = self._host.folders
        kinds = [kind for kind in folders.model_kinds() if kind != "configs"]
        suffixes = sorted(MODEL_SUFFIXES)
        return json_answer(
            [{"name": kind, "folders": _texts(folders.model_folders(kind)), "extensions": suffixes} for kind in kinds]
        )

    async def _models(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["folder"]
        if kind not in self._host.folders.model_kinds():
            return web.Response(status=404)
        return json_answer(await asyncio.to_thread(self._models_of, kind))

    def _models_of(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        folders = self._host.folders.model_folders(kind)
        for name in self._host.folders.model_files(kind):
            index = next((index for index, folder in enumerate(folders) if (folder / name).exists()), None)
            if index is None:  # deleted in the meantime
                continue
            stat = (folders[index] / name).stat()
            times = {"modified": stat.st_mtime, "created": stat.st_ctime, "size": stat.st_size}
            found.append({"name": name, "pathIndex": index, **times})
        return found

    async def _metadata(self, request: web.Request) -> web.StreamResponse:
        """Returns the metadata of a safetensors file."""
        kind, name = request.match_info["folder"], request.query.get("filename", "")
        for folder in self._host.folders.model_folders(kind):
            try:
                path = inside(folder.resolve(), name)
            except OutsideFolder:
                continue
            if path.suffix == ".safetensors" and path.is_file():
                found = await asyncio.to_thread(_metadata, path)
                return json_answer(found) if found is not None else web.Response(status=404)
        return web.Response(status=404)

    async def _folder_paths(self, _: web.Request) -> web.StreamResponse:
        folders = self._host.folders
        return json_answer({kind: _texts(folders.model_folders(kind)) for kind in folders.model_kinds()})

    async def _files(self, request: web.Request) -> web.StreamResponse:
        """Lists the files of the input, output or temp folder as "NAME [FOLDER]", newest first."""
        kind = request.match_info["type"]
        folder = self._host.folders.of_type(kind)
        if folder is None:
            return json_answer({"error": "Invalid directory type"}, status=400)
        return await _answer(_newest_first, folder, kind)

    # Logs

    async def _logs(self, _: web.Request) -> web.StreamResponse:
        return json_answer("".join(f"{entry['t']} - {entry['m']}" for entry in self._log.entries.copy()))

    async def _raw_logs(self, _: web.Request) -> web.StreamResponse:
        return json_answer({"entries": list(self._log.entries.copy()), "size": _TERMINAL})

    async def _subscribe_logs(self, request: web.Request) -> web.StreamResponse:
        body = await read_object(request, {"clientId": str})
        client = body.get("clientId")
        if client is None or (body.get("enabled") and len(self._log.clients) >= _MOST_LOG_CLIENTS):
            raise Refused(400, 'expected {"clientId": string, "enabled": true or false}, from at most 100 clients')
        (self._log.clients.add if body.get("enabled") else self._log.clients.discard)(client)
        return web.Response()


class _LogTail(logging.Handler):
    """Keeps the last lines of the log for the editor's panel. Sends new lines to subscribed clients."""

    def __init__(self, send: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.entries: deque[dict[str, str]] = deque(maxlen=_LOG_LINES)
        self.clients: set[str] = set()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)[:_LONGEST_LINE]
        except Exception:  # noqa: BLE001 - an argument's __str__ may raise anything; logging reports it
            self.handleError(record)
            return
        entry = {"t": datetime.fromtimestamp(record.created).isoformat(), "m": text + "\n"}
        self.entries.append(entry)
        for client in list(self.clients):
            self._send(client, {"entries": [entry], "size": _TERMINAL})


def _newest_first(folder: Path, kind: str) -> list[str]:
    visible = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    files = [(-path.stat().st_mtime, path.name) for path in visible]
    return [f"{name} [{kind}]" for _, name in sorted(files)]


def _put_example(folder: Path) -> None:
    """Creates example.png if the input folder is empty: ComfyUI ships this file, and workflows refer to it."""
    if any(folder.iterdir()):
        return
    picture = Image.new("RGB", (512, 512), "#3a5fcd")
    ImageDraw.Draw(picture).ellipse((128, 128, 384, 384), fill="#e03c31")
    picture.save(folder / "example.png")


async def _answer(work: Callable[..., Any], *arguments: Any, **options: Any) -> web.Response:
    """Calls `work` in a thread and returns its result as a JSON response."""
    return json_answer(await asyncio.to_thread(work, *arguments, **options))


def _is_true(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() == "true"


def _write_options(request: web.Request) -> dict[str, bool]:
    return {"overwrite": request.query.get("overwrite") != "false", "full": _is_true(request, "full_info")}


def _file_in(folder: Path, request: web.Request, *below: str) -> web.StreamResponse:
    try:
        path = inside(folder.resolve(), *below, request.match_info["file"])
    except OutsideFolder:
        return web.Response(status=403)
    return web.FileResponse(path) if path.is_file() else web.Response(status=404)


def _node_types(file: Path) -> set[str]:
    """Returns the node classes of a workflow in the editor's format, with subgraphs replaced by their nodes."""
    try:
        workflow = json.loads(file.read_text("utf-8"))
        subgraphs = as_list(as_object(workflow.get("definitions")).get("subgraphs"))
        types = {node["type"] for graph in (workflow, *subgraphs) for node in graph["nodes"]}
        return types - {graph["id"] for graph in subgraphs}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is not a workflow in the editor's format (%r): not offered as a template.", file, error)
        return {"?"}


def _texts(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def _translations(packs: list[Path]) -> dict[str, Any]:
    """Returns the packs' translations by language: the content of main.json, and other files under their names."""
    found: dict[str, Any] = {}
    for folder in (folder for pack in packs for folder in sorted(pack.glob("locales/*/"))):
        for name in _TRANSLATIONS:
            file = folder / f"{name}.json"
            if not file.is_file():
                continue
            try:
                content = json.loads(file.read_text("utf-8"))
            except ValueError as error:
                log.warning("%s is not valid JSON (%s): skipped.", file, error)
                continue
            _merge(found.setdefault(folder.name, {}), content if name == "main" else {name: content})
    return found


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if is_object(value) and is_dict(inner := into.get(key)):
            _merge(inner, value)
        else:
            into[key] = value


def _metadata(path: Path) -> Any:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= _LONGEST_HEADER else b""
    try:
        return parse_json(header).get("__metadata__")
    except (ValueError, AttributeError):
        return None
