"""What `kandiflux doctor` finds: each line with its state, and exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kandiflux import __version__
from kandiflux.cli import app
from kandiflux.cli.diagnosis import _shipped_classes
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.stub_server import Answer, StubServer, prompt

GPU = {"name": "cuda:0 NVIDIA", "type": "cuda", "vram_total": 24e9, "vram_free": 20e9}
SYSTEM = {
    "comfyui_version": "0.3.64", "python_version": "3.12.3 (main)", "pytorch_version": "2.8.0", "ram_total": 64e9,
    "ram_free": 32e9,
}  # fmt: skip


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubServer]:
    ours = {name: {"input": {}, "output": []} for name in _shipped_classes()}
    with StubServer().serving() as stub:
        stub.reactions = {
            "GET /system_stats": {"system": SYSTEM, "devices": [GPU]},
            "GET /object_info": {**stub.usual("GET", "/object_info", None), **ours},
            "GET /features": {"max_upload_size": 100 << 20},
        }
        monkeypatch.setenv("KANDIFLUX_SERVER", stub.url)
        monkeypatch.chdir(tmp_path)
        yield stub


def doctor(*words: str) -> Result:
    return RUNNER.invoke(app, ["doctor", *words])


def lines() -> dict[str, tuple[str, str, str]]:
    """State, what was found and what to do, by what was looked at."""
    shown = doctor("--json")
    assert (shown.exit_code, shown.stderr) == (0, "")
    answer = json.loads(shown.stdout)
    assert answer["ok"] is True
    return {line["what"]: (line["state"], line["found"], line["todo"]) for line in answer["lines"]}


def test_a_server_that_will_do(stub: StubServer) -> None:
    found = lines()
    assert found["kandiflux"] == ("ok", __version__, "")
    assert found["server"] == ("ok", stub.url, "")
    assert found["ComfyUI"] == ("ok", "0.3.64", "")
    assert found["Python"] == ("ok", "3.12.3", "")
    assert found["torch"] == ("ok", "2.8.0", "")
    assert found["device"] == ("ok", "cuda:0 NVIDIA, 20.0 GB of 24.0 GB free", "")
    assert found["memory"] == ("ok", "32.0 GB of 64.0 GB free", "")
    assert found["queue"] == ("ok", "empty", "")
    assert found["upload limit"] == ("ok", "100 MB", "")
    assert found["kandiflux nodes"] == ("ok", f"all classes that {__version__} needs", "")
    assert found["nodes"] == ("ok", f"{2 + len(_shipped_classes())} classes", "")
    assert found["websocket"][0] == "warn", "the stub has none"
    assert found["HTTP"][0] == "ok"
    assert stub.count("GET /queue") >= 6


@pytest.mark.parametrize(
    ("system", "what", "state", "said"),
    [
        ({"comfyui_version": "0.3.60"}, "ComfyUI", "ok", "0.3.60"),
        ({"comfyui_version": "0.3.59"}, "ComfyUI", "warn", "0.3.59"),
        ({"comfyui_version": "v1.2.3.4-x"}, "ComfyUI", "ok", "v1.2.3.4-x"),
        ({"comfyui_version": ""}, "ComfyUI", "warn", "does not report its version"),
        ({"comfyui_version": None}, "ComfyUI", "warn", "does not report its version"),
        ({"kandiflux_lite": True}, "ComfyUI", "ok", "0.3.64 (the protocol of a lite host)"),
        ({"python_version": None}, "Python", "ok", "None"),
        ({"pytorch_version": None}, "torch", "warn", "does not report its version"),
        ({"ram_free": 2 << 30}, "memory", "ok", "2.1 GB of 64.0 GB free"),
        ({"ram_free": (2 << 30) - 1}, "memory", "warn", "2.1 GB of 64.0 GB free"),
        ({"ram_free": "many"}, "memory", "warn", "0.0 GB of 64.0 GB free"),
        ({"ram_total": None}, "memory", "", ""),
    ],
)
def test_what_the_system_says(system: dict[str, Any], what: str, state: str, said: str, stub: StubServer) -> None:
    stub.reactions["GET /system_stats"] = {"system": {**SYSTEM, **system}, "devices": [GPU]}
    found = lines().get(what, ("", "", ""))
    assert found[:2] == (state, said)
    assert bool(found[2]) == (state == "warn" and what != "torch")


@pytest.mark.parametrize(
    ("device", "state", "said"),
    [
        ({**GPU, "vram_free": 2 << 30}, "ok", "cuda:0 NVIDIA, 2.1 GB of 24.0 GB free"),
        ({**GPU, "vram_free": 1e9}, "warn", "cuda:0 NVIDIA, 1.0 GB of 24.0 GB free"),
        ({"name": "cpu", "type": "cpu", "vram_free": 9e9}, "warn", "cpu"),
        ({"type": "mps", "vram_total": 9e9, "vram_free": 9e9}, "ok", "mps, 9.0 GB of 9.0 GB free"),
        ({"vram_total": 9e9, "vram_free": 9e9}, "ok", "?, 9.0 GB of 9.0 GB free"),
        (None, "warn", "the server reports none"),
    ],
)
def test_what_a_device_says(device: dict[str, Any] | None, state: str, said: str, stub: StubServer) -> None:
    stub.reactions["GET /system_stats"] = {"system": SYSTEM, "devices": [device] if device else []}
    assert lines()["device"][:2] == (state, said)


@pytest.mark.parametrize(
    ("limit", "state", "said"),
    [
        (None, "ok", "the server does not report it"),
        (20 << 20, "ok", "20 MB"),
        ((20 << 20) - 1, "warn", "20 MB"),
        (1 << 20, "warn", "1 MB"),
    ],
)
def test_the_upload_limit(limit: int | None, state: str, said: str, stub: StubServer) -> None:
    stub.reactions["GET /features"] = {"max_upload_size": limit}
    found = lines()["upload limit"]
    assert (*found[:2], bool(found[2])) == (state, said, state == "warn")


def test_the_queue(stub: StubServer) -> None:
    stub.reactions["GET /queue"] = {"queue_running": [[1, "a", {}, {}, []]], "queue_pending": []}
    assert lines()["queue"] == ("ok", "1 running, 0 waiting", "")
    stub.reactions["GET /queue"] = {"queue_running": [], "queue_pending": [[1, "a", {}, {}, []]] * 2}
    assert lines()["queue"] == ("ok", "0 running, 2 waiting", "")


def test_the_median_answer_counts(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(*seconds: float) -> None:
        """Each look takes as long; before them one at the system, which takes 2 s."""
        times = [1.0, 3.0]
        for one in seconds:
            times += [10.0, 10.0 + one]
        left = iter(times)
        monkeypatch.setattr("kandiflux.cli.diagnosis.time", SimpleNamespace(monotonic=lambda: next(left, 0.0)))

    clock(0.1, 9.0, 0.5, 0.2, 9.0)
    assert lines()["HTTP"] == ("ok", "500.0 ms (the first request: 2000 ms)", "")
    clock(0.1, 9.0, 0.501, 0.2, 9.0)
    state, found, todo = lines()["HTTP"]
    assert (state, found) == ("warn", "501.0 ms (the first request: 2000 ms)")
    assert todo


def test_a_websocket_that_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    patiences: list[float] = []
    monkeypatch.setattr("kandiflux.jobs.client.Client.listen", lambda _, seconds: patiences.append(seconds) or True)
    state, found, todo = lines()["websocket"]
    assert (state, todo, patiences) == ("ok", "", [10.0])
    assert re.fullmatch(r"open after \d{1,3} ms", found)


def test_an_old_or_a_missing_pack(stub: StubServer) -> None:
    full = stub.reactions["GET /object_info"]
    name = min(_shipped_classes())
    stub.reactions["GET /object_info"] = {key: about for key, about in full.items() if key != name}
    state, found, todo = lines()["kandiflux nodes"]
    assert (state, found) == ("warn", f"older than this kandiflux, without {name}")
    assert __version__ in todo
    lite = {"system": {**SYSTEM, "kandiflux_lite": True}, "devices": [GPU]}
    stub.reactions["GET /system_stats"] = lite
    assert lines()["kandiflux nodes"][0] == "ok", "a lite host has what it has"
    stub.reactions["GET /object_info"] = stub.usual("GET", "/object_info", None)
    state, found, _ = lines()["kandiflux nodes"]
    assert (state, found) == ("warn", "not installed on the server")


# What a workflow needs


def nodes(**classes: int) -> None:
    numbered = [name for name, count in classes.items() for _ in range(count)]
    prompts = {str(number): {"class_type": name, "inputs": {}} for number, name in enumerate(numbered, 1)}
    Path("w.json").write_text(json.dumps({**prompt(), **{f"1{key}": about for key, about in prompts.items()}}))


@pytest.mark.parametrize(
    ("classes", "said"),
    [({"NoA": 3}, "1 node class is missing: NoA"), ({"NoB": 1, "NoA": 1}, "2 node classes are missing: NoA, NoB")],
)
def test_missing_nodes_are_one_line_and_exit_code_2(classes: dict[str, int], said: str) -> None:
    nodes(**classes)
    shown = doctor("w.json")
    assert (shown.exit_code, shown.stderr) == (2, "")
    assert [line.split("\t")[:3] for line in shown.stdout.splitlines() if "NoA" in line] == [["fail", "w", said]]
    assert shown.stdout.splitlines()[0] == f"ok\tkandiflux\t{__version__}"
    answer = json.loads(doctor("w.json", "--json").stdout)
    assert (answer["ok"], answer["lines"][-1]["state"]) == (False, "fail")


def test_other_faults_are_a_line_each(stub: StubServer) -> None:
    info = stub.reactions["GET /object_info"]
    save = {"input": {"required": {"images": ["IMAGE"]}}, "output_node": True, "output": []}
    stub.reactions["GET /object_info"] = {**info, "SaveImage": save}
    data = {"2": {"class_type": "SaveImage", "inputs": {}, "_meta": {"title": "Result"}}}
    Path("w.json").write_text(json.dumps(data))
    shown = doctor("w.json")
    assert shown.exit_code == 2
    state, what, said = shown.stdout.splitlines()[-1].split("\t")[:3]
    assert (state, what) == ("fail", "w")
    assert said.startswith("Result (2): images")
    Path("w.json").write_text(json.dumps({"1": {"class_type": "KeepAll", "inputs": {}}}))
    keep = {"input": {}, "output_node": True, "output": []}
    stub.reactions["GET /object_info"] = {**info, "KeepAll": keep}
    shown = doctor("w.json")
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "ok\tw\tnothing is missing")


def test_a_workflow_that_needs_a_newer_comfyui(stub: StubServer) -> None:
    needs = {"kandiflux": {"needs": {"comfyui": ">=0.3.65"}}}
    info = {"Keep": {"input": {}, "output_node": True, "output": []}}
    stub.reactions["GET /object_info"] = {**stub.reactions["GET /object_info"], **info}
    Path("w.json").write_text(json.dumps({"nodes": [{"id": 1, "type": "Keep"}], "links": [], "extra": needs}))
    assert "0.3.65" in doctor("w.json").stdout.splitlines()[-1]


def test_a_file_that_is_no_workflow_or_a_server_that_is_not_there(stub: StubServer) -> None:
    Path("w.json").write_text("{}")
    assert (doctor("w.json").exit_code, stub.asked) == (2, [])
    assert doctor("--server", "http://127.0.0.1:9").exit_code == 3
    stub.reactions["GET /object_info"] = Answer({}, 500)
    assert doctor().exit_code == 3
