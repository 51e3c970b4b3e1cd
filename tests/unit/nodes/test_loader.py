"""Which file of a folder is read, what its configs say, and how tensors that do not fit are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodes.decoders import Decoder
from nodes.models.loader import (
    ImageProcessorConfig,
    WeightsError,
    check_shapes,
    is_decoder_folder,
    is_prior_folder,
    read_config,
    weights_file,
)
from nodes.sampling.schedulers import DecoderScheduler, UnCLIPScheduler


@pytest.mark.parametrize(
    ("size", "crop"), [(224, 224), ({"shortest_edge": 224}, {"height": 224, "width": 224}), ({"height": 224}, 224)]
)
def test_sizes_of_pictures_are_written_in_three_ways(size: Any, crop: Any) -> None:
    values = {"size": size, "crop_size": crop, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}
    assert ImageProcessorConfig.from_json(values) == ImageProcessorConfig(224, (0.1, 0.2, 0.3), (1, 2, 3))
    with pytest.raises(WeightsError, match="expected size and crop_size to agree, got 224 and 225"):
        ImageProcessorConfig.from_json(values | {"crop_size": 225})


def test_the_full_weights_come_before_half_precision_ones(tmp_path: Path) -> None:
    half, full = (tmp_path / f"model{end}.safetensors" for end in (".fp16", ""))
    half.touch()
    assert weights_file(tmp_path) == half
    full.touch()
    assert weights_file(tmp_path) == full


@pytest.mark.parametrize("name", ["model.bin", "model.ckpt", "model.pt"])
def test_pickles_are_named_and_not_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=f"It holds {name}, which is not read"):
        weights_file(tmp_path)
    with pytest.raises(WeightsError, match="which does not exist: copy the whole official repository folder"):
        weights_file(tmp_path / "missing")


def test_a_folder_is_a_decoder_s_if_it_has_both_networks(tmp_path: Path) -> None:
    assert not is_prior_folder(tmp_path)
    for name in ("unet", "movq", "prior"):
        assert not is_decoder_folder(tmp_path)
        (tmp_path / name).mkdir()
        assert not is_decoder_folder(tmp_path)
        (tmp_path / name / "config.json").write_text("{}")
        if name == "movq":
            break
    assert is_decoder_folder(tmp_path)
    (tmp_path / "prior").mkdir()
    assert not is_prior_folder(tmp_path)
    (tmp_path / "prior" / "diffusion_pytorch_model.safetensors").touch()
    assert is_prior_folder(tmp_path)


def test_tensors_that_do_not_fit_are_named_three_of_a_kind() -> None:
    wanted = {f"a{i}": (1,) for i in range(5)} | {f"c{i}": (2, 3) for i in range(2)} | {"same": (4,)}
    got = {f"b{i}": (1,) for i in range(4)} | {f"c{i}": (3, 2) for i in range(2)} | {"same": (4,)}
    with pytest.raises(WeightsError) as raised:
        check_shapes(Path("file"), wanted, got)
    listed = str(raised.value).split(" tensors): ")[1].split(". Check")[0]
    assert listed.split("; ") == [
        "c0: expected [2, 3], got [3, 2]", "c1: expected [2, 3], got [3, 2]",
        "unexpected b0", "unexpected b1", "unexpected b2", "missing a0", "missing a1", "missing a2", "and 3 more",
    ]  # fmt: skip
    with pytest.raises(WeightsError, match=r"missing a\. Check"):
        check_shapes(Path("file"), {"a": (1,)}, {})
    check_shapes(Path("file"), wanted, dict(wanted))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "expected a JSON object, got list"),
        (json.dumps({"prediction_type": "epsilon"}), "expected prediction_type = 'sample', got 'epsilon'"),
        ("{}", "expected prediction_type = 'sample', got 'epsilon'"),  # what the reference assumes
    ],
)
def test_a_config_that_cannot_be_read_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "scheduler_config.json"
    file.write_text(text)
    with pytest.raises(WeightsError, match=f"scheduler_config.json.*{message}"):
        read_config(UnCLIPScheduler, file)


def test_schedulers_by_the_names_that_users_choose() -> None:
    ddim, ddpm, learned = DecoderScheduler("DDIM"), DecoderScheduler("DDPM"), DecoderScheduler(steps_offset=0)
    network: Any = SimpleNamespace()
    decoder = Decoder("d", network, ddim)
    assert [decoder.scheduler_called(name) for name in ("reference", "DDIM", "DDPM")] == [ddim, ddim, ddpm]
    second = replace(decoder, ddpm_scheduler=learned)
    assert [second.scheduler_called(name) for name in ("reference", "DDIM", "DDPM")] == [ddim, ddim, learned]
