"""The response of /system_stats."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["PROTOCOL_VERSION", "system_stats"]

PROTOCOL_VERSION = "0.33.0"
"""The ComfyUI version whose protocol this host implements."""


def system_stats() -> dict[str, Any]:
    """Returns ComfyUI's keys, and "kandiflux_lite" to identify a lite host. Imports torch: call it in a thread."""
    import torch

    total, free = _memory()
    cuda = torch.cuda.is_available()
    device: dict[str, Any] = {
        "name": torch.cuda.get_device_name() if cuda else "cpu",
        "type": "cuda" if cuda else "cpu",
        "index": torch.cuda.current_device() if cuda else None,
        "vram_total": total,
        "vram_free": free,
        "torch_vram_total": total,
        "torch_vram_free": free,
    }
    if cuda:
        device["vram_free"], device["vram_total"] = torch.cuda.mem_get_info()
        device["torch_vram_total"] = torch.cuda.memory_reserved()
        device["torch_vram_free"] = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return {
        "system": {
            "os": sys.platform,
            "ram_total": total,
            "ram_free": free,
            "comfyui_version": PROTOCOL_VERSION,
            "required_frontend_version": None,
            "installed_templates_version": None,
            "required_templates_version": None,
            "comfy_package_versions": [],
            "python_version": sys.version,
            "pytorch_version": torch.__version__,
            "embedded_python": False,
            "deploy_environment": "kandiflux-lite",
            "argv": sys.argv,
            "kandiflux_lite": True,
        },
        "devices": [device],
    }


def _memory() -> tuple[int, int]:
    """Returns total and available memory in bytes; 0 if unknown."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total, available = (int(fields.get(name, "0 kB").split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        return total, available
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total
    return 0, 0
