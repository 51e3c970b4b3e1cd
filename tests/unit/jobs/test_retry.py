"""Another attempt: where one is asked for or can do no harm, once, and as a job of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from kandiflux import Client, Prompt, Saver
from kandiflux.cli.job_display import Plain, follow
from kandiflux.errors import JobLost, NodeFailed, OutOfMemory, OutputMissing
from kandiflux.jobs.job import Job
from kandiflux.jobs.result import Result
from kandiflux.jobs.retry import run_with_retries

from tests.support.fake_comfyui import FakeComfyUI, prompt

WAIT = 10


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.jobs.retry._FREE_SECONDS", 0.0)


def wait(job: Job) -> Result:
    return job.result(WAIT)


class Mending:
    """Follows a job, and has the server work as it should from the `after`th job on."""

    def __init__(self, comfy: FakeComfyUI, after: int = 1) -> None:
        self.comfy, self.left = comfy, after

    def __call__(self, job: Job) -> Result:
        try:
            return wait(job)
        finally:
            self.left -= 1
            if self.left == 0:
                self.comfy.ending = "success"


def test_out_of_memory_is_tried_again_after_freeing(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "memory"
    result = run_with_retries(client, Prompt.from_api(prompt()), Mending(comfy), retry_oom=True)
    assert result.images
    assert comfy.freed == [{"unload_models": True, "free_memory": True}]
    assert len(set(comfy.ran)) == len(comfy.ran) == 2


def test_out_of_memory_again_is_the_end(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "memory"
    with pytest.raises(OutOfMemory):
        run_with_retries(client, Prompt.from_api(prompt()), wait, retry_oom=True)
    assert len(comfy.ran) == 2


def test_nobody_asked_for_another_attempt(comfy: FakeComfyUI, client: Client) -> None:
    for ending, error in (("memory", OutOfMemory), ("forget", JobLost), ("error", NodeFailed)):
        comfy.ending = ending
        comfy.ran.clear()
        with pytest.raises(error):
            run_with_retries(client, Prompt.from_api(prompt()), wait)
        assert len(comfy.ran) == 1
    assert comfy.freed == []


def test_other_failures_are_never_tried_again(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "error"
    with pytest.raises(NodeFailed):
        run_with_retries(client, Prompt.from_api(prompt()), wait, retry_oom=True, on_lost="resubmit")
    assert len(comfy.ran) == 1


def test_a_lost_job_is_submitted_again_under_a_new_id(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "forget"
    result = run_with_retries(client, Prompt.from_api(prompt()), Mending(comfy, 2), on_lost="resubmit")
    assert result.images
    assert len(set(comfy.ran)) == len(comfy.ran) == 3


def test_a_job_that_is_lost_again_and_again_is_given_up(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "forget"
    with pytest.raises(JobLost):
        run_with_retries(client, Prompt.from_api(prompt()), wait, on_lost="resubmit")
    assert len(comfy.ran) == 4


def test_a_file_that_is_gone_and_was_not_cached_is_not_made_again(
    comfy: FakeComfyUI, client: Client, tmp_path: Path
) -> None:
    comfy.view = "missing"

    def fetch(job: Job) -> Result:
        return follow(job, client.api, Saver(tmp_path), Plain(quiet=True), WAIT)

    with pytest.raises(OutputMissing):
        run_with_retries(client, Prompt.from_api(prompt()), fetch)
    assert len(comfy.ran) == 1
