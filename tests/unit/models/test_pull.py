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
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.errors import DiskFull, DownloadError, KandifluxError, OutputError, UsageError, WrongFile
from kandiflux.models.backoff import Patience
from kandiflux.models.model_files import ModelFile, NeededModel
from kandiflux.models.model_folders import ModelFolders
from kandiflux.models.pull import (
    PullPlan,
    Wanted,
    ask_servers,
    complete_folders,
    download_all,
    make_plan,
    read_tokens,
    require_space,
    size_of,
    verify_present,
)
from kandiflux.models.remote_files import RemoteFile, RemoteFiles, Token
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
    assert "1 model files are present" in again.stderr


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
    assert "Did you mean 'b.pt' or 'a.pt'?" in wrong.stderr


def test_one_that_cannot_be_had_does_not_keep_the_others(tmp_path: Path, comfyui: Path, server: FileServer) -> None:
    gone, right = model("gone.pt", f"{server.url}/gone"), model("x.pt", server.add("/x", CONTENT))
    wrong = model("wrong.pt", server.add("/wrong", OTHER))
    shown = pull(workflow(tmp_path, loader(gone, wrong, right)), "--comfyui", comfyui)
    assert shown.exit_code == 1
    assert shown.stdout == f"{comfyui / 'models' / 'loras' / 'x.pt'}\n"
    assert "/gone does not exist" in shown.stderr
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
        with pytest.raises(UsageError, match="token option is not valid"):
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
    assert "No URL is known for mine.safetensors ('Style' needs it)" in shown.stderr
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
    assert f"{path} is not the x.pt that the workflow needs" in shown.stderr
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
        Wanted(ModelFile("d.pt", size=9), tmp_path / "d.pt", "More of it is there than it has."),
    ]
    shutil.copy(tmp_path / "b.pt.part", tmp_path / "d.pt.part")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, (64 << 20) + 1000 + 10_000 - kept + free))
    if fits:
        require_space(wanted)
    else:
        with pytest.raises(DiskFull, match="do not fit on the disk") as caught:
            require_space(wanted)
        assert (caught.value.expected, caught.value.got) == ("0.07 GB free", "0.07 GB")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 0))
    require_space(wanted[2:3])


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


# The steps by themselves

ONCE = Patience(attempts=1)


def test_tokens_that_options_name() -> None:
    environ = {"A": "a", "B": "b", "EMPTY": ""}
    found = read_tokens(["Some.Example:81=A", "B", "civitai.com=EMPTY"], environ)
    assert found == {
        "huggingface.co": Token("B", "b"), "civitai.com": Token("EMPTY", None), "some.example:81": Token("A", "a"),
    }  # fmt: skip


def test_a_size_is_the_servers_or_else_the_workflows(tmp_path: Path) -> None:
    def size(said: int | None, remote: RemoteFile | None) -> int | None:
        return Wanted(ModelFile("a.pt", size=said), tmp_path, "A", remote).size

    assert (size(5, None), size(None, None)) == (5, None)
    assert (size(5, RemoteFile(7, True, None)), size(5, RemoteFile(None, True, None))) == (7, 5)


def test_the_size_of_a_file_on_a_server(server: FileServer) -> None:
    assert size_of(ModelFile("a.pt", url=server.add("/a", b"abc"))) == 3
    assert size_of(ModelFile("a.pt", url=f"{server.url}/none")) is None
    assert size_of(ModelFile("a.pt", url="http://127.0.0.1:9/a")) is None
    assert size_of(ModelFile("a.pt")) is None


def test_a_plan_sorts_what_workflows_need(comfyui: Path) -> None:
    (comfyui / "models" / "loras").mkdir()
    (comfyui / "models" / "loras" / "there.pt").touch()
    needs = [
        NeededModel(ModelFile("there.pt", "loras", "https://a/there"), "There"),
        NeededModel(ModelFile("new.pt", "vae", "https://a/new"), "New"),
        NeededModel(ModelFile("new.pt", "vae", "https://b/new"), "Again"),
        NeededModel(ModelFile("nowhere.pt", "vae"), "Nowhere"),
        NeededModel(ModelFile("lost.pt"), "Lost"),
        NeededModel(ModelFile("../bad.pt", "vae", "https://a/bad"), "Bad"),
        NeededModel(ModelFile("code.pt", "custom_nodes", "https://a/code"), "Code"),
    ]
    folders = ModelFolders(comfyui)
    plan = make_plan(needs, folders)
    assert [(one.model.name, one.title, one.target) for one in plan.wanted] == [
        ("new.pt", "Again", comfyui / "models" / "vae" / "new.pt")
    ]
    assert [(model.name, path.name) for model, path in plan.present] == [("there.pt", "there.pt")]
    assert [str(error.hint)[:45] for error in plan.refused[:2]] == [
        "Put it into models/vae, or add its URL to the", "Put it into the folder that its node reads, o",
    ]  # fmt: skip
    assert [error.got for error in plan.refused[2:]] == ["https://a/bad", "https://a/code"]
    few = make_plan(needs, folders, ["there.pt", "new.pt"])
    assert (len(few.wanted), len(few.present), few.refused) == (1, 1, [])


def test_a_file_that_no_workflow_needs(comfyui: Path) -> None:
    needs = [NeededModel(ModelFile(name, "vae"), name) for name in ("first.pt", "other.bin")]
    found: list[tuple[str | None, str | None]] = []
    for listed, name in ((needs, "frst.pt"), (needs, "zzz"), ([], "zzz")):
        with pytest.raises(UsageError, match=f"needs a model file '{name}'") as caught:
            make_plan(listed, ModelFolders(comfyui), ["first.pt", name] if listed else [name])
        found.append((caught.value.expected, caught.value.hint))
    assert found == [
        ("first.pt, other.bin", "Did you mean 'first.pt'?"), ("first.pt, other.bin", None),
        ("(no model files are needed)", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("index", "weights", "asked"),
    [(False, "wanted", True), (True, "wanted", True), (False, "present", True), (True, "present", False)],
)
def test_when_the_list_of_a_published_folder_is_asked_for(
    comfyui: Path, server: FileServer, index: bool, weights: str, asked: bool
) -> None:
    folder = comfyui / "models" / "kandinsky"
    (folder / "k").mkdir(parents=True)
    (folder / "k" / "there.json").touch()
    if index:
        (folder / "k" / "model_index.json").touch()
    listed = [{"type": "file", "path": path, "size": 2} for path in ("model_index.json", "there.json", "unet/c.json")]
    server.add("/api/models/a/b/tree/main?recursive=true", json.dumps(listed).encode())
    about = ModelFile("k/unet/w.bin", "kandinsky", f"{server.url}/a/b/resolve/main/unet/w.bin")
    plan = PullPlan()
    if weights == "wanted":
        plan.wanted.append(Wanted(about, folder / "k" / "unet" / "w.bin", "W"))
    else:
        plan.present.append((about, folder / "k" / "unet" / "w.bin"))
    if index and weights == "present":
        # Another folder, whose name begins alike, does not count.
        plan.wanted.append(Wanted(ModelFile("k2/x.bin", "kandinsky", "https://a/x"), folder / "k2" / "x.bin", "X"))
    before = list(plan.wanted)
    complete_folders(plan, ModelFolders(comfyui), RemoteFiles(), stop=threading.Event())
    more = [one for one in plan.wanted if one not in before]
    assert [one.model.name for one in more] == (
        [*([] if index else ["k/model_index.json"]), "k/unet/c.json"] if asked else []
    )
    assert all(one.title == "k" and one.target == folder / one.model.name for one in more)
    assert len(server.requests) == asked
    assert plan.refused == []


def test_a_list_that_cannot_be_had_does_not_keep_the_others(comfyui: Path, server: FileServer) -> None:
    server.add("/api/models/a/c/tree/main?recursive=true", b'[{"type": "file", "path": "c.json", "size": 2}]')
    whole = comfyui / "models" / "kandinsky" / "whole" / "model_index.json"
    whole.parent.mkdir(parents=True)
    whole.touch()
    plan = PullPlan()
    for name in ("whole", "b", "c"):
        url = f"{server.url}/a/{name}/resolve/main/w.bin"
        plan.present.append((ModelFile(f"{name}/w.bin", "kandinsky", url), comfyui / "w.bin"))
    complete_folders(plan, ModelFolders(comfyui), RemoteFiles(), patience=ONCE, stop=threading.Event())
    assert [type(error) for error in plan.refused] == [DownloadError]
    assert [one.model.name for one in plan.wanted] == ["c/c.json"]


def test_servers_are_asked_for_each_file(tmp_path: Path, server: FileServer) -> None:
    for name in ("a", "c"):
        server.add(f"/{name}", name.encode() * 5)
    wanted = [
        Wanted(ModelFile(f"{name}.pt", url=f"{server.url}/{name}"), tmp_path / name, name) for name in ("a", "b", "c")
    ]
    plan = PullPlan(wanted=wanted, refused=[OutputError("before")])
    ask_servers(plan, RemoteFiles(), patience=ONCE, stop=threading.Event())
    assert [(one.title, one.size) for one in plan.wanted] == [("a", 5), ("c", 5)]
    assert [type(error) for error in plan.refused] == [OutputError, DownloadError]


class Quiet:
    """Notes what it is told to show."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    def bytes_done(self, name: str, done: int, total: int | None) -> None:
        if name == "wrong.pt":
            raise KeyError(name)

    def state(self, name: str, text: str) -> None:
        self.states.append((name, text))


def wanted_files(folder: Path, server: FileServer, *names: str) -> PullPlan:
    return PullPlan([
        Wanted(ModelFile(f"{name}.pt", url=server.add(f"/{name}", CONTENT)), folder / f"{name}.pt", name)
        for name in names
    ])  # fmt: skip


def test_what_cannot_be_downloaded_is_told_among_the_others(tmp_path: Path, server: FileServer) -> None:
    plan = wanted_files(tmp_path, server, "a", "b", "c")
    del server.files["/b"]
    found = list(download_all(plan, RemoteFiles(), Quiet(), jobs=1, patience=ONCE))
    assert [type(one) for one in found[1:2]] == [DownloadError]
    assert (found[0], found[2]) == (tmp_path / "a.pt", tmp_path / "c.pt")
    assert list(download_all(PullPlan(), RemoteFiles(), Quiet())) == []


def test_a_fault_of_the_display_is_not_swallowed(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(KeyError):
        list(download_all(wanted_files(tmp_path, server, "wrong"), RemoteFiles(), Quiet(), patience=ONCE))


def test_downloads_end_when_they_are_told_to(tmp_path: Path, server: FileServer) -> None:
    stop = threading.Event()
    plan = wanted_files(tmp_path, server, "a", "b")
    files = download_all(plan, RemoteFiles(), Quiet(), jobs=1, patience=ONCE, stop=stop)
    assert next(files) == tmp_path / "a.pt"
    files.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert stop.is_set()
    assert list(download_all(plan, RemoteFiles(), Quiet(), stop=stop)) == []
