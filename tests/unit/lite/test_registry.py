"""Node classes: loaded from packs by path, described as ComfyUI does, missing ones named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kandiflux.lite.registry import Registry, input_info, is_output

Json = dict[str, Any]


class Small:
    RETURN_TYPES = ("INT", "MASK")

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {
            "required": {"b": ("INT",), "a": ("INT", {"min": 1})},
            "optional": {"c": ("X", {})},
            "hidden": {"h": "PROMPT"},
        }


class Full(Small):
    RETURN_NAMES, OUTPUT_IS_LIST, OUTPUT_TOOLTIPS = ("n", "m"), (True, False), ("a number", "a mask")
    DESCRIPTION, CATEGORY, RELATIVE_PYTHON_MODULE = "Does it.", "testing", "custom_nodes.x"
    OUTPUT_NODE = DEPRECATED = EXPERIMENTAL = True
    API_NODE = False


class Failing(Small):
    @classmethod
    def INPUT_TYPES(cls) -> Json:
        raise RuntimeError("no inputs today")


@pytest.fixture
def registry() -> Registry:
    return Registry({"Small": Small, "Full": Full}, {"Full": "The full one"})


def test_descriptions(registry: Registry) -> None:
    inputs = {"input": Small.INPUT_TYPES(), "input_order": {"required": ["b", "a"], "optional": ["c"], "hidden": ["h"]}}
    small, full = registry.object_info()["Small"], registry.object_info()["Full"]
    expected: Json = {
        **inputs,
        "output": ("INT", "MASK"),
        "output_is_list": [False, False],
        "output_name": ("INT", "MASK"),
        "name": "Small",
        "display_name": "Small",
        "description": "",
        "python_module": "nodes",
        "category": "sd",
        "output_node": False,
    }
    assert {name: small[name] for name in expected} == expected
    assert not {"deprecated", "experimental", "api_node", "output_tooltips"} & small.keys()
    expected |= {
        "output_is_list": (True, False),
        "output_name": ("n", "m"),
        "output_tooltips": ("a number", "a mask"),
        "name": "Full",
        "display_name": "The full one",
        "description": "Does it.",
        "python_module": "custom_nodes.x",
        "category": "testing",
        "output_node": True,
        "deprecated": True,
        "experimental": True,
        "api_node": False,
    }
    assert {name: full[name] for name in expected} == expected


def test_what_cannot_be_described_is_left_out(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    registry.classes["Failing"] = Failing
    assert list(registry.object_info()) == ["Small", "Full"]
    assert "Cannot describe the node Failing: no inputs today" in caplog.text
    assert list(registry.object_info(["Full", "Unknown", "Failing"])) == ["Full"]


def test_missing_classes(registry: Registry) -> None:
    names = ["Small", "B", "A", "B", 5, None]
    prompt: Json = {str(number): {"class_type": name} for number, name in enumerate(names)}
    assert registry.missing({**prompt, "x": 5, "y": {}}) == ["B", "A"]


def test_outputs_and_inputs() -> None:
    class Truthy(Small):
        OUTPUT_NODE = 1

    assert [is_output(kind) for kind in (Small, Full, Truthy)] == [False, True, False]
    assert input_info(Small, "b") == ("INT", "required", {})
    assert input_info(Small, "a") == ("INT", "required", {"min": 1})
    assert input_info(Small, "c") == ("X", "optional", {})
    assert input_info(Small, "h") is not None
    assert input_info(Small, "none") is None
    assert input_info(Small, "z", {"hidden": {"z": ("P",)}}) == ("P", "hidden", {})
    both = {"required": {"z": ("R",)}, "optional": {"z": ("O",)}}
    assert input_info(Small, "z", both) == ("R", "required", {})


PACK = """
class {name}:
    RETURN_TYPES = ()
    @classmethod
    def INPUT_TYPES(cls):
        return {{}}
class Small({name}):
    pass
NODE_CLASS_MAPPINGS = {{"{name}": {name}, "Small": Small}}
NODE_DISPLAY_NAME_MAPPINGS = {{"{name}": "shown"}}
WEB_DIRECTORY = "./web"
"""


def test_a_pack_is_a_folder_or_a_file(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "pack.one"
    (folder / "web").mkdir(parents=True)
    (folder / "__init__.py").write_text("from .inner import *\nfrom .inner import WEB_DIRECTORY\n")
    (folder / "inner.py").write_text(PACK.format(name="One"))
    file = tmp_path / "two.py"
    file.write_text(PACK.format(name="Two").replace("./web", "./none"))
    assert registry.load_pack(folder)
    assert registry.load_pack(file)
    info = registry.object_info(["One", "Two"])
    assert [(one["python_module"], one["display_name"]) for one in info.values()] == [
        ("custom_nodes.pack.one", "shown"),
        ("custom_nodes.two", "shown"),
    ]
    assert registry.classes["Small"] is Small, "a pack does not replace the host's own nodes"
    assert not hasattr(Small, "RELATIVE_PYTHON_MODULE")
    assert registry.web_folders == {"pack.one": folder.resolve() / "web"}


@pytest.mark.parametrize(
    ("source", "why"),
    [("raise RuntimeError('broken')", "Cannot import the node pack"), ("x = 1", "has no NODE_CLASS_MAPPINGS")],
)
def test_a_pack_that_cannot_be_used_is_left_out(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str, why: str
) -> None:
    (tmp_path / "pack.py").write_text(source)
    assert not registry.load_pack(tmp_path / "pack.py")
    assert why in caplog.text
    assert not registry.load_pack(tmp_path / "not there")
    (tmp_path / "pack.txt").write_text("NODE_CLASS_MAPPINGS = {}")
    assert not registry.load_pack(tmp_path / "pack.txt")
    assert "pack.txt is not a Python file" in caplog.text
    assert list(registry.classes) == ["Small", "Full"]


def test_a_pack_without_titles(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "pack.py").write_text("NODE_CLASS_MAPPINGS = {}\nNODE_DISPLAY_NAME_MAPPINGS = None\n")
    assert registry.load_pack(tmp_path / "pack.py")
    assert registry.web_folders == {}
