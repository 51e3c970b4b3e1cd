"""`kandiflux models convert`: original Kandinsky 3 weights become a folder the loader reads, with the same network in
it; what is not recognised, incomplete or unsafe is refused, and no half file is left."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from kandiflux.cli import app
from kandiflux.errors import OutputError, UsageError
from kandiflux.models import kandinsky3_checkpoint as models
from safetensors import safe_open

from nodes.models.loader3 import is_kandinsky3_folder
from nodes.models.movq import MOVQ, MOVQConfig
from nodes.models.unet3 import UNet3, UNet3Config
from tests.parity.bare import load_decoder
from tests.parity.tiny import randomise
from tests.support.commands import RUNNER
from tests.support.places import ROOT

# 32 groups and heads of 64: what the tensors do not tell, and the original repository always has.
UNET = UNet3Config(
    time_embedding_dim=64,
    layers_per_block=2,
    block_out_channels=(64, 64, 128, 128),
    cross_attention_dim=20,
    encoder_hid_dim=12,
    null_embedding=True,
)
VQ = MOVQConfig(block_out_channels=(32, 32, 64, 64), layers_per_block=1, num_vq_embeddings=16)

# From the published names to the original repository's, as its own modules are named.
TO_ORIGINAL_UNET = (
    (r"^time_embedding\.linear_1", "to_time_embed.1"),
    (r"^time_embedding\.linear_2", "to_time_embed.3"),
    (r"^add_time_condition", "feature_pooling"),
    (r"^conv_in", "in_layer"),
    (r"^conv_norm_out", "out_layer.0"),
    (r"^conv_out", "out_layer.2"),
    (r"^(down|up)_blocks", r"\1_samples"),
    (r"\.attentions\.0\.", ".self_attention_block."),
    (r"\.resnets_in\.(\d)\.", r".resnet_attn_blocks.\1.0."),
    (r"\.attentions\.1\.", ".resnet_attn_blocks.0.1."),
    (r"\.attentions\.2\.", ".resnet_attn_blocks.1.1."),
    (r"\.resnets_out\.(\d)\.", r".resnet_attn_blocks.\1.2."),
    (r"\.to_q\.", ".to_query."),
    (r"\.to_k\.", ".to_key."),
    (r"\.to_v\.", ".to_value."),
    (r"\.to_out\.0\.", ".output_layer."),
)
TO_ORIGINAL_MOVQ = (
    (r"conv_norm_out", "norm_out"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"encoder\.down_blocks\.", "encoder.down."),
    (r"decoder\.up_blocks\.0\.", "decoder.up.3."),
    (r"decoder\.up_blocks\.1\.", "decoder.up.2."),
    (r"decoder\.up_blocks\.2\.", "decoder.up.1_."),
    (r"decoder\.up_blocks\.3\.", "decoder.up.0."),
    (r"decoder\.up\.1_\.", "decoder.up.1."),
    (r"(up|down)samplers\.0\.", r"\1sample."),
    (r"\.resnets\.", ".block."),
    (r"\.attentions\.", ".attn."),
    (r"conv_shortcut", "nin_shortcut"),
    (r"\.(group_norm|spatial_norm)\.", ".norm."),
    (r"\.to_(q|k|v)\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"^(encoder\..*\.(norm|norm1|norm2|norm_out))\.(weight|bias)$", r"\1.norm_layer.\3"),
)
PROJECTION = {
    "encoder_hid_proj.projection_linear.weight": "0.weight",
    "encoder_hid_proj.projection_norm.weight": "1.weight",
    "encoder_hid_proj.projection_norm.bias": "1.bias",
}


def renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, put in rules:
        name = re.sub(pattern, put, name)
    return name


def original_unet(network: UNet3) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(kandinsky3.pt, projection.pt)."""
    weights = network.state_dict()
    null = weights.pop("null_embedding")
    projection = {put: weights.pop(name) for name, put in PROJECTION.items()}
    unet = {renamed(name, TO_ORIGINAL_UNET): value for name, value in weights.items()}
    assert "down_samples.1.resnet_attn_blocks.1.1.attention.to_query.weight" in unet
    assert "up_samples.0.self_attention_block.in_norm.context_mlp.1.bias" in unet
    return {"unet": unet, "null_embedding": null[None]}, projection


def original_movq(network: MOVQ) -> dict[str, torch.Tensor]:
    weights = network.state_dict()
    del weights["quantize.embedding.weight"]
    made = {renamed(name, TO_ORIGINAL_MOVQ): value for name, value in weights.items()}
    assert "encoder.down.3.attn.0.norm.norm_layer.weight" in made
    assert "decoder.up.3.attn.1.norm.conv_y.weight" in made
    linear = re.compile(r"(attn\.\d|attn_1)\.(q|k|v|proj_out)\.weight$")
    return {name: value[..., None, None] if linear.search(name) else value for name, value in made.items()}


@pytest.fixture(scope="module")
def unet() -> UNet3:
    return randomise(UNet3(UNET), 1, gain=0.3)


@pytest.fixture(scope="module")
def movq() -> MOVQ:
    return randomise(MOVQ(VQ), 2)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, unet: UNet3, movq: MOVQ) -> Path:
    """A folder as the original repository's `weights`, with the text-to-image UNet and the flash one."""
    folder = tmp_path_factory.mktemp("originals")
    (folder / "flan_ul2_encoder").mkdir()
    saved, projection = original_unet(unet)
    save(saved, folder / "kandinsky3.pt")
    os.link(folder / "kandinsky3.pt", folder / "kandinsky3_flash.pt")
    for suffix in ("", "_flash"):
        save(projection, folder / "flan_ul2_encoder" / f"projection{suffix}.pt")
    save(original_movq(movq), folder / "movq.pt")
    return folder


@pytest.fixture
def weights(tmp_path: Path, originals: Path) -> Path:
    """Such a folder of a test's own; the files are links, so `save` puts a new one in the place of an old one."""
    shutil.copytree(originals, tmp_path / "weights", copy_function=os.link)
    return tmp_path / "weights"


def save(values: Any, path: Path | str, **options: Any) -> None:
    Path(path).unlink(missing_ok=True)
    torch.save(values, path, **options)


def run(*arguments: object) -> Any:
    return RUNNER.invoke(app, ["models", "convert", *map(str, arguments)])


FILES = [
    "movq/config.json",
    "movq/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
]


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@torch.no_grad()
def test_a_folder_becomes_models_with_the_same_networks(weights: Path, unet: UNet3, movq: MOVQ) -> None:
    out = weights.parent / "models"
    shown = run(weights, "--out", out)
    assert shown.exit_code == 0, shown.output
    assert sorted(shown.stdout.split()) == sorted(str(out / name) for name in everything_in(out))
    assert everything_in(out) == [f"{name}/{file}" for name in ("kandinsky-3-flash", "kandinsky-3") for file in FILES]
    assert "weights_only=True, mmap=True" in shown.stderr
    loaded = load_decoder(out / "kandinsky-3")
    assert is_kandinsky3_folder(out / "kandinsky-3")
    assert loaded.unet.config == UNET
    assert not loaded.unet.config.flash
    assert load_decoder(out / "kandinsky-3-flash").unet.config.flash
    x, states, mask = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 12), torch.tensor([[1, 1, 0], [0, 0, 0]])
    times = torch.tensor([3, 977])
    assert all(torch.equal(value, unet.state_dict()[name]) for name, value in loaded.unet.state_dict().items())
    # Mapped weights take other kernels, and a random network makes much of rounding: so in double precision.
    ours, theirs = loaded.unet.double(), copy.deepcopy(unet).double()
    x, states = x.double(), states.double()
    torch.testing.assert_close(ours(x, times, states, mask), theirs(x, times, states, mask), atol=1e-6, rtol=0)
    latents = movq.encode(torch.rand(1, 3, 32, 32))
    torch.testing.assert_close(loaded.movq.decode(latents), movq.decode(latents), atol=1e-4, rtol=0)


def test_a_single_unet_takes_what_lies_beside_it(weights: Path) -> None:
    out = weights.parent / "models"
    assert run(weights / "kandinsky3_flash.pt", "-o", out).exit_code == 0
    assert everything_in(out) == [f"kandinsky-3-flash/{file}" for file in FILES]


def test_a_unet_without_movq_says_what_it_lacks(weights: Path) -> None:
    (weights / "movq.pt").unlink()
    shown = run(weights / "kandinsky3.pt", "-o", weights.parent / "models")
    assert "No movq.pt found" in shown.stderr
    assert everything_in(weights.parent / "models") == [f"kandinsky-3/{file}" for file in FILES[2:]]


def test_movq_alone(weights: Path) -> None:
    shown = run(weights / "movq.pt", "--out", weights.parent, "--json")
    assert [Path(path).name for path in json.loads(shown.stdout)["written"]] == [
        "diffusion_pytorch_model.safetensors",
        "config.json",
    ]
    assert everything_in(weights.parent / "kandinsky-3") == FILES[:2]


def test_inpainting_weights_are_told_by_their_channels(weights: Path) -> None:
    saved = torch.load(weights / "kandinsky3.pt")
    saved["unet"]["in_layer.weight"] = saved["unet"]["in_layer.weight"].repeat(1, 3, 1, 1)[:, :9]
    save(saved, weights / "kandinsky3_inpainting.pt")
    save(torch.load(weights / "flan_ul2_encoder" / "projection.pt"), weights / "projection_inpainting.pt")
    assert run(weights / "kandinsky3_inpainting.pt", "--out", weights.parent).exit_code == 0
    assert load_decoder(weights.parent / "kandinsky-3-inpainting").unet.config.inpaints


def test_a_missing_projection_is_asked_for(weights: Path) -> None:
    projection = weights / "flan_ul2_encoder" / "projection.pt"
    elsewhere = projection.rename(weights.parent / "mine.pt")
    shown = run(weights / "kandinsky3.pt", "--out", weights.parent)
    assert shown.exit_code == 2
    assert "projection.pt in the same folder, or in its flan_ul2_encoder/" in shown.stderr
    assert run(weights / "kandinsky3.pt", "--out", weights.parent, "--projection", elsewhere).exit_code == 0
    shown = run(weights, "--out", weights.parent, "--projection", elsewhere)
    assert shown.exit_code == 2
    assert "A projection belongs to one UNet" in shown.stderr


def test_nothing_is_overwritten_unasked(weights: Path) -> None:
    out = weights.parent / "models"
    config = out / "kandinsky-3" / "unet" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text("mine")
    shown = run(weights / "kandinsky3.pt", "--out", out)
    assert shown.exit_code == 2
    assert f"{config} exists already" in shown.stderr
    assert "--force" in shown.stderr
    assert everything_in(out) == ["kandinsky-3/unet/config.json"]
    assert run(weights / "kandinsky3.pt", "--out", out, "--force").exit_code == 0
    assert load_decoder(out / "kandinsky-3").unet.config == UNET


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"state_dict": {}, "epoch": 3}, r"got:\s+a file with state_dict, epoch"),
        ([1, 2], r"got:\s+a list"),
        ({"down_blocks.0.x": torch.zeros(1)}, r"got:\s+tensors in the published layout"),
        ({"0.weight": torch.zeros(1), "1.weight": torch.zeros(1), "1.bias": torch.zeros(1)}, "got:.*a projection"),
        ({"unet": Evil(), "null_embedding": 0}, "contains more than weights; it is not read"),
        (None, "cannot be read as weights|contains more than weights"),
        ("gone", "no such file or folder"),
    ],
    ids=["unknown", "list", "published", "projection", "code", "text", "gone"],
)
def test_what_is_not_recognised_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if saved is None:
        Path("x.pt").write_text("no weights")
    elif saved != "gone":
        save(saved, "x.pt")
    shown = run("x.pt", "--out", "models")
    assert shown.exit_code == 2
    assert re.search(message, shown.stderr), shown.stderr
    assert not Path("models").exists()
    assert not Path("ran").exists(), "code in a pickle was run"


# Each is read by torch's weights_only reader, and each made it raise another type.
MALFORMED = {
    "text": b"no weights",
    "text of another beginning": b"hello\nworld",
    "memo": b"\x80\x02h\x05.",
    "empty stack": b"\x80\x02.",
    "pop": b"\x80\x020.",
    "item of nothing": b"\x80\x02K\x05K\x06K\x07s.",
    "append to a number": b"\x80\x02K\x05K\x06a.",
    "long": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "nothing": b"",
    "html": b"<html><body>Log in</body></html>",
    "json": b'{"error": "gated"}',
    "protocol 9": b"\x80\x09.",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_pickle_is_refused_by_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / "movq.pt"
    file.write_bytes(MALFORMED[name])
    for source in (file, tmp_path):
        shown = run(source, "--out", tmp_path / "models")
        assert isinstance(shown.exception, SystemExit), repr(shown.exception)
        assert shown.exit_code == 2
        assert str(file) in shown.stderr
        assert "weights_only=False" not in shown.stderr
        assert "Re-running" not in shown.stderr
    assert not (tmp_path / "models").exists()


def test_torchs_advice_to_run_code_is_not_passed_on(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "movq.pt"))
    with tarfile.open(tmp_path / "kandinsky3.pt", "w"):
        pass
    save({"a": Evil()}, tmp_path / "kandinsky3_flash.pt")
    for name in ("movq.pt", "kandinsky3.pt", "kandinsky3_flash.pt"):
        shown = run(tmp_path / name)
        assert shown.exit_code == 2
        assert "Re-running" not in shown.stderr
        assert "set to `False`" not in shown.stderr
        assert "likely succeed" not in shown.stderr


def changed(values: dict[Any, Any], **entries: Any) -> dict[Any, Any]:
    return {**values, **entries}


HUGE = torch.zeros(1).expand(1 << 40)
ODD: list[Any] = [5, None, "x", [], {}, torch.tensor(1.0), torch.zeros(2, 2, dtype=torch.int64), HUGE,
                  torch.zeros(3, 3).to_sparse(), torch.zeros(0), torch.zeros(2, dtype=torch.complex64),
                  torch.zeros(1, 1, 1, 1, 1)]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "quant_conv.weight",
        "quant_conv.bias",
        "encoder.conv_in.weight",
        "encoder.conv_out.bias",
        "decoder.norm_out.conv_y.weight",
        "decoder.up.0.attn.0.q.weight",
        "decoder.up.99.x",
        f"decoder.up.{'9' * 5000}.x",
        f"encoder.down.{'9' * 5000}.block.0.conv1.bias",
    ],
    ids=lambda name: name[:30],
)
def test_a_movq_with_an_odd_entry_is_refused(weights: Path, name: str) -> None:
    right = torch.load(weights / "movq.pt")
    for odd in ODD:
        save(changed(right, **{name: odd}), weights / "movq.pt")
        shown = run(weights / "movq.pt", "--out", weights / "models")
        assert isinstance(shown.exception, SystemExit), (odd, repr(shown.exception))
        assert shown.exit_code == 2
        assert len(shown.stderr) < 3000
    del right["quant_conv.weight"]
    save(changed(right, **{"5": torch.zeros(1)}), weights / "movq.pt")
    assert run(weights / "movq.pt", "--out", weights / "models").exit_code == 2
    assert not (weights / "models").exists()


@pytest.mark.parametrize(
    "part",
    ["unet", "null_embedding", "projection", "whole projection", "in_layer.weight", "to_time_embed.1.weight", "levels"],
)
def test_a_unet_with_an_odd_entry_is_refused(weights: Path, part: str) -> None:
    source, beside = weights / "kandinsky3.pt", weights / "flan_ul2_encoder" / "projection.pt"
    saved, projection = torch.load(source), torch.load(beside)
    for odd in (5, [], HUGE, torch.zeros(1, 1, 1, 1, 1)):
        made, other = copy.copy(saved), copy.copy(projection)
        if part == "projection":
            other["0.weight"] = odd
        elif part == "whole projection":
            other = odd
        elif part == "levels":
            extra = {f"down_samples.0.resnet_attn_blocks.{number}.0.resnet_blocks.0.projection.bias": torch.zeros(1)
                     for number in range(200)}  # fmt: skip
            made["unet"] = {**made["unet"], **extra}
        elif part in made:
            made[part] = odd
        else:
            made["unet"] = {**made["unet"], part: odd}
        save(made, source)
        save(other, beside)
        shown = run(source, "--out", weights / "models")
        assert isinstance(shown.exception, SystemExit), (odd, repr(shown.exception))
        assert shown.exit_code == 2
    assert not (weights / "models").exists()


def test_random_damage_to_a_pickle_is_a_typed_error(tmp_path: Path) -> None:
    chance = random.Random(3)
    small = {"encoder.conv_in.weight": torch.zeros(4, 3), "decoder.conv_in.weight": torch.zeros(2)}
    contents: list[bytes] = []
    for new_format in (True, False):
        save(small, tmp_path / "x.pt", _use_new_zipfile_serialization=new_format)
        contents.append((tmp_path / "x.pt").read_bytes())
    refused = 0
    for number in range(600):
        data = bytearray(contents[number % 2])
        for _ in range(chance.choice([1, 1, 3])):
            at = chance.randrange(min(len(data), 600))
            data[at : at + chance.choice([1, 4])] = chance.choice([bytes([chance.randrange(256)]), b"\xff" * 4, b""])
        (tmp_path / "x.pt").write_bytes(bytes(data))
        try:
            models.plan(tmp_path / "x.pt", tmp_path)
        except UsageError as error:
            refused += "cannot be read" in str(error) or "is not a weight file" in str(error)
    assert refused > 100


def test_a_folder_reads_only_what_can_be_the_model(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("optimizer.pt", "other/model.pt", "flan_ul2_encoder/t5.pt"):
        (weights / name).parent.mkdir(exist_ok=True)
        (weights / name).write_bytes(b"must not be read")
    assert run(weights, "--out", weights.parent / "models").exit_code == 0
    for file in weights.rglob("*.pt"):
        if file.name.startswith(("kandinsky3", "movq")):
            file.unlink()
    shown = run(weights, "--out", weights.parent / "models")
    assert shown.exit_code == 2
    assert "There is nothing to convert" in shown.stderr
    assert "optimizer.pt" in shown.stderr


def test_an_empty_folder_and_a_strange_file_in_one(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shown = run(tmp_path / "empty")
    assert shown.exit_code == 2
    assert "There is nothing to convert" in shown.stderr
    save({"a": 1}, weights / "strange.pt")
    assert run(weights, "--out", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda unet: unet.pop("out_layer.0.bias"), r"missing conv_norm_out\.bias"),
        (lambda unet: unet.pop("out_layer.2.weight"), "is not a complete Kandinsky 3 UNet"),
        (lambda unet: unet.update(intruder=torch.zeros(1)), "unexpected intruder"),
        (
            lambda unet: unet.update({"out_layer.0.bias": torch.zeros(5)}),
            r"conv_norm_out\.bias: expected \[32\], got \[5\]",
        ),
    ],
)
def test_incomplete_weights_are_refused_before_anything_is_written(weights: Path, edit: Any, message: str) -> None:
    saved = torch.load(weights / "kandinsky3.pt")
    edit(saved["unet"])
    save(saved, weights / "kandinsky3.pt")
    shown = run(weights / "kandinsky3.pt", "--out", weights.parent / "models")
    assert shown.exit_code == 2
    assert re.search(message, shown.stderr), shown.stderr
    assert not (weights.parent / "models").exists()


def test_a_cut_file_is_refused(weights: Path) -> None:
    file = weights / "kandinsky3.pt"
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.unlink()
    file.write_bytes(half)
    with pytest.raises(UsageError, match=r"kandinsky3\.pt cannot be read as weights"):
        models.plan(file, weights.parent)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_broken_off_write_leaves_nothing(weights: Path, error: BaseException) -> None:
    out = weights.parent / "models"

    def stop(file: str, done: int, total: int) -> None:
        if done > total / 2:
            raise error

    todo = models.plan(weights / "kandinsky3.pt", out)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        list(models.convert(todo, on_bytes=stop))
    assert everything_in(out) == []


def test_files_of_the_older_format_are_read_whole(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = weights / "movq.pt"
    save(torch.load(file), file, _use_new_zipfile_serialization=False)
    assert run(file, "--out", weights.parent).exit_code == 0
    assert "older format" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_is_kept_and_the_library_reads_the_file(weights: Path, dtype: torch.dtype, movq: MOVQ) -> None:
    save({name: value.to(dtype) for name, value in original_movq(movq).items()}, weights / "movq.pt")
    (written, _) = models.convert(models.plan(weights / "movq.pt", weights.parent))
    with safe_open(written, framework="pt") as stored:
        assert stored.metadata() == {"format": "pt", "converted_from": "movq.pt"}
        got = stored.get_tensor("decoder.conv_in.weight")
        assert torch.equal(got, movq.state_dict()["decoder.conv_in.weight"].to(dtype))
        assert stored.get_tensor("quantize.embedding.weight").shape == (models.CODEBOOK, 4)


# What is written


def test_the_order_and_the_settings_of_what_is_written(weights: Path) -> None:
    out = weights.parent / "models"
    todo = models.plan(weights, out)
    assert [(one.folder.name, one.variant) for one in todo] == [("kandinsky-3", ""), ("kandinsky-3-flash", "flash")]
    written = list(models.convert(todo))
    assert written == [path for one in todo for path in one.targets()]
    order = ["unet/" + models.WEIGHTS, "unet/config.json", "movq/" + models.WEIGHTS, "movq/config.json",
             "scheduler/scheduler_config.json"]  # fmt: skip
    assert [path.relative_to(todo[0].folder).as_posix() for path in written[:5]] == order
    settings = [json.loads((todo[0].folder / name).read_text()) for name in order if name.endswith("json")]
    assert settings[0] == {"_class_name": "Kandinsky3UNet", **json.loads(json.dumps(dataclasses.asdict(UNET)))}
    assert settings[1] == {
        "_class_name": "VQModel",
        "act_fn": "silu",
        "norm_type": "spatial",
        "down_block_types": ["DownEncoderBlock2D"] * 3 + ["AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * 3,
        **json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(VQ, num_vq_embeddings=16384)))),
    }
    assert settings[2] == {
        "_class_name": "DDPMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 0.00085,
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "thresholding": False,
        "timestep_spacing": "leading",
        "variance_type": "fixed_small",
    }, "as published"
    flash = json.loads((todo[1].folder / "unet" / "config.json").read_text())
    assert flash == {**settings[0], "variant": "flash"}


@pytest.mark.parametrize("links", [True, False])
def test_one_movq_serves_all_folders(weights: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(_source: object, _target: object) -> None:
        raise OSError("no links here")

    out = weights.parent / "models"
    todo = models.plan(weights, out)
    if not links:
        monkeypatch.setattr("os.link", refuse)
    list(models.convert(todo))
    first, second = (out / name / "movq" / models.WEIGHTS for name in ("kandinsky-3", "kandinsky-3-flash"))
    assert first.samefile(second) == links
    assert first.read_bytes() == second.read_bytes()


def test_how_far_it_is(weights: Path) -> None:
    told: list[tuple[str, int, int]] = []
    todo = models.plan(weights / "movq.pt", weights.parent)
    target = next(models.convert(todo, on_bytes=lambda *done: told.append(done)))
    size = sum(value.nbytes for value in torch.load(weights / "movq.pt").values()) + 16384 * 4 * 4
    assert {(file, total) for file, _, total in told} == {(str(target), size)}
    done = [done for _, done, _ in told]
    assert done == sorted(done)
    assert done[-1] == size


def test_tensors_of_several_widths_lie_aligned(weights: Path) -> None:
    saved = torch.load(weights / "movq.pt")
    kinds = [torch.float16, torch.float64, torch.bfloat16, torch.float32]
    for at, name in enumerate(saved):
        saved[name] = saved[name].to(kinds[at % 4])
    save(saved, weights / "movq.pt")
    target = next(models.convert(models.plan(weights / "movq.pt", weights.parent)))
    content = target.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]
    assert length % 8 == 0
    widths = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
    assert {about["dtype"] for about in header.values()} == set(widths)
    assert all(about["data_offsets"][0] % widths[about["dtype"]] == 0 for about in header.values())
    with safe_open(target, framework="pt") as stored:
        assert torch.equal(stored.get_tensor("decoder.conv_in.bias"), saved["decoder.conv_in.bias"])


def test_a_kind_of_number_that_the_pack_does_not_read(weights: Path) -> None:
    saved = torch.load(weights / "movq.pt")
    saved["quant_conv.bias"] = saved["quant_conv.bias"].to(torch.float8_e4m3fn)
    save(saved, weights / "movq.pt")
    with pytest.raises(UsageError, match=r"quant_conv.bias is torch.float8_e4m3fn") as caught:
        list(models.convert(models.plan(weights / "movq.pt", weights.parent / "models")))
    assert caught.value.expected == "one of float64, float32, float16, bfloat16"
    assert everything_in(weights.parent / "models") == []


def test_how_many_files_are_there_already(weights: Path) -> None:
    todo = models.plan(weights / "movq.pt", weights.parent)
    written = list(models.convert(todo))
    with pytest.raises(UsageError, match=r"safetensors exists already, and 1 more\.") as caught:
        next(models.convert(todo))
    assert caught.value.parameter == "overwrite"
    written[0].unlink()
    with pytest.raises(UsageError, match=r"config\.json exists already\."):
        next(models.convert(todo))
    assert list(models.convert(todo, force=True)) == written


# What belongs together


def test_a_unet_of_another_name_is_the_base_model(weights: Path) -> None:
    unet = (weights / "kandinsky3.pt").rename(weights / "my_flash_free.pt")
    own = weights / "projection.pt"
    os.link(weights / "flan_ul2_encoder" / "projection.pt", own)
    (found,) = models.plan(unet, weights.parent)
    assert (found.folder, found.unet, found.movq) == (weights.parent / "kandinsky-3", unet, weights / "movq.pt")
    assert found.projection == own, "the file beside it goes before the text encoder's"
    os.link(weights / "movq.pt", weights / "flan_ul2_encoder" / "movq.pt")
    (weights / "movq.pt").unlink()
    (found,) = models.plan(unet, weights.parent)
    assert found.movq == weights / "flan_ul2_encoder" / "movq.pt"


def test_a_projection_for_no_unet(weights: Path) -> None:
    with pytest.raises(UsageError, match=r"belongs to one UNet; .*movq.pt has 0"):
        models.plan(weights / "movq.pt", weights.parent, weights / "flan_ul2_encoder" / "projection.pt")


def test_a_file_that_only_has_the_name_of_one(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    save({"a": 1}, weights / "movq_other.pt")
    save([1], weights / "kandinsky3_other.pt")
    found = models.plan(weights, weights.parent)
    assert [one.movq for one in found] == [weights / "movq.pt"] * 2
    assert [record.getMessage() for record in caplog.records] == [
        f"Skipped {weights / name}: not recognised" for name in ("kandinsky3_other.pt", "movq_other.pt")
    ]


PARTS = {"encoder.conv_in.weight": 0, "decoder.conv_in.weight": 0, "decoder.norm_out.conv_y.weight": 0}


@pytest.mark.parametrize(
    ("saved", "got"),
    [
        ({}, "a file with "),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, "a file with a, b, c, d"),
        ({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, "a file with a, b, c, d, …"),
        ({"unet": {"in_layer.weight": 1}}, "a file with unet"),
        ({"unet": {"x": 1}, "null_embedding": 1}, "a file with unet, null_embedding"),
        ({"unet": 5, "null_embedding": 1}, "a file with unet, null_embedding"),
        *(({name: 0 for name in PARTS if name != left}, None) for left in PARTS),
        ({"0.weight": 0, "1.weight": 0}, "a file with 0.weight, 1.weight"),
        ({"0.weight": 0, "1.weight": 0, "1.bias": 0, "2.bias": 0}, "a file with 0.weight, 1.weight, 1.bias, 2.bias"),
    ],
)
def test_what_a_file_is_instead(tmp_path: Path, saved: Any, got: str | None) -> None:
    save(saved, tmp_path / "x.pt")
    with pytest.raises(UsageError, match="cannot be converted") as caught:
        models.plan(tmp_path / "x.pt", tmp_path)
    assert caught.value.got == (f"a file with {', '.join(saved)}" if got is None else got)


@pytest.mark.parametrize("missing", ["quant_conv.weight", "quant_conv.bias", "encoder.conv_out.bias"])
def test_a_movq_lacks_an_entry(weights: Path, missing: str) -> None:
    saved = torch.load(weights / "movq.pt")
    del saved[missing]
    save(saved, weights / "movq.pt")
    with pytest.raises(UsageError, match=f"movq.pt has no {missing}"):
        next(models.convert(models.plan(weights / "movq.pt", weights.parent)))


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (5, "is a int"),
        (torch.zeros(2, dtype=torch.int64), "is torch.int64, torch.strided, on cpu"),
        (torch.zeros(3, 3).to_sparse(), "is torch.float32, torch.sparse_coo, on cpu"),
        (torch.tensor(1.0), "has the shape []"),
        (HUGE, "has the shape [1099511627776], but the file does not contain all of its values"),
    ],
    ids=["number", "whole", "sparse", "scalar", "huge"],
)
def test_what_is_wrong_with_an_entry(weights: Path, odd: Any, said: str) -> None:
    save(changed(torch.load(weights / "movq.pt"), **{"quant_conv.bias": odd}), weights / "movq.pt")
    with pytest.raises(UsageError) as caught:
        next(models.convert(models.plan(weights / "movq.pt", weights.parent)))
    assert f"its entry 'quant_conv.bias' {said}" in caught.value.message


@pytest.mark.parametrize("more", [4, 5])
def test_at_most_four_problems_are_listed(weights: Path, more: int) -> None:
    saved = {**torch.load(weights / "movq.pt"), **{f"extra{number}": torch.zeros(1) for number in range(more)}}
    save(saved, weights / "movq.pt")
    with pytest.raises(UsageError, match="is not a valid network") as caught:
        next(models.convert(models.plan(weights / "movq.pt", weights.parent)))
    assert caught.value.message.count("unexpected extra") == 4
    assert caught.value.message.endswith("; and 1 more." if more == 5 else "unexpected extra3.")


def test_help_has_examples_and_imports_nothing_heavy() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert "kandiflux models convert" in shown.output
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from kandiflux.cli import app\n"
        "CliRunner().invoke(app, ['models', 'convert', '--help'])\n"
        "print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "runner")
    assert done.stdout.strip() == "[]"
