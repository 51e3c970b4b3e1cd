"""Preview as Text: what each kind of value is shown as."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kandiflux.lite.nodes_preview import PreviewAny


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError("no text today")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("é", "é"),
        ("", ""),
        (5, "5"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (True, "True"),
        (None, "None"),
        ([], "[]"),
        (["ü", {"b": None}], '[\n    "ü",\n    {\n        "b": null\n    }\n]'),
        ({1}, "{1}"),
        (torch.zeros(1), "tensor([0.])"),
        (Unreadable(), "source exists, but could not be serialized."),
    ],
)
def test_any_value_is_shown_as_text(value: Any, shown: str) -> None:
    assert PreviewAny().main(value) == {"ui": {"text": (shown,)}, "result": (shown,)}


def test_its_input_takes_every_kind() -> None:
    kind, options = PreviewAny.INPUT_TYPES()["required"]["source"]
    assert (str(kind), options) == ("*", {})
    assert not kind != "IMAGE"  # noqa: SIM202 - what validation asks
    assert PreviewAny.OUTPUT_NODE
