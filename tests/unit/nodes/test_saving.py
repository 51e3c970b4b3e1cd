"""Saving: names, numbers, and nothing left of what failed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nodes.saving import save_new

TENSORS = {"a": torch.arange(3.0)}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("mine", "mine"),
        ("a b-c.d_e", "a b-c.d_e"),
        ("лиса", "лиса"),
        ("a:b*c", "a_b_c"),
        (" .. ", "other"),
        ("x/y", "y"),
    ],
)
def test_names_hold_what_a_file_name_can(name: str, stem: str, tmp_path: Path) -> None:
    path = save_new(tmp_path / "new" / "folder", name, "other", TENSORS, {"k": "v"})
    assert path == tmp_path / "new" / "folder" / f"{stem}_00001.safetensors"
    assert torch.equal(load_file(path)["a"], TENSORS["a"])


def test_a_number_that_is_taken_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x_00001.safetensors").write_bytes(b"old")
    (tmp_path / "x_00003.safetensors").write_bytes(b"old")
    names = [save_new(tmp_path, "x", "other", TENSORS, {}).name for _ in range(3)]
    assert names == [f"x_{number:05}.safetensors" for number in (2, 4, 5)]
    assert (tmp_path / "x_00001.safetensors").read_bytes() == b"old"


def test_nothing_is_left_of_what_could_not_be_saved(tmp_path: Path) -> None:
    shared = torch.zeros(2, 2)
    with pytest.raises(RuntimeError, match="share memory"):
        save_new(tmp_path, "x", "other", {"a": shared, "b": shared}, {})
    assert list(tmp_path.iterdir()) == []
