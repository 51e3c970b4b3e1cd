"""Finds what a ComfyUI would refuse in a prompt, from its object_info, before anything is sent.

Only nodes that an output needs are checked, as on the server: other nodes never run.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kandiflux.models.known_models import CONVERTED, folder_of_input, known_model
from kandiflux.models.model_files import ModelFile, declared_models, is_model_name, same_file, stands_for
from kandiflux.util.json_values import as_object, is_array, is_list, is_object, text_or_none
from kandiflux.util.wording import misspelt, names_text, near_names
from kandiflux.workflow.editor_format.inputs import InputSpec, input_specs
from kandiflux.workflow.parameters import range_text
from kandiflux.workflow.validation.findings import Finding, Pack
from kandiflux.workflow.validation.fitting import (
    NEWER_TYPES,
    as_number,
    bound,
    fits,
    is_truth,
    kind_text,
    nearest_number,
    shown,
    what_it_takes,
)
from kandiflux.workflow.validation.node_packs import CORE, find_packs, same_without_pack
from kandiflux.workflow.validation.places import Places

__all__ = ["find_problems"]

Nodes = Mapping[str, Mapping[str, Any]]
HasFile = Callable[[str], bool | None]
"""Returns whether the server has the file; None if that is not known."""
NodeMap = Callable[[], Mapping[str, Any] | None]
"""Returns the answer of the server's ComfyUI-Manager; None if it has none."""

_ANYWHERE = (" [output]", " [temp]", " [input]")
_NOT_VALIDATED = frozenset(
    {
        ("CustomCombo", "choice"),  # the choices are the user's own, and stored in the node
        ("SelectModelDevice", "device"), ("SelectCLIPDevice", "device"), ("SelectVAEDevice", "device"),
        ("ModelAttentionBackend", "attention"),
    }
)  # fmt: skip
"""Choices for which ComfyUI's own classes accept any value."""


def find_problems(
    nodes: Nodes,
    object_info: Mapping[str, Any],
    editor: Mapping[str, Any] | None = None,
    has_file: HasFile | None = None,
    node_map: NodeMap | None = None,
) -> list[Finding]:
    """Returns everything that a server with this object_info would refuse, and notes; empty if it would run as it is.

    nodes: in the API format.
    editor: the file they come from, for titles of subgraphs, packs and model files.
    has_file: asks the server for a file that an input of an uploaded file names; its lists contain only some of them.
    node_map: asks the server's ComfyUI-Manager for the packs of node classes; called if a class is missing.
    """
    return list(_Validator(nodes, object_info, editor, has_file, node_map).findings())


class _Validator:
    def __init__(
        self,
        nodes: Nodes,
        object_info: Mapping[str, Any],
        editor: Mapping[str, Any] | None,
        has_file: HasFile | None,
        node_map: NodeMap | None,
    ) -> None:
        self._nodes = nodes
        self._has_file = has_file
        self._node_map = node_map
        self._object_info = object_info
        self._places = Places(editor, object_info)
        self._file = editor or {}
        # A model file that one node declares may also be chosen in another node.
        self._file_models = declared_models(self._file.get("models"))
        for place in self._places.running():
            self._file_models += declared_models(as_object(place.node.get("properties")).get("models"))

    def findings(self) -> Iterator[Finding]:
        needed = self._needed()
        found = list(self._of_nodes(needed))
        yield from found
        if not any(finding.kind == "wrong_link" for finding in found):
            yield from self._loops(needed)

    def _of_nodes(self, needed: set[str]) -> Iterator[Finding]:
        if not needed:
            yield Finding("no_output", "The workflow has no output node: nothing in it would run", hint=(
                "Add a node that saves or shows something, such as Save Image, or unmute it."))  # fmt: skip
        packs = self._packs()
        for node_id, node in self._nodes.items():
            class_info = self._object_info.get(node["class_type"])
            if class_info is None:
                yield self._missing_node(node_id, packs.get(node["class_type"]))
            elif node_id in needed:
                yield from self._of_node(node_id, node, class_info)
        same = same_without_pack({node["class_type"] for node in self._nodes.values()} - self._object_info.keys())
        if same:
            yield Finding("same_without_pack", same)

    # Which nodes count

    def _needed(self) -> set[str]:
        """Returns the nodes that run: output nodes and everything they depend on. An unknown class may be an output."""
        return self._with_sources(
            node_id
            for node_id, node in self._nodes.items()
            if (as_object(self._object_info.get(node["class_type"])) or {"output_node": True}).get("output_node")
        )

    def _with_sources(self, node_ids: Iterable[str]) -> set[str]:
        """Returns these nodes and everything they depend on."""
        pending, found = list(node_ids), set[str]()
        while pending:
            node_id = pending.pop()
            if node_id not in found:
                found.add(node_id)
                pending += [source for source in self._sources(node_id) if source in self._nodes]
        return found

    def _sources(self, node_id: str) -> list[str]:
        return [
            str(value[0]) for value in self._nodes[node_id]["inputs"].values() if is_list(value) and len(value) == 2
        ]

    def _loops(self, needed: set[str]) -> Iterator[Finding]:
        """Yields a finding for the first cycle of links."""
        state: dict[str, bool] = {}  # False while its sources are being followed
        for start in needed:
            path = [(start, iter(self._sources(start)))] if start not in state else []
            state.setdefault(start, False)
            while path:
                node_id, sources = path[-1]
                source = next(sources, None)
                if source is None:
                    state[node_id] = True
                    path.pop()
                elif source in self._nodes and source not in state:
                    state[source] = False
                    path.append((source, iter(self._sources(source))))
                elif state.get(source) is False:
                    ids = [step for step, _ in path]
                    cycle = [self._title(step) for step in ids[ids.index(source) :]]
                    text = f"depends on itself, through {' ← '.join(cycle)}"
                    yield self._finding("loop", source, text, hint="Remove one of these links.")
                    return

    # One node

    def _of_node(self, node_id: str, node: Mapping[str, Any], class_info: Mapping[str, Any]) -> Iterator[Finding]:
        specs = input_specs(class_info)
        inputs: Mapping[str, Any] = node["inputs"]
        unknown = [name for name in inputs if name not in specs and "." not in name]
        for name, spec in specs.items():
            if name in inputs:
                found = self._of_input(node_id, spec, inputs[name])
            else:
                found = self._absent(node_id, spec, _mistyped(spec, unknown))
            if found is not None:
                yield found

    def _absent(self, node_id: str, spec: InputSpec, mistyped: str | None) -> Finding | None:
        if mistyped is not None:
            text = f"is not an input of this node; {spec.name} is, but it is not set"
            return self._finding("unknown_input", node_id, text, mistyped, hint=f"Write {spec.name}.")
        if not spec.required or spec.type.startswith(NEWER_TYPES):
            return None
        if spec.is_value and not spec.forced:
            return self._finding("not_connected", node_id, "has no value", spec.name, expected=what_it_takes(spec))
        came_from = self._muted_source(node_id, spec.name)
        hint = f"Unmute {came_from!r}, which is linked to it, or connect another node." if came_from else None
        return self._finding(
            "not_connected", node_id, "is not connected", spec.name, expected=f"{kind_text(spec)} from another node",
            hint=hint or self._offers(node_id, spec),
        )  # fmt: skip

    def _of_input(self, node_id: str, spec: InputSpec, value: Any) -> Finding | None:
        if is_list(value):
            return self._of_link(node_id, spec, value)
        if is_object(value) and "__value__" in value:
            value = value["__value__"]
        if spec.type == "COMBO":
            return self._of_choice(node_id, spec, value)
        if spec.type in ("INT", "FLOAT"):
            return self._of_number(node_id, spec, value)
        # The server converts any value of these two types.
        if spec.type == "BOOLEAN" and not is_truth(value):
            return self._converted(node_id, spec, value, str(bool(value)).lower())
        if spec.type == "STRING" and isinstance(value, (list, Mapping)):
            return self._converted(node_id, spec, value, "its text")
        return None

    def _converted(self, node_id: str, spec: InputSpec, value: Any, becomes: str) -> Finding:
        return self._finding(
            "converted", node_id, f"becomes {becomes} on the server", spec.name, expected=what_it_takes(spec),
            got=shown(value), hint=f"Set {node_id}.{spec.name} if that is not what is meant.",
        )  # fmt: skip

    # Links

    def _of_link(self, node_id: str, spec: InputSpec, link: Sequence[Any]) -> Finding | None:
        def wrong(text: str, **more: Any) -> Finding:
            return self._finding("wrong_link", node_id, text, spec.name, **more)

        if len(link) != 2 or isinstance(link[1], bool) or not isinstance(link[1], int):
            return wrong("has a broken link", expected="[node id, output number]", got=shown(link))
        source = self._nodes.get(str(link[0]))
        if source is None:
            return wrong(f"comes from node {link[0]}, which does not exist", hint="Connect it to a node that does.")
        outputs = self._outputs(source)
        if outputs is None:
            return None
        title = self._title(str(link[0]))
        if not 0 <= link[1] < len(outputs):
            return wrong(
                f"comes from output {link[1]} of {title!r}, which has {len(outputs) or 'none'}",
                hint="The class of that node may have changed: connect the input again.",
            )
        given = outputs[link[1]]
        if fits(given, spec):
            return None
        return wrong(
            "is linked to the wrong kind of output", expected=kind_text(spec),
            got=f"{'a choice' if isinstance(given, list) else given} from {title!r}", hint=self._offers(node_id, spec),
        )  # fmt: skip

    def _muted_source(self, node_id: str, input_name: str) -> str | None:
        """Returns the title of the muted or bypassed node that the file links to this input, if there is one."""
        source = self._places.source(node_id, input_name)
        return source.title if source is not None and source.node.get("mode") in (2, 4) else None

    def _offers(self, node_id: str, spec: InputSpec) -> str:
        """Returns a hint that names nodes of this workflow with a fitting output and no dependency on this node."""
        makers = (
            repr(self._title(maker))
            for maker, node in self._nodes.items()
            if spec.type in (self._outputs(node) or ()) and node_id not in self._with_sources([maker])
        )
        names = " or ".join(itertools.islice(makers, 3))
        return f"Connect it, for example to {names}." if names else "Connect it."

    def _outputs(self, node: Mapping[str, Any]) -> Sequence[Any] | None:
        """Returns the types of a node's outputs; None if the server does not list them."""
        declared = as_object(self._object_info.get(node["class_type"])).get("output")
        return declared if is_array(declared) else None

    # Values

    def _of_number(self, node_id: str, spec: InputSpec, value: Any) -> Finding | None:
        whole = spec.type == "INT"
        low, high = (bound(spec.options.get(key)) for key in ("min", "max"))
        expected = range_text("a whole number" if whole else "a number", low, high)
        number = as_number(value, whole=whole)
        if number is None:
            near = as_number(value, whole=False)
            hint = None if near is None else f"The nearest value is {nearest_number(near, spec, low, high)}."
            text = "is not a whole number" if whole else "is not a number"
            return self._finding("wrong_type", node_id, text, spec.name, expected=expected, got=shown(value), hint=hint)
        if (low is not None and number < low) or (high is not None and number > high):
            hint = f"The nearest value is {nearest_number(number, spec, low, high)}."
            return self._finding(
                "out_of_range", node_id, "is out of range", spec.name, expected=expected, got=shown(value), hint=hint
            )
        if isinstance(value, bool) or (not isinstance(value, str) and number != value):
            return self._converted(node_id, spec, value, str(number))
        return None

    def _of_choice(self, node_id: str, spec: InputSpec, value: Any) -> Finding | None:
        choices = spec.choices
        class_type = str(self._nodes[node_id]["class_type"])
        if choices is None or spec.options.get("remote") or (class_type, spec.name) in _NOT_VALIDATED:
            return None
        wrong = [one for one in (value if is_list(value) else [value]) if one not in choices]
        if not wrong:
            return None
        got, names = wrong[0], [str(choice) for choice in choices]
        if isinstance(got, (list, Mapping)):
            expected = names_text(names)
            return self._finding(
                "wrong_type", node_id, "is not one of its choices", spec.name, expected=expected, got=shown(got)
            )
        if spec.takes_file or class_type == "LoadLatent":
            return self._of_file(node_id, spec, str(got), names)
        elsewhere = same_file(value, choices) if isinstance(value, str) else None
        if elsewhere is not None:
            return self._finding(
                "same_file", node_id, f"is {shown(elsewhere)} on the server, which is used", spec.name, got=shown(got),
                used=elsewhere,
            )  # fmt: skip
        models = self._models_for(node_id, spec, got)
        if models or is_model_name(got) or got in CONVERTED:
            return self._missing_model(node_id, spec, got, models, names)
        near = near_names(str(got), names, 3)
        hint: str | None
        if not names:
            hint = "The server has no choices for this input: put the files that the node needs into its folder."
        else:
            hint = f"Did you mean {near}?" if near else None
        return self._finding(
            "not_in_list", node_id, "is not in the list", spec.name, expected=names_text(names), got=shown(got),
            hint=hint,
        )  # fmt: skip

    # Files of the input folder

    def _of_file(self, node_id: str, spec: InputSpec, name: str, names: list[str]) -> Finding | None:
        """Judges a file that is not in the list: the list may lack subfolders and the server's other folders."""
        class_info = as_object(self._object_info[self._nodes[node_id]["class_type"]])
        built_in = not str(class_info.get("python_module")).startswith("custom_nodes")
        by_upload = f"Set {node_id}.{spec.name} to a file on this machine; it is uploaded when the workflow runs."
        if built_in and name.lower().startswith(("http://", "https://")):
            return self._finding(
                "missing_file", node_id, "is a URL", spec.name, expected="a file in the server's input folder",
                got=shown(name), hint=f"Download it. {by_upload}",
            )  # fmt: skip
        there = self._has_file(name) if self._has_file is not None else None
        if there:
            return None
        if not _is_elsewhere(name) or (there is False and built_in):
            return self._finding(
                "missing_file", node_id, "is not in the server's input folder", spec.name, got=shown(name),
                expected=names_text(names) if names else None, hint=by_upload,
            )  # fmt: skip
        # A pack's class may look in other folders, or load URLs.
        reason = "is not in the server's input folder, but this pack may look elsewhere"
        if there is None:
            reason = "could not be looked for: only a server itself can tell whether it has this file"
        return self._finding("not_checked", node_id, reason, spec.name, got=shown(name))

    # Model files

    def _models_for(self, node_id: str, spec: InputSpec, value: Any) -> tuple[ModelFile, ...]:
        """Returns the model files that a choice stands for, as declared by the file or known to this program."""
        if not isinstance(value, str):
            return ()
        place = self._places.find(node_id)
        of_node = declared_models(as_object(place.node.get("properties")).get("models")) if place else []
        folder = folder_of_input(str(self._nodes[node_id]["class_type"]), spec.name)
        matching = [model for model in [*of_node, *self._file_models] if stands_for(value, model.name)]
        if matching:
            by_name = {model.name: model for model in reversed(matching)}
            return tuple(
                model.filled_from(known_model(model.name, model.directory)).filled_from(ModelFile(model.name, folder))
                for model in reversed(by_name.values())
            )
        known = known_model(value, folder)
        return (known.filled_from(ModelFile(known.name, folder)),) if known else ()

    def _missing_model(
        self, node_id: str, spec: InputSpec, value: Any, models: tuple[ModelFile, ...], names: list[str]
    ) -> Finding:
        near = near_names(str(value), names, 3)
        if value in CONVERTED:
            models = (ModelFile(str(value), "kandinsky"),)
            hint = (
                "Convert it from the original weights with `kandiflux models convert`; see docs/kandinsky-weights.md."
            )
        elif not models:
            folder = folder_of_input(str(self._nodes[node_id]["class_type"]), spec.name)
            models = (ModelFile(str(value), folder),)
            hint = f"Put it into models/{folder}" if folder else "Put it into the folder that the node reads"
            hint += "; the workflow contains no URL for it."
        else:
            hint = "Get it with `kandiflux models pull`."
        return self._finding(
            "missing_model", node_id, "is not among the server's files", spec.name, got=shown(value),
            hint=hint + (f" Or choose one that the server has: {near}." if near else ""), models=models,
        )  # fmt: skip

    # Node classes

    def _packs(self) -> dict[str, Pack]:
        """Returns the packs of the classes that the server lacks, by class."""
        missing = {i: str(node["class_type"]) for i, node in self._nodes.items()}
        missing = {i: name for i, name in missing.items() if name not in self._object_info}
        if not missing or not self._is_comfyui:
            return {}
        declared: dict[str, Pack] = {}
        for node_id, class_type in missing.items():
            place = self._places.find(node_id)
            pack = _pack_of(place.node, self._file) if place else None
            if pack is not None:
                declared.setdefault(class_type, pack)
        unnamed = set(missing.values()) - declared.keys()
        asked = self._node_map() if self._node_map is not None and unnamed else None
        return find_packs(set(missing.values()), declared, asked)

    @property
    def _is_comfyui(self) -> bool:
        return "KSampler" in self._object_info

    def _missing_node(self, node_id: str, pack: Pack | None) -> Finding:
        class_type = str(self._nodes[node_id]["class_type"])
        at = f" (https://github.com/{pack.repository})" if pack and pack.repository else ""
        if not self._is_comfyui:
            hint = "This server is not a ComfyUI and has few nodes: start a ComfyUI and use that."
        elif pack is None:
            name = misspelt(class_type, self._object_info)
            hint = f"Did you mean {name!r}?" if name else "No pack with it is known: install the one that provides it."
        elif pack.name == CORE:
            made = f" (the file was made with {pack.version})" if pack.version else ""
            hint = f"It is a built-in node of ComfyUI{made}: update ComfyUI, or look in its log for a load error."
        elif pack.source == "name":
            hint = f"By its name it is a node of the pack {pack.name}{at}: install that with ComfyUI-Manager."
        else:
            version = f", version {pack.version}" if pack.version else ""
            hint = f"Install the pack {pack.name}{version}{at} on the server, with ComfyUI-Manager."
        return self._finding("missing_node", node_id, "The server has no such node class", hint=hint, pack=pack)

    # Texts

    def _title(self, node_id: str) -> str:
        place = self._places.find(node_id)
        if place is not None:
            return place.title
        node = self._nodes[node_id]
        title = as_object(node.get("_meta")).get("title")
        display = as_object(self._object_info.get(node["class_type"])).get("display_name")
        return str(title or display or node["class_type"])

    def _finding(self, kind: Any, node_id: str, message: str, input_name: str | None = None, **more: Any) -> Finding:
        class_type = str(self._nodes[node_id]["class_type"])
        return Finding(kind, message, node_id, self._title(node_id), class_type, input_name, **more)


def _mistyped(spec: InputSpec, unknown: Sequence[str]) -> str | None:
    """Returns the unknown name that was probably meant for this input.

    Nodes with a growing number of inputs (image1, image2, …) declare only the first: the others are not typing errors.
    """
    if spec.type.startswith(NEWER_TYPES):
        return None
    stem = spec.name.rstrip("0123456789")
    others = [name for name in unknown if spec.required or name.rstrip("0123456789") != stem]
    close = difflib.get_close_matches(spec.name, others, n=1, cutoff=0.7 if spec.required else 0.85)
    return close[0] if close else None


def _pack_of(node: Mapping[str, Any], file: Mapping[str, Any]) -> Pack | None:
    properties = as_object(node.get("properties"))
    name, repository, version = (text_or_none(properties.get(key)) for key in ("cnr_id", "aux_id", "ver"))
    if name is None and repository is None:
        return None
    name = name or str(repository).rpartition("/")[2]
    versions = as_object(as_object(file.get("extra")).get("node_versions"))
    return Pack(name, version or text_or_none(versions.get(name)), repository)


def _is_elsewhere(name: str) -> bool:
    """Returns whether a file is in a subfolder or another of the server's folders, which the list does not contain."""
    return "/" in name or "\\" in name or name.endswith(_ANYWHERE)
