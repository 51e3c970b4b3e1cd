"""What every test of the nodes runs with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nodes import host

clear = host.current.cache_clear


@pytest.fixture(autouse=True)
def _no_host() -> Iterator[None]:
    """Another test may have found the lite host that a third one had started in this process."""
    clear()
    yield
    clear()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small run faster on one thread, and many times faster if other processes are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
