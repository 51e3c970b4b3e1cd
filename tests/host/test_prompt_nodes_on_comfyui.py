"""Prompt layers on a real ComfyUI: the same as on the lite host, and its own tokenizers count."""

from __future__ import annotations

import pytest

from tests.support.hosts import RunningHost
from tests.support.prompt_runs import graph, texts


@pytest.mark.parametrize("target", ["flux-dev", "sd15", "kandinsky-2.2"])
def test_the_same_prompts_and_exact_tokens(target: str, comfy_host: RunningHost, lite_host: RunningHost) -> None:
    here, there = texts(lite_host, graph(target)), texts(comfy_host, graph(target))
    for shown in (here, there):
        report = shown.pop("report")
        assert shown.pop("6") == report
        assert ("about" in report) is (shown is here)
    assert here == there
