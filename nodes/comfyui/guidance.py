"""Guidance of FLUX that changes during sampling.

ComfyUI calls the control (ControlNet) of each CONDITIONING entry before each run of the network, with the network's
inputs. So a control can set the guidance of the step. (Hooks could do this too, but for conditioning with hooks ComfyUI
loads the model a second time, without dynamic memory management.)
"""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import torch
from torch import Tensor

from ..flux_guidance import Conditioning, Schedule

BISECTIONS = 30


class ScheduledGuidance(comfy.controlnet.ControlBase):
    """A control that adds nothing to the network, and sets the guidance of each step."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self._sampling: Any = None

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._sampling = model.model_sampling

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: Any, batched_number: Any, transformer_options: Any) -> Any:
        previous = self.previous_controlnet
        control = None
        if previous is not None:
            control = previous.get_control(x_noisy, t, cond, batched_number, transformer_options)
        if "guidance" in cond:  # schnell and other models have no guidance
            sigmas = transformer_options.get("sample_sigmas", ())
            # Only a run down to sigma 0 reaches the end of the ramp, not the first of several samplers.
            ends = len(sigmas) > 1 and float(sigmas[-1]) == 0
            last = sigma_to_percent(self._sampling, float(sigmas[-2])) if ends else 1.0
            value = self.schedule.at(sigma_to_percent(self._sampling, float(t.flatten()[0])), last)
            cond["guidance"] = torch.full_like(cond["guidance"], value)
        return control

    def copy(self) -> ScheduledGuidance:
        copied = ScheduledGuidance(self.schedule)
        self.copy_to(copied)
        return copied


def with_schedule(conditioning: Conditioning, schedule: Schedule | None) -> Conditioning:
    """Copy of `conditioning` with the guidance of `schedule` at each step, replacing an earlier schedule; None only
    removes that."""
    scheduled_conditioning: Conditioning = []
    controls: dict[int, ScheduledGuidance] = {}
    for tensor, keys in conditioning:
        control = keys.get("control")
        if isinstance(control, ScheduledGuidance):
            control = control.previous_controlnet
        if schedule is not None:
            scheduled = controls.setdefault(id(control), ScheduledGuidance(schedule))
            scheduled.set_previous_controlnet(control)
            control = scheduled
        others = {key: value for key, value in keys.items() if key != "control"}
        scheduled_conditioning.append([tensor, others if control is None else {**others, "control": control}])
    return scheduled_conditioning


def sigma_to_percent(sampling: Any, sigma: float) -> float:
    """Inverse of `sampling.percent_to_sigma`, by bisection; 0 is the start of sampling, 1 the end."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if float(sampling.percent_to_sigma(middle)) > sigma:
            low = middle
        else:
            high = middle
    return high
