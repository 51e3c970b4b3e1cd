"""A plan: each job's key, number and name, and what becomes of a list that was run before."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Workflow
from kandiflux.batch import JobList, Row, parse_grid
from kandiflux.batch.ledger import LEDGER, Ledger, Saved
from kandiflux.batch.plan import BatchPlan, Resumed, plan_jobs, require_same_workflow, workflow_digest
from kandiflux.batch.preflight import check_jobs
from kandiflux.errors import UsageError

from tests.support.places import ROOT

NODES = {
    "1": {"class_type": "Noise", "inputs": {"seed": 100, "prompt": "a fox"}},
    "2": {"class_type": "Noise", "inputs": {"seed": 200, "prompt": "b"}},
}
INFO = {
    "Noise": {
        "input": {"required": {"seed": ["INT", {"min": 0, "max": 999}], "prompt": ["STRING", {}]}},
        "output": [], "output_node": True,
    }
}  # fmt: skip
WORKFLOW = Workflow.from_data(NODES, name="noise")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        yield ledger


def plan_of(jobs: JobList, folder: Path, *, seed: str | int | None = None, **options: Any) -> BatchPlan:
    return BatchPlan(WORKFLOW, check_jobs(WORKFLOW, INFO, jobs, seed=seed), folder, **options)


def grid(text: str, repeat: int = 1) -> JobList:
    return JobList(axes=parse_grid([text]), repeat=repeat)


def planned(ledger: Ledger, folder: Path, jobs: JobList, **options: Any) -> Resumed:
    return plan_jobs(plan_of(jobs, folder, **options), ledger, WORKFLOW, folder)


def test_each_job_has_its_number_its_place_its_values_and_its_name(tmp_path: Path) -> None:
    rows = [Row({"2.prompt": "x"}, "2"), Row({"2.prompt": "y"}, "3")]
    jobs = JobList({}, rows, parse_grid(["1.prompt=a,b"]), repeat=2)
    found = list(plan_of(jobs, tmp_path, name="{index}-{repeat}-{workflow}-{1.prompt}").preview())
    assert [(job.index, job.place, job.state) for job in found[:3]] == [
        (1, (0, 0, 0), "new"), (2, (0, 0, 1), "new"), (3, (0, 1, 0), "new")
    ]  # fmt: skip
    assert (found[7].index, found[7].place) == (8, (1, 1, 1))
    assert [job.name for job in found[:3]] == ["1-1-noise-a", "2-2-noise-a", "3-1-noise-b"]
    assert [job.values["1.seed"] for job in found] == list(range(100, 108))
    assert found[7].values == {"1.prompt": "b", "2.prompt": "y", "1.seed": 107, "2.seed": 107}


@pytest.mark.parametrize(
    ("jobs", "seed", "names"),
    [
        (grid("2.prompt=c,d"), None, ["0001_100", "0002_100"]),
        (grid("2.prompt=c,d"), 7, ["0001_7", "0002_7"]),
        (grid("2.prompt=c,d"), "increment", ["0001_100", "0002_101"]),
        (JobList({"1.seed": 5}), None, ["0001_5"]),
    ],
)
def test_a_name_has_the_seed_of_its_job(
    jobs: JobList, seed: str | int | None, names: list[str], tmp_path: Path
) -> None:
    assert [job.name for job in plan_of(jobs, tmp_path, seed=seed).preview()] == names


def test_a_name_has_the_beginning_of_a_prompt_and_no_seed_if_there_is_none(tmp_path: Path) -> None:
    data = json.loads((ROOT / "tests" / "data" / "empty_image.json").read_text())
    data["extra"]["kandiflux"]["parameters"] = {"prompt": {"node": 2, "input": "filename_prefix"}}
    info = json.loads((ROOT / "tests" / "data" / "object_info.json").read_text())
    workflow = Workflow.from_data(data)
    for base, name in (({}, "0001_plain"), ({"prompt": "123456789 " * 9}, "0001_" + ("123456789_" * 4)[:-1])):
        checked = check_jobs(workflow, info, JobList(base))
        assert [job.name for job in BatchPlan(workflow, checked, tmp_path).preview()] == [name]
    with pytest.raises(UsageError, match="which no job has") as refused:
        BatchPlan(workflow, checked, tmp_path, name="{hight}")
    assert refused.value.expected == "index, prompt, repeat, workflow"


def test_the_same_wish_has_the_same_key_whatever_comes_before_it(tmp_path: Path) -> None:
    def keys(jobs: JobList, **options: Any) -> list[str]:
        return [key for _, key, _ in plan_of(jobs, tmp_path, **options).keyed()]

    assert keys(grid("1.prompt=a,b,a"))[0] == keys(grid("1.prompt=b,a"))[1]
    assert len(set(keys(grid("1.prompt=a,b,a")))) == 3
    assert keys(grid("1.prompt=a,b"), limit=1) == keys(grid("1.prompt=a,b"))[:1]
    assert keys(grid("1.prompt=a"), seed="random") == keys(grid("1.prompt=a"), seed="random"), "before it is drawn"
    assert keys(grid("1.prompt=a"), seed="random") != keys(grid("1.prompt=a"), seed=5)
    assert keys(JobList({"1.prompt": "\ud800"})) != keys(JobList({"1.prompt": "\ud801"}))
    # Ledgers of earlier versions hold these: a change of them would run all jobs of a batch anew.
    assert keys(JobList({"1.prompt": "a", "2.prompt": "ж"}, repeat=2), seed="fixed") == [
        "6ffc2a2f9c577a7562c2ca1b2a9731f8#1", "6ffc2a2f9c577a7562c2ca1b2a9731f8#2"
    ]  # fmt: skip


def test_a_list_that_was_run_before(ledger: Ledger, tmp_path: Path) -> None:
    assert planned(ledger, tmp_path, grid("1.prompt=a,b,c")) == Resumed(
        total=3, done=0, new=3, unlisted=0, files_gone=0
    )
    for name in ("x.png", "y.png"):
        attempt = ledger.begin("http://a")
        assert attempt is not None
        (tmp_path / name).touch()
        ledger.done(attempt, [Saved(name, "image", "", 0)])
    (tmp_path / "y.png").unlink()
    later = planned(ledger, tmp_path, grid("1.prompt=d,b,a"))
    assert later == Resumed(total=3, done=1, new=1, unlisted=1, files_gone=1)
    entries = list(ledger.entries())
    assert [(one.index, one.place, one.values["1.prompt"], one.name, one.state) for one in entries] == [
        (1, (0, 0, 0), "d", "0001_100_2", "waiting"),
        (2, (0, 1, 0), "b", "0002_100", "waiting"),
        (3, (0, 2, 0), "a", "0001_100", "done"),
    ]  # fmt: skip


def test_a_preview_shows_what_a_ledger_knows(ledger: Ledger, tmp_path: Path) -> None:
    planned(ledger, tmp_path, grid("1.prompt=a,b"), seed="random")
    drawn = [entry.values["1.seed"] for entry in ledger.entries()]
    assert ledger.begin("http://a") is not None
    found = list(plan_of(grid("1.prompt=b,c,a"), tmp_path, seed="random").preview(ledger))
    assert [(job.index, job.state) for job in found] == [(1, "waiting"), (2, "new"), (3, "sent")]
    assert (found[0].values["1.seed"], found[2].values["1.seed"]) == (drawn[1], drawn[0])
    assert (found[0].place, found[0].name) == ((0, 0, 0), f"0002_{drawn[1]}")
    assert [job.key for job in found] == [
        key for _, key, _ in plan_of(grid("1.prompt=b,c,a"), tmp_path, seed="random").keyed()
    ]


def test_a_limit(tmp_path: Path, ledger: Ledger) -> None:
    for limit, count in ((None, 2), (1, 1), (2, 2), (3, 2)):
        plan = plan_of(grid("1.prompt=a,b"), tmp_path, limit=limit)
        assert len(plan) == len(list(plan.preview())) == count
    assert planned(ledger, tmp_path, grid("1.prompt=a,b"), limit=1).total == 1


def test_a_folder_has_one_workflow(ledger: Ledger, tmp_path: Path) -> None:
    require_same_workflow(ledger, WORKFLOW, tmp_path)
    planned(ledger, tmp_path, grid("1.prompt=a"))
    require_same_workflow(ledger, Workflow.from_data(dict(reversed(NODES.items())), name="another name"), tmp_path)
    other = Workflow.from_data({"1": NODES["1"]})
    with pytest.raises(UsageError, match=r"another workflow \(noise, or this one") as refused:
        require_same_workflow(ledger, other, tmp_path)
    assert refused.value.parameter == "restart"
    checked = check_jobs(other, INFO, JobList())
    with pytest.raises(UsageError, match="another workflow"):
        plan_jobs(BatchPlan(other, checked, tmp_path), ledger, other, tmp_path)
    assert ledger.counts().total == 1


def test_an_editor_file_has_a_digest_of_its_own() -> None:
    digests = {
        workflow_digest(Workflow.from_data({"nodes": [], "links": [], "version": 0.4, "extra": {"a": number}}))
        for number in (1, 2, 2)
    }
    assert len(digests) == 2
    assert workflow_digest(WORKFLOW) == workflow_digest(Workflow.from_data(NODES)) not in digests


def test_names_do_not_meet_files_of_any_kind_or_case(tmp_path: Path) -> None:
    (tmp_path / "0001_100.JSON").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "X.txt").touch()
    assert [job.name for job in plan_of(JobList(), tmp_path).preview()] == ["0001_100_2"]
    named = plan_of(grid("1.prompt=x,y,x"), tmp_path, name="a/{1.prompt}")
    assert [job.name for job in named.preview()] == ["a/x_2", "a/y", "a/x_3"]
