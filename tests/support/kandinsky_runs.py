"""Every shipped Kandinsky workflow, run to a picture on either host: pocket weights, and tiny random ones under the
names of the official repositories."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.parity import cut
from tests.parity.tiny import ddpm, save_decoder21_folder, save_prior_folder
from tests.parity.tiny3 import save_kandinsky3_folder
from tests.support.pocket_runs import ROOT, Runner

WORKFLOWS = {path.stem: path for path in sorted((ROOT / "workflows").glob("kandinsky*.json"))}
NATIVE = {name for name in WORKFLOWS if "ksampler" in name}
"""Those that take ComfyUI's own sampler, and so ComfyUI."""

SMALL = {"width": 64, "height": 64, "steps": 3, "prior_steps": 2, "frames": 2, "batch_size": 1, "right": 64}
WEIGHTS = Path("diffusion_pytorch_model.safetensors")


def save_repositories(models: Path) -> None:
    """The official repositories the workflows name, tiny, in `models`, and the single files."""
    folder = models / "kandinsky"
    save_prior_folder(folder / "kandinsky-2-1-prior", hidden_act="quick_gelu")
    save_decoder21_folder(folder / "kandinsky-2-1")
    save_decoder21_folder(folder / "kandinsky-2-1-inpaint", in_channels=9)
    save_kandinsky3_folder(folder / "kandinsky-3")
    three: dict[str, dict[str, Any]] = {"flash": {}, "inpainting": {"in_channels": 9}}
    for variant, changes in three.items():
        made = save_kandinsky3_folder(folder / f"kandinsky-3-{variant}", **changes) / "unet"
        weights = made / "diffusion_pytorch_model.fp16.safetensors"
        tensors = {key: value[:4] if "conv_out." in key else value for key, value in load_file(weights).items()}
        save_file({key: value.clone() for key, value in tensors.items()}, weights)  # diffusers gives back nine channels
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps(config | {"variant": variant}))
    save_single_files(models)


def save_single_files(models: Path) -> None:
    """2.2's networks, under the recommended names, and the tokenizer beside the text encoder."""
    apart = models.parent / "apart"
    prior = cut.save_prior(apart / "prior", cut.WIDTH22)
    decoders = {
        "decoder": cut.save_decoder(apart / "decoder"),
        "decoder-inpaint": cut.save_decoder(apart / "inpaint", ddpm(clip_sample=False), in_channels=9),
        "controlnet-depth": cut.save_decoder(apart / "depth", in_channels=8, addition_embed_type="image_hint"),
    }
    named = {name: (decoder / "unet" / WEIGHTS, "diffusion_models") for name, decoder in decoders.items()}
    named["movq"] = decoders["decoder"] / "movq" / WEIGHTS, "vae"
    named["prior"] = prior / "prior" / WEIGHTS, "diffusion_models"
    named["text-encoder"] = prior / "text_encoder" / "model.safetensors", "text_encoders"
    named["image-encoder"] = prior / "image_encoder" / "model.safetensors", "clip_vision"
    for name, (source, kind) in named.items():
        (models / kind).mkdir(exist_ok=True)
        shutil.copy(source, models / kind / f"kandinsky-2-2-{name}.safetensors")
    shutil.copytree(prior / "tokenizer", models / "text_encoders" / "kandinsky-2-2-text-encoder")


def a_picture(folder: Path) -> Path:
    """A gradient with a transparent hole."""
    x, y = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 96))
    alpha = np.where((x > 120) & (y > 90), 0, 255)
    pixels = np.stack([x, y, 255 - x, alpha], axis=-1).astype(np.uint8)
    path = folder / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def run(runner: Runner, name: str) -> None:
    """One workflow, as small and short as it can be, to a picture of the right size."""
    spec = json.loads(WORKFLOWS[name].read_text("utf-8"))["extra"]["kandiflux"]["parameters"]
    picture = a_picture(runner.folder)
    chosen = {key: value for key, value in SMALL.items() if key in spec}
    chosen |= {key: picture for key in ("image", "depth") if key in spec}
    pictures = runner.run(name, **chosen)
    assert len(pictures) == (2 if "frames" in spec else 1)
    for pixels in pictures:
        assert pixels.shape == ((96, 160, 3) if "outpaint" in name else (64, 64, 3))
        # Most of these networks have random weights, and what they draw cannot be told from noise: that it is right is
        # for tests/parity and the pocket weights' judge. Here it must only be no plain colour.
        assert pixels.std() > 0.005
        if "inpaint" in name:
            require_kept(pixels, picture)


def require_kept(pixels: np.ndarray, picture: Path) -> None:
    """Outside the mask stands the picture as it came, and inside it does not."""
    with Image.open(picture) as source:
        small = source.resize(pixels.shape[1::-1], Image.Resampling.LANCZOS)
    source, hole = np.asarray(small.convert("RGB")) / 255, np.asarray(small.getchannel("A")) / 255
    apart = np.abs(pixels - source).max(axis=-1)
    assert apart[edge_free(hole)].max() <= 2 / 255
    assert apart[hole < 0.001].mean() > 0.05


def edge_free(hole: np.ndarray) -> np.ndarray:
    """Where no pixel within two is masked: there resizing a picture and its mask apart, or together, is the same."""
    near = [np.roll(hole, (dy, dx), axis=(0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
    return np.min(near, axis=0) > 0.999
