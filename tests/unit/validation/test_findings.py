"""A finding in words, as JSON, and as one of the problems that a server's validation reports."""

from __future__ import annotations

import pytest
from kandiflux.errors import NodeProblem
from kandiflux.models.model_files import ModelFile
from kandiflux.workflow.validation.findings import Finding, Pack

STEPS = Finding(
    "out_of_range", "is out of range", "5", "Sampler", "KSampler", "steps", expected="1 to 9", got="0", hint="Write 1."
)


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (
            STEPS,
            "'Sampler' (node 5, KSampler): steps is out of range: expected 1 to 9, got 0.\n  hint: Write 1.",
        ),
        (Finding("no_output", "Nothing runs"), "Nothing runs."),
        (Finding("too_old", "Too old", got="1"), "Too old: got 1."),
        (Finding("too_old", "Too old", got=""), "Too old: got ."),
        (Finding("too_old", "Too old", expected="2"), "Too old: expected 2."),
        (Finding("loop", "feeds itself", "5", "A", "B"), "'A' (node 5, B): feeds itself."),
    ],
)
def test_a_finding_in_words(finding: Finding, text: str) -> None:
    assert str(finding) == text


def test_a_finding_as_a_problem_of_a_prompt() -> None:
    message = "steps is out of range: expected 1 to 9, got 0. Write 1."
    assert STEPS.as_problem() == NodeProblem("5", "Sampler", "KSampler", "out_of_range", message, "", "steps")
    assert Finding("no_output", "Nothing runs").as_problem().message == "Nothing runs."


def test_a_finding_as_json_has_nothing_empty_in_it() -> None:
    assert STEPS.as_dict() == {
        "kind": "out_of_range", "message": "is out of range", "node_id": "5", "title": "Sampler",
        "class_type": "KSampler", "input_name": "steps", "expected": "1 to 9", "got": "0", "hint": "Write 1.",
    }  # fmt: skip
    model = ModelFile("a.pt", "loras", size=3)
    finding = Finding("missing_node", "gone", models=(model,), pack=Pack("p", None, "o/p"))
    assert finding.as_dict() == {
        "kind": "missing_node", "message": "gone", "pack": {"name": "p", "repository": "o/p", "source": "file"},
        "models": [{"name": "a.pt", "directory": "loras", "size": 3}],
    }  # fmt: skip
