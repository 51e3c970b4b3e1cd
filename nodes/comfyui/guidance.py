"""Guidance that follows a schedule while FLUX is sampled.

ComfyUI asks the control of a CONDITIONING entry before each run of the network, and hands it what the network is about
to be given: so an entry's control can set the guidance of the step. (Hooks could as well, but ComfyUI loads a model a
second time, without its dynamic memory management, for a conditioning that has any.)
"""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import torch
from torch import Tensor

from ..flux_guidance import Conditioning, Schedule

BISECTIONS = 30


class ScheduledGuidance(comfy.controlnet.ControlBase):
    """A control that adds nothing, and sets the guidance of each step."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self._sampling: Any = None

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._sampling = model.model_sampling

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: Any, batched_number: Any, transformer_options: Any) -> Any:
        before = self.previous_controlnet
        control = None
        if before is not None:
            control = before.get_control(x_noisy, t, cond, batched_number, transformer_options)
        if "guidance" in cond:  # schnell and other models take none
            sigmas = transformer_options.get("sample_sigmas", ())
            # A part of a run that another part follows does not arrive at the ramp's end.
            ends = len(sigmas) > 1 and float(sigmas[-1]) == 0
            last = percent_of(self._sampling, float(sigmas[-2])) if ends else 1.0
            value = self.schedule.at(percent_of(self._sampling, float(t.flatten()[0])), last)
            cond["guidance"] = torch.full_like(cond["guidance"], value)
        return control

    def copy(self) -> ScheduledGuidance:
        copied = ScheduledGuidance(self.schedule)
        self.copy_to(copied)
        return copied


def with_schedule(conditioning: Conditioning, schedule: Schedule | None) -> Conditioning:
    """`conditioning` whose guidance is that of `schedule` at each step of whatever sampler runs, and not of an earlier
    one; None: of no schedule."""
    made: Conditioning = []
    controls: dict[int, ScheduledGuidance] = {}
    for tensor, keys in conditioning:
        control = keys.get("control")
        if isinstance(control, ScheduledGuidance):
            control = control.previous_controlnet
        if schedule is not None:
            scheduled = controls.setdefault(id(control), ScheduledGuidance(schedule))
            scheduled.set_previous_controlnet(control)
            control = scheduled
        rest = {key: value for key, value in keys.items() if key != "control"}
        made.append([tensor, rest if control is None else {**rest, "control": control}])
    return made


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
