"""The routes that ComfyUI gained after 0.3.64: /api/jobs, cancelling; and what every route has, such as HEAD."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.conversations.common import PICTURE, SLOW, node, show
from tests.support.hosts import RunningHost
from tests.support.recorder import Recorder
from tests.support.waiting import until

GOOD = {"1": node("PrimitiveInt", value=1), "2": show("1", 0)}
FAILING = {"1": node("ProbeFail", message="broken", kind="value", after=5), "2": show("1", 0)}
SAVED = {"1": PICTURE, "2": node("PreviewImage", images=["1", 0]), "3": show("1", 0),
         "4": node("SaveImage", images=["1", 0], filename_prefix="jobs/a")}  # fmt: skip


@pytest.fixture
def client(lite_host: RunningHost) -> Iterator[Recorder]:
    with Recorder(lite_host) as client:
        client.quietly("POST", "/history", json={"clear": True})
        client.connect()
        yield client


def start_slow(client: Recorder) -> str:
    prompt_id = client.submit(SLOW).json()["prompt_id"]
    while client.frame()["type"] != "progress":
        pass
    return prompt_id


def cancel(client: Recorder, prompt_id: str) -> Any:
    answer = client.quietly("POST", f"/api/jobs/{prompt_id}/cancel")
    assert answer.status_code == 200
    return answer.json()


def status(client: Recorder, prompt_id: str) -> str | None:
    answer = client.quietly("GET", f"/api/jobs/{prompt_id}")
    return answer.json().get("status") if answer.ok else None


def test_jobs_of_every_status(client: Recorder) -> None:
    workflow = {"extra_pnginfo": {"workflow": {"id": "w-1"}}}
    completed = client.run(SAVED, extra_data=workflow).prompt_id
    failed = client.run(FAILING).prompt_id
    running = start_slow(client)
    pending = client.submit(GOOD).json()["prompt_id"]
    listed = client.quietly("GET", "/api/jobs").json()
    statuses = {job["id"]: job["status"] for job in listed["jobs"]}
    assert statuses == {completed: "completed", failed: "failed", running: "in_progress", pending: "pending"}
    assert [job["id"] for job in listed["jobs"]] == [pending, running, failed, completed], "newest first"
    assert listed["pagination"] == {"offset": 0, "limit": None, "total": 4, "has_more": False}
    for query, ids in {
        "status=pending": [pending],
        "status=COMPLETED, failed": [failed, completed],
        "workflow_id=w-1": [completed],
        "sort_order=asc&limit=2": [completed, failed],
        "sort_order=asc&limit=2&offset=3": [pending],
        "offset=9": [],
        "sort_by=execution_duration&status=completed": [completed],
    }.items():
        assert [job["id"] for job in client.quietly("GET", f"/api/jobs?{query}").json()["jobs"]] == ids, query
    assert client.quietly("GET", "/api/jobs?limit=2").json()["pagination"]["has_more"]
    assert cancel(client, running) == {"cancelled": True}
    client.follow(running)
    assert status(client, running) == "cancelled"


def test_a_job_with_all_it_came_to(client: Recorder) -> None:
    ran = client.run(SAVED)
    job = client.quietly("GET", f"/api/jobs/{ran.prompt_id}").json()
    assert job["status"] == "completed"
    assert job["outputs"] == ran.history["outputs"]
    assert (job["outputs_count"], job["previewable_outputs_count"]) == (2, 2)
    saved = ran.history["outputs"]["4"]["images"][0]
    assert job["preview_output"] == {**saved, "nodeId": "4", "mediaType": "images"}, "a saved picture goes first"
    assert job["workflow"]["prompt"] == SAVED
    assert job["execution_status"] == ran.history["status"]
    assert job["create_time"] <= job["execution_start_time"] <= job["execution_end_time"]
    failed = client.run(FAILING)
    error = client.quietly("GET", f"/api/jobs/{failed.prompt_id}").json()["execution_error"]
    assert error["exception_message"].strip() == "broken"


def test_what_waits_is_removed_and_what_runs_is_interrupted(client: Recorder) -> None:
    running = start_slow(client)
    waiting = [client.submit({**GOOD, "9": node("PrimitiveInt", value=n)}).json()["prompt_id"] for n in range(3)]
    assert cancel(client, waiting[0]) == {"cancelled": True}
    assert status(client, waiting[0]) is None
    assert cancel(client, waiting[0]) == {"cancelled": False}
    assert cancel(client, str(uuid.uuid4())) == {"cancelled": False}
    assert cancel(client, "anything") == {"cancelled": False}
    assert status(client, running) == "in_progress", "another job's cancelling does not touch it"
    batch = [waiting[1], str(uuid.uuid4()), running]
    assert client.quietly("POST", "/api/jobs/cancel", json={"job_ids": batch}).json() == {"cancelled": True}
    assert client.follow(running).types[-2:] == ["execution_interrupted", "executing"]
    assert client.follow(waiting[2]).history["status"]["completed"], "the last one was not cancelled"
    assert status(client, waiting[1]) is None
    assert client.quietly("POST", "/api/jobs/cancel", json={"job_ids": [*batch, *waiting]}).json() == {
        "cancelled": False
    }
    assert client.quietly("POST", "/api/jobs/cancel", json={"job_ids": []}).json() == {"cancelled": False}


def test_a_cancel_reaches_a_job_however_early_it_comes(client: Recorder) -> None:
    """Also between the queue and the first node, where a request to interrupt could be lost."""
    for _ in range(40):
        prompt_id = client.submit(SLOW).json()["prompt_id"]
        assert cancel(client, prompt_id) == {"cancelled": True}
        # By itself the job runs for 20 s.
        until(lambda: not client.quietly("GET", "/prompt").json()["exec_info"]["queue_remaining"], 15)


WRONG = {
    "status=nonsense": "Invalid status value(s): nonsense.",
    "limit=0": "limit must be a positive integer",
    "limit=x": "limit must be an integer",
    "limit=" + "9" * 5000: "limit must be an integer",
    "offset=x": "offset must be an integer",
    "sort_by=name": "sort_by must be",
    "sort_order=up": "sort_order must be",
}


@pytest.mark.parametrize("query", WRONG, ids=lambda query: query[:20])
def test_wrong_questions(lite_host: RunningHost, query: str) -> None:
    answer = requests.get(f"{lite_host.url}/api/jobs?{query}", timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(WRONG[query])


def test_wrong_ids(lite_host: RunningHost) -> None:
    answer = requests.get(f"{lite_host.url}/api/jobs/unknown", timeout=10)
    assert (answer.status_code, answer.json()) == (404, {"error": "Job not found"})
    body = {"job_ids": ["x", 5, str(uuid.uuid4()).upper(), str(uuid.uuid4())]}
    answer = requests.post(f"{lite_host.url}/api/jobs/cancel", json=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["invalid_ids"] == ["x", "5", body["job_ids"][2]]


def test_a_prompt_id_is_a_canonical_uuid(client: Recorder) -> None:
    for wrong in ("x", "", str(uuid.uuid4()).upper(), uuid.uuid4().hex, "{" + str(uuid.uuid4()) + "}", 5):
        error = client.rejected(GOOD, prompt_id=wrong)["error"]
        assert error["type"] == "invalid_prompt_id"
    answer = client.quietly("POST", "/prompt", json={"prompt": GOOD, "prompt_id": None}).json()
    assert str(uuid.UUID(answer["prompt_id"])) == answer["prompt_id"]


def test_secrets_are_shown_nowhere(client: Recorder) -> None:
    start_slow(client)
    secret = {"api_key_comfy_org": "secret", "auth_token_comfy_org": "secret"}
    waiting = client.submit(GOOD, extra_data=secret).json()["prompt_id"]
    assert "secret" not in client.quietly("GET", "/queue").text
    client.quietly("POST", "/interrupt")
    client.follow(waiting)
    for path in ("/history", "/api/jobs", f"/api/jobs/{waiting}"):
        assert "secret" not in client.quietly("GET", path).text


GETS = [
    "/",
    "/prompt",
    "/queue",
    "/history",
    "/history/x",
    "/object_info",
    "/object_info/EmptyImage",
    "/models",
    "/models/loras",
]
GETS += [
    "/embeddings",
    "/extensions",
    "/features",
    "/system_stats",
    "/users",
    "/settings",
    "/settings/x",
    "/view?filename=none",
]


@pytest.mark.parametrize("path", [*GETS, *(f"/api{path}" for path in GETS[1:]), "/api/jobs", "/api/jobs/x"])
def test_every_get_route_answers_head(lite_host: RunningHost, path: str) -> None:
    get, head = (requests.request(method, lite_host.url + path, timeout=30) for method in ("GET", "HEAD"))
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    if "stats" not in path:  # free memory changes
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_users_and_settings_without_the_editor(lite_host: RunningHost) -> None:
    settings = f"{lite_host.url}/api/settings"
    assert requests.get(f"{lite_host.url}/api/users", timeout=10).json()["storage"] == "server"
    assert requests.post(settings, json={"Comfy.A": 1}, timeout=10).status_code == 200
    assert requests.post(f"{settings}/Comfy.B", json=[2], timeout=10).status_code == 200
    stored = requests.get(settings, timeout=10).json()
    assert (stored["Comfy.A"], stored["Comfy.B"]) == (1, [2])
    assert requests.get(f"{settings}/Comfy.B", timeout=10).json() == [2]
    assert requests.get(f"{settings}/Comfy.None", timeout=10).json() is None
    assert requests.post(settings, data=json.dumps({"x": "y" * (2 << 20)}), timeout=10).status_code == 413


def _comparable(client: Recorder) -> list[Any]:
    """Jobs of every kind on one host, and its answers without what differs between hosts."""
    client.connect()
    client.quietly("POST", "/history", json={"clear": True})
    ids = [client.run(prompt).prompt_id for prompt in (SAVED, FAILING)]
    ids.append(start_slow(client))
    ids.append(client.submit(GOOD).json()["prompt_id"])
    log: list[Any] = []
    for path in ("", "?status=failed,pending&sort_order=asc", "?limit=1&offset=1", "?limit=0", "?status=x", "/unknown"):
        answer = client.quietly("GET", f"/api/jobs{path}")
        log.append([answer.status_code, answer.json()])
    log.append([cancel(client, prompt_id) for prompt_id in (ids[0], ids[3], ids[3], ids[2])])
    client.follow(ids[2])
    log += [client.quietly("GET", f"/api/jobs/{prompt_id}").json() for prompt_id in ids]
    for body in ({"job_ids": 5}, {"job_ids": [5, "x"]}, [], {"job_ids": ids}):
        answer = client.quietly("POST", "/api/jobs/cancel", json=body)
        log.append([answer.status_code, answer.json()])
    text = json.dumps(log)
    for number, prompt_id in enumerate(ids):
        text = text.replace(prompt_id, f"prompt-{number}")
    client.log = [json.loads(text)]
    return client.comparable()


def _timeless(value: Any) -> Any:
    if isinstance(value, list):
        return [_timeless(item) for item in value]
    if not isinstance(value, dict):
        return value
    times = ("priority", "execution_start_time", "execution_end_time", "extra_data")
    return {name: "x" if name in times else _timeless(item) for name, item in value.items()}


def test_the_same_as_a_comfyui_that_has_these_routes(comfy_host: RunningHost, lite_host: RunningHost) -> None:
    if requests.get(f"{comfy_host.url}/api/jobs", timeout=10).status_code != 200:
        pytest.skip("this ComfyUI has no /api/jobs")
    answers = []
    for host in (lite_host, comfy_host):
        with Recorder(host) as client:
            answers.append(_timeless(_comparable(client)))
    assert answers[0] == answers[1]
