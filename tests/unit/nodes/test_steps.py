"""How many steps are left of a run that begins part of the way."""

from __future__ import annotations

import pytest

from nodes.sampling.steps import steps_for_strength

TEN = list(range(90, -1, -10))


@pytest.mark.parametrize(
    ("strength", "first", "count"), [(1.0, 90, 10), (0.95, 80, 9), (0.5, 40, 5), (0.3, 20, 3), (0.1, 0, 1)]
)
def test_the_last_steps_are_run(strength: float, first: int, count: int) -> None:
    run = steps_for_strength(TEN, strength)
    assert run == TEN[-count:]
    assert run[0] == first


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01])
def test_a_strength_out_of_range(strength: float) -> None:
    with pytest.raises(ValueError, match=r"Expected a strength above 0 and up to 1"):
        steps_for_strength(TEN, strength)


def test_no_step_left_says_which_strength_leaves_one() -> None:
    with pytest.raises(ValueError, match=r"0\.09 with 10 steps leaves no step to run.*a strength of 0\.1 or more"):
        steps_for_strength(TEN, 0.09)
