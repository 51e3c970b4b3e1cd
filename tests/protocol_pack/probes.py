"""One small node for each thing a host must do: report progress, fail, map over lists, ask for lazy inputs, …"""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import os
import time
from collections.abc import Callable
from typing import Any

from PIL import Image


class AnyType(str):
    """Fits every type, by the trick that node packs use."""

    def __ne__(self, other: object) -> bool:
        return False


ANY = AnyType("*")
LONG_LIST = [f"choice {number}" for number in range(30)]


def progress_reporter(total: int) -> Callable[[int, Any], None]:
    """A function (value, preview) that reports progress to whichever host runs this; it raises on interrupt."""
    try:
        bar = importlib.import_module("comfy.utils").ProgressBar(total)
    except ImportError:
        seam = importlib.import_module("kandiflux.lite.seam")
        return lambda value, preview: seam.active.progress(value, total, preview)
    return lambda value, preview: bar.update_absolute(value, total, preview)


class Probe:
    """What the probes share."""

    CATEGORY = "testing"
    FUNCTION = "run"


class ProbeSteps(Probe):
    """Takes its time, reports progress, and shows previews if asked."""

    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "steps": ("INT", {"default": 3, "min": 1, "max": 1000}),
                "delay": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 10.0}),
                "preview": (["none", "JPEG", "PNG"],),
            }
        }

    def run(self, steps: int, delay: float, preview: str) -> tuple[int]:
        report = progress_reporter(steps)
        for step in range(1, steps + 1):
            time.sleep(delay)
            report(step, None if preview == "none" else (preview, Image.new("RGB", (64, 32), (step, 0, 0)), 16))
        return (steps,)


class ProbeFail(Probe):
    """Raises."""

    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"message": ("STRING", {"default": "broken"}), "kind": (["value", "own", "none"],)},
            "optional": {"after": (ANY,)},
            "hidden": {"node_id": "UNIQUE_ID"},
        }

    def run(self, message: str, kind: str, node_id: str, after: Any = None) -> Any:
        if kind == "value":
            raise ValueError(message)
        if kind == "own":
            raise ProbeError(message)
        return None  # not a tuple: the host's own error


class ProbeError(Exception):
    """An exception class that lives in a pack."""


class ProbeList(Probe):
    """A list output of n numbers, and a plain output."""

    RETURN_TYPES = ("INT", "INT")
    RETURN_NAMES = ("numbers", "count")
    OUTPUT_IS_LIST = (True, False)
    OUTPUT_TOOLTIPS = ("0 … n-1", "n")
    DESCRIPTION = "Counts."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"n": ("INT", {"default": 3, "min": 0, "max": 100})}}

    def run(self, n: int) -> tuple[list[int], int]:
        return list(range(n)), n


class ProbeAdd(Probe):
    """Runs once a list item."""

    RETURN_TYPES = ("INT",)
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"a": ("INT", {"forceInput": True}), "b": ("INT", {"default": 1, "min": -9, "max": 9})}}

    def run(self, a: int, b: int) -> tuple[int]:
        return (a + b,)


class ProbeJoin(Probe):
    """Takes whole lists."""

    RETURN_TYPES = ("STRING",)
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"values": (ANY,), "separator": ("STRING", {"default": ","})}}

    def run(self, values: list[Any], separator: list[str]) -> tuple[str]:
        return (separator[0].join(str(value) for value in values),)


class ProbeShow(Probe):
    """An output node that shows text and passes its value on."""

    RETURN_TYPES = (ANY,)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,)}}

    def run(self, value: Any) -> dict[str, Any]:
        return {"ui": {"text": [_shown(value)]}, "result": (value,)}


def _shown(value: Any) -> str:
    """str, but of a tensor its shape and up to about a thousand values: how much str shows, other nodes change."""
    if not hasattr(value, "flatten"):  # torch is imported only by the nodes that need it
        return str(value)
    some = value.flatten()[:: max(1, value.numel() // 1000)]
    return f"{tuple(value.shape)} {some.tolist()}"


class ProbeQuiet(Probe):
    """An output node that shows nothing."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,)}}

    def run(self, value: Any) -> tuple[()]:
        return ()


class ProbeChanged(Probe):
    """Answers IS_CHANGED as told."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"mode": (["same", "nan", "fresh nan", "raise", "list"],)}}

    @classmethod
    def IS_CHANGED(cls, mode: str) -> Any:
        if mode == "raise":
            raise RuntimeError("IS_CHANGED failed")
        return {"same": "a", "nan": math.nan, "fresh nan": float("nan"), "list": [1, {"b": 2}]}[mode]

    def run(self, mode: str) -> tuple[str]:
        return (mode,)


class ProbeChecked(Probe):
    """VALIDATE_INPUTS: an answer of each kind."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "answer": (["true", "false", "text", "raise"],),
                "number": ("INT", {"default": 1, "min": 0, "max": 5}),
                "free": ("INT", {"default": 1, "min": 0, "max": 5}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, answer: str, free: int) -> bool | str:
        if answer == "raise":
            raise RuntimeError("VALIDATE_INPUTS failed")
        return {"true": True, "false": False}.get(answer, "not this one")

    def run(self, answer: str, number: int, free: int) -> tuple[str]:
        return (f"{answer} {number} {free}",)


class ProbeTypes(Probe):
    """VALIDATE_INPUTS that checks linked types itself, and takes whatever comes."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT",)}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, str], **_: Any) -> bool | str:
        return input_types.get("value") != "FLOAT" or "no floats here"

    def run(self, value: Any) -> tuple[str]:
        return (repr(value),)


class ProbeChoice(Probe):
    """Widgets of each kind, to be filled in wrongly."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "short": (["a", "b"], {"tooltip": "one of two"}),
                "long": (LONG_LIST,),
                "number": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "whole": ("INT", {"default": 1, "min": 0, "max": 5}),
                "flag": ("BOOLEAN", {"default": False}),
            },
            "optional": {"either": ("STRING,INT", {"forceInput": True}), "anything": ("LIST",)},
        }

    def run(self, **values: Any) -> tuple[str]:
        return (json.dumps(values, sort_keys=True),)


class ProbeLazy(Probe):
    """Asks for only one of its two lazy inputs."""

    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        lazy = {"lazy": True, "forceInput": True}
        return {"required": {"second": ("BOOLEAN", {"default": False}), "a": ("INT", lazy), "b": ("INT", lazy)}}

    def check_lazy_status(self, second: bool, a: int | None = None, b: int | None = None) -> list[str]:
        return ["b"] if second else ["a"]

    def run(self, second: bool, a: int | None = None, b: int | None = None) -> tuple[int | None]:
        return (b if second else a,)


class ProbeHidden(Probe):
    """Shows what it gets in its hidden inputs."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        hidden = {"prompt": "PROMPT", "extra": "EXTRA_PNGINFO", "node_id": "UNIQUE_ID", "graph": "DYNPROMPT"}
        return {"required": {"value": (ANY,)}, "hidden": hidden}

    def run(self, value: Any, prompt: Any, extra: Any, node_id: str, graph: Any) -> dict[str, Any]:
        seen = {"prompt": prompt, "extra": extra, "node_id": node_id, "class": graph.get_node(node_id)["class_type"]}
        return {"ui": {"text": [json.dumps(seen, sort_keys=True)]}}


class ProbeAsync(Probe):
    """A coroutine."""

    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 1})}}

    async def run(self, value: int) -> tuple[int]:
        await asyncio.sleep(0)
        return (value + 1,)


class ProbeNoted(Probe):
    """Writes down each time it runs, in a file of the test's, and passes its value on. Never answered from a cache.

    One short append a run: whole even where the host is killed, and however many hosts share the file.
    """

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "value": (ANY,),
                "number": ("INT", {"default": 0, "min": 0, "max": 1 << 40}),
                "file": ("STRING", {"default": ""}),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 600.0, "step": 0.001}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return math.nan

    def run(self, value: Any, number: int, file: str, seconds: float) -> tuple[Any]:
        notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(notes, f"{number}\n".encode())
        finally:
            os.close(notes)
        time.sleep(seconds)
        return (value,)


_PROBES = (
    ProbeSteps,
    ProbeFail,
    ProbeList,
    ProbeAdd,
    ProbeJoin,
    ProbeShow,
    ProbeQuiet,
    ProbeChanged,
    ProbeChecked,
    ProbeTypes,
    ProbeChoice,
    ProbeLazy,
    ProbeHidden,
    ProbeAsync,
    ProbeNoted,
)
NODE_CLASS_MAPPINGS = {probe.__name__: probe for probe in _PROBES}
NODE_DISPLAY_NAME_MAPPINGS = {"ProbeSteps": "Steps (probe)"}
