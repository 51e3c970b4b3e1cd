"""A client that writes down all that a host answers, in a form in which two hosts can be compared."""

from __future__ import annotations

import io
import json
import re
import struct
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import websocket
from PIL import Image

from tests.support.hosts import PROTOCOL_PACK, RunningHost

Json = dict[str, Any]
_PATIENCE = 60.0


@dataclass
class Ran:
    """A prompt that was accepted and came to its end."""

    prompt_id: str
    frames: list[Json]
    history: Json

    @property
    def types(self) -> list[str]:
        """The frames' types, without the queue's `status`."""
        return [frame["type"] for frame in self.frames if frame["type"] != "status"]

    @property
    def executing(self) -> list[str | None]:
        """The nodes that ran, in order; None is the end."""
        return [frame["data"]["node"] for frame in self.frames if frame["type"] == "executing"]

    def data(self, kind: str) -> Json:
        """The data of the first frame of this type."""
        return next(frame["data"] for frame in self.frames if frame["type"] == kind)


class Recorder:
    """One client of one host. `log` holds every request, answer and frame."""

    def __init__(self, host: RunningHost) -> None:
        self.host = host
        self.log: list[Any] = []
        self.client_id = uuid.uuid4().hex
        self.socket: websocket.WebSocket | None = None
        self._prompt_ids: list[str] = []
        self._files_before = self._files()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.socket:
            self.socket.close()
        # The host is shared: the next client finds its folders as this one did.
        for path in self._files() - self._files_before:
            path.unlink()

    def _files(self) -> set[Path]:
        folders = (self.host.input, self.host.output, self.host.temp)
        return {path for folder in folders for path in folder.rglob("*") if path.is_file()}

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """An HTTP request, logged with its answer."""
        response = requests.request(method, self.host.url + path, timeout=_PATIENCE, **options)
        self.log.append({"request": f"{method} {path}", "status": response.status_code, "json": _json_of(response)})
        return response

    def quietly(self, method: str, path: str, **options: Any) -> requests.Response:
        """An HTTP request that the log leaves out."""
        return requests.request(method, self.host.url + path, timeout=_PATIENCE, **options)

    def picture(self, image: Json) -> Image.Image:
        """A saved picture; the log gets its size, pixels and texts."""
        answer = self.quietly("GET", "/view", params=image)
        assert answer.status_code == 200
        picture = Image.open(io.BytesIO(answer.content))
        picture.load()
        texts = {name: json.loads(text) for name, text in picture.info.items() if isinstance(text, str)}
        self.log.append(
            {"picture": picture.size, "mode": picture.mode, "texts": texts, "bytes": picture.tobytes().hex()}
        )
        return picture

    def connect(self, features: Json | None = None, client_id: str | None = None) -> list[Json]:
        """Open the websocket; its first frames."""
        if self.socket:
            self.socket.close()
        self.client_id = client_id or uuid.uuid4().hex
        self.socket = self.open_socket(self.client_id)
        frames = [self.frame()]
        if features is not None:
            self.socket.send(json.dumps({"type": "feature_flags", "data": features}))
            frames.append(self.frame())
        return frames

    def open_socket(self, client_id: str) -> websocket.WebSocket:
        url = self.host.url.replace("http", "ws", 1)
        return websocket.create_connection(f"{url}/ws?clientId={client_id}", timeout=_PATIENCE)

    def frame(self) -> Json:
        """The next frame, logged."""
        assert self.socket is not None
        frame = parse_frame(self.socket)
        self.log.append(frame)
        return frame

    def submit(self, prompt: Json, **body: Any) -> requests.Response:
        """POST /prompt with this client's id."""
        prompt_id = str(uuid.uuid4())
        self._prompt_ids.append(prompt_id)
        whole = {"prompt": prompt, "prompt_id": prompt_id, "client_id": self.client_id, **body}
        return self.request("POST", "/prompt", json={name: value for name, value in whole.items() if value is not None})

    def run(self, prompt: Json, on_frame: Callable[[Json, str], None] | None = None, **body: Any) -> Ran:
        """Submit a prompt and follow it to its end. `on_frame` sees each frame, with the prompt's id."""
        if self.socket is None:
            self.connect()
        answer = self.submit(prompt, **body)
        assert answer.status_code == 200, answer.text
        return self.follow(answer.json()["prompt_id"], on_frame)

    def follow(self, prompt_id: str, on_frame: Callable[[Json, str], None] | None = None) -> Ran:
        frames: list[Json] = []
        while not _is_end(frames, prompt_id):
            frames.append(self.frame())
            if on_frame:
                on_frame(frames[-1], prompt_id)
        return Ran(prompt_id, frames, self.history(prompt_id))

    def history(self, prompt_id: str) -> Json:
        """The prompt's history entry, once it has one; logged."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            entry = self.quietly("GET", f"/history/{prompt_id}").json()
            if entry:
                self.log.append({"history": entry[prompt_id]})
                return entry[prompt_id]
            time.sleep(0.05)
        raise TimeoutError(f"{self.host.kind} has no history of {prompt_id}")

    def rejected(self, prompt: Json, **body: Any) -> Json:
        """Submit a prompt that the host must refuse; its error JSON."""
        answer = self.submit(prompt, **body)
        assert answer.status_code == 400, answer.text
        return answer.json()

    def comparable(self, without: Collection[str] = ()) -> list[Any]:
        """The log without what may differ between hosts: ids, times, paths, tracebacks, orders of sets; and without
        members of the names `without`."""
        log = [_ordered(entry, {*_ONE_HOST_ONLY, *without}) for entry in self.log]
        text = json.dumps(log)
        for number, prompt_id in enumerate(self._prompt_ids):
            text = text.replace(prompt_id, f"prompt-{number}")
        text = text.replace(str(self.host.base), "BASE").replace(self.client_id, "client")
        text = re.sub(r'[^" ]*/' + PROTOCOL_PACK.name, PROTOCOL_PACK.name, text)
        text = re.sub(r"_temp_[a-z]{5}_", "_temp_x_", text)
        return json.loads(text)


def parse_frame(socket: websocket.WebSocket) -> Json:
    """A text frame as it is; a binary one as type "binary", with its parts."""
    opcode, payload = socket.recv_data()
    if opcode == websocket.ABNF.OPCODE_TEXT:
        return json.loads(payload)
    assert opcode == websocket.ABNF.OPCODE_BINARY, f"opcode {opcode}: the host closed the connection"
    kind, second = struct.unpack(">II", payload[:8])
    if kind == 4:
        metadata, body = json.loads(payload[8 : 8 + second]), payload[8 + second :]
    else:
        metadata, body = {"format": second}, payload[8:]
    picture = Image.open(io.BytesIO(body))
    data = {"kind": kind, "metadata": metadata, "picture": [picture.format, *picture.size]}
    return {"type": "binary", "data": data}


def _is_end(frames: list[Json], prompt_id: str) -> bool:
    if not frames or frames[-1]["type"] != "executing":
        return False
    data = frames[-1]["data"]
    return data["node"] is None and data.get("prompt_id") == prompt_id


def _json_of(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


_ONE_HOST_ONLY = {
    "missing_nodes",  # the lite host names all that it lacks
    "supports_model_type_tags",  # a flag of ComfyUI's assets, which the lite host does not have
    "extension",  # a flag of ComfyUI's manager, likewise
    "node_replacements",  # a flag of a route, likewise
}


def _ordered(value: Any, without: Collection[str]) -> Any:
    """`value` with each list that ComfyUI makes of a set sorted, and with a name for what differs from run to run."""
    if isinstance(value, list):
        return [_ordered(item, without) for item in value]
    if not isinstance(value, dict):
        return value
    parts = {name: _part(name, _ordered(item, without)) for name, item in value.items() if name not in without}
    if value.get("type") == "prompt_outputs_failed_validation":  # a line for each error
        parts["details"] = sorted(value["details"].split("\n"))
    return parts


def _part(name: str, value: Any) -> Any:
    if name in ("timestamp", "create_time", "traceback", "number", "sid"):
        return f"<{name}>"
    if name in ("executed", "current_outputs", "dependent_outputs") and isinstance(value, list):
        return sorted(value)
    if name == "errors" and isinstance(value, list):
        # A node's inputs are checked in any order. What its class says of them comes after that, in their order.
        own = [error for error in value if error["type"] == "custom_validation_failed"]
        return sorted((error for error in value if error not in own), key=json.dumps) + own
    if name == "prompt" and isinstance(value, list) and len(value) == 5:
        # A history entry: the queue number, and the outputs, which ComfyUI keeps in a set.
        return ["<number>", *value[1:4], sorted(value[4])]
    if name == "message" and isinstance(value, str):
        # Here the lite host says more.
        return re.sub(r"may not be installed\. .*", "may not be installed.", value)
    return value
