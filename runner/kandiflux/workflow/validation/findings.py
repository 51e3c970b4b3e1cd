"""One thing that is missing or wrong in a workflow, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kandiflux.errors import NodeProblem
from kandiflux.models.model_files import ModelFile

__all__ = ["Finding", "Kind", "Pack"]

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
]


@dataclass(frozen=True)
class Pack:
    """Where a node class comes from, as the file says: the registry's name of its pack, or its GitHub repository."""

    name: str
    version: str | None = None
    repository: str | None = None


@dataclass(frozen=True)
class Finding:
    """`title` is the node's as the editor shows it, inside a subgraph with the titles around it: `Outer / Inner`.

    `message` goes on after the node and its input; `hint` is what to do.
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

    @property
    def where(self) -> str:
        """The node in words; empty for what concerns the whole workflow."""
        return f"{self.title!r} (node {self.node_id}, {self.class_type})" if self.node_id else ""

    @property
    def said(self) -> str:
        """What is wrong, in one line, without the node."""
        about = f"{self.input_name} {self.message}" if self.input_name else self.message
        known = [f"expected {self.expected}"] if self.expected else []
        known += [f"got {self.got}"] if self.got is not None else []
        return about + (f": {', '.join(known)}" if known else "")

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.said}." if self.where else f"{self.said}."]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def as_problem(self) -> NodeProblem:
        """The same as what a server's validation says."""
        details = " ".join(filter(None, (self.said + ".", self.hint)))
        return NodeProblem(self.node_id, self.title, self.class_type, self.kind, details, "", self.input_name)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON, without what is empty."""
        about = {
            key: value for key, value in vars(self).items() if key not in ("models", "pack") and value not in (None, "")
        }
        if self.models:
            about["models"] = [model.as_dict() for model in self.models]
        if self.pack:
            about["pack"] = {key: value for key, value in vars(self.pack).items() if value is not None}
        return about
