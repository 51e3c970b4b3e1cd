"""Parameters: resolves their names to inputs of nodes, and checks and converts their values.

A parameter is addressed by the name that the workflow declares (`prompt`), or that App Mode shows; by the title or id
of a subgraph and the name of its widget (`Maker.color`, `2.color`); by a node's title and an input (`"Positive".text`,
`Positive.text`); or by a node's id and an input (`6.text`, `2:6.text` inside a subgraph).
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kandiflux.errors import ParameterError, WorkflowError
from kandiflux.util.json_values import as_float, as_object
from kandiflux.util.paths import expanded, is_file
from kandiflux.util.wording import names_text, near_names
from kandiflux.workflow.editor_format.inputs import InputSpec
from kandiflux.workflow.shown_widgets import ShownWidget

__all__ = [
    "Declared",
    "Target",
    "Upload",
    "coerce",
    "declared_parameters",
    "find_targets",
    "range_text",
]

Target = tuple[str, str]
"""(node id, input name)"""

Upload = Callable[[Path], str]
"""Uploads a local file and returns its name on the server."""

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_LARGEST_SEED = 2**32 - 1
_MULTIPLE = re.compile(r", a multiple of (\d{1,6})\b")
"""The phrase in this pack's descriptions and tooltips. "rounded to a multiple of" is not a requirement: no match."""


@dataclass(frozen=True)
class Declared:
    """One entry of a workflow's `extra.kandiflux.parameters`; `min` and `max` narrow the range of the node's input."""

    name: str
    targets: tuple[Target, ...]
    description: str = ""
    min: float | None = None
    max: float | None = None


def declared_parameters(spec: Mapping[str, Any]) -> dict[str, Declared]:
    """Reads `extra.kandiflux.parameters`; each entry is `{"node", "input"}` or `{"nodes": [[node, input], …]}`."""
    found: dict[str, Declared] = {}
    for name, entry in as_object(spec.get("parameters")).items():
        try:
            pairs = entry["nodes"] if "nodes" in entry else [[entry["node"], entry["input"]]]
            targets = tuple((str(node), str(name_of_input)) for node, name_of_input in pairs)
        except (KeyError, TypeError, ValueError) as error:
            raise WorkflowError(
                f"The workflow's parameter {name!r} does not say what it sets.",
                expected='{"node": id, "input": name} or {"nodes": [[id, name], …]}',
                got=str(entry)[:200],
            ) from error
        found[name] = Declared(name, targets, str(entry.get("description", "")), entry.get("min"), entry.get("max"))
    return found


def find_targets(
    address: str,
    nodes: Mapping[str, Mapping[str, Any]],
    declared: Mapping[str, Declared],
    shown: Sequence[ShownWidget] = (),
) -> tuple[Target, ...]:
    """Returns the inputs that an address stands for in this prompt.

    shown: the widgets of subgraphs and App Mode's inputs, which have addresses of their own.

    Raises ParameterError, with the nearest names, if nothing matches or several nodes do.
    """
    if address in declared:
        return declared[address].targets
    place, dot, input_name = address.rpartition(".")
    if not dot:
        public = {one.name: one.targets for one in shown if one.public}
        if address in public:
            return public[address]
        names = [*declared, *public]
        near = near_names(address, names)
        raise ParameterError(
            f"There is no parameter {address!r}.",
            expected=", ".join(names) or "a node's title or id and an input, as in 6.text",
            hint=f"Did you mean {near}?" if near else "`kandiflux params` and Workflow.describe list what can be set.",
        )
    found = _of_subgraph(place.strip(), input_name, shown, nodes)
    if found is not None:
        return found
    place = place.strip()
    if len(place) > 1 and place[0] == place[-1] and place[0] in "\"'":
        return ((_by_title(place[1:-1], nodes), input_name),)
    if place in nodes:
        return ((place, input_name),)
    # The input of a dynamic choice has a dot in its name: 6.sampling_mode.seed
    outer, dot, inner = place.partition(".")
    if dot and outer in nodes:
        return ((outer, f"{inner}.{input_name}"),)
    return ((_by_title(place, nodes, shown), input_name),)


def _of_subgraph(
    place: str, name: str, shown: Sequence[ShownWidget], nodes: Mapping[str, Mapping[str, Any]]
) -> tuple[Target, ...] | None:
    """Returns the inputs that a subgraph's widget sets; None if no subgraph has this id or title."""
    title = place[1:-1] if len(place) > 1 and place[0] == place[-1] and place[0] in "\"'" else place
    widgets = [one for one in shown if not one.public and title in (one.place, one.title)]
    matches = [one for one in widgets if name in one.names]
    places = list(dict.fromkeys(one.place for one in matches))
    if len(places) > 1:
        raise ParameterError(
            f"{len(places)} subgraphs are called {title!r}: {', '.join(places)}.",
            hint=f"Use the id, as in {places[0]}.{name}.",
        )
    if matches:
        return matches[0].targets
    titles = {str(as_object(node.get("_meta")).get("title") or node["class_type"]) for node in nodes.values()}
    if not widgets or title in titles:
        return None
    names = [one.label or one.name for one in widgets]
    near = near_names(name, names)
    raise ParameterError(
        f"The subgraph {widgets[0].title!r} (node {widgets[0].place}) shows no {name!r}.",
        expected=", ".join(dict.fromkeys(names)),
        hint=f"Did you mean {near}?" if near else None,
    )


def _by_title(title: str, nodes: Mapping[str, Mapping[str, Any]], shown: Sequence[ShownWidget] = ()) -> str:
    titles = {
        node_id: str(as_object(node.get("_meta")).get("title") or node["class_type"]) for node_id, node in nodes.items()
    }
    matches = [node_id for node_id, found in titles.items() if found == title]
    matches = matches or [node_id for node_id, found in titles.items() if found.casefold() == title.casefold()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = ", ".join(f"{node_id} ({nodes[node_id]['class_type']})" for node_id in matches)
        raise ParameterError(
            f"{len(matches)} nodes are called {title!r}: {listed}.",
            hint=f"Use the id, as in {matches[0]}.{next(iter(nodes[matches[0]]['inputs']), 'input')}.",
        )
    subgraphs = {f"{one.title} ({one.place})": None for one in shown if not one.public}
    near = near_names(title, [*(one.title for one in shown), *titles.values()])
    raise ParameterError(
        f"There is no node with the title or id {title!r}.",
        expected=", ".join([*subgraphs, *sorted(set(titles.values()))]),
        hint=f"Did you mean {near}?" if near else None,
    )


def coerce(
    label: str, value: Any, spec: InputSpec, *, declared: Declared | None = None, upload: Upload | None = None
) -> Any:
    """Converts `value` (a string from a command line, or a Python value) to the type of this input.

    `random` draws a seed. If the input takes a file, a path of a local file is passed to `upload`. Raises
    ParameterError, with the nearest valid values, if the value does not fit.
    """
    if spec.takes_file and isinstance(value, (str, Path)):
        return _file(label, value, spec, upload)
    if spec.type == "COMBO":
        return _choice(label, value, spec)
    if spec.type in ("INT", "FLOAT"):
        return _number(label, value, spec, declared)
    if spec.type == "BOOLEAN":
        return _truth(label, value)
    if spec.type == "STRING":
        if not isinstance(value, str):
            raise ParameterError(f"{label} must be a string.", expected="a string", got=repr(value))
        return value
    raise ParameterError(
        f"{label} cannot be set: it takes a {spec.type} from another node.",
        hint="Set an input of the node that is connected to it.",
    )


def _number(label: str, value: Any, spec: InputSpec, declared: Declared | None) -> int | float:
    whole = spec.type == "INT"
    low, high = _range(spec, declared)
    if value == "random" and spec.is_seed:
        first = math.ceil(max(0.0, low) if low is not None else 0)
        last = _LARGEST_SEED if high is None else min(_LARGEST_SEED, math.floor(high))
        return random.SystemRandom().randint(first, max(first, last))
    expected = range_text("a whole number" if whole else "a number", low, high)
    number: int | float | None = None
    if isinstance(value, str):
        try:
            number = int(value.strip()) if whole else float(value)
        except ValueError as error:
            raise ParameterError(f"{label} must be {expected}.", expected=expected, got=repr(value)) from error
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = int(value) if whole and isinstance(value, float) and value.is_integer() else value
    if number is None or (isinstance(number, float) and (whole or not math.isfinite(number))):
        raise ParameterError(f"{label} must be {expected}.", expected=expected, got=repr(value))
    nearest = low if low is not None and number < low else high if high is not None and number > high else None
    step = _multiple(spec, declared)
    if nearest is None and step is not None and number % step:
        below = number - number % step
        fitting = [value for value in (below, below + step) if low is None or value >= low]
        fitting = [value for value in fitting if high is None or value <= high]
        raise ParameterError(
            f"{label} must be a multiple of {step}.",
            expected=f"{expected}, a multiple of {step}",
            got=str(value),
            hint=f"Use {' or '.join(f'{value:.10g}' for value in fitting)}." if fitting else None,
        )
    if nearest is not None:
        raise ParameterError(
            f"{label} is out of range.",
            expected=expected,
            got=str(value),
            hint=f"The nearest value is {nearest if isinstance(nearest, int) else f'{nearest:.10g}'}.",
        )
    return number


def _multiple(spec: InputSpec, declared: Declared | None) -> int | None:
    """Returns the number that the value must be a multiple of.

    A `step` alone is no requirement: it is the increment of the editor's arrows.
    """
    match = _MULTIPLE.search(declared.description if declared else "")
    if match is None:
        match = _MULTIPLE.search(str(spec.options.get("tooltip") or ""))
        if match is None or spec.options.get("step") != int(match[1]):
            return None
    return int(match[1]) or None


def _range(spec: InputSpec, declared: Declared | None) -> tuple[float | None, float | None]:
    lows = [spec.options.get("min"), declared.min if declared else None]
    highs = [spec.options.get("max"), declared.max if declared else None]
    low = [bound for bound in lows if isinstance(bound, (int, float)) and as_float(bound) is not None]
    high = [bound for bound in highs if isinstance(bound, (int, float)) and as_float(bound) is not None]
    return (max(low) if low else None), (min(high) if high else None)


def range_text(kind: str, low: float | None, high: float | None) -> str:
    """Returns a phrase like `a number from 0 to 1` or `a whole number of at least 1`."""
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    if low is not None:
        return f"{kind} of at least {low}"
    return f"{kind} of at most {high}" if high is not None else kind


def _truth(label: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ParameterError(f"{label} must be true or false.", expected="true or false", got=repr(value))


def _choice(label: str, value: Any, spec: InputSpec) -> Any:
    if spec.choices is None:
        return value
    for choice in spec.choices:
        if choice == value and type(choice) is type(value):
            return choice
    for choice in spec.choices:
        if str(choice) == str(value):
            return choice
    names = [str(choice) for choice in spec.choices]
    near = near_names(str(value), names, 3)
    raise ParameterError(
        f"{label} has no choice {str(value)!r}.",
        expected=names_text(names),
        hint=f"Did you mean {near}?" if near else None,
    )


def _file(label: str, value: str | Path, spec: InputSpec, upload: Upload | None) -> Any:
    path = expanded(value)
    if upload is not None and is_file(path):
        return upload(path)
    if spec.choices is not None and str(value) in {str(choice) for choice in spec.choices}:
        return str(value)
    there = ", ".join(str(choice) for choice in (spec.choices or ())[:10])
    raise ParameterError(
        f"{label}: {value} is neither a local file nor a file in the server's input folder.",
        expected="a path to a file" + (f", or one of {there}" if there else ""),
        got=str(value),
    )
