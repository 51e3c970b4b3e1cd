"""Which steps of a node the lite host sends, and what each frame says."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.lite.progress import Preview, Progress
from PIL import Image

PREVIEW: Preview = ("PNG", Image.new("RGB", (2, 2)), None)


class Sent:
    """An outbox that keeps what it is given."""

    def __init__(self, takes_metadata: bool = False) -> None:
        self.frames: list[tuple[str, Any]] = []
        self._takes_metadata = takes_metadata

    def send(self, event: str, data: dict[str, Any], client_id: str | None) -> None:
        assert client_id == "client"
        self.frames.append((event, data))

    def takes_preview_metadata(self, client_id: str | None) -> bool:
        return self._takes_metadata

    def send_preview(self, preview: Preview, metadata: dict[str, Any] | None, client_id: str | None) -> None:
        assert (preview, client_id) == (PREVIEW, "client")
        self.frames.append(("preview", metadata))

    @property
    def steps(self) -> list[float]:
        return [data["value"] for event, data in self.frames if event == "progress"]


def steps_sent(total: float, *steps: tuple[float, float], preview: Preview | None = None) -> list[float]:
    """The values that are sent of steps (seconds, value)."""
    now = iter(seconds for seconds, _ in steps)
    sent = Sent()
    progress = Progress("prompt", sent, "client", clock=lambda: next(now))
    for _, value in steps:
        progress.update("n", value, total, preview)
    return sent.steps


@pytest.mark.parametrize(
    ("total", "steps", "told"),
    [
        (3, [(0, 1), (0, 2), (0, 3)], [1, 3]),
        (3, [(0, 1), (0.0625, 2), (0.125, 2), (0.125, 3)], [1, 2, 3]),
        (9, [(5, 1), (5.125, 2), (5.1875, 3), (5.25, 4)], [1, 2, 4]),
        (1000, [(0, 0), (1, 4), (2, 5), (3, 9), (4, 10)], [0, 5, 10]),
        (3, [(0, 1), (0, 3), (0, 1), (0, 2)], [1, 3, 1]),
        (3, [(0, 4)], [3]),
        (3, [(0, 3), (0, 3)], [3, 3]),
    ],
    ids=["at once", "after 0.1 s", "since the last that was sent", "half a percent", "anew", "too many", "the last"],
)
def test_steps_between_the_first_and_the_last_are_sent_now_and_then(
    total: float, steps: list[tuple[float, float]], told: list[float]
) -> None:
    assert steps_sent(total, *steps) == told


def test_a_step_with_a_preview_is_always_sent() -> None:
    assert steps_sent(9, (0, 1), (0, 2), (0, 3), preview=PREVIEW) == [1, 2, 3]


def test_each_node_has_its_own_first_step() -> None:
    sent = Sent()
    progress = Progress("prompt", sent, "client", clock=lambda: 0.0)
    for node in ("a", "b"):
        progress.update(node, 1, 9, None)
    assert [(data["node"], data["max"]) for event, data in sent.frames if event == "progress"] == [("a", 9), ("b", 9)]


@pytest.mark.parametrize("takes_metadata", [True, False])
def test_a_preview_goes_before_the_step_only_with_metadata(takes_metadata: bool) -> None:
    sent = Sent(takes_metadata)
    Progress("prompt", sent, "client").update("n", 1, 9, PREVIEW)
    kinds = [event for event, _ in sent.frames]
    assert kinds == ["progress_state", *(["preview", "progress"] if takes_metadata else ["progress", "preview"])]
    ids = {"node_id": "n", "prompt_id": "prompt", "display_node_id": "n", "parent_node_id": None, "real_node_id": "n"}
    assert dict(sent.frames)["preview"] == (ids if takes_metadata else None)
    assert dict(sent.frames)["progress"] == {"value": 1, "max": 9, "prompt_id": "prompt", "node": "n"}


def test_a_finished_node_keeps_its_total() -> None:
    sent = Sent()
    progress = Progress("prompt", sent, "client")
    progress.start("n")
    progress.update("n", 2, 9, None)
    progress.finish("n")
    progress.finish("cached")
    last = sent.frames[-1][1]["nodes"]
    assert [(about["value"], about["max"], about["state"]) for about in last.values()] == [
        (9, 9, "finished"),
        (1, 1, "finished"),
    ]
    assert sent.frames[0][1]["nodes"]["n"]["state"] == "running"
    assert (sent.frames[0][1]["nodes"]["n"]["value"], sent.frames[0][1]["nodes"]["n"]["max"]) == (0.0, 1.0)


def test_of_many_nodes_those_that_finished_first_are_left_out() -> None:
    sent = Sent()
    progress = Progress("prompt", sent, "client")
    progress.start("runs")
    for number in range(120):
        progress.finish(str(number))
    nodes = list(sent.frames[-1][1]["nodes"])
    assert nodes == ["runs", *map(str, range(21, 120))]
