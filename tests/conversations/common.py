"""What the conversations share."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from PIL import Image

from tests.support.recorder import Json, Recorder

Scenario = Callable[[Recorder], None]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def node(class_type: str, **inputs: Any) -> Json:
    return {"class_type": class_type, "inputs": inputs}


def forget(client: Recorder) -> None:
    """Have the host drop its cached outputs: it keeps only what the last prompt uses."""
    prompt = {"f": node("PrimitiveInt", value=time.time_ns() % 10**9), "g": node("ProbeQuiet", value=["f", 0])}
    client.connect()
    client.run(prompt)
    client.log.clear()


def show(*source: Any) -> Json:
    return node("ProbeShow", value=list(source))


def png(colour: tuple[int, ...], size: tuple[int, int] = (6, 4), mode: str = "RGBA") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = node("EmptyImage", width=8, height=8, batch_size=1, color=0)
SLOW = {
    "1": node("PrimitiveInt", value=1),
    "2": node("ProbeSteps", steps=400, delay=0.05, preview="none"),
    "3": show("2", 0),
}


def without_progress(client: Recorder) -> None:
    """How far a node gets before it is interrupted is chance."""
    client.log = [one for one in client.log if one.get("type") not in ("progress", "progress_state")]
