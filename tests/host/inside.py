"""Runs cases in ComfyUI's own Python: `python inside.py COMFYUI PACK MODELS CASES.json TENSORS OUT [OPTIONS…]`.

CASES is a list of {"name", "model", "sampler", …}, see `sample`; TENSORS a safetensors file with their inputs; OUT gets
their pictures, by name. OPTIONS go to ComfyUI. Not a test: test_native_equals_reference.py starts it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def main() -> None:
    comfyui, pack, models, cases, tensors, out, *options = sys.argv[1:]
    sys.argv = ["main.py", "--cpu", "--base-directory", models, *options]
    os.chdir(comfyui)
    sys.path.insert(0, comfyui)
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(1)
    nodes = load_pack(Path(pack))
    given = load_file(tensors)
    with torch.inference_mode():
        results = {}
        for case in json.loads(Path(cases).read_text()):
            try:
                results[case["name"]] = sample(nodes, case, given)
            except Exception as error:
                if "error" not in case:
                    raise
                results[case["name"]] = torch.tensor(list(str(error).encode()), dtype=torch.uint8)
    save_file({name: value.contiguous().clone() for name, value in results.items()}, out)


def load_pack(folder: Path) -> dict[str, Any]:
    """The pack's nodes, imported as ComfyUI does."""
    import comfy.model_management  # noqa: F401  the pack looks for it, to know where it is
    import folder_paths  # noqa: F401

    spec = importlib.util.spec_from_file_location(
        "pack", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NODE_CLASS_MAPPINGS


def sample(nodes: dict[str, Any], case: dict[str, Any], given: dict[str, Any]) -> Any:
    """IMAGE of one run of a custom sampler with the reference's sigmas.

    Keys of a case: name, model (folder), sampler, steps, cfg, seed (of the noise between steps), positive, negative,
    noise (names of tensors). Perhaps: start (latents), denoise, weight_dtype, hint, image (IMAGE), mask (MASK) and
    keep_rest, movq (another folder or file), lora and strength. For 2.1: text and negative_text; for 3: prompt,
    negative_prompt, text_dtype and mask3 (MASK). stream: weights are brought one by one; again: a second run after all
    models were taken off the device; tiled: decoding is; saved: the model is saved by ComfyUI's node and loaded again;
    merge: another model, of which this one gets a quarter; baked: saved and loaded again after LoRA and merge;
    patch: one of `patched`; preview_of: an IMAGE, whose preview is the result; scheduler: one of ComfyUI's, whose
    timesteps are the result; full: [scheduler, steps, step to begin with], …, of which the result says whether all is
    drawn anew; memory: the shape of latents, for which the result is what ComfyUI keeps free; node: inputs of the
    all-in-one node, which draws it; error: the run is to fail, and its message, in bytes, is the result.
    """
    import comfy.model_management
    import comfy.sample
    import comfy.sampler_helpers
    import comfy.samplers
    import torch
    from comfy_extras.nodes_model_merging import ModelMergeSimple

    import nodes as core

    def run(kind: str, **inputs: Any) -> Any:
        node = nodes[kind]
        return getattr(node(), node.FUNCTION)(**inputs)

    if "preview_of" in case:
        return preview(run, case["model"], given[case["preview_of"]])
    (model,) = run("KandinskyModelLoader", unet=case["model"], weight_dtype=case.get("weight_dtype", "default"))
    if "scheduler" in case:
        sampling = model.get_model_object("model_sampling")
        return sampling.timestep(comfy.samplers.calculate_sigmas(sampling, case["scheduler"], case["steps"])[:-1])
    if "memory" in case:
        (_, channels, height, width), dtype = case["memory"], torch.float32
        (vae,) = run("KandinskyVAELoader", movq=case["model"])
        pixels = (1, 3, 8 * height, 8 * width)
        needed = comfy.sampler_helpers.estimate_memory(model, case["memory"], {})
        decode = vae.memory_used_decode((1, channels, height, width), dtype)
        return torch.tensor([*needed, vae.memory_used_encode(pixels, dtype), decode], dtype=torch.float64)
    if "full" in case:
        from pack.nodes.comfyui.sampling import is_full_denoise  # pyright: ignore[reportMissingImports]

        sampling, decoder = model.get_model_object("model_sampling"), model.model.decoder
        found = []
        for scheduler, steps, begin in case["full"]:
            if scheduler == "reference":
                (sigmas,) = run("KandinskySigmas", model=model, steps=steps, denoise=1.0)
            else:
                sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
            found.append(float(is_full_denoise(decoder, sampling.sigmas, sigmas[begin:])))
        return torch.tensor(found)
    if case.get("saved"):
        (model,) = run("KandinskyModelLoader", unet=saved(model), weight_dtype="default")
    if "patch" in case:
        model = patched(model, case["patch"])
    if "lora" in case:
        (model,) = run("KandinskyLoraLoader", model=model, lora=case["lora"], strength=case.get("strength", 1.0))
    if "merge" in case:
        (other,) = run("KandinskyModelLoader", unet=case["merge"], weight_dtype="default")
        (model,) = ModelMergeSimple().merge(model, other, 0.75)
    if case.get("baked"):
        (model,) = run("KandinskyModelLoader", unet=saved(model), weight_dtype="default")
    if "node" in case:
        return all_in_one(run, model, case, given)
    if "prompt" in case:
        positive, negative = conditioning3(run, core, case)
    else:
        positive, negative = conditioning2(run, core, case, given)
    if "hint" in case:
        positive, negative = run(
            "KandinskyDepthHint", positive=positive, negative=negative, depth=given[case["hint"]].movedim(1, -1)
        )
    (sigmas,) = run("KandinskySigmas", model=model, steps=case["steps"], denoise=case.get("denoise", 1.0))
    noise = given[case["noise"]]
    (vae,) = run("KandinskyVAELoader", movq=case.get("movq", case["model"]))
    start, mask = noise.new_zeros(noise.shape), None
    if "start" in case:
        start = given[case["start"]]
    if "mask" in case:
        options = {"pixels": given[case["image"]], "mask": given[case["mask"]]}
        positive, negative, latent = run(
            "KandinskyInpaintConditioning",
            positive=positive,
            negative=negative,
            vae=vae,
            keep_rest=case["keep_rest"],
            **options,
        )
        start, mask = latent["samples"], latent.get("noise_mask")
    if "mask3" in case:
        options = {"pixels": given[case["image"]], "mask": given[case["mask3"]]}
        positive, negative, latent = run(
            "Kandinsky3InpaintConditioning", positive=positive, negative=negative, vae=vae, **options
        )

    def picture() -> Any:
        sampler = sampler_with_noise(case["sampler"], case["seed"], noise)
        options = {"seed": case["seed"], "noise_mask": mask, "disable_pbar": True}
        latents = comfy.sample.sample_custom(
            model, noise, case["cfg"], sampler, sigmas, positive, negative, start, **options
        )
        return vae.decode_tiled(latents) if case.get("tiled") else vae.decode(latents)

    if case.get("stream"):
        with streaming():
            picture_streamed = picture()
        assert model.model.model_lowvram, "ComfyUI loaded the model whole"
        return picture_streamed
    if case.get("again"):
        picture()
        comfy.model_management.unload_all_models()
    return picture()


def all_in_one(run: Any, model: Any, case: dict[str, Any], given: dict[str, Any]) -> Any:
    """IMAGE of Kandinsky Decoder or Kandinsky 3 Decoder, whose inputs are case["node"]: names of tensors stand for the
    tensors, and "vae", "clip" and prompts are what the nodes make of them."""
    from pack.nodes.embeds import ImageEmbeds  # pyright: ignore[reportMissingImports]

    inputs = {"width": 128, "height": 64, "seed": case["seed"], "steps": 4, "batch_size": 1, **case["node"]}
    inputs["vae"] = run("KandinskyVAELoader", movq=case.get("movq", case["model"]))[0]
    for name in ("image", "mask", "hint"):
        if name in inputs:
            inputs[name] = given[inputs[name]]
    if "sampling" in inputs:
        (clip,) = run("KandinskyCLIPLoader", text_encoder=case["model"], dtype="fp32")
        for name in ("positive", "negative"):
            if name in inputs:
                (inputs[name],) = run("Kandinsky3TextEncode", text_encoder=clip, prompt=inputs[name])
        draw = lambda: run("Kandinsky3Decoder", kandinsky3=model, **inputs)[0]  # noqa: E731
    else:
        embeds = {"image_embeds": "positive", "negative_image_embeds": "negative"}
        inputs |= {key: ImageEmbeds(given[case[name]], {}) for key, name in embeds.items()}
        if "prompt" in inputs:
            (inputs["clip"],) = run("KandinskyCLIPLoader", text_encoder=case["model"])
        draw = lambda: run("KandinskyDecoder", decoder=model, **inputs)[0]  # noqa: E731
    if case.get("stream"):
        with streaming():
            picture = draw()
        assert model.model.model_lowvram, "ComfyUI loaded the model whole"
        return picture
    return draw()


def patched(model: Any, kind: str) -> Any:
    """`model` as other packs' nodes change one: "attention" replaces one inside; "sizes" reads those of Stable
    Diffusion's UNet; "wrapper" halves what the network gives, from around it."""
    from comfy.patcher_extension import WrappersMP

    model = model.clone()
    if kind == "attention":
        model.set_model_attn1_replace(lambda q, k, v, options: q, "middle", 0)
    elif kind == "sizes":
        model.model.model_config.unet_config["model_channels"]
    elif kind == "cfg":
        model.set_model_sampler_cfg_function(lambda args: args["cond"])
    else:
        assert kind == "wrapper"

        def halve(executor: Any, x: Any, timesteps: Any, context: Any, options: Any, **given: Any) -> Any:
            assert "sample_sigmas" in options
            return executor(x, timesteps, context, options, **given) / 2

        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", halve)
    return model


def saved(model: Any) -> str:
    """The file's name in models/diffusion_models that ComfyUI's ModelSave writes."""
    import folder_paths
    from comfy_extras.nodes_model_merging import save_checkpoint

    folder = folder_paths.get_folder_paths("diffusion_models")[1]  # the first is models/unet
    before = set(Path(folder).iterdir())
    save_checkpoint(model, filename_prefix="saved", output_dir=folder)
    folder_paths.filename_list_cache.clear()
    (made,) = set(Path(folder).iterdir()) - before
    return made.name


def sampler_with_noise(name: str, seed: int, like: Any) -> Any:
    """ComfyUI's sampler `name`; ddpm and lcm draw the noise between steps from `seed`, as diffusers' generator does.

    Left to itself, ComfyUI draws it from another seed on a CPU than on a GPU, since 2025-12-26: seed + 1.
    """
    import comfy.samplers
    import torch

    if name not in ("ddpm", "lcm"):
        return comfy.samplers.sampler_object(name)
    generator = torch.Generator().manual_seed(seed)
    return comfy.samplers.ksampler(
        name, {"noise_sampler": lambda sigma, sigma_next: torch.randn(like.shape, generator=generator)}
    )


def preview(run: Any, name: str, image: Any) -> Any:
    """The latent preview [1, h, w, 3] of an IMAGE, as the editor is sent one."""
    import latent_preview
    import torch

    (vae,) = run("KandinskyVAELoader", movq=name)
    (model,) = run("KandinskyModelLoader", unet=name, weight_dtype="default", vae=vae)
    latents = model.model.latent_format
    previewer = latent_preview.Latent2RGBPreviewer(latents.latent_rgb_factors, latents.latent_rgb_factors_bias)
    picture = previewer.decode_latent_to_preview(vae.encode(image))
    return torch.tensor(list(picture.getdata())).reshape(1, picture.height, picture.width, 3) / 255


def conditioning2(run: Any, core: Any, case: dict[str, Any], given: dict[str, Any]) -> Any:
    from pack.nodes.embeds import ImageEmbeds  # pyright: ignore[reportMissingImports]

    embeds = {name: ImageEmbeds(given[case[name]], {}) for name in ("positive", "negative")}
    said = {}
    if "text" in case:
        (clip,) = run("KandinskyCLIPLoader", text_encoder=case["model"])
        said = {name: core.CLIPTextEncode().encode(clip, case[name])[0] for name in ("text", "negative_text")}
    return run(
        "KandinskyConditioning", image_embeds=embeds["positive"], negative_image_embeds=embeds["negative"], **said
    )


def conditioning3(run: Any, core: Any, case: dict[str, Any]) -> Any:
    (clip,) = run("Kandinsky3CLIPLoader", text_encoder=case["model"], dtype=case.get("text_dtype", "fp32"))
    said = {"positive": core.CLIPTextEncode().encode(clip, case["prompt"])[0]}
    if "negative_prompt" in case:
        said["negative"] = core.CLIPTextEncode().encode(clip, case["negative_prompt"])[0]
    return run("Kandinsky3Conditioning", **said)


@contextmanager
def streaming() -> Iterator[None]:
    """As on a GPU with no room: ComfyUI keeps (nearly) all weights off the device and brings each when it is used."""
    import comfy.model_patcher

    patcher = comfy.model_patcher.ModelPatcher
    whole = patcher.partially_load
    patcher.partially_load = lambda self, device_to, extra_memory=0, **options: whole(self, device_to, 1, **options)
    try:
        yield
    finally:
        patcher.partially_load = whole


if __name__ == "__main__":
    main()
