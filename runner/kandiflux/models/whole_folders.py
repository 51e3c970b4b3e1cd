"""Finds the configurations and tokenizers of published folders of weights, which workflows do not list.

The editor offers only weight files for download, so workflows name no other files; but the loader of models/kandinsky
needs the complete folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from kandiflux.errors import DownloadError
from kandiflux.models.model_files import WHOLE_FOLDERS, ModelFile, why_unsafe
from kandiflux.models.remote_files import RemoteFiles
from kandiflux.util.json_values import as_object, is_list, is_object

__all__ = ["Repository", "companions", "repositories"]

_RESOLVED = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_SUFFIXES = frozenset({".json", ".txt", ".model"})
_LARGEST = 64 << 20
_MAX_FILES = 1000

Repository = tuple[str, str, str]
"""(URL of the repository's files, URL of the list of them, name of the local folder)"""


def repositories(models: Iterable[ModelFile]) -> dict[Repository, str]:
    """Returns the repositories whose files form whole folders, each with its model folder."""
    found: dict[Repository, str] = {}
    for model in models:
        try:
            url = urlsplit(model.url or "")
        except ValueError:
            continue
        match = _RESOLVED.fullmatch(url.path)
        if model.directory not in WHOLE_FOLDERS or match is None or not model.name.endswith(f"/{match['path']}"):
            continue
        base = urlunsplit(url._replace(path=f"/{match['repository']}/resolve/{match['revision']}", query=""))
        tree = f"/api/models/{match['repository']}/tree/{match['revision']}"
        listing = urlunsplit(url._replace(path=tree, query="recursive=true"))
        found[base, listing, model.name.removesuffix(f"/{match['path']}")] = model.directory
    return found


def companions(repository: Repository, directory: str, remotes: RemoteFiles) -> list[ModelFile]:
    """Returns the configuration and tokenizer files of a repository. DownloadError if its list is malformed."""
    base, listing, folder = repository
    listed = remotes.read_json(listing)
    if not is_list(listed):
        raise DownloadError(
            f"{listing} is not a list of the files of {folder}.", expected="a list", got=repr(listed)[:100]
        )
    found = (_model(entry, base, folder, directory) for entry in listed if is_object(entry) and _is_wanted(entry))
    return list(islice((model for model in found if why_unsafe(model) is None), _MAX_FILES))


def _is_wanted(entry: Mapping[str, Any]) -> bool:
    path, size = entry.get("path"), entry.get("size")
    return (
        entry.get("type") == "file"
        and isinstance(path, str)
        and PurePosixPath(path).suffix in _SUFFIXES
        and isinstance(size, int)
        and 0 < size <= _LARGEST
    )


def _model(entry: Mapping[str, Any], base: str, folder: str, directory: str) -> ModelFile:
    digest = as_object(entry.get("lfs")).get("oid")
    return ModelFile(
        name=f"{folder}/{entry['path']}",
        directory=directory,
        url=f"{base}/{quote(entry['path'], errors='replace')}",
        hash=digest.lower() if isinstance(digest, str) else None,
        size=entry["size"],
    )
