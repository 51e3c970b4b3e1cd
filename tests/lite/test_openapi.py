"""Requests made from ComfyUI 0.33's own description of its API: none is a server error of the lite host."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hosts import RunningHost, running_lite
from tests.support.places import shared

schemathesis = pytest.importorskip("schemathesis")

FEW, MANY = 12, 80
"""Requests of each kind: usually, and with --campaign=full."""

OURS = """/api/embeddings /api/experiment/models /api/experiment/models/{folder} /api/extensions /api/features /api/free
/api/history /api/i18n /api/interrupt /api/jobs /api/jobs/{job_id} /api/jobs/{job_id}/cancel /api/jobs/cancel
/api/object_info /api/prompt /api/queue /api/settings /api/settings/{id} /api/system_stats /api/upload/image
/api/upload/mask /api/userdata /api/userdata/{file} /api/userdata/{file}/move/{dest} /api/users /api/view
/api/workflow_templates /internal/folder_paths /internal/logs /internal/logs/raw /internal/logs/subscribe"""
"""Of the described routes, those that the lite host has."""


def operations() -> dict[str, Any]:
    """The described operations on them, by method and path."""
    description = shared("comfyui/openapi-0.33.0.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries below
        schema = schemathesis.openapi.from_path(description)
        found = [result.ok() for result in schema.get_all_operations()]
    return {f"{one.method.upper()} {one.path}": one for one in found if one.path in OURS.split()}


OPERATIONS = operations()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    pytest.importorskip("comfyui_frontend_package", reason="the graph editor's package is not installed")
    base = tmp_path_factory.mktemp("described")
    with running_lite(base, "--editor", "--user", str(base / "user")) as host:
        yield host


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_described_request_is_a_server_error(host: RunningHost, name: str, mode: str, full_campaign: bool) -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable

    generation = schemathesis.GenerationMode(mode)

    @settings(
        max_examples=MANY if full_campaign else FEW,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck.__members__.values()],
        phases=[Phase.generate],
    )
    @given(case=OPERATIONS[name].as_strategy(generation_mode=generation))
    def ask(case: Any) -> None:
        answer = case.call(base_url=host.url)
        assert answer.status_code < 500, case.as_curl_command()

    try:
        ask()
    except Unsatisfiable:  # a route without parameters: nothing to make wrong
        assert mode == "negative"
