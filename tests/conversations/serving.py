"""The queue, the history, the connections, and what the host says of itself."""

from __future__ import annotations

import json

import websocket

from tests.conversations.common import SLOW, node, scenario, show, without_progress
from tests.support.recorder import Recorder


@scenario
def the_queue_is_shown_and_pending_prompts_can_be_taken_back(client: Recorder) -> None:
    client.connect()
    running = client.submit(SLOW).json()["prompt_id"]
    while client.frame()["type"] != "progress":
        pass
    pending = [client.submit({"1": node("PrimitiveInt", value=n), "2": show("1", 0)}).json() for n in (1, 2)]
    front = client.submit({"1": node("PrimitiveInt", value=3), "2": show("1", 0)}, front=True).json()
    assert front["number"] < 0
    queue = client.quietly("GET", "/queue").json()
    assert [entry[1] for entry in queue["queue_running"]] == [running]
    assert sorted(entry[1] for entry in queue["queue_pending"]) == sorted(one["prompt_id"] for one in (*pending, front))
    assert client.quietly("GET", "/prompt").json() == {"exec_info": {"queue_remaining": 4}}
    client.request("POST", "/queue", json={"delete": [pending[0]["prompt_id"], "unknown"]})
    queue = client.quietly("GET", "/queue").json()
    assert len(queue["queue_pending"]) == 2
    client.request("POST", "/queue", json={"clear": True})
    assert client.quietly("GET", "/queue").json()["queue_pending"] == []
    client.quietly("POST", "/interrupt")
    ran = client.follow(running)
    assert ran.types[-1] == "executing"
    for one in (*pending, front):
        assert client.quietly("GET", f"/history/{one['prompt_id']}").json() == {}
    client.log = [one for one in client.log if one.get("type") not in ("progress", "progress_state", "status")]


@scenario
def front_goes_first(client: Recorder) -> None:
    client.connect()
    running = client.submit(SLOW).json()["prompt_id"]
    while client.frame()["type"] != "progress":
        pass
    ids = [
        client.submit({"1": node("PrimitiveInt", value=n), "2": show("1", 0)}, **options).json()["prompt_id"]
        for n, options in ((11, {}), (12, {"front": True}), (13, {"number": -5000}))
    ]
    client.quietly("POST", "/interrupt")
    client.follow(running)
    started: list[str] = []
    while len(started) < 3:
        frame = client.frame()
        if frame["type"] == "execution_start":
            started.append(frame["data"]["prompt_id"])
    assert started == [ids[2], ids[1], ids[0]]
    client.follow(ids[0])
    client.log = [one for one in client.log if one.get("type") not in ("progress", "progress_state", "status")]


@scenario
def history_can_be_read_in_parts_and_deleted(client: Recorder) -> None:
    client.quietly("POST", "/history", json={"clear": True})
    ids = [client.run({"1": node("PrimitiveInt", value=n), "2": show("1", 0)}).prompt_id for n in range(4)]
    everything = list(client.request("GET", "/history").json())
    assert everything == ids
    assert list(client.request("GET", "/history?max_items=2").json()) == ids[2:]
    assert list(client.request("GET", "/history?max_items=2&offset=1").json()) == ids[1:3]
    assert list(client.request("GET", "/history?offset=3").json()) == ids[3:]
    assert list(client.request("GET", "/history?max_items=9").json()) == ids
    client.request("POST", "/history", json={"delete": [ids[0], "unknown"]})
    assert list(client.request("GET", "/history").json()) == ids[1:]
    assert client.request("GET", f"/history/{ids[0]}").json() == {}
    client.request("POST", "/history", json={"clear": True})
    assert client.request("GET", "/history").json() == {}


@scenario
def secrets_do_not_reach_the_history(client: Recorder) -> None:
    extra = {"api_key_comfy_org": "secret", "auth_token_comfy_org": "secret", "kept": 1}
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)}, extra_data=extra)
    assert "secret" not in json.dumps(ran.history)


@scenario
def the_first_frame_is_the_status(client: Recorder) -> None:
    (status,) = client.connect()
    assert status["data"]["sid"] == client.client_id
    assert status["data"]["status"] == {"exec_info": {"queue_remaining": 0}}


@scenario
def feature_flags_are_answered_only_as_the_first_message(client: Recorder) -> None:
    frames = client.connect({"supports_preview_metadata": True})
    assert frames[1]["type"] == "feature_flags"
    assert frames[1]["data"] == client.request("GET", "/features").json()
    client.connect()
    assert client.socket is not None
    client.socket.send("not JSON")
    client.socket.send(json.dumps({"type": "something else"}))
    client.socket.send(json.dumps({"type": "feature_flags", "data": {}}))
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
    assert "feature_flags" not in ran.types


def hang_up(client: Recorder, socket: websocket.WebSocket) -> None:
    """Close a connection, and wait until the host has forgotten it: its end comes before the next request."""
    socket.close()
    client.quietly("GET", "/features")


@scenario
def a_client_that_comes_back_is_told_what_runs(client: Recorder) -> None:
    client.connect()
    running = client.submit(SLOW).json()["prompt_id"]
    while client.frame()["type"] != "progress":
        pass
    assert client.socket is not None
    hang_up(client, client.socket)  # or the old connection's end takes the new one along
    (status,) = client.connect(client_id=client.client_id)
    assert status["data"]["status"]["exec_info"]["queue_remaining"] == 1
    executing = client.frame()
    assert executing == {"type": "executing", "data": {"node": "2"}}
    client.quietly("POST", "/interrupt")
    assert client.follow(running).types[-2:] == ["execution_interrupted", "executing"]
    without_progress(client)


@scenario
def without_a_client_id_everyone_hears_of_the_progress(client: Recorder) -> None:
    client.connect()
    prompt = {"1": node("ProbeSteps", steps=2, delay=0, preview="PNG"), "2": show("1", 0)}
    prompt_id = client.submit(prompt, client_id=None).json()["prompt_id"]
    client.history(prompt_id)
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
    before = ran.types[: ran.types.index("execution_start")]
    assert before == ["progress_state", *["progress_state", "progress", "binary"] * 2, *["progress_state"] * 3]


@scenario
def clients_hear_of_their_own_prompts_only(client: Recorder) -> None:
    client.connect()
    with Recorder(client.host) as other:
        other.connect()
        running = other.submit({"1": node("ProbeSteps", steps=2, delay=0.05, preview="PNG"), "2": show("1", 0)}).json()
        mine = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
        other.follow(running["prompt_id"])
        assert {frame["data"].get("prompt_id") for frame in mine.frames if frame["type"] != "status"} == {
            mine.prompt_id
        }
    # When the queue's length changes depends on which of the two is quicker.
    client.log = [one for one in client.log if one.get("type") != "status"]


@scenario
def the_end_of_an_old_connection_takes_a_new_one_of_the_same_id_along(client: Recorder) -> None:
    client.connect()
    old, client.socket = client.socket, None
    assert old is not None
    client.connect(client_id=client.client_id)
    hang_up(client, old)
    assert client.socket is not None
    client.history(client.submit({"1": node("PrimitiveInt", value=1), "2": show("1", 0)}).json()["prompt_id"])
    # Frames keep their order: those of the job would come before the answer to a ping.
    client.socket.ping("after the job")
    assert client.socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"after the job")


@scenario
def requests_from_other_sites_are_refused(client: Recorder) -> None:
    for origin in ("http://example.com", "http://127.0.0.1:1", "http://localhost:1"):
        assert client.request("GET", "/queue", headers={"Origin": origin}).status_code == 403
        assert client.request("POST", "/prompt", json={}, headers={"Origin": origin}).status_code == 403
    assert client.request("GET", "/queue", headers={"Origin": client.host.url}).status_code == 200


CORE = ["LoadImage", "LoadImageMask", "SaveImage", "PreviewImage", "ImageScale", "EmptyImage", "ImageBatch"]
CORE += ["ImageCompositeMasked", "PreviewAny", "ImageInvert", "ImageScaleBy", "ImageCrop", "ImagePadForOutpaint"]
CORE += ["RepeatImageBatch", "ImageFromBatch", "ImageFlip", "ImageRotate", "InvertMask", "SolidMask", "MaskToImage"]
CORE += ["ImageToMask"]
CORE += [f"Primitive{kind}" for kind in ("Int", "Float", "String", "StringMultiline", "Boolean")]


@scenario
def nodes_are_described_alike(client: Recorder) -> None:
    every = client.quietly("GET", "/object_info").json()
    packed = [name for name, info in every.items() if info["python_module"].startswith("custom_nodes.")]
    # Native nodes are there only where the models are ComfyUI's, and only its loaders can keep weights in fp8.
    others = {f"kandiflux/kandinsky/{part}" for part in ("native", "loaders")}
    packed = [n for n in packed if n.startswith(("Probe", "Kand")) and every[n]["category"] not in others]
    assert len([name for name in packed if name.startswith("Probe")]) == 15
    assert any(name.startswith("Kandinsky") for name in packed)
    for name in sorted([*CORE, *packed]):
        described = client.quietly("GET", f"/object_info/{name}").json()
        assert described == {name: every[name]}
        if name not in ("LoadImage", "LoadImageMask"):  # they list the input folder's files
            client.log.append(described)
    assert client.request("GET", "/object_info/NoSuchNode").json() == {}


@scenario
def every_route_also_lies_under_api(client: Recorder) -> None:
    for path in ("/queue", "/features", "/prompt", "/object_info/EmptyImage", "/embeddings", "/history?max_items=1"):
        assert client.quietly("GET", path).json() == client.quietly("GET", f"/api{path}").json()
    ran = client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
    assert ran.prompt_id in client.quietly("GET", f"/api/history/{ran.prompt_id}").json()


@scenario
def system_stats_have_comfyuis_keys(client: Recorder) -> None:
    stats = client.request("GET", "/system_stats").json()
    client.log.clear()
    stats["system"].pop("kandiflux_lite", None)
    system = stats["system"]
    client.log.append([list(stats), sorted(system), sorted(stats["devices"][0])])
    client.log.append([system["os"], system["comfyui_version"]])


@scenario
def model_folders_are_listed(client: Recorder) -> None:
    kinds = set(client.quietly("GET", "/models").json()) - {"custom_nodes", "datasets"}  # which hold no models
    assert {"checkpoints", "loras", "vae"} <= kinds
    client.log.append(sorted(kinds))
    assert client.request("GET", "/models/hypernetworks").json() == []
    assert client.request("GET", "/models/nothing").status_code == 404


@scenario
def free_drops_the_cached_outputs(client: Recorder) -> None:
    prompt = {"1": node("PrimitiveInt", value=1), "2": show("1", 0)}
    client.run(prompt)
    client.request("POST", "/free", json={"unload_models": True, "free_memory": True})
    # At the latest after the job that runs next.
    ran = [client.run(prompt).executing for _ in range(2)]
    assert ["1", "2", None] in ran
    client.log.clear()
