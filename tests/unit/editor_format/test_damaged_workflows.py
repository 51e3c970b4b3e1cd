"""A workflow that is damaged anywhere is told of in words: never a traceback, whatever is read of it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kandiflux.errors import KandifluxError
from kandiflux.workflow.needed_models import needed_models
from kandiflux.workflow.validation.check import check
from kandiflux.workflow.workflow import Workflow, shipped_workflows

from tests.support.places import DATA

OBJECT_INFO = json.loads((DATA / "object_info.json").read_text("utf-8"))
ODD = (None, 5, -1, 1.5, "x", "", [], {}, [1], {"a": 1}, True, [[1, 2]], "-10", 1e300, [None])

READERS: dict[str, Callable[[Workflow], Any]] = {
    "check": lambda workflow: [str(found) for found in check(workflow, OBJECT_INFO, embeddings=[]).findings],
    "prompt": lambda workflow: workflow.prompt(OBJECT_INFO),
    "models": needed_models,
    "parameters": lambda workflow: workflow.describe(OBJECT_INFO),
    "seeds": lambda workflow: workflow.seed_parameters(OBJECT_INFO),
    "needs": lambda workflow: workflow.too_new_for("0.1"),
    "setting": lambda workflow: workflow.prompt(OBJECT_INFO, dict.fromkeys(workflow.declared, 3), check=False),
    "presets": lambda workflow: [workflow.prompt(OBJECT_INFO, preset=preset) for preset in workflow.presets],
}


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a file."""
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def damaged(data: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """One value gone, or something else in its place."""
    data = copy.deepcopy(data)
    *way, last = chance.choice(list(places(data)))
    within: Any = data
    for key in way:
        within = within[key]
    if chance.random() < 0.3:
        del within[last]
    else:
        within[last] = chance.choice(ODD)
    return data


@pytest.mark.parametrize("name", [*shipped_workflows(), "empty_image"])
def test_damage_anywhere_is_said_in_words(name: str) -> None:
    whole = json.loads((shipped_workflows().get(name) or DATA / f"{name}.json").read_text("utf-8"))
    chance = random.Random(name)
    said: list[str] = []
    for _ in range(5):
        data = damaged(whole, chance)
        for reader in READERS.values():
            try:
                reader(Workflow.from_data(data))
            except KandifluxError as error:
                said.append(str(error))
    assert all(said)
