"""The pack as an installer and an editor see it."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from nodes import embeds, kandinsky, kandinsky3, loaders
from tests.support.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

NODES = {**loaders.NODES, **kandinsky.NODES, **kandinsky3.NODES, **embeds.NODES}
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.mark.skipif(tomllib is None, reason="reading pyproject.toml takes Python 3.11")
def test_requirements_are_what_pyproject_says_the_pack_needs() -> None:
    assert tomllib is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (ROOT / "requirements.txt").read_text("utf-8").split() == project["optional-dependencies"]["pack"]


def imported_by(folder: Path) -> set[str]:
    names: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


def test_the_pack_imports_only_what_it_requires() -> None:
    required = {re.split("[><=]", line)[0] for line in (ROOT / "requirements.txt").read_text("utf-8").split()}
    given_by_comfyui = {"torch", "comfy", "folder_paths", "latent_preview"}
    assert {{"PIL": "pillow"}.get(name, name) for name in imported_by(ROOT / "nodes")} == required | given_by_comfyui


def test_only_the_seam_imports_comfyui() -> None:
    for file in (ROOT / "nodes").rglob("*.py"):
        if file.name != "host.py" and file.parent.name != "comfyui":
            assert not re.search(
                r"^\s*(import|from) (comfy|folder_paths|latent_preview)\b", file.read_text("utf-8"), re.M
            ), file


@pytest.mark.parametrize("name", NODES)
def test_every_node_explains_itself(name: str) -> None:
    node, title = NODES[name]
    assert name.startswith("Kandinsky")
    assert title.startswith("Kandinsky ")
    assert len(node.DESCRIPTION) > 30
    assert node.SEARCH_ALIASES
    assert node.CATEGORY.startswith("kandiflux/kandinsky")
    assert hasattr(node, node.FUNCTION)
    assert len(getattr(node, "OUTPUT_TOOLTIPS", ())) == len(node.RETURN_TYPES)
    for group in node.INPUT_TYPES().values():
        for input_name, spec in group.items():
            assert spec[1].get("tooltip"), f"{name}.{input_name} has no tooltip"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_workflow_is_described_and_wired(path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    spec = workflow["extra"]["kandiflux"]
    assert {"title", "description", "parameters", "presets", "needs"} <= spec.keys()
    for link_id, source, slot, target, input_slot, kind in links.values():
        assert nodes[source]["outputs"][slot]["type"] == kind
        assert link_id in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][input_slot]["link"] == link_id
    for name, parameter in spec["parameters"].items():
        for node, _ in parameter.get("nodes", [[parameter.get("node"), parameter.get("input")]]):
            assert node in nodes, name
    for preset in spec["presets"].values():
        assert preset.keys() <= spec["parameters"].keys()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_workflow_has_a_thumbnail(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        assert thumbnail.format == "JPEG"
        assert thumbnail.size == (400, 400)


def test_no_picture_of_the_pocket_model_stands_for_another_one() -> None:
    shown: dict[bytes, set[bool]] = {}
    for path in WORKFLOWS:
        shown.setdefault(path.with_suffix(".jpg").read_bytes(), set()).add("pocket" in path.stem)
    assert all(len(pocket) == 1 for pocket in shown.values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_nodes_do_not_overlap(path: Path) -> None:
    nodes = json.loads(path.read_text("utf-8"))["nodes"]
    title_bar = 40
    boxes = [
        (n["pos"][0], n["pos"][1] - title_bar, n["pos"][0] + n["size"][0], n["pos"][1] + n["size"][1]) for n in nodes
    ]
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes[:i]):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{nodes[i]['type']} lies over {nodes[j]['type']}"


def test_nothing_names_a_registry_or_a_machine() -> None:
    forbidden = re.compile("index" + "-url|find" + "-links|extra-" + "index|pypi" + r"\.org|download\.py" + "torch")
    for file in [ROOT / name for name in ("pyproject.toml", "requirements.txt", "install.py", ".ci/run")]:
        assert not forbidden.search(file.read_text("utf-8")), file
