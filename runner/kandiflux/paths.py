"""Where this installation's node pack and shipped workflows are.

In a checkout (and an editable install) the pack is the repository root; in a wheel it is the
`pack` folder inside this package.
"""

from pathlib import Path

__all__ = ["pack_root", "workflows_folder"]

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parents[1]


def pack_root() -> Path:
    """The folder ComfyUI would see as this pack: holds `__init__.py`, `nodes/`, `weights/`, `workflows/`."""
    if (_CHECKOUT / "nodes" / "host.py").is_file():
        return _CHECKOUT
    return _PACKAGE / "pack"


def workflows_folder() -> Path:
    """Where the workflows lie that come with kandiflux."""
    return pack_root() / "workflows"
