"""Checks that a server can run workflows: versions, device, memory, latency, missing nodes and files.

Each result is ok, warn or fail, with a hint on what to do.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from kandiflux import __version__
from kandiflux.errors import KandifluxError, ServerError, ServerUnreachable
from kandiflux.util.json_values import as_float, as_list, as_object
from kandiflux.util.paths import workflows_folder

if TYPE_CHECKING:
    from kandiflux.jobs.client import Client
    from kandiflux.workflow.workflow import Workflow

__all__ = ["Line", "State", "examine"]

State = Literal["ok", "warn", "fail"]

_OLDEST_COMFYUI = (0, 3, 60)
_OUR_PREFIXES = ("Kandinsky", "Kandiflux")
_REQUESTS = 5
_SLOW_SECONDS, _SOCKET_SECONDS = 0.5, 10.0
_LITTLE_MEMORY = 2 << 30
_LITTLE_UPLOAD = 20 << 20
_GB, _MB = 10**9, 1 << 20


@dataclass(frozen=True)
class Line:
    """The result of one check: what was checked, what was found, and what to do if it is not ok."""

    state: State
    what: str
    found: str
    todo: str = ""

    def as_dict(self) -> dict[str, str]:
        """Returns the result as a JSON object."""
        return asdict(self)


def examine(client: Client, workflow: Workflow | None = None) -> Iterator[Line]:
    """Yields the results one by one. Raises ServerUnreachable if the server does not respond."""
    start = time.monotonic()
    stats = client.api.system_stats()
    first = time.monotonic() - start
    system = as_object(stats.get("system"))
    yield Line("ok", "kandiflux", __version__)
    yield Line("ok", "server", client.url)
    yield _comfyui(system)
    yield Line("ok", "Python", str(system.get("python_version", "?")).split(" ")[0])
    yield _torch(system)
    yield from _devices(stats)
    yield from _memory(system)
    yield _http(client, first)
    yield _websocket(client)
    yield _queue(client)
    yield _upload(client)
    yield from _nodes(client, workflow, lite="kandiflux_lite" in system)


def _comfyui(system: Mapping[str, Any]) -> Line:
    version = str(system.get("comfyui_version") or "")
    numbers = tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])
    oldest = ".".join(map(str, _OLDEST_COMFYUI))
    if not numbers:
        return Line("warn", "ComfyUI", "does not report its version", f"It should be {oldest} or newer.")
    if numbers < _OLDEST_COMFYUI:
        return Line("warn", "ComfyUI", version, f"Update it: kandiflux supports {oldest} or newer.")
    return Line("ok", "ComfyUI", f"{version} (the protocol of a lite host)" if "kandiflux_lite" in system else version)


def _torch(system: Mapping[str, Any]) -> Line:
    version = system.get("pytorch_version")
    return Line("ok", "torch", str(version)) if version else Line("warn", "torch", "does not report its version")


def _devices(stats: Mapping[str, Any]) -> Iterator[Line]:
    devices = [as_object(device) for device in as_list(stats.get("devices"))]
    if not devices:
        yield Line("warn", "device", "the server reports none")
    for device in devices:
        name = str(device.get("name") or device.get("type") or "?")
        free, total = _number(device.get("vram_free")), _number(device.get("vram_total"))
        if device.get("type") == "cpu":
            yield Line("warn", "device", name, "Generating on a CPU is slow; large models need a GPU.")
        elif free < _LITTLE_MEMORY:
            yield Line("warn", "device", f"{name}, {_size(free)} of {_size(total)} free", "Try `kandiflux free`.")
        else:
            yield Line("ok", "device", f"{name}, {_size(free)} of {_size(total)} free")


def _memory(system: Mapping[str, Any]) -> Iterator[Line]:
    free, total = _number(system.get("ram_free")), _number(system.get("ram_total"))
    if not total:
        return
    found = f"{_size(free)} of {_size(total)} free"
    if free < _LITTLE_MEMORY:
        yield Line("warn", "memory", found, "Try `kandiflux free`, or end other programs there.")
    else:
        yield Line("ok", "memory", found)


def _http(client: Client, first: float) -> Line:
    times: list[float] = []
    for _ in range(_REQUESTS):
        start = time.monotonic()
        client.api.queue()
        times.append(time.monotonic() - start)
    median = statistics.median(times)
    found = f"{median * 1000:.1f} ms (the first request: {first * 1000:.0f} ms)"
    if median > _SLOW_SECONDS:
        return Line("warn", "HTTP", found, "The server may be far away, or busy loading a model.")
    return Line("ok", "HTTP", found)


def _websocket(client: Client) -> Line:
    start = time.monotonic()
    if client.listen(_SOCKET_SECONDS):
        return Line("ok", "websocket", f"open after {(time.monotonic() - start) * 1000:.0f} ms")
    return Line(
        "warn",
        "websocket",
        "cannot be opened",
        "Jobs are followed by polling, without progress. A proxy must forward /ws (headers Upgrade and Connection).",
    )


def _queue(client: Client) -> Line:
    queue = client.api.queue()
    if queue.running or queue.pending:
        return Line("ok", "queue", f"{len(queue.running)} running, {len(queue.pending)} waiting")
    return Line("ok", "queue", "empty")


def _upload(client: Client) -> Line:
    limit = _number(client.api.features().get("max_upload_size"))
    if not limit:
        return Line("ok", "upload limit", "the server does not report it")
    if limit < _LITTLE_UPLOAD:
        return Line("warn", "upload limit", f"{limit / _MB:.0f} MB", "Start ComfyUI with a larger --max-upload-size.")
    return Line("ok", "upload limit", f"{limit / _MB:.0f} MB")


def _nodes(client: Client, workflow: Workflow | None, *, lite: bool) -> Iterator[Line]:
    object_info = client.object_info()
    yield _pack(object_info, lite=lite)
    yield Line("ok", "nodes", f"{len(object_info)} classes")
    if workflow is not None:
        yield from _workflow(client, workflow, object_info)


def _pack(object_info: Mapping[str, Any], *, lite: bool) -> Line:
    """Checks the pack by the classes that the shipped workflows use, because no route reports its version."""
    known = _shipped_classes()
    missing = [] if lite else sorted(known - object_info.keys())
    if not known & object_info.keys():
        return Line(
            "warn", "kandiflux nodes", "not installed on the server",
            "Kandinsky workflows need them: ComfyUI-Manager, or `python3 install.py link PATH_TO_COMFYUI`.",
        )  # fmt: skip
    if missing:
        todo = f"Update the pack there to {__version__}; if it is up to date, its log says why these are missing."
        return Line("warn", "kandiflux nodes", f"older than this kandiflux, without {', '.join(missing)}", todo)
    return Line("ok", "kandiflux nodes", f"all classes that {__version__} needs")


def _shipped_classes() -> set[str]:
    """Returns the classes of this pack that its workflows use."""
    classes: set[str] = set()
    for path in workflows_folder().glob("*.json"):
        for node in as_list(as_object(json.loads(path.read_bytes())).get("nodes")):
            kind = str(as_object(node).get("type"))
            classes |= {kind} if kind.startswith(_OUR_PREFIXES) else set()
    return classes


def _workflow(client: Client, workflow: Workflow, object_info: Mapping[str, Any]) -> Iterator[Line]:
    from kandiflux.workflow.validation.check import check

    version = as_object(client.api.system_stats().get("system")).get("comfyui_version")
    try:
        report = check(
            workflow,
            object_info,
            comfyui_version=str(version) if version else None,
            embeddings=client.api.embeddings(),
            has_file=client.api.has_input,
            node_map=client.api.node_map,
        )
    except (ServerUnreachable, ServerError):
        raise
    except KandifluxError as error:
        yield Line("fail", workflow.name, error.message, error.hint or "")
        return
    if not report.findings:
        yield Line("ok", workflow.name, "nothing is missing")
    for missing in report.packs:
        count = f"{len(missing.classes)} node class{'es are' if len(missing.classes) > 1 else ' is'}"
        yield Line("fail", workflow.name, f"{count} missing: {', '.join(sorted(missing.classes))}", missing.hint)
    for finding in report.findings:
        if finding.kind != "missing_node":
            node = f"{finding.title} ({finding.node_id}): " if finding.node_id else ""
            yield Line("fail", workflow.name, f"{node}{finding.said}", str(finding.hint or "See `kandiflux check`."))


def _number(value: object) -> float:
    return as_float(value) or 0.0


def _size(size: float) -> str:
    return f"{size / _GB:.1f} GB"
