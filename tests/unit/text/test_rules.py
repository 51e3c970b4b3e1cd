"""Where rules about syntax begin and end to apply, and what each puts in the place of what it finds."""

from __future__ import annotations

import pytest

from nodes.text.lint import lint


@pytest.mark.parametrize(
    ("target", "text", "code", "expected"),
    [
        ("flux-dev", "x <lora:a:0.3> y", "lora-syntax", [(" <lora:a:0.3>", "")]),
        ("flux-dev", "a, embedding:x b", "embedding", [(", embedding:x", ", ")]),
        ("flux-dev", "a, embedding:x", "embedding", [(", embedding:x", "")]),
        ("flux-dev", "a embedding:x b", "embedding", [(" embedding:x", "")]),
        ("sd15", "embedding:x", "embedding", []),
        ("sd15", "a embedding:x", "embedding", []),
        ("sd15", "(embedding:x:1.2)", "embedding", []),
        ("sd15", "a,embedding:x", "embedding", [("embedding:x", " embedding:x")]),
        ("sd15", "a fox AND a cat BREAK x", "break", [("AND", None), ("BREAK", None)]),
        ("sd15", "NASA AND cat, BRAND AND-x", "break", []),
        ("sd15", "A FOX AND A CAT", "break", []),
        ("sd15", "(cat:0) (fox:1.6) (dog:1.61)", "extreme-weight", [("(dog:1.61)", None)]),
        ("sd15", "a (fox:-1)", "extreme-weight", [("(fox:-1)", None)]),
        ("kandinsky-2.2", "a (fox)", "weights", []),
        ("kandinsky-2.2", "a ((fox))", "weights", [("((fox))", None)]),
        ("kandinsky-2.2", "a (fox)", "parentheses", []),
        ("flux-dev", "a (fox)", "parentheses", [("(fox)", r"\(fox\)")]),
        ("flux-dev", "(masterpiece:1), a fox", "weights", []),
        ("kandinsky-2.2", "(masterpiece:1), a fox", "weights", [("(masterpiece:1)", None)]),
        ("flux-dev", "a [fox] b", "brackets", [("[fox]", "fox")]),
        ("sd15", "a [fox] b", "brackets", [("[fox]", "(fox:0.9)")]),
        ("sd15", "[fox|cat] [fox::0.5]", "brackets", [("[fox|cat]", None), ("[fox::0.5]", None)]),
        ("flux-dev", 'a 5" „x', "unbalanced-quotes", [("„", None)]),
        ("flux-dev", "5” “ a", "unbalanced-quotes", [("“", None)]),
        ("flux-dev", 'A "fox" sits.', "quotes", [('"fox"', "fox")]),
        ("flux-dev", 'A sign says "A" and "B".', "quotes", []),
        ("sd15", 'A "fox" sits.', "quotes", []),
        ("flux-dev", "vulpes vulpes", "doubled-word", [("vulpes vulpes", None)]),
        ("flux-dev", "The the fox", "doubled-word", [("The the", "The")]),
        ("flux-dev", "Fox Fox", "doubled-word", []),
        ("flux-dev", "very very old", "doubled-word", []),
        ("flux-dev", "a fox . b , c", "punctuation", [(" ", ""), (" ", "")]),
        ("flux-dev", "a .... b ... c", "punctuation", [("....", "...")]),
        ("flux-dev", "a.. b", "punctuation", [("..", ".")]),
        ("flux-dev", "a,. b", "punctuation", [(",.", ".")]),
        ("flux-dev", ", a", "punctuation", [(", ", "")]),
        ("kandinsky-2.1", "红。。红", "punctuation", [("。。", "。")]),
        ("kandinsky-2.1", "红，、红", "punctuation", [("，、", "，")]),
        ("flux-dev", 'a  "x"  b', "punctuation", []),
    ],
)
def test_what_is_found_and_what_is_put_there(
    target: str, text: str, code: str, expected: list[tuple[str, str | None]]
) -> None:
    found = [each for each in lint(text, target) if each.code == code]
    assert [(each.excerpt, each.replacement) for each in found] == expected


@pytest.mark.parametrize(("target", "severity"), [("flux-dev", "warning"), ("kandinsky-2.2", "hint")])
@pytest.mark.parametrize(("text", "what"), [("a ) b", "closes nothing"), ("a ( b", "is never closed")])
def test_a_parenthesis_alone_matters_where_comfyui_reads_weights(
    target: str, severity: str, text: str, what: str
) -> None:
    (found,) = lint(text, target)
    assert (found.code, found.severity) == ("unbalanced-parentheses", severity)
    assert found.message.startswith(f"The parenthesis {what}")


@pytest.mark.parametrize(
    ("target", "strength", "node"),
    [
        ("flux-dev", ":0.3", "LoraLoaderModelOnly with strength 0.3,"),
        ("sd15", ":0.3", "LoraLoader with strength 0.3,"),
        ("sd15", "", "LoraLoader, and"),
    ],
)
def test_the_node_that_loads_a_lora_is_named(target: str, strength: str, node: str) -> None:
    (found,) = lint(f"a fox <lora:film{strength}> in snow", target)
    assert f"Load 'film' with the node {node}" in found.suggestion


@pytest.mark.parametrize(
    ("weight", "said"), [("1.01", 'Write "with emphasis on'), ("1.0", "say that it is subtle"), ("0.5", "is subtle")]
)
def test_weights_above_1_are_emphasis_and_others_subtle(weight: str, said: str) -> None:
    (found,) = [each for each in lint(f"a (fox:{weight}) in snow") if each.code == "weights"]
    assert said in found.suggestion


@pytest.mark.parametrize(("word", "node"), [("AND", "Combine"), ("BREAK", "Concat")])
def test_the_node_that_joins_prompts_is_named(word: str, node: str) -> None:
    (found,) = lint(f"a cat {word} a dog", "sd15")
    assert f"Conditioning ({node})" in found.suggestion
    assert ("write it small" in found.suggestion) is (word == "AND")
