"""The benchmark runs: each side does what each row says, and the two agree. What takes how long is not tested."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import bench_kandinsky as bench
import pytest
import torch

from nodes import host

QUICK = ["--repeats", "1", "--processes", "1", "--prior-steps", "2", "--steps", "1", "--size", "64", "--threads", "1"]


@pytest.fixture(autouse=True)
def _left_as_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command sets these for its process."""
    monkeypatch.setattr(host, "current", host.current)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "rows", [bench.STEPS_ROWS, pytest.param(tuple(bench.ROWS), marks=pytest.mark.bench)], ids=["here", "all"]
)
def test_every_row_is_measured_and_the_sides_agree(rows: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = bench.main([*QUICK, "--rows", *rows])
    printed = capsys.readouterr()
    assert code in (0, 1)
    table = printed.out.splitlines()
    assert {line.split("|")[1].strip() for line in table[2:]} == {bench.ROWS[row] for row in rows}
    assert all(float(line.split("|")[4]) > 0 for line in table[2:])
    apart = re.findall(r"differ by (\S+) of the largest", printed.err)
    assert len(apart) == len(bench.STEPS_ROWS)
    assert max(map(float, apart)) < 1e-4


def test_a_fresh_process_reports_what_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    """What the rows of fresh processes come from, run in this one."""
    pocket = host.PACK / "weights" / "pocket"
    job = bench.Job(
        pocket / "kandinsky-2-2-pocket-prior",
        pocket / "kandinsky-2-2-pocket-decoder",
        size=64, prior_steps=2, steps=1, device="cpu", threads=1,
    )  # fmt: skip
    assert bench.main(["--probe", "ours", json.dumps(asdict(job), default=str)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == set(bench.PROBED_ROWS)
    assert 0 < found["load"] < found["first"]
    assert found["memory"] > 2**20


def test_json_carries_every_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main([*QUICK, "--rows", "movq", "--repeats", "3", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["row"] == "movq"
    assert {side: len(times) for side, times in row["measured"].items()} == {"ours": 3, "theirs": 3}


def test_a_missed_bar_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*QUICK, "--rows", "prior"]
    monkeypatch.setattr(bench, "BARS", {"prior": 1e9})
    assert bench.main(asked) == 0
    assert capsys.readouterr().out.endswith("| met |\n")
    monkeypatch.setattr(bench, "BARS", {"prior": 0.0})
    assert bench.main(asked) == 1
    assert capsys.readouterr().out.endswith("| **missed** |\n")


def test_random_weights_keep_a_signal_finite(tmp_path: Path) -> None:
    from nodes.models.loader import load_network
    from nodes.models.prior import PriorConfig, PriorTransformer

    config = PriorConfig(num_attention_heads=2, attention_head_dim=8, num_layers=2, embedding_dim=16, num_embeddings=5)
    bench.write_random(PriorTransformer(config, device="meta"), tmp_path / "prior.safetensors")
    prior = load_network(PriorTransformer(config, device="meta"), tmp_path / "prior.safetensors", torch.float32)
    said = prior(torch.randn(1, 16), torch.tensor([5]), torch.randn(1, 16), torch.randn(1, 5, 16), torch.ones(1, 5))
    assert 1e-3 < said.abs().max() < 1e3
