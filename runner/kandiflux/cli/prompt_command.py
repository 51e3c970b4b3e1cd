"""The commands `kandiflux prompt compose` and `kandiflux prompt lint`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kandiflux.cli.common import JsonOption, reporting
from kandiflux.cli.terminal import print_json, print_message, print_result
from kandiflux.errors import UsageError
from kandiflux.util.json_values import is_list, is_object, parse_json
from kandiflux.util.paths import expanded

if TYPE_CHECKING:
    from kandiflux.prompt_tools import Tokenizers

__all__ = ["prompt_app"]

prompt_app = typer.Typer(help="Compose prompts from layers, and lint them.", no_args_is_help=True)

TargetOption = Annotated[
    str,
    typer.Option(
        "--target", "-t", metavar="TARGET",
        help="flux-dev, flux-schnell, flux2-dev, flux2-klein, sd15, kandinsky-2.1, kandinsky-2.2, kandinsky-3, "
        "kandinsky-5 or kandinsky-5-video; flux, flux2 and kandinsky for short.",
    ),
]  # fmt: skip
LanguageOption = Annotated[str, typer.Option(metavar="LANGUAGE", help="auto, en, ru, zh or de.")]
ComfyOption = Annotated[
    Path | None,
    typer.Option(
        "--comfyui",
        metavar="PATH",
        help="A ComfyUI, for its tokenizers: tokens are counted, not estimated. Default: $COMFYUI_DIR.",
    ),
]
LayerOption = Annotated[list[str] | None, typer.Option(metavar="TEXT")]


@prompt_app.command()
def lint(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The prompt; @FILE reads it from a file, - from stdin.")],
    target: TargetOption = "flux-dev",
    language: LanguageOption = "auto",
    mend: Annotated[
        bool, typer.Option("--fix", help="Print the prompt with safe fixes applied; findings go to stderr.")
    ] = False,
    strict: Annotated[bool, typer.Option(help="Exit code 1 if there is a warning; hints do not count.")] = False,
    comfyui: ComfyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count a prompt's tokens for a model, and find what it would misunderstand.

    \b
    Examples:
      kandiflux prompt lint "(red fox:1.3) in a forest, no people" --target flux-dev
      kandiflux prompt lint @prompt.txt --target sd15 --comfyui ~/ComfyUI --strict
      cat prompt.txt | kandiflux prompt lint - --fix > mended.txt
      kandiflux prompt lint "masterpiece, best quality, 1girl" --json
    """
    with reporting(as_json):
        from kandiflux import prompt_tools as prompts

        text = _read(text)
        tokenizers = _tokenizers(comfyui)
        found = prompts.lint(text, target, language, tokenizers)
        counts = prompts.count_tokens(text, target, tokenizers)
        fixed = prompts.fix(text, target, language) if mend else None
        if as_json:
            tokens = [
                {"encoder": each.encoder.title, "tokens": each.tokens, "limit": each.encoder.limit, "exact": each.exact}
                for each in counts
            ]
            answer = {"findings": [each.as_dict() for each in found], "tokens": tokens}
            print_json(answer if fixed is None else {**answer, "fixed": fixed})
        else:
            (print_message if mend else print_result)(prompts.report(found, counts, target))
            if fixed is not None:
                print_result(fixed)
    if strict and any(each.severity == "warning" for each in found):
        raise typer.Exit(1)


@prompt_app.command()
def compose(
    subject: LayerOption = None,
    action: LayerOption = None,
    style: LayerOption = None,
    foreground: LayerOption = None,
    middle_ground: LayerOption = None,
    background: LayerOption = None,
    lighting: LayerOption = None,
    camera: LayerOption = None,
    mood: LayerOption = None,
    text: LayerOption = None,
    scene: LayerOption = None,
    composition: LayerOption = None,
    color_palette: LayerOption = None,
    negative: LayerOption = None,
    file: Annotated[
        str | None,
        typer.Option(help="Layers as JSON: a list of {kind, text, emphasis, relation, relation_to, name}; - is stdin."),
    ] = None,
    target: TargetOption = "flux-dev",
    form: Annotated[str, typer.Option(metavar="FORM", help="hierarchical, numbered or json.")] = "hierarchical",
    language: LanguageOption = "auto",
    comfyui: ComfyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compose a prompt from layers, in the form that a model reads best and in your words.

    Prints the prompt; with --json also the negative prompt, the texts for both encoders, and notes, which otherwise go
    to stderr.
    Layer options may be repeated. Emphasis and relations need --file.

    \b
    Examples:
      kandiflux prompt compose --subject "a red fox" --action "leaping over a log" --background "a birch forest"
      kandiflux prompt compose --subject "a red fox" --style "oil painting" --negative blurry --target sd15 --json
      kandiflux prompt compose --file layers.json --target flux2 --form json
      kandiflux run flux.json --set prompt="$(kandiflux prompt compose --subject 'a red fox')"
    """
    given = {
        "subject": subject,
        "action": action,
        "style": style,
        "foreground": foreground,
        "middle ground": middle_ground,
        "background": background,
        "lighting": lighting,
        "camera": camera,
        "mood": mood,
        "text in the picture": text,
        "scene": scene,
        "composition": composition,
        "color palette": color_palette,
        "negative": negative,
    }
    with reporting(as_json):
        from kandiflux import prompt_tools as prompts

        layers: list[Any] = _layers_in(file) if file is not None else []
        layers += [{"kind": kind, "text": each} for kind, texts in given.items() for each in texts or ()]
        if not layers:
            raise UsageError("There are no layers.", expected="--subject TEXT or other layer options, or --file FILE")
        made = prompts.compose(layers, target, language, form, _tokenizers(comfyui))
        if as_json:
            print_json({**vars(made), "notes": list(made.notes)})
            return
        for note in made.notes:
            print_message(f"note: {note}")
        if made.negative:
            print_message(f"negative prompt: {made.negative}")
        print_result(made.prompt)


def _read(text: str) -> str:
    """Returns the text itself, of a file for @FILE, or of stdin for -. @@ at the start stands for @."""
    if text == "-":
        return _stdin().rstrip("\r\n")
    if text.startswith("@@"):
        return text[1:]
    return _file(text[1:]).rstrip("\r\n") if text.startswith("@") else text


def _file(path: str) -> str:
    try:
        return expanded(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", expected="a text file in UTF-8") from error


def _stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Standard input cannot be read: {error}.", expected=f"text in {sys.stdin.encoding}"
        ) from error


def _layers_in(file: str) -> list[Any]:
    text = _stdin() if file == "-" else _file(file)
    try:
        found = parse_json(text)
    except ValueError as error:
        raise UsageError(f"The layers in {file} are not valid JSON: {error}.") from error
    layers = found.get("layers") if is_object(found) else found
    if not is_list(layers):
        raise UsageError(
            f"There are no layers in {file}.",
            expected='[{"kind": "subject", "text": "a red fox"}, …]',
            got=str(found)[:80],
        )
    return layers


def _tokenizers(comfyui: Path | None) -> Tokenizers:
    from kandiflux import prompt_tools as prompts

    if comfyui is None:
        named = Path(os.environ.get("COMFYUI_DIR") or "")
        return prompts.comfyui_tokenizers(named) if (named / "comfy").is_dir() else {}
    return prompts.comfyui_tokenizers(comfyui)
