"""Thousands of hostile requests: none is a server error, reads or writes outside the folders, or stops the worker."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.lite.hostile_requests import CANARY, GOOD, UNFINISHED, Sender
from tests.lite.hostile_requests import requests as hostile
from tests.support.hosts import RunningHost, running_lite
from tests.support.waiting import until

FEW, MANY = 2_500, 10_000
"""Requests: usually, and with --campaign=full."""
SEED = 20260911


def trap(base: Path) -> None:
    """Secrets beside the host's folders, and ways to them from within."""
    (base / "outside").mkdir()
    for file in (base / "secret.txt", base / "secret.png", base / "outside" / "secret.txt"):
        file.write_text(CANARY)
    for name in ("input", "output", "temp"):
        folder = base / name
        (folder / "folder").mkdir(parents=True)
        (folder / "door").symlink_to(base / "outside", target_is_directory=True)
        (folder / "link.png").symlink_to(base / "secret.png")
        (folder / "loop").symlink_to(folder / "loop")
        (folder / "file.png").write_bytes(b"not a picture")
        os.mkfifo(folder / "fifo")


def outside(base: Path) -> dict[str, bytes]:
    """All that is not in a folder that clients may write to."""
    writable = [base / name for name in ("input", "output", "temp", "user/default")]
    files = [path for path in base.rglob("*") if not any(path.is_relative_to(folder) for folder in writable)]
    return {str(path): path.read_bytes() if path.is_file() and path.name != "host.log" else b"" for path in files}


def unexpected_tracebacks(host: RunningHost) -> list[str]:
    """Lines of the log at which a traceback begins; those of nodes that failed are expected."""
    lines = host.log.read_text(errors="replace").splitlines()
    return [line for line in lines if "Traceback" in line and "kandiflux.lite.execute" not in line]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and symbolic links")
def test_hostile_requests(tmp_path_factory: pytest.TempPathFactory, full_campaign: bool) -> None:
    pytest.importorskip("comfyui_frontend_package", reason="the graph editor's package is not installed")
    base, count = tmp_path_factory.mktemp("hostile"), MANY if full_campaign else FEW
    trap(base)
    with running_lite(base, "--editor", "--user", str(base / "user"), "--max-upload-size", "1") as host:
        before = outside(base)
        address = urlsplit(host.url)
        sender = Sender(address.hostname or "", address.port or 0)
        statuses: Counter[int] = Counter()
        for number, request in enumerate(hostile(SEED, count)):
            began = time.monotonic()
            status, body, headers = sender.send(request)
            statuses[status] += 1
            about = (number, status, request)
            assert status < 500, about
            assert status or {name.lower() for name, _ in request.headers} & UNFINISHED, about
            assert CANARY.encode() not in body, about
            assert b"root:x:" not in body, about
            assert "X-Evil" not in headers, about
            assert time.monotonic() - began < 10, about
        sender.close()
        assert statuses[200] > count / 10
        assert statuses[400] > count / 10
        assert outside(base) == before
        prompt_id = requests.post(f"{host.url}/prompt", json={"prompt": GOOD, "number": -9e9}, timeout=10).json()[
            "prompt_id"
        ]

        def history() -> Any:
            return requests.get(f"{host.url}/history/{prompt_id}", timeout=10).json()

        until(history)  # or the worker does not run
        assert history()[prompt_id]["status"]["completed"]
        assert unexpected_tracebacks(host) == []
