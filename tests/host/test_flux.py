"""FLUX.1 in a real ComfyUI, with small random weights: workflows draw, and our nodes reach the network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kandiflux import Client
from safetensors.torch import load_file

from nodes.conditioning import load_conditioning
from nodes.flux_guidance import Schedule
from tests.support.hosts import RunningHost
from tests.support.small_runs import WORDS, draw

WORKFLOWS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "flux_fill_inpaint": ({}, [30.0, 30.0]),
    "flux_dev": ({"guidance": 3.0, "guidance_schedule": "linear", "end_guidance": 2.0}, [3.0, 2.0]),
    "flux_redux": ({"guidance": 3.0, "steps": 1}, [3.0]),
    "flux_redux_mix": ({"guidance": 2.5, "weight_2": 0.5, "downsampling": 3}, [2.5, 2.5]),
}
"""Parameters of each, and the guidance its steps see. Fill comes first: flux1-dev is then loaded once."""

SHIFT = 1.15
WAIT = 120
Prompt = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def client(flux_host: RunningHost) -> Iterator[Client]:
    with Client(flux_host.url) as client:
        yield client


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def seen(host: RunningHost) -> list[dict[str, Any]]:
    """What the network was given since this was last asked."""
    path = host.output / "seen.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [json.loads(line) for line in lines]


def percent_of(sigma: float) -> float:
    """The percent of the run at which FLUX.1 is at `sigma`."""
    return 1 - 1 / (1 + math.exp(SHIFT) * (1 / sigma - 1))


# Shipped workflows


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_shipped_workflow_draws(flux_host: RunningHost, tmp_path: Path, name: str) -> None:
    parameters, guidance = WORKFLOWS[name]
    seen(flux_host)
    (pixels,) = draw(flux_host, tmp_path, name, **parameters)
    assert pixels.shape == (64, 64, 3)
    assert [call["guidance"] for call in seen(flux_host)] == [pytest.approx([value]) for value in guidance]


# Flux Guidance


def guided(sampler: str, scheduler: str, steps: int, **schedule: Any) -> Prompt:
    guidance = {
        "guidance": 5.0,
        "end_guidance": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        **schedule,
    }
    return {
        "model": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        "prompt": node("KandifluxLoadConditioning", file="prompt_00001.safetensors"),
        "guided": node("KandifluxFluxGuidance", conditioning=["prompt", 0], model="dev", **guidance),
        "empty": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "sampled": sampled("guided", steps, sampler, scheduler),
        "saved": node("SaveLatent", samples=["sampled", 0], filename_prefix="guided"),
    }


def sampled(positive: str, steps: int, sampler: str = "euler", scheduler: str = "simple") -> dict[str, Any]:
    return node(
        "KSampler",
        model=["model", 0],
        positive=[positive, 0],
        negative=["prompt", 0],
        latent_image=["empty", 0],
        seed=1,
        steps=steps,
        cfg=1.0,
        sampler_name=sampler,
        scheduler=scheduler,
        denoise=1.0,
    )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"schedule": "constant"}, [5.0, 5.0, 5.0, 5.0, 5.0]),
        ({"schedule": "linear"}, [5.0, 4.0, 3.0, 2.0, 1.0]),
        ({"schedule": "cosine"}, [5.0, 3 + 2**0.5, 3.0, 3 - 2**0.5, 1.0]),
        ({"schedule": "interval", "start_percent": 0.4, "end_percent": 0.8}, [1.0, 1.0, 5.0, 5.0, 1.0]),
    ],
    ids=lambda value: value["schedule"] if isinstance(value, dict) else "",
)
def test_each_step_sees_the_guidance_of_its_schedule(
    flux_host: RunningHost, client: Client, schedule: dict[str, Any], expected: list[float]
) -> None:
    seen(flux_host)
    client.submit(guided("euler", "simple", 5, **schedule)).result(WAIT)
    calls = seen(flux_host)
    assert [len(call["guidance"]) for call in calls] == [1] * 5, "one entry a step, and no mean of two"
    assert [call["guidance"][0] for call in calls] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "steps"),
    [("euler", "simple", 8), ("euler", "normal", 4), ("euler", "beta", 4), ("dpm_2", "simple", 4)],
)
def test_every_sampler_sees_the_schedule_at_its_own_sigmas_and_its_end_with_the_last_step(
    flux_host: RunningHost, client: Client, sampler: str, scheduler: str, steps: int
) -> None:
    seen(flux_host)
    client.submit(guided(sampler, scheduler, steps, schedule="linear")).result(WAIT)
    calls = seen(flux_host)
    assert len(calls) == (2 * steps - 1 if sampler == "dpm_2" else steps)
    percents = [percent_of(call["sigma"][0]) for call in calls]
    schedule = Schedule("linear", 5.0, 1.0)
    wanted = [[schedule.at(percent, max(percents))] for percent in percents]
    assert [call["guidance"] for call in calls] == [pytest.approx(value, abs=1e-4) for value in wanted]
    assert calls[-1]["guidance"] == pytest.approx([1.0])


@pytest.mark.parametrize(("second", "expected"), [("constant", [2.5] * 3), ("linear", [5.0, 3.0, 1.0])])
def test_the_last_of_two_schedules_counts(
    flux_host: RunningHost, client: Client, second: str, expected: list[float]
) -> None:
    seen(flux_host)
    prompt = guided("euler", "simple", 3, schedule="interval", end_percent=0.5)
    first = prompt["guided"]["inputs"]
    later = {"constant": {"guidance": 2.5}, "linear": {"end_percent": 1.0}}[second]
    inputs = {**first, "schedule": second, "conditioning": ["first", 0], **later}
    prompt |= {"first": prompt["guided"], "guided": node("KandifluxFluxGuidance", **inputs)}
    client.submit(prompt).result(WAIT)
    assert [call["guidance"] for call in seen(flux_host)] == [pytest.approx([value]) for value in expected]


def test_a_split_run_follows_the_whole_one(flux_host: RunningHost, client: Client) -> None:
    seen(flux_host)
    prompt = guided("euler", "simple", 4, schedule="linear")
    stages = {"add_noise": ("enable", "disable"), "start_at_step": (0, 2), "end_at_step": (2, 4),
              "return_with_leftover_noise": ("enable", "disable")}  # fmt: skip
    halves = [
        {"noise_seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
         **{key: values[half] for key, values in stages.items()}}
        for half in (0, 1)
    ]  # fmt: skip
    common = {"model": ["model", 0], "positive": ["guided", 0], "negative": ["prompt", 0]}
    prompt["half"] = node("KSamplerAdvanced", latent_image=["empty", 0], **common, **halves[0])
    prompt["sampled"] = node("KSamplerAdvanced", latent_image=["half", 0], **common, **halves[1])
    client.submit(prompt).result(WAIT)
    # Only the last part knows which step is the last, and arrives there.
    assert [call["guidance"] for call in seen(flux_host)] == [
        pytest.approx([value]) for value in (5.0, 4.0, 7 / 3, 1.0)
    ]


def test_a_range_that_an_entry_has_is_kept(flux_host: RunningHost, client: Client) -> None:
    seen(flux_host)
    prompt = guided("euler", "simple", 4, schedule="linear")
    early, late = ({"start": 0.0, "end": 0.4}, {"start": 0.4, "end": 1.0})
    for name, part in (("early", early), ("late", late)):
        prompt[name] = node("ConditioningSetTimestepRange", conditioning=["prompt", 0], **part)
    prompt["both"] = node("ConditioningCombine", conditioning_1=["early", 0], conditioning_2=["late", 0])
    prompt["guided"]["inputs"]["conditioning"] = ["both", 0]
    client.submit(prompt).result(WAIT)
    assert [call["guidance"] for call in seen(flux_host)] == [
        pytest.approx([value]) for value in (5.0, 11 / 3, 7 / 3, 1.0)
    ]


def test_a_value_far_out_is_said(client: Client) -> None:
    result = client.submit(guided("euler", "simple", 1, schedule="constant", guidance=30.0)).result(WAIT)
    assert result.texts == ("FLUX.1 dev is used with a guidance of 2 to 3.5; 30 is far from that.",)


# Redux Mix

REDUX: Prompt = {
    "model": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
    "prompt": node("KandifluxLoadConditioning", file="prompt_00001.safetensors"),
    "style": node("StyleModelLoader", style_model_name="flux1-redux-dev.safetensors"),
    "vision": node("CLIPVisionLoader", clip_name="sigclip_vision_patch14_384.safetensors"),
    "wide": node("LoadImage", image="wide.png"),
    "tall": node("LoadImage", image="tall.png"),
    "batch": node("ImageBatch", image1=["wide", 0], image2=["tall", 0]),
    "empty": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
}


def mixed(**inputs: Any) -> dict[str, Any]:
    given = {"strength": 1.0, "strength_type": "multiply", "downsampling": 1, "crop": "center", "combine": "append"}
    given |= {"conditioning": ["prompt", 0], "style_model": ["style", 0], "clip_vision": ["vision", 0], **inputs}
    return node("KandifluxReduxMix", **given)


def test_one_picture_is_what_comfyui_s_own_nodes_make_of_it(flux_host: RunningHost, client: Client) -> None:
    prompt = dict(REDUX)
    cases = [("wide", "center", "attn_bias", 0.6), ("batch", "none", "multiply", 0.7)]
    for case in cases:
        image, crop, kind, strength = case
        prompt[f"seen {case}"] = node("CLIPVisionEncode", clip_vision=["vision", 0], image=[image, 0], crop=crop)
        prompt[f"theirs {case}"] = node(
            "StyleModelApply",
            conditioning=["prompt", 0],
            style_model=["style", 0],
            clip_vision_output=[f"seen {case}", 0],
            strength=strength,
            strength_type=kind,
        )
        prompt[f"ours {case}"] = mixed(image_1=[image, 0], crop=crop, strength=strength, strength_type=kind)
        for whose in ("theirs", "ours"):
            prompt[f"save {whose} {case}"] = node(
                "KandifluxSaveConditioning", conditioning=[f"{whose} {case}", 0], filename=f"{whose}-{image}"
            )
    client.submit(prompt).result(WAIT)
    folder = flux_host.output / "conditioning"
    for image, _, kind, _ in cases:
        theirs, ours = (
            load_conditioning(folder / f"{whose}-{image}_00001.safetensors") for whose in ("theirs", "ours")
        )
        ((their_text, their_keys),), ((our_text, our_keys),) = theirs, ours
        assert torch.equal(our_text, their_text), image
        assert our_text.isfinite().all()
        assert our_text.shape[1] == WORDS + 729 * (2 if image == "batch" else 1)
        assert our_keys.keys() == their_keys.keys(), image
        assert ("attention_mask" in our_keys) == (kind == "attn_bias")
        for key, value in their_keys.items():
            assert torch.equal(our_keys[key], value) if torch.is_tensor(value) else our_keys[key] == value, (image, key)


def test_in_the_network_weight_2_is_the_picture_twice(flux_host: RunningHost, client: Client) -> None:
    def drawn(name: str, **inputs: Any) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """The latents of a step with a mix, and what the network was given."""
        seen(flux_host)
        mix = mixed(strength_type="attn_bias", strength=0.5, downsampling=3, **inputs)
        saved = node("SaveLatent", samples=["sampled", 0], filename_prefix=name)
        client.submit({**REDUX, "mix": mix, "sampled": sampled("mix", 1), "saved": saved}).result(WAIT)
        return load_file(flux_host.output / f"{name}_00001_.latent")["latent_tensor"], seen(flux_host)

    wide = ["wide", 0]
    once, once_seen = drawn("once", image_1=wide)
    doubled, doubled_seen = drawn("doubled", image_1=wide, weight_1=2.0)
    twice, twice_seen = drawn("twice", image_1=wide, image_2=wide)
    assert [given[0]["tokens"] - WORDS for given in (once_seen, doubled_seen, twice_seen)] == [81, 81, 162]
    assert once_seen[0]["least_bias"] == pytest.approx(math.log(0.5), abs=1e-3)
    assert (doubled - twice).abs().mean() < 0.01 * (once - twice).abs().mean()
