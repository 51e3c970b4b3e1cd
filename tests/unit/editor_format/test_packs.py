from __future__ import annotations

import random
from typing import Any

import pytest
from kandiflux.workflow.editor_format.convert import convert

from tests.support.conversion_cases import file, node

INFO: dict[str, Any] = {
    "Power Puter (rgthree)": {"input": {"required": {}}, "output": ["*"], "output_node": True},
    "Seed (rgthree)": {"input": {"required": {"seed": ["INT"]}}, "output": ["INT"], "output_node": True},
    "CustomCombo": {
        "input": {"required": {"choice": ["COMBO", {"options": []}]}}, "output": ["STRING", "INT"], "output_node": True,
    },
}  # fmt: skip


def inputs(kind: str, values: Any, draw: random.Random | None = None, **more: Any) -> dict[str, Any]:
    info = {**INFO, "OldCombo": {}}
    return convert(file([node(1, kind, values, **more)]), info, draw=draw).prompt["1"]["inputs"]


@pytest.mark.parametrize(
    ("values", "sent"),
    [
        ([{"outputs": ["STRING"]}, "a + b"], {"outputs": {"outputs": ["STRING"]}, "code": "a + b"}),
        ([{"outputs": ["INT", "FLOAT"]}], {"outputs": {"outputs": ["INT", "FLOAT"]}, "code": ""}),
        (["STRING", "a + b"], {"outputs": {"outputs": ["STRING"]}, "code": "a + b"}),
        (["STRING"], {}),
        ({"code": "a"}, {"code": "a"}),
    ],
)
def test_the_program_of_a_power_puter(values: Any, sent: dict[str, Any]) -> None:
    assert inputs("Power Puter (rgthree)", values) == sent


@pytest.mark.parametrize("special", [-1, -2, -3])
def test_a_special_seed_is_drawn_as_it_is_queued(special: int) -> None:
    drawn = inputs("Seed (rgthree)", [special, "", "", ""], random.Random(1))["seed"]
    assert 0 <= drawn <= 1125899906842624
    assert inputs("Seed (rgthree)", [special, "", "", ""]) == {"seed": special}
    bounds = {"randomMin": 5, "randomMax": 5}
    assert inputs("Seed (rgthree)", [special], random.Random(1), properties=bounds) == {"seed": 5}
    assert inputs("Seed (rgthree)", [9], random.Random(1)) == {"seed": 9}


def test_that_a_special_seed_stays_is_told() -> None:
    (note,) = convert(file([node(1, "Seed (rgthree)", [-1, "", "", ""])]), INFO).notes
    assert note == "'Seed (rgthree)' (node 1) keeps its special seed: the editor draws one for each run."


@pytest.mark.parametrize(
    ("values", "index"),
    [(["b", 1, "a", "b", ""], 1), (["b", 0, "a", "b", ""], 1), (["b", 0, "", "b"], 0), (["gone", 4, "a", "b"], 4)],
)
def test_the_options_and_the_index_of_a_custom_combo(values: list[Any], index: int) -> None:
    sent = inputs("CustomCombo", values)
    options = {f"option{number}": value for number, value in enumerate(values[2:], 1)}
    assert sent == {"choice": values[0], "index": index, **options}


def test_the_first_custom_combos_had_no_index() -> None:
    info = {"CustomCombo": {**INFO["CustomCombo"], "output": ["STRING"]}}
    sent = convert(file([node(1, "CustomCombo", ["b", "a", "b"])]), info).prompt["1"]["inputs"]
    assert sent == {"choice": "b", "option0": "a", "option1": "b"}
