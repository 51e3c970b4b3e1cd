"""ComfyUI with the small models of one family, and shipped workflows run on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import RunningHost, running_comfyui, why_no_comfyui
from tests.support.kandinsky_runs import a_picture
from tests.support.places import ROOT
from tests.support.pocket_runs import Pixels, Runner

SMALL = {"width": 64, "height": 64, "megapixels": 0.02, "steps": 2, "second_steps": 2, "batch_size": 1, "scale": 0.5}
SMALL |= dict.fromkeys(("left", "top", "right", "bottom"), 64)


@contextmanager
def small_comfyui(base: Path, family: str) -> Iterator[RunningHost]:
    """A ComfyUI with `family` (flux, sd15); its models are gone afterwards. Skips where there is no ComfyUI."""
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SMALL_MODELS", family)
            with running_comfyui(base, packs=(ROOT, ROOT / "tests" / "small_models")) as host:
                yield host
    finally:
        for path in (base / "models").rglob("*.safetensors"):
            path.unlink()


def draw(host: RunningHost, folder: Path, name: str, **parameters: Any) -> list[Pixels]:
    """The pictures of a shipped workflow, as small as it can be but for `parameters`; each shows something."""
    described = json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8"))["extra"]["kandiflux"]["parameters"]
    picture = a_picture(folder)
    chosen = {key: value for key, value in SMALL.items() if key in described} | parameters
    chosen |= {key: picture for key in ("image", "image_2") if key in described}
    pictures = Runner(host.url, folder).run(name, **chosen)
    assert pictures
    assert all(pixels.std() > 0.02 for pixels in pictures), "a picture shows nothing"
    return pictures
