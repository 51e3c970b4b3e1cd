"""Virtual environments for programs of others, apart from ours: what they need must not be what we need."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

__all__ = ["environment"]

_PIP_SECONDS = 300


def environment(*requirements: str) -> Path:
    """The folder of the programs of an environment with `requirements`; made once, under the user's cache folder.

    Skips the test, with pip's reason, if it cannot be made.
    """
    digest = hashlib.sha256(repr((sys.version_info[:2], requirements)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "kandiflux-tests" / digest
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        made = subprocess.run([*pip, *requirements], capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
        if made.returncode != 0:
            reason = next(reversed(made.stderr.strip().splitlines()), "no reason given")
            pytest.skip(f"no environment with {', '.join(requirements)}: {reason}")
        (folder / "complete").touch()
    return programs
