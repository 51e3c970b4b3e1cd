"""What is checked before the first job is sent: values, seeds, and the workflow itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kandiflux import Workflow
from kandiflux.batch import JobList, Row, parse_grid
from kandiflux.batch.preflight import Checked, Seeds, check_jobs
from kandiflux.errors import InvalidPrompt, UsageError

NODES = {
    "1": {"class_type": "Noise", "inputs": {"seed": 100, "text": "x", "image": "a.png", "by": ["2", 0]}},
    "2": {"class_type": "Number", "inputs": {"noise_seed": 7}},
    "3": {"class_type": "Lone", "inputs": {}},
}
INFO: dict[str, Any] = {
    "Noise": {
        "input": {"required": {
            "seed": ["INT", {"min": 5, "max": 999}], "text": ["STRING", {}],
            "image": [["a.png", "b.png"], {"image_upload": True}], "by": ["INT", {}],
        }},
        "output": [], "output_node": True,
    },
    "Number": {
        "input": {"required": {"noise_seed": ["INT", {"min": 2, "max": 500}]}}, "output": ["INT"],
        "output_name": ["INT"], "output_node": False,
    },
    "Lone": {"input": {"required": {"size": ["FLOAT", {"default": 1.5}]}}, "output": [], "output_node": True},
}  # fmt: skip
WORKFLOW = Workflow.from_data({**NODES, "3": {"class_type": "Lone", "inputs": {"size": 2.5}}}, name="noise")
PLAIN = Workflow.from_data({"3": {"class_type": "Lone", "inputs": {"size": 2.5}}}, name="plain")


def check(jobs: JobList, *, workflow: Workflow = WORKFLOW, **options: Any) -> Checked:
    return check_jobs(workflow, INFO, jobs, **options)


def refused(jobs: JobList, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        check(jobs, **options)
    return caught.value


def drawn(jobs: JobList, seed: str | int | None = None) -> list[tuple[Any, Any]]:
    checked = check(jobs, seed=seed)
    values = [checked.seeds.resolve(job, index) for index, job in enumerate(checked.jobs)]
    return [(each.get("1.seed"), each.get("2.noise_seed")) for each in values]


# Values


def test_what_a_file_is_and_what_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.png").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("mine.png", "~/mine.png", Path("mine.png")):
        (job,) = check(JobList({"1.image": given})).jobs
        assert job.values["1.image"] == str(tmp_path / "mine.png")
    assert check(JobList({"1.image": "b.png"})).jobs.base == {"1.image": "b.png"}, "the server's own"
    assert check(JobList({"1.text": "mine.png"})).jobs.base == {"1.text": "mine.png"}
    assert "values: 1.image" in refused(JobList({"1.image": "folder"})).message


@pytest.mark.parametrize(
    ("jobs", "lines"),
    [
        (JobList({"1.seed": "x"}), [
            "1 value does not fit gpu:", "  values: 1.seed must be a whole number from 5 to 999. Got: 'x'."]),
        (JobList({}, [Row({"1.seed": 4}, "a.csv line 2"), Row({"1.seed": 1000}, "a.csv line 3")]), [
            "2 values do not fit gpu:",
            "  a.csv line 2: 1.seed is out of range. Expected: a whole number from 5 to 999. Got: 4.",
            "  a.csv line 3: 1.seed is out of range. Expected: a whole number from 5 to 999. Got: 1000."]),
        (JobList(axes=parse_grid(["3.sise=1..30"])), [
            "1 value does not fit gpu:", "  the grid, 3.sise: "]),
        (JobList(axes=parse_grid(["1.seed=1000..1019"])), [
            "20 values do not fit gpu:",
            *[f"  the grid, 1.seed: 1.seed is out of range. Expected: a whole number from 5 to 999. Got: {number}."
              for number in range(1000, 1020)]]),
        (JobList(axes=parse_grid(["1.seed=1000..1021"])), [
            "22 values do not fit gpu:",
            *[f"  the grid, 1.seed: 1.seed is out of range. Expected: a whole number from 5 to 999. Got: {number}."
              for number in range(1000, 1020)],
            "  … and 2 more"]),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(jobs: JobList, lines: list[str]) -> None:
    found = refused(jobs, server="gpu").message.splitlines()
    assert len(found) == len(lines), found
    assert all(line.startswith(expected) for line, expected in zip(found, lines, strict=True)), found


def test_the_limits_themselves_are_allowed() -> None:
    assert [job.values["1.seed"] for job in check(JobList(axes=parse_grid(["1.seed=5,999"]))).jobs] == [5, 999]


def test_the_workflow_itself_is_checked_with_the_values_of_a_job() -> None:
    lacking = Workflow.from_data({"1": {"class_type": "Noise", "inputs": {"seed": 100}}})
    with pytest.raises(InvalidPrompt, match="text"):
        check(JobList({"1.seed": 9}), workflow=lacking)
    complete = JobList({"1.text": "x", "1.image": "a.png", "1.by": 3})
    assert len(check(complete, workflow=lacking).jobs) == 1


def test_what_jobs_have_that_they_do_not_set() -> None:
    assert check(JobList({"1.text": "y"}, axes=parse_grid(["1.seed=9"]))).defaults == {
        "1.text": "x", "1.seed": 100, "2.noise_seed": 7
    }  # fmt: skip


# Seeds


def test_a_seed_for_all_inputs_that_take_one() -> None:
    jobs = JobList(axes=parse_grid(["1.text=a,b"]))
    assert drawn(jobs, 5) == drawn(jobs, " 5 ") == [(5, 5), (5, 5)]
    assert drawn(jobs, 500) == [(500, 500)] * 2
    assert drawn(jobs) == drawn(jobs, "Fixed") == [(None, None)] * 2
    assert drawn(jobs, "increment") == [(100, 100), (101, 101)]
    assert drawn(JobList({"2.noise_seed": 9}, repeat=2)) == [(9, 9), (10, 10)]
    assert drawn(JobList({"1.seed": 499}, axes=parse_grid(["1.text=a,b,c"])), "increment") == [
        (499, 499), (500, 500), (5, 5)
    ]  # fmt: skip
    for seed, other in drawn(jobs, "random"):
        assert seed == other
        assert 5 <= seed <= 500
    one, two = drawn(JobList({"1.seed": "random"}, repeat=2), "fixed")
    assert one[0] != two[0]
    assert (one[1], two[1]) == (None, None)
    rows = [Row({"1.seed": 30}, ""), Row({"1.seed": "random"}, "")]
    (first, other), (again, more), *rest = drawn(JobList({}, rows, repeat=2))
    assert ((first, other), (again, more)) == ((30, 100), (31, 101)), "a seed of its own is counted from by its repeats"
    assert [seed for _, seed in rest] == [102, 103]
    assert drawn(JobList({}, [Row({"1.seed": 30}, "")]), 8) == [(30, 8)]


@pytest.mark.parametrize(
    ("low", "high", "start", "index", "seed"),
    [(0, 9, 3, 6, 9), (0, 9, 3, 7, 0), (5, 9, 9, 1, 5), (5, 9, 7, 5, 7), (0, 0, 0, 3, 0)],
)
def test_counting_begins_anew_after_the_largest_seed(low: int, high: int, start: int, index: int, seed: int) -> None:
    seeds = Seeds("increment", ("s",), frozenset(["s"]), start, low, high)
    (job,) = JobList()
    assert seeds.resolve(job, index) == {"s": seed}


def test_drawn_seeds_are_within_what_the_inputs_take() -> None:
    (job,) = JobList()
    for low, high, found in ((3, 4, {3, 4}), (7, 7, {7}), (2**33, 2**40, {2**33})):
        seeds = Seeds("random", ("s",), frozenset(["s"]), 0, low, high)
        assert {seeds.resolve(job, 0)["s"] for _ in range(60)} == found
    seeds = Seeds("random", ("s",), frozenset(["s"]), 0, 0, 2**64 - 1)
    assert max(seeds.resolve(job, 0)["s"] for _ in range(60)) < 2**32, "what every program takes"


@pytest.mark.parametrize(
    ("jobs", "seed", "said", "expected"),
    [
        (JobList(), 4, "out of range", "a number from 5 to 500"),
        (JobList(), "501", "out of range", "a number from 5 to 500"),
        (JobList({"1.seed": 9}), 9, "given twice", "one of them"),
        (JobList(), "1.5", "is not valid", "fixed, random, increment, or a number"),
    ],
)
def test_a_seed_that_cannot_be(jobs: JobList, seed: str | int, said: str, expected: str) -> None:
    error = refused(jobs, seed=seed)
    assert (said in error.message, error.expected) == (True, expected)


def test_a_workflow_without_seeds() -> None:
    assert refused(JobList(), preset="tiny").expected == "(it has none)"
    assert "plain has no seed to set" in refused(JobList(), workflow=PLAIN, seed="fixed").message
    checked = check(JobList(repeat=2), workflow=PLAIN)
    assert (checked.seeds.policy, checked.seeds.names, checked.varying) == ("fixed", (), frozenset())


def test_a_seed_without_limits_is_one_that_every_program_takes() -> None:
    info = {"Noise": {"input": {"required": {"seed": ["INT", {}]}}, "output": [], "output_node": True}}
    workflow = Workflow.from_data({"1": {"class_type": "Noise", "inputs": {"seed": 1}}})
    for seed in (0, 2**32 - 1):
        assert check_jobs(workflow, info, JobList(), seed=seed).seeds.policy == seed
    for seed in (-1, 2**32):
        with pytest.raises(UsageError, match="out of range"):
            check_jobs(workflow, info, JobList(), seed=seed)


def test_what_varies() -> None:
    rows = [Row({"1.text": "a"}, "")]
    assert check(JobList({"3.size": 3}, rows, parse_grid(["1.image=a.png"]))).varying == {"1.text", "1.image"}
    assert check(JobList(repeat=2)).varying == {"1.seed", "2.noise_seed"}
    assert check(JobList(), seed="random").varying == {"1.seed", "2.noise_seed"}
    assert check(JobList(), seed=9).varying == check(JobList({"1.seed": 9})).varying == frozenset()
    assert check(JobList({"1.seed": "random", "1.text": "random"})).varying == {"1.seed"}


def test_what_a_job_asks_for_does_not_depend_on_what_is_drawn() -> None:
    (job,) = JobList({"t": 1})

    def requested(policy: str | int, start: int = 3) -> dict[str, Any]:
        return Seeds(policy, ("s",), frozenset(), start, 0, 9).requested(job)

    assert (requested("fixed"), requested(4), requested("random")) == (
        {"t": 1},
        {"s": 4, "t": 1},
        {"s": "random", "t": 1},
    )
    assert requested("increment") == {"s": "increment from 3", "t": 1} != requested("increment", 4)
    (own,) = JobList({"s": 8})
    assert Seeds("random", ("s",), frozenset(), 0, 0, 9).requested(own) == {"s": 8}
