"""Loads a workflow, sets its parameters, and makes a prompt of it.

workflow = Workflow.load("kandinsky22_pocket_text_to_image")
prompt = workflow.prompt(client.object_info(), {"prompt": "a red circle", "seed": "random"}, preset="fast")
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kandiflux.errors import InvalidPrompt, ParameterError, UsageError, WorkflowError
from kandiflux.util.json_values import as_list, as_object, is_list, parse_json
from kandiflux.util.paths import is_file, is_folder, workflows_folder
from kandiflux.util.wording import near_names
from kandiflux.workflow.editor_format.convert import Conversion, convert
from kandiflux.workflow.editor_format.graph import is_editor_format
from kandiflux.workflow.editor_format.inputs import InputSpec, chosen_specs
from kandiflux.workflow.editor_format.packs import custom_options, with_choice_index
from kandiflux.workflow.editor_format.writeback import write_back
from kandiflux.workflow.metadata import Carried, read_carried
from kandiflux.workflow.parameters import Declared, Target, Upload, coerce, declared_parameters, find_targets
from kandiflux.workflow.prompt import Prompt, without_again
from kandiflux.workflow.shown_widgets import ShownWidget, shown_widgets
from kandiflux.workflow.structure import about_workflow
from kandiflux.workflow.validation.findings import Finding
from kandiflux.workflow.validation.node_packs import group_by_pack, install_text, same_without_pack
from kandiflux.workflow.validation.places import Places
from kandiflux.workflow.validation.problems import find_problems
from kandiflux.workflow.wrappers import describe_foreign, find_workflow

__all__ = ["NodeInputs", "ParameterInfo", "Workflow", "shipped_workflows"]

_LARGEST_FILE = 64 << 20


def shipped_workflows() -> dict[str, Path]:
    """Returns the paths of the workflows that come with kandiflux, by name."""
    return {path.stem: path for path in sorted(workflows_folder().glob("*.json"))}


@dataclass(frozen=True)
class ParameterInfo:
    """Describes a parameter; `value` is the one in the file."""

    name: str
    type: str
    value: Any
    description: str
    min: float | None = None
    max: float | None = None
    choices: tuple[Any, ...] | None = None


@dataclass(frozen=True, repr=False)
class Workflow:
    """A workflow in the editor format (`editor`) or API format (`api`). A picture may have both: then `api` is run.

    `workflow["Positive"].text = "a fox"` sets an input of a node, by its title or id, for all prompts made from it.
    """

    name: str
    origin: str
    """The file or other source it was read from, for messages."""
    editor: Mapping[str, Any] | None = None
    api: Mapping[str, Any] | None = None
    declared: Mapping[str, Declared] = field(default_factory=dict[str, Declared])
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    title: str = ""
    description: str = ""
    needs: Mapping[str, str] = field(default_factory=dict[str, str])
    """Required versions, as in `{"comfyui": ">=0.3.60"}`."""
    values: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)
    """Values set by `workflow[node].input = value`; they override the file's values and presets."""

    def __repr__(self) -> str:
        return f"<Workflow {self.name}: {len(self.declared)} parameters, {len(self.presets)} presets>"

    def __getitem__(self, node: str | int) -> NodeInputs:
        return NodeInputs(self, str(node))

    @property
    def parameters(self) -> Mapping[str, Declared]:
        """The parameters that the file declares, by name. `describe` returns more, and needs a server's object_info."""
        return self.declared

    @classmethod
    def load(cls, source: str | Path) -> Workflow:
        """Loads a workflow from a path, or by the name of a shipped workflow.

        The file is JSON in either format, or a picture or other file with the workflow in its metadata. Raises
        WorkflowError if there is no such file or it cannot be read.
        """
        path = Path(source)
        if not is_file(path):
            shipped = shipped_workflows()
            name = str(source).removesuffix(".json")
            if name not in shipped:
                raise _no_such_workflow(path, name, shipped)
            path = shipped[name]
        metadata = read_carried(path)
        if metadata is not None:
            return cls._from_metadata(metadata, path)
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise WorkflowError(f"{path} is too large for a workflow.", expected=f"at most {_LARGEST_FILE} bytes")
            raw = path.read_bytes()
        except OSError as error:
            raise WorkflowError(f"{path} cannot be read: {error.strerror or error}.") from error
        return cls.from_data(_parse(raw, str(path)), name=path.stem, origin=str(path))

    @classmethod
    def from_data(cls, data: Any, *, name: str = "workflow", origin: str = "the given data") -> Workflow:
        """Makes a workflow of parsed JSON in either format. WorkflowError if it is in neither."""
        if is_editor_format(data):
            info = about_workflow(data, origin)
            return cls(
                name,
                origin,
                editor=data,
                declared=declared_parameters(info),
                presets=as_object(info.get("presets")),
                title=str(info.get("title", name)),
                description=str(info.get("description", "")),
                needs=as_object(info.get("needs")),
            )
        found = find_workflow(data, origin)
        if found is not None and found.api is not None:
            return cls._from_both(found.api, found.editor, name, origin)
        if found is not None:
            return cls.from_data(found.editor, name=name, origin=origin)
        raise WorkflowError(
            f"{origin} is not a workflow.",
            expected="the editor's format (nodes and links) or the API format (class_type and inputs by id)",
            got=f"JSON beginning {json.dumps(data)[:80]}",
        )

    @classmethod
    def _from_metadata(cls, metadata: Carried, path: Path) -> Workflow:
        # The prompt is exactly what ran. The workflow is kept for its parameters, and to write it into new pictures.
        editor = _parse(metadata.workflow, f"the workflow in {metadata.origin}") if metadata.workflow else None
        prompt = _parse(metadata.prompt, f"the prompt in {metadata.origin}") if metadata.prompt else None
        found = find_workflow(prompt, f"the prompt in {metadata.origin}")
        if found is not None and found.api is not None:
            editor = found.editor if editor is None else editor
            return cls._from_both(found.api, editor, path.stem, f"the prompt in {metadata.origin}")
        if editor is not None and find_workflow(editor, f"the workflow in {metadata.origin}") is not None:
            return cls.from_data(editor, name=path.stem, origin=f"the workflow in {metadata.origin}")
        if metadata.program is not None:
            raise WorkflowError(
                f"{path} contains no workflow: it was made with {metadata.program}.",
                expected="a file saved by ComfyUI",
                hint="Its prompt and settings are in the file as text; set them on a workflow for its model.",
            )
        raise WorkflowError(
            f"{path} contains no workflow.",
            hint="Only files saved by ComfyUI with their metadata do; many web sites remove it.",
        )

    @classmethod
    def _from_both(cls, prompt: Mapping[str, Any], editor: Any, name: str, origin: str) -> Workflow:
        """`prompt` is what runs; `editor` adds parameters, presets and titles if it is a valid workflow."""
        prompt = without_again(prompt)
        if editor is None or not is_editor_format(editor):
            return cls(name, origin, api=prompt, title=name)
        return replace(cls.from_data(editor, name=name, origin=f"the workflow of {origin}"), origin=origin, api=prompt)

    def prompt(
        self,
        object_info: Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
        *,
        preset: str | None = None,
        upload: Upload | None = None,
        check: bool = True,
    ) -> Prompt:
        """Makes a prompt: sets `values` over those of the preset, and checks everything against object_info.

        Dynamic prompts in the editor's file, `{a|b}`, are replaced by a random choice in each call.

        upload: called for a local file given to an input that takes one; without it such values are errors.
        check: also check the values in the file, not only `values`.

        Raises ParameterError, ConversionError; InvalidPrompt, with every problem, if the server would refuse it.
        """
        conversion = self._conversion(object_info, random.Random())
        if not conversion.prompt and self.editor is not None and self.editor["nodes"]:
            raise InvalidPrompt(f"{self.origin}: {' '.join(conversion.notes)}", hint="Enable what is to run.")
        wanted = {**self._preset(preset), **self.values, **(values or {})}
        if "seed" in wanted and "seed" not in self.declared:
            seed = wanted.pop("seed")
            wanted = {**dict.fromkeys(_seed_inputs(conversion, object_info), seed), **wanted} or {"seed": seed}
        shown = self.shown(object_info, conversion.prompt) if wanted else []
        targets = {name: find_targets(name, conversion.prompt, self.declared, shown) for name in wanted}
        if conversion.unknown:
            found = find_problems(conversion.prompt, object_info, self.editor)
            _refuse([finding for finding in found if finding.kind == "missing_node"], conversion, self.origin)
        reached = {name: _through_primitives(targets[name], conversion) for name in wanted}
        chosen = {
            name: self._set(name, value, reached[name], conversion, object_info, upload is not None)
            for name, value in wanted.items()
        }
        # Inputs set above are already checked; a file that is not uploaded yet is not in the server's list.
        given = {target for name in wanted for target in reached[name]}
        found = [
            one
            for one in find_problems(conversion.prompt, object_info, self.editor)
            if one.kind != "no_output" and (one.node_id, one.input_name) not in given
        ]
        if check:
            _refuse([one for one in found if not one.is_note], conversion, self.origin)
        renamed = [one for one in found if one.used is not None]
        for one in renamed:
            _write(conversion, [(one.node_id, str(one.input_name))], one.used)
        notes = [*conversion.notes]
        notes += [f"{one.where}: {one.said}" for one in found if one.kind in ("same_file", "converted")]
        if upload is not None:
            # After all checks, so that nothing is uploaded for a workflow that cannot run.
            files = {value for value in chosen.values() if isinstance(value, _LocalFile)}
            stored = {file: upload(Path(file)) for file in files}
            for name in (name for name, value in chosen.items() if isinstance(value, _LocalFile)):
                chosen[name] = stored[chosen[name]]
                _write(conversion, reached[name], chosen[name])
        for node_id, name in conversion.drawn:
            if any((node_id, name) in reached[given] for given in reached):
                continue
            address, node = f"{node_id}.{name}", conversion.prompt[node_id]
            chosen[address], targets[address] = node["inputs"][name], ((node_id, name),)
            notes.append(f"{node['_meta']['title']!r} (node {node_id}) draws a {name} for each run: {chosen[address]}.")
        if self.editor is None:
            return Prompt(conversion.prompt, None, chosen, tuple(notes))
        editor = copy.deepcopy(dict(self.editor))
        for name, value in chosen.items():
            write_back(editor, object_info, targets[name], value)
        for one in renamed:
            write_back(editor, object_info, [(one.node_id, str(one.input_name))], one.used)
        return Prompt(conversion.prompt, editor, chosen, tuple(notes))

    def _set(
        self,
        name: str,
        value: Any,
        targets: Sequence[Target],
        conversion: Conversion,
        object_info: Mapping[str, Any],
        may_upload: bool,
    ) -> Any:
        """Writes a value to all its targets and returns it as written. ParameterError if it does not fit."""
        places = Places(self.editor, object_info)
        for node_id, input_name in targets:
            spec = self._spec(conversion, object_info, node_id, input_name, name)
            if not isinstance(value, _LocalFile):
                place = places.find(node_id)
                title = place.title if place else conversion.prompt[node_id]["_meta"]["title"]
                value = coerce(
                    f"{name} ({title!r}, {input_name})",
                    value,
                    spec,
                    declared=self.declared.get(name),
                    upload=_LocalFile if may_upload else None,
                )
        _write(conversion, targets, value)
        return value

    def nodes(self, object_info: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        """Returns the file's nodes in the API format, with no values set and no checks. ConversionError if it fails."""
        return self._conversion(object_info).prompt

    def converted(self, object_info: Mapping[str, Any]) -> Conversion:
        """Returns `nodes`, and what is said of the conversion."""
        return self._conversion(object_info)

    def too_new_for(self, comfyui_version: str) -> str | None:
        """Returns the ComfyUI version that this workflow needs if it is newer than the given one; else None."""
        needed = str(self.needs.get("comfyui", "")).removeprefix(">=").strip()
        return needed if needed and _numbers(comfyui_version) < _numbers(needed) else None

    def seed_parameters(self, object_info: Mapping[str, Any]) -> list[str]:
        """Returns the names that `seed` sets: the parameter `seed` if declared, else every unconnected seed input."""
        if "seed" in self.declared:
            return ["seed"]
        return _seed_inputs(self._conversion(object_info), object_info)

    def shown(self, object_info: Mapping[str, Any], prompt: Mapping[str, Any] | None = None) -> list[ShownWidget]:
        """Returns the widgets of subgraphs and the inputs of App Mode, which can be set by their own names."""
        return shown_widgets(self.editor, object_info, self.nodes(object_info) if prompt is None else prompt)

    def describe(self, object_info: Mapping[str, Any]) -> list[ParameterInfo]:
        """Returns what can be set: the declared parameters if there are any.

        Else the widgets of subgraphs, then every unconnected input, then the names that App Mode shows. Of nodes whose
        class is unknown, the values that the file names. With an empty object_info, all is from the file.
        """
        conversion = self._conversion(object_info)
        if self.declared:
            return [
                self._described(name, declared.targets, conversion, object_info, declared)
                for name, declared in self.declared.items()
            ]
        shown = self.shown(object_info, conversion.prompt)
        named = [
            (f"{one.place}.{one.name}", one.targets, one.title)
            for one in shown
            if not one.public and not isinstance(_value_at(conversion, one.targets), list)
        ]
        for node_id, node in conversion.prompt.items():
            title, inputs = node["_meta"]["title"], node["inputs"]
            info = object_info.get(node["class_type"])
            specs = chosen_specs(as_object(info), inputs)
            names = list(inputs) if info is None else [name for name, spec in specs.items() if spec.is_value]
            named += [
                (f"{node_id}.{name}", ((node_id, name),), title)
                for name in names
                if not isinstance(inputs.get(name), list)
            ]
        named += [(one.name, one.targets, one.title) for one in shown if one.public]
        return [
            self._described(name, targets, conversion, object_info, description=title) for name, targets, title in named
        ]

    def undescribed(self, object_info: Mapping[str, Any]) -> dict[str, list[str]]:
        """Returns the unknown classes, with the titles of their nodes, of which the file names no values."""
        conversion = self._conversion(object_info)
        found = {kind: list(titles) for kind, titles in conversion.left_out.items()}
        for node in conversion.prompt.values():
            has_values = any(not isinstance(value, list) for value in node["inputs"].values())
            if node["class_type"] not in object_info and not has_values:
                found.setdefault(node["class_type"], []).append(node["_meta"]["title"])
        return found

    def _described(
        self,
        name: str,
        targets: tuple[Target, ...],
        conversion: Conversion,
        object_info: Mapping[str, Any],
        declared: Declared | None = None,
        description: str = "",
    ) -> ParameterInfo:
        node_id, input_name = _through_primitives(targets, conversion)[0]
        node = conversion.prompt.get(node_id)
        if node is not None and node["class_type"] not in object_info and (declared is None or not object_info):
            value: object = node["inputs"].get(input_name)
            return ParameterInfo(name, _type_name(value), value, declared.description if declared else description)
        spec = self._spec(conversion, object_info, node_id, input_name, name)
        low, high = spec.options.get("min"), spec.options.get("max")
        return ParameterInfo(
            name=name,
            type=spec.type,
            value=conversion.prompt[node_id]["inputs"].get(input_name, spec.default),
            description=declared.description if declared else description,
            min=declared.min if declared and declared.min is not None else low,
            max=declared.max if declared and declared.max is not None else high,
            choices=spec.choices,
        )

    def _conversion(self, object_info: Mapping[str, Any], draw: random.Random | None = None) -> Conversion:
        if self.api is None:
            if self.editor is None:
                raise WorkflowError(f"{self.origin} contains no workflow.")
            return convert(self.editor, object_info, draw=draw)
        titles = {str(node.get("id")): node.get("title") for node in as_list((self.editor or {}).get("nodes"))}
        prompt: dict[str, dict[str, Any]] = {}
        for node_id, node in self.api.items():
            title = as_object(node.get("_meta")).get("title") or titles.get(str(node_id))
            display = as_object(object_info.get(node["class_type"])).get("display_name")
            prompt[str(node_id)] = {
                "class_type": node["class_type"],
                "inputs": {name: _with_text_id(value) for name, value in node["inputs"].items()},
                "_meta": {"title": str(title or display or node["class_type"])},
            }
        unknown: dict[str, list[str]] = {}
        for node in prompt.values():
            if node["class_type"] not in object_info:
                unknown.setdefault(node["class_type"], []).append(node["_meta"]["title"])
        return Conversion(prompt, self._fed_by(prompt, object_info), unknown)

    def _fed_by(self, prompt: Mapping[str, Any], object_info: Mapping[str, Any]) -> dict[str, list[Target]]:
        """Returns the inputs that each PrimitiveNode sets, from the editor-format workflow of an API-format prompt."""
        if self.editor is None or not any(node.get("type") == "PrimitiveNode" for node in self.editor["nodes"]):
            return {}
        try:
            fed_by = convert(self.editor, object_info).fed_by
        except WorkflowError:
            # The prompt still runs; only the names of PrimitiveNodes are lost.
            return {}
        return {node_id: targets for node_id, targets in fed_by.items() if all(at in prompt for at, _ in targets)}

    def _spec(
        self, conversion: Conversion, object_info: Mapping[str, Any], node_id: str, input_name: str, label: str
    ) -> InputSpec:
        node = conversion.prompt.get(node_id)
        if node is None:
            place = Places(self.editor, object_info).find(node_id)
            reason = f"{place.title!r} (node {node_id}) does not run" if place else f"there is no node {node_id}"
            raise ParameterError(
                f"{label}: {reason}, so its {input_name} cannot be set.",
                hint="It is muted or bypassed: enable it in the editor." if place else None,
            )
        if node["class_type"] not in object_info:
            raise ParameterError(
                f"{label}: the server has no node class {node['class_type']}, so its inputs are not known.",
                hint="The lite host has only this pack's nodes and a few more. Use a ComfyUI that has the class.",
                parameter="server",
            )
        specs = chosen_specs(as_object(object_info.get(node["class_type"])), node["inputs"])
        if input_name not in specs:
            settable = ", ".join(name for name, spec in specs.items() if spec.is_value)
            near = near_names(input_name, specs)
            raise ParameterError(
                f"{label}: {node['_meta']['title']!r} ({node['class_type']}) has no input {input_name!r}.",
                expected=settable or "(it has no inputs that can be set)",
                hint=f"Did you mean {near}?" if near else None,
            )
        spec = specs[input_name]
        options = custom_options(node["class_type"], input_name, node["inputs"])
        return spec if options is None else replace(spec, choices=options)

    def _preset(self, name: str | None) -> Mapping[str, Any]:
        if name is None:
            return {}
        if name not in self.presets:
            raise UsageError(
                f"{self.name} has no preset {name!r}.", expected=", ".join(self.presets) or "(it has none)"
            )
        return self.presets[name]


class NodeInputs:
    """Sets the inputs of one node as attributes. The values are checked by `Workflow.prompt`."""

    def __init__(self, workflow: Workflow, node: str) -> None:
        self.__dict__.update(_workflow=workflow, _node=node)

    def __setattr__(self, name: str, value: Any) -> None:
        self._workflow.values[self._name(name)] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._name(name) not in self._workflow.values:
            raise AttributeError(f"{name} of {self._node!r} is not set; Workflow.describe lists the values in the file")
        return self._workflow.values[self._name(name)]

    def __repr__(self) -> str:
        return f"<inputs of {self._node!r} in {self._workflow.name}>"

    def _name(self, name: str) -> str:
        return f"{self._node}.{name}"


def _seed_inputs(conversion: Conversion, object_info: Mapping[str, Any]) -> list[str]:
    """Returns the names of all seed inputs that are not connected."""
    return [
        f"{node_id}.{name}"
        for node_id, node in conversion.prompt.items()
        for name, spec in chosen_specs(as_object(object_info.get(node["class_type"])), node["inputs"]).items()
        if spec.is_seed and not isinstance(node["inputs"].get(name), list)
    ]


def _no_such_workflow(path: Path, name: str, shipped: Mapping[str, Path]) -> WorkflowError:
    if is_folder(path):
        inside = sorted(other.name for other in path.glob("*.json"))
        return WorkflowError(
            f"{str(path)!r} is a folder.",
            expected="a file",
            hint=f"It has {', '.join(inside[:5])}{' and more' if len(inside) > 5 else ''}." if inside else None,
        )
    if path.suffix or len(path.parts) > 1:
        present = [other.name for other in path.parent.glob("*.*")] if path.parent.is_dir() else []
        near = near_names(path.name, present, likeness=0.7)
        return WorkflowError(
            f"There is no file {str(path)!r}.",
            expected="a path, or the name of a shipped workflow",
            hint=f"That folder contains {near}." if near else None,
        )
    near = near_names(name, shipped)
    return WorkflowError(
        f"There is no file and no shipped workflow {name!r}.",
        expected="a path, or the name of a shipped workflow",
        hint=(f"Did you mean {near}? " if near else "") + "`kandiflux workflows` and shipped_workflows() list them.",
    )


def _type_name(value: object) -> str:
    """Returns the type of an input, as object_info names it, by its value in the file."""
    types = ((bool, "BOOLEAN"), (int, "INT"), (float, "FLOAT"), (str, "STRING"))
    return next((name for kind, name in types if isinstance(value, kind)), "*")


def _with_text_id(value: Any) -> Any:
    """Converts a link's node id from number to string: the server finds only string ids."""
    return [str(value[0]), value[1]] if is_list(value) and len(value) == 2 and type(value[0]) is int else value


class _LocalFile(str):
    """The path of a local file; replaced by its name on the server once it is uploaded."""


def _write(conversion: Conversion, targets: Sequence[Target], value: Any) -> None:
    for node_id, input_name in targets:
        node = conversion.prompt[node_id]
        node["inputs"][input_name] = {"__value__": value} if is_list(value) else value
        with_choice_index(node["class_type"], node["inputs"])


def _value_at(conversion: Conversion, targets: Sequence[Target]) -> Any:
    node_id, input_name = targets[0]
    return conversion.prompt[node_id]["inputs"].get(input_name)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])


def _parse(raw: bytes | str, origin: str) -> Any:
    try:
        return parse_json(raw)
    except ValueError as error:
        foreign = describe_foreign(raw[:64] if isinstance(raw, bytes) else raw[:64].encode())
        if foreign is not None:
            raise WorkflowError(f"{origin} is {foreign[0]}.", expected="a workflow", hint=foreign[1]) from error
        raise WorkflowError(f"{origin} is not valid JSON: {error}.") from error


def _refuse(found: Sequence[Finding], conversion: Conversion, origin: str) -> None:
    if not found:
        return
    if conversion.unknown:
        # One line for each pack, however many nodes it has: their hints are equal.
        first = {finding.hint: finding for finding in reversed(found)}
        install, same = install_text(group_by_pack(found)), same_without_pack(conversion.unknown)
        hint = f"{install[:1].upper()}{install[1:]}." if install else "Start a ComfyUI that has them, and use that."
        raise InvalidPrompt(
            f"The server lacks node classes that {origin} needs: {', '.join(sorted(conversion.unknown))}.",
            [finding.as_problem() for finding in reversed(first.values())],
            hint=hint + (f" Or: {same}." if same else ""),
            parameter=None if install else "server",
        )
    problems = [finding.as_problem() for finding in found]
    raise InvalidPrompt(
        f"The server would refuse {origin}:",
        problems,
        hint="`kandiflux check` shows more. If you know that the server accepts it, submit it without the check.",
        parameter="check",
    )


def _through_primitives(targets: tuple[Target, ...], conversion: Conversion) -> list[Target]:
    """Replaces each PrimitiveNode, which is not in the prompt, by the inputs that it sets."""
    reached: list[Target] = []
    for node_id, input_name in targets:
        reached += conversion.fed_by.get(node_id, [(node_id, input_name)])
    return reached
