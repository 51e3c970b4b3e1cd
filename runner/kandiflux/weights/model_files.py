"""The model files a workflow names: what each is called, where it belongs, where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kandiflux.json_values import as_list, as_object, text_or_none

__all__ = [
    "WHOLE_FOLDERS",
    "ModelFile",
    "declared_models",
    "is_model_name",
    "same_file",
    "stands_for",
    "why_unsafe",
]

SUFFIXES = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf", ".onnx"})
WHOLE_FOLDERS = frozenset({"kandinsky"})
"""Model folders whose entries are published folders: only there may a file's name have folders in it."""

_PLAIN_NAME = re.compile(r'[^\x00-\x1f<>:"/\\|?*]+')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


@dataclass(frozen=True)
class ModelFile:
    """`name` as the widget has it, `directory` the folder under `models`. `hash` is lower-case hexadecimal, of the
    kind `hash_type`; `size` in bytes. What is not known is None."""

    name: str
    directory: str | None = None
    url: str | None = None
    hash: str | None = None
    hash_type: str = "sha256"
    size: int | None = None

    def filled_from(self, other: ModelFile | None) -> ModelFile:
        """With what `other`, the same file by another source, knows and this does not."""
        if other is None:
            return self
        return replace(
            self,
            directory=self.directory or other.directory,
            url=self.url or other.url,
            hash=self.hash or other.hash,
            hash_type=self.hash_type if self.hash else other.hash_type,
            size=self.size if self.size is not None else other.size,
        )

    def as_dict(self) -> dict[str, Any]:
        """What is known, as JSON."""
        return {
            key: value for key, value in vars(self).items() if value is not None and (key != "hash_type" or self.hash)
        }


def declared_models(declared: Any) -> list[ModelFile]:
    """Reads `models` as it stands in a node's properties or at the top of a file; what cannot be read is left out."""
    found: list[ModelFile] = []
    for about in map(as_object, as_list(declared)):
        name, size = about.get("name"), about.get("size")
        if not isinstance(name, str):
            continue
        found.append(
            ModelFile(
                name=name,
                directory=text_or_none(about.get("directory")),
                url=_direct(text_or_none(about.get("url"))),
                hash=(text_or_none(about.get("hash")) or "").lower() or None,
                hash_type=(text_or_none(about.get("hash_type")) or "sha256").lower().replace("-", ""),
                size=size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None,
            )
        )
    return found


def is_model_name(value: Any) -> bool:
    """True for a text that ends as a file of weights does."""
    return isinstance(value, str) and PurePosixPath(value).suffix.lower() in SUFFIXES


def same_file(value: str, among: Iterable[Any]) -> str | None:
    """The entry that means the same file on another system, or has it in another folder; None where none does."""
    names = [name for name in among if isinstance(name, str)]
    wanted = value.replace("\\", "/")
    exact = next((name for name in names if name.replace("\\", "/") == wanted), None)
    base = PurePosixPath(wanted).name
    return exact or next((name for name in names if PurePosixPath(name.replace("\\", "/")).name == base), None)


def stands_for(value: str, name: str) -> bool:
    """Whether the choice is this file, perhaps kept in a subfolder, or the published folder that it is a part of."""
    plain = value.replace("\\", "/")
    return bool(plain) and (plain == name or plain.rpartition("/")[2] == name or name.startswith(plain + "/"))


def why_unsafe(model: ModelFile) -> str | None:
    """Why this file is not to be written: a workflow is somebody else's text. None where it may be."""
    if model.directory is None:
        return "the workflow does not say which model folder it belongs in"
    if not _FOLDER.fullmatch(model.directory):
        return f"{model.directory!r} is no model folder's name"
    parts = model.name.split("/") if model.directory in WHOLE_FOLDERS else [model.name]
    for part in parts:
        if not _PLAIN_NAME.fullmatch(part) or part.startswith(".") or part[-1] in ". " or _RESERVED.fullmatch(part):
            return f"{model.name!r} is no plain file name"
    url = urlsplit(model.url or "")
    if model.url and (url.scheme not in ("http", "https") or not url.hostname):
        return f"{model.url!r} is no http or https address"
    return None


def _direct(url: str | None) -> str | None:
    """Hugging Face's page of a file, which people copy from the browser, as the file itself."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if parts.hostname == "huggingface.co" and "/blob/" in parts.path:
        return urlunsplit(parts._replace(path=parts.path.replace("/blob/", "/resolve/", 1)))
    return url
