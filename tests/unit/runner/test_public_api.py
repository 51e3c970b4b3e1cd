"""What the package offers is named in `__all__`, and says what it is for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from tests.support.places import ROOT

RUNNER = ROOT / "runner"
MODULES = {
    ".".join(path.relative_to(RUNNER).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((RUNNER / "kandiflux").rglob("*.py"))
}
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef

# Being rewritten at present; each goes from here when it is done.
OFFERING = pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__main__")])


@OFFERING
def test_a_module_lists_what_it_offers(module: str) -> None:
    defined = [node.name for node in tree(module).body if isinstance(node, Documented)]
    assert listed(module) is not None or not defined, f"{module} has no __all__"


@OFFERING
def test_what_other_modules_take_is_listed(module: str) -> None:
    taken = {
        name.name: other
        for other in MODULES
        for node in imports(other)
        if node.module == module
        for name in node.names
        if f"{module}.{name.name}" not in MODULES
    }
    hidden = [f"{name}, which {other} takes" for name, other in taken.items() if name not in (listed(module) or ())]
    assert not hidden


@OFFERING
def test_what_is_listed_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(tree(module)), f"{module} has no docstring"
    public = listed(module) or ()
    offers = [node for node in tree(module).body if isinstance(node, Documented) and node.name in public]
    silent = [offer.name for offer in offers if not ast.get_docstring(offer)]
    for offer in (offer for offer in offers if isinstance(offer, ast.ClassDef)):
        unsaid = (method for method in methods(offer) if not is_described(method, offer, module))
        silent += [f"{offer.name}.{method.name}" for method in unsaid]
    assert not silent


def methods(owner: ast.ClassDef) -> Iterator[Function]:
    for node in owner.body:
        decorators = [ast.unparse(one) for one in node.decorator_list] if isinstance(node, Function) else []
        setter = any(one == "overload" or one.endswith((".setter", ".overload")) for one in decorators)
        if isinstance(node, Function) and not node.name.startswith("_") and not setter:
            yield node


def is_described(method: Function, owner: ast.ClassDef, module: str) -> bool:
    """By itself, by the method it overrides, or by the protocol beside it that its class fulfils."""
    if ast.get_docstring(method):
        return True
    protocols = [one for one in tree(module).body if isinstance(one, ast.ClassDef) and "Protocol" in base_names(one)]
    above = [*bases(owner), *(one for one in protocols if one is not owner)]
    return any(
        other.name == method.name and is_described(other, one, module) for one in above for other in methods(one)
    )


def bases(owner: ast.ClassDef) -> Iterator[ast.ClassDef]:
    for name in base_names(owner):
        for base in classes().get(name, ()):
            yield base
            yield from bases(base)


def base_names(owner: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).rpartition(".")[2] for base in owner.bases]


@cache
def classes() -> dict[str, list[ast.ClassDef]]:
    """Every class of the package by its name."""
    found: dict[str, list[ast.ClassDef]] = {}
    for module in MODULES:
        for node in tree(module).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


@cache
def imports(module: str) -> list[ast.ImportFrom]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.ImportFrom)]


@cache
def listed(module: str) -> list[str] | None:
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return None
