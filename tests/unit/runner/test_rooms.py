"""How the rooms of the runner hang together: imports go down only, in no circle, and a name means one thing."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from tests.support.places import ROOT

PACKAGE = ROOT / "runner" / "kandiflux"

BELOW: dict[str, set[str]] = {
    "errors": set(),
    "util": {"errors"},
    "config": {"errors", "util"},
    "api": {"errors", "util", "config"},
    "models": {"errors", "util", "config", "api"},
    "workflow": {"errors", "util", "models"},
    "processes": {"errors", "util", "config", "api"},
    "jobs": {"errors", "util", "config", "api", "workflow", "processes"},
    "batch": {"errors", "util", "config", "api", "workflow", "processes", "jobs"},
    "lite": {"errors", "util"},
    "prompt_tools": {"errors", "util"},
}
"""What each room may import, itself apart. `cli` may import everything; `__init__` holds names of all rooms."""


def modules() -> dict[str, ast.Module]:
    """All modules by dotted name without the package's own."""
    found: dict[str, ast.Module] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(file.read_text("utf-8"))
    return found


MODULES = modules()


def imported(module: str) -> Iterator[str]:
    """The modules of this package that it imports, those for type checkers and those in functions included."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kandiflux":
            parent = (node.module or "").partition(".")[2]
            for alias in node.names:
                inner = f"{parent}.{alias.name}".lstrip(".")
                yield inner if inner in MODULES else parent or "__init__"
        elif isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "kandiflux")


def room(module: str) -> str:
    return module.split(".")[0]


def test_imports_go_down_only() -> None:
    upwards = [
        f"{module} -> {other}"
        for module in MODULES
        if room(module) in BELOW
        for other in imported(module)
        if other != "__init__" and room(other) not in BELOW[room(module)] | {room(module)}
    ]
    assert upwards == []
    assert {room(module) for module in MODULES} <= {*BELOW, "cli", "__init__", "__main__"}, "no room but these"


def test_no_circle() -> None:
    left = {module: set(imported(module)) - {module} for module in MODULES}
    left["__init__"] = set()  # the public names, imported when they are first used
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_only_cli_names_options() -> None:
    """A Python user cannot give one. The lite host is a command itself, `processes` writes command lines."""
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
    named = [
        f"{module}:{node.lineno} {node.value[:80]}"
        for module, tree in MODULES.items()
        if room(module) not in ("cli", "lite", "processes", "__init__") and module != "batch.report"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if option.search(node.value) and option.sub("", node.value).strip() != "" and "\n" not in node.value
    ]
    assert named == []


def test_no_two_modules_of_one_name() -> None:
    names = Counter(file.stem for file in PACKAGE.rglob("*.py") if not file.stem.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_classes_of_one_name() -> None:
    names = Counter(
        node.name.lstrip("_") for tree in MODULES.values() for node in tree.body if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []
