"""`kandiflux check`: tables, summaries, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.cli.check_command import in_bytes
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.stub_server import StubServer

INFO: dict[str, Any] = {
    "Loader": {"input": {"required": {"lora": [["there.pt"]]}}, "output": [], "output_node": True},
    "Steps": {"input": {"required": {"steps": ["INT", {"min": 1, "max": 9}]}}, "output": [], "output_node": True},
}


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubServer]:
    with StubServer({"GET /object_info": INFO}).serving() as stub:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KANDIFLUX_SERVER", stub.url)
        yield stub


def model(name: str, size: int | None = None, url: str | None = None) -> dict[str, Any]:
    about = {"name": name, "directory": "loras", "url": url or f"https://huggingface.co/a/b/resolve/main/{name}"}
    return {**about, "size": size} if size is not None else about


def check(*words: str, models: list[dict[str, Any]] | None = None, steps: int = 3) -> Result:
    nodes: list[dict[str, Any]] = [{"id": 1, "type": "Steps", "title": "How many", "widgets_values": [steps]}]
    for number, about in enumerate(models or (), 2):
        nodes.append({"id": number, "type": "Loader", "widgets_values": [about["name"]], "properties": {
            "models": [about]}})  # fmt: skip
    Path("w.json").write_text(json.dumps({"nodes": nodes, "links": []}))
    return RUNNER.invoke(app, ["check", "w.json", *words])


def test_a_workflow_that_would_run(stub: StubServer) -> None:
    shown = check()
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == f"w.json: nothing is missing on {stub.url}.\n"
    assert check("--quiet").stderr == ""
    answer = json.loads(check("--json").stdout)
    nothing = {"findings": [], "packs": [], "notes": []}
    assert answer == {"workflow": "w.json", "checked_against": stub.url, "ok": True, **nothing}


def test_what_is_wrong_is_a_table_and_exit_code_2(stub: StubServer) -> None:
    shown = check(steps=10)
    assert shown.exit_code == 2
    head, row = shown.stdout.splitlines()
    assert head == "what\tnode\tinput\tproblem\tto do"
    assert row.startswith("out of range\tHow many (1, Steps)\tsteps\tsteps is out of range")
    assert shown.stderr == "w.json: 1 problem.\n"
    quiet = check("--quiet", steps=10)
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (2, shown.stdout, "")
    answer = json.loads(check("--json", steps=10).stdout)
    assert (answer["ok"], [finding["kind"] for finding in answer["findings"]]) == (False, ["out_of_range"])


def test_missing_nodes_are_grouped_by_the_packs_to_install(stub: StubServer) -> None:
    stub.reactions = {
        "GET /object_info": {**INFO, "KSampler": {"input": {}, "output": [], "output_node": True}},
        "GET /v2/customnode/getmappings": {"riddles": [["Riddle", "Rhyme"], {}]},
    }
    kinds = ["Riddle", "FaceDetailer", *["Rhyme"] * 5, "Nobody Knows This", "Kandinsky5ImageToVideo"]
    nodes = [{"id": number, "type": kind} for number, kind in enumerate(kinds, 1)]
    Path("w.json").write_text(json.dumps({"nodes": nodes, "links": []}))
    shown = RUNNER.invoke(app, ["check", "w.json"])
    assert shown.exit_code == 2
    assert [line.split("\t")[:3] for line in shown.stdout.splitlines()] == [
        ["pack", "nodes", "classes (node ids)"],
        ["riddles", "6", "Riddle (1), Rhyme ×5 (3, 4, 5, …)"],
        ["ComfyUI-Impact-Pack", "1", "FaceDetailer (2)"],
        ["comfy-core", "1", "Kandinsky5ImageToVideo (9)"],
        ["", "1", "Nobody Knows This (8)"],
    ]
    assert shown.stderr == (
        "w.json: install 2 packs: riddles (6 nodes), ComfyUI-Impact-Pack (1 node); update ComfyUI (its own nodes: 1); "
        "1 node of no known pack.\n"
    )
    answer = json.loads(RUNNER.invoke(app, ["check", "w.json", "--json"]).stdout)
    assert len(answer["findings"]) == 9
    assert answer["packs"][0] == {
        "pack": {"name": "riddles", "source": "manager"}, "count": 6,
        "classes": {"Riddle": ["1"], "Rhyme": ["3", "4", "5", "6", "7"]},
    }  # fmt: skip


def test_what_does_not_prevent_the_run_is_noted(stub: StubServer) -> None:
    about = model("sub/there.pt")
    shown = check(models=[about])
    assert (shown.exit_code, shown.stdout) == (0, "")
    note, end = shown.stderr.splitlines()
    said = "lora is 'there.pt' on the server, which is used: got 'sub/there.pt'"
    assert note == f"note: 'Loader' (node 2, Loader): {said}."
    assert end.endswith("nothing is missing on " + stub.url + ".")
    assert check("--quiet", models=[about]).stderr == ""


def test_missing_files_are_a_table_of_their_own(stub: StubServer) -> None:
    shown = check(models=[model("there.pt"), model("a.safetensors"), model("b.safetensors")])
    assert shown.exit_code == 2
    lines = shown.stdout.splitlines()
    assert lines[3:5] == ["", "file\tfolder\tsize\thash\tfrom"]
    assert [line.split("\t")[:2] for line in lines[5:]] == [
        ["a.safetensors", "models/loras"], ["b.safetensors", "models/loras"],
    ]  # fmt: skip
    said = "`kandiflux models pull w.json --comfyui PATH` downloads 2 of the files.\n"
    assert shown.stderr == f"w.json: 2 model files missing.\n{said}"
    Path("info.json").write_text(json.dumps(INFO))
    shown = check("--object-info", "info.json", "--server", "http://127.0.0.1:9", models=[model("a.safetensors")])
    assert shown.stderr.endswith("--comfyui PATH` downloads 1 of the files.\n")


def test_what_is_known_of_a_missing_file_is_shown() -> None:
    about = {**model("a.safetensors", 2_000_000), "hash": "AB" * 32, "hash_type": "SHA256"}
    row = check(models=[about, model("b.safetensors")]).stdout.splitlines()[-2:]
    assert row[0].split("\t") == [
        "a.safetensors", "models/loras", "2.0 MB", f"sha256 {'ab' * 32}", about["url"],
    ]  # fmt: skip
    assert row[1].split("\t")[2:4] == ["", ""]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([None, None], "downloads 2 of the files."),
        ([2_000_000, 1_000_000], "downloads 2 of the files: 3.0 MB."),
        ([2_000_000, None], "downloads 2 of the files: 2.0 MB and more."),
    ],
)
def test_how_much_is_downloaded(sizes: list[int | None], said: str) -> None:
    models = [model(f"{number}.safetensors", size) for number, size in enumerate(sizes)]
    assert check(models=models).stderr.splitlines()[-1].endswith(said)


def test_sizes_are_looked_up_if_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def size_of(about: Any) -> int:
        asked.append(about.name)
        return 5_000_000

    monkeypatch.setattr("kandiflux.models.pull.size_of", size_of)
    models = [model("a.safetensors", 1_000_000), model("b.safetensors")]
    assert "1.0 MB and more" in check(models=models).stderr
    assert asked == []
    assert "6.0 MB." in check("--sizes", models=models).stderr
    assert asked == ["b.safetensors"]


def test_files_are_downloaded_on_the_machine_of_the_server(stub: StubServer) -> None:
    models = [model("a.safetensors")]
    for host, said in (("0.0.0.0", " on its machine, downloads 1"), ("localhost", "PATH` downloads 1")):
        shown = check("--server", stub.url.replace("127.0.0.1", host), models=models)
        assert said in shown.stderr, shown.stderr


def test_a_workflow_whose_name_a_shell_would_split_is_quoted() -> None:
    check(models=[model("a.safetensors")])
    Path("w.json").rename("my w.json")
    assert "pull 'my w.json' --comfyui" in RUNNER.invoke(app, ["check", "my w.json"]).stderr


def test_files_that_this_machine_has_are_not_missing() -> None:
    folder = Path("ComfyUI", "models", "loras")
    folder.mkdir(parents=True)
    (folder / "a.safetensors").touch()
    Path("more.yaml").write_text("x:\n  base_path: more\n  loras: here\n")
    Path("more", "here").mkdir(parents=True)
    Path("more", "here", "b.safetensors").touch()
    models = [model("a.safetensors"), model("b.safetensors")]
    assert "downloads 1 of the files" in check("--comfyui", "ComfyUI", models=models).stderr
    shown = check("--comfyui", "ComfyUI", "--extra-model-paths", "more.yaml", models=models)
    assert shown.exit_code == 2
    assert "restart it" in shown.stdout
    assert "downloads" not in shown.stderr
    Path("info.json").write_text(json.dumps(INFO))
    assert check("--comfyui", "ComfyUI", "--object-info", "info.json", models=models[:1]).exit_code == 0


def test_what_needs_a_newer_comfyui_is_said(stub: StubServer) -> None:
    nodes = [{"id": 1, "type": "Steps", "widgets_values": [3]}]
    needs = {"kandiflux": {"needs": {"comfyui": ">=0.3.65"}}}
    Path("new.json").write_text(json.dumps({"nodes": nodes, "links": [], "extra": needs}))
    shown = RUNNER.invoke(app, ["check", "new.json"])
    assert (shown.exit_code, "0.3.65" in shown.stdout) == (2, True)
    stub.reactions["GET /system_stats"] = {"system": {}}
    assert RUNNER.invoke(app, ["check", "new.json"]).exit_code == 0


def test_embeddings_are_looked_for_on_the_server(stub: StubServer) -> None:
    stub.reactions["GET /object_info"] = {
        "Text": {"input": {"required": {"text": ["STRING", {}]}}, "output_node": True}
    }
    Path("e.json").write_text(json.dumps({"1": {"class_type": "Text", "inputs": {"text": "a embedding:mine fox"}}}))
    assert RUNNER.invoke(app, ["check", "e.json"]).exit_code == 2
    stub.reactions["GET /embeddings"] = ["mine"]
    assert RUNNER.invoke(app, ["check", "e.json"]).exit_code == 0


def test_a_server_that_is_not_there_is_exit_code_3() -> None:
    shown = check("--server", "http://127.0.0.1:9")
    assert (shown.exit_code, shown.stdout) == (3, "")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (10**6, "1.0 MB"),
        (23_840_000_000, "23.8 GB"), (10**9, "1.0 GB"), (10**9 - 1, "1000.0 MB"),
    ],
)  # fmt: skip
def test_sizes_in_words(size: int, text: str) -> None:
    assert in_bytes(size) == text
