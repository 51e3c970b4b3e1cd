"""What /system_stats tells of the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kandiflux.lite.stats import PROTOCOL_VERSION, system_stats


def physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_the_system() -> None:
    system = system_stats()["system"]
    known = {
        "os": sys.platform,
        "comfyui_version": PROTOCOL_VERSION,
        "python_version": sys.version,
        "pytorch_version": torch.__version__,
        "embedded_python": False,
        "kandiflux_lite": True,
        "argv": sys.argv,
        "comfy_package_versions": [],
    }
    assert {name: system[name] for name in known} == known


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is available")
def test_memory() -> None:
    system = system_stats()["system"]
    assert system["ram_total"] == physical_memory()
    available = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())["MemAvailable"]
    assert system["ram_free"] == pytest.approx(int(available.removesuffix("kB")) * 1024, abs=physical_memory() / 4)
    assert system["ram_free"] % 1024 == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no sysconf")
def test_memory_of_systems_that_tell_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> tuple[int, int]:
        system = system_stats()["system"]
        return system["ram_total"], system["ram_free"]

    monkeypatch.setattr(Path, "is_file", lambda _: False)
    assert told() == (physical_memory(), physical_memory())
    monkeypatch.setattr(os, "sysconf_names", {})
    assert told() == (0, 0)
    monkeypatch.delattr(os, "sysconf_names")
    assert told() == (0, 0)


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    stats = system_stats()
    total, free = stats["system"]["ram_total"], stats["system"]["ram_free"]
    (device,) = stats["devices"]
    sizes = {"vram_total": total, "torch_vram_total": total, "vram_free": free, "torch_vram_free": free}
    assert device == {"name": "cpu", "type": "cpu", "index": None, **sizes}


def test_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {
        "is_available": True,
        "get_device_name": "a GPU",
        "current_device": 0,
        "mem_get_info": (3, 8),
        "memory_reserved": 5,
        "memory_allocated": 2,
    }
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    sizes = {"vram_total": 8, "vram_free": 3, "torch_vram_total": 5, "torch_vram_free": 3}
    assert system_stats()["devices"] == [{"name": "a GPU", "type": "cuda", "index": 0, **sizes}]
