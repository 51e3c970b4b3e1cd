"""What stays on a GPU between runs."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import nn

from nodes.residents import ROOM, Residents, residents_of, size


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
        return self.capacity + ROOM - sum(size(network) for network in self.networks if network.place == "gpu:0")


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
