"""Submits a prompt exactly once.

ComfyUI does not compare ids: a prompt that is posted twice runs twice. So if an answer is lost, queue and history are
read before the prompt is posted again. It is not posted again if the request may still be in flight, or if the server
was unreachable in between: it may have started the job before a restart, and lost its record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from kandiflux.api.rest import Answer, ComfyApi
from kandiflux.errors import AnswerLost, InvalidPrompt, NodeProblem, ProtocolError, ServerError, ServerUnreachable
from kandiflux.jobs.owner import OWNER, this_owner
from kandiflux.util.json_values import as_list, as_object, is_object
from kandiflux.workflow.prompt import Prompt

__all__ = ["find_prompts", "prompt_body", "submit_prompt"]

_log = logging.getLogger(__name__)

_ATTEMPTS = 3
_LOOK_PAUSE = 0.25
_RESTART_SECONDS = 1.0
_TOO_MANY = 429
_LONGEST_ID = 200


def prompt_body(prompt: Prompt, job_id: str, client_id: str, *, front: bool = False) -> dict[str, Any]:
    """Returns the JSON body of POST /prompt."""
    extra: dict[str, Any] = {OWNER: this_owner()}
    if prompt.workflow is not None:
        # Saving nodes write each entry into the picture. (Some nodes fail on entries without a workflow.)
        extra["extra_pnginfo"] = {"workflow": prompt.workflow, "kandiflux": {"values": dict(prompt.values)}}
    body = {"prompt": prompt.nodes, "prompt_id": job_id, "client_id": client_id, "extra_data": extra}
    return {**body, "front": True} if front else body


def submit_prompt(
    server: ComfyApi,
    prompt: Prompt,
    job_id: str,
    client_id: str,
    *,
    front: bool = False,
    settle: float = 1.0,
    patience: float = 30.0,
    heard: Callable[[], bool] = lambda: False,
) -> tuple[NodeProblem, ...]:
    """Posts the prompt once under this id, unless the server has it already. Returns the parts the server dropped.

    front: before all waiting jobs. settle: seconds to look for it after a broken connection. patience: seconds to look
    for it if the request may still be in flight, or the server is temporarily unreachable. heard: returns whether
    events of the job have arrived: then the server accepted it, even if queue and history no longer list it.
    InvalidPrompt if the server refuses it; AnswerLost if it is unknown whether the server has it. Any other
    ServerUnreachable means that there is no server, and that nothing was sent.
    """
    body = prompt_body(prompt, job_id, client_id, front=front)
    lost: AnswerLost | None = None
    refused: ServerError | None = None
    steady = True
    for attempt in range(_ATTEMPTS):
        try:
            answer = server.post_prompt(body)
            if answer.status == _TOO_MANY:
                refused = ServerError(f"{server.url} gets too many requests (HTTP 429).", hint="Try again later.")
                time.sleep(_LOOK_PAUSE * 2**attempt)
                continue
            if not _is_unclear(answer):
                return _read_answer(prompt, answer, job_id)
            refused = _as_error(answer)
            _log.info("unclear answer to the prompt %s (HTTP %s); looking for the job", job_id, answer.status)
            still_coming = False
        except AnswerLost as error:
            lost = error
            _log.info("lost the answer to the prompt %s (%s); looking for the job", job_id, error.message)
            still_coming = error.still_coming
        except ServerUnreachable:
            if lost is None and refused is None:
                raise
            break
        try:
            looked_for = patience if still_coming else settle
            found, steady = find_prompts(server, [job_id], looked_for, patience)
        except (ServerUnreachable, ServerError):
            # An earlier request may have arrived nevertheless.
            lost = lost or AnswerLost(f"{server.url} does not say whether it has the job {job_id}.")
            break
        if job_id in found or heard():
            return ()
        if still_coming or not steady:
            break
    if heard():
        return ()
    if lost is None and refused is not None and steady:
        raise refused
    raise AnswerLost(
        f"It is not known whether {server.url} accepted the job {job_id}.",
        hint="It is in neither the queue nor the history now. Check both again before you submit it again.",
    ) from lost


def _is_unclear(answer: Answer) -> bool:
    """Returns whether the answer does not tell if the prompt was accepted (the error may come before or after that)."""
    return answer.status >= 500 or (answer.status == 200 and _accepted_id(answer) is None)


def _accepted_id(answer: Answer) -> str | None:
    """Returns the prompt's id in the answer; None if it is missing or cannot be used in a URL."""
    prompt_id = as_object(answer.body).get("prompt_id")
    if not isinstance(prompt_id, str) or not 0 < len(prompt_id) <= _LONGEST_ID:
        return None
    return prompt_id if prompt_id.isascii() and prompt_id.isprintable() else None


def _as_error(answer: Answer) -> ServerError:
    if answer.status == 200:
        return ProtocolError(
            "The answer to the prompt is not ComfyUI's.", expected="a prompt_id", got=answer.text[:200]
        )
    return ServerError(
        f"The server did not accept the prompt (HTTP {answer.status}).", got=answer.text[:300] or "no explanation"
    )


def find_prompts(server: ComfyApi, wanted: Collection[str], seconds: float, patience: float) -> tuple[set[str], bool]:
    """Returns which of the jobs the server has, and whether it was reachable throughout; if not, it may have restarted
    and lost its jobs. Reads queue and history at least twice, over `seconds` of a server that answers.

    Raises the last error if the server has not answered for `patience` seconds.
    """
    start = time.monotonic()
    found: set[str] = set()
    looks, unreachable_since, steady = 0, None, True
    while looks < 2 or time.monotonic() - start < seconds:
        missing = [job_id for job_id in wanted if job_id not in found]
        begun = time.monotonic()
        try:
            found |= _look(server, missing)
        except (ServerUnreachable, ServerError) as error:
            unreachable_since = unreachable_since or begun
            # A server that sends an unreadable answer is up, and a restart takes longer than _RESTART_SECONDS.
            if isinstance(error, ServerUnreachable):
                silent = time.monotonic() - unreachable_since
                steady = steady and not error.refused and silent < _RESTART_SECONDS
            if time.monotonic() - unreachable_since > patience:
                raise
            _log.debug("cannot look for %s yet: %s", ", ".join(missing), error.message)
        else:
            if len(found) == len(wanted):
                break
            looks, unreachable_since = looks + 1, None
        time.sleep(_LOOK_PAUSE)
    return found, steady


def _look(server: ComfyApi, wanted: Iterable[str]) -> set[str]:
    # The queue first: jobs move from the queue to the history, never back.
    queue = server.queue()
    there = {entry.prompt_id for entry in (*queue.running, *queue.pending)}
    return {job_id for job_id in wanted if job_id in there or server.history(job_id) is not None}


def _read_answer(prompt: Prompt, answer: Answer, job_id: str) -> tuple[NodeProblem, ...]:
    body = as_object(answer.body)
    problems = _problems(prompt, body.get("node_errors"))
    accepted = _accepted_id(answer)
    if answer.status == 200 and accepted == job_id:
        return problems
    if answer.status == 200 and accepted is not None:
        raise ProtocolError(
            "The server accepted the job under another id, so it cannot be followed.",
            expected=job_id,
            got=accepted,
            hint="ComfyUI before 0.3.60 does this: update it.",
        )
    error = body.get("error")
    if answer.status == 400 and error is not None:
        raise InvalidPrompt(_summary(prompt, error), problems, hint=_advice(error), parameter="server")
    raise _as_error(answer)


def _summary(prompt: Prompt, error: Any) -> str:
    if not is_object(error):
        return f"The server refused the prompt: {error}"
    message, details = str(error.get("message") or error.get("type")), str(error.get("details") or "")
    # For a missing class the server gives only "Node ID '#7'"; users know the node by its title.
    if details.startswith("Node ID '#"):
        title = prompt.title(details[len("Node ID '#") :].rstrip("'"))
        return f"The server refused the prompt because of {title!r}: {message}"
    return f"The server refused the prompt: {message}"


def _advice(error: Any) -> str | None:
    kind = error.get("type") if is_object(error) else None  # ComfyUI before 0.12 says "invalid_prompt"
    if kind in ("missing_node_type", "invalid_prompt"):
        return "Install the pack that has this node on the server, or use a ComfyUI that has it."
    return None


def _problems(prompt: Prompt, node_errors: Any) -> tuple[NodeProblem, ...]:
    found: list[NodeProblem] = []
    for node_id, value in as_object(node_errors).items():
        info = as_object(value)
        for error in map(as_object, as_list(info.get("errors"))):
            input_name = as_object(error.get("extra_info")).get("input_name")
            found.append(
                NodeProblem(
                    node_id=str(node_id),
                    title=prompt.title(str(node_id)),
                    class_type=str(info.get("class_type") or prompt.class_type(str(node_id))),
                    kind=str(error.get("type") or ""),
                    message=str(error.get("message") or ""),
                    details=str(error.get("details") or ""),
                    input_name=input_name if isinstance(input_name, str) else None,
                )
            )
    return tuple(found)
