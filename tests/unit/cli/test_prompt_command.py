"""`kandiflux prompt`: what it prints where, its exit codes, and that it loads nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kandiflux import prompt_tools as prompts
from kandiflux.cli import app
from kandiflux.errors import UsageError
from typer.testing import CliRunner, Result

from tests.support.hosts import comfyui_folder
from tests.support.places import ROOT

BAD = "(red fox:1.3) in a forest, no people"


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner(env={"COMFYUI_DIR": ""}).invoke(app, ["prompt", *words], input=stdin)


@pytest.mark.parametrize("command", ["lint", "compose"])
def test_help_has_examples(command: str) -> None:
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert f"kandiflux prompt {command}" in shown.output


def test_lint_prints_a_line_for_each_finding_and_the_tokens() -> None:
    shown = run("lint", BAD, "--target", "flux")
    assert shown.exit_code == 0
    first, second, last = shown.stdout.splitlines()
    assert first.startswith("warning weights at 1: (red fox:1.3): ")
    assert "Write “red fox”" in first
    assert second.startswith("warning negation at 28: “no people” names ")
    assert last == "FLUX.1 dev: 2 warnings; T5 about 11 of 512 tokens; CLIP-L about 10 of 77 tokens."


def test_strict_fails_for_warnings_and_not_for_hints() -> None:
    assert run("lint", BAD, "--strict").exit_code == 1
    assert run("lint", "A red fox in the snow.", "--strict").exit_code == 0
    hinted = run("lint", "A red  fox in the snow.", "--strict")
    assert "hint punctuation" in hinted.stdout
    assert hinted.exit_code == 0


def test_lint_mends_and_keeps_stdout_for_the_prompt() -> None:
    shown = run("lint", "A (red fox:1.3) in the  snow.", "--fix")
    assert shown.stdout == "A red fox in the snow.\n"
    assert "warning weights" in shown.stderr


def test_lint_reads_files_and_stdin(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("лиса (рыжая:1.2)\n", "utf-8")
    for shown in (run("lint", f"@{file}", "--json"), run("lint", "-", "--json", stdin="лиса (рыжая:1.2)\n")):
        answer = json.loads(shown.stdout)
        (found,) = [each for each in answer["findings"] if each["code"] == "weights"]
        assert (found["start"], found["end"], found["text"]) == (5, 16, "(рыжая:1.2)")
        assert answer["tokens"][0] == {"encoder": "T5", "tokens": 8, "limit": 512, "exact": False}
    assert json.loads(run("lint", "@@x", "--json", "--fix").stdout)["fixed"] == "@x"


@pytest.mark.skipif(not (comfyui_folder() / "comfy").is_dir(), reason="no ComfyUI, which has the tokenizers")
def test_tokens_are_counted_where_there_is_a_comfyui() -> None:
    shown = run("lint", "A red fox in the snow.", "--comfyui", str(comfyui_folder()))
    assert shown.stdout.splitlines()[-1].endswith("T5 9 of 512 tokens; CLIP-L 9 of 77 tokens.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lint", "x", "--target", "sdxl"], "Expected a target among flux-dev"),
        (["lint", "x", "--language", "fr"], "Expected a language among auto"),
        (["lint", "@no such file"], "no such file cannot be read"),
        (["lint", "x", "--comfyui", "/nowhere"], "There is no ComfyUI in /nowhere"),
        (["compose"], "There are no layers"),
        (["compose", "--subject", "x", "--form", "list"], "Expected a form among"),
        (["compose", "--file", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_message(words: list[str], message: str) -> None:
    shown = run(*words)
    assert shown.exit_code == 2
    assert message in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.stderr


def test_compose_prints_the_prompt_and_says_the_rest_on_stderr() -> None:
    shown = run(
        "compose", "--subject", "a red fox", "--action", "leaping over a log", "--style", "oil painting",
        "--foreground", "dry grass", "--negative", "people",
    )  # fmt: skip
    assert shown.stdout == "A red fox leaping over a log. Foreground: dry grass. Style: oil painting.\n"
    assert "note: FLUX.1 dev has no negative prompt: 'people' is left out." in shown.stderr


def test_compose_for_sd15_as_json() -> None:
    words = ["--subject", "a red fox", "--subject", "a grey wolf", "--negative", "blurry", "--target", "sd15", "--json"]
    answer = json.loads(run("compose", *words).stdout)
    assert answer["prompt"] == "a red fox, a grey wolf"
    assert answer["negative"] == "blurry"
    assert answer["target"] == "sd15"


def test_compose_for_flux2_is_json() -> None:
    words = ["--subject", "a red fox", "--scene", "a forest", "--color-palette", "#FF0000, white", "--form", "json"]
    made = run("compose", *words, "--composition", "rule of thirds", "--target", "flux2")
    assert json.loads(made.stdout) == {
        "scene": "a forest",
        "subjects": [{"description": "a red fox"}],
        "color_palette": ["#FF0000", "white"],
        "composition": "rule of thirds",
    }
    assert made.stderr == ""


def test_compose_reads_layers_from_json(tmp_path: Path) -> None:
    layers = [
        {"kind": "subject", "text": "a red fox", "name": "fox"},
        {"kind": "subject", "text": "a grey wolf", "relation": "left of", "relation_to": "fox"},
    ]
    expected = "A red fox. A grey wolf to the left of the fox.\n"
    file = tmp_path / "layers.json"
    for written in (layers, {"layers": layers}):
        file.write_text(json.dumps(written), "utf-8")
        assert run("compose", "--file", str(file)).stdout == expected
    assert run("compose", "--file", "-", stdin=json.dumps(layers)).stdout == expected
    assert run("compose", "--file", "-", stdin="{}").exit_code == 2
    assert run("compose", "--file", "-", stdin="{").exit_code == 2
    unknown = run("compose", "--file", "-", "--json", stdin='[{"kind": "object", "text": "x"}]')
    assert unknown.exit_code == 2
    assert json.loads(unknown.stdout)["error"] == "UsageError"


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, json\n"
        "from typer.testing import CliRunner\n"
        "from kandiflux.cli import app\n"
        "shown = [CliRunner().invoke(app, ['prompt', *words]).exit_code for words in (['lint', 'a fox'],"
        " ['compose', '--subject', 'a fox'])]\n"
        "heavy = ('torch', 'numpy', 'requests', 'websocket', 'PIL', 'aiohttp', 'transformers', 'tokenizers')\n"
        "print(json.dumps([shown, [name for name in heavy if name in sys.modules]]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner"), "COMFYUI_DIR": ""}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(shown.stdout) == [[0, 0], []]


def test_from_python() -> None:
    composed = prompts.compose([prompts.Layer("subject", "a red fox"), {"kind": "mood", "text": "calm"}])
    assert composed.prompt == "A red fox. Mood: calm."
    assert [found.code for found in prompts.lint(BAD)] == ["weights", "negation"]
    assert prompts.fix(BAD) == "red fox in a forest, no people"
    with pytest.raises(UsageError, match="Expected a target"):
        prompts.lint("x", "sdxl")
    for name in prompts.__all__:
        assert getattr(prompts, name) is not None
