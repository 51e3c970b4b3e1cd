"""The schedules' edges, and the configs that are refused; the steps themselves are compared with the reference's in
tests/parity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nodes.models.unet3 import UNet3Config
from nodes.sampling.kandinsky3 import (
    Text3,
    blank_out,
    original_timesteps,
    scheduler_for,
    with_thresholding,
)
from nodes.sampling.prior import TextStates
from nodes.sampling.schedulers import (
    DecoderScheduler,
    UnCLIPScheduler,
    add_noise,
    cosine_betas,
    dynamic_threshold,
    linear_betas,
)


def test_betas_go_evenly_or_by_a_cosine_up_to_a_limit() -> None:
    even = linear_betas(0.1, 0.9)
    assert even.dtype == torch.float32
    torch.testing.assert_close(even[[0, 999]], torch.tensor([0.1, 0.9]))
    torch.testing.assert_close(even[500], torch.tensor(0.1 + 0.8 * 500 / 999))
    cosine = cosine_betas()
    # 1 − cos²((t + 0.008) / 1.008 · π/2) at t = 1/1000, over that at 0.
    torch.testing.assert_close(cosine[0], torch.tensor(4.1283e-05), rtol=1e-3, atol=0)
    assert cosine[-1] == cosine.max() == torch.tensor(0.999)
    assert cosine_betas(0.5).max() == 0.5


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_the_schedules_have_1000_steps(steps: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to 1000 steps, got {steps}: 30 to 100"):
        DecoderScheduler().timesteps(steps)
    with pytest.raises(ValueError, match=f"expected 2 to 1000 steps, got {steps}: 25"):
        UnCLIPScheduler().timesteps(steps)


def test_timesteps_at_the_ends() -> None:
    assert UnCLIPScheduler().timesteps(2) == [999, 0]
    assert UnCLIPScheduler().timesteps(1000) == list(range(999, -1, -1))
    assert DecoderScheduler().timesteps(1) == [1]
    assert DecoderScheduler(steps_offset=0).timesteps(3) == [666, 333, 0]
    # The offset would reach past the end.
    assert DecoderScheduler().timesteps(1000)[:3] == [999, 999, 998]
    assert DecoderScheduler().timesteps(1000)[-1] == 1


@pytest.mark.parametrize(("steps", "first", "count"), [(1, [999], 1), (2, [999, 499], 2), (3, [999, 665, 331], 3)])
def test_timesteps_of_the_original_kandinsky_3(steps: int, first: list[int], count: int) -> None:
    assert original_timesteps(steps)[:3] == first
    assert len(original_timesteps(steps)) == count
    assert original_timesteps(999)[-1] == 1
    for wrong in (0, 1000):
        with pytest.raises(ValueError, match=f"expected 1 to 999 steps, got {wrong}"):
            original_timesteps(wrong)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "PNDMScheduler"}, "expected DDPMScheduler or DDIMScheduler, got PNDMScheduler"),
        ({"beta_schedule": "scaled_linear"}, "Expected beta_schedule linear or squaredcos_cap_v2, got 'scaled_linear'"),
        ({"variance_type": "fixed_large"}, "Expected variance_type fixed_small or learned_range, got 'fixed_large'"),
        ({"prediction_type": "v_prediction"}, "expected prediction_type = 'epsilon'"),
        ({"timestep_spacing": "trailing"}, "expected timestep_spacing = 'leading'"),
        ({"num_train_timesteps": 999}, "expected num_train_timesteps = 1000, got 999"),
        ({"rescale_betas_zero_snr": True}, "expected rescale_betas_zero_snr = False"),
        ({"trained_betas": [0.1]}, "expected trained_betas = None"),
    ],
)
def test_schedules_that_are_not_known_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderScheduler.from_json(values)


def test_what_a_decoder_s_config_leaves_out_is_as_in_the_reference() -> None:
    assert DecoderScheduler.from_json({}) == DecoderScheduler(
        "DDPM", 0.0001, 0.02, steps_offset=0, set_alpha_to_one=True
    )
    made = DecoderScheduler.from_json({"_class_name": "DDIMScheduler", "variance_type": "learned_range"})
    assert (made.kind, made.variance_type) == ("DDIM", "learned_range")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_train_timesteps", 999),
        ("variance_type", "fixed_small"),
        ("clip_sample", False),
        ("prediction_type", "epsilon"),
        ("beta_schedule", "linear"),
    ],
)
def test_a_prior_s_config_is_of_one_kind(key: str, value: object) -> None:
    assert UnCLIPScheduler.from_json({"prediction_type": "sample"}).clip_sample_range == 1.0
    with pytest.raises(ValueError, match=f"expected {key} = "):
        UnCLIPScheduler.from_json({"prediction_type": "sample", key: value})


def test_x0_is_kept_in_its_range() -> None:
    x0 = torch.tensor([[-4.0, -0.5, 0.5, 2.0]])
    assert DecoderScheduler(clip_sample_range=2.0).clip_x0(x0).tolist() == [[-2, -0.5, 0.5, 2]]
    assert DecoderScheduler(clip_sample=False).clip_x0(x0) is x0
    strict = DecoderScheduler(thresholding=True, dynamic_thresholding_ratio=1.0, sample_max_value=2.0)
    assert strict.clip_x0(x0).tolist() == [[-1, -0.25, 0.25, 1]]
    # Each of a batch by its own limit, which is 1 at least.
    both = torch.tensor([[-4.0, 2.0], [0.5, 0.25]])[:, :, None, None]
    assert dynamic_threshold(both, 1.0, 10.0).flatten(1).tolist() == [[-1, 0.5], [0.5, 0.25]]


def test_noise_at_one_timestep_or_at_one_for_each_row() -> None:
    alphas_cumprod = torch.tensor([0.64, 0.36])
    x0, noise = torch.ones(2, 1, 1, 1), 10 * torch.ones(2, 1, 1, 1)
    torch.testing.assert_close(add_noise(alphas_cumprod, x0, noise, 0), torch.full((2, 1, 1, 1), 6.8))
    at_each = add_noise(alphas_cumprod, x0, noise, torch.tensor([0, 1]))
    torch.testing.assert_close(at_each.flatten(), torch.tensor([6.8, 8.6]))
    assert add_noise(alphas_cumprod, x0.half(), noise.half(), 1).dtype == torch.float16
    torch.testing.assert_close(
        UnCLIPScheduler().add_noise(x0, 0 * x0, 999), UnCLIPScheduler().alphas_cumprod[999].sqrt() * x0
    )


def test_the_last_step_is_the_mean_and_ddim_ends_where_its_config_says() -> None:
    x, eps = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    clean = DecoderScheduler("DDIM", clip_sample=False, set_alpha_to_one=True)
    x1, x0 = clean.step(eps, 1, -1, x, None)
    torch.testing.assert_close(x1, x0)
    noisy = replace(clean, set_alpha_to_one=False)
    torch.testing.assert_close(noisy.step(eps, 1, -1, x, None)[0], noisy.step(eps, 1, 0, x, None)[0])
    assert not torch.equal(noisy.step(eps, 1, -1, x, None)[0], x1)
    ddpm = replace(clean, kind="DDPM")
    torch.testing.assert_close(ddpm.step(eps, 1, -1, x, None)[0], x0)
    # float32 is coarse where so little noise is left.
    ended = UnCLIPScheduler(2.0).step(torch.full_like(x, 5.0), 0, -1, x, None)
    torch.testing.assert_close(ended, torch.full_like(x, 2.0), rtol=1e-3, atol=0)


def test_the_network_s_variance_counts_where_the_schedule_learned_it() -> None:
    x, eps, noise = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    fixed = DecoderScheduler()
    learned = replace(fixed, variance_type="learned_range")
    plain = fixed.step(eps, 500, 480, x, noise)[0]
    assert torch.equal(plain, fixed.step(eps, 500, 480, x, noise, noise)[0])
    assert torch.equal(plain, learned.step(eps, 500, 480, x, noise)[0])
    # −1 is the least variance, the posterior's; 1 the step's own beta, which is more.
    torch.testing.assert_close(learned.step(eps, 500, 480, x, noise, -noise)[0], plain)
    mean = fixed.step(eps, 500, 480, x, None)[0]
    most = learned.step(eps, 500, 480, x, noise, noise)[0] - mean
    torch.testing.assert_close(
        most, (1 - fixed.alphas_cumprod[500] / fixed.alphas_cumprod[480]).sqrt().expand_as(x), rtol=1e-4, atol=1e-5
    )
    assert (most > plain - mean).all()


def test_kandinsky_3_s_variants_keep_x0_in_their_own_ways() -> None:
    given = DecoderScheduler()
    assert scheduler_for(UNet3Config(), given) is given
    flash = scheduler_for(UNet3Config(variant="flash"), replace(given, thresholding=True))
    assert (flash.clip_sample, flash.thresholding) == (False, False)
    inpaint = scheduler_for(UNet3Config(in_channels=9), given)
    assert inpaint == with_thresholding(given, 0.95)
    assert (inpaint.thresholding, inpaint.dynamic_thresholding_ratio, inpaint.sample_max_value) == (
        True,
        0.95,
        float("inf"),
    )


def test_texts_are_made_as_many_and_as_long_as_they_are_needed() -> None:
    states, mask = torch.arange(12.0).reshape(2, 3, 2), torch.tensor([[1, 1, 0], [1, 1, 1]])
    text = Text3(states, mask)
    assert torch.equal(text.repeat(2).states, states[[0, 0, 1, 1]])
    assert torch.equal(text.repeat(2).mask, mask[[0, 0, 1, 1]])
    one = Text3(states[:1], mask[:1])
    assert torch.equal(one.rows(3).states, states[[0, 0, 0]])
    assert torch.equal(one.rows(3).mask, mask[[0, 0, 0]])
    with pytest.raises(ValueError, match="Expected 1 or 3 texts, got 2"):
        text.rows(3)
    for tokens in (1, 3, 5):
        other = Text3(torch.zeros(1, tokens, 2), torch.ones(1, tokens))
        fitted = text.match_token_length(other)
        kept = min(tokens, 3)
        assert fitted.states.shape == (2, tokens, 2)
        assert torch.equal(fitted.states[:, :kept], states[:, :kept])
        assert torch.equal(fitted.mask[:, :kept], mask[:, :kept])
        assert not fitted.mask[:, kept:].any()
    nothing = Text3.no_text(text)
    assert (nothing.states.any(), nothing.mask.any()) == (False, False)
    for wrong in (states[0], states[:, :2], states[:1]):
        with pytest.raises(ValueError, match="Expected text states"):
            Text3(wrong, mask)


def test_rows_of_encoded_prompts() -> None:
    embeds, states, mask = torch.rand(3, 2), torch.rand(3, 4, 5), torch.rand(3, 4)
    text = TextStates(embeds, states, mask)
    second = text.row(1)
    assert (len(text), len(second)) == (3, 1)
    for all_, one in zip((embeds, states, mask), (second.embeds, second.states, second.mask), strict=True):
        assert torch.equal(one, all_[1:2])
    assert torch.equal(second.rows(2).states, states[[1, 1]])
    both = TextStates.cat(second, text)
    assert torch.equal(both.embeds, embeds[[1, 0, 1, 2]])
    assert torch.equal(both.mask, mask[[1, 0, 1, 2]])


def test_what_is_repainted_is_blanked() -> None:
    pixels, repaint = torch.ones(1, 3, 1, 3), torch.tensor([0.0, 0.01, 1.0]).reshape(1, 1, 1, 3)
    assert blank_out(pixels, repaint)[0, 0, 0].tolist() == [1, 0, 0]


def test_a_prior_s_step_is_the_posterior_and_its_noise() -> None:
    scheduler = UnCLIPScheduler(10.0)
    x, x0, noise = torch.randn(2, 3), torch.randn(2, 3), torch.ones(2, 3)
    # A beta worked out from two products of betas is not to the last digit the beta itself.
    for t, prev_timestep in ((999, 959), (500, 499), (41, 0)):
        alpha_prod, alpha_prod_prev = scheduler.alphas_cumprod[t], scheduler.alphas_cumprod[prev_timestep]
        alpha = alpha_prod / alpha_prod_prev
        mean = (
            alpha_prod_prev.sqrt() * (1 - alpha) / (1 - alpha_prod) * x0
            + alpha.sqrt() * (1 - alpha_prod_prev) / (1 - alpha_prod) * x
        )
        spread = ((1 - alpha_prod_prev) / (1 - alpha_prod) * (1 - alpha)).sqrt()
        torch.testing.assert_close(scheduler.step(x0, t, prev_timestep, x, None), mean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(scheduler.step(x0, t, prev_timestep, x, noise), mean + spread, rtol=1e-3, atol=1e-3)
