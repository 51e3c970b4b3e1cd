"""The host put together: what its worker does with prompts, memory that is asked back, and the end."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.lite import nodes_image, nodes_preview, nodes_primitive, nodes_transform, seam
from kandiflux.lite.host import Host
from kandiflux.lite.job_queue import LiteJob

from tests.conversations.common import node
from tests.support.lite_server import import_torch, new_host
from tests.support.waiting import until

Json = dict[str, Any]


class OutOfMemoryError(RuntimeError):
    """Known by its name, as torch's is."""


class Does:
    """Does what `action` says."""

    FUNCTION, RETURN_TYPES, OUTPUT_NODE = "run", (), True
    waits = threading.Event()

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"required": {"action": ("STRING",)}}

    def run(self, action: str) -> Json:
        import torch

        if action == "out of memory":
            raise OutOfMemoryError("full")
        if action == "progress":
            assert seam.active is not None
            seam.active.progress(2, 4)
            seam.active.progress(9, 4)
        if action == "wait":
            self.waits.set()
            while True:
                assert seam.active is not None
                seam.active.throw_if_interrupted()
        return {"ui": {"inference": [torch.is_inference_mode_enabled()]}}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = new_host(tmp_path)
    host.registry.classes["Does"] = Does
    monkeypatch.setattr(seam, "active", host)
    return host


@contextlib.contextmanager
def working(host: Host) -> Iterator[None]:
    import_torch()
    worker = threading.Thread(target=host.work)
    worker.start()
    try:
        yield
    finally:
        host.stop()
        worker.join(60)
        assert not worker.is_alive()


def queue(host: Host, name: str, action: str = "", client: str | None = None) -> None:
    extra = {} if client is None else {"client_id": client}
    host.jobs.put(LiteJob(0, name, {"1": node("Does", action=action)}, extra, ["1"]))


def status(host: Host, name: str) -> str:
    until(lambda: host.jobs.history_of(name))
    return host.jobs.history_of(name)[name]["status"]["status_str"]


@pytest.fixture
def frames(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All that is sent: event, data, client."""
    sent: list[Any] = []
    monkeypatch.setattr(host.sockets, "send", lambda event, data, client=None: sent.append((event, data, client)))
    return sent


def test_the_hosts_own_nodes(host: Host) -> None:
    modules = (nodes_transform, nodes_primitive, nodes_preview)
    own = set(nodes_image.image_nodes(host.folders)).union(*(module.CLASSES for module in modules))
    assert host.registry.classes.keys() == own | {"Does"}
    described = host.registry.object_info()
    for module in (nodes_image, *modules):
        assert {name: described[name]["display_name"] for name in module.DISPLAY_NAMES} == module.DISPLAY_NAMES


def test_what_nodes_find_in_it(host: Host, tmp_path: Path) -> None:
    folders = (host.input_directory, host.output_directory, host.temp_directory)
    assert folders == tuple(tmp_path.resolve() / name for name in ("input", "output", "temp"))
    more = tmp_path / "more"
    host.add_model_folder("loras", more)
    assert host.model_folders("loras") == [tmp_path.resolve() / "models" / "loras", more]
    host.throw_if_interrupted()
    host.interrupt.request()
    with pytest.raises(seam.Interrupted):
        host.throw_if_interrupted()
    assert host.user.folder == tmp_path.resolve() / "user" / "default"


def test_packs_find_the_host_as_they_are_imported(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(seam, "active", None)
    code = "from kandiflux.lite import seam\nNODE_CLASS_MAPPINGS = {}\nseam.active.add_model_folder('found', None)\n"
    (tmp_path / "good.py").write_text(code)
    (tmp_path / "bad.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    host.load_packs([Path("bad.py"), Path("good.py")])
    assert host.packs == [tmp_path / "good.py"]
    assert "ZeroDivisionError" in caplog.text
    assert "found" in host.folders.model_kinds()


# The worker


def test_prompts_are_run_in_turn(host: Host, frames: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    queue(host, "a", client="me")
    queue(host, "b")
    queue(host, "c", "out of memory")
    assert host.queue_info() == {"exec_info": {"queue_remaining": 3}}
    with working(host):
        assert [status(host, name) for name in "abc"] == ["success", "success", "error"]
    assert host.jobs.history_of("a")["a"]["outputs"] == {"1": {"inference": [True]}}
    said = [text for text in caplog.messages if text.startswith("Prompt ")]
    assert len(said) == 3
    for text, expected in zip(said, ("a: done", "b: done", "c: failed"), strict=True):
        assert re.fullmatch(rf"Prompt {expected} after \d{{1,2}}\.\d\d s", text)
    ends = [data for event, data, client in frames if event == "executing" and client == "me"]
    assert ends[-1] == {"node": None, "prompt_id": "a"}
    assert [data for event, data, _ in frames if event == "executing" and data["node"] is None] == ends[-1:]
    queue_sizes = [data["status"]["exec_info"]["queue_remaining"] for event, data, _ in frames if event == "status"]
    assert queue_sizes == [1, 2, 3, 3, 2, 2, 1, 1, 0, 0]


def test_nodes_report_progress(host: Host, frames: list[Any]) -> None:
    queue(host, "a", "progress", client="me")
    with working(host):
        assert status(host, "a") == "success"
    steps = [data for event, data, _ in frames if event == "progress"]
    assert steps == [{"value": value, "max": 4, "prompt_id": "a", "node": "1"} for value in (2, 4)]


def test_an_error_of_the_host_itself_ends_its_prompt_only(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = host.executor.run

    def run(job: LiteJob) -> Any:
        return 1 / 0 if job.prompt_id == "a" else runs(job)

    monkeypatch.setattr(host.executor, "run", run)
    queue(host, "a")
    queue(host, "b")
    with working(host):
        assert [status(host, name) for name in "ab"] == ["error", "success"]
    assert "The prompt a failed: division by zero" in caplog.text
    assert "Traceback" in caplog.text


def test_stop_interrupts_what_runs_and_drops_what_waits(host: Host) -> None:
    Does.waits.clear()
    queue(host, "a", "wait")
    queue(host, "b")
    with working(host):
        assert Does.waits.wait(60)
    assert status(host, "a") == "error"
    assert host.jobs.history().keys() == {"a"}
    assert host.jobs.remaining() == 0


def test_a_stopped_host_runs_nothing_more(host: Host) -> None:
    host.stop()
    queue(host, "a")
    with working(host):
        pass
    assert host.jobs.history() == {}


# Memory


@pytest.mark.parametrize(
    ("unload", "forget", "unloads", "cached"),
    [(True, False, 1, True), (False, True, 1, False), (True, True, 1, False), (False, False, 0, True)],
)
def test_memory_is_given_back_when_it_is_asked_for(
    host: Host, unload: bool, forget: bool, unloads: int, cached: bool
) -> None:
    calls: list[str] = []
    host.on_free(lambda: calls.append("unload"))
    with working(host):
        queue(host, "first")
        assert status(host, "first") == "success"
        host.free(unload, forget)
        until(lambda: len(calls) == unloads)
        # If both were asked for before it ran, forgetting would come too late.
        queue(host, "second")
        assert status(host, "second") == "success"
    (told,) = [
        data for event, data in host.jobs.history_of("second")["second"]["status"]["messages"] if "nodes" in data
    ]
    assert told["nodes"] == (["1"] if cached else [])
    assert len(calls) == unloads, "once"


@pytest.mark.parametrize("forget", [True, False])
def test_what_is_asked_for_while_a_prompt_runs_comes_after_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, forget: bool
) -> None:
    Does.waits.clear()
    calls: list[str] = []
    monkeypatch.setattr(host.executor, "forget", lambda: calls.append("forget"))
    host.on_free(lambda: calls.append("unload"))
    with working(host):
        queue(host, "a", "wait")
        assert Does.waits.wait(60)
        host.free(unload=not forget, forget=forget)
        host.free(unload=False, forget=False)
        assert calls == []
        host.jobs.interrupt()
        until(lambda: "unload" in calls)
    assert calls == ["forget"] * forget + ["unload"]


@pytest.mark.parametrize("cuda", [True, False])
def test_torch_gives_its_memory_back_if_there_is_a_gpu(host: Host, monkeypatch: pytest.MonkeyPatch, cuda: bool) -> None:
    import torch

    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))
    queue(host, "a", "out of memory")
    with working(host):
        assert status(host, "a") == "error"
    assert calls == ["emptied"] * cuda


def test_a_pack_that_fails_to_give_memory_back_is_logged(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []
    host.on_free(lambda: [][0])
    host.on_free(lambda: calls.append("next"))
    with working(host):
        host.free(unload=True, forget=False)
        until(lambda: calls)
    assert "A node pack failed to free memory: list index out of range" in caplog.text
    assert "Traceback" in caplog.text


def test_memory_is_given_back_if_a_node_runs_out_of_it(host: Host) -> None:
    calls: list[str] = []
    host.on_free(lambda: calls.append("unload"))
    queue(host, "a", "out of memory")
    with working(host):
        assert status(host, "a") == "error"
    assert calls == ["unload"]
