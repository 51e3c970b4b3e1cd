"""`kandiflux models pull` and `models convert`: what they hand on, what they print where, and exit codes."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from kandiflux.cli import app
from kandiflux.cli.models_command import convert_models
from kandiflux.cli.models_command import pull as pull_command
from kandiflux.cli.signals import SignalReceived
from kandiflux.errors import DownloadError, UsageError
from kandiflux.models.remote_files import RemoteFiles
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.file_server import FileServer, serving
from tests.support.screen import on_screen

CONTENT = bytes(range(256)) * 1_000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ComfyUI's folder for LoRAs; the commands run in the folder above that ComfyUI."""
    monkeypatch.chdir(tmp_path)
    folder = Path("ComfyUI", "models", "loras")
    folder.mkdir(parents=True)
    return folder


def workflow(*models: dict[str, Any], name: str = "w.json") -> str:
    nodes = [
        {"id": number, "type": "LoraLoader", "title": f"Loader {number}", "widgets_values": [about["name"]],
         "properties": {"models": [{"directory": "loras", **about}]}}
        for number, about in enumerate(models, 1)
    ]  # fmt: skip
    Path(name).write_text(json.dumps({"nodes": nodes, "links": []}))
    return name


def pull(*words: str) -> Result:
    return RUNNER.invoke(app, ["models", "pull", *words, "--comfyui", "ComfyUI"])


def sha256(content: bytes) -> dict[str, str]:
    return {"hash": hashlib.sha256(content).hexdigest(), "hash_type": "SHA256"}


def test_paths_go_to_stdout_and_one_line_of_each_state_to_stderr(server: FileServer, loras: Path) -> None:
    models = [{"name": name, "url": server.add(f"/{name}", CONTENT), **sha256(CONTENT)} for name in ("a.bin", "b.bin")]
    file = workflow(*models)
    shown = pull(file, "--jobs", "1")
    assert (shown.exit_code, shown.stdout) == (0, f"{loras / 'a.bin'}\n{loras / 'b.bin'}\n")
    assert (loras / "a.bin").read_bytes() == CONTENT
    assert shown.stderr.splitlines() == [
        "a.bin: downloading 256.0 kB", "a.bin: verifying", "b.bin: downloading 256.0 kB", "b.bin: verifying",
    ]  # fmt: skip
    shown = pull(file)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == "Nothing is missing: 2 model files are present.\n"
    assert pull(file, "--quiet").stderr == ""
    (loras / "a.bin").unlink()
    shown = pull(file, "--quiet")
    assert (shown.stdout, shown.stderr) == (f"{loras / 'a.bin'}\n", "")
    (loras / "b.bin").unlink()
    shown = pull(file, "--json")
    assert json.loads(shown.stdout) == {"saved": [str(loras / "b.bin")], "failed": []}
    assert shown.stderr == ""


def test_a_dry_run_lists_what_is_missing_and_downloads_nothing(server: FileServer, loras: Path) -> None:
    url, other = server.add("/a.bin", CONTENT), server.add("/b.bin", CONTENT[:1000])
    hidden = server.add("/c.bin", CONTENT, chunked=True, ranges=False)
    (loras / "there.bin").touch()
    file = workflow({"name": "a.bin", "url": url}, {"name": "b.bin", "url": other}, {"name": "there.bin", "url": url})
    shown = pull(file, "--dry-run")
    assert (shown.exit_code, shown.stdout.splitlines()) == (0, [
        "file\tsize\tfolder\tfrom", f"a.bin\t256.0 kB\t{loras}\t{url}", f"b.bin\t1.0 kB\t{loras}\t{other}",
    ])  # fmt: skip
    assert shown.stderr == "2 files, 257.0 kB; 1 are already present.\n"
    answer = json.loads(pull(file, "--dry-run", "--json").stdout)
    assert [(one["name"], one["size"], one["path"], one["node"]) for one in answer["missing"]] == [
        ("a.bin", 256_000, str(loras / "a.bin"), "Loader 1"), ("b.bin", 1_000, str(loras / "b.bin"), "Loader 2"),
    ]  # fmt: skip
    assert (answer["present"], answer["failed"]) == ([str(loras / "there.bin")], [])
    assert [path.name for path in loras.iterdir()] == ["there.bin"]
    shown = pull(workflow({"name": "c.bin", "url": hidden}), "--dry-run")
    assert shown.stdout.splitlines()[1:] == [f"c.bin\t?\t{loras}\t{hidden}"]
    assert shown.stderr == "1 files, 0 bytes; 0 are already present.\n"
    shown = pull(workflow({"name": "there.bin", "url": url}), "--dry-run")
    assert (shown.stdout, shown.stderr) == ("", "0 files, 0 bytes; 1 are already present.\n")


def test_a_file_that_cannot_be_had_keeps_no_other_from_coming(server: FileServer, loras: Path) -> None:
    good, bad = server.add("/good.bin", CONTENT), server.add("/bad.bin", CONTENT)
    models = [{"name": "bad.bin", "url": bad, **sha256(b"")}, {"name": "good.bin", "url": good}]
    gone = {"name": "gone.bin", "url": f"{bad}.gone"}
    shown = pull(workflow(*models, gone), "--json")
    answer = json.loads(shown.stdout)
    assert (shown.exit_code, answer["saved"]) == (1, [str(loras / "good.bin")])
    assert [error["error"] for error in answer["failed"]] == ["DownloadError", "WrongFile"]
    assert [line[:6] for line in shown.stderr.splitlines()].count("Error:") == 2
    shown = pull(workflow({"name": "lost.bin", "url": None}), "--dry-run")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "Error: No URL is known for lost.bin" in shown.stderr
    shown = pull(workflow({"name": "lost.bin", "url": None}), "--dry-run", "--json")
    assert (shown.exit_code, [one["error"] for one in json.loads(shown.stdout)["failed"]]) == (1, ["DownloadError"])
    shown = pull(workflow({"name": "lost.bin", "url": None}))
    assert (shown.exit_code, "Nothing is missing" in shown.stderr) == (1, False)


def test_files_that_are_there_are_read_if_it_is_wanted(server: FileServer, loras: Path) -> None:
    (loras / "a.bin").write_bytes(b"other")
    file = workflow({"name": "a.bin", "url": server.add("/a.bin", CONTENT), **sha256(CONTENT)})
    assert pull(file).exit_code == 0
    shown = pull(file, "--verify")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith(f"verifying {loras / 'a.bin'}\nError: {loras / 'a.bin'} is not the a.bin")
    assert "Nothing is missing" not in shown.stderr
    assert pull(file, "--verify", "--quiet").stderr.startswith("Error: ")


Downloads = Callable[[Any], Iterator[Any]]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command hands on to the functions that do the work."""
    return {}


def downloading(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], work: Downloads) -> str:
    """A workflow of two files, a.bin and b.bin, with `work(display)` in place of the downloads."""

    def download_all(plan: Any, remotes: Any, display: Any, **how: Any) -> Iterator[Any]:
        given.update(how)
        yield from work(display)

    monkeypatch.setattr("kandiflux.models.pull.ask_servers", lambda *_, **how: given.update(asked=how["stop"]))
    monkeypatch.setattr("kandiflux.models.pull.require_space", lambda wanted: given.update(wanted=list(wanted)))
    monkeypatch.setattr("kandiflux.models.pull.download_all", download_all)
    monkeypatch.setattr("kandiflux.models.pull.complete_folders", lambda *_, **how: given.update(completed=how["stop"]))
    return workflow({"name": "a.bin", "url": "http://x/a"}, {"name": "b.bin", "url": "http://x/b"})


def test_what_the_options_come_to(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    def remote_files(tokens: Any, **how: Any) -> RemoteFiles:
        given.update(tokens=tokens, **how)
        return RemoteFiles(tokens, **how)

    file = downloading(monkeypatch, given, lambda _: iter(()))
    monkeypatch.setattr("kandiflux.models.remote_files.RemoteFiles", remote_files)
    assert pull(file).exit_code == 0
    assert (given["jobs"], given["verify"]) == (4, True)
    assert given["stop"] is given["asked"] is given["completed"]
    assert not given["stop"].is_set()
    assert [one.model.name for one in given["wanted"]] == ["a.bin", "b.bin"], "there must be room for them"
    assert set(given["tokens"]) == {"huggingface.co", "civitai.com"}
    del given["completed"]
    words = ("--only", "a.bin", "--jobs", "3", "--token-env", "x.org=T", "--ca-bundle", "ca.pem")
    assert pull(file, *words).exit_code == 0
    assert (given["jobs"], given["verify"]) == (3, "ca.pem")
    assert "x.org" in given["tokens"]
    assert "completed" not in given, "what is named is all that is wanted"
    Path("more.yaml").write_text("a:\n  base_path: more\n  loras: here\n")
    Path("more", "here").mkdir(parents=True)
    Path("more", "here", "a.bin").touch()
    answer = json.loads(pull(file, "--extra-model-paths", "more.yaml", "--dry-run", "--json").stdout)
    assert [Path(path).name for path in answer["present"]] == ["a.bin"]
    assert [pull(file, "--jobs", number).exit_code for number in ("0", "1", "16", "17")] == [2, 0, 0, 2]


def test_a_signal_stops_the_downloads_and_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    def work(_: Any) -> Iterator[Any]:
        yield Path("a.bin")
        raise SignalReceived(signal.SIGTERM)

    shown = pull(downloading(monkeypatch, given, work), "--quiet")
    assert (shown.exit_code, shown.stdout) == (143, "a.bin\n")
    assert "Stopped. Partial downloads are kept" in shown.stderr
    assert given["stop"].is_set()


LONG = f"a[i]{'x' * 250}.bin"


def one_waits(display: Any) -> Iterator[Any]:
    display.bytes_done("a.bin", 0, None)
    display.bytes_done("a.bin", 1_000_000, 4_000_000)
    display.bytes_done("a.bin", 2_000_000, 4_000_000)
    display.state("a.bin", "waiting")
    display.bytes_done("b[i].bin", 1, 2)
    display.state("b[i].bin", "waiting")
    display.state("a.bin", "done")
    yield Path(LONG)
    yield DownloadError("b.bin does not come.")


def test_the_first_failure_says_how_it_ends(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    failures = [UsageError("The first."), DownloadError("The second.")]
    shown = pull(downloading(monkeypatch, given, lambda _: iter(failures)))
    assert (shown.exit_code, shown.stderr) == (2, "Error: The first.\nError: The second.\n")


def test_what_a_program_reads_of_the_states(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    shown = pull(downloading(monkeypatch, given, one_waits))
    assert (shown.exit_code, shown.stdout) == (1, f"{LONG}\n")
    assert shown.stderr.splitlines() == [
        "a.bin: downloading", "a.bin: downloading 4.0 MB", "a.bin: waiting", "b[i].bin: downloading 2 bytes",
        "b[i].bin: waiting", "Error: b.bin does not come.",
    ]  # fmt: skip


@pytest.mark.parametrize("both", [False, True])
def test_bars_on_a_terminal(
    both: bool, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths go to standard output, which may be a pipe; on one screen they stand above the bars."""
    file = downloading(monkeypatch, given, one_waits)
    screen = on_screen(monkeypatch, *(("stdout", "stderr") if both else ("stderr",)))
    with pytest.raises(typer.Exit) as ended:
        pull_command([file], Path("ComfyUI"))
    assert ended.value.exit_code == 1
    lines = [" ".join(line.split()) for line in screen.text.splitlines()]
    last = {line.split(" ")[0]: line for line in lines if line}
    assert "2.0/4.0 MB" in last["a.bin"]
    assert last["b[i].bin"].startswith("b[i].bin (waiting) ")
    assert "1/2 bytes" in last["b[i].bin"]
    assert (LONG in lines) == both
    assert capsys.readouterr().out == ("" if both else f"{LONG}\n")


def test_no_bars_on_a_terminal_if_none_are_wanted(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    file = downloading(monkeypatch, given, lambda _: iter([Path("a.bin")]))
    screen = on_screen(monkeypatch, "stderr")
    pull_command([file], Path("ComfyUI"), quiet=True)
    pull_command([file], Path("ComfyUI"), as_json=True)
    assert screen.text == ""


# Convert


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> dict[str, Any]:
    """What the command hands on, with two files in place of what is converted."""

    def plan(*places: Any) -> list[Any]:
        given["places"] = places
        return [SimpleNamespace(movq=None, folder="no-movq"), SimpleNamespace(movq="movq.pt", folder="whole")]

    def convert(todo: list[Any], *, force: bool, on_bytes: Callable[[str, int, int], None]) -> Iterator[Path]:
        given["force"] = force
        for name in ("a", "b[i]"):
            on_bytes(name, 0, 4_000)
            on_bytes(name, 3_000, 4_000)
            yield Path(name)

    monkeypatch.setattr("kandiflux.models.kandinsky3_checkpoint.plan", plan)
    monkeypatch.setattr("kandiflux.models.kandinsky3_checkpoint.convert", convert)
    return given


def convert(*words: str) -> Result:
    return RUNNER.invoke(app, ["models", "convert", *words])


def test_what_conversions_print(conversions: dict[str, Any]) -> None:
    shown = convert("weights")
    assert (shown.exit_code, shown.stdout) == (0, "a\nb[i]\n")
    assert (conversions["places"], conversions["force"]) == ((Path("weights"), Path(), None), False)
    reading, movq = shown.stderr.splitlines()
    assert reading.startswith("Reading weights with torch.load(weights_only=True")
    assert movq == "No movq.pt found: no-movq also needs a movq folder."
    shown = convert("weights", "--quiet", "--out", "o", "--projection", "p.pt", "--force")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "a\nb[i]\n", "")
    assert (conversions["places"], conversions["force"]) == ((Path("weights"), Path("o"), Path("p.pt")), True)
    shown = convert("weights", "--json")
    assert (json.loads(shown.stdout), shown.stderr) == ({"written": ["a", "b[i]"]}, "")


def test_bars_of_conversions(
    conversions: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = on_screen(monkeypatch, "stderr")
    convert_models(Path("weights"))
    assert capsys.readouterr().out == "a\nb[i]\n"
    bars = [" ".join(line.split()) for line in screen.text.splitlines() if "kB" in line]
    assert {line.split(" ")[0] for line in bars[-2:]} == {"a", "b[i]"}
    assert all("3.0/4.0 kB" in line for line in bars[-2:])
    screen.seek(screen.truncate(0))
    convert_models(Path("weights"), quiet=True)
    convert_models(Path("weights"), as_json=True)
    assert screen.text == ""


def test_conversions_on_one_screen(conversions: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch, "stdout", "stderr")
    convert_models(Path("weights"), quiet=True)
    assert screen.text == "a\nb[i]\n"
