"""The FLUX nodes as an editor sees them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from nodes.flux import NODES


def widgets(node: Any) -> dict[str, Any]:
    return {name: spec for group in node.INPUT_TYPES().values() for name, spec in group.items()}


@pytest.mark.parametrize("name", NODES)
def test_every_node_explains_itself(name: str) -> None:
    node, title = NODES[name]
    assert name.startswith("Kandiflux")
    assert title
    assert len(node.DESCRIPTION) > 30
    assert node.SEARCH_ALIASES
    assert node.CATEGORY == "kandiflux/flux"
    assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES)
    for input_name, (_, options) in widgets(node).items():
        assert options.get("tooltip"), f"{name}.{input_name} has no tooltip"


@pytest.mark.parametrize("name", NODES)
def test_a_node_takes_what_it_declares(name: str) -> None:
    node, _ = NODES[name]
    taken = inspect.signature(getattr(node, node.FUNCTION)).parameters
    declared = node.INPUT_TYPES()
    named = {name: one for name, one in taken.items() if name not in ("self", "inputs")}
    assert list(declared["required"]) == [name for name, one in named.items() if one.default is one.empty]
    assert {name for name, one in named.items() if one.default is not one.empty} <= set(declared.get("optional", ()))
    assert ("optional" in declared) == ("inputs" in taken)


def test_redux_mix_shows_pictures_then_weights_then_masks() -> None:
    optional = list(NODES["KandifluxReduxMix"][0].INPUT_TYPES()["optional"])
    numbered = [f"{kind}_{i}" for kind in ("image", "weight", "mask") for i in range(1, 9)]
    assert optional == [*numbered, "mask_edge", "downsampling_method"], "saved workflows have values by position"
