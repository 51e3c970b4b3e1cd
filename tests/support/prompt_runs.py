"""A workflow of prompt layers, composed and looked over, and what a host shows of it."""

from __future__ import annotations

from typing import Any

from kandiflux import Client, Workflow

from nodes import prompt as prompt_nodes
from tests.support.hosts import RunningHost

WAIT = 30


def layer(kind: str, text: str, before: str | None = None, **more: Any) -> dict[str, Any]:
    inputs = {"kind": kind, "text": text, "emphasis": 1.0, "relation": "none", "relation_to": "", **more}
    if before is not None:
        inputs["layers"] = [before, 0]
    return {"class_type": "KandifluxPromptLayer", "inputs": inputs, "_meta": {"title": f"The {kind}"}}


def graph(target: str, **compose: Any) -> dict[str, Any]:
    """layers → compose → lint → text, as the API format has it."""
    composed = {"layers": ["4", 0], "target": target, "form": "hierarchical", "language": "auto", **compose}
    linted = {"text": ["5", 0], "target": target, "language": "auto", "mend": False}
    return {
        "1": layer("subject", "a red fox", name="fox", emphasis=1.3),
        "2": layer("subject", "a grey wolf", "1", relation="left of", relation_to="fox"),
        "3": layer("background", "a birch forest", "2"),
        "4": layer("negative", "people", "3"),
        "5": {"class_type": "KandifluxPromptCompose", "inputs": composed},
        "6": {"class_type": "KandifluxPromptLint", "inputs": linted},
        **{
            f"show {name}": {"class_type": "PreviewAny", "inputs": {"source": ["5", slot]}}
            for slot, name in enumerate(prompt_nodes.KandifluxPromptCompose.RETURN_NAMES)
        },
        "show text": {"class_type": "PreviewAny", "inputs": {"source": ["6", 0]}},
        "show report": {"class_type": "PreviewAny", "inputs": {"source": ["6", 1]}},
    }


def texts(host: RunningHost, prompt: dict[str, Any]) -> dict[str, str]:
    """What the Preview Any nodes show, by their id."""
    with Client(host.url, poll_seconds=1.0) as client:
        job = client.submit(Workflow.from_data(prompt).prompt(client.object_info(), {}))
        job.result(WAIT)
        outputs = (client.api.history(job.prompt_id) or {})["outputs"]
    return {number.removeprefix("show "): shown["text"][0] for number, shown in outputs.items()}
