"""What this test suite adds to pytest: options, seeds, which tests share a process, and an account of skipped ones."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Of this process and of what it starts: several test processes share the processors. Read as torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.support.hosts import NO_COMFYUI
from tests.support.places import NO_SHARED, ROOT

MARKS = {
    "slow": "takes many seconds, and a faster test of the same behaviour runs always: only with --campaign=full",
    "bench": "runs the benchmarks: only with --campaign=full",
    "memory": "measures how much memory something takes",
}

_ORDER = ("host", "editor", "faults", "clients", "lite", "parity")
"""Folders whose tests take longest, first: the many short ones then fill what is left of both processors' time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kandiflux")
    group.addoption(
        "--campaign",
        choices=["small", "full"],
        default="small",
        help="small (the default): fault campaigns with fewer jobs, no tests marked slow or bench; full: everything",
    )
    group.addoption("--seed", type=int, default=20261121, help="of random numbers and tensors in tests (%(default)s)")
    group.addoption("--require-comfyui", action="store_true", help="a test that lacks a ComfyUI fails")
    group.addoption("--require-shared", action="store_true", help="a test that lacks the shared data fails")


def pytest_report_header(config: pytest.Config) -> str:
    return f"campaign: {config.getoption('--campaign')}, seed: {config.getoption('--seed')}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test sees the same random numbers in any order of tests, and in any process."""
    random.seed(item.config.getoption("--seed"))
    if torch := sys.modules.get("torch"):
        torch.manual_seed(item.config.getoption("--seed"))


def pytest_configure(config: pytest.Config) -> None:
    for mark, about in MARKS.items():
        config.addinivalue_line("markers", f"{mark}: {about}")


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Takes the checkout for a folder: as the package that it is, too, it would be imported, and torch with it."""
    return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--campaign") == "small":
        for item in items:
            for mark in ("slow", "bench"):
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=f"marked {mark}: runs with --campaign=full"))
    items.sort(key=_rank)
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(item.config.rootpath / "tests").parts[0]
    return _ORDER.index(folder) if folder in _ORDER else len(_ORDER)


_SHARED_HOSTS = ("comfy_host", "stocked_host", "flux_host")
"""Fixtures that start a ComfyUI once in a session."""


def _group(item: pytest.Item) -> str | None:
    """Which tests must run in the same process: those that share a ComfyUI, or a fixture of their module."""
    if marker := item.get_closest_marker("xdist_group"):
        return str(marker.args[0])
    fixtures = getattr(item, "_fixtureinfo", None)
    if fixtures is None:
        return None
    for name in _SHARED_HOSTS:
        if name in fixtures.names_closure:
            return name
    shared = any(found[-1].scope in ("module", "class") for found in fixtures.name2fixturedefs.values() if found)
    return item.path.relative_to(item.config.rootpath).as_posix() if shared else None


# Skipped tests


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    _require(item.config, outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    outcome: Any = yield
    _require(collector.config, outcome.get_result())


def _require(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    """Makes a failure of a test that was skipped for lack of what an option says is there."""
    reason = _why_skipped(report)
    for option, lack in (("--require-comfyui", NO_COMFYUI), ("--require-shared", NO_SHARED)):
        if reason.startswith(lack) and config.getoption(option):
            report.outcome = "failed"
            report.longrepr = f"skipped, in spite of {option}: {reason}"


def _why_skipped(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason; empty if it was not skipped."""
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return ""
    return str(report.longrepr[2]).removeprefix("Skipped: ")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    reasons = Counter(_why_skipped(report) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section(f"{reasons.total()} skipped")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}")
