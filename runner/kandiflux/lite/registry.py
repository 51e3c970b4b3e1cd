"""The node classes of this host: its own, and those of packs, which are imported by path as in ComfyUI."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from kandiflux.lite.guard import Failure, attempt
from kandiflux.util.json_values import is_object

__all__ = ["V3_SCHEMA", "NodeClass", "Registry", "input_info", "is_output"]

log = logging.getLogger(__name__)

NodeClass = Any
"""A node class of the V1 schema. Third-party and duck-typed: it may lack any attribute."""

V3_SCHEMA: dict[str, Any] = {
    "output_tooltips": [None],
    "output_matchtypes": None,
    "search_aliases": None,
    "essentials_category": None,
    "price_badge": None,
    **dict.fromkeys(("deprecated", "experimental", "dev_only", "api_node"), False),
}
"""SCHEMA of the nodes that ComfyUI defines in its V3 schema: keys that are then always in /object_info."""


class Registry:
    """Node classes by name. Prompts are validated against `classes` and run with them."""

    def __init__(self, core: Mapping[str, NodeClass], display_names: Mapping[str, str]) -> None:
        self.classes: dict[str, NodeClass] = dict(core)
        self._display_names = dict(display_names)
        self._core = frozenset(core)
        self.web_folders: dict[str, Path] = {}
        """Folder with scripts for the graph editor, by pack."""

    def load_pack(self, path: Path) -> bool:
        """Imports the pack at `path` (a folder with `__init__.py`, or a file), adds its nodes and returns True.

        As in ComfyUI, a pack that cannot be imported is logged with its traceback and skipped (False).
        """
        loaded = attempt(lambda: _import_by_path(path))
        if isinstance(loaded, Failure):
            log.error("%sCannot import the node pack %s: %s", loaded.text, path, loaded.message)
            return False
        classes = getattr(loaded.value, "NODE_CLASS_MAPPINGS", None)
        if classes is None:
            log.error("The node pack %s has no NODE_CLASS_MAPPINGS, so it has no nodes.", path)
            return False
        pack_name = path.stem if path.is_file() else path.name
        web = getattr(loaded.value, "WEB_DIRECTORY", None)
        if web is not None and (path / web).is_dir():
            self.web_folders[pack_name] = (path / web).resolve()
        for name, node_class in classes.items():
            if name not in self._core:
                node_class.RELATIVE_PYTHON_MODULE = f"custom_nodes.{pack_name}"
                self.classes[name] = node_class
        self._display_names.update(getattr(loaded.value, "NODE_DISPLAY_NAME_MAPPINGS", None) or {})
        return True

    def missing(self, prompt: Mapping[str, Any]) -> list[str]:
        """Returns the class names of a prompt that this host does not have, without duplicates, in order."""
        names = (node.get("class_type") for node in prompt.values() if is_object(node))
        return list(dict.fromkeys(name for name in names if isinstance(name, str) and name not in self.classes))

    def object_info(self, names: list[str] | None = None) -> dict[str, Any]:
        """Returns the response of /object_info for `names` (None: all). Classes that raise errors are skipped."""
        found: dict[str, Any] = {}
        for name in self.classes if names is None else names:
            if name not in self.classes:
                continue
            info = attempt(partial(self._describe, name))
            if isinstance(info, Failure):
                log.error("%sCannot describe the node %s: %s", info.text, name, info.message)
            else:
                found[name] = info.value
        return found

    def _describe(self, name: str) -> dict[str, Any]:
        node_class = self.classes[name]
        inputs = node_class.INPUT_TYPES()
        outputs = node_class.RETURN_TYPES
        info: dict[str, Any] = {
            **getattr(node_class, "SCHEMA", {}),
            "input": inputs,
            "input_order": {group: list(members) for group, members in inputs.items()},
            "is_input_list": getattr(node_class, "INPUT_IS_LIST", False),
            "output": outputs,
            "output_is_list": getattr(node_class, "OUTPUT_IS_LIST", [False] * len(outputs)),
            "output_name": getattr(node_class, "RETURN_NAMES", outputs),
            "name": name,
            "display_name": self._display_names.get(name, name),
            "description": getattr(node_class, "DESCRIPTION", ""),
            "python_module": getattr(node_class, "RELATIVE_PYTHON_MODULE", "nodes"),
            "category": getattr(node_class, "CATEGORY", "sd"),
            "output_node": is_output(node_class),
            "has_intermediate_output": getattr(node_class, "HAS_INTERMEDIATE_OUTPUT", False) is True,
        }
        for flag in ("DEPRECATED", "EXPERIMENTAL", "DEV_ONLY"):
            if getattr(node_class, flag, False):
                info[flag.lower()] = True
        for name in ("OUTPUT_TOOLTIPS", "API_NODE", "SEARCH_ALIASES", "ESSENTIALS_CATEGORY"):
            if hasattr(node_class, name):
                info[name.lower()] = getattr(node_class, name)
        info.setdefault("search_aliases", [])
        return info


def is_output(node_class: NodeClass) -> bool:
    """Whether this is an output node class: prompts run to execute their output nodes."""
    return getattr(node_class, "OUTPUT_NODE", False) is True


def input_info(
    node_class: NodeClass, name: str, inputs: Mapping[str, Any] | None = None
) -> tuple[Any, str, Any] | None:
    """Type, group ("required", "optional", "hidden") and options of an input; None if it is not declared."""
    groups: Mapping[str, Any] = node_class.INPUT_TYPES() if inputs is None else inputs
    for group in ("required", "optional", "hidden"):
        if name in groups.get(group, {}):
            declared = groups[group][name]
            return declared[0], group, declared[1] if len(declared) > 1 else {}
    return None


def _import_by_path(path: Path) -> ModuleType:
    # As in ComfyUI, the module name is the path. Dots are replaced: they would denote parent packages.
    if path.is_file():
        name, source = str(path.with_suffix("")), path
    else:
        name, source = str(path).replace(".", "_x_"), path / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
