"""What holds for all tests of the commands."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_wish_for_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the suite says."""
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
