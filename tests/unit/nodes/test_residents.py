"""What stays on a GPU between runs."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn

from nodes.residents import RESERVE, Residents, residents_of, size


class Network(nn.Module):
    """Of so many bytes; remembers where it is."""

    def __init__(self, bytes_: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(bytes_ // 4), requires_grad=False)
        self.place = "cpu"

    def to(self, *args: Any, **_: Any) -> Network:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.place = str(args[0])
        return self


class Device:
    """Room for `capacity` bytes of weights beside the room to compute in."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.networks: list[Network] = []

    def network(self, bytes_: int) -> Network:
        self.networks.append(Network(bytes_))
        return self.networks[-1]

    def free(self) -> int:
        return self.capacity + RESERVE - sum(size(network) for network in self.networks if network.place == "gpu:0")


def residents(free: Any) -> Residents:
    made = Residents(torch.device("cpu"), free)
    made.device = "gpu:0"  # pyright: ignore[reportAttributeAccessIssue]
    return made


def places(*networks: Network) -> list[str]:
    return [network.place for network in networks]


def test_what_fits_stays() -> None:
    device = Device(1000)
    held = residents(device.free)
    a, b = device.network(400), device.network(600)
    for network in (a, b, a, b):
        held.bring(network)
    assert places(a, b) == ["gpu:0", "gpu:0"]


def test_the_one_used_longest_ago_goes_first() -> None:
    device = Device(1000)
    held = residents(device.free)
    a, b, c = device.network(400), device.network(400), device.network(400)
    for network in (a, b, a, c):
        held.bring(network)
    assert places(a, b, c) == ["gpu:0", "cpu", "gpu:0"]


def test_one_too_large_for_the_room_comes_alone() -> None:
    device = Device(1000)
    held = residents(device.free)
    a, b, huge = device.network(400), device.network(400), device.network(4000)
    for network in (a, b, huge):
        held.bring(network)
    assert places(a, b, huge) == ["cpu", "cpu", "gpu:0"]


def test_where_nobody_knows_what_is_free_each_comes_alone() -> None:
    device = Device(1000)
    held = residents(None)
    a, b = device.network(8), device.network(8)
    for network in (a, b):
        held.bring(network)
    assert places(a, b) == ["cpu", "gpu:0"]


def test_cleared_and_forgotten() -> None:
    device = Device(1000)
    held = residents(device.free)
    a, b = device.network(400), device.network(400)
    held.bring(a)
    held.bring(b)
    held.clear()
    assert places(a, b) == ["cpu", "cpu"]
    held.bring(b)
    device.networks.clear()
    del b
    gc.collect()
    assert not held._networks
    assert residents_of(torch.device("cpu")).free is None


def test_what_torch_holds_and_does_not_use_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 1)
    for name, answer in (("memory_reserved", 700), ("memory_allocated", 200), ("mem_get_info", (40, 9000))):
        monkeypatch.setattr(torch.cuda, name, lambda asked, answer=answer: answer if asked == device else None)
    made = residents_of(device)
    assert made.free is not None
    assert (made.free(), made.device) == (540, device)
    mps = residents_of(torch.device("mps"))
    assert (mps.free, mps.device) == (None, torch.device("mps"))


def test_one_that_is_there_needs_only_room_to_compute_in() -> None:
    """It may go on where one that is brought would not fit."""
    free = RESERVE
    held = residents(lambda: free)
    a, b = Network(400), Network(400)
    held.bring(b)
    b.place = "untouched"
    held.bring(a)  # 400 bytes are lacking: b goes
    assert places(a, b) == ["gpu:0", "cpu"]
    c = Network(0)
    held.bring(c)  # of no size: nothing is lacking
    held.bring(a)
    assert places(a, c) == ["gpu:0", "gpu:0"]
    free -= 1
    held.bring(a)
    assert places(a, c) == ["gpu:0", "cpu"]


def test_what_a_network_computes_in_is_kept_free() -> None:
    device = Device(1000)
    held = residents(device.free)
    a, b = device.network(400), device.network(400)
    held.bring(a)
    held.bring(b, memory=200)
    assert places(a, b) == ["gpu:0", "gpu:0"]
    held.bring(b, memory=201)
    assert places(a, b) == ["cpu", "gpu:0"]


def test_buffers_have_a_size_too() -> None:
    network = Network(400)
    network.register_buffer("counts", torch.zeros(25, dtype=torch.float16))
    assert size(network) == 450
