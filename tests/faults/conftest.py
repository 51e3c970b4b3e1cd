"""The misbehaving server, and a client that is quick to notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kandiflux import Client

from tests.fake_comfyui import FakeComfyUI


@pytest.fixture
def comfy() -> Iterator[FakeComfyUI]:
    with FakeComfyUI().serving() as server:
        yield server


@pytest.fixture
def client(comfy: FakeComfyUI) -> Iterator[Client]:
    with Client(comfy.url, timeout=(1.0, 0.4), poll_seconds=0.2, patience=1.5) as client:
        yield client
