"""The shortest way through the lite host: a picture is made, saved, and fetched."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import requests
from PIL import Image

from tests.support.hosts import RunningHost


def finished(url: str, prompt_id: str) -> dict[str, Any]:
    for _ in range(300):
        history = requests.get(f"{url}/history/{prompt_id}", timeout=10).json()
        if prompt_id in history:
            return history[prompt_id]
        time.sleep(0.1)
    raise TimeoutError(prompt_id)


def test_a_picture_is_saved_and_can_be_fetched(lite_host: RunningHost) -> None:
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 0x2040FF}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "smoke/picture"}},
    }
    extra = {"extra_pnginfo": {"workflow": {"nodes": []}}}
    answer = requests.post(f"{lite_host.url}/prompt", json={"prompt": prompt, "extra_data": extra}, timeout=10).json()

    entry = finished(lite_host.url, answer["prompt_id"])

    assert entry["status"]["status_str"] == "success"
    (image,) = entry["outputs"]["2"]["images"]
    assert image == {"filename": "picture_00001_.png", "subfolder": "smoke", "type": "output"}
    picture = Image.open(io.BytesIO(requests.get(f"{lite_host.url}/view", params=image, timeout=10).content))
    assert picture.size == (32, 16)
    assert picture.getpixel((0, 0)) == (0x20, 0x40, 0xFF)
    assert json.loads(picture.info["prompt"]) == prompt
    assert json.loads(picture.info["workflow"]) == {"nodes": []}
