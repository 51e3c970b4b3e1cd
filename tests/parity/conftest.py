"""Tiny repositories on disk, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.parity.tiny import GENTLE, ddpm, save_decoder21_folder, save_decoder_folder, save_prior_folder


@pytest.fixture(autouse=True)
def _the_same_everywhere() -> Iterator[None]:
    """Random tensors by one seed, and sums in one order: a random network's run multiplies rounding errors. (Networks
    this small are faster on one thread, too.)"""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_prior_folder(tmp_path_factory.mktemp("tiny") / "kandinsky-2-2-prior")


@pytest.fixture(scope="session")
def prior21_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_prior_folder(tmp_path_factory.mktemp("tiny") / "kandinsky-2-1-prior", hidden_act="quick_gelu")


@pytest.fixture(scope="session")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder_folder(tmp_path_factory.mktemp("tiny") / "kandinsky-2-2-decoder")


@pytest.fixture(scope="session")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "kandinsky-2-2-controlnet-depth"
    return save_decoder_folder(folder, in_channels=8, addition_embed_type="image_hint")


@pytest.fixture(scope="session")
def inpaint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "kandinsky-2-2-decoder-inpaint"
    return save_decoder_folder(folder, ddpm(clip_sample=False, **GENTLE), in_channels=9)


@pytest.fixture(scope="session")
def decoder21_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder21_folder(tmp_path_factory.mktemp("tiny") / "kandinsky-2-1")


@pytest.fixture(scope="session")
def inpaint21_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder21_folder(tmp_path_factory.mktemp("tiny") / "kandinsky-2-1-inpaint", in_channels=9)
