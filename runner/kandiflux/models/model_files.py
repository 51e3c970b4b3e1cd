"""The model files that a workflow needs: their names, model folders and URLs, and checks that these are safe."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kandiflux.models.file_hashes import hash_kind, why_unverifiable
from kandiflux.util.json_values import as_list, as_object, text_or_none

__all__ = [
    "SUFFIXES",
    "WHOLE_FOLDERS",
    "ModelFile",
    "NeededModel",
    "declared_models",
    "is_model_name",
    "is_pickle",
    "same_file",
    "stands_for",
    "why_misplaced",
    "why_unsafe",
]

SUFFIXES = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf", ".onnx"})
"""Suffixes of weight files."""
WHOLE_FOLDERS = frozenset({"kandinsky"})
"""Model folders whose entries are whole published folders, with configurations and tokenizers."""

_PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})
_TEXTS = frozenset({".yaml", ".yml", ".json", ".txt", ".model"})
_TEXT_FOLDERS = WHOLE_FOLDERS | {"configs"}
_PLAIN_NAME = re.compile(r'[^<>:"/\\|?*]+')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]|conin\$|conout\$)\s*(\..*)?")
_FOLDER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.\-]{0,98}[A-Za-z0-9_\-])?")
_NO_MODELS = frozenset({"custom_nodes", "datasets"})
_SHARED_NAME = re.compile(
    r"(?i)(model|pytorch_model|diffusion_pytorch_model|pytorch_lora_weights|adapter_model|unet|vae|text_encoder)"
    r"(\.fp16|\.bf16|\.non_ema|\.ema)?(-\d+-of-\d+)?\.\w+"
)
"""Names that the files of many models have: only their folder tells them apart."""
_MAX_PARTS = 8
_MAX_NAME_BYTES = 200
"""NAME.part.json must fit into the 255 bytes that file systems allow for a name."""
_MAX_SIZE = 1 << 62
_CREDENTIALS = re.compile(r"^([^/?#]*//)[^/?#\\]*@")


@dataclass(frozen=True)
class ModelFile:
    """A model file. Fields that are not known are None.

    name: as in the widget. directory: the folder under `models`. hash: in lower case, of the kind `hash_type`.
    size: in bytes.
    """

    name: str
    directory: str | None = None
    url: str | None = None
    hash: str | None = None
    hash_type: str = "sha256"
    size: int | None = None

    def filled_from(self, other: ModelFile | None) -> ModelFile:
        """Returns a copy in which unknown fields are taken from `other`, the same file from another source."""
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
        """Returns the known fields as JSON."""
        return {
            key: value for key, value in vars(self).items() if value is not None and (key != "hash_type" or self.hash)
        }


@dataclass(frozen=True)
class NeededModel:
    """A model file, and the title of the first node that needs it."""

    model: ModelFile
    title: str


def declared_models(declared: Any) -> list[ModelFile]:
    """Reads `models` of a node's properties or of a file's top level.

    Malformed entries are left out. User names and passwords are removed from URLs.
    """
    found: list[ModelFile] = []
    for entry in map(as_object, as_list(declared)):
        name, size = entry.get("name"), entry.get("size")
        if not isinstance(name, str):
            continue
        found.append(
            ModelFile(
                name=name,
                directory=text_or_none(entry.get("directory")),
                url=_direct(text_or_none(entry.get("url"))),
                hash=(text_or_none(entry.get("hash")) or "").lower() or None,
                hash_type=hash_kind(text_or_none(entry.get("hash_type")) or "sha256"),
                size=size if type(size) is int and 0 < size < _MAX_SIZE else None,
            )
        )
    return found


def is_model_name(value: Any) -> bool:
    """Returns True for a string with the suffix of a weight file."""
    return isinstance(value, str) and PurePosixPath(value).suffix.lower() in SUFFIXES


def is_pickle(name: str) -> bool:
    """Returns True for a pickle by its suffix: it can run code when it is loaded."""
    return PurePosixPath(name).suffix.lower() in _PICKLES


def same_file(value: str, among: Iterable[Any]) -> str | None:
    """Returns the entry for the same file with other path separators, or the only one of its name in another folder.

    None if there is none, or if it is not certain: for two files of that name, or for a name that many models share.
    """
    names = [name for name in among if isinstance(name, str)]
    wanted = value.replace("\\", "/")
    exact = next((name for name in names if name.replace("\\", "/") == wanted), None)
    base = PurePosixPath(wanted).name
    if exact is not None or not is_model_name(base) or _SHARED_NAME.fullmatch(base):
        return exact
    same = [name for name in names if PurePosixPath(name.replace("\\", "/")).name == base]
    return same[0] if len(same) == 1 else None


def stands_for(value: str, name: str) -> bool:
    """Returns whether a widget's value is this file, maybe in a subfolder, or the published folder that contains it."""
    plain, name = value.replace("\\", "/"), name.replace("\\", "/")
    return bool(plain) and (plain == name or plain.rpartition("/")[2] == name or name.startswith(plain + "/"))


def why_misplaced(model: ModelFile) -> str | None:
    """Returns why a file of this name and folder must not be written; None if it may be. Workflows are not trusted.

    `ModelFolders.why_refused` also checks that the folder is a model folder of this ComfyUI.
    """
    if model.directory is None:
        return "the workflow does not name its model folder"
    if (
        not _FOLDER.fullmatch(model.directory)
        or _RESERVED.fullmatch(model.directory)
        or model.directory.casefold() in _NO_MODELS
    ):
        return f"{model.directory[:80]!r} is not the name of a model folder"
    parts = model.name.replace("\\", "/").split("/")
    shown = repr(model.name[:80])
    if len(parts) > _MAX_PARTS or any(len(part) > _MAX_NAME_BYTES for part in parts):
        return f"{shown} is too long for a file name"
    for part in parts:
        if (
            not _PLAIN_NAME.fullmatch(part)
            or any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in part)
            or part.startswith(".")
            or part.strip(" ") != part
            or part.endswith(".")
            or _RESERVED.fullmatch(part)
        ):
            return f"{shown} is not a plain file name"
        if len(part.encode()) > _MAX_NAME_BYTES:
            return f"{shown} is too long for a file name"
    suffix = PurePosixPath(parts[-1]).suffix.lower()
    if suffix not in SUFFIXES and not (suffix in _TEXTS and model.directory in _TEXT_FOLDERS):
        return f"{shown} does not have the suffix of a weight file ({', '.join(sorted(SUFFIXES))})"
    return None


def why_unsafe(model: ModelFile) -> str | None:
    """Returns why this file must not be downloaded (its name, folder, URL or hash); None if it may be."""
    # Imported here because it imports urllib3, which reading workflows does not need.
    from kandiflux.models.web_address import parse_address, shown_address

    misplaced = why_misplaced(model)
    if misplaced is not None:
        return misplaced
    if model.url is not None and parse_address(model.url) is None:
        return f"{shown_address(model.url)!r} is not a valid http or https URL"
    return why_unverifiable(model.hash_type, model.hash) if model.hash is not None else None


def _direct(url: str | None) -> str | None:
    """Removes user name and password from a URL, and replaces the URL of a page on Hugging Face by that of its file.

    People copy the address of the page from the browser.
    """
    if url is None:
        return None
    url = _CREDENTIALS.sub(r"\1", url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if parts.hostname == "huggingface.co" and "/blob/" in parts.path:
        return urlunsplit(parts._replace(path=parts.path.replace("/blob/", "/resolve/", 1)))
    return url
