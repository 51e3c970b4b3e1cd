"""Lists of jobs: which value counts, the number of each job's row, and what a file's cells mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kandiflux.batch import JobList, Row, parse_grid, read_jobs
from kandiflux.errors import UsageError


def test_a_row_goes_before_what_all_jobs_have_and_an_axis_is_its_own() -> None:
    base = {"steps": 20, "cfg": 2, "width": 1}
    jobs = JobList(base, [Row({"cfg": 3}, "1"), Row({"steps": 30}, "2")], parse_grid(["width=8,9"]))
    assert [dict(job.values) for job in jobs] == [
        {"steps": 20, "cfg": 3, "width": "8"},
        {"steps": 20, "cfg": 3, "width": "9"},
        {"steps": 30, "cfg": 2, "width": "8"},
        {"steps": 30, "cfg": 2, "width": "9"},
    ]
    assert base == {"steps": 20, "cfg": 2, "width": 1}


def test_each_job_says_its_row_its_place_and_its_repetition() -> None:
    jobs = JobList({}, [Row({"r": 1}, ""), Row({"r": 2}, "")], parse_grid(["x=1,2 y=3,4,5"]), repeat=2)
    listed = list(jobs)
    assert len(jobs) == len(listed) == 24
    assert [(job.row, job.place, job.repetition) for job in (*listed[:3], listed[4], listed[12], listed[23])] == [
        (0, (0, 0), 0), (0, (0, 0), 1), (0, (1, 0), 0), (0, (0, 1), 0), (1, (0, 0), 0), (1, (1, 2), 1),
    ]  # fmt: skip


def test_a_list_without_rows_and_axes_is_its_repetitions() -> None:
    assert [(job.row, job.place, job.repetition) for job in JobList({"a": 1}, repeat=2)] == [(0, (), 0), (0, (), 1)]
    assert len(JobList()) == len(list(JobList())) == 1


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", " prompt , steps \n a , 2 \n", [("a.csv line 2", {"prompt": " a ", "steps": " 2 "})]),
        ("a.csv", "a,b\n1\n ,\n\n2,  \n", [("a.csv line 2", {"a": "1"}), ("a.csv line 5", {"a": "2"})]),
        ("a.CSV", 'a\n"x\ny"\nz\n', [("a.CSV line 3", {"a": "x\ny"}), ("a.CSV line 4", {"a": "z"})]),
        ("a.csv", "a;b,c\n1;2\n", [("a.csv line 2", {"a;b": "1;2"})]),
        ("a.csv", "a;b;c,d\n1;2;3\n", [("a.csv line 2", {"a": "1", "b": "2", "c,d": "3"})]),
        ("a.jsonl", '\n{"a": 0, "b": false, "c": "", "d": 1.5}\n', [
            ("a.jsonl line 2", {"a": 0, "b": False, "c": "", "d": 1.5})]),
        ("a.json", '[{"a": null}, {"a": 1}]', [("a.json job 1", {}), ("a.json job 2", {"a": 1})]),
        ("a.json", '{"jobs": [{"a": 1}]}', [("a.json job 1", {"a": 1})]),
        ("a.yaml", "- {6: 1}\n- {no: 2}\n", [("a.yaml job 1", {"6": 1}), ("a.yaml job 2", {"False": 2})]),
        ("a.yaml", "", None),
        ("a.yaml", "[]", None),
        ("a.json", '[{"a": {}}]', None),
        ("a", "a\n1\n", None),
        ("a.csv", "a,\n1,2\n", None),
        ("a.csv", "", None),
        ("a.csv", 'a\n"x"y\n', None),
    ],
)  # fmt: skip
def test_the_cells_of_a_file(
    name: str, text: str, rows: list[tuple[str, dict[str, Any]]] | None, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    if rows is None:
        with pytest.raises(UsageError):
            read_jobs(tmp_path / name)
        return
    found = read_jobs(tmp_path / name)
    assert [(row.source.removeprefix(f"{tmp_path}/"), row.values) for row in found] == rows


def test_a_file_that_is_not_text_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n\xff\n")
    with pytest.raises(UsageError, match="can't decode"):
        read_jobs(tmp_path / "a.csv")
    with pytest.raises(UsageError, match="No such file"):
        read_jobs(tmp_path / "b.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.csv").write_text("a\n1\n")
    assert len(read_jobs(Path("~/c.csv"))) == 1


def test_what_is_wrong_is_shown_shortly(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("x" * 500)
    with pytest.raises(UsageError) as refused:
        read_jobs(tmp_path / "a.jsonl")
    assert refused.value.got == "x" * 80
    (tmp_path / "a.csv").write_text("a,b\n1,2;3,4\n")
    with pytest.raises(UsageError, match="has 3 cells, the header 2") as refused:
        read_jobs(tmp_path / "a.csv")
    assert "','" in str(refused.value)
