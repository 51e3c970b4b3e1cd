"""Computes file hashes, and says which kinds can be verified."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["digest_of", "hash_kind", "why_unverifiable"]

_READ = 4 << 20
_AUTOV2 = "autov2"
"""Civitai's short hash: the first 10 digits of the SHA-256."""
_AUTOV2_DIGITS = 10
_BLAKE3 = "blake3"
# The shake functions have no fixed length.
_HASHLIB = {
    re.sub(r"[^a-z0-9]", "", name.lower()): name
    for name in sorted(hashlib.algorithms_guaranteed)
    if not name.startswith("shake_")
}


def hash_kind(text: str) -> str:
    """Normalizes the name of a hash kind: `SHA-256` becomes sha256. Unknown names are only lower-cased."""
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    return _HASHLIB.get(plain, plain if plain in (_AUTOV2, _BLAKE3) else text.lower())


def why_unverifiable(kind: str, value: str) -> str | None:
    """Returns why a file cannot be verified with this hash; None if it can. kind: as returned by `hash_kind`."""
    if kind == _BLAKE3 and _blake3() is None:
        return "its hash is of the kind blake3, which needs the package blake3 (pip install blake3)"
    if kind != _BLAKE3 and kind != _AUTOV2 and kind not in _HASHLIB.values():
        return f"its hash is of the kind {kind[:40]!r}, which cannot be verified here; sha256 can"
    digits = _AUTOV2_DIGITS if kind == _AUTOV2 else 2 * _new(kind).digest_size
    if not re.fullmatch(r"[0-9a-f]+", value) or len(value) != digits:
        return f"{value[:80]!r} is not a {kind} hash, which has {digits} hexadecimal digits"
    return None


def digest_of(path: Path, kind: str, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """Returns the file's hash in hexadecimal.

    kind: one that `why_unverifiable` accepts. on_bytes: called with the number of bytes read so far.
    """
    digest, done = _new(kind), 0
    with path.open("rb") as file:
        while piece := file.read(_READ):
            digest.update(piece)
            done += len(piece)
            on_bytes(done)
    found: str = digest.hexdigest()
    return found[:_AUTOV2_DIGITS] if kind == _AUTOV2 else found


def _new(kind: str) -> Any:
    if kind == _BLAKE3:
        return _blake3()
    return hashlib.new("sha256" if kind == _AUTOV2 else kind, usedforsecurity=False)


def _blake3() -> Any:
    try:
        module = importlib.import_module("blake3")
    except ImportError:
        return None
    return module.blake3()
