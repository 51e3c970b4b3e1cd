"""The nodes' inputs are those that saved workflows have values for: tests/data/node_inputs.json.

Workflows store widget values by position, and the runner checks values against these ranges. After a change that is
meant, write the file anew with `python -m tests.unit.nodes.test_node_inputs` and read its diff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodes import conditioning, embeds, flux, host, kandinsky, kandinsky3, loaders, prompt
from tests.support.places import DATA

FILE = DATA / "node_inputs.json"
NODES: dict[str, tuple[Any, str]] = {
    name: node
    for module in (loaders, conditioning, embeds, flux, kandinsky, kandinsky3, prompt)
    for name, node in module.NODES.items()
}


class Bare(host.Host):
    """A host without models and without outputs."""

    def output_directory(self) -> Path:
        return Path("no such folder")


def described(name: str) -> list[tuple[str, Any]]:
    """A node's title, outputs and inputs in their order, tooltips aside."""
    node, title = NODES[name]
    names = getattr(node, "RETURN_NAMES", node.RETURN_TYPES)
    made: list[tuple[str, Any]] = [("title", title), ("outputs", list(zip(node.RETURN_TYPES, names, strict=True)))]
    made += [("output node", True)] if getattr(node, "OUTPUT_NODE", False) else []
    for group, specs in node.INPUT_TYPES().items():
        for key, (kind, options) in specs.items():
            rest = {option: value for option, value in options.items() if option != "tooltip"}
            made.append((f"{group} {key}", [kind, rest]))
    return json.loads(json.dumps(made))


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Bare()
    monkeypatch.setattr(host, "current", lambda: bare)


def test_every_node_is_in_the_file() -> None:
    assert NODES.keys() == json.loads(FILE.read_text("utf-8")).keys()


@pytest.mark.parametrize("name", NODES)
def test_inputs_are_as_saved_workflows_have_them(name: str) -> None:
    stored = json.loads(FILE.read_text("utf-8"))[name]
    assert described(name) == [[key, value] for key, value in stored.items()]


def write() -> None:
    """One line for each input."""
    host.current = Bare  # pyright: ignore[reportAttributeAccessIssue]
    nodes = []
    for name in NODES:
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in described(name)]
        nodes.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    FILE.write_text("{\n" + ",\n".join(nodes) + "\n}\n", "utf-8")


if __name__ == "__main__":
    write()
