"""install.py without a network: what ComfyUI-Manager runs, and link."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """A folder that looks like a ComfyUI."""
    folder = tmp_path / "ComfyUI"
    (folder / "custom_nodes").mkdir(parents=True)
    for name in ("main.py", "folder_paths.py"):
        (folder / name).touch()
    (folder / "comfyui_version.py").write_text('__version__ = "0.3.64"\n')
    return folder


def run(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "COMFYUI_PATH"}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False, timeout=60)


def test_link_then_install_twice(comfyui: Path) -> None:
    for _ in range(2):
        done = run(ROOT / "install.py", "link", str(comfyui))
        assert done.returncode == 0, done.stderr
    place = comfyui / "custom_nodes" / "kandiflux"
    assert place.resolve() == ROOT
    for _ in range(2):
        done = run(place / "install.py")
        assert done.returncode == 0, done.stderr
        assert "kandiflux is ready" in done.stderr
    assert (comfyui / "models" / "kandinsky").is_dir()
    assert (comfyui / "models" / "kandinsky_embeds").is_dir()


def test_the_manager_says_where_comfyui_is(comfyui: Path) -> None:
    done = run(ROOT / "install.py", COMFYUI_PATH=str(comfyui))
    assert done.returncode == 0, done.stderr


def test_models_may_lie_apart_from_a_comfyui_that_cannot_be_written_to(comfyui: Path, tmp_path: Path) -> None:
    """As in ComfyUI Desktop."""
    shutil.rmtree(comfyui / "custom_nodes")
    base = tmp_path / "base"
    (base / "custom_nodes").mkdir(parents=True)
    pack = base / "custom_nodes" / "kandiflux"
    pack.symlink_to(ROOT)
    paths = {"COMFYUI_PATH": str(comfyui), "COMFYUI_FOLDERS_BASE_PATH": str(base)}
    done = run(pack / "install.py", **paths)
    assert done.returncode == 0, done.stderr
    assert (base / "models" / "kandinsky").is_dir()
    assert not (comfyui / "models").exists()
    shutil.rmtree(base / "models")
    (base / "models").write_text("in the way")
    done = run(pack / "install.py", **paths)
    assert done.returncode == 0, done.stderr
    assert f"could not make {base / 'models' / 'kandinsky'} (" in done.stderr


def test_an_old_comfyui_is_named(comfyui: Path) -> None:
    (comfyui / "comfyui_version.py").write_text('__version__ = "0.3.9"\n')
    done = run(ROOT / "install.py", COMFYUI_PATH=str(comfyui))
    assert done.returncode == 1
    assert "ComfyUI 0.3.60 or newer: this is 0.3.9" in done.stderr


def test_missing_packages_are_named_with_the_command(comfyui: Path) -> None:
    # -S hides every installed package.
    command = [sys.executable, "-S", str(ROOT / "install.py")]
    done = subprocess.run(
        command,
        env=os.environ | {"COMFYUI_PATH": str(comfyui)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "safetensors 0.4.3 or newer (not installed). Run: " in done.stderr


def test_outside_comfyui_it_shows_the_commands() -> None:
    done = run(ROOT / "install.py")
    assert done.returncode == 2
    assert "install.py demo" in done.stderr
    assert "not in a ComfyUI's custom_nodes folder" in done.stderr


def test_link_to_something_else_is_refused(tmp_path: Path, comfyui: Path) -> None:
    done = run(ROOT / "install.py", "link", str(tmp_path))
    assert done.returncode == 1
    assert "expected the folder of a ComfyUI" in done.stderr
    (comfyui / "custom_nodes" / "kandiflux").mkdir()
    done = run(ROOT / "install.py", "link", str(comfyui))
    assert done.returncode == 1
    assert "is something else" in done.stderr


def test_damaged_weights_are_named(tmp_path: Path, comfyui: Path) -> None:
    pack = comfyui / "custom_nodes" / "kandiflux"
    shutil.copytree(ROOT / "weights", pack / "weights")
    for name in ("install.py", "requirements.txt"):
        shutil.copy(ROOT / name, pack / name)
    assert run(pack / "install.py").returncode == 0
    victim = next(pack.rglob("diffusion_pytorch_model.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1])
    done = run(pack / "install.py")
    assert done.returncode == 1
    assert f"{victim} is missing or damaged" in done.stderr
