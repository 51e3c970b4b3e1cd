"""Kandinsky as ComfyUI's MODEL, VAE, CLIP and CONDITIONING.

Only this folder and host.py import ComfyUI. docs/compatibility.md lists the tested versions.
"""
