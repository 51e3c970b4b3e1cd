"""Job lists: grids, files, their product; file names; what is checked before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Workflow
from kandiflux.batch import Axis, JobList, Row, parse_grid, read_jobs, read_lines
from kandiflux.batch.file_names import NameTemplate, Unique
from kandiflux.batch.plan import BatchPlan
from kandiflux.batch.preflight import check_jobs
from kandiflux.errors import InvalidPrompt, UsageError

from tests.support.places import ROOT

OBJECT_INFO = json.loads((ROOT / "tests" / "data" / "object_info.json").read_text())
BOMB = "jobs:\n- x0: &x0 [y]\n" + "".join(f"  x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 60))
"""Of 2^59 values, if it is written out."""

PLAIN = Workflow.load(ROOT / "tests" / "data" / "empty_image.json")


# Grids


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("steps=20,30 guidance=2.5,3", {"steps": ["20", "30"], "guidance": ["2.5", "3"]}),
        ('prompt="a cat, asleep",\'a "dog"\',bird', {"prompt": ["a cat, asleep", 'a "dog"', "bird"]}),
        (r'prompt="say \"hi\"",a\,b,x\ y', {"prompt": ['say "hi"', "a,b", "x y"]}),
        ('"My node".text=a,b  6.steps=1', {'"My node".text': ["a", "b"], "6.steps": ["1"]}),
        ("seed=1..4", {"seed": ["1", "2", "3", "4"]}),
        ("seed=3..1 cfg=1..2:0.25", {"seed": ["3", "2", "1"], "cfg": ["1.00", "1.25", "1.50", "1.75", "2.00"]}),
        ("a=0..0.3:0.1", {"a": ["0.0", "0.1", "0.2", "0.3"]}),
        ("seed=-1..1,7", {"seed": ["-1", "0", "1", "7"]}),
        ('a="1..4",@@b x=""', {"a": ["1..4", "@b"], "x": [""]}),
        ("text=a=b,c=d", {"text": ["a=b", "c=d"]}),
        ("  ", {}),
    ],
)
def test_grids(text: str, axes: dict[str, list[str]]) -> None:
    assert {axis.name: list(axis.values) for axis in parse_grid([text])} == axes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps=20,,30", "empty value"),
        ("steps=", "empty value"),
        ("steps 20", "is not valid"),
        ("=3", "is not valid"),
        ('prompt="a cat', "never closed"),
        ("a=1..9:0", "step of 0"),
        ("a=1..99999999", "at most 1000000"),
        ("a=1 a=2", "names a twice"),
        ("a=@/nowhere.txt", "cannot be read"),
    ],
)
def test_grids_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_grid([text])


def test_lines_of_a_file_are_values(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeff# mine\na cat, asleep\n\n  a dog \n", "utf-8")
    assert read_lines(file) == ["a cat, asleep", "a dog"]
    assert parse_grid([f"prompt=bird,@{file}"]) == (Axis("prompt", ("bird", "a cat, asleep", "a dog")),)
    file.write_text("# nothing\n")
    with pytest.raises(UsageError, match="contains no values"):
        read_lines(file)


def test_what_looks_like_the_end_of_a_line_inside_a_text_is_not_one(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    listed = json.dumps({"prompt": odd}, ensure_ascii=False)
    for name, text in (
        ("a.jsonl", f"{listed}\n"),
        ("a.ndjson", f"{listed}\r\n{listed}"),
        ("a.csv", f"prompt\n{odd}\n"),
    ):
        (tmp_path / name).write_text(text, "utf-8", newline="")
        assert {row.values["prompt"] for row in read_jobs(tmp_path / name)} == {odd}
    (tmp_path / "prompts.txt").write_text(f"{odd}\nsecond\n", "utf-8")
    assert read_lines(tmp_path / "prompts.txt") == [odd, "second"]


# Files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'prompt,steps,note\n"a cat, asleep",20,\n\n"two\nlines",,x\n'),
        ("b.csv", '\ufeffprompt;steps;note\r\n"a cat, asleep";20;\r\n"two\nlines";;x\r\n'),
        ("a.tsv", 'prompt\tsteps\tnote\na cat, asleep\t20\n"two\nlines"\t\tx\n'),
        ("a.jsonl", '{"prompt": "a cat, asleep", "steps": "20"}\n\n{"prompt": "two\\nlines", "note": "x", "a": null}'),
        ("a.json", '[{"prompt": "a cat, asleep", "steps": "20"}, {"prompt": "two\\nlines", "note": "x"}]'),
        ("a.yaml", '- {prompt: "a cat, asleep", steps: "20"}\n- {prompt: "two\\nlines", note: x}\n'),
        ("b.yml", 'jobs:\n  - prompt: a cat, asleep\n    steps: "20"\n  - prompt: "two\\nlines"\n    note: x\n'),
    ],
)  # fmt: skip
def test_job_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8", newline="")
    rows = read_jobs(tmp_path / name)
    assert [dict(row.values) for row in rows] == [
        {"prompt": "a cat, asleep", "steps": "20"},
        {"prompt": "two\nlines", "note": "x"},
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "a,b\n1,2,3\n", "line 2 has 3 cells, the header 2"),
        ("a.csv", "a,a\n1,2\n", "not a header"),
        ("a.csv", 'a\n"x\n', "not valid CSV"),
        ("a.csv", "a,b\n", "contains no jobs"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not valid JSON"),
        ("a.jsonl", '{"a": [1]}', "line 1: the value of a has an unsupported type"),
        ("a.json", '{"a": 1}', "not a list of jobs"),
        ("a.json", '{"a": 1}\n{"a": 2}', "rename it to .jsonl"),
        ("a.json", "[3]", "job 1 is not an object"),
        ("a.yaml", "a: [", "not valid YAML"),
        ("a.yaml", "- !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a.txt", "x", "unknown file type"),
        ("a.jsonl", "[" * 100_000, "line 1 is not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.yaml", "[" * 10_000, "nested too deeply"),
        ("a.yaml", BOMB, "has an unsupported type"),
    ],
)
def test_files_that_hold_no_jobs(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        read_jobs(tmp_path / name)


def test_the_product_is_in_reading_order() -> None:
    jobs = JobList(
        {"w": 1, "x": 0}, [Row({"r": "a"}, "1"), Row({"r": "b"}, "2")], parse_grid(["x=1,2 y=3,4"]), repeat=2
    )
    assert len(jobs) == len(list(jobs)) == 16
    first = [(job.values["r"], job.values["x"], job.values["y"], job.repetition) for job in jobs][:9]
    assert first == [
        ("a", "1", "3", 0), ("a", "1", "3", 1), ("a", "2", "3", 0), ("a", "2", "3", 1),
        ("a", "1", "4", 0), ("a", "1", "4", 1), ("a", "2", "4", 0), ("a", "2", "4", 1), ("b", "1", "3", 0),
    ]  # fmt: skip
    assert all(job.values["w"] == 1 for job in jobs)
    with pytest.raises(UsageError, match="sets x, which the grid"):
        JobList({}, [Row({"x": 1}, "jobs.csv line 2")], parse_grid(["x=1,2"]))


# Names


@pytest.mark.parametrize(
    ("template", "values", "name"),
    [
        ("{index:04}_{seed}_{prompt:10}", {"index": 7, "seed": 42, "prompt": "a cat in a hat"}, "0007_42_a_cat_in_a"),
        ("{guidance:.1f}-{on}", {"guidance": 2.5, "on": True}, "2.5-True"),
        ("{prompt}", {"prompt": "../../etc/passwd"}, "_.._etc_passwd"),
        ("{prompt}", {"prompt": 'a:b*c?"<>|\n\\d'}, "a_b_c_d"),
        ("{prompt}", {"prompt": "зелёная звезда"}, "зелёная_звезда"),
        ("{model}/{index}", {"model": "x/y", "index": 1}, "x_y/1"),
        ("/../{index}", {"index": 1}, "1"),
        ("{{{index}}}", {"index": 1}, "{1}"),
        ("{prompt}", {"prompt": "con"}, "_con"),
        ("{prompt}", {"prompt": ""}, "_"),
        ("{prompt}", {}, "_"),
    ],
)
def test_names_are_safe(template: str, values: dict[str, Any], name: str) -> None:
    assert NameTemplate(template, {*values, "prompt"}).fill(values) == name


def test_long_names_fit_every_file_system() -> None:
    name = NameTemplate("{prompt:4000}", {"prompt"}).fill({"prompt": "ж" * 4000})
    assert 100 < len(name.encode()) < 200


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{prompt", "unmatched brace"),
        ("{hight}", "which no job has"),
        ("", "is empty"),
        ("{prompt:>9}", "not a valid length"),
    ],
)
def test_names_that_cannot_be(template: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        NameTemplate(template, {"prompt"}, ["prompt"]).fill({"prompt": "x"})


def test_no_name_twice_whatever_the_case() -> None:
    unique = Unique(["taken"])
    assert [unique.take(name) for name in ("a", "A", "a", "a_2", "Taken")] == ["a", "A_2", "a_3", "a_2_2", "Taken_2"]


# Checking


def test_values_become_what_their_inputs_take() -> None:
    jobs = JobList({"height": "8"}, [Row({"colour": 255.0}, "line 2")], parse_grid(["width=16,32"]))
    checked = check_jobs(PLAIN, OBJECT_INFO, jobs)
    assert [dict(job.values) for job in checked.jobs] == [
        {"height": 8, "colour": 255, "width": 16},
        {"height": 8, "colour": 255, "width": 32},
    ]
    assert checked.varying == {"colour", "width"}


def test_every_wrong_value_is_named_with_its_row() -> None:
    rows = [Row({"width": "wide"}, "jobs.csv line 2"), Row({"width": 20}, "3"), Row({"colour": -1}, "jobs.csv line 4")]
    jobs = JobList({"nmae": "x"}, rows, parse_grid(["height=8,0"]))
    with pytest.raises(UsageError) as caught:
        check_jobs(PLAIN, OBJECT_INFO, jobs)
    said = str(caught.value)
    assert "4 values do not fit" in said
    assert "jobs.csv line 2: width must be a whole number" in said
    assert "jobs.csv line 4: colour is out of range" in said
    assert "the grid, height: height is out of range" in said
    assert "Did you mean 'name'?" in said


def test_a_preset_lies_under_what_is_set() -> None:
    checked = check_jobs(PLAIN, OBJECT_INFO, JobList({"width": 20}, axes=parse_grid(["colour=1"])), preset="tiny")
    assert [dict(job.values) for job in checked.jobs] == [{"width": 20, "height": 16, "colour": 1}]
    with pytest.raises(UsageError, match="no preset"):
        check_jobs(PLAIN, OBJECT_INFO, JobList(), preset="huge")


def test_a_workflow_with_nodes_the_server_lacks() -> None:
    lacking = {name: about for name, about in OBJECT_INFO.items() if name != "SaveImage"}
    with pytest.raises(InvalidPrompt, match="SaveImage"):
        check_jobs(PLAIN, lacking, JobList(axes=parse_grid(["width=8"])))


# Seeds

SEEDED = Workflow.from_data(
    {"1": {"class_type": "Noise", "inputs": {"seed": 100, "text": "x"}}, "2": {"class_type": "Keep", "inputs": {}}}
)
SEEDED_INFO = {
    "Noise": {
        "input": {"required": {"seed": ["INT", {"min": 0, "max": 2**64 - 1}], "text": ["STRING", {}]}},
        "output": [], "output_node": True,
    },
    "Keep": {"input": {"required": {}}, "output": [], "output_node": True},
}  # fmt: skip


def seeds(jobs: JobList, seed: str | int | None = None) -> list[int | None]:
    checked = check_jobs(SEEDED, SEEDED_INFO, jobs, seed=seed)
    return [checked.seeds.resolve(job, index).get("1.seed") for index, job in enumerate(checked.jobs)]


def test_seeds() -> None:
    texts = parse_grid(["1.text=a,b"])
    assert seeds(JobList(axes=texts)) == [None, None], "what the workflow says"
    assert seeds(JobList(axes=texts), 7) == [7, 7]
    assert seeds(JobList(axes=texts), "increment") == [100, 101]
    assert seeds(JobList({"1.seed": 5}, axes=texts), "increment") == [5, 6]
    assert seeds(JobList(axes=texts, repeat=2)) == [100, 101, 102, 103]
    rows = [Row({"1.seed": 9}, "2"), Row({}, "3")]
    assert seeds(JobList({}, rows, repeat=2)) == [9, 10, 102, 103], "a job with a seed of its own counts from that"
    drawn = seeds(JobList(repeat=20), "random")
    assert len(set(drawn)) == 20
    assert len(set(seeds(JobList({"1.seed": "random"}, axes=texts)))) == 2
    assert seeds(JobList({"1.text": "random"})) == [None]


@pytest.mark.parametrize(("seed", "said"), [("often", "fixed, random, increment"), (-1, "out of range")])
def test_seeds_that_cannot_be(seed: str | int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        seeds(JobList(), seed)


# Plans


def planned(jobs: JobList, folder: Path, **options: Any) -> list[Any]:
    return list(BatchPlan(PLAIN, check_jobs(PLAIN, OBJECT_INFO, jobs), folder, **options).preview())


def test_names_are_free_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "8.png").touch()
    jobs = planned(JobList(axes=parse_grid(["width=8,8,9"])), tmp_path, name="sub/{width}")
    assert [job.name for job in jobs] == ["sub/8_2", "sub/8_3", "sub/9"]


def test_a_job_is_known_by_what_it_asks_for(tmp_path: Path) -> None:
    def keys(text: str, **base: Any) -> list[str]:
        return [job.key for job in planned(JobList(base, axes=parse_grid([text])), tmp_path)]

    assert keys("width=8,9") == keys("width=9,8")[::-1]
    assert keys("width=8,8")[0] == keys("width=8")[0]
    assert len(set(keys("width=8,8"))) == 2
    assert keys("width=8", height=8) == keys("height=8", width="8")
    assert keys("width=8", height=8) != keys("width=8", height=9)


def test_ten_thousand_jobs_are_planned_one_by_one(tmp_path: Path) -> None:
    jobs = JobList(axes=parse_grid(["colour=0..99999", "width=1..100"]))
    plan = BatchPlan(PLAIN, check_jobs(PLAIN, OBJECT_INFO, jobs), tmp_path)
    assert len(plan) == 10_000_000
    assert next(iter(plan.preview())).values == {"colour": 0, "width": 1}
    assert len(BatchPlan(PLAIN, check_jobs(PLAIN, OBJECT_INFO, jobs), tmp_path, limit=3)) == 3
