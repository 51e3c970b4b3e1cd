"""Validates a prompt before it is queued: ComfyUI's checks, with ComfyUI's error JSON."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kandiflux.lite.calls import call_over_lists, gather_inputs
from kandiflux.lite.guard import Failure, Returned, attempt
from kandiflux.lite.jsontext import json_text
from kandiflux.lite.prompt_graph import Prompt
from kandiflux.lite.registry import NodeClass, Registry, input_info, is_output
from kandiflux.util.json_values import as_object, is_list, is_object

__all__ = ["Verdict", "validate"]

log = logging.getLogger(__name__)

Json = dict[str, Any]


def _finite(number: float) -> float:
    if not math.isfinite(number):  # OverflowError if an integer is too large for a float
        raise ValueError(f"{number} is not a finite number")
    return number


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "INT": lambda value: _finite(int(value)),
    "FLOAT": lambda value: _finite(float(value)),
    "STRING": str,
    "BOOLEAN": bool,
}
_MAX_LIST_SHOWN = 20
_MAX_NODES_SHOWN = 100
_MAX_OUTPUTS_SHOWN = 100
_MAX_VALUE_SHOWN = 1000
"""Limits of an error response: keep it small and fast to create if thousands of nodes are invalid."""


@dataclass(frozen=True)
class Verdict:
    """The result of a validation. outputs: the output nodes that may run. If `error` is set, the prompt is rejected."""

    outputs: list[str] = field(default_factory=list[str])
    error: Json | None = None
    node_errors: Json = field(default_factory=dict[str, Any])


def validate(prompt: Prompt, registry: Registry, only: Collection[str] | None = None) -> Verdict:
    """Validates `prompt`. Converts its constants to their declared types in place.

    only: ids of the output nodes to run (a client's partial_execution_targets); None: all.
    """
    for node_id, node in prompt.items():
        error = _class_error(node_id, node, prompt, registry)
        if error:
            return Verdict(error=error)
    outputs = [
        node_id
        for node_id, node in prompt.items()
        if is_output(registry.classes[node["class_type"]]) and (only is None or node_id in only)
    ]
    if not outputs:
        return Verdict(error=_error("prompt_no_outputs", "Prompt has no outputs", "", {}))

    checks = _Checks(prompt, registry.classes)
    good: list[str] = []
    reasons: list[Json] = []
    node_errors: Json = {}
    for output in outputs:
        checked = checks.check(output)
        if isinstance(checked, Failure):
            more = {"exception_type": checked.type_name, "traceback": checked.traceback}
            checks.fail(output, _error("exception_during_validation", "Exception when validating node",
                                       checked.message, more))  # fmt: skip
        if checks.errors.get(output) is None:
            good.append(output)
            continue
        reasons += (checks.errors[output] or [])[: _MAX_NODES_SHOWN - len(reasons)]
        for node_id in checks.with_errors[:_MAX_NODES_SHOWN]:
            entry = {"errors": checks.errors[node_id], "dependent_outputs": [],
                     "class_type": prompt[node_id]["class_type"]}  # fmt: skip
            dependent = node_errors.setdefault(node_id, entry)["dependent_outputs"]
            if len(dependent) < _MAX_OUTPUTS_SHOWN:
                dependent.append(output)
    for node_id, entry in node_errors.items():
        for error in entry["errors"]:
            log.error("Node %s (%s): %s: %s", node_id, entry["class_type"], error["message"], error["details"])
    if len(checks.with_errors) > _MAX_NODES_SHOWN:
        log.error("%d more nodes are invalid.", len(checks.with_errors) - _MAX_NODES_SHOWN)
    if good:
        return Verdict(outputs=good, node_errors=node_errors)
    details = "\n".join(f"{reason['message']}: {reason['details']}" for reason in reasons)
    failed = _error("prompt_outputs_failed_validation", "Prompt outputs failed validation", details, {})
    return Verdict(error=failed, node_errors=node_errors)


def _class_error(node_id: str, node: Any, prompt: Prompt, registry: Registry) -> Json | None:
    fields = as_object(node)
    title, class_type = as_object(fields.get("_meta")).get("title"), fields.get("class_type")
    if isinstance(class_type, str) and class_type in registry.classes:
        return None
    extra: Json = {"node_id": node_id, "class_type": class_type, "node_title": title}
    if isinstance(class_type, str):
        name = str(title or class_type)[:_MAX_VALUE_SHOWN]
        # More than ComfyUI's message: lists all missing nodes, and says what to do.
        missing = [name[:_MAX_VALUE_SHOWN] for name in registry.missing(prompt)[:_MAX_NODES_SHOWN]]
        message = (
            f"Node '{name}' not found. The custom node may not be installed. The lite host lacks: "
            f"{', '.join(missing)}. Start a ComfyUI that has these nodes, and use that."
        )
        class_type = class_type[:_MAX_VALUE_SHOWN]
        extra = {"node_id": node_id, "class_type": class_type, "node_title": name, "missing_nodes": missing}
    elif "class_type" not in fields:
        message = (
            f"Node '{title or f'ID #{node_id}'}' has no class_type. The workflow may be corrupted or a custom node is "
            "missing."
        )
    else:
        message = f"Node '{title or f'ID #{node_id}'}' has a class_type that is not a string."
        extra["class_type"] = _short(class_type)
    return _error("missing_node_type", message, f"Node ID '#{node_id}'", extra)


class _Checks:
    """Checks the nodes of one prompt, each of them once."""

    def __init__(self, prompt: Prompt, classes: Mapping[str, NodeClass]) -> None:
        self._prompt = prompt
        self._classes = classes
        self._declared: dict[str, Any] = {}
        self._visiting: dict[str, None] = {}  # the nodes being checked, from the output node backwards
        # None: valid. []: invalid because a node before it has errors.
        self.errors: dict[str, list[Json] | None] = {}
        self.with_errors: list[str] = []
        """The nodes that have errors of their own, in the order of discovery."""

    def check(self, node_id: str) -> bool | Failure:
        """Checks a node and all nodes before it. Returns whether all are valid, or a Failure if this check raised.

        Not recursive, because a chain of nodes may be long: `_steps` yields each source that must be checked first.
        """
        answer: bool | Failure | None = None
        stack = [(node_id, self._steps(node_id))]
        while stack:
            current, steps = stack[-1]
            moved = attempt(partial(steps.send, answer))
            if isinstance(moved, Returned):
                stack.append((moved.value, self._steps(moved.value)))
                answer = None
                continue
            stack.pop()
            if isinstance(moved.error, StopIteration):
                answer = bool(moved.error.value)
            else:
                self._visiting.pop(current, None)
                answer = moved
        return False if answer is None else answer

    def fail(self, node_id: str, *errors: Json) -> None:
        """Marks a node as invalid. Without `errors`, it is invalid because of a node before it."""
        if errors and not self.errors.get(node_id):
            self.with_errors.append(node_id)
        self.errors[node_id] = list(errors)

    def _steps(self, node_id: str) -> Generator[str, bool | Failure | None, bool]:
        if node_id in self.errors:
            return self.errors[node_id] is None
        if node_id in self._visiting:
            self._fail_cycle(node_id)
            return False
        self._visiting[node_id] = None
        node = self._prompt[node_id]
        inputs = node["inputs"]
        node_class = self._classes[node["class_type"]]
        declared = self._inputs_of(node["class_type"])
        own_check = _OwnCheck(node_class)
        errors: list[Json] = []
        valid = True
        received_types: dict[str, Any] = {}
        for name in {**declared.get("required", {}), **declared.get("optional", {})}:
            info = input_info(node_class, name, declared)
            if info is None:
                continue
            kind, group, options = info
            if name not in inputs:
                if group == "required":
                    errors.append(
                        _error("required_input_missing", "Required input is missing", name, {"input_name": name})
                    )
            elif isinstance(inputs[name], list):
                error = self._link_error(name, inputs[name], kind, options, own_check, received_types)
                if error:
                    errors.append(error)
                else:
                    checked = yield inputs[name][0]
                    if isinstance(checked, Failure):
                        self.fail(inputs[name][0], _inner_error(name, inputs[name], kind, options, checked))
                    valid = valid and checked is True
            else:
                error = _constant_error(name, inputs, kind, options, own_check.takes(name))
                if error:
                    errors.append(error)
        errors += own_check.run(node_id, inputs, received_types, declared)
        self._visiting.pop(node_id)
        if node_id in self.errors:  # it is part of a cycle
            self.errors[node_id] = [*(self.errors[node_id] or []), *errors]
        elif valid and not errors:
            self.errors[node_id] = None
        else:
            self.fail(node_id, *errors)
        return self.errors[node_id] is None

    def _fail_cycle(self, node_id: str) -> None:
        """Marks all nodes of the cycle that `node_id` closes as invalid."""
        chain = list(self._visiting)
        cycle = chain[chain.index(node_id) :]
        steps = [f"{one} ({self._prompt[one]['class_type']})" for one in [*cycle, node_id]]
        details = " -> ".join(steps)[:_MAX_VALUE_SHOWN]
        for one in cycle[:_MAX_NODES_SHOWN]:
            extra = {"node_id": one, "cycle_nodes": cycle[:_MAX_NODES_SHOWN]}
            self.fail(one, _error("dependency_cycle", "Dependency cycle detected", details, extra))

    def _inputs_of(self, class_name: str) -> Any:
        if class_name not in self._declared:  # called once per prompt: INPUT_TYPES may list folders
            self._declared[class_name] = self._classes[class_name].INPUT_TYPES()
        return self._declared[class_name]

    def _link_error(
        self, name: str, link: list[Any], kind: Any, options: Any, own_check: _OwnCheck, received_types: Json
    ) -> Json | None:
        if len(link) != 2:
            return _error(
                "bad_linked_input",
                "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                name,
                {"input_name": name, "input_config": (kind, options), "received_value": _short(link)},
            )
        # If the node or output does not exist, this raises, and is reported as an exception of this node.
        source_class = self._classes[self._prompt[link[0]]["class_type"]]
        received = received_types[name] = source_class.RETURN_TYPES[link[1]]
        if own_check.takes_types or _types_fit(received, kind):
            return None
        return _error(
            "return_type_mismatch",
            "Return type mismatch between linked nodes",
            f"{name}, received_type({received}) mismatch input_type({kind})",
            {"input_name": name, "input_config": (kind, options), "received_type": received, "linked_node": link},
        )


def _inner_error(name: str, link: list[Any], kind: Any, options: Any, failure: Failure) -> Json:
    extra = {
        "input_name": name,
        "input_config": (kind, options),
        "exception_message": failure.message,
        "exception_type": failure.type_name,
        "traceback": failure.traceback,
        "linked_node": link,
    }
    return _error("exception_during_inner_validation", "Exception when validating inner node", failure.message, extra)


class _OwnCheck:
    """A node class's VALIDATE_INPUTS, if it has one."""

    def __init__(self, node_class: NodeClass) -> None:
        self._class = node_class
        function = getattr(node_class, "VALIDATE_INPUTS", None)
        spec = inspect.getfullargspec(function) if function is not None else None
        self._exists = spec is not None
        self._names = spec.args if spec else []
        self._takes_all = bool(spec and spec.varkw)
        self.takes_types = "input_types" in self._names

    def takes(self, name: str) -> bool:
        """Whether the class checks this input itself. Then its range and list of values are not checked here."""
        return self._takes_all or name in self._names

    def run(self, node_id: str, inputs: Mapping[str, Any], received_types: Json, declared: Any) -> list[Json]:
        if not self._exists:
            return []
        lists, _ = gather_inputs(self._class, node_id, inputs, declared=declared)
        lists = {name: values for name, values in lists.items() if self.takes(name)}
        if self.takes_types:
            lists["input_types"] = [received_types]
        answers = call_over_lists(self._class, "VALIDATE_INPUTS", lists)
        return [
            _error(
                "custom_validation_failed",
                "Custom validation failed for node",
                name if answer is False else f"{name} - {answer}",
                {"input_name": name},
            )
            for name in lists
            for answer in answers
            if answer is not True
        ]


def _constant_error(name: str, inputs: Json, kind: Any, options: Any, checked_by_class: bool) -> Json | None:
    """Converts the constant `inputs[name]` in place and checks it. Returns an error, or None if it is valid."""
    value = inputs[name]
    if is_object(value) and "__value__" in value:  # how clients send a list that is not a link
        value = inputs[name] = value["__value__"]
    try:
        if isinstance(kind, str) and kind in _CONVERSIONS:
            value = inputs[name] = _CONVERSIONS[kind](value)
    except (TypeError, ValueError, OverflowError) as error:
        return _error(
            "invalid_input_type",
            f"Failed to convert an input value to a {kind} value",
            f"{name}, {_short(value)}, {str(error)[:_MAX_VALUE_SHOWN]}",
            {
                "input_name": name,
                "input_config": (kind, options),
                "received_value": _short(value),
                "exception_message": str(error)[:_MAX_VALUE_SHOWN],
            },
        )
    if checked_by_class:
        return None
    extra: Json = {"input_name": name, "input_config": (kind, options), "received_value": _short(value)}
    if "min" in options and value < options["min"]:
        return _error("value_smaller_than_min", f"Value {value} smaller than min of {options['min']}", name, extra)
    if "max" in options and value > options["max"]:
        return _error("value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", name, extra)
    allowed: Any = options.get("options", []) if kind == "COMBO" else kind
    if is_list(allowed):
        values: list[Any] = value if options.get("multiselect") and is_list(value) else [value]
        wrong = [one for one in values if one not in allowed]
        if wrong:
            allowed_text = str(allowed)
            if len(allowed) > _MAX_LIST_SHOWN:
                allowed_text, extra["input_config"] = f"(list of length {len(allowed)})", None
            shown = ", ".join(repr(_short(one)) for one in wrong[:_MAX_LIST_SHOWN])
            return _error("value_not_in_list", "Value not in list", f"{name}: {shown} not in {allowed_text}", extra)
    return None


def _types_fit(received: Any, expected: Any) -> bool:
    """Whether "A,B" and "B,C" share a type. "*" and "COMFY_MATCHTYPE_V3" match any type; a list matches "COMBO"."""
    # Not `==`: classes that accept any type override only `__ne__`.
    if not received != expected:  # noqa: SIM202
        return True
    if "COMFY_MATCHTYPE_V3" in (received, expected) or (is_list(received) and expected == "COMBO"):
        return True
    if "*" in (received, expected):
        return True
    if not isinstance(received, str) or not isinstance(expected, str):
        return False
    ours, theirs = ({one.strip() for one in types.split(",")} for types in (received, expected))
    return "*" in ours | theirs or not ours.isdisjoint(theirs)


def _short(value: Any) -> Any:
    """Returns a value as shown in an error: unchanged, or its text, truncated, if that is long."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else json_text(value)
    return value if len(text) <= _MAX_VALUE_SHOWN else f"{text[:_MAX_VALUE_SHOWN]}…"


def _error(kind: str, message: str, details: str, extra: Json) -> Json:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}
