"""Requests of other sites to a running lite host; tests/unit/lite/test_origin.py has which are refused."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import websocket

from tests.support.hosts import RunningHost, running_lite

CROSS = {"Sec-Fetch-Site": "cross-site"}

Headers = dict[str, str]


def test_the_answer_and_the_log_say_what_to_do(lite_host: RunningHost) -> None:
    answer = requests.post(f"{lite_host.url}/interrupt", headers={"Host": "comfy.example.org"}, timeout=10)
    assert answer.status_code == 403
    assert "'comfy.example.org'" in answer.text
    assert "--allow-host" in answer.text
    assert "--allow-host" in lite_host.log.read_text()
    for _ in range(200):
        requests.get(f"{lite_host.url}/queue", headers={"Host": "evil.example"}, timeout=10)
    assert lite_host.log.read_text().count("evil.example") <= 2, "a page can send thousands of requests"


@pytest.mark.parametrize(
    "headers", [{"Origin": "null"}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}, CROSS]
)
def test_websockets_too(lite_host: RunningHost, headers: Headers) -> None:
    url = lite_host.url.replace("http", "ws", 1) + "/ws"
    options: dict[str, Any] = {"origin": headers["Origin"]} if "Origin" in headers else {"suppress_origin": True}
    if "Host" in headers:
        options["host"] = headers["Host"]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(url, timeout=10, header=CROSS if headers is CROSS else {}, **options)
    assert refused.value.status_code == 403
    websocket.create_connection(url, timeout=10).close()


def test_a_name_can_be_allowed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_lite(tmp_path_factory.mktemp("named"), "--allow-host", "comfy.example.org") as host:
        headers = {"Host": "comfy.example.org", "Origin": "https://comfy.example.org"}
        assert requests.get(f"{host.url}/queue", headers=headers, timeout=10).status_code == 200
        assert requests.get(f"{host.url}/queue", headers={"Host": "other.example.org"}, timeout=10).status_code == 403
