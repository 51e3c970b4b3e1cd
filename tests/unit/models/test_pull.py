"""`kandiflux models pull`: what a workflow needs and the machine lacks comes from where the workflow says."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.errors import DiskFull, DownloadError, KandifluxError, OutputError, UsageError, WrongFile
from kandiflux.models.model_files import ModelFile
from kandiflux.models.model_folders import ModelFolders
from kandiflux.models.pull import Wanted, make_plan, read_tokens, require_space, verify_present
from kandiflux.models.remote_files import RemoteFile
from kandiflux.workflow.needed_models import embeddings_in, needed_models
from kandiflux.workflow.workflow import Workflow, shipped_workflows

from tests.support.commands import RUNNER, default_signals
from tests.support.file_server import FileServer, serving
from tests.support.places import ROOT

CONTENT = random.Random(2).randbytes(200_000)
OTHER = random.Random(3).randbytes(100_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    (tmp_path / "ComfyUI" / "models").mkdir(parents=True)
    return tmp_path / "ComfyUI"


def model(name: str, url: str, content: bytes | None = CONTENT, directory: str = "loras") -> dict[str, Any]:
    known = {"hash": hashlib.sha256(content).hexdigest(), "hash_type": "SHA256"} if content is not None else {}
    return {"name": name, "url": url, "directory": directory, **known}


def loader(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A node that has chosen each of `models`."""
    return {"id": 1, "type": "LoraLoader", "widgets_values": [about["name"] for about in models],
            "properties": {"models": list(models)}, **changes}  # fmt: skip


def workflow(folder: Path, *nodes: dict[str, Any], name: str = "w", **more: Any) -> str:
    path = folder / f"{name}.json"
    numbered = [{**node, "id": number} for number, node in enumerate(nodes, 1)]
    path.write_text(json.dumps({"nodes": numbered, "links": [], **more}))
    return str(path)


def pull(*options: str | Path, env: dict[str, str] | None = None) -> Any:
    return RUNNER.invoke(app, ["models", "pull", *map(str, options)], env=env)


def test_the_missing_file_is_saved_and_its_path_printed(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    file = workflow(tmp_path, loader(model("x.safetensors.bin", server.add("/x", CONTENT))))
    shown = pull(file, "--comfyui", comfyui)
    path = comfyui / "models" / "loras" / "x.safetensors.bin"
    assert (shown.exit_code, shown.stdout) == (0, f"{path}\n")
    assert path.read_bytes() == CONTENT
    server.forget()
    again = pull(file, "--comfyui", comfyui)
    assert (again.exit_code, again.stdout, server.requests) == (0, "", [])
    assert "1 model files are there" in again.stderr


def test_several_workflows_need_a_file_once(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    first, second = model("a.pt", server.add("/a", CONTENT)), model("b.pt", server.add("/b", OTHER), OTHER)
    files = workflow(tmp_path, loader(first), name="1"), workflow(tmp_path, loader(first, second), name="2")
    shown = pull(*files, "--comfyui", comfyui, "--json")
    assert shown.exit_code == 0
    folder = comfyui / "models" / "loras"
    assert sorted(json.loads(shown.stdout)["saved"]) == [str(folder / "a.pt"), str(folder / "b.pt")]
    assert (folder / "b.pt").read_bytes() == OTHER


def test_a_dry_run_asks_for_sizes_and_writes_nothing(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    file = workflow(tmp_path, loader(model("x.pt", server.add("/x", CONTENT))))
    shown = pull(file, "--comfyui", comfyui, "--dry-run")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[1].split("\t") == [
        "x.pt", "200.0 kB", str(comfyui / "models" / "loras"), f"{server.url}/x",
    ]  # fmt: skip
    assert not (comfyui / "models" / "loras").exists()
    (missing,) = json.loads(pull(file, "--comfyui", comfyui, "--dry-run", "--json").stdout)["missing"]
    assert missing["size"] == 200_000


def test_only_the_files_named(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    file = workflow(
        tmp_path,
        loader(model("a.pt", server.add("/a", CONTENT)), model("b.pt", server.add("/b", CONTENT))),
    )
    shown = pull(file, "--comfyui", comfyui, "--only", "b.pt")
    assert shown.stdout == f"{comfyui / 'models' / 'loras' / 'b.pt'}\n"
    wrong = pull(file, "--comfyui", comfyui, "--only", "c.pt")
    assert wrong.exit_code == 2
    assert "Did you mean 'a.pt'?" in wrong.stderr or "Did you mean 'b.pt'?" in wrong.stderr


def test_one_that_cannot_be_had_does_not_keep_the_others(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    gone, right = model("gone.pt", f"{server.url}/gone"), model("x.pt", server.add("/x", CONTENT))
    wrong = model("wrong.pt", server.add("/wrong", OTHER))
    shown = pull(workflow(tmp_path, loader(gone, wrong, right)), "--comfyui", comfyui)
    assert shown.exit_code == 1
    assert shown.stdout == f"{comfyui / 'models' / 'loras' / 'x.pt'}\n"
    assert "/gone is not there" in shown.stderr
    assert "wrong.pt" in shown.stderr
    assert [path.name for path in (comfyui / "models" / "loras").iterdir()] == ["x.pt"]


def test_a_gated_file_at_the_command_line(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    file = workflow(tmp_path, loader(model("x.pt", server.add("/x", CONTENT, token="secret"))))
    host = server.url.removeprefix("http://")
    shown = pull(file, "--comfyui", comfyui)
    assert shown.exit_code == 2
    assert f"{host}=VARIABLE" in shown.stderr
    assert "(--token-env)" in shown.stderr
    shown = pull(file, "--comfyui", comfyui, "--token-env", f"{host}=MINE", env={"MINE": "secret"})
    assert shown.exit_code == 0
    assert "secret" not in shown.stderr + shown.stdout


def test_the_usual_tokens_are_for_their_hosts() -> None:
    tokens = read_tokens(environ={"HF_TOKEN": "h"})
    assert {host: (token.variable, token.value) for host, token in tokens.items()} == {
        "huggingface.co": ("HF_TOKEN", "h"),
        "civitai.com": ("CIVITAI_API_TOKEN", None),
    }
    assert read_tokens(["MINE"], {"MINE": "m"})["huggingface.co"].value == "m"
    for wrong in ("", "=X", "a b", "host=", "host=1x"):
        with pytest.raises(UsageError, match="variable cannot be read"):
            read_tokens([wrong])


def test_what_a_workflow_names_outside_the_model_folders_is_refused(
    tmp_path: Path, comfyui: Path, server: FileServer
) -> None:
    url = server.add("/x", CONTENT)
    bad = [model("../x.pt", url), model("x.pt", url, directory="../custom_nodes"), model("y.pt", "file:///etc/passwd")]
    shown = pull(workflow(tmp_path, loader(*bad)), "--comfyui", comfyui)
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert shown.stderr.count("is not downloaded: ") == 3
    assert server.requests == []


def test_a_file_of_unknown_origin_is_said(tmp_path: Path, comfyui: Path) -> None:
    file = workflow(tmp_path, {"type": "LoraLoader", "title": "Style", "widgets_values": ["mine.safetensors", 1.0]})
    shown = pull(file, "--comfyui", comfyui)
    assert shown.exit_code == 1
    assert "Where mine.safetensors comes from is not known ('Style' needs it)" in shown.stderr
    (comfyui / "models" / "loras").mkdir()
    (comfyui / "models" / "loras" / "mine.safetensors").touch()
    assert pull(file, "--comfyui", comfyui).exit_code == 0


def test_muted_nodes_and_other_choices_need_nothing(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    about = model("x.pt", server.add("/x", CONTENT))
    file = workflow(tmp_path, loader(about, mode=2), loader(about, mode=4), loader(about, widgets_values=["None"]))
    assert pull(file, "--comfyui", comfyui).stdout == ""
    assert server.requests == []


def test_a_model_named_at_the_top_of_the_file(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    about = model("x.pt", server.add("/x", CONTENT), directory="vae")
    file = workflow(tmp_path, {"type": "VAELoader", "widgets_values": ["x.pt"]}, models=[about])
    assert pull(file, "--comfyui", comfyui).stdout == f"{comfyui / 'models' / 'vae' / 'x.pt'}\n"


def test_an_embedding_that_a_prompt_names(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    about = model("EasyNegative.pt", server.add("/x", CONTENT), directory="embeddings")
    node = {"type": "CLIPTextEncode", "widgets_values": ["(embedding:EasyNegative:1.1), blurry"],
            "properties": {"models": [about]}}  # fmt: skip
    assert pull(workflow(tmp_path, node), "--comfyui", comfyui).exit_code == 0
    assert (comfyui / "models" / "embeddings" / "EasyNegative.pt").read_bytes() == CONTENT
    assert embeddings_in("(embedding:a.pt:1.2), embedding:b\nembedding:c.safetensors,") == ["a", "b", "c"]


def test_files_go_where_extra_model_paths_sends_new_ones(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    pytest.importorskip("yaml")
    extra = tmp_path / "paths.yaml"
    extra.write_text(f"big:\n  base_path: {tmp_path / 'big'}\n  is_default: true\n  loras: lora\n")
    file = workflow(tmp_path, loader(model("x.pt", server.add("/x", CONTENT))))
    shown = pull(file, "--comfyui", comfyui, "--extra-model-paths", extra)
    assert shown.stdout == f"{tmp_path / 'big' / 'lora' / 'x.pt'}\n"


def test_a_published_folder_comes_with_its_configurations_and_tokenizer(
    tmp_path: Path, comfyui: Path, server: FileServer
) -> None:
    files = {
        "prior/w.bin": CONTENT,
        "prior/config.json": b"{}",
        "model_index.json": b"{}",
        "tokenizer/merges.txt": b"a b",
        "tokenizer/spiece.model": OTHER,
        "README.md": b"#",
        "prior/w.fp16.bin": OTHER,
    }
    for path, content in files.items():
        server.add(f"/a/k/resolve/main/{path}", content)
    listed = [{"type": "file", "path": path, "size": len(content)} for path, content in files.items()]
    listed[4]["lfs"] = {"oid": hashlib.sha256(OTHER).hexdigest(), "size": len(OTHER)}
    odd = [
        {"type": "directory", "path": "prior"},
        {"type": "file", "path": "../x.json", "size": 3},
        None,
        {"type": "file"},
    ]
    server.add("/api/models/a/k/tree/main?recursive=true", json.dumps(listed + odd).encode())
    about = model("k-prior/prior/w.bin", f"{server.url}/a/k/resolve/main/prior/w.bin", directory="kandinsky")
    file = workflow(tmp_path, loader(about, widgets_values=["k-prior", "auto"]))
    shown = pull(file, "--comfyui", comfyui)
    assert shown.exit_code == 0, shown.stderr
    folder = comfyui / "models" / "kandinsky" / "k-prior"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {path: files[path] for path in files if path not in ("README.md", "prior/w.fp16.bin")}
    server.forget()
    assert pull(file, "--comfyui", comfyui).exit_code == 0
    assert server.requests == []


def test_files_that_are_there_are_verified_on_request(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    path = comfyui / "models" / "loras" / "x.pt"
    path.parent.mkdir()
    path.write_bytes(OTHER)
    file = workflow(tmp_path, loader(model("x.pt", server.add("/x", CONTENT))))
    assert pull(file, "--comfyui", comfyui).exit_code == 0
    shown = pull(file, "--comfyui", comfyui, "--verify")
    assert shown.exit_code == 1
    assert f"{path} is not the x.pt that the workflow means" in shown.stderr
    path.write_bytes(CONTENT)
    assert pull(file, "--comfyui", comfyui, "--verify").exit_code == 0


def test_files_that_do_not_fit_are_not_begun(
    tmp_path: Path, comfyui: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [model(f"{name}.pt", server.add(f"/{name}", CONTENT)) for name in "abc"]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, (64 << 20) + 500_000))
    file = workflow(tmp_path, loader(*files))
    shown = pull(file, "--comfyui", comfyui)
    assert shown.exit_code == 1
    assert "do not fit on the disk" in shown.stderr
    assert server.sent == 3, "only the sizes were asked for"
    assert pull(file, "--comfyui", comfyui, "--only", "a.pt", "--only", "b.pt").exit_code == 0


@pytest.mark.parametrize(("free", "fits"), [(0, True), (-1, False)])
def test_the_space_that_must_be_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool) -> None:
    """64 MiB beside the files; what came of them before is there already."""
    usage = namedtuple("usage", "total used free")
    (tmp_path / "b.pt.part").write_bytes(b"x" * 4096)
    kept = min(4096, (tmp_path / "b.pt.part").stat().st_blocks * 512)
    wanted = [
        Wanted(ModelFile("a.pt", size=1000), tmp_path / "new" / "a.pt", "A"),
        Wanted(ModelFile("b.pt", size=9), tmp_path / "b.pt", "B", RemoteFile(10_000, True, None)),
        Wanted(ModelFile("c.pt"), tmp_path / "c.pt", "C"),
    ]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, (64 << 20) + 1000 + 10_000 - kept + free))
    if fits:
        require_space(wanted)
    else:
        with pytest.raises(DiskFull, match="do not fit on the disk") as caught:
            require_space(wanted)
        assert str(caught.value.got) == "0.07 GB"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 0))
    require_space(wanted[2:])


@pytest.mark.parametrize(
    ("about", "error", "expected"),
    [
        ({}, None, None),
        ({"size": 3}, None, None),
        ({"size": 4}, WrongFile, "4 bytes"),
        ({"hash": hashlib.sha256(b"abc").hexdigest()}, None, None),
        ({"size": 3, "hash": "0" * 64}, WrongFile, f"sha256 {'0' * 64}"),
        ({"hash": "0"}, DownloadError, None),
        ({"name": "gone.pt"}, OutputError, None),
    ],
)
def test_a_file_that_is_there_is_what_the_workflow_means(
    tmp_path: Path, about: dict[str, Any], error: type[KandifluxError] | None, expected: str | None
) -> None:
    (tmp_path / "x.pt").write_bytes(b"abc")
    model = ModelFile(**{"name": "x.pt", **about})
    seen: list[Path] = []
    found = verify_present([(model, tmp_path / model.name)], seen.append)
    assert seen == [tmp_path / model.name]
    assert [type(one) for one in found] == ([error] if error else [])
    assert [one.expected for one in found] == ([expected] if error else [])


def test_a_folder_that_is_no_comfyui_is_exit_code_2(tmp_path: Path) -> None:
    assert pull(workflow(tmp_path), "--comfyui", tmp_path / "nowhere").exit_code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_what_the_same_command_goes_on_from(
    name: str, tmp_path: Path, comfyui: Path, server: FileServer
) -> None:
    number = signal.Signals[name]
    content = CONTENT * 20
    file = workflow(tmp_path, loader(model("x.pt", server.add("/x", content, pace=8e5), content)))
    command = [
        sys.executable,
        "-m",
        "kandiflux",
        "models",
        "pull",
        file,
        "--comfyui",
        str(comfyui),
        "--connections",
        "2",
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runner")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
    )
    deadline = time.monotonic() + 30
    while server.sent_so_far < 500_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    said, errors = process.communicate(timeout=20)
    assert (process.returncode, said) == (128 + number, ""), errors
    assert "Stopped" in errors
    assert "Traceback" not in errors
    server.files["/x"].pace = None
    server.forget()
    assert pull(file, "--comfyui", comfyui).exit_code == 0
    assert (comfyui / "models" / "loras" / "x.pt").read_bytes() == content
    assert server.sent < len(content) - 300_000


def test_help_has_examples() -> None:
    shown = pull("--help")
    assert shown.exit_code == 0
    assert "kandiflux models pull" in shown.output


# The workflows that come with kandiflux


@pytest.mark.parametrize("name", shipped_workflows())
def test_every_file_of_a_shipped_workflow_has_a_source_and_a_place(name: str, comfyui: Path) -> None:
    plan = make_plan(needed_models(Workflow.load(name)), ModelFolders(comfyui))
    assert [str(error) for error in plan.refused] == []
    for wanted in plan.wanted:
        assert wanted.model.url
        assert wanted.target.is_relative_to(comfyui / "models")


def test_a_prompt_in_the_api_format_needs_what_is_widely_known() -> None:
    nodes = {"1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}}}
    (needed,) = needed_models(Workflow.from_data(nodes))
    assert needed.model.directory == "diffusion_models"
    assert needed.model.url is not None
