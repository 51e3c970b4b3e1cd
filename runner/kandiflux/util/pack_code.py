"""Imports code of the node pack by path, as ComfyUI does, but without registering nodes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from kandiflux.errors import KandifluxError
from kandiflux.util.paths import pack_root

__all__ = ["pack_module"]

_NAME = "kandiflux_pack_nodes"


def pack_module(name: str) -> ModuleType:
    """Imports the module `nodes/<name>` of the pack, such as `models.loader3`. KandifluxError if there is no pack."""
    if _NAME not in sys.modules:
        folder = pack_root() / "nodes"
        spec = importlib.util.spec_from_file_location(
            _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None or not folder.is_dir():
            raise KandifluxError(f"The node pack in {folder} cannot be imported.", hint="Install kandiflux again.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[_NAME] = module
        spec.loader.exec_module(module)
    return importlib.import_module(f"{_NAME}.{name}")
