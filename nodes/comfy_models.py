"""Kandinsky as ComfyUI's own MODEL and VAE, and what its CONDITIONING holds.

KSampler, LoRA, previews, masks, low-VRAM streaming and fp8 are ComfyUI's; this says how a Kandinsky network is built,
scheduled and conditioned there. This module and host.py are the only ones that import ComfyUI's modules. Checked
against the versions in docs/compatibility.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.lora
import comfy.lora_convert
import comfy.model_base
import comfy.model_management as management
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from torch import Tensor, nn

from .embeds import describe_width
from .models.loader import WeightsError, check_shapes, weights_file
from .models.loader import _config as read_config_file
from .models.lora import lora_names
from .models.movq import MOVQ, MOVQConfig
from .models.unet2 import UNet2, UNet2Config
from .pipelines import decoder_folders, pick
from .sampling.schedulers import DecoderScheduler
from .sampling.steps import steps_for_strength

LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 8
# Keys of CONDITIONING, beside the tensor that stands first in each entry.
HINT = "kandinsky_hint"
IMAGE_EMBEDS = "kandinsky_image_embeds"


class Latents(comfy.latent_formats.LatentFormat):
    """MOVQ latents as they are. Previews need factors that are fitted to a MOVQ: see `preview_factors`."""

    scale_factor = 1.0
    latent_channels = LATENT_CHANNELS
    latent_rgb_factors: list[list[float]] | None
    latent_rgb_factors_bias: list[float] | None


class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """The reference's noise schedule, and its start: at less than full noise, too, an empty latent becomes noise of
    variance 1 (in ComfyUI's units √(1 + σ²)), while a picture's latents get noise on top."""

    def __init__(self, scheduler: DecoderScheduler) -> None:
        nn.Module.__init__(self)
        self.set_sigmas(((1 - scheduler.kept) / scheduler.kept) ** 0.5)
        self.num_timesteps, self.linear_start, self.linear_end, self.zsnr = len(scheduler.kept), 0.0, 0.0, False
        self.sigma_data = 1.0

    def noise_scaling(
        self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool | None = None
    ) -> Tensor:
        # A sampler says whether it starts from full noise; calls in mid-run leave it out.
        if max_denoise is False and not latent_image.any():
            max_denoise = True
        return super().noise_scaling(sigma, noise, latent_image, bool(max_denoise))


class DiffusionUNet2(UNet2):
    """A 2.x UNet as ComfyUI builds and calls one: predicted noise only, the learned variance is dropped."""

    def __init__(
        self, kandinsky: UNet2Config, dtype: torch.dtype, device: Any = None, operations: Any = None, **_: Any
    ) -> None:
        super().__init__(kandinsky, operations, dtype, device)
        self.dtype = dtype

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
        image_embeds: Tensor | None = None,
        hint: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        assert image_embeds is not None  # extra_conds always gives them
        return super().forward(x, timesteps, image_embeds, hint)[:, :LATENT_CHANNELS]


class Config(comfy.supported_models_base.BASE):
    """What ComfyUI asks of a model before there is one."""

    unet_config: dict[str, Any] = {}
    unet_extra_config: dict[str, Any] = {}
    latent_format = Latents
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]
    memory_usage_factor = 2.0

    def __init__(self, network: UNet2Config, scheduler: DecoderScheduler, name: str) -> None:
        super().__init__({"kandinsky": network})
        self.network, self.scheduler, self.name = network, scheduler, name

    def inpaint_model(self) -> bool:
        return False  # ComfyUI would set up SD's order of channels; Kandinsky2.concat_cond knows ours

    def get_model(self, state_dict: Mapping[str, Tensor], prefix: str = "", device: Any = None) -> Kandinsky2:
        return Kandinsky2(self, device=device)


class HintCond(comfy.conds.CONDRegular):
    """A picture eight times the latents' size, cut as they are where a prompt has an area of its own."""

    def process_cond(self, batch_size: int, area: Any = None, **_: Any) -> HintCond:
        data = self.cond
        if area is not None:
            sides = len(area) // 2
            for i in range(sides):
                data = data.narrow(i + 2, area[i + sides] * PIXELS_PER_LATENT, area[i] * PIXELS_PER_LATENT)
        return self._copy_with(comfy.utils.repeat_to_batch_size(data, batch_size))


class Kandinsky2(comfy.model_base.BaseModel):
    """A Kandinsky 2.x decoder. CONDITIONING for 2.2 is the image embeds, [B, 1, D]."""

    model_config: Config

    def __init__(self, model_config: Config, device: Any = None) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.EPS, device=device, unet_model=DiffusionUNet2)
        self.model_sampling = Sampling(model_config.scheduler)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out = super().extra_conds(**kwargs)
        network, given = self.model_config.network, out.pop("c_crossattn", None)
        out["image_embeds"] = comfy.conds.CONDRegular(self.image_embeds(None if given is None else given.cond))
        if network.addition_embed_type == "image_hint":
            out["hint"] = HintCond(self.hint(kwargs.get(HINT), kwargs["noise"]))
        return out

    def image_embeds(self, given: Tensor | None) -> Tensor:
        wanted = self.model_config.network.encoder_hid_dim
        if given is None or given.ndim != 3 or given.shape[1] != 1 or given.shape[2] != wanted:
            found = "none" if given is None else f"a tensor of shape {list(given.shape)}"
            raise ValueError(
                f"{self.model_config.name} expected conditioning from Kandinsky Conditioning, image embeds "
                f"{describe_width(wanted)}; got {found}. Text conditioning (CLIP Text Encode) does not fit, nor do "
                "embeds of another Kandinsky version."
            )
        return given[:, 0]

    def hint(self, given: Tensor | None, noise: Tensor) -> Tensor:
        if given is None:
            raise ValueError(
                f"{self.model_config.name} is a depth decoder and expected a hint in positive and negative: put "
                "Kandinsky Depth Hint between Kandinsky Conditioning and the sampler."
            )
        height, width = (side * PIXELS_PER_LATENT for side in noise.shape[-2:])
        return comfy.utils.common_upscale(given, width, height, "bilinear", "center").to(noise)


def clip_denoised(scheduler: DecoderScheduler) -> Any:
    """What the reference does to each step's predicted picture, after guidance."""

    def clamp(args: Mapping[str, Any]) -> Tensor:
        reach = scheduler.clip_sample_range
        return args["denoised"].clamp(-reach, reach)

    return clamp


@dataclass(frozen=True)
class WeightDtype:
    """How weights are kept: a dtype (None: ComfyUI chooses), and whether fp8 products are taken in fp8."""

    dtype: torch.dtype | None = None
    fast: bool = False


WEIGHT_DTYPES = {
    "default": WeightDtype(),
    "fp8_e4m3fn": WeightDtype(torch.float8_e4m3fn),
    "fp8_e4m3fn_fast": WeightDtype(torch.float8_e4m3fn, fast=True),
    "fp8_e5m2": WeightDtype(torch.float8_e5m2),
}


def load_state(file: Path) -> dict[str, Tensor]:
    """A safetensors file's tensors, mapped, not read. Raises WeightsError."""
    try:
        return comfy.utils.load_torch_file(str(file), safe_load=True)
    except Exception as error:  # ComfyUI wraps what safetensors raises in its own words, not its own class
        raise WeightsError(f"{file} is not a whole safetensors file ({error}). Download it again.") from error


def load_model(
    file: Path, network: UNet2Config, scheduler: DecoderScheduler, name: str, weights: WeightDtype
) -> comfy.model_patcher.ModelPatcher:
    """The decoder in `file` as a ComfyUI MODEL. As ComfyUI's `load_diffusion_model_state_dict`, but strict: raises
    WeightsError naming missing, extra and misshapen tensors."""
    state = load_state(file)
    wanted = UNet2(network, device="meta").state_dict()
    check_shapes(file, {k: tuple(v.shape) for k, v in wanted.items()}, {k: tuple(v.shape) for k, v in state.items()})
    config = Config(network, scheduler, name)
    supported, device = list(config.supported_inference_dtypes), management.get_torch_device()
    dtype = weights.dtype or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state),
        supported_dtypes=supported,
        weight_dtype=comfy.utils.weight_dtype(state),
    )
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, supported))
    config.optimizations["fp8"] = weights.fast
    offload = management.unet_offload_device()
    model = config.get_model(state).to(offload)
    model.load_model_weights(state, "")
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)
    if scheduler.clip_sample:
        patcher.set_model_sampler_post_cfg_function(clip_denoised(scheduler))
    return patcher


def with_lora(model: comfy.model_patcher.ModelPatcher, file: Path, strength: float) -> comfy.model_patcher.ModelPatcher:
    """`model` with the LoRA in `file`, in any of the published styles of keys. Raises WeightsError if nothing in it, or
    something misshapen, is for this model."""
    prefix = "diffusion_model."
    shapes = {key.removeprefix(prefix): value.shape for key, value in model.model.state_dict().items()}
    names = {name: prefix + key for name, key in lora_names(shapes).items()}
    names |= {prefix + name: key for name, key in names.items()}
    tensors = comfy.lora_convert.convert_lora(load_state(file))
    patches = comfy.lora.load_lora(tensors, names)
    if not patches:
        raise WeightsError(
            f"{file} expected to be a LoRA for {model.model.model_config.name}, but none of its keys names one of that "
            f"network's layers; it has, for instance, {next(iter(tensors), 'no tensors')!r}. Is it for another model?"
        )
    for key, adapter in patches.items():
        up, down = (getattr(adapter, "weights", None) or (None, None))[:2]
        if getattr(adapter, "name", "") == "lora" and up is not None and down is not None:
            wanted, found = shapes[key.removeprefix(prefix)], (up.shape[0], down.shape[1])
            if tuple(wanted[:2]) != found:
                raise WeightsError(
                    f"{file} does not fit {model.model.model_config.name}: {key.removeprefix(prefix)} is "
                    f"{list(wanted)}, the LoRA is for {list(found)}. Is it for another version of Kandinsky?"
                )
    patched = model.clone()
    patched.add_patches(patches, strength)
    return patched


class MOVQAutoencoder(MOVQ):
    """MOVQ as ComfyUI calls an autoencoder: it may hand options along."""

    def encode(self, pixels: Tensor, **_: Any) -> Tensor:
        return super().encode(pixels)

    def decode(self, latents: Tensor, **_: Any) -> Tensor:
        return super().decode(latents)


class MOVQVAE(comfy.sd.VAE):
    """MOVQ as a ComfyUI VAE.

    ComfyUI's constructor recognises autoencoders by their tensors and would take MOVQ for another one. So this lets it
    build its simplest one, for all the attributes a VAE has in this version, and then puts MOVQ in its place.
    """

    def __init__(self, state: dict[str, Tensor], config: MOVQConfig, dtype: torch.dtype | None = None) -> None:
        quiet = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)
        try:
            super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)})
        finally:
            logging.getLogger().setLevel(quiet)
        widest = config.block_out_channels[0] / 128  # ComfyUI's figures are for 128
        self.memory_used_encode = lambda shape, dtype: (
            1767 * shape[2] * shape[3] * management.dtype_size(dtype) * widest
        )
        self.memory_used_decode = lambda shape, dtype: (
            2178 * shape[2] * shape[3] * 64 * management.dtype_size(dtype) * widest
        )
        self.downscale_ratio = self.upscale_ratio = PIXELS_PER_LATENT
        self.latent_channels, self.latent_dim, self.output_channels = LATENT_CHANNELS, 2, 3
        self.process_input = lambda image: image * 2 - 1
        self.process_output = lambda image: ((image + 1) / 2).clamp(0, 1)
        self.working_dtypes = [torch.bfloat16, torch.float32]
        self.device = management.vae_device()
        self.vae_dtype = dtype or management.vae_dtype(self.device, self.working_dtypes)
        movq = MOVQAutoencoder(config, comfy.ops.manual_cast, device="meta")
        movq.load_state_dict({key: value.to(self.vae_dtype) for key, value in state.items()}, assign=True)
        self.first_stage_model = movq.eval().requires_grad_(False)
        self.output_device = management.intermediate_device()
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=management.vae_offload_device()
        )


def load_vae(file: Path, config: MOVQConfig) -> MOVQVAE:
    """The MOVQ in `file` as a ComfyUI VAE. Raises WeightsError naming missing, extra and misshapen tensors."""
    state = load_state(file)
    wanted = MOVQ(config, device="meta").state_dict()
    check_shapes(file, {k: tuple(v.shape) for k, v in wanted.items()}, {k: tuple(v.shape) for k, v in state.items()})
    return MOVQVAE(state, config)


def preview_factors(vae: MOVQVAE) -> tuple[list[list[float]], list[float]]:
    """(factors [4][3], bias [3]): the linear map from latents to colours in −1..1 that fits this MOVQ best.

    Least squares over soft colour gradients, encoded: a fraction of a second, and right for any MOVQ.
    """
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand((8, 3, 3, 3), generator=generator)
    pictures = nn.functional.interpolate(colours, size=64, mode="bilinear", align_corners=True)
    latents = vae.encode(pictures.movedim(1, -1)).cpu()
    wanted = nn.functional.avg_pool2d(pictures, PIXELS_PER_LATENT) * 2 - 1
    rows = latents.movedim(1, -1).reshape(-1, LATENT_CHANNELS)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    found = torch.linalg.lstsq(rows, wanted.movedim(1, -1).reshape(-1, 3)).solution
    return found[:-1].tolist(), found[-1].tolist()


def show_previews(model: comfy.model_patcher.ModelPatcher, vae: MOVQVAE) -> None:
    """Give `model` the previews of the MOVQ its latents are for."""
    factors, bias = preview_factors(vae)
    latents = model.model.latent_format
    latents.latent_rgb_factors, latents.latent_rgb_factors_bias = factors, bias


def unet_sources() -> dict[str, Path]:
    """Name → where it is: official decoder folders, and the files in models/diffusion_models."""
    return decoder_folders() | files("diffusion_models")


def movq_sources() -> dict[str, Path]:
    """Name → where it is: official decoder folders, and the files in models/vae."""
    return decoder_folders() | files("vae")


def load_lora(model: comfy.model_patcher.ModelPatcher, name: str, strength: float) -> comfy.model_patcher.ModelPatcher:
    """`model` with the LoRA called `name` in models/loras."""
    if not isinstance(model.model, Kandinsky2):
        raise TypeError(
            f"Kandinsky LoRA Loader expected a Kandinsky model, got {type(model.model).__name__}: for that one, use "
            "Load LoRA."
        )
    return with_lora(model, pick(files("loras"), name, "LoRA"), strength)


def files(kind: str) -> dict[str, Path]:
    return {
        name: Path(folder_paths.get_full_path_or_raise(kind, name))
        for name in folder_paths.get_filename_list(kind)
        if name.endswith(".safetensors")
    }


def load_unet(name: str, weights: WeightDtype) -> comfy.model_patcher.ModelPatcher:
    """The decoder called `name` as a ComfyUI MODEL."""
    path = pick(unet_sources(), name, "Kandinsky UNet")
    folder = path / "unet"
    network = read_config_file(UNet2Config, folder / "config.json")
    scheduler = read_config_file(DecoderScheduler, path / "scheduler" / "scheduler_config.json")
    return load_model(weights_file(folder), network, scheduler, name, weights)


def load_movq(name: str) -> MOVQVAE:
    """The MOVQ called `name` as a ComfyUI VAE."""
    folder = pick(movq_sources(), name, "MOVQ") / "movq"
    return load_vae(weights_file(folder), read_config_file(MOVQConfig, folder / "config.json"))


def resized(image: Tensor, width: int, height: int) -> Tensor:
    """IMAGE [B, H, W, 3] at another size, cut in the middle to its proportions."""
    return comfy.utils.common_upscale(image.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)


def resized_mask(mask: Tensor, width: int, height: int) -> Tensor:
    """MASK [B, H, W] in the same way."""
    return comfy.utils.common_upscale(mask[:, None], width, height, "bilinear", "center")[:, 0]


def reference_sigmas(model: Any, steps: int, denoise: float) -> Tensor:
    """The reference's own timesteps as SIGMAS [steps + 1]; with denoise < 1 the last int(steps · denoise) of them."""
    inner = getattr(model, "model", None)
    config = getattr(inner, "model_config", None)
    if not isinstance(config, Config):
        raise TypeError(
            f"Kandinsky Sigmas expected a Kandinsky model, got {type(inner).__name__}: for another, use its own "
            "scheduler node."
        )
    scheduler = config.scheduler
    timesteps = steps_for_strength(scheduler.timesteps(steps), denoise)
    sigmas = inner.model_sampling.sigmas.cpu()
    # DDIM without set_alpha_to_one ends at the schedule's first step, not at clean.
    last = sigmas[0] if scheduler.kind == "DDIM" and not scheduler.set_alpha_to_one else torch.zeros(())
    return torch.cat([sigmas[timesteps], last[None]])
