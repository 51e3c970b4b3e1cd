"""Reads history entries: how a prompt ended, and its outputs."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kandiflux.api.events import (
    Event,
    ExecutionFailed,
    ExecutionInterrupted,
    ExecutionSucceeded,
    NodeExecuted,
    NodesCached,
    execution_failed,
)
from kandiflux.errors import JobError, JobInterrupted, NodeFailed, OutOfMemory
from kandiflux.jobs.outputs import FileSource, Output, Saver, collect_outputs
from kandiflux.util.json_values import as_float, as_list, as_object, is_array, is_list, is_object
from kandiflux.workflow.prompt import Prompt

__all__ = ["Result", "node_error", "outcome", "outcome_of_events"]

_MOST_SHOWN = 16
"""Maximum number of pictures that a notebook shows for one result."""


@dataclass(frozen=True, repr=False)
class Result:
    """A finished job. `seconds` is the server's own time, None if it is not known."""

    prompt_id: str
    prompt: Prompt
    outputs: tuple[Output, ...]
    cached_nodes: tuple[str, ...] = ()
    seconds: float | None = None

    def __repr__(self) -> str:
        took = "" if self.seconds is None else f", {self.seconds:.2f} s"
        return f"<Result {self.prompt_id}: {len(self.files)} files, {len(self.texts)} texts{took}>"

    @property
    def from_cache(self) -> bool:
        """Whether nothing was made anew: the nodes of all its files, or all nodes, were in the server's cache."""
        made = {output.node_id for output in self.files} or set(self.prompt.nodes)
        return bool(made) and made <= set(self.cached_nodes)

    @property
    def cached_seeds(self) -> tuple[int, ...]:
        """The seeds of nodes that were in the server's cache, each once."""
        nodes = [self.prompt.nodes[node_id]["inputs"] for node_id in self.cached_nodes if node_id in self.prompt.nodes]
        found = [inputs.get(name) for inputs in nodes for name in ("seed", "noise_seed")]
        return tuple(dict.fromkeys(seed for seed in found if type(seed) is int))

    def _repr_html_(self) -> str:
        """Returns its pictures, and the texts that nodes show, for notebooks."""
        shown = [f"<pre>{html.escape(text)}</pre>" for text in self.texts]
        for image in self.images[:_MOST_SHOWN]:
            if image.mime is not None:
                address = f"data:{image.mime};base64,{base64.b64encode(image.read()).decode()}"
                name = html.escape(image.filename, quote=True)
                shown.append(f'<img src="{address}" alt="{name}" style="max-width: 512px">')
        return "".join(shown) or html.escape(repr(self))

    def save(self, folder: str | Path = ".") -> list[Path]:
        """Saves its files to `folder` and returns their paths. Never overwrites files. Errors as `Saver.save`."""
        saver = Saver(folder)
        return [saver.save(output) for output in self.files]

    def of_kind(self, kind: str) -> tuple[Output, ...]:
        """Returns the outputs of one kind; see `Output`."""
        return tuple(output for output in self.outputs if output.kind == kind)

    @property
    def images(self) -> tuple[Output, ...]:
        """Pictures, those that came over the websocket included."""
        return self.of_kind("image")

    @property
    def videos(self) -> tuple[Output, ...]:
        """Videos."""
        return self.of_kind("video")

    @property
    def latents(self) -> tuple[Output, ...]:
        """Files of latents."""
        return self.of_kind("latent")

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that nodes show."""
        return tuple(output.text for output in self.outputs if output.text is not None)

    @property
    def files(self) -> tuple[Output, ...]:
        """Saved files, or the previews if nothing was saved."""
        files = tuple(output for output in self.outputs if output.is_file)
        kept = tuple(output for output in files if output.folder != "temp")
        return kept or files


def outcome(
    prompt_id: str,
    prompt: Prompt,
    entry: Mapping[str, Any],
    source: FileSource | None,
    over_websocket: Sequence[Output] = (),
) -> Result | JobError:
    """Reads the outcome from a history entry. ValueError if it does not have ComfyUI's format.

    The messages take precedence over the status string, which is "error" for an interrupted prompt too, and may be
    "success" for a failure before the first node.
    """
    status, shown = entry.get("status"), entry.get("outputs")
    if not is_object(status) or not isinstance(status.get("status_str"), str) or not is_list(status.get("messages")):
        raise ValueError("`status` is not an object with `status_str` and `messages`")
    if not is_object(shown):
        raise ValueError("`outputs` is not an object")
    messages = _messages(status["messages"])
    if "execution_interrupted" in messages:
        return JobInterrupted(f"The job {prompt_id} was interrupted.", prompt_id=prompt_id)
    if "execution_error" in messages:
        return node_error(prompt_id, prompt, execution_failed(messages["execution_error"]))
    if status["status_str"] == "error":
        return JobError(
            f"The server reports that the job {prompt_id} failed, and gives no reason.", prompt_id=prompt_id
        )
    meta = as_object(entry.get("meta"))
    outputs = _outputs(
        prompt, shown, {node_id: as_object(about).get("display_node") for node_id, about in meta.items()}, source
    )
    cached = as_list(messages.get("execution_cached", {}).get("nodes"))
    return Result(
        prompt_id,
        prompt,
        (*outputs, *over_websocket),
        cached_nodes=tuple(str(node) for node in cached),
        seconds=_seconds(messages),
    )


def outcome_of_events(
    prompt_id: str,
    prompt: Prompt,
    events: Sequence[Event],
    source: FileSource | None,
    over_websocket: Sequence[Output] = (),
) -> Result | JobError | None:
    """Reads the outcome from a job's events, if the history no longer has it. None if they do not include its end."""
    ended = False
    outputs: dict[str, Any] = {}
    shown_by: dict[str, str] = {}
    cached: tuple[str, ...] = ()
    for event in events:
        if isinstance(event, ExecutionInterrupted):
            return JobInterrupted(f"The job {prompt_id} was interrupted.", prompt_id=prompt_id)
        if isinstance(event, ExecutionFailed) and event.terminal:
            return node_error(prompt_id, prompt, event)
        if isinstance(event, NodeExecuted):
            outputs[event.node_id] = event.output
            shown_by[event.node_id] = event.display_node_id
        elif isinstance(event, NodesCached):
            cached = event.node_ids
        ended = ended or isinstance(event, ExecutionSucceeded)
    if not ended:
        return None
    found = _outputs(prompt, outputs, shown_by, source)
    return Result(prompt_id, prompt, (*found, *over_websocket), cached_nodes=cached)


def node_error(prompt_id: str, prompt: Prompt, event: ExecutionFailed) -> NodeFailed:
    """Returns the error for a node's failure, with the node's title in the workflow."""
    memory = "OutOfMemory" in event.exception_type or event.exception_type.endswith("MemoryError")
    failure = OutOfMemory if memory else NodeFailed
    return failure(
        prompt_id=prompt_id,
        node_id=event.node_id or "?",
        title=prompt.title(event.node_id),
        class_type=event.node_type or prompt.class_type(event.node_id),
        exception_type=event.exception_type,
        exception_message=event.exception_message,
        traceback=event.traceback,
        inputs=event.inputs,
        hint="Use a smaller size or batch, or have the server free its memory." if memory else None,
    )


def _outputs(
    prompt: Prompt, shown: Mapping[str, Any], shown_by: Mapping[str, object], source: FileSource | None
) -> list[Output]:
    """shown: what each node shows. shown_by: the node of the prompt that it was expanded from."""
    outputs: list[Output] = []
    for node_id, output in shown.items():
        node = str(shown_by.get(node_id) or node_id)
        outputs += collect_outputs(node, prompt.title(node), output, source)
    return outputs


def _messages(messages: Sequence[object]) -> dict[str, Mapping[str, Any]]:
    return {
        str(message[0]): message[1]
        for message in messages
        if is_array(message) and len(message) == 2 and is_object(message[1])
    }


def _seconds(messages: Mapping[str, Mapping[str, Any]]) -> float | None:
    begin = as_float(messages.get("execution_start", {}).get("timestamp"))
    end = as_float(messages.get("execution_success", {}).get("timestamp"))
    if begin is None or end is None:
        return None
    return max(0.0, (end - begin) / 1000)
