"""What every test of the lite host runs with."""

from __future__ import annotations

import pytest
from kandiflux.lite import seam


@pytest.fixture(autouse=True)
def _the_host_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that a test makes is not found by the nodes of tests after it."""
    monkeypatch.setattr(seam, "active", seam.active)
