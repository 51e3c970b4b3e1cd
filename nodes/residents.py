"""LRU cache of networks on the GPU for the lite host."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import nn

RESERVE = 2**30
"""Free bytes to keep beyond what a network needs: for small networks that state no need, for fragmentation, and for
other programs."""


class Residents:
    """LRU cache of the networks on `device`. free: returns the free bytes there; None keeps only one network at a
    time."""

    def __init__(self, device: torch.device, free: Callable[[], int] | None) -> None:
        self.device, self.free = device, free
        # Least recently used first; weak, so that unused networks are freed.
        self._networks: weakref.WeakKeyDictionary[nn.Module, None] = weakref.WeakKeyDictionary()

    def bring(self, network: nn.Module, memory: int = 0) -> None:
        """Move `network` to the device. Networks used least recently are moved off it until `memory` bytes, for what
        the network computes, are free beside its weights."""
        there = network in self._networks
        self._networks.pop(network, None)
        needed = RESERVE + memory + (0 if there else size(network))
        while self._networks and (self.free is None or self.free() < needed):
            self._send_off(next(iter(self._networks)))
        network.to(self.device)
        self._networks[network] = None

    def clear(self) -> None:
        """Move all networks to the CPU."""
        for network in list(self._networks):
            self._send_off(network)

    def _send_off(self, network: nn.Module) -> None:
        self._networks.pop(network, None)
        network.to("cpu")


def size(network: nn.Module) -> int:
    """Bytes of its weights."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def residents_of(device: torch.device) -> Residents:
    """Those of a CUDA device, which knows what is free on it, or of another."""
    if device.type != "cuda":
        return Residents(device, None)

    def free() -> int:
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused

    return Residents(device, free)
