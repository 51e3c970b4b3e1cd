"""Folders with and without config.json, and what is said of those that are not what they should be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nodes.models.loader import WeightsError, is_decoder_folder, load_transformers, network_config
from nodes.models.mclip import MCLIP, MCLIPConfig
from nodes.models.movq import MOVQ, MOVQConfig
from nodes.models.prior import PriorConfig
from nodes.models.unet2 import UNet2, UNet2Config
from tests.parity.bare import load_decoder

UNET = UNet2Config(block_out_channels=(64, 64), layers_per_block=1, cross_attention_dim=32, encoder_hid_dim=16)
UNET21 = replace(UNET, encoder_hid_dim=48, encoder_hid_dim_type="text_image_proj", addition_embed_type="text_image")
SMALL_MOVQ = MOVQConfig(block_out_channels=(32, 32), layers_per_block=1, num_vq_embeddings=8)


def save(network: nn.Module, folder: Path) -> Path:
    folder.mkdir(parents=True)
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file(network.state_dict(), file)
    return file


def bare_folder(folder: Path, unet: UNet2Config = UNET) -> Path:
    """A decoder folder without the networks' config.json."""
    save(UNet2(unet), folder / "unet")
    save(MOVQ(SMALL_MOVQ), folder / "movq")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"steps_offset": 1}))
    return folder


def test_sizes_come_from_the_tensors_where_there_is_no_config(tmp_path: Path) -> None:
    folder = bare_folder(tmp_path / "decoder")
    assert is_decoder_folder(folder)
    decoder = load_decoder(folder)
    assert (decoder.unet.config, decoder.movq.config) == (UNET, SMALL_MOVQ)
    assert (decoder.unet.config.image_width, decoder.clip) == (16, None)


def test_a_kandinsky_3_folder_is_no_decoder_of_2(tmp_path: Path) -> None:
    folder = bare_folder(tmp_path / "decoder")
    (folder / "unet" / "config.json").write_text(json.dumps({"_class_name": "Kandinsky3UNet"}))
    assert not is_decoder_folder(folder)


def test_21_needs_its_text_encoder(tmp_path: Path) -> None:
    folder = bare_folder(tmp_path / "decoder", UNET21)
    with pytest.raises(WeightsError, match=r"Expected .*text_encoder, which does not exist: copy the whole"):
        load_decoder(folder)


def test_the_tensors_of_another_network_are_named(tmp_path: Path) -> None:
    file = save(MOVQ(SMALL_MOVQ), tmp_path / "unet")
    with pytest.raises(WeightsError, match="expected the tensors of a UNet2, got those of a MOVQ"):
        network_config(UNet2Config, tmp_path / "unet")
    save_file({"some.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"safetensors: expected the tensors of .* got 1 tensors: some\.weight"):
        network_config(PriorConfig, tmp_path / "unet")
    file.write_bytes(b"no")
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        network_config(UNet2Config, tmp_path / "unet")


def test_an_unet_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    file = bare_folder(tmp_path / "decoder") / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    bias = tensors.pop("down_blocks.1.attentions.0.to_q.bias")
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.safetensors .* missing down_blocks\.1\.att"):
        load_decoder(tmp_path / "decoder")
    save_file(tensors | {"down_blocks.1.attentions.0.to_q.bias": bias[:-1].clone()}, file)
    with pytest.raises(WeightsError, match=r"to_q\.bias: expected \[64\], got \[63\]"):
        load_decoder(tmp_path / "decoder")


def test_a_text_encoder_is_loaded_strictly(tmp_path: Path) -> None:
    config = MCLIPConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=12,
        transformerDimensions=8,
        numDims=4,
    )
    MCLIP(config).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)

    def load(changed: dict[str, torch.Tensor]) -> MCLIP:
        save_file(changed, file, {"format": "pt"})
        return load_transformers(MCLIP, tmp_path, torch.float32)

    assert load(tensors).config.numDims == 4
    # Older files hold the positions 0, 1, 2, … as a tensor.
    load(tensors | {"transformer.embeddings.position_ids": torch.arange(12)[None]})
    bias = "LinearTransformation.bias"
    with pytest.raises(WeightsError, match=r"model\.safetensors does not match .* missing LinearTransformation\.bias"):
        load({key: value for key, value in tensors.items() if key != bias})
    with pytest.raises(WeightsError, match="unexpected intruder"):
        load(tensors | {"intruder": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"LinearTransformation\.bias: expected \[4\], got \[3\]"):
        load(tensors | {bias: torch.zeros(3)})
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        load_transformers(MCLIP, tmp_path, torch.float32)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"Expected .*config\.json, which does not exist"):
        load_transformers(MCLIP, tmp_path, torch.float32)
