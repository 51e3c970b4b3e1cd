"""Virtual environments for other people's programs, separate from ours: their requirements must not become ours."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

__all__ = ["environment"]

_PIP_SECONDS = 300


def environment(*requirements: str) -> Path:
    """The folder of the programs of an environment with `requirements`; made once, under the user's cache folder.

    Skips the test, with the reason, if it cannot be made.
    """
    digest = hashlib.sha256(repr((sys.version_info[:2], requirements)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "kandiflux-tests" / digest
    reason = _make(folder, requirements)
    if reason:
        pytest.skip(f"no environment with {', '.join(requirements)}: {reason}")
    return _programs(folder)


def _programs(folder: Path) -> Path:
    return folder / ("Scripts" if os.name == "nt" else "bin")


@functools.cache  # a failure takes as long as pip's retries: once per test run is enough
def _make(folder: Path, requirements: tuple[str, ...]) -> str | None:
    """Make the environment if it is not there yet; why it cannot be made, or None."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # another test run may be making the same one
            if (folder / "complete").is_file():
                return None
            shutil.rmtree(folder, ignore_errors=True)
            pip = [str(_programs(folder) / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            pip += ["--timeout", "20", "--retries", "1"]  # without a network, pip would otherwise try for minutes
            reason = _failure([sys.executable, "-m", "venv", str(folder)]) or _failure([*pip, *requirements])
            if reason is None:
                (folder / "complete").touch()
            return reason
    except OSError as error:
        return str(error)


def _failure(command: list[str]) -> str | None:
    """Run the command; why it failed, in its own words, or None."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"not done after {_PIP_SECONDS} s"
    if ended.returncode == 0:
        return None
    said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
    return " ".join(said[-3:]) or f"exit code {ended.returncode}"
