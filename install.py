"""Set kandiflux up.

  python3 install.py demo [--prompt TEXT]   make .venv if need be, and draw a picture with the pocket weights
  python3 install.py test [PYTEST OPTIONS]  make .venv if need be, and run every check and test
  python3 install.py link PATH              add this checkout to the ComfyUI in PATH
  python3 install.py                        inside ComfyUI/custom_nodes: check the install, make the model folders
                                            (ComfyUI-Manager runs this; nothing is downloaded)

Only the standard library is used here.
"""

from __future__ import annotations  # so that an old Python gets as far as saying that it is too old

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "kandiflux-installed"
DEMO_WORKFLOW = "kandinsky22_pocket_text_to_image"
MODEL_FOLDERS = ("kandinsky", "kandinsky_embeds")
POCKET = ROOT / "weights" / "pocket"
OLDEST_PYTHON = (3, 10)
OLDEST_COMFYUI = (0, 3, 60)
# On Linux a later or unpinned torch brings several GB of CUDA libraries, of no use without an NVIDIA GPU.
CPU_TORCH = "torch==2.13.0"


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST_PYTHON:
        fail(f"expected Python {dotted(OLDEST_PYTHON)} or newer, got {sys.version.split()[0]}.")
    parser = argparse.ArgumentParser(
        prog="install.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo_parser = commands.add_parser("demo", help="draw a picture with the pocket weights")
    demo_parser.add_argument("--prompt", help="what to draw, such as 'a green star on a white background'")
    commands.add_parser("test", help="run every check and test; further options go to pytest", add_help=False)
    link_parser = commands.add_parser("link", help="add this checkout to an existing ComfyUI")
    link_parser.add_argument("path", type=Path, help="the folder ComfyUI's main.py is in")
    chosen, rest = parser.parse_known_args(arguments)
    if rest and chosen.command != "test":
        parser.error("unrecognized arguments: " + " ".join(rest))
    if chosen.command == "demo":
        return demo(chosen.prompt)
    if chosen.command == "test":
        return test(rest)
    if chosen.command == "link":
        return link(chosen.path)
    return install_in_comfyui(parser)


# --- demo and test: an environment of our own ------------------------------------------------------------------------


def demo(prompt: str | None) -> int:
    python = environment("lite")
    # The lite host by name: a ComfyUI that happens to be running may not have this pack.
    command = [str(python), "-m", "kandiflux", "run", DEMO_WORKFLOW, "--server", "lite", "--out", str(ROOT / "output")]
    return subprocess.call(command + (["--set", "prompt=" + prompt] if prompt else []), cwd=str(ROOT))


def test(pytest_options: list[str]) -> int:
    python = str(environment("test"))
    # Tests wait as much as they compute: one process more than there are processors, and pyright beside them.
    parallel = ["-n", str((os.cpu_count() or 1) + 1), "--dist", "loadgroup", "--no-loadscope-reorder"]
    checks = [
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "pytest", *parallel, *pytest_options],
    ]
    failed = []
    with tempfile.TemporaryFile() as said:
        pyright = subprocess.Popen([python, "-m", "pyright", "--pythonpath", python], stdout=said, cwd=str(ROOT))
        for command in checks:
            name = " ".join(command[2:4]) if command[2] == "ruff" else command[2]
            say("== " + name)
            if subprocess.call(command, cwd=str(ROOT)):
                failed.append(name)
        say("== pyright")
        if pyright.wait():
            failed.append("pyright")
        said.seek(0)
        say(said.read().decode("utf-8", "replace"))
    say("== " + ("failed: " + ", ".join(failed) if failed else "everything passed"))
    return 1 if failed else 0


def environment(extra: str) -> Path:
    """The Python of .venv, with this package and the extra `extra` installed; makes what is not there yet."""
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    torch = [] if has_nvidia_gpu() else [CPU_TORCH]
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + repr((sys.version_info[:2], torch)).encode())
    # The test environment holds all the demo needs.
    done = STAMP.read_text().split() if STAMP.is_file() else []
    if python.is_file() and wanted.hexdigest() in done and (extra in done or "test" in done):
        return python
    say(f"Installing into {VENV} (once; a few minutes)…")
    if not python.is_file():
        try:
            run([sys.executable, "-m", "venv", "--clear", str(VENV)])
        except subprocess.CalledProcessError:
            shutil.rmtree(VENV, ignore_errors=True)
            fail("could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv.")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    try:
        if torch:
            run([*pip, *torch])
        run([*pip, "--editable", f"{ROOT}[{extra}]"])
    except subprocess.CalledProcessError as error:
        fail(f"pip ended with exit code {error.returncode}; its message is above. Is there a network? Then try again.")
    STAMP.write_text(f"{wanted.hexdigest()} {extra}\n")
    return python


def run(command: list[str]) -> None:
    # What pip says is not a result: standard output is for the picture's path.
    subprocess.run(command, check=True, stdout=sys.stderr)


def has_nvidia_gpu() -> bool:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


# --- inside ComfyUI --------------------------------------------------------------------------------------------------


def install_in_comfyui(parser: argparse.ArgumentParser) -> int:
    comfyui = containing_comfyui()
    if comfyui is None:
        parser.print_help(sys.stderr)
        fail(f"{ROOT} is not in a ComfyUI's custom_nodes folder: name a command, or use `link`.", code=2)
    problems = version_problems(comfyui) + package_problems()
    # ComfyUI Desktop keeps its models apart from its program, which cannot be written to.
    make_model_folders(Path(os.environ.get("COMFYUI_FOLDERS_BASE_PATH") or comfyui))
    check_pocket_weights()
    if problems:
        fail("\n  ".join(["this ComfyUI lacks what the nodes need:", *problems]))
    say("kandiflux is ready: restart ComfyUI and open Workflow > Browse Templates > kandiflux.")
    return 0


def link(path: Path) -> int:
    comfyui = path.expanduser().resolve()
    if not is_comfyui(comfyui):
        fail(f"expected the folder of a ComfyUI (with main.py and custom_nodes), got {comfyui}.")
    place = comfyui / "custom_nodes" / "kandiflux"
    if place.resolve() != ROOT:
        if place.is_symlink() or place.exists():
            fail(f"{place} is there already and is something else: remove it first.")
        link_folder(place)
    problems = version_problems(comfyui)
    if problems:
        fail("\n  ".join(["linked, but:", *problems]))
    make_model_folders(comfyui)
    check_pocket_weights()
    say(f"{place} now leads to {ROOT}.")
    say(f"With ComfyUI's own Python, run: python -m pip install -r {ROOT / 'requirements.txt'}")
    return 0


def link_folder(place: Path) -> None:
    try:
        place.symlink_to(ROOT, target_is_directory=True)
    except OSError as error:
        if os.name != "nt":
            fail(f"could not make {place}: {error}.")
        # Windows lets only administrators make symbolic links; a junction serves as well.
        if subprocess.call(["cmd", "/c", "mklink", "/J", str(place), str(ROOT)], stdout=subprocess.DEVNULL):
            fail(f"could not make the junction {place}: {error}.")


def containing_comfyui() -> Path | None:
    """The ComfyUI this pack is in: what ComfyUI-Manager says, else the folder two up from where we were called."""
    named = Path(os.environ.get("COMFYUI_PATH") or ".")
    if os.environ.get("COMFYUI_PATH") and (named / "main.py").is_file():
        return named
    called = Path(os.path.abspath(__file__)).parent  # noqa: PTH100 - not resolved: a linked pack is where its link is
    two_up = called.parent.parent
    return two_up if called.parent.name == "custom_nodes" and is_comfyui(two_up) else None


def is_comfyui(folder: Path) -> bool:
    return (
        (folder / "main.py").is_file() and (folder / "folder_paths.py").is_file() and (folder / "custom_nodes").is_dir()
    )


def version_problems(comfyui: Path) -> list[str]:
    file = comfyui / "comfyui_version.py"
    found = re.search(r'__version__\s*=\s*"([^"]+)"', file.read_text("utf-8")) if file.is_file() else None
    if found and numbers(found.group(1)) >= OLDEST_COMFYUI:
        return []
    got = found.group(1) if found else "one without comfyui_version.py"
    return [f"ComfyUI {dotted(OLDEST_COMFYUI)} or newer: this is {got}. Update ComfyUI."]


def package_problems() -> list[str]:
    problems = []
    for line in (ROOT / "requirements.txt").read_text("utf-8").split():
        name, oldest = line.split(">=")
        try:
            got = metadata.version(name)
        except metadata.PackageNotFoundError:
            got = "not installed"
        if got == "not installed" or numbers(got) < numbers(oldest):
            problems.append(f'{name} {oldest} or newer ({got}). Run: {sys.executable} -m pip install "{line}"')
    return problems


def make_model_folders(base: Path) -> None:
    for name in MODEL_FOLDERS:
        folder = base / "models" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            say(f"could not make {folder} ({error.strerror or error}). Make it where your ComfyUI has its models.")


def check_pocket_weights() -> None:
    """The loaders list the pocket weights where they lie in this pack: what is to see to is that they are whole."""
    sums = POCKET / "SHA256SUMS"
    for line in sums.read_text("utf-8").splitlines() if sums.is_file() else ["0  SHA256SUMS"]:
        digest, name = line.split("  ", 1)
        file = POCKET / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            fail(f"{file} is missing or damaged. In {ROOT}, run: git checkout -- weights")


# --- small things ----------------------------------------------------------------------------------------------------


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(text: str, code: int = 1) -> NoReturn:
    say("install.py: " + text)
    sys.exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
