"""Where this installation's node pack and shipped workflows are.

In a checkout (and an editable install) the pack is the repository root; in a wheel it is the
`pack` folder inside this package.
"""

import os
from pathlib import Path

__all__ = ["expanded", "is_file", "pack_root", "workflows_folder"]

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parents[1]


def pack_root() -> Path:
    """The folder ComfyUI would see as this pack: holds `__init__.py`, `nodes/`, `weights/`, `workflows/`."""
    if (_CHECKOUT / "nodes" / "host.py").is_file():
        return _CHECKOUT
    return _PACKAGE / "pack"


def workflows_folder() -> Path:
    """Where the workflows lie that come with kandiflux."""
    return pack_root() / "workflows"


def expanded(path: str | Path) -> Path:
    """`path` with `~` as the home folder; as it is if there is no such user, for which Path.expanduser raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def is_file(path: Path) -> bool:
    """Whether this is a file; False, too, for names that are too long, and what may not be looked at."""
    return os.path.isfile(path)  # noqa: PTH113
