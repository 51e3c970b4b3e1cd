"""Paths of this installation's node pack and shipped workflows.

In a checkout (and an editable install) the pack is the repository root; in a wheel it is the `pack` folder inside this
package.
"""

import os
from pathlib import Path

__all__ = ["expanded", "is_file", "is_folder", "pack_root", "workflows_folder"]

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parents[1]


def pack_root() -> Path:
    """Returns the folder of the node pack: it contains `__init__.py`, `nodes/`, `weights/` and `workflows/`."""
    if (_CHECKOUT / "nodes" / "host.py").is_file():
        return _CHECKOUT
    return _PACKAGE / "pack"


def workflows_folder() -> Path:
    """Returns the folder of the shipped workflows."""
    return pack_root() / "workflows"


def expanded(path: str | Path) -> Path:
    """Expands `~`. If there is no such user, returns `path` unchanged; Path.expanduser would raise."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def is_file(path: Path) -> bool:
    """Returns whether this is a file; also False if the name is too long or access is denied."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Returns whether this is a folder; also False if the name is too long or access is denied."""
    return os.path.isdir(path)  # noqa: PTH112
