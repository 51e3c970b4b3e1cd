"""Data that the graph editor stores on the server: settings, and files such as saved workflows. All calls block.

The folder has ComfyUI's layout (`user/default`), so that it can be copied to a ComfyUI and back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kandiflux.lite.folders import OutsideFolder, inside
from kandiflux.lite.http import Refused
from kandiflux.util.files import written_whole
from kandiflux.util.json_values import as_object, parse_json

__all__ = ["UserData"]

log = logging.getLogger(__name__)

_SETTINGS = "comfy.settings.json"


@dataclass(frozen=True)
class UserData:
    """The files of the only user, in `folder` (absolute, links resolved), which the first write creates.

    Names are relative to `folder`, with forward slashes. Methods raise Refused, with the HTTP status, if a name refers
    to a file outside it, if the file does not exist, or if it exists and must not be overwritten.
    """

    folder: Path

    def settings(self) -> Mapping[str, Any]:
        """Returns the stored settings; {} if there are none or the file is damaged: the editor has defaults."""
        try:
            stored = parse_json((self.folder / _SETTINGS).read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            log.warning("The settings in %s are not valid JSON (%s): the defaults are used.", self.folder, error)
            return {}
        return as_object(stored)

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Updates the stored settings with `changes`."""
        text = json.dumps({**self.settings(), **changes}, indent=4)
        _write(self.folder / _SETTINGS, text.encode())

    def listing(self, name: str, *, recurse: bool, full: bool, split: bool) -> list[Any]:
        """Lists the files in the folder `name` by relative name; `split`: also its parts; `full`: size and times."""
        if not name:
            raise Refused(400, "Directory not provided")
        folder = self._path(name)
        if not folder.is_dir():
            raise Refused(404, "Directory not found")
        files = sorted(path for path in (folder.rglob("*") if recurse else folder.iterdir()) if path.is_file())
        if full:
            return [_file_info(path, folder) for path in files]
        names = [path.relative_to(folder).as_posix() for path in files]
        return [[name, *name.split("/")] for name in names] if split else names

    def tree(self, name: str) -> list[dict[str, Any]]:
        """Lists folders and files below `name`, folders first, with paths relative to the user's folder."""
        top = self._path(name) if name else self.folder
        if not top.exists():
            raise Refused(404, "Requested path not found")
        if not top.is_dir():
            raise Refused(400, "Requested path is not a directory")
        found: list[dict[str, Any]] = []
        for path in sorted(top.rglob("*")):
            entry = {"name": path.name, "path": path.relative_to(self.folder).as_posix()}
            if path.is_dir():
                found.append({**entry, "type": "directory"})
            elif path.is_file():
                stat = path.stat()
                found.append({**entry, "type": "file", "size": stat.st_size, "modified": stat.st_mtime})
        return sorted(found, key=lambda entry: (entry["type"] != "directory", entry["name"].lower()))

    def file(self, name: str) -> Path:
        """Returns the path of an existing file."""
        path = self._path(name)
        if not path.is_file():
            raise Refused(404, f"There is no file {name[:200]}.")
        return path

    def store(self, name: str, content: bytes, *, overwrite: bool, full: bool) -> Any:
        """Stores a file. Returns its name; if `full`, also its size and times."""
        path = self._free(name, overwrite)
        try:
            _write(path, content)
        except OSError as error:
            raise Refused(400, f"{name[:200]} cannot be stored: {error.strerror or error}.") from error
        return self._answer(path, full)

    def move(self, name: str, to: str, *, overwrite: bool, full: bool) -> Any:
        """Moves a file. Returns the same as `store`."""
        source, target = self.file(name), self._free(to, overwrite)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        except OSError as error:
            raise Refused(400, f"{name[:200]} cannot be moved to {to[:200]}: {error.strerror or error}.") from error
        return self._answer(target, full)

    def delete(self, name: str) -> None:
        """Deletes a file."""
        self.file(name).unlink()

    def _path(self, name: str) -> Path:
        try:
            return inside(self.folder, name)
        except OutsideFolder as error:
            raise Refused(403, str(error)) from error

    def _free(self, name: str, overwrite: bool) -> Path:
        path = self._path(name)
        if path == self.folder or path.is_dir() or any(ord(letter) < 32 for letter in name):
            raise Refused(400, f"{name[:200]!r} is not a valid file name")
        if path.exists() and not overwrite:
            raise Refused(409, "File already exists")
        return path

    def _answer(self, path: Path, full: bool) -> Any:
        return _file_info(path, self.folder) if full else path.relative_to(self.folder).as_posix()


def _file_info(path: Path, folder: Path) -> dict[str, Any]:
    stat = path.stat()
    name = path.relative_to(folder).as_posix()
    times = {"modified": _milliseconds(stat.st_mtime), "created": _milliseconds(stat.st_ctime)}
    return {"path": name, "size": stat.st_size, **times}


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _write(path: Path, content: bytes) -> None:
    """Writes a file atomically, so that a full disk does not destroy the previous version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        part.write_bytes(content)
