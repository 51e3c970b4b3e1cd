"""What the memory of networks is said to be covers what it is, and not by far: published sizes, on no device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure_memory as measure
import pytest
import torch
from torch import nn

from nodes.models.movq import MOVQConfig
from nodes.models.unet2 import UNet2Config
from nodes.models.unet3 import UNet3Config

POCKET = Path(__file__).resolve().parents[3] / "weights" / "pocket" / "kandinsky-2-2-pocket-decoder"
FEW: Any = {"sizes": ((512, 512), (1000, 1000)), "batches": (2,)}


def require_covered(rows: Iterator[measure.Measured], at_most: float = 1.3) -> None:
    found = list(rows)
    assert found
    for row in found:
        assert 1.0 <= row.ratio <= at_most, row


@pytest.mark.parametrize("name", measure.UNETS)
def test_unets(name: str) -> None:
    require_covered(measure.Networks().unet(name, measure.UNETS[name], **FEW))


@pytest.mark.parametrize("name", measure.MOVQS)
def test_movqs(name: str) -> None:
    require_covered(measure.Networks().movq(name, measure.MOVQS[name], FEW["sizes"]))


@pytest.mark.parametrize("name", [*measure.PRIORS, *measure.ENCODERS])
def test_prior_and_its_encoders(name: str) -> None:
    networks = measure.Networks()
    if name in measure.PRIORS:
        require_covered(networks.prior(name, measure.PRIORS[name]))
    else:
        require_covered(networks.encoder(name, measure.ENCODERS[name]))


def test_small_networks_and_float32() -> None:
    networks = measure.Networks(dtype=torch.float32)
    pocket = json.loads((POCKET / "unet" / "config.json").read_text())
    require_covered(networks.unet("pocket", UNet2Config.from_json(pocket), **FEW))
    tiny = UNet3Config(4, 4, 24, 4, 8, 2, (16, 16, 24, 32), 20, 12)
    require_covered(networks.unet("tiny 3", tiny, **FEW), at_most=2)
    movq = MOVQConfig.from_json(json.loads((POCKET / "movq" / "config.json").read_text()))
    require_covered(networks.movq("pocket", movq, FEW["sizes"]), at_most=2)


def test_doubled_widths_are_noticed() -> None:
    """The comparison can fail."""
    small, large = (
        replace(UNet2Config(), block_out_channels=w) for w in ((384, 768, 1152, 1536), (768, 768, 1152, 1536))
    )
    (row,) = measure.Networks().unet("large", large, sizes=((512, 512),), batches=(1,))
    (as_small,) = measure.Networks().unet("small", small, sizes=((512, 512),), batches=(1,))
    assert as_small.formula < row.counted


class Chain(nn.Module):
    """Holds two tensors and makes a third of their size."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1000, device="meta"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = x + 1
        second = first + self.weight
        del first
        return second.view(10, 100).mul_(2) + second[:100]


def test_counts_what_lives_at_once_and_nothing_else() -> None:
    """first beside second, then second beside the result; views, and what is done in place, add nothing."""
    network, x = Chain(), torch.zeros(1000, device="meta")
    assert measure.peak(network, lambda: network(x), [x]) == 2 * 4000
    assert measure.peak(network, lambda: network(x), []) == 2 * 4000  # nor does what came from outside


def test_attention_holds_no_scores_and_a_convolution_two_copies() -> None:
    network = nn.Conv2d(1, 2, 1, device="meta")
    x = torch.zeros((1, 1, 10, 10), device="meta")
    assert measure.peak(network, lambda: network(x), [x]) == 800 + 400 + 800
    q = torch.zeros((1, 1, 4096, 8), device="meta")
    assert measure.peak(network, lambda: nn.functional.scaled_dot_product_attention(q, q, q), [q]) == q.nbytes


@pytest.mark.parametrize("covered", [True, False])
def test_the_command_says_what_is_not_covered(
    covered: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = measure.Measured("2.2 UNet", "512×512", 2, 2**21, 2**21 if covered else 2**20)
    monkeypatch.setattr(measure.Networks, "all", lambda self: iter([row]))
    assert measure.main([]) == (0 if covered else 1)
    assert f"| 2.2 UNet | 512×512 | 2 | 2 MiB | {2 if covered else 1} MiB |" in capsys.readouterr().out
