"""The decoder as ComfyUI's MODEL: what KSampler draws with the pocket weights, judged by content."""

from __future__ import annotations

from pathlib import Path

import pytest
from pocket.captions import canonical
from pocket.judge import judge
from pocket.subjects import Triple

from tests.hosts import RunningHost
from tests.pocket_runs import Runner

WANTED = Triple("star", "yellow", "purple")


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        ("dpmpp_2m", "karras"),
        ("ddpm", "normal"),
        ("euler", "simple"),
        ("euler_ancestral", "beta"),
        ("uni_pc", "sgm_uniform"),
        ("dpmpp_2m_sde", "exponential"),
        ("lcm", "ddim_uniform"),
    ],
)
def test_samplers(comfy_host: RunningHost, tmp_path: Path, sampler: str, scheduler: str) -> None:
    (picture,) = Runner(comfy_host.url, tmp_path).run(
        "kandinsky22_pocket_ksampler", prompt=canonical(*WANTED, "en"), sampler=sampler, scheduler=scheduler, seed=5
    )
    verdict = judge(picture)
    assert verdict.right(WANTED), verdict
