"""Flux Guidance: a schedule, its pieces, and what becomes of a conditioning."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest
import torch

from nodes.flux import KandifluxFluxGuidance
from nodes.flux_guidance import ADVICE, SCHEDULES, Piece, Schedule, advise, apply

LINEAR = Schedule("linear", 5.0, 1.0, steps=5)


def active(entries: list[Any], percent: float) -> list[float]:
    """The guidance of what ComfyUI would run at `percent`: both ends of a range are within it."""
    return [
        keys["guidance"]
        for _, keys in entries
        if keys.get("start_percent", 0.0) <= percent <= keys.get("end_percent", 1.0)
    ]


def entry(**keys: Any) -> list[Any]:
    return [torch.ones(1, 2, 3), keys]


# The schedule


def test_a_ramp_begins_with_the_first_step_and_arrives_with_the_last() -> None:
    assert [LINEAR.at(i / 5) for i in range(5)] == pytest.approx([5.0, 4.0, 3.0, 2.0, 1.0])


def test_a_ramp_of_one_step_is_its_beginning() -> None:
    assert Schedule("linear", 5.0, 1.0, steps=1).pieces() == [Piece(0.0, 1.0, 5.0)]


def test_cosine_is_slow_at_both_ends() -> None:
    linear = [Schedule("linear", 4.0, 2.0, steps=11).at(i / 11) for i in range(11)]
    cosine = [Schedule("cosine", 4.0, 2.0, steps=11).at(i / 11) for i in range(11)]
    assert (cosine[0], cosine[5], cosine[10]) == pytest.approx((4.0, 3.0, 2.0))
    assert all(c > li for c, li in zip(cosine[1:5], linear[1:5], strict=True))
    assert all(c < li for c, li in zip(cosine[6:10], linear[6:10], strict=True))


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_ramp_in_part_of_the_run_is_held_before_and_after(kind: str) -> None:
    values = [Schedule(kind, 5.0, 1.0, 0.2, 0.6, steps=10).at(i / 10) for i in range(10)]
    assert values[:3] == [5.0, 5.0, 5.0]
    assert values[4] == pytest.approx(3.0)
    assert values[6:] == [1.0, 1.0, 1.0, 1.0]


def test_an_interval_takes_its_share_of_the_steps() -> None:
    values = [Schedule("interval", 4.0, 1.0, 0.2, 0.6, steps=10).at(i / 10) for i in range(10)]
    assert values == [1.0, 1.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0]


def test_an_interval_to_the_end_includes_the_end() -> None:
    assert Schedule("interval", 4.0, 1.0, 0.5, 1.0, steps=4).at(1.0) == 4.0


def test_an_interval_does_not_stumble_over_what_a_widget_adds_up() -> None:
    schedule = Schedule("interval", 4.0, 1.0, sum([0.01] * 35), 0.7, steps=20)
    assert schedule.start_percent > 7 / 20
    assert schedule.at(7 / 20) == 4.0


# Its pieces


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50])
def test_pieces_fill_the_run_and_each_step_is_in_one(kind: str, steps: int) -> None:
    schedule = Schedule(kind, 4.0, 1.5, 0.1, 0.8, steps)
    pieces = schedule.pieces()
    assert pieces[0].start == 0.0
    assert pieces[-1].end == 1.0
    assert [piece.end for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]
    assert all(a.guidance != b.guidance for a, b in itertools.pairwise(pieces))
    for i in range(steps):
        assert [p.guidance for p in pieces if p.start <= i / steps <= p.end] == [schedule.at(i / steps)]


def test_equal_neighbours_are_one_piece() -> None:
    assert Schedule("interval", 4.0, 1.0, 0.25, 0.75, steps=8).pieces() == [
        Piece(0.0, 1.5 / 8, 1.0),
        Piece(1.5 / 8, 5.5 / 8, 4.0),
        Piece(5.5 / 8, 1.0, 1.0),
    ]


# A conditioning under it


def test_constant_is_what_comfyui_s_own_node_gives() -> None:
    text, keys = entry(pooled_output=torch.ones(1, 4), guidance=9.0)
    ((same, set_keys),) = apply([[text, keys]], Schedule("constant", 3.5))
    assert same is text
    assert set_keys == {**keys, "guidance": 3.5}
    assert keys["guidance"] == 9.0, "the input was changed"


def test_every_entry_gets_every_piece_and_keeps_what_it_has() -> None:
    pooled = torch.ones(1, 4)
    result = apply([entry(pooled_output=pooled, area=(1, 2, 3, 4)), entry(strength=0.5)], LINEAR)
    assert len(result) == 10
    assert all(keys["pooled_output"] is pooled and keys["area"] == (1, 2, 3, 4) for _, keys in result[:5])
    assert all(keys["strength"] == 0.5 for _, keys in result[5:])
    for i in range(5):
        assert active(result, i / 5) == pytest.approx([5.0 - i, 5.0 - i])


def test_the_ends_of_the_run_are_open() -> None:
    result = apply([entry()], LINEAR)
    assert "start_percent" not in result[0][1]
    assert "end_percent" not in result[-1][1]


def test_an_entry_s_own_range_is_cut_not_widened() -> None:
    result = apply([entry(start_percent=0.25, end_percent=0.55)], LINEAR)
    assert [(k["start_percent"], k["end_percent"]) for _, k in result] == [(0.25, 0.3), (0.3, 0.5), (0.5, 0.55)]
    assert [k["guidance"] for _, k in result] == pytest.approx([4.0, 3.0, 2.0])


def test_two_prompts_that_take_turns_still_do() -> None:
    result = apply([entry(end_percent=0.45, word="a"), entry(start_percent=0.45, word="b")], LINEAR)
    words = [[keys["word"] for text, keys in result if active([[text, keys]], i / 5)] for i in range(5)]
    assert words == [["a"], ["a"], ["a"], ["b"], ["b"]]
    assert [active(result, i / 5)[0] for i in range(5)] == pytest.approx([5.0, 4.0, 3.0, 2.0, 1.0])


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (0.3, 0.3), (0.45, 0.45), (1.0, 1.0), (0.8, 0.2)])
def test_a_range_that_is_a_point_or_empty_stays_so(start: float, end: float) -> None:
    ((_, keys),) = apply([entry(start_percent=start, end_percent=end)], LINEAR)
    assert (keys["start_percent"], keys["end_percent"]) == (start, end)
    assert keys["guidance"] == pytest.approx(LINEAR.at(start))


def test_no_point_of_the_run_is_without_guidance() -> None:
    result = apply([entry()], Schedule("cosine", 4.0, 1.5, 0.1, 0.8, 20))
    assert all(active(result, i / 1000) for i in range(1001))


# What is wrong, and what is odd


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "sine"}, "constant, linear, cosine, interval, got 'sine'"),
        ({"steps": 0}, "1 step or more, got 0"),
        ({"start_percent": 0.5, "end_percent": 0.5}, "less than end_percent, both from 0 to 1, got 0.5 and 0.5"),
        ({"start_percent": -0.5}, "got -0.5 and 1"),
    ],
)
def test_a_schedule_that_makes_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**{"kind": "linear", "guidance": 3.5, **wrong})


def test_constant_does_not_mind_the_widgets_it_does_not_use() -> None:
    assert Schedule("constant", 3.5, start_percent=0.9, end_percent=0.1).pieces() == [Piece(0.0, 1.0, 3.5)]


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
    return KandifluxFluxGuidance().run(
        [entry()], **{**inputs, "start_percent": 0.0, "end_percent": 1.0, "steps": 4, **changes}
    )


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
