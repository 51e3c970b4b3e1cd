"""Checks a list of jobs against a server before the first job is sent, and chooses seeds.

Each row, prompt and grid value is checked once, however many jobs use it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kandiflux.batch.grid import Axis
from kandiflux.batch.job_list import JobList, Listed, Row
from kandiflux.errors import KandifluxError, ParameterError, UsageError
from kandiflux.util.json_values import as_float, as_object
from kandiflux.util.paths import expanded, is_file
from kandiflux.workflow.editor_format.convert import convert
from kandiflux.workflow.editor_format.inputs import InputSpec, chosen_specs
from kandiflux.workflow.parameters import coerce, find_targets
from kandiflux.workflow.workflow import Workflow

__all__ = ["SEED_POLICIES", "Checked", "Seeds", "check_jobs"]

_log = logging.getLogger(__name__)

SEED_POLICIES = ("fixed", "random", "increment")
_MAX_ERRORS = 20
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class Seeds:
    """How jobs get their seeds. policy: one of `SEED_POLICIES`, or the seed of all jobs.

    names: parameters that the policy sets. inputs: parameters for which the value "random" draws a number. start: the
    first seed of an increment. low, high: the smallest and the largest seed that every input accepts.
    """

    policy: str | int
    names: tuple[str, ...]
    inputs: frozenset[str]
    start: int
    low: int
    high: int

    def requested(self, job: Listed) -> dict[str, Any]:
        """Returns the job's values with the policy instead of seeds: the same in every run of the same job."""
        if self.policy == "fixed":
            return dict(job.values)
        policy = f"increment from {self.start}" if self.policy == "increment" else self.policy
        return {**dict.fromkeys(self.names, policy), **job.values}

    def resolve(self, job: Listed, index: int) -> dict[str, Any]:
        """Returns the job's values with a number for every seed. index: of the job in the list, from 0."""
        values = dict(job.values)
        if self.policy == "increment":
            for name in self.names:
                own = values.get(name)
                if name not in values:
                    values[name] = self._within(self.start + index)
                elif isinstance(own, int):
                    # The repetitions of a job with its own seed count from that seed.
                    values[name] = self._within(own + job.repetition)
        elif self.policy != "fixed":
            seed = self._draw() if self.policy == "random" else self.policy
            values = {**dict.fromkeys(self.names, seed), **values}
        return {
            name: self._draw() if value == "random" and name in self.inputs else value for name, value in values.items()
        }

    def _draw(self) -> int:
        return random.SystemRandom().randint(self.low, max(self.low, min(self.high, _MAX_SEED)))

    def _within(self, seed: int) -> int:
        return self.low + (seed - self.low) % (self.high - self.low + 1)


@dataclass(frozen=True)
class Checked:
    """A list whose values have the types of their inputs. defaults: the workflow's own values, by parameter."""

    jobs: JobList
    seeds: Seeds
    defaults: Mapping[str, Any]

    @property
    def varying(self) -> frozenset[str]:
        """The parameters whose values may differ between jobs."""
        seeds = self.seeds.names if self.seeds.policy in ("random", "increment") else ()
        drawn = [name for name, value in self.jobs.base.items() if value == "random" and name in self.seeds.inputs]
        rows = [name for row in self.jobs.rows for name in row.values]
        return frozenset([*seeds, *drawn, *rows, *(axis.name for axis in self.jobs.axes)])


def check_jobs(
    workflow: Workflow,
    object_info: Mapping[str, Any],
    jobs: JobList,
    *,
    preset: str | None = None,
    seed: str | int | None = None,
    server: str = "the server",
) -> Checked:
    """Checks every value against the server's description of its input.

    UsageError that lists every wrong value with its row; InvalidPrompt if the workflow itself is not valid.
    """
    if preset is not None and preset not in workflow.presets:
        raise UsageError(
            f"{workflow.name} has no preset {preset!r}.", expected=", ".join(workflow.presets) or "(it has none)"
        )
    checker = _Checker(workflow, object_info)
    base = checker.values({**(workflow.presets[preset] if preset else {}), **jobs.base}, "values")
    rows = [Row(checker.values(row.values, row.source), row.source) for row in jobs.rows]
    axes = tuple(checker.axis(axis) for axis in jobs.axes)
    checker.raise_errors(server)
    found = replace(jobs, base=base, rows=rows, axes=axes)
    seeds = _seeds(workflow, object_info, checker, found, seed)
    if seeds.policy == "increment":
        # A seed for all jobs is the first of the sequence, so no job has it as its own.
        found = replace(found, base={name: value for name, value in base.items() if name not in seeds.names})
    first = next(iter(found), None)
    if first is not None:
        # Finds other errors of the workflow, which are the same for all jobs.
        prompt = workflow.prompt(object_info, seeds.resolve(first, 0), upload=lambda path: path.name)
        for note in prompt.notes:
            _log.warning("%s", note)
    return Checked(found, seeds, checker.defaults())


class _Checker:
    def __init__(self, workflow: Workflow, object_info: Mapping[str, Any]) -> None:
        self._workflow = workflow
        self._object_info = object_info
        if workflow.api is None and workflow.editor is not None:
            conversion = convert(workflow.editor, object_info)
            self._nodes: Mapping[str, Mapping[str, Any]] = conversion.prompt
            self._fed_by = conversion.fed_by
            if conversion.unknown:
                # Raises the error that names the missing nodes.
                workflow.prompt(object_info)
        else:
            self._nodes, self._fed_by = workflow.prompt(object_info, check=False).nodes, {}
        self._shown = workflow.shown(object_info, self._nodes)
        self._inputs: dict[str, tuple[InputSpec, Any] | KandifluxError] = {}
        self._errors: list[str] = []

    def values(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {name: self._value(name, value, where) for name, value in values.items()}

    def axis(self, axis: Axis) -> Axis:
        where = f"the grid, {axis.name}"
        if isinstance(self._input(axis.name), KandifluxError):
            # The name is wrong: one error, not one for each value.
            self._value(axis.name, axis.values[0], where)
            return axis
        return Axis(axis.name, tuple(self._value(axis.name, value, where) for value in axis.values))

    def spec(self, name: str) -> InputSpec | None:
        found = self._input(name)
        return None if isinstance(found, KandifluxError) else found[0]

    def default(self, name: str) -> Any:
        """Returns the workflow's value, or the node's default."""
        found = self._input(name)
        return None if isinstance(found, KandifluxError) else found[1]

    def seed_inputs(self) -> frozenset[str]:
        names = {
            name for name in (*self._workflow.declared, *self._inputs) if (spec := self.spec(name)) and spec.is_seed
        }
        return frozenset(names)

    def defaults(self) -> dict[str, Any]:
        names = list(self._workflow.declared) or list(self._inputs)
        values = {name: self.default(name) for name in (*names, *self._inputs)}
        return {name: value for name, value in values.items() if isinstance(value, (str, int, float, bool))}

    def raise_errors(self, server: str) -> None:
        if not self._errors:
            return
        more = len(self._errors) - _MAX_ERRORS
        listed = "\n".join(f"  {error}" for error in self._errors[:_MAX_ERRORS])
        raise UsageError(
            f"{len(self._errors)} value{'s do' if len(self._errors) > 1 else ' does'} not fit {server}:\n{listed}"
            + (f"\n  … and {more} more" if more > 0 else ""),
            hint="`kandiflux params` lists what can be set. Nothing was sent.",
        )

    def _value(self, name: str, value: Any, where: str) -> Any:
        found = self._input(name)
        try:
            if isinstance(found, KandifluxError):
                raise found
            spec, _ = found
            if value == "random" and spec.is_seed:
                return value
            if spec.takes_file and isinstance(value, (str, Path)) and is_file(expanded(value)):
                return str(expanded(value).absolute())
            return coerce(name, value, spec, declared=self._workflow.declared.get(name))
        except KandifluxError as error:
            self._errors.append(f"{where}: {_one_line(error)}")
            return value

    def _input(self, name: str) -> tuple[InputSpec, Any] | KandifluxError:
        """Returns the input that a parameter sets and its present value; or the error if the name is wrong."""
        if name not in self._inputs:
            try:
                self._inputs[name] = self._find(name)
            except KandifluxError as error:
                self._inputs[name] = error
        return self._inputs[name]

    def _find(self, name: str) -> tuple[InputSpec, Any]:
        node_id, input_name = find_targets(name, self._nodes, self._workflow.declared, self._shown)[0]
        node_id, input_name = self._fed_by.get(node_id, [(node_id, input_name)])[0]
        node = self._nodes.get(node_id)
        specs = chosen_specs(as_object(self._object_info.get(node["class_type"])), node["inputs"]) if node else {}
        if node is None or input_name not in specs:
            # Raises the error that says why the parameter cannot be set.
            self._workflow.prompt(self._object_info, {name: ""}, check=False)
            raise ParameterError(f"{name} cannot be set.")
        spec = specs[input_name]
        value = node["inputs"].get(input_name, spec.default)
        return spec, None if isinstance(value, list) else value


def _one_line(error: KandifluxError) -> str:
    expected = error.expected if error.expected and error.expected not in error.message else None
    parts = (expected and f"Expected: {expected}.", error.got and f"Got: {error.got}.", error.hint)
    return " ".join([error.message, *(part for part in parts if part)])


def _seeds(
    workflow: Workflow, object_info: Mapping[str, Any], checker: _Checker, jobs: JobList, seed: str | int | None
) -> Seeds:
    names = tuple(workflow.seed_parameters(object_info))
    policy = _policy(seed) if seed is not None else "increment" if jobs.repeat > 1 and names else "fixed"
    if seed is not None and not names:
        raise UsageError(f"{workflow.name} has no seed to set.", hint="Leave the seed out.")
    specs = [spec for name in names if (spec := checker.spec(name)) is not None]
    low = max([_whole(spec.options.get("min"), 0) for spec in specs], default=0)
    high = min([_whole(spec.options.get("max"), _MAX_SEED) for spec in specs], default=_MAX_SEED)
    if isinstance(policy, int):
        if not low <= policy <= high:
            raise UsageError("The seed is out of range.", expected=f"a number from {low} to {high}", got=str(policy))
        if any(name in jobs.base for name in names):
            raise UsageError("The seed is given twice, as the seed and as a value.", expected="one of them")
    given = [*map(jobs.base.get, names), *map(checker.default, names)]
    start = next((value for value in given if isinstance(value, int)), 0)
    return Seeds(policy, names, checker.seed_inputs(), start, low, high)


def _whole(bound: object, default: int) -> int:
    return int(bound) if isinstance(bound, (int, float)) and as_float(bound) else default


def _policy(text: str | int) -> str | int:
    if isinstance(text, int):
        return text
    word = text.strip().lower()
    if word in SEED_POLICIES:
        return word
    try:
        return int(word)
    except ValueError as error:
        raise UsageError(
            "The seed is not valid.", expected=f"{', '.join(SEED_POLICIES)}, or a number", got=text
        ) from error
