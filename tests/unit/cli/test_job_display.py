"""Following a job: what is saved when, what is said of what cannot be saved, and what is shown meanwhile."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kandiflux.api.events import Event, JobQueued, NodeExecuted, NodesCached, NodeStarted, NodeState, ProgressState
from kandiflux.cli.job_display import Display, JsonLines, Plain, follow, live_display
from kandiflux.errors import KandifluxError, OutputError, OutputMissing, ServerUnreachable
from kandiflux.jobs.outputs import Output
from kandiflux.jobs.result import Result
from kandiflux.workflow.prompt import Prompt

from tests.support.fake_comfyui import prompt
from tests.support.screen import Screen, on_screen

PROMPT = Prompt(prompt(), values={"seed": 7})
SERVER: Any = SimpleNamespace(url="http://gpu:8188")


def picture(name: str, folder: str = "output", subfolder: str = "", node_id: str = "2") -> Output:
    return Output("image", node_id, "Result", name, subfolder=subfolder, folder=folder)


def executed(*names: str, folder: str = "output") -> NodeExecuted:
    return NodeExecuted("p", "2", "2", {"images": [{"filename": name, "type": folder} for name in names]})


class Recording:
    """A display, and a saver of files: what they were told, in its order. `failures` by the name of a file."""

    def __init__(self, **failures: KandifluxError) -> None:
        self.told: list[tuple[str, Any]] = []
        self.timeouts: list[float | None] = []
        self.failures = failures

    def save(self, output: Output, *, timeout: float | None = None) -> Path:
        self.timeouts.append(timeout)
        if output.filename in self.failures:
            raise self.failures[output.filename]
        Path(output.filename).write_bytes(b"x")
        return Path(output.filename)

    def show(self, event: Event) -> None:
        self.told.append(("event", event))

    def saved(self, path: Path) -> None:
        self.told.append(("saved", str(path)))

    def text(self, text: str) -> None:
        self.told.append(("text", text))

    def finished(self, result: Result) -> None:
        self.told.append(("finished", result))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def following(
    told: Recording, events: Sequence[Event], outputs: Sequence[Output], timeout: float | None = None, **how: bool
) -> Result:
    def listen(seconds: float | None) -> Sequence[Event]:
        assert seconds == timeout
        return events

    job: Any = SimpleNamespace(
        prompt=PROMPT, prompt_id="p", events=listen, result=lambda: Result("p", PROMPT, tuple(outputs))
    )
    saver: Any = told
    return follow(job, SERVER, saver, told, timeout, **how)


def refused(name: str) -> OutputError:
    """What a full disk leads to."""
    error = OutputError(f"{name} cannot be written.")
    error.__cause__ = OSError(28, "No space left on device")
    return error


def test_files_are_saved_once_and_as_soon_as_they_are_told_of() -> None:
    told = Recording()
    first = executed("a", "b")
    text = Output("text", "2", "Result", "t.txt", text="a remark")
    result = following(told, [first, executed("b")], [picture("a"), picture("b"), picture("c"), text])
    assert told.told == [
        ("event", first), ("saved", "a"), ("saved", "b"), ("event", executed("b")), ("saved", "c"),
        ("text", "a remark"), ("finished", result),
    ]  # fmt: skip
    assert set(told.timeouts) == {None}
    assert not Path("a.json").exists()


def test_files_of_one_name_in_other_places_are_other_files() -> None:
    told = Recording()
    others = [picture("a", subfolder="x"), picture("a", folder="temp"), picture("a", node_id="1"), picture("b")]
    following(told, [executed("a")], [picture("a"), *others[:1], *others[2:]])
    assert [name for kind, name in told.told if kind == "saved"] == ["a", "a", "a", "b"]


def test_previews_and_what_is_no_file_wait_for_the_end() -> None:
    told = Recording()
    texts = NodeExecuted("p", "2", "2", {"text": ["a remark"]})
    following(told, [executed("a", folder="temp"), texts], [])
    assert [kind for kind, _ in told.told] == ["event", "event", "finished"]


@pytest.mark.parametrize("error", [OutputMissing("gone"), OutputError("refused"), ServerUnreachable("away")])
def test_what_does_not_come_early_is_tried_again_at_the_end(error: KandifluxError) -> None:
    told = Recording(a=error)
    following(told, [executed("a")], [])
    assert told.timeouts == [None]
    with pytest.raises(type(error), match=error.message):
        following(told, [executed("a")], [picture("a")])
    assert not [kind for kind, _ in told.told if kind == "saved"]


def test_one_file_that_does_not_come_keeps_no_other_from_being_saved() -> None:
    told = Recording(a=OutputMissing("a is gone"), c=OutputError("c is refused"))
    with pytest.raises(OutputMissing, match="a is gone"):
        following(told, [], [picture("a"), picture("b"), picture("c"), picture("d")])
    assert told.told == [("saved", "b"), ("saved", "d")]


@pytest.mark.parametrize("early", [False, True])
def test_a_disk_that_refuses_a_file_ends_it_at_once_and_the_hint_says_where_the_file_is(early: bool) -> None:
    told = Recording(a=refused("a"))
    outputs = [picture("a", subfolder="of me&you", folder="output"), picture("b")]
    events = [executed("a", "b")] if early else []
    with pytest.raises(OutputError, match="a cannot be written") as caught:
        following(told, events, outputs)
    subfolder = "" if early else "of+me%26you"
    assert caught.value.hint == (
        f"It is still on the server, at http://gpu:8188/view?filename=a&subfolder={subfolder}&type=output . "
        "Run the command again with another --out."
    )
    assert isinstance(caught.value.__cause__, OSError)
    assert not [kind for kind, _ in told.told if kind == "saved"]


def test_a_file_that_is_nowhere_else_is_said_to_be_gone() -> None:
    streamed = Output("image", "2", "Result", "a", data=b"x")
    for output, own_host in ((streamed, False), (picture("a"), True)):
        with pytest.raises(OutputError) as caught:
            following(Recording(a=refused("a")), [], [output], own_host=own_host)
        assert caught.value.hint == "Run the command again with another --out. The file itself is lost."


def test_a_name_that_is_half_a_character_has_an_address_too() -> None:
    name = "\ud83d"
    with pytest.raises(OutputError) as caught:
        following(Recording(**{name: refused("it")}), [], [picture(name)])
    assert "filename=%ED%A0%BD&" in str(caught.value.hint)


def test_the_downloads_have_the_time_that_is_left() -> None:
    told = Recording()
    following(told, [executed("a")], [picture("b")], timeout=1000.0)
    assert [math.ceil(seconds or 0) for seconds in told.timeouts] == [1000, 1000]


def test_a_sidecar_is_written_before_the_path_is_told() -> None:
    class Looking(Recording):
        def saved(self, path: Path) -> None:
            about = json.loads(Path(f"{path}.json").read_text())
            super().saved(Path(about["file"]))
            assert (about["server"], about["prompt_id"], about["values"]) == (SERVER.url, "p", {"seed": 7})
            assert about["output"]["filename"] == path.name

    told = Looking()
    following(told, [executed("a")], [picture("b")], sidecar=True)
    assert [name for kind, name in told.told if kind == "saved"] == ["a", "b"]


# What is shown


def shown(display: Display) -> None:
    display.show(JobQueued("p", 3))
    display.saved(Path("out/a.png"))
    display.text("a remark")
    display.finished(Result("p", PROMPT, (picture("a.png"),), seconds=1.5))


def test_plain_prints_paths_and_texts(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Plain())
    assert capsys.readouterr() == ("out/a.png\n", "a remark\n")
    shown(Plain(quiet=True))
    assert capsys.readouterr() == ("out/a.png\n", "")


def test_json_lines_hold_everything(capsys: pytest.CaptureFixture[str]) -> None:
    shown(JsonLines())
    out, err = capsys.readouterr()
    queued, saved, result = (json.loads(line) for line in out.splitlines())
    assert err == ""
    assert queued == {"schema_version": 1, "event": "queued", "prompt_id": "p", "position": 3}
    assert saved == {"schema_version": 1, "event": "saved", "path": "out/a.png"}
    assert result == {
        "schema_version": 1, "event": "result", "prompt_id": "p", "seconds": 1.5, "values": {"seed": 7},
        "outputs": [picture("a.png").as_dict()], "notes": [],
    }  # fmt: skip


def test_a_job_that_made_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = {
        "1": {"class_type": "EmptyImage", "inputs": {}, "_meta": {"title": "Empty"}},
        "2": {"class_type": "SilentSaver", "inputs": {"images": ["1", 0]}, "_meta": {"title": "Silent"}},
    }
    result = Result("p", Prompt(nodes), ())
    Plain().finished(result)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("note: the job succeeded, but the server names no file or text that it made. ")
    assert err.endswith("they are on the server: 'Silent' (node 2).\n")
    Plain(quiet=True).finished(result)
    assert capsys.readouterr() == ("", "")
    JsonLines().finished(result)
    assert len(json.loads(capsys.readouterr().out)["notes"]) == 1
    Plain().finished(Result("p", Prompt(nodes), (Output("text", "2", "Silent", "a.txt", text="written"),)))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("cached", "inputs", "said"),
    [
        (["1", "2"], {"seed": 123}, " (seed 123). For another result: --seed random."),
        (["1", "2"], {"noise_seed": 5, "seed": ["1", 0]}, " (seed 5). For another result: --seed random."),
        (["1", "2"], {}, "."),
        # A seed of a node that did not run.
        (["2"], {}, "."),
        (["1"], {"seed": 123}, None),
    ],
)
def test_a_picture_from_the_cache_says_so(
    cached: list[str], inputs: dict[str, Any], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = {"1": {"class_type": "A", "inputs": {}}, "2": {"class_type": "B", "inputs": inputs}}
    nodes["3"] = {"class_type": "C", "inputs": {"seed": 9}}
    Plain().finished(Result("p", Prompt(nodes), (picture("a.png"),), tuple(cached)))
    begin = "note: the server answered from its cache: nothing has changed since an earlier run"
    assert capsys.readouterr().err == ("" if said is None else f"{begin}{said}\n")


def test_the_notes_of_the_prompt_are_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLines().finished(Result("p", Prompt({}, notes=("lora is 'a/b.pt' on the server",)), (picture("a.png"),)))
    assert json.loads(capsys.readouterr().out)["notes"] == ["lora is 'a/b.pt' on the server"]


def drawn(monkeypatch: pytest.MonkeyPatch, *events: Event, prompt: Prompt = PROMPT) -> list[str]:
    """The live lines after these events, without their bars and times."""
    screen = on_screen(monkeypatch, "stderr")
    with live_display(prompt) as display:
        for event in events:
            display.show(event)
        # They are drawn again at the end.
        screen.seek(screen.truncate(0))
    lines = (re.sub("[━╸╺]", "", line).split() for line in screen.text.splitlines())
    return list(dict.fromkeys(" ".join(line[:-1]) for line in lines if line))


def running(value: float, most: float, state: str = "running") -> ProgressState:
    return ProgressState("p", {"1": NodeState(value, most, state, "1")})


@pytest.mark.parametrize(
    ("events", "lines"),
    [
        ([], ["waiting 0/2"]),
        ([JobQueued("p", 3)], ["waiting behind 3 0/2"]),
        ([JobQueued("p", 0)], ["waiting 0/2"]),
        ([JobQueued("p", None)], ["waiting 0/2"]),
        ([NodesCached("p", ("1",))], ["waiting 1/2"]),
        ([NodesCached("p", ("1", "2", "9"))], ["waiting 2/2"]),
        ([NodeStarted("p", "1", "1")], ["Canvas 0/2"]),
        ([NodeStarted("p", "1.0", "1"), NodeStarted("p", None, None)], ["Canvas 0/2"]),
        ([running(3, 20)], ["waiting 0/2", "steps 3/20"]),
        ([running(0, 2)], ["waiting 0/2", "steps 0/2"]),
        ([running(0, 1)], ["waiting 0/2"]),
        ([running(20, 20, "finished")], ["waiting 1/2"]),
        ([running(20, 20, "error")], ["waiting 0/2"]),
        ([running(3, 20), NodeStarted("p", "2", "2")], ["Result 0/2"]),
        ([running(1, 1, "finished"), NodesCached("p", ("2",))], ["waiting 2/2"]),
    ],
)
def test_the_live_lines(events: list[Event], lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, *events) == lines


def test_a_long_title_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"1": {"class_type": "[red]" + "X" * 100, "inputs": {}}}
    (line,) = drawn(monkeypatch, NodeStarted("p", "1", "1"), prompt=Prompt(nodes))
    title = line.removesuffix(" 0/1")
    assert (title[:6], len(title)) == ("[red]X", 60)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Screen]:
    def show(*streams: str) -> Screen:
        screen = on_screen(monkeypatch, *streams)
        with live_display(PROMPT) as display:
            shown(display)
        return screen

    return show


def test_paths_go_to_stdout_even_beside_live_lines(
    live: Callable[..., Screen], capsys: pytest.CaptureFixture[str]
) -> None:
    screen = live("stderr")
    assert screen.getvalue().endswith("\x1b[2K"), "the live lines are erased at the end"
    assert capsys.readouterr().out == "out/a.png\n"
    assert "a remark" in screen.text
    assert "out/a.png" not in screen.text


def test_paths_stand_above_the_live_lines_on_the_same_screen(live: Callable[..., Screen]) -> None:
    assert {"out/a.png", "a remark"} <= {line.strip() for line in live("stdout", "stderr").text.splitlines()}


def test_long_texts_are_cut_and_unsafe_ones_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch, "stderr")
    with live_display(PROMPT) as display:
        display.text("a\x9bb [bold]:smile:" + "x" * 30_000 + "\n" * 1000)
    assert "a\\x9bb [bold]:smile:" in screen.text
    assert screen.text.count("x") < 21_000
    assert screen.text.count("\n") < 500
