"""The linter of prompts. The table in tests/data/prompt_lint.json is what people get to see: read it.

tests/data/prompt_good.json has prompts that are good as they are: no warning about any of them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.text import rules, weights
from nodes.text.detect import HAN
from nodes.text.lint import count_tokens, fix, lint, report
from nodes.text.targets import TARGETS
from nodes.text.tokens import Tokenize, load_tokenizers
from tests.support.hosts import comfyui_folder
from tests.support.places import DATA

CASES: list[dict[str, Any]] = json.loads((DATA / "prompt_lint.json").read_text("utf-8"))
GOOD: dict[str, list[str]] = json.loads((DATA / "prompt_good.json").read_text("utf-8"))
GOOD |= dict.fromkeys(("flux2-dev", "flux2-klein", "kandinsky-5", "kandinsky-5-video"), GOOD["flux-dev"])
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
"""A token each."""


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenize]:
    if not (comfyui_folder() / "comfy").is_dir():
        pytest.skip("no ComfyUI, which has the tokenizers")
    return load_tokenizers(comfyui_folder() / "comfy")


def codes(text: str, target: str = "flux-dev") -> list[str]:
    return [finding.code for finding in lint(text, target) if finding.code != "language"]


# The tables


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['target']}: {case['text'][:40]}")
def test_found_as_in_the_table(case: dict[str, Any]) -> None:
    assert [str(finding) for finding in lint(case["text"], case["target"])] == case["findings"]
    assert fix(case["text"], case["target"]) == case.get("fixed", case["text"])


@pytest.mark.parametrize(("target", "text"), [(target, text) for target, texts in GOOD.items() for text in texts])
def test_nothing_is_wrong_with_a_good_prompt(target: str, text: str) -> None:
    assert [str(found) for found in lint(text, target) if found.severity == "warning"] == []
    assert fix(text, target) == text


def test_the_tables_are_long_enough_and_show_every_code() -> None:
    assert GOOD.keys() == TARGETS.keys()
    assert all(len(set(texts)) >= 15 for texts in GOOD.values())
    shown = {line.split()[1].rstrip(":") for case in CASES for line in case["findings"]}
    written = Path(rules.__file__ or "").read_text("utf-8")
    assert shown == set(re.findall(r'(?:given\.finding|Rule)\(\s*"([a-z-]+)"', written))


def test_every_rule_is_run() -> None:
    tree = ast.parse(Path(rules.__file__ or "").read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.returns is not None]
    there = {each.name for each in functions if ast.unparse(each.returns or each) == "Found"}
    assert {getattr(rule, "__name__", "") for rule in rules.RULES} - {""} | {"too_long"} == there


# What a finding is


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['target']}: {case['text'][:40]}")
def test_a_finding_points_at_what_it_is_about_and_says_what_to_do(case: dict[str, Any]) -> None:
    found = lint(case["text"], case["target"])
    assert [each.start for each in found] == sorted(each.start for each in found)
    for each in found:
        assert case["text"][each.start : each.end] == each.excerpt
        assert each.message.endswith(".")
        assert each.suggestion.endswith(".")
        assert each.severity in ("warning", "hint")
        assert json.loads(json.dumps(each.as_dict()))["code"] == each.code


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['target']}: {case['text'][:40]}")
def test_mending_leaves_nothing_that_could_be_mended(case: dict[str, Any]) -> None:
    mended = fix(case["text"], case["target"])
    assert fix(mended, case["target"]) == mended
    assert not [each for each in lint(mended, case["target"]) if each.replacement is not None]
    assert "weights" not in [each.code for each in lint(mended, case["target"])]


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        # The doubled word and the doubled spaces lie over each other: one is mended, then the other.
        ("a fox  in  in snow", "a fox in snow"),
        ("(masterpiece:1.3), a fox", "a fox"),
        ("a fox ,, in in the  snow", "a fox, in the snow"),
        ("masterpiece, best quality, a fox sits in the snow", "a fox sits in the snow"),
    ],
)
def test_mends_that_overlap_are_made_one_after_the_other(text: str, mended: str) -> None:
    assert fix(text) == mended


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['target']}: {case['text'][:40]}")
def test_fixing_adds_no_word(case: dict[str, Any]) -> None:
    latin = str.maketrans(rules._CYRILLIC_TWINS, rules._LATIN_TWINS)
    before, after = (re.findall(r"[^\W\d_]+", text.translate(latin)) for text in (case["text"], case.get("fixed", "")))
    assert set(after) <= set(before) or "".join(after) in "".join(before)  # Chinese has no spaces


def test_what_is_to_be_drawn_is_no_prompt() -> None:
    drawn = "A poster with the words {} in red."
    for quoted in ('"{}"', "“{}”", "'{}'", "‘{}’", "«{}»"):
        words = quoted.format("NO the the smoking,,  no war, 8k, masterpiece AND [more] не курить")
        assert codes(drawn.format(words)) == []
        assert codes(drawn.format(words[1:-1])) != []


def test_apostrophes_are_no_quotes() -> None:
    assert codes("A dog's bowl, no bone, the dogs' house, it's red, '90s style.") == ["negation"]


def test_json_is_checked_for_its_length_alone() -> None:
    made = '{"subjects": [{"description": "no (fox:1.3), [so]"}]}'
    assert codes(made, "flux2-dev") == []
    assert codes(made.replace("so", "so " * 600), "flux2-dev") == ["tokens"]
    assert codes(made, "flux-dev") != []
    assert codes("[" + made + "]", "flux2-dev") != []


def test_a_report_says_the_tokens_and_that_they_are_estimated() -> None:
    text = "A red fox in the snow."
    assert report(lint(text), count_tokens(text), "flux-dev") == (
        "FLUX.1 dev: no findings; T5 about 8 of 512 tokens; CLIP-L about 9 of 77 tokens."
    )
    long = "A red fox in the snow. " * 20
    assert "of which it reads the first 77 (give it a short text of its own)" in report([], count_tokens(long), "flux")


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("A red fox.", "no findings"),
        ("A red fox, no people.", "1 warning"),
        ("A the the fox, no people.", "2 warnings"),
        ("A red fox  sits.", "1 hint"),
        ("A  red  fox, no people.", "1 warning, 2 hints"),
    ],
)
def test_a_report_counts_warnings_and_hints(text: str, summary: str) -> None:
    last = report(lint(text), count_tokens(text), "flux-dev").splitlines()[-1]
    assert last.startswith(f"FLUX.1 dev: {summary}; T5 about ")


def test_a_report_has_a_line_for_each_finding_and_says_where() -> None:
    text = "A fox, no people."
    assert report(lint(text), [], "flux").splitlines()[0].startswith("warning negation at 8: “no people” names ")
    # What concerns the whole prompt has no place in it.
    assert report(lint(""), [], "flux").startswith("hint empty: The prompt is empty. Say ")


def test_unknown_targets_and_languages() -> None:
    with pytest.raises(ValueError, match="Expected a target among"):
        lint("x", "sdxl")
    with pytest.raises(ValueError, match="Expected a language among"):
        lint("x", "flux", "fr")


# Length


@pytest.mark.parametrize(
    ("target", "fits"),
    [
        ("flux-dev", 511),
        ("flux-schnell", 255),
        ("kandinsky-3", 127),
        ("flux2-klein", 500),
        ("kandinsky-5", 511),
        ("kandinsky-5-video", 255),
    ],
)
def test_the_limit_is_exact(target: str, fits: int, tokenizers: dict[str, Tokenize]) -> None:
    def prompt(tokens: int) -> str:
        return " ".join(NUMBERS[i % 9] for i in range(tokens))

    assert not [each for each in lint(prompt(fits), target, tokenizers=tokenizers) if each.code == "tokens"]
    (found,) = [each for each in lint(prompt(fits + 1), target, tokenizers=tokenizers) if each.code == "tokens"]
    assert found.severity == "warning"
    assert "estimate" not in found.message


def test_the_last_words_that_are_read_are_named(tokenizers: dict[str, Tokenize]) -> None:
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]  # a token each
    text = " ".join(numbers * 9)
    (found,) = [each for each in lint(text, "kandinsky-2.2", tokenizers=tokenizers) if each.code == "tokens"]
    assert "reads 77 tokens, and these are 83: what follows “…one two three” is cut off" in found.message
    (found,) = [each for each in lint(text, "sd15", tokenizers=tokenizers) if each.code == "tokens"]
    assert found.severity == "hint"


def test_weights_are_no_tokens_where_comfyui_reads_them(tokenizers: dict[str, Tokenize]) -> None:
    for target, same in (("sd15", True), ("flux-dev", True), ("kandinsky-2.2", False), ("flux2-klein", False)):
        weighted, plain = (
            count_tokens(text, target, tokenizers)[0].tokens for text in ("a (red:1.3) fox", "a red fox")
        )
        assert (weighted == plain) is same


# Against the originals


def test_weights_are_read_as_comfyui_reads_them() -> None:
    file = comfyui_folder() / "comfy" / "sd1_clip.py"
    if not file.is_file():
        pytest.skip("no ComfyUI, whose parser this follows")
    read = comfyui_parser(file)
    texts = [case["text"] for case in CASES] + [text for texts in GOOD.values() for text in texts]
    texts += ["((a:1.2) b:0.5) c", r"(a \(b\):1.3) \)", "(a:b:1.1)", "(:1.2)", "(a:)", "(a:x) ((((b))))", "(a: 1.2 )"]
    for text in texts:
        if not weights.stray_parentheses(text):
            assert weights.plain(text) == "".join(words for words, _ in read(text)), text
            for weight in weights.find_weights(text):
                if weight.explicit and "(" not in weight.inner:
                    assert (weights.unescape(weight.inner), weight.value) in read(text), text


def comfyui_parser(file: Path) -> Callable[[str], list[tuple[str, float]]]:
    """ComfyUI's own functions, taken out of a module that imports much."""
    wanted = {"parse_parentheses", "token_weights", "escape_important", "unescape_important"}
    tree = ast.parse(file.read_text("utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    there: dict[str, Any] = {}
    exec(compile(tree, str(file), "exec"), there)

    def read(text: str) -> list[tuple[str, float]]:
        parsed = there["token_weights"](there["escape_important"](text), 1.0)
        return [(there["unescape_important"](words), weight) for words, weight in parsed]

    return read


def test_tokens_are_counted_as_transformers_counts_them(tokenizers: dict[str, Tokenize]) -> None:
    transformers = pytest.importorskip("transformers")
    comfy = comfyui_folder() / "comfy"
    clip = transformers.CLIPTokenizer.from_pretrained(comfy / "sd1_tokenizer", local_files_only=True)
    qwen = transformers.Qwen2Tokenizer.from_pretrained(
        comfy / "text_encoders" / "qwen25_tokenizer", local_files_only=True
    )
    t5 = transformers.T5TokenizerFast.from_pretrained(comfy / "text_encoders" / "t5_tokenizer", local_files_only=True)
    texts = [case["text"] for case in CASES] + [text for texts in GOOD.values() for text in texts]
    for text in texts:
        # Each Chinese character is a word for itself to transformers 4, without ftfy, and a run of them is one to 5.
        if not re.search(f"[{HAN}]", text):
            assert len(tokenizers["clip"](text)) == len(clip(text)["input_ids"]) - 2, text
        assert len(tokenizers["qwen"](text)) == len(qwen(text)["input_ids"]), text
        assert len(tokenizers["t5"](text)) == len(t5(text)["input_ids"]) - 1, text


@pytest.mark.parametrize("target", ["flux-dev", "sd15", "kandinsky-5"])
def test_the_estimate_is_near(target: str, tokenizers: dict[str, Tokenize]) -> None:
    for text in GOOD["flux-dev"]:
        exact, estimated = (count_tokens(text, target, each)[0].tokens for each in (tokenizers, {}))
        assert abs(estimated - exact) <= 0.25 * exact + 2, text


def test_tokenizer_files_that_are_none(tmp_path: Path) -> None:
    assert load_tokenizers(tmp_path, tmp_path) == {}
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read"):
        load_tokenizers(mclip=tmp_path)
