"""Known model files: URLs, folders, hashes and sizes of files that workflows often name without a URL.

Sizes and hashes are those that the repositories publish; None if unknown.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from kandiflux.models.model_files import ModelFile

__all__ = ["CONVERTED", "folder_of_class", "folder_of_input", "known_model"]

_HUB = "https://huggingface.co"
_SPLIT = "resolve/main/split_files"

# name, folder, path under Hugging Face, sha256, size in bytes
_FACTS: tuple[tuple[str, str, str, str | None, int | None], ...] = (
    ("flux1-dev.safetensors", "diffusion_models", "Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors",
     "4610115bb0c89560703c892c59ac2742fa821e60ef5871b33493ba544683abd7", 23802932552),
    ("flux1-dev-fp8.safetensors", "checkpoints", "Comfy-Org/flux1-dev/resolve/main/flux1-dev-fp8.safetensors",
     "8e91b68084b53a7fc44ed2a3756d821e355ac1a7b6fe29be760c1db532f3d88a", 17246524772),
    ("flux1-schnell.safetensors", "diffusion_models", "Comfy-Org/flux1-schnell/resolve/main/flux1-schnell.safetensors",
     "9403429e0052277ac2a87ad800adece5481eecefd9ed334e1f348723621d2a0a", 23782506688),
    ("flux1-schnell-fp8.safetensors", "checkpoints",
     "Comfy-Org/flux1-schnell/resolve/main/flux1-schnell-fp8.safetensors",
     "ead426278b49030e9da5df862994f25ce94ab2ee4df38b556ddddb3db093bf72", None),
    ("clip_l.safetensors", "text_encoders", "comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors",
     "660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd", 246144152),
    ("t5xxl_fp16.safetensors", "text_encoders", "comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp16.safetensors",
     "6e480b09fae049a72d2a8c5fbccb8d3e92febeb233bbe9dfe7256958a9167635", 9787841024),
    ("t5xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders",
     "comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp8_e4m3fn_scaled.safetensors",
     "a498f0485dc9536735258018417c3fd7758dc3bccc0a645feaa472b34955557a", 5157348688),
    ("ae.safetensors", "vae", f"Comfy-Org/Lumina_Image_2.0_Repackaged/{_SPLIT}/vae/ae.safetensors",
     "afc8e28272cd15db3919bacdb6918ce9c1ed22e96cb12c4d5ed0fba823529e38", 335304388),
    ("flux1-fill-dev.safetensors", "diffusion_models",
     f"Comfy-Org/flux1-dev/{_SPLIT}/diffusion_models/flux1-fill-dev.safetensors",
     "03e289f530df51d014f48e675a9ffa2141bc003259bf5f25d75b957e920a41ca", None),
    ("flux1-canny-dev.safetensors", "diffusion_models",
     f"Comfy-Org/flux1-dev/{_SPLIT}/diffusion_models/flux1-canny-dev.safetensors",
     "996876670169591cb412b937fbd46ea14cbed6933aef17c48a2dcd9685c98cdb", None),
    ("flux1-depth-dev.safetensors", "diffusion_models",
     "black-forest-labs/FLUX.1-Depth-dev/resolve/main/flux1-depth-dev.safetensors",
     "41360d1662f44ca45bc1b665fe6387e91802f53911001630d970a4f8be8dac21", None),
    ("flux1-canny-dev-lora.safetensors", "loras",
     "black-forest-labs/FLUX.1-Canny-dev-lora/resolve/main/flux1-canny-dev-lora.safetensors",
     "8eaa21b9c43d5e7242844deb64b8cf22ae9010f813f955ca8c05f240b8a98f7e", None),
    ("flux1-depth-dev-lora.safetensors", "loras",
     f"Comfy-Org/flux1-dev/{_SPLIT}/loras/flux1-depth-dev-lora.safetensors",
     "1938b38ea0fdd98080fa3e48beb2bedfbc7ad102d8b65e6614de704a46d8b907", None),
    ("flux1-redux-dev.safetensors", "style_models",
     "Comfy-Org/Flux1-Redux-Dev/resolve/main/flux1-redux-dev.safetensors",
     "a1b3bdcb4bdc58ce04874b9ca776d61fc3e914bb6beab41efb63e4e2694dca45", None),
    ("sigclip_vision_patch14_384.safetensors", "clip_vision",
     "Comfy-Org/sigclip_vision_384/resolve/main/sigclip_vision_patch14_384.safetensors",
     "1fee501deabac72f0ed17610307d7131e3e9d1e838d0363aa3c2b97a6e03fb33", None),
    ("flux1-dev-kontext_fp8_scaled.safetensors", "diffusion_models",
     f"Comfy-Org/flux1-kontext-dev_ComfyUI/{_SPLIT}/diffusion_models/flux1-dev-kontext_fp8_scaled.safetensors",
     "630ba795ec64283b4230ea23cf79406c2c68b7c578229ed139f30043eadb30a2", 11904640136),
    ("v1-5-pruned-emaonly-fp16.safetensors", "checkpoints",
     "Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
     "e9476a13728cd75d8279f6ec8bad753a66a1957ca375a1464dc63b37db6e3916", None),
    ("vae-ft-mse-840000-ema-pruned.safetensors", "vae",
     "stabilityai/sd-vae-ft-mse-original/resolve/main/vae-ft-mse-840000-ema-pruned.safetensors", None, None),
    ("control_v11p_sd15_scribble_fp16.safetensors", "controlnet",
     "comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/control_v11p_sd15_scribble_fp16.safetensors",
     None, None),
    ("control_v11p_sd15_openpose_fp16.safetensors", "controlnet",
     "comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/control_v11p_sd15_openpose_fp16.safetensors",
     None, None),
    ("control_v11f1p_sd15_depth_fp16.safetensors", "controlnet",
     "comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/control_v11f1p_sd15_depth_fp16.safetensors",
     None, None),
    ("RealESRGAN_x4plus.safetensors", "upscale_models",
     "Comfy-Org/Real-ESRGAN_repackaged/resolve/main/RealESRGAN_x4plus.safetensors", None, None),
)  # fmt: skip
_SIZES = {
    # Official files of Kandinsky 2.2, by their names in the shipped workflows.
    "kandinsky-2-2-prior.safetensors": 4104940968,
    "kandinsky-2-2-text-encoder.safetensors": 2778702976,
    "kandinsky-2-2-image-encoder.safetensors": 3689912664,
    "kandinsky-2-2-decoder.safetensors": 5012309584,
    "kandinsky-2-2-decoder-inpaint.safetensors": 5012378704,
    "kandinsky-2-2-controlnet-depth.safetensors": 5013798992,
    "kandinsky-2-2-movq.safetensors": 271380364,
}
_KNOWN = {
    name: ModelFile(name, folder, f"{_HUB}/{path}", digest, size=size) for name, folder, path, digest, size in _FACTS
} | {name: ModelFile(name, size=size) for name, size in _SIZES.items()}

CONVERTED = frozenset({"kandinsky-3-flash", "kandinsky-3-inpainting"})
"""Folders of models/kandinsky that are not published in this form: `kandiflux models convert` makes them."""

_FOLDER_OF = {
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "vae_name": "vae",
    "lora_name": "loras",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "photomaker_model_name": "photomaker",
    "audio_encoder_name": "audio_encoders",
}
_FOLDER_OF_CLASS = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("ModelPatchLoader", "name"): "model_patches",
}
_FOLDER_OF_LOADER = {
    "CheckpointLoader": "checkpoints",
    "CheckpointLoaderSimple": "checkpoints",
    "ImageOnlyCheckpointLoader": "checkpoints",
    "unCLIPCheckpointLoader": "checkpoints",
    "UNETLoader": "diffusion_models",
    "VAELoader": "vae",
    "CLIPLoader": "text_encoders",
    "DualCLIPLoader": "text_encoders",
    "TripleCLIPLoader": "text_encoders",
    "QuadrupleCLIPLoader": "text_encoders",
    "LoraLoader": "loras",
    "LoraLoaderModelOnly": "loras",
    "ControlNetLoader": "controlnet",
    "DiffControlNetLoader": "controlnet",
    "StyleModelLoader": "style_models",
    "CLIPVisionLoader": "clip_vision",
    "UpscaleModelLoader": "upscale_models",
    "GLIGENLoader": "gligen",
    "HypernetworkLoader": "hypernetworks",
    "PhotoMakerLoader": "photomaker",
    "ModelPatchLoader": "model_patches",
    "AudioEncoderLoader": "audio_encoders",
}


def folder_of_class(class_type: str) -> str | None:
    """Returns the model folder that a built-in loader class of ComfyUI reads; None for other classes."""
    return _FOLDER_OF_LOADER.get(class_type)


def known_model(name: str, directory: str | None = None) -> ModelFile | None:
    """Returns the known file of this name; None if there is none, or it belongs in another folder than `directory`."""
    known = _KNOWN.get(PurePosixPath(name.replace("\\", "/")).name)
    if known is None or (directory and known.directory and directory != known.directory):
        return None
    return known


def folder_of_input(class_type: str, input_name: str) -> str | None:
    """Returns the model folder that an input of a built-in loader lists; None if unknown."""
    if (class_type, input_name) in _FOLDER_OF_CLASS:
        return _FOLDER_OF_CLASS[class_type, input_name]
    if input_name.rstrip("0123456789") == "clip_name":
        return "text_encoders"
    return _FOLDER_OF.get(input_name)
