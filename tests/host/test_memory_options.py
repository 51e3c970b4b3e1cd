"""ComfyUI's options for small weights: it starts with them and draws what it should. (--lowvram and --novram it refuses
on a CPU; test_native_equals_reference.py streams weights instead.)"""

from __future__ import annotations

from pathlib import Path

import pytest
from pocket.captions import canonical
from pocket.judge import judge
from pocket.subjects import Triple

from tests.support.hosts import running_comfyui, why_no_comfyui
from tests.support.pocket_runs import Runner

WANTED = Triple("circle", "red", "white")


@pytest.mark.parametrize("option", ["--fp8_e4m3fn-unet", "--force-channels-last"])
def test_draws(tmp_path: Path, option: str) -> None:
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    with running_comfyui(tmp_path / "comfyui", option) as host:
        (picture,) = Runner(host.url, tmp_path).run(
            "kandinsky22_pocket_ksampler", prompt=canonical(*WANTED, "en"), seed=5
        )
    verdict = judge(picture)
    assert verdict.right(WANTED), verdict
