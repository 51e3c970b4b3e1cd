"""Prior and decoder from single files on the lite host: the pictures of the folders they were cut from."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.hosts import RunningHost
from tests.support.single_files import cut_files, draw_the_same, from_files, run


def test_single_files(lite_host: RunningHost, tmp_path: Path) -> None:
    models = lite_host.base / "models"
    with cut_files(models):
        draw_the_same(lite_host.url, tmp_path)

        # It has no tokenizer of its own: one may lie beside the text encoder.
        tokenizer = models / "kandinsky" / "cut-22-prior" / "tokenizer"
        beside = models / "text_encoders" / "cut-22-prior-text-encoder"
        shutil.move(tokenizer, beside)
        shutil.rmtree(models / "kandinsky" / "cut-21-prior" / "tokenizer")
        done = run(lite_host.url, tmp_path, from_files("beside", "22", dtype="bf16"))
        assert done.returncode == 0, done.stderr
        shutil.rmtree(beside)
        done = run(lite_host.url, tmp_path, from_files("lost", "22", dtype="fp16"))
        assert done.returncode == 1
        assert "expected the CLIP tokenizer with 56 tokens, got " in done.stderr
        assert "to a folder cut-22-prior-text-encoder beside that file" in done.stderr
