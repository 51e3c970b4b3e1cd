"""Runs a prompt node by node, with ComfyUI's frames, messages and errors."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from kandiflux.lite.cache import Cache
from kandiflux.lite.calls import Lists, call_over_lists, gather_inputs, merge_results
from kandiflux.lite.guard import Failure, attempt
from kandiflux.lite.job_queue import Interrupt, LiteJob, Outcome
from kandiflux.lite.jsontext import plain, text_of
from kandiflux.lite.progress import Outbox, Preview, Progress
from kandiflux.lite.prompt_graph import PromptView, Schedule
from kandiflux.lite.registry import NodeClass
from kandiflux.lite.seam import Interrupted
from kandiflux.util.json_values import is_list

__all__ = ["Executor"]

log = logging.getLogger(__name__)

_LONGEST_INPUT = 10_000


class Executor:
    """Runs jobs one at a time. Keeps outputs between jobs."""

    def __init__(
        self,
        classes: Mapping[str, NodeClass],
        outbox: Outbox,
        interrupt: Interrupt,
        on_out_of_memory: Callable[[], None] = lambda: None,
    ) -> None:
        self._classes = classes
        self._outbox = outbox
        self._interrupt = interrupt
        self._on_out_of_memory = on_out_of_memory
        self._cache = Cache()
        self._current: _Run | None = None

    def run(self, job: LiteJob) -> Outcome:
        """Runs `job` to its end and returns its outcome. Never raises, whatever the nodes or the job's data raise."""
        run = _Run(job, self._classes, self._cache, self._outbox, self._interrupt)
        self._current = run
        ended = attempt(run.all)
        self._current = None
        if isinstance(ended, Failure):
            # Not a node's error: the prompt cannot be copied or scheduled, for example if unused nodes are invalid.
            attempt(lambda: run.report(None, ended))
        if run.out_of_memory:
            attempt(self._on_out_of_memory)
        return run.outcome()

    def progress(self, value: int, total: int, preview: Preview | None) -> None:
        """Reports the running node's progress. Raises Interrupted if the prompt was interrupted."""
        self._interrupt.check()
        if self._current and self._current.node_id is not None:
            self._current.progress.update(self._current.node_id, value, total, preview)

    def running_node_for(self, client_id: str) -> str | None:
        """Returns the node that is running for this client, for a client that reconnects; None if there is none."""
        run = self._current
        return run.node_id if run and run.client_id == client_id else None

    def forget(self) -> None:
        """Clears the output cache."""
        self._cache.clear()


class _Run:
    """One run of one job."""

    def __init__(
        self, job: LiteJob, classes: Mapping[str, NodeClass], cache: Cache, outbox: Outbox, interrupt: Interrupt
    ) -> None:
        self._job = job
        self._classes = classes
        self._cache = cache
        self._outbox = outbox
        self._interrupt = interrupt
        self.client_id = job.client_id
        self.progress = Progress(job.prompt_id, outbox, self.client_id)
        self.node_id: str | None = None
        self.out_of_memory = False
        self._success = True
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._executed: list[str] = []
        self._lists: Lists = {}

    def all(self) -> None:
        self._send_message("execution_start", {"prompt_id": self._job.prompt_id})
        # Nodes may modify their prompt; clients see it as it was submitted.
        job = self._job = replace(
            self._job, prompt=copy.deepcopy(self._job.prompt), extra_data=copy.deepcopy(self._job.extra_data)
        )
        self._cache.start(job.prompt, self._classes, self._interrupt.check)
        cached = [node_id for node_id in job.prompt if self._is_cached(node_id)]
        self._send_message("execution_cached", {"nodes": cached, "prompt_id": job.prompt_id})
        schedule = Schedule(job.prompt, self._classes, self._is_cached, job.outputs)
        while schedule:
            self._interrupt.check()
            node_id = schedule.pick()
            self._lists = {}
            done = attempt(partial(self._node, node_id, schedule))
            if isinstance(done, Failure):
                self.report(node_id, done)
                return
            if done.value:
                schedule.done(node_id)
        self._send_message("execution_success", {"prompt_id": job.prompt_id})

    def outcome(self) -> Outcome:
        shown = {node_id: self._cache.shown(node_id) for node_id in list(self._job.prompt)}
        return Outcome(
            success=self._success,
            outputs={node_id: one.output for node_id, one in shown.items() if one},
            meta={node_id: one.meta() for node_id, one in shown.items() if one},
            messages=self._messages,
        )

    def _is_cached(self, node_id: str) -> bool:
        return self._cache.outputs(node_id) is not None

    def _node(self, node_id: str, schedule: Schedule) -> bool:
        """Runs a node. Returns False if it must first wait for lazy inputs that it requested."""
        if self._is_cached(node_id):
            cached = self._cache.shown(node_id)
            self._send_executed(node_id, cached.output if cached else None)
            self.progress.finish(node_id)
            return True
        node = self._job.prompt[node_id]
        node_class = self._classes[node["class_type"]]
        self.progress.start(node_id)
        self._lists, missing = gather_inputs(
            node_class, node_id, node["inputs"], self._cache.outputs, PromptView(self._job.prompt), self._job.extra_data
        )
        self.node_id = node_id
        self._send_to_client("executing", {"node": node_id, "display_node": node_id, "prompt_id": self._job.prompt_id})
        instance = self._instance(node_id, node_class)
        requested = self._requested_lazy_inputs(instance, missing)
        for name in requested:
            schedule.require(node_id, name)
        if requested:
            return False
        returned = call_over_lists(instance, node_class.FUNCTION, self._lists, self._interrupt.check)
        outputs, shown = merge_results(node_class, returned)
        if shown:
            shown = plain(shown)  # clients get JSON types only; a node may return anything
            self._cache.show(node_id, shown)
            self._send_executed(node_id, shown)
        self._cache.keep(node_id, outputs)
        self.progress.finish(node_id)
        self._executed.append(node_id)
        return True

    def _instance(self, node_id: str, node_class: NodeClass) -> Any:
        key = (node_id, self._job.prompt[node_id]["class_type"])
        if key not in self._cache.objects:
            self._cache.objects[key] = node_class()
        return self._cache.objects[key]

    def _requested_lazy_inputs(self, instance: Any, missing: set[str]) -> list[str]:
        """Returns the names of lazy inputs that the node requests and that have no value yet."""
        if getattr(instance, "check_lazy_status", None) is None:
            return []
        answers = call_over_lists(instance, "check_lazy_status", self._lists, self._interrupt.check)
        names = dict.fromkeys(name for answer in answers if is_list(answer) for name in answer)
        return [name for name in names if name not in self._lists or name in missing]

    def report(self, node_id: str | None, failure: Failure) -> None:
        """Ends the run with execution_interrupted or execution_error. node_id: None if no node caused the failure."""
        self._success = False
        if isinstance(failure.error, Interrupted):
            log.info("Prompt %s was interrupted.", self._job.prompt_id)
            self._send_message("execution_interrupted", self._location(node_id), to_all=True)
            return
        what = f"Node {node_id}" if node_id is not None else f"The prompt {self._job.prompt_id}"
        log.error("%s%s failed: %s", failure.text, what, failure.message)
        lists = self._lists if node_id is not None else {}
        self._error(node_id, failure, {name: [_plain(one) for one in values] for name, values in lists.items()})

    def _error(self, node_id: str | None, failure: Failure, inputs: dict[str, Any]) -> None:
        tips = ""
        # By name: this does not import torch, and the class differs between versions and devices.
        if type(failure.error).__name__ == "OutOfMemoryError":
            self.out_of_memory = True
            tips = "The device is out of memory: use a smaller picture or batch, or another device."
        self._send_message(
            "execution_error",
            {
                **self._location(node_id),
                "exception_message": f"{failure.message}\n{tips}",
                "exception_type": failure.type_name,
                "traceback": failure.traceback,
                "current_inputs": inputs,
                "current_outputs": list(self._job.prompt),
            },
        )

    def _location(self, node_id: str | None) -> dict[str, Any]:
        return {
            "prompt_id": self._job.prompt_id,
            "node_id": node_id,
            "node_type": self._job.prompt[node_id]["class_type"] if node_id is not None else None,
            "executed": list(self._executed),
        }

    def _send_executed(self, node_id: str, output: dict[str, Any] | None) -> None:
        ids = {"node": node_id, "display_node": node_id}
        self._send_to_client("executed", {**ids, "output": output, "prompt_id": self._job.prompt_id})

    def _send_message(self, event: str, data: dict[str, Any], to_all: bool = False) -> None:
        """Sends a message and records it for the history. `to_all`: sends it even if the job has no client."""
        data = {**data, "timestamp": int(time.time() * 1000)}
        self._messages.append((event, data))
        if to_all or self.client_id is not None:
            self._outbox.send(event, data, self.client_id)

    def _send_to_client(self, event: str, data: dict[str, Any]) -> None:
        if self.client_id is not None:
            self._outbox.send(event, data, self.client_id)


def _plain(value: Any) -> Any:
    """Returns an input as shown in the error message: a number, or its text, truncated."""
    if value is None or isinstance(value, (int, float, bool)):
        return plain(value)
    return value[:_LONGEST_INPUT] if isinstance(value, str) else text_of(value)[:_LONGEST_INPUT]
