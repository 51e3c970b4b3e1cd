"""Files with something wrong in them, hundreds of them, always the same ones: converted, or refused in words."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from kandiflux.errors import WorkflowError
from kandiflux.workflow.editor_format.convert import convert

from tests.support.conversion_cases import CASES, OBJECT_INFO
from tests.support.places import ROOT

SHIPPED = sorted((ROOT / "workflows").glob("*.json"))
WRONG: list[Any] = [
    None, True, False, 0, -1, 1, 2**70, 1.5, float("inf"), "", "x", "5", "-10", [], {}, [[]], {"a": 1}, [1, 2],
    "PrimitiveNode", "Reroute", "workflow>sampling",
]  # fmt: skip
ROUNDS = 40


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to everything in a file."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inside:
        yield (*path, key)
        yield from places(held, (*path, key))


def spoil(workflow: dict[str, Any], lots: random.Random) -> dict[str, Any]:
    """One to five parts gone, doubled, in another's place, or of the wrong kind."""
    workflow = copy.deepcopy(workflow)
    for _ in range(lots.choice([1, 1, 2, 5])):
        known = list(places(workflow))
        *way, last = lots.choice(known)
        holder = at(workflow, way)
        match lots.randrange(4):
            case 0:
                del holder[last]
            case 1 if isinstance(holder, list):
                holder.append(copy.deepcopy(lots.choice(holder)))
            case 2:
                holder[last] = copy.deepcopy(at(workflow, lots.choice(known)))
            case _:
                holder[last] = copy.deepcopy(lots.choice(WRONG))
    return workflow


def at(value: Any, path: Any) -> Any:
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("seed", range(8))
def test_a_spoilt_file_is_converted_or_refused(seed: int) -> None:
    lots = random.Random(seed)
    files = [*CASES.values(), *(json.loads(path.read_text("utf-8")) for path in lots.sample(SHIPPED, 3))]
    converted = 0
    for _ in range(ROUNDS):
        spoilt = spoil(lots.choice(files), lots)
        try:
            prompt = convert(spoilt, OBJECT_INFO, draw=lots).prompt
        except WorkflowError:
            continue
        json.dumps(prompt)
        converted += 1
    assert converted > ROUNDS / 4
