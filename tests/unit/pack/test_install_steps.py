"""install.py's own steps, in this process: what it runs for demo and test, and when it makes its environment anew."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.places import ROOT


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with an environment of its own to make, and no GPU."""
    spec = importlib.util.spec_from_file_location("kandiflux_install", ROOT / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / "venv" / "stamp")
    monkeypatch.setattr(module, "has_nvidia_gpu", lambda: False)
    return module


@pytest.fixture
def ran(install: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run for the environment; one that makes it leaves a Python."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> None:
        commands.append(command)
        if command[1:3] == ["-m", "venv"]:
            python = install.VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
            python.parent.mkdir(parents=True)
            python.touch()

    monkeypatch.setattr(install, "run", run)
    return commands


def test_an_environment_is_made_once_for_each_extra(install: Any, ran: list[list[str]]) -> None:
    python = install.environment("lite")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    lite = [[*pip, install.CPU_TORCH], [*pip, "--editable", f"{ROOT}[lite]"]]
    assert ran == [[sys.executable, "-m", "venv", "--clear", str(install.VENV)], *lite]
    install.environment("lite")
    assert len(ran) == 3
    install.environment("test")
    assert ran[3:] == [lite[0], [*pip, "--editable", f"{ROOT}[test]"]]
    install.environment("lite")  # test holds all of it
    install.environment("test")
    assert len(ran) == 5
    install.STAMP.write_text("of another pyproject.toml test\n")
    install.environment("test")
    assert len(ran) == 7


def test_the_environment_is_made_anew_if_its_python_has_gone_or_a_gpu_has_come(
    install: Any, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = install.environment("lite")
    python.unlink()
    python.parent.rmdir()
    install.environment("lite")
    assert len(ran) == 6
    monkeypatch.setattr(install, "has_nvidia_gpu", lambda: True)
    install.environment("lite")
    assert [command[-1] for command in ran[6:]] == [f"{ROOT}[lite]"]


@pytest.mark.parametrize(
    ("fails", "message", "left"),
    [("venv", "apt install python3-venv", False), ("pip", "pip ended with exit code 3", True)],
)
def test_what_fails_in_making_it_is_said(
    install: Any,
    ran: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: str,
    message: str,
    left: bool,
) -> None:
    run = install.run

    def failing(command: list[str]) -> None:
        run(command)
        if command[2] == fails:
            raise subprocess.CalledProcessError(3, command)

    monkeypatch.setattr(install, "run", failing)
    with pytest.raises(SystemExit) as ended:
        install.environment("lite")
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
    assert (install.VENV.exists(), install.STAMP.exists()) == (left, False)


@pytest.mark.parametrize(
    ("given", "more"), [([], []), (["--prompt", "a star"], ["--set", "prompt=a star"])], ids=["as it is", "a prompt"]
)
def test_the_demo_is_a_workflow_on_the_lite_host(
    install: Any, monkeypatch: pytest.MonkeyPatch, given: list[str], more: list[str]
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(install, "environment", Path)
    monkeypatch.setattr(subprocess, "call", lambda command, cwd: called.append((command, cwd)) or 4)
    assert install.main(["demo", *given]) == 4
    run = ["-m", "kandiflux", "run", install.DEMO_WORKFLOW, "--server", "lite", "--out", str(ROOT / "output")]
    assert called == [(["lite", *run, *more], str(ROOT))]


@pytest.mark.parametrize(
    ("failing", "pyright", "last"),
    [
        ([], 0, "everything passed"),
        (["ruff check"], 0, "failed: ruff check"),
        (["pytest", "ruff format"], 2, "failed: ruff format, pytest, pyright"),
        ([], 1, "failed: pyright"),
    ],
)
def test_every_check_is_run_whatever_fails(
    install: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failing: list[str],
    pyright: int,
    last: str,
) -> None:
    commands: list[list[str]] = []

    def call(command: list[str], cwd: str) -> int:
        commands.append(command)
        assert cwd == str(ROOT)
        return int(any(name in " ".join(command) for name in failing))

    def start(command: list[str], stdout: Any, cwd: str) -> Any:
        assert (command, cwd) == (["test", "-m", "pyright", "--pythonpath", "test"], str(ROOT))
        stdout.write(b"what pyright said")
        return SimpleNamespace(wait=lambda: pyright)

    monkeypatch.setattr(install, "environment", Path)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(subprocess, "Popen", start)
    assert install.main(["test", "-k", "lint"]) == int(last != "everything passed")
    assert [command[:5] for command in commands[:2]] == [
        ["test", "-m", "ruff", "check", "."],
        ["test", "-m", "ruff", "format", "--check"],
    ]
    assert commands[2][:5] == ["test", "-m", "pytest", "-n", "8"]
    assert commands[2][-2:] == ["-k", "lint"]
    assert len(commands) == 3
    said = capsys.readouterr().err.splitlines()
    assert "what pyright said" in said
    assert said[-1] == f"== {last}"


@pytest.mark.parametrize(
    "given", [["demo", "--fast"], ["link"], ["demo", "more"], ["link", "a", "b"], ["unknown"]], ids=" ".join
)
def test_options_that_are_not_known_are_refused(
    install: Any, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        install.main(given)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(("version", "is_new"), [((3, 9, 9), False), ((3, 10), True), ((3, 10, 0), True)])
def test_an_old_python_is_named(
    install: Any, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], is_new: bool
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(install, "demo", lambda prompt: 0)
    if is_new:
        assert install.main(["demo"]) == 0
        return
    with pytest.raises(SystemExit) as ended:
        install.main(["demo"])
    assert ended.value.code == 1


@pytest.mark.parametrize(("ends", "there"), [(0, True), (9, False), (FileNotFoundError(), False)])
def test_a_gpu_is_what_its_tool_lists(
    monkeypatch: pytest.MonkeyPatch, ends: int | Exception, there: bool, tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("kandiflux_install", ROOT / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(command: list[str], **options: Any) -> Any:
        assert command == ["nvidia-smi", "-L"]
        if isinstance(ends, Exception):
            raise ends
        return SimpleNamespace(returncode=ends)

    monkeypatch.setattr(subprocess, "run", run)
    assert module.has_nvidia_gpu() is there


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('__version__ = "0.3.60"', True),
        ('__version__="0.4.0"', True),
        ('__version__ = "0.3.59"', False),
        ("", False),
        (None, False),
    ],
)
def test_the_oldest_comfyui(install: Any, tmp_path: Path, text: str | None, fits: bool) -> None:
    if text is not None:
        (tmp_path / "comfyui_version.py").write_text(text)
    problems = install.version_problems(tmp_path)
    assert (problems == []) is fits
    assert fits or text or "this is one without comfyui_version.py" in problems[0]


def test_the_oldest_packages(install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "ROOT", tmp_path)
    (tmp_path / "requirements.txt").write_text("one>=1.2.3\ntwo>=2.0\nthree>=3\n")
    there = {"one": "1.2.3", "two": "1.9.9"}

    def version(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError
        return there[name]

    monkeypatch.setattr(metadata, "version", version)
    assert [problem.split(" Run:")[0] for problem in install.package_problems()] == [
        "two 2.0 or newer (1.9.9).",
        "three 3 or newer (not installed).",
    ]


def test_a_comfyui_is_what_has_all_three(install: Any, tmp_path: Path) -> None:
    for name in ("main.py", "folder_paths.py"):
        assert not install.is_comfyui(tmp_path)
        (tmp_path / name).touch()
    assert not install.is_comfyui(tmp_path)
    (tmp_path / "custom_nodes").mkdir()
    assert install.is_comfyui(tmp_path)
    (tmp_path / "folder_paths.py").unlink()
    assert not install.is_comfyui(tmp_path)


def test_weights_without_their_sums_are_damaged(
    install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "POCKET", tmp_path)
    file = tmp_path / "a b.safetensors"
    file.write_bytes(b"weights")
    with pytest.raises(SystemExit):
        install.check_pocket_weights()
    assert "SHA256SUMS is missing or damaged" in capsys.readouterr().err
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'weights').hexdigest()}  a b.safetensors\n")
    install.check_pocket_weights()
    file.unlink()
    with pytest.raises(SystemExit):
        install.check_pocket_weights()
