"""Tiny repositories on disk, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.parity.tiny import save_decoder_folder, save_prior_folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_prior_folder(tmp_path_factory.mktemp("tiny") / "kandinsky-2-2-prior")


@pytest.fixture(scope="session")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder_folder(tmp_path_factory.mktemp("tiny") / "kandinsky-2-2-decoder")


@pytest.fixture(scope="session")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "kandinsky-2-2-controlnet-depth"
    return save_decoder_folder(folder, in_channels=8, addition_embed_type="image_hint")
