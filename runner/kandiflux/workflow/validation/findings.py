"""A finding: one thing that is missing or wrong in a workflow, and its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kandiflux.errors import NodeProblem
from kandiflux.models.model_files import ModelFile

__all__ = ["NOTES", "Finding", "Kind", "Pack"]

Kind = Literal[
    "missing_node",
    "missing_model",
    "missing_file",
    "not_in_list",
    "out_of_range",
    "wrong_type",
    "not_connected",
    "wrong_link",
    "unknown_input",
    "loop",
    "no_output",
    "too_old",
    "converted",
    "same_file",
    "not_checked",
    "same_without_pack",
    "conversion",
]
NOTES = frozenset[str]({"converted", "same_file", "not_checked", "same_without_pack", "conversion"})
"""The kinds that do not prevent the workflow from running."""


@dataclass(frozen=True)
class Pack:
    """The custom-node pack of a node class: its name in the registry, or its repository.

    repository: on GitHub, `owner/name`. source: who says so, "file", "manager" (the server's ComfyUI-Manager), "list"
    (the one that comes with kandiflux) or "name" (the class is named as the pack names its classes).
    """

    name: str
    version: str | None = None
    repository: str | None = None
    source: str = "file"

    def as_dict(self) -> dict[str, Any]:
        """Returns the known fields as JSON."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Finding:
    """One problem. `title` is the node's in the editor, with the titles of subgraphs around it: `Outer / Inner`.

    `message` continues a sentence that begins with the node and its input; `hint` says what to do.
    """

    kind: Kind
    message: str
    node_id: str = ""
    title: str = ""
    class_type: str = ""
    input_name: str | None = None
    expected: str | None = None
    got: str | None = None
    hint: str | None = None
    models: tuple[ModelFile, ...] = ()
    pack: Pack | None = None
    used: str | None = None
    """For the kind `same_file`: the server's name for the file, which is used instead."""

    @property
    def is_note(self) -> bool:
        """Whether the workflow runs nevertheless."""
        return self.kind in NOTES

    @property
    def where(self) -> str:
        """The node's title, id and class; empty if the finding concerns the whole workflow."""
        return f"{self.title!r} (node {self.node_id}, {self.class_type})" if self.node_id else ""

    @property
    def said(self) -> str:
        """What is wrong, in one line, without the node."""
        text = f"{self.input_name} {self.message}" if self.input_name else self.message
        known = [f"expected {self.expected}"] if self.expected else []
        known += [f"got {self.got}"] if self.got is not None else []
        return text + (f": {', '.join(known)}" if known else "")

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.said}." if self.where else f"{self.said}."]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def as_problem(self) -> NodeProblem:
        """Converts the finding to the form of a server's validation errors."""
        details = " ".join(filter(None, (self.said + ".", self.hint)))
        return NodeProblem(self.node_id, self.title, self.class_type, self.kind, details, "", self.input_name)

    def as_dict(self) -> dict[str, Any]:
        """Returns the finding as JSON, without empty fields."""
        fields = {
            key: value for key, value in vars(self).items() if key not in ("models", "pack") and value not in (None, "")
        }
        if self.models:
            fields["models"] = [model.as_dict() for model in self.models]
        if self.pack:
            fields["pack"] = self.pack.as_dict()
        return fields
