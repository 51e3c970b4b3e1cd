"""A node pack whose nodes raise and return what no node should."""

from __future__ import annotations

import asyncio
import time
from typing import Any


class Stubborn(BaseException):
    """Not an Exception."""


class Unreadable:
    """An object without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text today")

    __repr__ = __str__


class UnreadableError(ValueError):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text today")


def _cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


RAISED = {
    "keyboard": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "cancelled": asyncio.CancelledError,
    "generator": GeneratorExit,
    "stop": StopIteration,
    "memory": MemoryError,
    "recursion": RecursionError,
    "own": Stubborn,
    "unreadable": UnreadableError,
    "long": lambda: ValueError("x" * 1_000_000),
}
RETURNED = {
    "nan": lambda: [float("nan"), float("inf"), -float("inf"), 10**400],
    "unreadable": Unreadable,
    "cycle": _cycle,
    "deep": _deep,
    "keys": lambda: {1: 2, None: 3, (1, 2): 4},
    "bytes": lambda: b"\xff",
    "surrogate": lambda: "\ud800",
    "set": lambda: {1},
}


class _Rude:
    CATEGORY = "testing"
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"kind": ("STRING", {})}}


class RudeRaises(_Rude):
    """Raises when it runs."""

    def run(self, kind: str) -> tuple[()]:
        raise RAISED[kind]()


class RudeReturns(_Rude):
    """Returns odd values for the client."""

    def run(self, kind: str) -> dict[str, Any]:
        return {"ui": {"text": [RETURNED[kind]()]}}


class RudeChanged(_Rude):
    """Raises or returns odd values when it is asked whether it changed."""

    @classmethod
    def IS_CHANGED(cls, kind: str) -> Any:
        if kind in RAISED:
            raise RAISED[kind]()
        return RETURNED[kind]()

    def run(self, kind: str) -> tuple[()]:
        return ()


class RudeSlowKey(_Rude):
    """Takes 0.1 s to say whether it changed."""

    @classmethod
    def IS_CHANGED(cls, kind: str) -> str:
        time.sleep(0.1)
        return kind

    def run(self, kind: str) -> tuple[()]:
        return ()


NODE_CLASS_MAPPINGS = {each.__name__: each for each in (RudeRaises, RudeReturns, RudeChanged, RudeSlowKey)}
