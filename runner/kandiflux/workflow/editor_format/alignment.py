"""Gives stored values to widgets if the file has more or fewer values than the class has widgets.

The editor gives the first value to the first widget, and so on. This is wrong if the class has gained or lost a widget
in the middle, or if a pack adds buttons that object_info does not declare. Types and choices then often leave one
arrangement only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from kandiflux.workflow.editor_format.inputs import InputSpec

__all__ = ["Arrangement", "arrange", "is_label"]

_LABELS = frozenset({"", "image", "refresh", "fixed", "increment", "decrement", "randomize"})
"""Values of buttons and controls. At the end of the file's values they mean nothing to the other widgets."""
_MOST_PAIRS = 100_000
_FILE_NAME = re.compile(r"\.\w{2,12}$")


@dataclass(frozen=True)
class Arrangement:
    """The index of each widget's value, by the index of the widget. `certain`: whether no other arrangement fits."""

    places: dict[int, int]
    certain: bool


def arrange(values: Sequence[Any], widgets: Sequence[InputSpec | None]) -> Arrangement:
    """Gives values to widgets in order, without gaps on the shorter side.

    widgets: their inputs; None for a control or button.

    The editor's arrangement is used if it fits, else the first one that does; if none fits, the editor's.
    """
    many, few = len(values), len(widgets)
    in_order = Arrangement({place: place for place in range(min(many, few))}, many == few)
    if many == few or many * few > _MOST_PAIRS:
        return in_order

    def fits(short: int, long: int) -> bool:
        value, widget = (short, long) if many < few else (long, short)
        return _fits(values[value], widgets[widget])

    shorter, longer = min(many, few), max(many, few)

    @cache
    def ways(short: int, long: int) -> int:
        """Returns the number of arrangements of the rest of both sides; 2 stands for any larger number."""
        if short == shorter:
            return 1
        if longer - long < shorter - short:
            return 0
        return min(2, ways(short, long + 1) + (ways(short + 1, long + 1) if fits(short, long) else 0))

    # From the end, so that the recursion is never deeper than one step.
    for long in reversed(range(longer)):
        for short in reversed(range(shorter)):
            ways(short, long)
    if all(fits(at, at) for at in range(shorter)):
        ends_in_labels = many > few and all(is_label(value) for value in values[few:])
        return Arrangement(in_order.places, ends_in_labels or ways(0, 0) == 1)
    if not ways(0, 0):
        return Arrangement(in_order.places, False)
    pairs: list[tuple[int, int]] = []
    long = 0
    for short in range(shorter):
        while not (fits(short, long) and ways(short + 1, long + 1)):
            long += 1
        pairs.append((short, long))
        long += 1
    certain = ways(0, 0) == 1
    return Arrangement({long: short for short, long in pairs} if many < few else dict(pairs), certain)


def is_label(value: Any) -> bool:
    """Returns whether a value at the end of a file's list is one of a button or control, or no value."""
    return value is None or (isinstance(value, str) and value in _LABELS)


def _fits(value: Any, spec: InputSpec | None) -> bool:
    if value is None:
        return True
    if spec is None:
        # Of a control, which is a boolean in old files, or of a button.
        return isinstance(value, bool) or is_label(value)
    kind = spec.widget_type
    if kind == "COMBO":
        choices = spec.choices or ()
        # Another server has other files: a name like a file's fits a list of files.
        if value in choices or spec.takes_file or not choices:
            return isinstance(value, (str, int, float))
        is_file = isinstance(value, str) and _FILE_NAME.search(value) is not None
        return is_file and any(_FILE_NAME.search(str(choice)) for choice in choices)
    if kind in ("INT", "FLOAT"):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and (kind == "FLOAT" or float(value).is_integer())
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    return not (kind == "STRING" and not isinstance(value, str))
