"""The routes of the lite host: what each answers, and what it does to the queue, the history and the files."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from kandiflux.lite import seam
from PIL import Image

from tests.conversations.common import node, png
from tests.support.lite_server import LiteServer, lite_server, new_host
from tests.support.waiting import until

Json = dict[str, Any]
LIMIT = 3 << 20
numbers = itertools.count()


class Waits:
    """Runs until `go` is set or it is interrupted."""

    FUNCTION, RETURN_TYPES, OUTPUT_NODE = "run", (), True
    go = threading.Event()

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"required": {"value": ("INT",)}}

    def run(self, value: int) -> Json:
        while not self.go.wait(0.005):
            assert seam.active is not None
            seam.active.throw_if_interrupted()
        return {"ui": {"value": [value]}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteServer]:
    host = new_host(tmp_path_factory.mktemp("server"), LIMIT)
    host.registry.classes["Waits"] = Waits
    with lite_server(host) as server:
        yield server


@pytest.fixture
def server(shared: LiteServer) -> Iterator[LiteServer]:
    """With nothing in the queue and the history. Jobs of Waits wait until Waits.go."""
    Waits.go.clear()
    yield shared
    jobs = shared.host.jobs
    jobs.clear()
    Waits.go.set()
    until(lambda: jobs.remaining() == 0)
    jobs.clear_history()


def waiting() -> Json:
    """A new one each time: nothing is cached."""
    return {"1": node("Waits", value=next(numbers))}


def queued(server: LiteServer, count: int, **more: Any) -> list[str]:
    """Queue so many jobs; as soon as the first runs, their ids."""
    ids = [server.post("/prompt", {"prompt": waiting(), **more}).json()["prompt_id"] for _ in range(count)]
    until(lambda: server.host.jobs.snapshot()["queue_running"])
    return ids


def ids_of(jobs: list[Any]) -> list[str]:
    return [job[1] for job in jobs]


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


# Every route


@pytest.mark.parametrize(
    "path",
    [
        *("prompt", "queue", "history", "history/x", "object_info", "object_info/Waits", "models", "models/loras"),
        *("embeddings", "extensions", "features", "system_stats", "users", "settings", "settings/x"),
    ],
)
def test_what_is_read_is_json_at_both_paths_and_to_head(server: LiteServer, path: str) -> None:
    answers = [server.request(method, at + path) for method in ("GET", "HEAD") for at in ("/", "/api/")]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/json; charset=utf-8"}
    assert {answer.headers["X-Content-Type-Options"] for answer in answers} == {"nosniff"}
    if path != "system_stats":
        assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("POST", path, 400) for path in ("/prompt", "/queue", "/history", "/free", "/upload/image", "/upload/mask")),
        *(("POST", "/api" + path, 400) for path in ("/settings", "/settings/x", "/jobs/cancel")),
        ("POST", "/interrupt", 200),
        ("POST", "/api/jobs/x/cancel", 200),
        ("GET", "/api/jobs", 200),
        ("GET", "/view", 404),
        ("GET", "/", 200),
        ("GET", "/nothing", 404),
        ("GET", "/api/api/jobs", 404),
        ("GET", "/jobs", 404),
        ("GET", "/userdata", 404),
        ("PUT", "/queue", 405),
        ("OPTIONS", "/queue", 200),
    ],
)
def test_the_status_of_a_request_without_a_body(server: LiteServer, method: str, path: str, status: int) -> None:
    assert server.request(method, path).status_code == status


def test_the_page_says_how_to_get_the_editor(server: LiteServer) -> None:
    assert "--editor" in server.get("/").text


@pytest.mark.parametrize(("address", "shown"), [("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1"), ("::1", "[::1]")])
def test_the_url_can_be_reached(tmp_path: Path, address: str, shown: str) -> None:
    if address == "::1" and not has_ipv6():
        pytest.skip("no IPv6")
    with lite_server(new_host(tmp_path), address=address) as server:
        assert server.url.rpartition(":")[0] == f"http://{shown}"
        assert server.get("/queue").status_code == 200


def test_a_request_of_another_site_is_refused(server: LiteServer) -> None:
    assert server.request("GET", "/queue", headers={"Origin": "http://evil.example"}).status_code == 403


# Prompts


def test_a_prompt_is_run(server: LiteServer) -> None:
    before = int(time.time() * 1000)
    prompt = {"1": node("PrimitiveInt", value=3), "2": node("PreviewAny", source=["1", 0])}
    answer = server.post("/prompt", {"prompt": prompt, "client_id": "me", "extra_data": {"extra_pnginfo": {"w": 1}}})
    told = answer.json()
    prompt_id = told["prompt_id"]
    assert (uuid.UUID(prompt_id).version, told["node_errors"]) == (4, {})
    until(lambda: server.host.jobs.history_of(prompt_id))
    entry = server.get(f"/history/{prompt_id}").json()[prompt_id]
    number, its_id, its_prompt, extra, outputs = entry["prompt"]
    assert (number, its_id, its_prompt, outputs) == (told["number"], prompt_id, prompt, ["2"])
    assert before <= extra.pop("create_time") <= int(time.time() * 1000)
    assert extra == {"extra_pnginfo": {"w": 1}, "client_id": "me"}
    assert entry["outputs"] == {"2": {"text": ["3"]}}
    assert entry["status"]["status_str"] == "success"


def test_numbers_count_up_and_the_front_goes_before_all(server: LiteServer) -> None:
    def number(**more: Any) -> float:
        return server.post("/prompt", {"prompt": waiting(), **more}).json()["number"]

    first = number()
    assert [number(), number(front=True), number(), number(front=False)] == [
        first + 1,
        -first - 2,
        first + 3,
        first + 4,
    ]
    assert [number(number=7), number(number="-2.5"), number(number=0, front=True)] == [7, -2.5, 0]
    assert number() == first + 5, "a number that was asked for is not counted"


@pytest.mark.parametrize("number", ["x", None, [], {}, "nan", "inf", "1" * 400, 10**400], ids=lambda it: str(it)[:9])
def test_a_number_that_has_no_place_in_the_queue(server: LiteServer, number: Any) -> None:
    answer = server.post("/prompt", {"prompt": waiting(), "number": number})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request"
    if not isinstance(number, int):
        assert error["details"] == f"number: expected a finite number, got {str(number)[:100]!r}"


UNKNOWN = {"1": node("Unheard")}


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ({}, "no_prompt", "No prompt provided"),
        ({"prompt": [1]}, "no_prompt", "No prompt provided"),
        ({"prompt": {}}, "prompt_no_outputs", ""),
        ({"prompt": UNKNOWN}, "missing_node_type", "#1"),
        ({"prompt": waiting(), "prompt_id": "1"}, "invalid_prompt_id", "expected a lowercase UUID with hyphens"),
        ({"prompt": waiting(), "prompt_id": 5}, "invalid_prompt_id", "expected a lowercase UUID with hyphens"),
        ({"prompt": waiting(), "client_id": 5}, "invalid_request", "client_id: expected str, got int"),
        ({"prompt": waiting(), "extra_data": []}, "invalid_request", "extra_data: expected dict, got list"),
        ({"prompt": waiting(), "extra_data": {"client_id": 5}}, "invalid_request", "client_id: expected a string"),
        ({"prompt": waiting(), "partial_execution_targets": "1"}, "invalid_request", "expected list, got str"),
        ({"prompt": waiting(), "partial_execution_targets": ["1", 2]}, "invalid_request", "expected a list of strings"),
    ],
)
def test_a_wrong_prompt_is_refused(server: LiteServer, body: Json, kind: str, text: str) -> None:
    answer = server.post("/prompt", body)
    assert answer.status_code == 400
    told = answer.json()
    assert told["error"]["type"] == kind
    assert text in told["error"]["details"]
    assert "node_errors" in told
    assert server.host.jobs.remaining() == 0


def test_the_errors_of_nodes_are_answered(server: LiteServer) -> None:
    answer = server.post("/prompt", {"prompt": {"1": node("Waits", value="x")}})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "prompt_outputs_failed_validation"
    assert answer.json()["node_errors"]["1"]["errors"][0]["type"] == "invalid_input_type"


def test_members_of_a_prompt_may_be_null_and_the_id_be_chosen(server: LiteServer) -> None:
    chosen = str(uuid.uuid4())
    nulls = dict.fromkeys(("extra_data", "client_id", "partial_execution_targets"))
    answer = server.post("/prompt", {"prompt": waiting(), "prompt_id": chosen, **nulls})
    assert answer.json()["prompt_id"] == chosen
    until(lambda: server.host.jobs.snapshot()["queue_running"])
    (job,) = server.host.jobs.snapshot()["queue_running"]
    assert job[3].keys() == {"create_time"}


def test_only_the_targets_of_a_partial_execution_are_run(server: LiteServer) -> None:
    Waits.go.set()
    prompt = {**waiting(), "2": waiting()["1"]}
    assert server.run(prompt)["outputs"].keys() == {"1", "2"}
    assert server.run(prompt, partial_execution_targets=["2"])["prompt"][4] == ["2"]


# Queue and history


def test_the_queue_is_shown_counted_and_changed(server: LiteServer) -> None:
    running, *rest = queued(server, 4)
    shown = server.get("/queue").json()
    assert (ids_of(shown["queue_running"]), ids_of(shown["queue_pending"])) == ([running], rest)
    assert server.get("/prompt").json() == {"exec_info": {"queue_remaining": 4}}
    assert server.post("/queue", {"delete": [rest[1], "unknown"]}).status_code == 200
    assert ids_of(server.get("/queue").json()["queue_pending"]) == [rest[0], rest[2]]
    assert server.post("/queue", {"delete": [rest[0], 5], "clear": True}).status_code == 400
    assert server.post("/queue", {"clear": False, "delete": None}).status_code == 200
    assert server.get("/prompt").json()["exec_info"]["queue_remaining"] == 3
    assert server.post("/queue", {"clear": True}).status_code == 200
    assert server.get("/prompt").json()["exec_info"]["queue_remaining"] == 1


def test_the_history_is_shown_and_changed(server: LiteServer) -> None:
    Waits.go.set()
    for number in range(4):
        server.run(waiting(), prompt_id=str(uuid.UUID(int=number)))
    ids = [str(uuid.UUID(int=number)) for number in range(4)]

    def shown(**query: Any) -> list[str]:
        return list(server.get("/history", **query).json())

    assert shown() == ids
    assert shown(max_items=2) == ids[2:]
    assert shown(max_items=2, offset=0) == ids[:2]
    assert shown(offset=1) == ids[1:]
    assert shown(max_items=1, offset=-1) == ids[3:]
    assert server.get("/history", max_items="x").status_code == 400
    assert list(server.get(f"/history/{ids[1]}").json()) == [ids[1]]
    assert server.get("/history/unknown").json() == {}
    assert server.post("/history", {"delete": [ids[1]]}).status_code == 200
    assert shown() == [ids[0], ids[2], ids[3]]
    assert server.post("/history", {"clear": True}).status_code == 200
    assert shown() == []


def test_interrupts(server: LiteServer) -> None:
    first, second, third = queued(server, 3)

    def ended(prompt_id: str) -> str:
        until(lambda: server.host.jobs.history_of(prompt_id))
        return server.host.jobs.history_of(prompt_id)[prompt_id]["status"]["messages"][-1][0]

    assert server.post("/interrupt", {"prompt_id": second}).status_code == 200
    assert server.host.jobs.snapshot()["queue_running"][0][1] == first, "one that waits is not interrupted"
    assert server.post("/interrupt", {"prompt_id": first}).status_code == 200
    assert ended(first) == "execution_interrupted"
    until(lambda: ids_of(server.host.jobs.snapshot()["queue_running"]) == [second])
    assert server.post("/interrupt", {"prompt_id": ""}).status_code == 200
    assert ended(second) == "execution_interrupted"
    until(lambda: ids_of(server.host.jobs.snapshot()["queue_running"]) == [third])
    assert server.post("/interrupt", {"prompt_id": 5}).status_code == 400
    assert server.post("/interrupt").status_code == 200
    assert ended(third) == "execution_interrupted"


@pytest.mark.parametrize(
    ("body", "unload", "forget"),
    [
        ({}, False, False),
        ({"unload_models": True}, True, False),
        ({"free_memory": True}, False, True),
        ({"unload_models": False, "free_memory": None}, False, False),
    ],
)
def test_memory_is_asked_back(
    server: LiteServer, body: Json, unload: bool, forget: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Json] = []
    monkeypatch.setattr(server.host, "free", lambda **wanted: asked.append(wanted))
    assert server.post("/free", body).status_code == 200
    assert asked == [{"unload": unload, "forget": forget}]


# /api/jobs


def test_jobs_are_listed_and_looked_up(server: LiteServer) -> None:
    running, waits = queued(server, 2)
    listed = server.get("/api/jobs").json()
    assert {job["id"]: job["status"] for job in listed["jobs"]} == {running: "in_progress", waits: "pending"}
    assert [job["id"] for job in server.get("/api/jobs", status="pending").json()["jobs"]] == [waits]
    assert server.get(f"/api/jobs/{running}").json()["status"] == "in_progress"
    assert server.get(f"/api/jobs/{uuid.uuid4()}").status_code == 404
    Waits.go.set()
    until(lambda: server.host.jobs.history_of(waits))
    assert server.get(f"/api/jobs/{waits}").json()["status"] == "completed"
    assert len(server.get("/api/jobs").json()["jobs"]) == 2


def test_jobs_are_cancelled(server: LiteServer) -> None:
    running, one, two, three = queued(server, 4)
    assert server.post(f"/api/jobs/{one}/cancel").json() == {"cancelled": True}
    assert server.post(f"/api/jobs/{one}/cancel").json() == {"cancelled": False}
    assert server.post("/api/jobs/cancel", {"job_ids": [one, two, two]}).json() == {"cancelled": True}
    assert server.post("/api/jobs/cancel", {"job_ids": [one, two]}).json() == {"cancelled": False}
    assert server.post("/api/jobs/cancel", {"job_ids": []}).json() == {"cancelled": False}
    assert ids_of(server.get("/queue").json()["queue_pending"]) == [three]
    assert server.post("/api/jobs/cancel", {"job_ids": [running, three]}).json() == {"cancelled": True}
    until(lambda: server.host.jobs.remaining() == 0)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (["x"], {"error": "job_ids must be a list"}),
        ({}, {"error": "job_ids must be a list"}),
        ({"job_ids": "x"}, {"error": "job_ids must be a list"}),
        (
            {"job_ids": [str(uuid.UUID(int=1)), "x", 5]},
            {"error": "job_ids contains invalid id(s)", "invalid_ids": ["x", "5"]},
        ),
        (
            {"job_ids": ["x" * 201] * 101},
            {"error": "job_ids contains invalid id(s)", "invalid_ids": ["x" * 200] * 100},
        ),
    ],
)
def test_ids_that_cannot_be_cancelled(server: LiteServer, body: Any, answer: Json) -> None:
    told = server.post("/api/jobs/cancel", body)
    assert (told.status_code, told.json()) == (400, answer)


# Nodes and models


def test_object_info(server: LiteServer) -> None:
    everything = server.get("/object_info").json()
    assert everything.keys() == server.host.registry.classes.keys()
    assert server.get("/object_info/Waits").json() == {"Waits": everything["Waits"]}
    assert server.get("/object_info/Unheard").json() == {}


def test_models(server: LiteServer) -> None:
    for name in ("loras/a.safetensors", "embeddings/deep/b.pt", "embeddings/c.d.pt", "embeddings/notes.txt"):
        path = server.host.folders.models[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert server.get("/models").json() == server.host.folders.model_kinds()
    assert server.get("/models/loras").json() == ["a.safetensors"]
    assert server.get("/models/unheard").status_code == 404
    assert server.get("/embeddings").json() == ["c.d", "deep/b"]


def test_what_the_host_tells_of_itself(server: LiteServer) -> None:
    assert server.get("/extensions").json() == []
    assert server.get("/features").json() == {
        "supports_preview_metadata": True,
        "max_upload_size": LIMIT,
        "assets": False,
    }
    assert server.get("/system_stats").json()["system"]["kandiflux_lite"] is True


# Files


def upload(server: LiteServer, path: str, name: str, content: bytes, **texts: str) -> requests.Response:
    return server.request("POST", path, files={"image": (name, content)}, data=texts)


def test_a_picture_is_uploaded_and_viewed(server: LiteServer) -> None:
    content = png((255, 0, 0, 255))
    told = upload(server, "/upload/image", "a.png", content, subfolder="deep").json()
    assert told == {"name": "a.png", "subfolder": "deep", "type": "input"}
    query = {"filename": "a.png", "subfolder": "deep", "type": "input"}
    answer = server.get("/view", **query)
    assert (answer.content, answer.headers["Content-Type"]) == (content, "image/png")
    assert answer.headers["Content-Disposition"] == 'filename="a.png"'
    small = server.get("/view", **query, preview="webp;50")
    assert small.headers["Content-Type"] == "image/webp"
    assert small.headers["Content-Disposition"] == 'filename="a.png"'
    assert Image.open(io.BytesIO(small.content)).format == "WEBP"
    assert server.get("/view", filename="unknown.png").status_code == 404


def test_a_name_is_made_fit_for_a_header(server: LiteServer) -> None:
    name = 'q"u\\o\u200bte.png'
    (server.host.folders.input / name).write_bytes(b"x")
    answer = server.get("/view", filename=name, type="input")
    assert (answer.content, answer.headers["Content-Disposition"]) == (b"x", 'filename="quote.png"')


def test_a_mask_becomes_the_alpha_of_its_picture(server: LiteServer) -> None:
    upload(server, "/upload/image", "seen.png", png((1, 2, 3, 255)))
    original = json.dumps({"filename": "seen.png", "type": "input"})
    mask = png((0, 0, 0, 7))
    told = upload(server, "/upload/mask", "masked.png", mask, original_ref=original).json()
    stored = Image.open(server.host.folders.input / told["name"])
    assert stored.convert("RGBA").getpixel((0, 0)) == (1, 2, 3, 7)
    plain = upload(server, "/upload/image", "plain.png", mask, original_ref=original).json()
    assert (server.host.folders.input / plain["name"]).read_bytes() == mask


def test_uploads_of_one_name_at_a_time_get_names_of_their_own(server: LiteServer) -> None:
    def send(number: int) -> str:
        files = {"image": ("same.png", bytes([number]) * 1000)}
        return requests.post(f"{server.url}/upload/image", files=files, timeout=30).json()["name"]

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(send, range(16)))
    assert len(set(names)) == 16
    for number, name in enumerate(names):
        assert (server.host.folders.input / name).read_bytes() == bytes([number]) * 1000


def test_an_upload_has_a_largest_size(server: LiteServer) -> None:
    assert upload(server, "/upload/image", "large.png", bytes(LIMIT)).status_code == 200
    assert upload(server, "/upload/image", "large.png", bytes(LIMIT + 1)).status_code == 413


# Settings


def test_settings(server: LiteServer) -> None:
    assert server.get("/users").json() == {"storage": "server", "migrated": server.host.user.folder.is_dir()}
    assert server.post("/settings", {"a": 1, "b": [2]}).status_code == 200
    assert server.post("/settings/c", {"of": None}).status_code == 200
    assert server.get("/settings").json() == {"a": 1, "b": [2], "c": {"of": None}}
    assert server.get("/settings/b").json() == [2]
    assert server.get("/settings/unknown").json() is None
    assert server.post("/settings", [1]).status_code == 400
    assert server.get("/users").json() == {"storage": "server", "migrated": True}


@pytest.mark.parametrize("path", ["/settings", "/settings/x"])
def test_settings_have_a_largest_size(server: LiteServer, path: str) -> None:
    before = server.get("/settings").json()
    text = json.dumps({"x": "a" * (1 << 20)})[: 1 << 20]
    largest = text[:-2] + '"}'
    assert server.request("POST", path, data=largest).status_code == 200
    server.host.user.change_settings({**before, "x": None})
    assert server.request("POST", path, data=largest + " ").status_code == 413
