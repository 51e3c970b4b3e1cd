"""Finding models by name, sizes, and one condition for every picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nodes import host
from nodes.pipelines import folders, for_every_picture, pick, require_size, tokenizer_folders


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> host.Host:
    found = host.Host()
    for name in ("first", "second"):
        found.add_model_folder("kandinsky", tmp_path / name)
    monkeypatch.setattr(host, "current", lambda: found)
    return found


def test_folders_are_found_at_most_two_levels_down(here: host.Host, tmp_path: Path) -> None:
    for name in ("first/b", "first/a", "first/x/c", "first/x/y/d", "second/a", "second/e"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "first" / "file").touch()
    found = folders(lambda folder: folder.name not in ("x", "y"))
    assert list(found) == ["a", "b", "x/c", "e"]
    assert found["a"] == tmp_path / "first" / "a"


def test_a_name_that_has_gone_is_an_error_that_lists_the_others(tmp_path: Path) -> None:
    found = {"a": tmp_path, "b": tmp_path / "b"}
    assert pick(found, "b", "prior") == tmp_path / "b"
    with pytest.raises(FileNotFoundError, match="a prior called 'c' in models/kandinsky; there are: a, b"):
        pick(found, "c", "prior")
    with pytest.raises(FileNotFoundError, match="a VAE called 'c' in models/vae; there are: none"):
        pick({}, "c", "VAE", "models/vae")


def test_a_tokenizer_is_looked_for_beside_the_file_then_in_the_host_then_in_official_folders(
    here: host.Host, tmp_path: Path
) -> None:
    official = tmp_path / "first" / "kandinsky-2-2-prior"
    (official / "tokenizer").mkdir(parents=True)
    (tmp_path / "first" / "other").mkdir()
    file = tmp_path / "text.safetensors"
    assert tokenizer_folders(file) == [tmp_path / "text", official / "tokenizer"]
    here.clip_tokenizer_folder = lambda: tmp_path / "own"
    assert tokenizer_folders(file) == [tmp_path / "text", tmp_path / "own", official / "tokenizer"]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((64, 64), ""),
        ((128, 4096), ""),
        ((0, 64), "a width that is a multiple of 64, got 0: use 64 or 128"),
        ((64, 63), "a height that is a multiple of 64, got 63: use 64 or 128"),
        ((200, 64), "a width that is a multiple of 64, got 200: use 192 or 256"),
    ],
)
def test_sizes_are_multiples_of_64(size: tuple[int, int], message: str) -> None:
    if not message:
        require_size(*size)
        return
    with pytest.raises(ValueError, match=message):
        require_size(*size)


def test_one_condition_serves_every_picture() -> None:
    one, three = torch.rand(1, 4, 2, 2), torch.rand(3, 4, 2, 2)
    assert torch.equal(for_every_picture(one, 3, "hints"), one.repeat(3, 1, 1, 1))
    assert for_every_picture(three, 3, "hints") is three or torch.equal(for_every_picture(three, 3, "hints"), three)
    for count in (1, 2, 4):
        with pytest.raises(ValueError, match=f"Expected 1 or {count} hints, as many as pictures to draw; got 3"):
            for_every_picture(three, count, "hints")
