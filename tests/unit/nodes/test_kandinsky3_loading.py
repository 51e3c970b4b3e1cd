"""Kandinsky 3's text encoder is read shard by shard, in hardly more memory than it takes, and strictly; its tokenizer
from the one file the official repository has."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kandiflux.models import kandinsky3_checkpoint as models
from safetensors.torch import load_file, save_file

from nodes.models.loader import WeightsError
from nodes.models.loader3 import (
    SCHEDULER,
    is_kandinsky3_folder,
    is_kandinsky3_text_folder,
    load_text_encoder,
    load_tokenizer,
    shards,
)
from nodes.models.spiece import tokenizer_json
from nodes.models.t5 import FP8, T5Config, T5Encoder, to_fp8
from nodes.sampling.schedulers import DecoderScheduler
from tests.parity.bare import load_decoder
from tests.parity.tiny3 import save_kandinsky3_folder
from tests.support.memory import peak_of
from tests.support.spiece import PIECES, spiece_model

SIZES = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8, "num_layers": 6, "vocab_size": 64}
SHARDS = 5


def save_encoder(folder: Path, dtype: torch.dtype, sizes: dict[str, int], count: int = SHARDS) -> Path:
    """A text encoder as published: a half-precision variant, in shards, `wo` in float32."""
    weights = T5Encoder(T5Config(**sizes)).state_dict()
    torch.manual_seed(0)
    weights = {
        key: torch.randn(value.shape).mul_(0.05).to(torch.float32 if "wo" in key else dtype)
        for key, value in weights.items()
    }
    encoder = folder / "text_encoder"
    encoder.mkdir(parents=True)
    names = list(weights)
    each = -(-len(names) // count)
    places: dict[str, str] = {}
    for i in range(count):
        file = f"model.fp16-{i + 1:05}-of-{count:05}.safetensors"
        part = names[i * each : (i + 1) * each]
        save_file({name: weights[name] for name in part}, encoder / file)
        places |= dict.fromkeys(part, file)
    (encoder / "model.safetensors.index.fp16.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (encoder / "config.json").write_text(json.dumps({"model_type": "t5", "feed_forward_proj": "gated-silu", **sizes}))
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(spiece_model(PIECES))
    return folder


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("t5")
    return {name: save_encoder(root / name, getattr(torch, name), SIZES) for name in ("float32", "float16")}


@pytest.mark.memory
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        ("float32", "float32"),
        ("float16", "float32"),
        ("float16", "float16"),
        ("float32", "bfloat16"),
        ("float16", "float8_e4m3fn"),
    ],
)
def test_peak_memory(big: dict[str, Path], stored: str, dtype: str) -> None:
    kept = getattr(torch, dtype)
    # What torch sets up for itself the first time is no part of it.
    to_fp8(torch.ones(8, 8).to(kept))
    load_tokenizer(big[stored] / "tokenizer")
    peak, loaded = peak_of(lambda: load_text_encoder(big[stored], kept))
    size = sum(weight.numel() * kept.itemsize for weight in loaded.encoder.parameters())
    assert size > 25e6, "too small to tell from noise"
    assert peak <= 1.15 * size
    if stored == dtype == "float32":
        assert peak <= 0.15 * size, "what needs no cast is used where it lies"


SMALL = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_heads": 2, "num_layers": 2, "vocab_size": 40}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return save_encoder(tmp_path / "kandinsky-3", torch.float16, SMALL, count=3)


def change(file: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(file)
    edit(weights)
    save_file(weights, file)


LAST = "model.fp16-00003-of-00003.safetensors"


def test_all_shards_are_read(small: Path) -> None:
    loaded = load_text_encoder(small)
    assert [path.name for path in shards(small / "text_encoder")][-1] == LAST
    assert not any(parameter.is_meta or parameter.requires_grad for parameter in loaded.encoder.parameters())
    assert {parameter.dtype for parameter in loaded.encoder.parameters()} == {torch.float32}
    stored = load_file(small / "text_encoder" / LAST)
    assert all(torch.equal(loaded.encoder.state_dict()[key], value.float()) for key, value in stored.items())


def test_a_missing_shard_is_named(small: Path) -> None:
    (small / "text_encoder" / LAST).unlink()
    with pytest.raises(WeightsError, match=rf"names 3 files, but {LAST} is missing in .* 7 of 21 tensors"):
        load_text_encoder(small)


def test_a_cut_shard_is_named(small: Path) -> None:
    file = small / "text_encoder" / LAST
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=rf"{LAST} is not a complete safetensors file"):
        load_text_encoder(small)
    file.write_bytes(b"")
    with pytest.raises(WeightsError, match=rf"{LAST} is not a complete safetensors file"):
        load_text_encoder(small)


def test_wrong_tensors_are_named_with_their_shapes(small: Path) -> None:
    file = small / "text_encoder" / LAST
    name = "encoder.final_layer_norm.weight"
    change(file, lambda weights: weights.update({name: torch.zeros(9), "intruder": torch.zeros(2, 3)}))
    with pytest.raises(WeightsError) as raised:
        load_text_encoder(small)
    assert f"{LAST}: {name}: expected [8], got [9]" in str(raised.value)
    assert f"{LAST}: unexpected intruder [2, 3]" in str(raised.value)
    change(file, lambda weights: (weights.pop("intruder"), weights.pop(name)))
    with pytest.raises(WeightsError, match=rf"missing {name}: expected \[8\] in model\.fp16-00001.*{LAST}"):
        load_text_encoder(small)


def test_a_tensor_in_two_shards(small: Path) -> None:
    change(small / "text_encoder" / LAST, lambda weights: weights.update({"shared.weight": torch.zeros(40, 8)}))
    with pytest.raises(WeightsError, match=r"shared\.weight is in model\.fp16-00001-of-00003\.safetensors too"):
        load_text_encoder(small)


def test_the_embeddings_second_name_is_passed_over(small: Path) -> None:
    name = "encoder.embed_tokens.weight"
    change(small / "text_encoder" / LAST, lambda weights: weights.update({name: torch.zeros(40, 8)}))
    assert load_text_encoder(small).encoder.shared.weight.any()


def test_a_broken_index_and_another_kind_of_network(small: Path) -> None:
    config = small / "text_encoder" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"feed_forward_proj": "gated-gelu"}))
    with pytest.raises(WeightsError, match="expected feed_forward_proj = 'gated-silu', got 'gated-gelu'"):
        load_text_encoder(small)
    config.write_text(json.dumps(values))
    (small / "text_encoder" / "model.safetensors.index.fp16.json").write_text("{}")
    with pytest.raises(WeightsError, match="expected JSON with a weight_map"):
        load_text_encoder(small)


def test_pickled_weights_are_not_read(small: Path) -> None:
    for file in (small / "text_encoder").glob("model*"):
        file.unlink()
    (small / "text_encoder" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin, which is not read"):
        load_text_encoder(small)


def test_the_published_configs_are_read() -> None:
    """As they stand in the official repository, in what matters to us."""
    scheduler = {
        "_class_name": "DDPMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 0.00085,
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "sample_max_value": 1.0,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "thresholding": False,
        "timestep_spacing": "leading",
        "trained_betas": None,
        "variance_type": "fixed_small",
    }
    assert DecoderScheduler.from_json(scheduler) == SCHEDULER
    assert DecoderScheduler.from_json(models.SCHEDULER) == SCHEDULER
    text_encoder = {
        "architectures": ["T5EncoderModel"],
        "d_ff": 16384,
        "d_kv": 256,
        "d_model": 4096,
        "dense_act_fn": "silu",
        "feed_forward_proj": "gated-silu",
        "is_encoder_decoder": True,
        "layer_norm_epsilon": 1e-06,
        "model_type": "t5",
        "n_positions": 512,
        "num_heads": 16,
        "num_layers": 32,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32,
        "vocab_size": 32128,
    }
    assert T5Config.from_json(text_encoder) == T5Config()


# The tokenizer


def test_tokenizer_of_spiece_model(small: Path) -> None:
    tokenizer = load_tokenizer(small / "tokenizer")
    assert tokenizer.tokenize("  a red   star ") == ["▁", "a", "▁red", "▁star"]
    got = tokenizer("red", padding="max_length", max_length=5)
    assert got.input_ids == [PIECES.index("▁red"), 1, 0, 0, 0]
    assert got.attention_mask == [1, 1, 0, 0, 0]
    assert tokenizer("ж").input_ids == [3, 2, 1], "what is unknown"
    assert tokenizer.model_max_length == 128


def test_tokenizer_json_is_preferred(small: Path) -> None:
    pieces = [*PIECES, "▁whole"]
    (small / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer_json(spiece_model(pieces))))
    assert load_tokenizer(small / "tokenizer").tokenize("whole") == ["▁whole"]


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_cut_vocabulary_says_so(small: Path, cut: int) -> None:
    file = small / "tokenizer" / "spiece.model"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(WeightsError, match=r"spiece\.model is not a valid SentencePiece vocabulary"):
        load_tokenizer(small / "tokenizer")


def test_no_vocabulary_says_what_is_expected(small: Path) -> None:
    (small / "tokenizer" / "spiece.model").unlink()
    with pytest.raises(WeightsError, match=r"Expected tokenizer\.json or spiece\.model in"):
        load_tokenizer(small / "tokenizer")


# Which folders and files


def test_what_a_folder_must_say_to_be_kandinsky_3_s(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    config = tmp_path / "unet" / "config.json"
    for written, is_one in (("{", False), ("[]", False), ("{}", False), ('{"_class_name": "Kandinsky3UNet"}', True)):
        assert not is_kandinsky3_folder(tmp_path)
        config.write_text(written)
        (tmp_path / "movq").mkdir(exist_ok=True)
        assert not is_kandinsky3_folder(tmp_path)
        (tmp_path / "movq" / "config.json").write_text("{}")
        assert is_kandinsky3_folder(tmp_path) is is_one
        (tmp_path / "movq" / "config.json").unlink()


def test_what_a_folder_must_say_to_have_its_text_encoder(small: Path) -> None:
    assert is_kandinsky3_text_folder(small)
    (small / "tokenizer").rename(small / "elsewhere")
    assert not is_kandinsky3_text_folder(small)
    (small / "elsewhere").rename(small / "tokenizer")
    (small / "text_encoder" / "config.json").write_text('{"model_type": "bert"}')
    assert not is_kandinsky3_text_folder(small)


def test_the_full_shards_come_before_those_in_half_precision_and_one_file_needs_no_index(tmp_path: Path) -> None:
    for name in ("model.fp16.safetensors", "half", "full"):
        (tmp_path / name).touch()
    assert shards(tmp_path) == [tmp_path / "model.fp16.safetensors"]
    for name, file in (("model.safetensors.index.fp16.json", "half"), ("model.safetensors.index.json", "full")):
        (tmp_path / name).write_text(json.dumps({"weight_map": {"a": file, "b": file}}))
        assert shards(tmp_path) == [tmp_path / file]


@pytest.mark.parametrize("written", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1, "b": "c"}}'])
def test_an_index_that_is_none(tmp_path: Path, written: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(written)
    with pytest.raises(WeightsError, match="expected JSON with a weight_map"):
        shards(tmp_path)


@pytest.mark.parametrize(("extra", "end"), [(6, ""), (7, "; and 1 more")])
def test_six_problems_are_named(small: Path, extra: int, end: str) -> None:
    change(
        small / "text_encoder" / LAST,
        lambda weights: weights.update({f"extra{i}": torch.zeros(1) for i in range(extra)}),
    )
    with pytest.raises(WeightsError) as raised:
        load_text_encoder(small)
    assert str(raised.value).count("unexpected extra") == 6
    assert f"unexpected extra5 [1]{end}. Check that the files belong together." in str(raised.value)


def test_eight_bits_work_in_float32_unless_told_and_other_weights_in_their_own(small: Path) -> None:
    assert load_text_encoder(small, FP8).encoder.compute == torch.float32
    assert load_text_encoder(small, FP8, torch.bfloat16).encoder.compute == torch.bfloat16
    loaded = load_text_encoder(small, torch.float16)
    assert (loaded.encoder.compute, loaded.name) == (torch.float16, "kandinsky-3")
    assert not loaded.encoder.training
    layer: Any = load_text_encoder(small, FP8).encoder.get_submodule("encoder.block.0.layer.0.SelfAttention.q")
    assert layer.scale.shape == (8, 1)
    plain: Any = loaded.encoder.get_submodule("encoder.block.0.layer.0.SelfAttention.q")
    assert plain.scale is None


def test_a_folder_without_a_schedule_has_the_published_one(tmp_path: Path) -> None:
    save_kandinsky3_folder(tmp_path)
    assert load_decoder(tmp_path).scheduler == DecoderScheduler.from_json(
        json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    )
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"steps_offset": 3}')
    assert load_decoder(tmp_path).scheduler.steps_offset == 3
    (tmp_path / "scheduler" / "scheduler_config.json").unlink()
    assert load_decoder(tmp_path).scheduler == SCHEDULER
