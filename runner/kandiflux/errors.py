"""The exceptions of the runner, with the exit codes of the command line.

    KandifluxError                      exit code 1
    ├── UsageError                      2    the request itself is wrong; nothing was sent
    │   ├── WorkflowError                    the file cannot be read or is not a workflow
    │   │   └── ConversionError              the workflow cannot be converted to the API format
    │   └── ParameterError                   no such parameter, wrong type, out of range, not in the list
    ├── ServerError                          the server answered with an error
    │   ├── InvalidPrompt               2    the prompt failed the server's validation
    │   ├── BodyTooLarge                2    HTTP 413
    │   ├── AccessDenied                2    HTTP 401 or 403
    │   └── ProtocolError           3    an answer or a frame that is not from a ComfyUI
    ├── ServerUnreachable               3    no answer from the server
    │   └── AnswerLost                           the request was sent, but no answer came: it may have been processed
    ├── JobError                             a submitted job has no result
    │   ├── NodeFailed                       a node raised an exception
    │   │   └── OutOfMemory                  … because memory ran out
    │   ├── JobInterrupted              130  the job was cancelled
    │   ├── JobLost                          the job is in neither queue nor history
    │   └── JobTimeout                       not finished before the timeout; it may still be running
    ├── OutputError                          an output cannot be downloaded or written
    │   └── OutputMissing                    the server lists a file that no longer exists
    └── DownloadError                        a model file cannot be downloaded
        ├── WrongFile                        the file is not the expected one
        └── DiskFull                         the disk has too little free space

Every message says what was expected, what came and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "AccessDenied",
    "AnswerLost",
    "BodyTooLarge",
    "ConversionError",
    "DiskFull",
    "DownloadError",
    "InvalidPrompt",
    "JobError",
    "JobInterrupted",
    "JobLost",
    "JobTimeout",
    "KandifluxError",
    "NodeFailed",
    "NodeProblem",
    "OutOfMemory",
    "OutputError",
    "OutputMissing",
    "ParameterError",
    "ProtocolError",
    "ServerError",
    "ServerUnreachable",
    "UsageError",
    "WorkflowError",
    "WrongFile",
]


class KandifluxError(Exception):
    """Base of all exceptions of the runner.

    expected, got: the expected and the actual value, if that applies.
    hint: what to do.
    parameter: the argument to change; commands show their option for it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
        parameter: str | None = None,
    ) -> None:
        self.message = message
        self.expected = expected
        self.got = got
        self.hint = hint
        self.parameter = parameter
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, unpickling an exception passes only `args`, without keyword-only parameters.
        return _unpickled, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        lines = [self.message]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        if self.hint is not None:
            lines.append(f"  hint:     {self.hint}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns the error as JSON: `error` (class name), `message`, and the other fields that are set."""
        known = {"expected": self.expected, "got": self.got, "hint": self.hint}
        return {
            "error": type(self).__name__,
            "message": self.message,
            **{k: v for k, v in known.items() if v is not None},
        }


def _unpickled(kind: type[KandifluxError], args: tuple[Any, ...], state: dict[str, Any]) -> KandifluxError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(KandifluxError):
    """The request itself is wrong; nothing was sent."""

    exit_code = 2


class WorkflowError(UsageError):
    """The file cannot be read, or is not a workflow."""


class ConversionError(WorkflowError):
    """The workflow cannot be converted from the editor format to the API format."""


class ParameterError(UsageError):
    """No such parameter, a value of the wrong type, out of range, or not in the list."""


class ServerError(KandifluxError):
    """The server answered with an error."""


@dataclass(frozen=True)
class NodeProblem:
    """One error of the server's validation, about one node."""

    node_id: str
    title: str
    class_type: str
    kind: str
    """ComfyUI's error type: `value_not_in_list`, `required_input_missing`, …"""
    message: str
    details: str
    input_name: str | None = None

    def __str__(self) -> str:
        where = f"{self.title!r} (node {self.node_id}, {self.class_type})"
        return f"{where}: {self.message}" + (f": {self.details}" if self.details else "")


class InvalidPrompt(ServerError):
    """The server refused the prompt, or part of it. `problems` names each node and input."""

    exit_code = 2

    def __init__(self, message: str, problems: Sequence[NodeProblem] = (), **details: str | None) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  {problem}" for problem in self.problems)]), **details)


class BodyTooLarge(ServerError):
    """HTTP 413: the request is larger than the server accepts."""

    exit_code = 2


class AccessDenied(ServerError):
    """HTTP 401 or 403."""

    exit_code = 2


class ProtocolError(ServerError):
    """An answer or a frame that is not from a ComfyUI."""

    exit_code = 3


class ServerUnreachable(KandifluxError):
    """No answer from the server. `refused`: there was not even a connection."""

    exit_code = 3

    def __init__(self, message: str, *, refused: bool = False, **details: str | None) -> None:
        self.refused = refused
        super().__init__(message, **details)


class AnswerLost(ServerUnreachable):
    """The request was sent, but no answer came: it may have been processed.

    still_coming: the server, or a gateway in front of it, may still process the request later.
    """

    def __init__(self, message: str, *, still_coming: bool = False, hint: str | None = None) -> None:
        self.still_coming = still_coming
        super().__init__(message, hint=hint)


class JobError(KandifluxError):
    """A job that ended without a result. `prompt_id` is its id on the server."""

    def __init__(self, message: str, *, prompt_id: str, hint: str | None = None) -> None:
        self.prompt_id = prompt_id
        super().__init__(message, hint=hint)

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "prompt_id": self.prompt_id}


class NodeFailed(JobError):
    """A node raised an exception.

    traceback: from the server. inputs: what the node got, as formatted (shortened) by ComfyUI.
    """

    def __init__(
        self,
        *,
        prompt_id: str,
        node_id: str,
        title: str,
        class_type: str,
        exception_type: str,
        exception_message: str,
        traceback: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        self.node_id = node_id
        self.title = title
        self.class_type = class_type
        self.exception_type = exception_type
        self.exception_message = exception_message.strip()
        self.traceback = tuple(traceback)
        self.inputs = dict(inputs or {})
        super().__init__(
            f"{title!r} (node {node_id}, {class_type}) failed: {exception_type}: {self.exception_message}",
            prompt_id=prompt_id,
            hint=hint,
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            **super().as_dict(),
            "node_id": self.node_id,
            "title": self.title,
            "class_type": self.class_type,
            "exception_type": self.exception_type,
            "traceback": list(self.traceback),
        }


class OutOfMemory(NodeFailed):
    """A node failed because memory ran out."""


class JobInterrupted(JobError):
    """The job was cancelled."""

    exit_code = 130


class JobLost(JobError):
    """The job is in neither queue nor history; it is unknown whether it ran."""


class JobTimeout(JobError):
    """The job has not finished before the timeout; it may still be running."""


class OutputError(KandifluxError):
    """An output cannot be downloaded or written."""


class OutputMissing(OutputError):
    """The server lists a file that no longer exists."""


class DownloadError(KandifluxError):
    """A model file cannot be downloaded."""


class WrongFile(DownloadError):
    """The file is not the expected one."""


class DiskFull(DownloadError):
    """The disk has too little free space for the file."""
