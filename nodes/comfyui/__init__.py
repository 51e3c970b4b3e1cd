"""Kandinsky as ComfyUI's own MODEL, VAE, CLIP and CONDITIONING.

KSampler, LoRA, previews, masks, low-VRAM streaming and fp8 are ComfyUI's; this says how a Kandinsky network is built,
scheduled and conditioned there. This folder and host.py are the only places that import ComfyUI's modules; what was
checked against which version of ComfyUI stands in docs/compatibility.md.
"""
