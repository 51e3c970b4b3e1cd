"""Guidance that follows a schedule while FLUX is sampled, as a hook that ComfyUI's CONDITIONING carries."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..flux_guidance import Conditioning, Schedule

BISECTIONS = 30


def with_schedule(conditioning: Conditioning, schedule: Schedule) -> Conditioning:
    """`conditioning` whose guidance is that of `schedule` at each step of whatever sampler runs."""

    def at_this_step(
        executor: Any, x: Tensor, sigma: Tensor, concat: Any, crossattn: Any, control: Any, options: Any, **given: Any
    ) -> Tensor:
        if "guidance" in given:  # schnell and other models take none
            sampling = executor.class_obj.model_sampling
            now, last = float(sigma.flatten()[0]), float(options["sample_sigmas"][-2])
            value = schedule.at(percent_of(sampling, now), percent_of(sampling, last))
            given["guidance"] = torch.full_like(given["guidance"], value)
        return executor(x, sigma, concat, crossattn, control, options, **given)

    hook = comfy.hooks.TransformerOptionsHook(
        {"wrappers": {WrappersMP.APPLY_MODEL: {"kandiflux_guidance": [at_this_step]}}},
        hook_scope=comfy.hooks.EnumHookScope.HookedOnly,
    )
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    return comfy.hooks.set_hooks_for_conditioning(conditioning, hooks)


def percent_of(sampling: Any, sigma: float) -> float:
    """The percent, 0 all noise and 1 none, at which `sampling` is at `sigma`: the inverse of its percent_to_sigma."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if float(sampling.percent_to_sigma(middle)) > sigma:
            low = middle
        else:
            high = middle
    return high
