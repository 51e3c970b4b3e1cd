"""Kandinsky as ComfyUI's MODEL, sampled by ComfyUI, draws the pictures of diffusers' pipelines to 1e-4 in fp32: tiny
random weights, the reference's timesteps, the same noise."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    Kandinsky3Img2ImgPipeline,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    KandinskyImg2ImgPipeline,
    KandinskyInpaintPipeline,
    KandinskyPipeline,
    KandinskyV22ControlnetImg2ImgPipeline,
    KandinskyV22ControlnetPipeline,
    KandinskyV22Img2ImgPipeline,
    KandinskyV22InpaintPipeline,
    KandinskyV22Pipeline,
    UNet2DConditionModel,
    VQModel,
)
from PIL import Image
from pocket.shapes import TRIPLES, draw, sample_scenes
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from nodes.decoders import read_decoder, read_movq
from nodes.embeds import ImageEmbeds
from nodes.images import crop_and_resize, for_soft_mask, from_movq
from nodes.inpainting import for_inpainting3
from nodes.kandinsky import KandinskyDecoderNode
from nodes.kandinsky3 import Kandinsky3Decoder, Kandinsky3TextEncode
from nodes.keys import KEEP, MASKED_LATENTS
from nodes.models.loader3 import load_tokenizer
from nodes.models.memory import decode_memory, encode_memory, unet_memory
from nodes.models.t5 import to_fp8
from nodes.networks import load_ul2
from nodes.pipelines3 import to_text
from nodes.sampling.decoder import add_noise_21
from nodes.sampling.kandinsky3 import FLASH_TIMESTEPS
from nodes.sampling.noise import Noise
from nodes.sampling.schedulers import DecoderScheduler
from nodes.sampling.steps import steps_for_strength
from tests.parity.bare import Inpaint3, for_movq, load_decoder, sample, sample_flash, sample_latents
from tests.parity.test_pipelines import as_image, as_mask, decoder21_parts, decoder_parts, generator, silent
from tests.parity.tiny import GENTLE as GENTLE_BETAS
from tests.parity.tiny import WIDTH, ddim, ddpm, save_decoder21_folder, save_decoder_folder
from tests.parity.tiny3 import save_kandinsky3_folder
from tests.support.hosts import comfyui_folder, comfyui_python, why_no_comfyui
from tests.support.places import ROOT

GENTLE = 2.0
"""A guidance that does not multiply rounding errors so much: random networks have no x0 to agree on."""
CLOSE = 1e-4
TOLERANCES = {"3 flash": 5e-3, "node 3 flash": 2e-3, "3 inpaint": 5e-3}
"""Larger than CLOSE because of rounding in float32. Flash: x0 = x - sigma * eps with sigma up to 32, not clipped; one
processor makes 1e-3 of it, another 1.4e-3.
Inpainting starts at timestep 999 (sigma = 20291): there ComfyUI's ddpm step subtracts nearly equal numbers and
multiplies the difference by 7707, an error of 3e-3."""
SEED = 7


class Inside:
    """Cases for `inside.py` and what they should give; all run in one ComfyUI process, when the first is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models" / "kandinsky"
        self.tensors: dict[str, torch.Tensor] = {}
        self.cases: list[dict[str, Any]] = []
        self.wanted: dict[str, torch.Tensor] = {}
        self._results: dict[str, torch.Tensor] | None = None

    def tensor(self, name: str, *shape: int, seed: int) -> torch.Tensor:
        self.tensors[name] = torch.randn(shape, generator=generator(seed))
        return self.tensors[name]

    def add(self, wanted: torch.Tensor, **case: Any) -> None:
        self.cases.append({"seed": SEED, "positive": "positive", "negative": "negative", "noise": "noise", **case})
        self.wanted[case["name"]] = wanted

    def result(self, name: str) -> torch.Tensor:
        if self._results is None:
            tensors, cases, out = (self.folder / file for file in ("in.safetensors", "cases.json", "out.safetensors"))
            save_file({name: value.contiguous() for name, value in self.tensors.items()}, tensors)
            cases.write_text(json.dumps(self.cases))
            script = Path(__file__).with_name("inside.py")
            done = subprocess.run(
                [comfyui_python(), script, comfyui_folder(), ROOT, self.folder, cases, tensors, out],
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
            )
            assert done.returncode == 0, done.stderr[-4000:]
            self._results = load_file(out)
        return self._results[name]


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    torch.set_num_threads(1)  # sums in one order, as in ComfyUI's process: random networks multiply rounding errors
    inside = Inside(tmp_path_factory.mktemp("inside"))
    positive = inside.tensor("positive", 1, WIDTH, seed=1)
    negative = inside.tensor("negative", 1, WIDTH, seed=2)
    noise = inside.tensor("noise", 1, 4, 8, 16, seed=3)
    size = {"height": 64, "width": 128, "output_type": "np"}

    folder = save_decoder_folder(inside.models / "plain")
    pipeline = silent(KandinskyV22Pipeline(**decoder_parts(folder)))
    for steps, cfg in ((4, 4.0), (7, 4.0), (4, 1.0)):
        run = {"num_inference_steps": steps, "guidance_scale": cfg, "generator": generator(SEED)}
        pictures = pipeline(positive, negative, latents=noise.clone(), **run, **size).images
        inside.add(
            torch.from_numpy(pictures),
            name=f"2.2 DDPM {steps} steps cfg {cfg}",
            model="plain",
            sampler="ddpm",
            steps=steps,
            cfg=cfg,
        )

    folder = save_decoder_folder(inside.models / "depth", ddpm(), in_channels=8, addition_embed_type="image_hint")
    pipeline = silent(KandinskyV22ControlnetPipeline(**decoder_parts(folder)))
    hint = inside.tensors["hint"] = torch.rand(1, 3, 64, 128, generator=generator(5))
    run = {"num_inference_steps": 4, "guidance_scale": 4.0, "generator": generator(SEED)}
    pictures = pipeline(positive, negative, hint, latents=noise.clone(), **run, **size).images
    inside.add(
        torch.from_numpy(pictures), name="2.2 depth", model="depth", sampler="ddpm", steps=4, cfg=4.0, hint="hint"
    )

    more_of_22(inside, size)
    all_of_21(inside, size)
    all_of_3(inside, size)
    all_schedules(inside)
    all_in_one_nodes(inside)
    for name in ("plain", "three"):
        network, movq = read_decoder(inside.models / name, name)[1].network, read_movq(inside.models / name)[1]
        guided, alone = (unet_memory(network, batch, 16, 32, 4) for batch in (4, 2))
        wanted = [guided, alone, encode_memory(movq, 128, 256, 4), decode_memory(movq, 128, 256, 4)]
        inside.add(torch.tensor(wanted, dtype=torch.float64), name=f"memory {name}", model=name, memory=[2, 4, 16, 32])

    scenes = sample_scenes(1, generator(4), TRIPLES)
    shown = inside.tensors["shown"] = draw(scenes, 128).movedim(1, -1)
    small = torch.nn.functional.avg_pool2d(shown.movedim(-1, 1), 8).movedim(1, -1)
    inside.add(small, name="preview", model="kandinsky-2-2-pocket-decoder", preview_of="shown")

    # LoRA, in each published style of names: the same layers, and a reference whose weights are changed by hand.
    unet = UNet2DConditionModel.from_pretrained(inside.models / "plain" / "unet")
    layers = [f"down_blocks.1.attentions.0.{layer}" for layer in ("to_q", "add_k_proj", "to_out.0")]
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for i, layer in enumerate(layers):
        module = unet.get_submodule(layer)
        assert isinstance(module, torch.nn.Linear)
        up = torch.randn(module.out_features, 2, generator=generator(10 + i))
        down = torch.randn(2, module.in_features, generator=generator(20 + i))
        pairs[layer] = up, down
        module.weight.data += 0.5 * up @ down
    pipeline = silent(KandinskyV22Pipeline(**{**decoder_parts(inside.models / "plain"), "unet": unet}))
    run = {"num_inference_steps": 4, "guidance_scale": 4.0, "generator": generator(SEED)}
    wanted = torch.from_numpy(pipeline(positive, negative, latents=noise.clone(), **run, **size).images)
    loras = inside.folder / "models" / "loras"
    loras.mkdir(exist_ok=True)
    case: dict[str, Any] = {"model": "plain", "sampler": "ddpm", "steps": 4, "cfg": 4.0}
    for style, name in LORA_STYLES.items():
        tensors = {}
        for layer, (up, down) in pairs.items():
            tensors |= dict(zip(name(layer), (up, down), strict=True))
        save_file(tensors, loras / f"{style}.safetensors")
        inside.add(wanted, name=f"LoRA {style}", lora=f"{style}.safetensors", strength=0.5, **case)
    inside.add(
        inside.wanted["2.2 DDPM 4 steps cfg 4.0"], name="LoRA strength 0", lora="PEFT.safetensors", strength=0, **case
    )
    plain = inside.wanted["2.2 DDPM 4 steps cfg 4.0"]
    inside.add(plain, name="streamed", stream=True, **case)
    inside.add(plain, name="again", again=True, **case)
    inside.add(wanted, name="LoRA streamed", lora="PEFT.safetensors", strength=0.5, stream=True, **case)
    inside.add(plain, name="tiled", tiled=True, **case)  # one tile is larger than the picture
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        # Weights are kept in fp8 and computed with in float32: the reference's are rounded once.
        parts = decoder_parts(inside.models / "plain")
        for parameter in parts["unet"].parameters():
            parameter.data = parameter.data.to(dtype).float()
        run = {"num_inference_steps": 4, "guidance_scale": 4.0, "generator": generator(SEED)}
        pipeline = silent(KandinskyV22Pipeline(**parts))
        rounded = torch.from_numpy(pipeline(positive, negative, latents=noise.clone(), **run, **size).images)
        name = str(dtype).removeprefix("torch.").replace("float8", "fp8")
        inside.add(rounded, name=name, weight_dtype=name, **case)
    save_file({"model.diffusion_model.joint_blocks.0.lora_A.weight": torch.ones(2, 2)}, loras / "foreign.safetensors")
    inside.add(torch.empty(0), name="LoRA foreign", lora="foreign.safetensors", error=True, **case)
    up, down = pairs[layers[0]]
    wide = {f"{layers[0]}.lora_B.weight": up, f"{layers[0]}.lora_A.weight": torch.ones(2, down.shape[1] + 8)}
    save_file(wide, loras / "wide.safetensors")
    inside.add(torch.empty(0), name="LoRA wide", lora="wide.safetensors", error=True, **case)
    for patch in ("attention", "sizes"):
        inside.add(torch.empty(0), name=f"patched {patch}", patch=patch, error=True, **case)
    inside.add(plain, name="wrapped", patch="wrapper", **case)
    inside.add(torch.empty(0), name="no hint", error=True, **case | {"model": "depth"})
    inside.tensor("wrong", 1, WIDTH + 1, seed=9)
    inside.add(torch.empty(0), name="wrong width", error=True, **case | {"positive": "wrong"})
    return inside


def more_of_22(inside: Inside, size: dict[str, Any]) -> None:
    """Image to image, into a masked part, and from single files."""
    positive, negative, noise = (inside.tensors[name] for name in ("positive", "negative", "noise"))
    source = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 128, 3), dtype=np.uint8))
    hole = Image.fromarray(np.random.default_rng(2).integers(0, 2, (4, 8), dtype=np.uint8) * 255)
    hole = hole.resize((128, 64), Image.Resampling.NEAREST)
    inside.tensors["image"], inside.tensors["mask"] = as_image(source), as_mask(hole)
    # What a pipeline draws first from its generator. Square: diffusers' img2img swaps a picture's width and height.
    inside.tensor("streamed noise", 1, 4, 8, 8, seed=SEED)
    square = size | {"width": 64}
    pixels = for_movq(inside.tensors["image"][:, :, :64], 64, 64)

    folder = save_decoder_folder(inside.models / "inpaint", ddpm(clip_sample=False, **GENTLE_BETAS), in_channels=9)
    pipeline = silent(KandinskyV22InpaintPipeline(**decoder_parts(folder)))
    run = {"num_inference_steps": 5, "guidance_scale": GENTLE, "generator": generator(SEED), "latents": noise.clone()}
    wanted = pipeline(positive, source, hole, negative, **run, **size).images
    case: dict[str, Any] = {"image": "image", "mask": "mask", "cfg": GENTLE}
    inside.add(
        torch.from_numpy(wanted), name="2.2 inpaint", model="inpaint", sampler="ddpm", steps=5, keep_rest=True, **case
    )

    # These pipelines draw their first noise themselves, so only a scheduler without any after it can be compared.
    for name, changes in (("img2img", {}), ("depth img2img", {"in_channels": 8, "addition_embed_type": "image_hint"})):
        folder = save_decoder_folder(inside.models / name, ddim(), **changes)
        parts = decoder_parts(folder, DDIMScheduler)
        kind = KandinskyV22Img2ImgPipeline if name == "img2img" else KandinskyV22ControlnetImg2ImgPipeline
        with torch.inference_mode():
            inside.tensors["start"] = parts["movq"].encode(pixels).latents.clone()
        run = {"num_inference_steps": 6, "guidance_scale": GENTLE, "strength": 0.5, "generator": generator(SEED)}
        inside.tensors["square hint"] = inside.tensors["hint"][..., :64].contiguous()
        hint = [] if name == "img2img" else [inside.tensors["square hint"]]
        wanted = silent(kind(**parts))(positive, pixels, negative, *hint, **run, **square).images
        case = {"hint": "square hint"} if hint else {}
        inside.add(
            torch.from_numpy(wanted),
            name=f"2.2 {name}",
            model=name,
            sampler="ddim",
            steps=6,
            denoise=0.5,
            cfg=GENTLE,
            start="start",
            noise="streamed noise",
            **case,
        )

    published = {"block_out_channels": (64, 128, 128, 128), "attention_head_dim": 64, "norm_num_groups": 32}
    folder = save_decoder_folder(inside.models / "published", **published)
    for kind, part in (("diffusion_models", "unet"), ("vae", "movq")):
        (inside.folder / "models" / kind).mkdir()
        weights = folder / part / "diffusion_pytorch_model.safetensors"
        shutil.copy(weights, inside.folder / "models" / kind / "kandinsky-2-2-decoder.safetensors")
    run = {"num_inference_steps": 4, "guidance_scale": GENTLE, "generator": generator(SEED), "latents": noise.clone()}
    wanted = silent(KandinskyV22Pipeline(**decoder_parts(folder)))(positive, negative, **run, **size).images
    file = "kandinsky-2-2-decoder.safetensors"
    case = {"model": file, "movq": file, "sampler": "ddpm", "steps": 4, "cfg": GENTLE}
    inside.add(torch.from_numpy(wanted), name="single files", **case)
    inside.add(torch.from_numpy(wanted), name="saved by ComfyUI", saved=True, **case)
    merged_and_baked(inside, folder, published, case, size)

    # Sides that the UNet cannot halve three times, as of a picture of 72 × 104.
    decoder = load_decoder(inside.models / "plain")
    odd = inside.tensor("odd noise", 1, 4, 9, 13, seed=8)
    drawn = sample_latents(
        decoder.unet, decoder.scheduler, positive, negative, (9, 13), first_then(odd, generator(SEED)), 4, GENTLE
    )
    with torch.inference_mode():
        wanted = from_movq(decoder.movq.decode(drawn))
    inside.add(wanted, name="2.2 odd size", model="plain", sampler="ddpm", steps=4, cfg=GENTLE, noise="odd noise")


def merged_and_baked(inside: Inside, folder: Path, sizes: dict[str, Any], case: dict[str, Any], size: Any) -> None:
    """A model that ComfyUI merged of two, and saved; one that it saved with a LoRA in it."""
    positive, negative, noise = (inside.tensors[name] for name in ("positive", "negative", "noise"))

    def picture(change: Callable[[UNet2DConditionModel], None]) -> torch.Tensor:
        parts = decoder_parts(folder)
        with torch.no_grad():
            change(parts["unet"])
        run = {"num_inference_steps": 4, "guidance_scale": GENTLE, "generator": generator(SEED)}
        pipeline = silent(KandinskyV22Pipeline(**parts))
        return torch.from_numpy(pipeline(positive, negative, latents=noise.clone(), **run, **size).images)

    other = UNet2DConditionModel.from_pretrained(save_decoder_folder(inside.models / "other", **sizes) / "unet")

    def merge(unet: UNet2DConditionModel) -> None:
        for one, another in zip(unet.parameters(), other.parameters(), strict=True):
            one.lerp_(another, 0.25)

    layer = "down_blocks.1.attentions.0.to_q"
    up, down = (torch.randn(shape, generator=generator(30)) for shape in ((128, 2), (2, 128)))

    def add_lora(unet: UNet2DConditionModel) -> None:
        weight = unet.get_submodule(layer).weight
        assert isinstance(weight, torch.Tensor)
        weight += 0.5 * up @ down

    loras = inside.folder / "models" / "loras"
    loras.mkdir(exist_ok=True)
    save_file({f"unet.{layer}.lora_B.weight": up, f"unet.{layer}.lora_A.weight": down}, loras / "published.safetensors")
    both = picture(merge)
    inside.add(both, name="merged", merge="other", **case)
    inside.add(both, name="merged and saved", merge="other", baked=True, **case)
    baked = {"lora": "published.safetensors", "strength": 0.5, "baked": True}
    inside.add(picture(add_lora), name="LoRA baked in", **baked, **case)


def all_of_21(inside: Inside, size: dict[str, Any]) -> None:
    positive, negative, noise = (inside.tensors[name] for name in ("positive", "negative", "noise"))
    said = {"text": "a red star", "negative_text": "blue"}
    folder = save_decoder21_folder(inside.models / "two one")
    case: dict[str, Any] = {"sampler": "ddim", "cfg": GENTLE, **said}
    run = {"guidance_scale": GENTLE, "negative_prompt": said["negative_text"]}
    pipeline = silent(KandinskyPipeline(**decoder21_parts(folder)))
    wanted = pipeline(
        said["text"], positive, negative, num_inference_steps=5, latents=noise.clone(), **run, **size
    ).images
    inside.add(torch.from_numpy(wanted), name="2.1", model="two one", steps=5, **case)

    # The reference's img2img begins at another timestep than the first it runs: here a latent that is noised so.
    pipeline = silent(KandinskyImg2ImgPipeline(**decoder21_parts(folder)))
    image = inside.tensors["image"]
    pixels = for_movq(image[:, :, :64], 64, 64)
    again = {"num_inference_steps": 6, "strength": 0.5, "generator": generator(SEED)}
    wanted = pipeline(said["text"], pixels, positive, negative, **again, **run, **size | {"width": 64}).images
    scheduler = DecoderScheduler.from_json(dict(pipeline.scheduler.config))
    alpha_prod = scheduler.alphas_cumprod[steps_for_strength(scheduler.timesteps(6), 0.5)[0]]
    noised = add_noise_21(inside.tensors["start"], inside.tensors["streamed noise"], 0.5)
    inside.tensors["noised"], inside.tensors["no noise"] = noised / alpha_prod.sqrt(), torch.zeros_like(noised)
    inside.add(
        torch.from_numpy(wanted),
        name="2.1 img2img",
        model="two one",
        steps=6,
        denoise=0.5,
        start="noised",
        noise="no noise",
        **case,
    )

    folder = save_decoder21_folder(inside.models / "two one inpaint", in_channels=9)
    pipeline = silent(KandinskyInpaintPipeline(**decoder21_parts(folder)))
    source = Image.fromarray((image[0].numpy() * 255).round().astype(np.uint8))
    hole = Image.fromarray((inside.tensors["mask"][0].numpy() * 255).round().astype(np.uint8))
    wanted = pipeline(
        said["text"],
        source,
        hole,
        positive,
        negative,
        num_inference_steps=4,
        latents=noise.clone(),
        **run,
        **size,
    ).images
    inside.add(
        torch.from_numpy(wanted),
        name="2.1 inpaint",
        model="two one inpaint",
        steps=4,
        image="image",
        mask="mask",
        keep_rest=False,
        **case,
    )
    untold = {key: value for key, value in case.items() if key not in said}
    inside.add(torch.empty(0), name="2.1 without text", model="two one", steps=4, error=True, **untold)
    inside.add(torch.empty(0), name="inpaint without mask", model="two one inpaint", steps=4, error=True, **case)


def kandinsky3_parts(folder: Path, scheduler: Any = DDPMScheduler) -> dict[str, Any]:
    return {
        "tokenizer": load_tokenizer(folder / "tokenizer"),
        "text_encoder": T5EncoderModel.from_pretrained(folder / "text_encoder", variant="fp16"),
        "unet": Kandinsky3UNet.from_pretrained(folder / "unet", variant="fp16"),
        "movq": VQModel.from_pretrained(folder / "movq", variant="fp16"),
        "scheduler": scheduler.from_pretrained(folder / "scheduler", clip_sample=scheduler is DDPMScheduler),
    }


def all_of_3(inside: Inside, size: dict[str, Any]) -> None:
    """cfg is the reference's guidance and 1."""
    noise = inside.tensors["noise"]
    folder = save_kandinsky3_folder(inside.models / "three")
    pipeline = silent(Kandinsky3Pipeline(**kandinsky3_parts(folder)))
    prompts = {"prompt": "a red star", "negative_prompt": "blue"}
    case: dict[str, Any] = {"model": "three", "sampler": "ddpm", "steps": 5, "cfg": 3.0}
    for negative in (None, prompts["negative_prompt"], "a red star on blue with much more to it"):
        said = {"prompt": prompts["prompt"]} | ({} if negative is None else {"negative_prompt": negative})
        run = {"num_inference_steps": 5, "guidance_scale": 2.0, "generator": generator(SEED)}
        wanted = pipeline(**said, latents=noise.clone(), **run, **size).images
        inside.add(torch.from_numpy(wanted), name=f"3 without {negative}", **case, **said)
    # In fp8 the text encoder's matrices have a scale for each row.
    for layer in pipeline.text_encoder.encoder.modules():
        if isinstance(layer, torch.nn.Linear):
            stored, scale = to_fp8(layer.weight.data)
            layer.weight.data = stored.float() * scale
    run["generator"] = generator(SEED)
    wanted = pipeline(**said, latents=noise.clone(), **run, **size).images
    inside.add(torch.from_numpy(wanted), name="3 text in fp8", text_dtype="fp8_e4m3fn", **case, **said)

    pipeline = silent(Kandinsky3Img2ImgPipeline(**kandinsky3_parts(folder, DDIMScheduler)))
    save_kandinsky3_folder(inside.models / "three ddim")
    scheduler = inside.models / "three ddim" / "scheduler"
    pipeline.scheduler.save_pretrained(scheduler)
    pixels = for_movq(inside.tensors["image"][:, :, :64], 64, 64)
    run = {"num_inference_steps": 6, "guidance_scale": 2.0, "strength": 0.5, "generator": generator(SEED)}
    wanted = pipeline(image=pixels, **prompts, **run, output_type="np").images
    case = {"sampler": "ddim", "cfg": 3.0, "steps": 6, "denoise": 0.5, "start": "start", "noise": "streamed noise"}
    inside.add(torch.from_numpy(wanted), name="3 img2img", model="three ddim", **case, **prompts)

    # The original repository's inpainting and flash: our own loops are the reference, which have their own tests.
    encoder = load_ul2(folder, torch.float32, torch.float32, "device")
    (text,) = Kandinsky3TextEncode().run(encoder, prompts["prompt"])
    variants: dict[str, dict[str, Any]] = {"inpaint": {"in_channels": 9}, "flash": {}}
    for variant, changes in variants.items():
        name = f"three {variant}"
        save_kandinsky3_folder(inside.models / name, **changes)
        weights = inside.models / name / "unet" / "diffusion_pytorch_model.fp16.safetensors"
        tensors = {key: value[:4] if "conv_out." in key else value for key, value in load_file(weights).items()}
        save_file({key: value.clone() for key, value in tensors.items()}, weights)  # diffusers gives back nine channels
        config = inside.models / name / "unet" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"variant": variant}))
        model = load_decoder(inside.models / name)
        width = model.unet.config.encoder_hid_dim
        case = {"model": name, "cfg": 3.0 if variant == "inpaint" else 1.0, "steps": 4, "prompt": prompts["prompt"]}
        with torch.inference_mode():
            if variant == "inpaint":
                # The original ends at timestep 0, ComfyUI's sampler at the last x0.
                x0s: list[torch.Tensor | None] = []
                picture, hole = (inside.tensors[key] for key in ("image", "mask"))
                seen = for_inpainting3(
                    model.decoder.vae, crop_and_resize(picture, 128, 64), for_soft_mask(hole, 128, 64)
                )
                sample(
                    model.unet,
                    model.scheduler,
                    to_text(text, width, "positive"),
                    None,
                    (8, 16),
                    first_then(noise, generator(SEED)),
                    4,
                    2.0,
                    inpaint=Inpaint3(seen[KEEP], seen[MASKED_LATENTS]),
                    on_step=lambda done, steps, x0, x0s=x0s: x0s.append(x0),
                )
                drawn = x0s[-1]
                assert drawn is not None
                case |= {"sampler": "ddpm", "image": "image", "mask3": "mask"}
            else:
                # lcm begins with one noise of variance 1 where the original adds two.
                alpha_prod = model.scheduler.alphas_cumprod[FLASH_TIMESTEPS[0]]
                first = [torch.zeros_like(noise), noise / (1 - alpha_prod).sqrt()]
                drawn = sample_flash(
                    model.unet,
                    model.scheduler,
                    to_text(text, width, "positive"),
                    (8, 16),
                    first_then(*first, generator(SEED)),
                )
                case |= {"sampler": "lcm"}
            image = from_movq(model.movq.decode(drawn))
        inside.add(image, name=f"3 {variant}", **case)
    untold = {key: value for key, value in case.items() if key != "prompt"}
    inside.add(torch.empty(0), name="3 with embeds", error=True, **untold)


NODES: dict[str, dict[str, Any]] = {
    "2.2": {"model": "plain"},
    "2.2 DDIM": {"model": "plain", "scheduler": "DDIM", "batch_size": 2},
    "2.2 without guidance": {"model": "plain", "guidance_scale": 1.0},
    "2.2 streamed": {"model": "plain", "stream": True},
    "2.2 img2img": {"model": "plain", "image": "image", "strength": 0.5},
    "2.2 painted into": {"model": "plain", "image": "image", "mask": "mask", "strength": 1.0},
    "2.2 inpaint": {"model": "inpaint", "image": "image", "mask": "mask"},
    "2.2 depth": {"model": "depth", "hint": "image"},
    "2.1": {"model": "two one", "prompt": "a red star", "negative_prompt": "blue"},
    "2.1 learned DDPM": {"model": "two one", "prompt": "a red star", "scheduler": "DDPM"},
    "2.1 img2img": {"model": "two one", "prompt": "a red star", "image": "image", "strength": 0.5},
    "2.1 inpaint": {"model": "two one inpaint", "prompt": "a red star", "image": "image", "mask": "mask"},
    "3": {"model": "three", "sampling": "auto", "positive": "a red star"},
    "3 negative": {"model": "three", "sampling": "auto", "positive": "a red star", "negative": "a long word of blue"},
    "3 original": {"model": "three", "sampling": "original", "positive": "a red star"},
    "3 img2img": {"model": "three", "sampling": "auto", "positive": "red", "image": "image", "strength": 0.5},
    "3 inpaint": {"model": "three inpaint", "sampling": "auto", "positive": "red", "image": "image", "mask": "mask"},
    "3 flash": {"model": "three flash", "sampling": "auto", "positive": "a red star"},
}
"""Runs of the all-in-one nodes, which are to draw the same on ComfyUI as where there is none."""


def all_in_one_nodes(inside: Inside) -> None:
    for name, case in NODES.items():
        inputs = {key: value for key, value in case.items() if key not in ("model", "stream")}
        if "sampling" not in inputs:
            inputs = {"scheduler": "reference", **inputs}
        inputs = {"guidance_scale": GENTLE, **inputs}
        given = {"width": 128, "height": 64, "seed": SEED, "steps": 4, "batch_size": 1, **inputs}
        given |= {key: inside.tensors[given[key]] for key in ("image", "mask", "hint") if key in given}
        folder = inside.models / case["model"]
        bare, draw2, draw3 = (
            load_decoder(folder),
            cast(Any, KandinskyDecoderNode().run),
            cast(Any, Kandinsky3Decoder().run),
        )
        if "sampling" in given:
            encoder = load_ul2(folder, torch.float32, torch.float32, "device")
            for key in ("positive", "negative"):
                if key in given:
                    (given[key],) = Kandinsky3TextEncode().run(encoder, given[key])
            image, _ = draw3(bare.model, **given)
        else:
            embeds = [ImageEmbeds(inside.tensors[key], {}) for key in ("positive", "negative")]
            image, _ = draw2(bare.model, *embeds, **given)
        options = {"stream": True} if "stream" in case else {}
        inside.add(image, name=f"node {name}", model=case["model"], node=inputs, **options)
    inside.add(
        torch.empty(0), name="node of changed guidance", model="plain", node=inputs_of_22(), patch="cfg", error=True
    )
    foreign = {"model": "three", "node": inputs_of_22()}
    inside.add(torch.empty(0), name="node of another version", error=True, **foreign)
    inside.add(
        torch.empty(0),
        name="node of patched attention",
        model="plain",
        node=inputs_of_22(),
        patch="attention",
        error=True,
    )
    wrapped = {"model": "plain", "node": inputs_of_22()}
    inside.add(inside.wanted["node 2.2"], name="node wrapped", patch="wrapper", **wrapped)
    lora = {"lora": "PEFT.safetensors", "strength": 0.5}
    inside.add(inside.wanted["node 2.2"], name="node LoRA", **lora, **wrapped)


def inputs_of_22() -> dict[str, Any]:
    return {"scheduler": "reference", "guidance_scale": GENTLE}


def all_schedules(inside: Inside) -> None:
    """The timesteps of every shipped workflow's scheduler, and of karras, with the model it is for."""
    for file in sorted((ROOT / "workflows").glob("kandinsky*.json")):
        for node in json.loads(file.read_text("utf-8"))["nodes"]:
            if node["type"] == "KSampler":
                steps, scheduler = node["widgets_values"][2], node["widgets_values"][5]
                model = "three" if file.name.startswith("kandinsky3") else "kandinsky-2-2-pocket-decoder"
                inside.add(
                    torch.empty(0), name=f"schedule of {file.stem}", model=model, steps=steps, scheduler=scheduler
                )
    for model in ("three inpaint", "inpaint"):
        inside.add(torch.empty(0), name=f"full {model}", model=model, steps=1, full=list(FULL))
    inside.add(torch.empty(0), name="schedule karras", model="three", steps=25, scheduler="karras")
    inside.add(torch.empty(0), name="schedule exponential", model="three", steps=25, scheduler="exponential")


FULL = {
    ("reference", 2, 0): True,
    ("reference", 5, 0): True,
    ("reference", 5, 1): False,
    ("reference", 500, 0): True,
    ("simple", 12, 0): True,
    ("simple", 12, 1): False,
    ("karras", 25, 0): True,
    ("karras", 25, 12): False,
    ("normal", 4, 0): True,
    ("normal", 4, 1): False,
    ("ddim_uniform", 5, 0): True,
    ("ddim_uniform", 8, 0): True,
    ("ddim_uniform", 25, 0): True,
    ("ddim_uniform", 25, 10): False,
    ("simple", 1500, 600): False,
}
"""Runs by scheduler, steps and the step they begin with, and whether everything is to be drawn anew."""


def first_then(*sources: torch.Tensor | torch.Generator) -> Noise:
    """Noise that is given, and then drawn from a generator."""
    *given, drawn = sources
    waiting = list(given)

    def noise(shape: Sequence[int]) -> torch.Tensor:
        if waiting:
            return cast(torch.Tensor, waiting.pop(0))
        return torch.randn(tuple(shape), generator=cast(torch.Generator, drawn))

    return noise


def processed(layer: str) -> tuple[str, str]:
    head, _, tail = layer.removesuffix(".0").rpartition(".")
    return f"unet.{head}.processor.{tail}_lora.up.weight", f"unet.{head}.processor.{tail}_lora.down.weight"


LORA_STYLES: dict[str, Callable[[str], tuple[str, ...]]] = {
    "processors": processed,
    "PEFT": lambda layer: (f"base_model.model.{layer}.lora_B.weight", f"base_model.model.{layer}.lora_A.weight"),
    "diffusers": lambda layer: (f"unet.{layer}.lora_B.weight", f"unet.{layer}.lora_A.weight"),
    "kohya": lambda layer: tuple(f"lora_unet_{layer.replace('.', '_')}.lora_{end}.weight" for end in ("up", "down")),
    "ComfyUI": lambda layer: (f"diffusion_model.{layer}.lora_up.weight", f"diffusion_model.{layer}.lora_down.weight"),
}
NAMES = ["2.2 DDPM 4 steps cfg 4.0", "2.2 DDPM 7 steps cfg 4.0", "2.2 DDPM 4 steps cfg 1.0", "2.2 depth"]
NAMES += [*(f"LoRA {style}" for style in LORA_STYLES), "LoRA strength 0"]
NAMES += [
    "2.2 inpaint",
    "2.2 img2img",
    "2.2 depth img2img",
    "single files",
    "saved by ComfyUI",
    "2.2 odd size",
    "2.1",
    "2.1 img2img",
    "2.1 inpaint",
]
NAMES += ["3 without None", "3 without blue", "3 without a red star on blue with much more to it", "3 img2img"]
NAMES += ["3 inpaint", "3 flash"]
NAMES += ["streamed", "again", "LoRA streamed", "LoRA baked in", "merged", "merged and saved", "tiled"]
NAMES += [f"node {name}" for name in NODES]
PRECISE = {
    "fp8_e4m3fn": "2.2 DDPM 4 steps cfg 4.0",
    "fp8_e5m2": "2.2 DDPM 4 steps cfg 4.0",
    "3 text in fp8": "3 without a red star on blue with much more to it",
}
"""Each case in fp8, and the same in float32."""
ERRORS = {
    "LoRA foreign": "Expected a LoRA for plain, but no key of ",
    "LoRA wide": "wide.safetensors does not match plain: down_blocks.1.attentions.0.to_q.weight: expected [32, 32], "
    "got [32, 40]",
    "2.1 without text": "two one expected conditioning from Kandinsky Conditioning, with text 32 wide",
    "inpaint without mask": "two one inpaint is for inpainting and expected an image and a mask: put",
    "3 with embeds": "three flash expected conditioning with text states [batch, tokens, 12], got a tensor of shape",
    "no hint": "depth is a depth decoder and expected a hint in positive and negative: put Kandinsky Depth Hint",
    "patched attention": "Patches inside the network and ControlNets do not work here: this is a Kandinsky model.",
    "patched sizes": "The model has no model_channels: this is a Kandinsky model. Nodes that patch blocks",
    "node of changed guidance": "Another node changed the guidance of this MODEL, but this node runs the original",
    "node of another version": "The decoder three is a Kandinsky 3 model, which takes text: use Kandinsky 3 Decoder",
    "node of patched attention": "Patches inside the network and ControlNets do not work here: this is a Kandinsky",
    "wrong width": "plain expected conditioning from Kandinsky Conditioning, with image embeds 24 wide; got a tensor "
    "of shape [1, 25]",
}


@pytest.mark.parametrize("name", NAMES)
def test_equal(inside: Inside, name: str) -> None:
    wanted, got = inside.wanted[name], inside.result(name)
    assert wanted.std() > 0.01
    assert (got - wanted).abs().max() <= TOLERANCES.get(name, CLOSE)


@pytest.mark.parametrize("name", ERRORS)
def test_error(inside: Inside, name: str) -> None:
    assert ERRORS[name] in bytes(inside.result(name).tolist()).decode()


def test_a_lora_changes_the_picture(inside: Inside) -> None:
    plain, changed = inside.result("LoRA strength 0"), inside.result("LoRA PEFT")
    assert (plain - changed).abs().max() > 10 * CLOSE
    assert (plain == inside.result("2.2 DDPM 4 steps cfg 4.0")).all()


def test_off_the_device_and_on_again_is_the_same(inside: Inside) -> None:
    assert (inside.result("again") == inside.result("2.2 DDPM 4 steps cfg 4.0")).all()


@pytest.mark.parametrize("name", PRECISE)
def test_fp8_is_the_reference_with_its_weights_rounded(inside: Inside, name: str) -> None:
    wanted, got = inside.wanted[name], inside.result(name)
    whole = inside.wanted[PRECISE[name]]
    assert (wanted - whole).abs().max() > 100 * CLOSE, "the weights were not rounded"
    assert (got - wanted).abs().max() <= CLOSE


def test_what_other_nodes_put_around_the_network_is_heeded(inside: Inside) -> None:
    for name in ("wrapped", "node wrapped", "node LoRA"):
        assert (inside.result(name) - inside.wanted[name]).abs().max() > 100 * CLOSE, name


def test_previews_are_in_the_pictures_colours(inside: Inside) -> None:
    wanted, got = inside.wanted["preview"], inside.result("preview")
    assert got.shape == wanted.shape
    assert (got - wanted).abs().mean() < 0.1


@pytest.mark.parametrize("model", ["plain", "three"])
def test_comfyui_keeps_free_what_the_networks_take(inside: Inside, model: str) -> None:
    wanted, got = inside.wanted[f"memory {model}"], inside.result(f"memory {model}")
    assert got.tolist() == wanted.tolist()


def test_every_case_is_tested(inside: Inside) -> None:
    others = {
        "preview",
        "wrapped",
        "node wrapped",
        "node LoRA",
        "full three inpaint",
        "full inpaint",
        *(name for name in inside.wanted if name.startswith(("schedule", "memory"))),
    }
    assert sorted(inside.wanted) == sorted([*NAMES, *PRECISE, *ERRORS, *others])


@pytest.mark.parametrize("model", ["three inpaint", "inpaint"])
def test_inpainting_is_drawn_anew_at_full_denoise_only(inside: Inside, model: str) -> None:
    found = inside.result(f"full {model}").bool().tolist()
    assert dict(zip(FULL, found, strict=True)) == FULL


def test_no_schedule_spends_its_steps_on_pure_noise(inside: Inside) -> None:
    schedules = {name: inside.result(name) for name in inside.wanted if name.startswith("schedule")}
    assert len(schedules) >= 5
    noisy = {name: int((timesteps >= 900).sum()) / len(timesteps) for name, timesteps in schedules.items()}
    assert max(noisy.values()) <= 1 / 3, noisy
