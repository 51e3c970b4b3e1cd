"""docs/workflows.md is about the workflows there are, with their files and presets."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.placeholders import FLUX_AND_SD15, ROOT, WORKFLOWS, models_of

PAGE = (ROOT / "docs" / "workflows.md").read_text("utf-8")
ADDRESS = "https://github.com/kandiflux/kandiflux/blob/main/docs/workflows.md"
ROWS = {row.split("`")[1]: row for row in re.findall(r"^\| `\w+` \|.*$", PAGE, re.M)}
FLUX_TEXT = {"clip_l.safetensors", "t5xxl_fp16.safetensors", "ae.safetensors"}
"""What the page calls F."""


def test_it_has_all_of_them() -> None:
    assert sorted(ROWS) == sorted(WORKFLOWS)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_their_notes_link_to_their_section(name: str) -> None:
    (note,) = (
        node for node in json.loads(WORKFLOWS[name].read_text("utf-8"))["nodes"] if node["type"] == "MarkdownNote"
    )
    anchor = re.search(rf"\]\({re.escape(ADDRESS)}#([\w-]+)\)$", note["widgets_values"][0])
    assert anchor, "the note does not end with a link to docs/workflows.md"
    sections = {
        re.sub(r"[^\w -]", "", part.split("\n")[0].lower()).replace(" ", "-"): part for part in PAGE.split("\n## ")
    }
    assert ROWS[name] in sections[anchor[1]]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_has_their_presets(name: str) -> None:
    presets = json.loads(WORKFLOWS[name].read_text("utf-8"))["extra"]["kandiflux"]["presets"]
    assert ROWS[name].rstrip(" |").rpartition("| ")[2] == (", ".join(presets) or "–")


@pytest.mark.parametrize("name", FLUX_AND_SD15)
def test_it_has_their_files_and_where_these_come_from(name: str) -> None:
    models = models_of(json.loads(WORKFLOWS[name].read_text("utf-8")))
    assert models
    said = set(re.findall(r"`([\w.-]+\.safetensors)`", ROWS[name])) | (FLUX_TEXT if "| F, " in ROWS[name] else set())
    assert said == {model["name"] for model in models}
    for model in models:
        (row,) = re.findall(rf"^\| `{re.escape(model['name'])}` \|.*$", PAGE, re.M)
        assert f"`{model['directory']}`" in row
        source = re.match(r"https://huggingface\.co/(.+)/resolve/main/", model["url"])
        assert (source.group(1) if source else "civitai.com") in row
        assert row.endswith(f"| {'yes' if 'hash' in model else 'no'} |")


def test_one_file_is_said_to_be_the_same_everywhere() -> None:
    """Another URL or hash for the same name would be a slip of the pen."""
    seen: dict[str, dict[str, str]] = {}
    for name in FLUX_AND_SD15:
        for model in models_of(json.loads(WORKFLOWS[name].read_text("utf-8"))):
            assert seen.setdefault(model["name"], model) == model
            assert len(model.get("hash", "0" * 64)) == 64
            assert model.get("hash_type", "SHA256") == "SHA256"
