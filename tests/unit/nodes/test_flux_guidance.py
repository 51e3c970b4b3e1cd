"""Flux Guidance: a schedule, and what becomes of a conditioning. tests/host/test_flux.py has what a network sees."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from nodes.flux import KandifluxFluxGuidance
from nodes.flux_guidance import ADVICE, Schedule, advise, apply

LINEAR = Schedule("linear", 5.0, 1.0)


def entry(**keys: Any) -> list[Any]:
    return [torch.ones(1, 2, 3), keys]


# The schedule


@pytest.mark.parametrize("steps", [2, 5, 8, 50])
def test_a_ramp_begins_with_the_first_step_and_arrives_with_the_last(steps: int) -> None:
    percents = [i / steps for i in range(steps)]
    wanted = [5.0 - 4.0 * i / (steps - 1) for i in range(steps)]
    assert [LINEAR.at(percent, percents[-1]) for percent in percents] == pytest.approx(wanted)
    assert (LINEAR.at(percents[-1] + 5e-7, percents[-1]), LINEAR.at(5e-7, percents[-1])) == (1.0, 5.0)


def test_a_ramp_of_one_step_is_its_beginning() -> None:
    assert LINEAR.at(0.0, 0.0) == 5.0


def test_a_ramp_that_ends_before_the_run_does_not_wait_for_its_last_step() -> None:
    early = Schedule("linear", 5.0, 1.0, 0.0, 0.5)
    assert [early.at(percent, 0.9) for percent in (0.0, 0.25, 0.5, 0.9)] == [5.0, 3.0, 1.0, 1.0]


def test_cosine_is_slow_at_both_ends() -> None:
    linear, cosine = (
        [Schedule(kind, 4.0, 2.0).at(i / 11, 10 / 11) for i in range(11)] for kind in ("linear", "cosine")
    )
    assert (cosine[0], cosine[5], cosine[10]) == pytest.approx((4.0, 3.0, 2.0))
    assert all(c > li for c, li in zip(cosine[1:5], linear[1:5], strict=True))
    assert all(c < li for c, li in zip(cosine[6:10], linear[6:10], strict=True))


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_ramp_in_part_of_the_run_is_held_before_and_after(kind: str) -> None:
    values = [Schedule(kind, 5.0, 1.0, 0.2, 0.6).at(i / 10) for i in range(10)]
    assert values[:3] == [5.0, 5.0, 5.0]
    assert values[4] == pytest.approx(3.0)
    assert values[6:] == [1.0, 1.0, 1.0, 1.0]


def test_an_interval_takes_its_share_of_the_steps() -> None:
    values = [Schedule("interval", 4.0, 1.0, 0.2, 0.6).at(i / 10) for i in range(10)]
    assert values == [1.0, 1.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0]


def test_an_interval_to_the_end_includes_the_end() -> None:
    assert Schedule("interval", 4.0, 1.0, 0.5, 1.0).at(1.0) == 4.0


def test_an_interval_does_not_stumble_over_what_a_widget_adds_up() -> None:
    schedule = Schedule("interval", 4.0, 1.0, sum([0.01] * 35), 0.7)
    assert schedule.start_percent > 7 / 20
    assert schedule.at(7 / 20) == 4.0


# A conditioning under it


def test_constant_is_what_comfyui_s_own_node_gives() -> None:
    text, keys = entry(pooled_output=torch.ones(1, 4), guidance=9.0)
    ((same, set_keys),) = apply([[text, keys]], Schedule("constant", 3.5))
    assert same is text
    assert set_keys == {**keys, "guidance": 3.5}
    assert keys["guidance"] == 9.0, "the input was changed"


# What is wrong, and what is odd


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "sine"}, "constant, linear, cosine, interval, got 'sine'"),
        ({"start_percent": 0.5, "end_percent": 0.5}, "less than end_percent, both from 0 to 1, got 0.5 and 0.5"),
        ({"start_percent": -0.5}, "got -0.5 and 1"),
    ],
)
def test_a_schedule_that_makes_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**{"kind": "linear", "guidance": 3.5, **wrong})


def test_constant_does_not_mind_the_widgets_it_does_not_use() -> None:
    assert Schedule("constant", 3.5, start_percent=0.9, end_percent=0.1).at(0.5) == 3.5


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule("constant", 3.5, 9.0), (3.5,)),
        (Schedule("linear", 5.0, 1.0), (1.0, 5.0)),
        (Schedule("cosine", 1.0, 5.0), (1.0, 5.0)),
        (Schedule("linear", 2.0, 2.0), (2.0,)),
        (Schedule("interval", 5.0, 1.0), (5.0,)),
        (Schedule("interval", 5.0, 1.0, 0.0, 0.9), (1.0, 5.0)),
    ],
)
def test_the_values_a_run_can_see(schedule: Schedule, values: tuple[float, ...]) -> None:
    assert schedule.values == values


@pytest.mark.parametrize(
    ("model", "guidance", "said"),
    [
        ("dev", 3.5, None),
        ("dev", 2.0, None),
        ("dev", 30.0, "FLUX.1 dev is used with a guidance of 2 to 3.5; 30 is far from that."),
        ("dev", 0.0, "FLUX.1 dev is used with a guidance of 2 to 3.5; 0 is far from that."),
        ("schnell", 3.5, "FLUX.1 schnell takes no guidance: the value has no effect."),
        ("fill", 30.0, None),
        ("fill", 3.5, "FLUX.1 Fill is used with a guidance of 30; 3.5 is far from that."),
        ("canny", 30.0, None),
        ("canny", 3.5, "FLUX.1 Canny is used with a guidance of 30; 3.5 is far from that."),
        ("depth", 10.0, None),
        ("depth", 30.0, "FLUX.1 Depth is used with a guidance of 10; 30 is far from that."),
        ("kontext", 2.5, None),
        ("kontext", 7.0, "FLUX.1 Kontext is used with a guidance of 2.5; 7 is far from that."),
        ("redux", 3.5, None),
        ("redux", 10.0, "FLUX.1 dev with Redux is used with a guidance of 2 to 3.5; 10 is far from that."),
    ],
)
def test_advice(model: str, guidance: float, said: str | None) -> None:
    assert advise(model, Schedule("constant", guidance)) == said


def test_advice_counts_what_a_schedule_uses_and_nothing_else() -> None:
    assert advise("dev", Schedule("constant", 3.5, end_guidance=50.0)) is None
    said = "FLUX.1 dev is used with a guidance of 2 to 3.5; 0.5 and 9 is far from that."
    assert advise("dev", Schedule("linear", 9.0, 0.5)) == said.replace("is far", "are far")


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match=f"{', '.join(ADVICE)}, got 'sdxl'"):
        advise("sdxl", LINEAR)


# The node


def run(**changes: Any) -> dict[str, Any]:
    inputs = {"model": "dev", "schedule": "constant", "guidance": 3.5, "end_guidance": 3.5}
    return KandifluxFluxGuidance().run([entry()], **{**inputs, "start_percent": 0.0, "end_percent": 1.0, **changes})


def test_a_usual_value_is_not_remarked_upon(caplog: pytest.LogCaptureFixture) -> None:
    assert "ui" not in run()
    assert not caplog.records


def test_a_value_far_out_is_used_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        answer = run(guidance=30.0)
    (conditioning,) = answer["result"]
    assert conditioning[0][1]["guidance"] == 30.0
    assert answer["ui"]["text"] == ["FLUX.1 dev is used with a guidance of 2 to 3.5; 30 is far from that."]
    assert answer["ui"]["text"][0] in caplog.text
