"""Which model files a workflow needs, and which files a published folder needs besides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kandiflux.errors import DownloadError
from kandiflux.models.model_files import ModelFile
from kandiflux.models.remote_files import RemoteFiles
from kandiflux.models.whole_folders import Repository, companions, repositories
from kandiflux.workflow.needed_models import embeddings_in, needed_models
from kandiflux.workflow.workflow import Workflow

from tests.support.conversion_cases import file, node, subgraph
from tests.support.file_server import FileServer, serving

LORA = {"name": "x.pt", "directory": "loras", "url": "https://a/x"}


def needed(*nodes: dict[str, Any], **more: Any) -> list[tuple[str, str | None, str]]:
    """(file, folder, title) of each."""
    found = needed_models(Workflow.from_data(file(list(nodes), **more)))
    return [(one.model.name, one.model.directory, one.title) for one in found]


def lora(*values: Any, models: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return node(1, "LoraLoader", list(values), properties={"models": models or []}, **more)


@pytest.mark.parametrize(
    ("value", "models", "expected"),
    [
        ("x.pt", [LORA], [("x.pt", "loras")]),
        ("sub\\x.pt", [LORA], [("sub/x.pt", "loras")]),
        ("x.pt", [{**LORA, "name": "sub/x.pt"}], [("x.pt", "loras")]),
        ("x.pt", [{**LORA, "directory": None}], [("x.pt", None)]),
        ("x.pt", [], [("x.pt", "loras")]),
        ("x.txt", [], []),
        ("None", [LORA], []),
        (5, [LORA], []),
        # A choice that is one file's very name does not mean another in a subfolder.
        ("sub/x.pt", [LORA, {**LORA, "name": "sub/x.pt"}], [("sub/x.pt", "loras")]),
        (
            "k",
            [{**LORA, "name": "k/unet/a.pt"}, {**LORA, "name": "k/vae/b.pt"}],
            [("k/unet/a.pt", "loras"), ("k/vae/b.pt", "loras")],
        ),
    ],
)
def test_the_files_of_a_choice(value: Any, models: list[Any], expected: list[tuple[str, str | None]]) -> None:
    assert needed(lora(value, models=models)) == [(*one, "LoraLoader") for one in expected]


def test_each_file_once_with_the_title_of_the_first_node() -> None:
    first, again = lora("x.pt", models=[LORA], title="First"), lora("x.pt", models=[LORA], title="Again")
    assert needed(first, {**again, "id": 2}) == [("x.pt", "loras", "First")]
    assert needed({**first, "mode": 2}, {**again, "id": 2}) == [("x.pt", "loras", "Again")]
    assert needed(lora("x.pt", "y.pt")) == [("x.pt", "loras", "LoraLoader"), ("y.pt", "loras", "LoraLoader")]


def test_values_stored_by_name_count_too() -> None:
    assert needed(node(1, "VAELoader", {"vae_name": "x.pt", "n": 5})) == [("x.pt", "vae", "VAELoader")]


def test_files_that_the_top_of_the_file_declares_are_needed_even_if_no_node_names_them() -> None:
    assert needed(lora("x.pt"), models=[LORA]) == [("x.pt", "loras", "LoraLoader")]
    assert needed(lora("None"), models=[LORA]) == [("x.pt", "loras", "the workflow")]


def test_a_choice_of_the_instance_around_a_loader() -> None:
    """A subgraph shows the widget, and the node inside declares the file."""
    definition = subgraph("s", [lora("old.pt", models=[LORA])], [], [], [])
    use = node(5, "s", ["sub/x.pt"], title="Outer")
    found = needed(use, definitions={"subgraphs": [definition]})
    assert found == [
        ("sub/x.pt", "loras", "Outer / LoraLoader"),
        ("old.pt", "loras", "Outer / LoraLoader"),
    ]


def test_an_embedding_of_a_prompt() -> None:
    about = {**LORA, "name": "Mine.pt", "directory": "embeddings"}
    words = node(1, "CLIPTextEncode", ["(embedding:Mine:1.2)"], properties={"models": [about]})
    assert needed(words) == [("Mine.pt", "embeddings", "CLIPTextEncode")]
    assert needed({**words, "widgets_values": ["embedding:Other"]}) == []
    assert needed({**words, "properties": {"models": [{**about, "directory": "loras"}]}}) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("embedding:a", ["a"]),
        ("(embedding:a:1.2), b", ["a"]),
        ("embedding:a.pt:0.5 embedding:a.pt, embedding:b.c", ["a", "b.c"]),
        ("embedding:sub/a.safetensors", ["sub/a"]),
        ("embedding:", []),
        ("embeddings:a", []),
        (5, []),
    ],
)
def test_the_embeddings_that_a_text_names(text: Any, names: list[str]) -> None:
    assert embeddings_in(text) == names


def test_a_prompt_in_the_api_format() -> None:
    nodes = {
        "1": {"class_type": "LoraLoader", "inputs": {"lora_name": "sub\\x.pt", "strength": 1, "model": ["2", 0]}},
        "2": {"class_type": "UNETLoader", "inputs": {"unet_name": "y.gguf"}, "_meta": {"title": "Mine"}},
        "3": {"class_type": "Nobody", "inputs": {"any": "z.bin", "other": "z.txt"}},
    }
    found = [(one.model.name, one.model.directory, one.title) for one in needed_models(Workflow.from_data(nodes))]
    assert found == [
        ("sub/x.pt", "loras", "LoraLoader"),
        ("y.gguf", "diffusion_models", "Mine"),
        ("z.bin", None, "Nobody"),
    ]


# Published folders


@pytest.mark.parametrize(
    ("name", "directory", "url", "expected"),
    [
        ("k/unet/w.pt", "kandinsky", "https://h/a/b/resolve/main/unet/w.pt?download=true",
         ("https://h/a/b/resolve/main", "https://h/api/models/a/b/tree/main?recursive=true", "k")),
        ("k/unet/w.pt", "loras", "https://h/a/b/resolve/main/unet/w.pt", None),
        ("k/other/w.pt", "kandinsky", "https://h/a/b/resolve/main/unet/w.pt", None),
        ("unet/w.pt", "kandinsky", "https://h/a/b/resolve/main/unet/w.pt", None),
        ("k/unet/w.pt", "kandinsky", "https://h/a/b/raw/main/unet/w.pt", None),
        ("k/unet/w.pt", "kandinsky", "http://[::1", None),
        ("k/unet/w.pt", "kandinsky", None, None),
    ],
)  # fmt: skip
def test_the_repositories_that_become_folders(name: str, directory: str, url: str | None, expected: Any) -> None:
    found = repositories([ModelFile(name, directory, url)])
    assert found == ({} if expected is None else {expected: "kandinsky"})


def test_each_repository_once_and_those_after_one_that_is_none() -> None:
    base = "https://h/a/{}/resolve/main"
    models = [
        ModelFile("k/unet/w.pt", "kandinsky", "http://[::1"),
        ModelFile("k/unet/w.pt", "loras", f"{base.format('k')}/unet/w.pt"),
        *(ModelFile(f"{name}/{part}/w.pt", "kandinsky", f"{base.format(name)}/{part}/w.pt")
          for name in ("k", "l") for part in ("unet", "movq")),
    ]  # fmt: skip
    assert [(address, name) for address, _, name in repositories(models)] == [
        ("https://h/a/k/resolve/main", "k"), ("https://h/a/l/resolve/main", "l"),
    ]  # fmt: skip


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


def listed(server: FileServer, entries: Any) -> list[ModelFile]:
    repository: Repository = ("https://h/base", server.add("/list", json.dumps(entries).encode()), "k")
    return companions(repository, "kandinsky", RemoteFiles())


def entry(path: Any, size: Any = 5, kind: str = "file", **more: Any) -> dict[str, Any]:
    return {"type": kind, "path": path, "size": size, **more}


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (entry("a.json"), True),
        (entry("a/b.txt"), True),
        (entry("spiece.model"), True),
        (entry("a.md"), False),
        (entry("w.bin"), False),
        (entry("a.JSON"), False),
        (entry("a.json", kind="directory"), False),
        (entry(5), False),
        (entry("a.json", 0), False),
        (entry("a.json", "5"), False),
        (entry("a.json", 1), True),
        (entry("a.json", 64 << 20), True),
        (entry("a.json", (64 << 20) + 1), False),
        (entry("../a.json"), False),
        (5, False),
    ],
)
def test_the_small_files_of_a_repository(server: FileServer, one: Any, wanted: bool) -> None:
    assert len(listed(server, [one])) == wanted


def test_a_small_file_with_its_address_and_hash(server: FileServer) -> None:
    found = listed(
        server, [entry("a b/é.json", 7), entry("m.model", 8, lfs={"oid": "AB" * 32}), entry("n.txt", 9, lfs={"oid": 5})]
    )
    assert found == [
        ModelFile("k/a b/é.json", "kandinsky", "https://h/base/a%20b/%C3%A9.json", size=7),
        ModelFile("k/m.model", "kandinsky", "https://h/base/m.model", "ab" * 32, size=8),
        ModelFile("k/n.txt", "kandinsky", "https://h/base/n.txt", size=9),
    ]


def test_at_most_a_thousand_small_files(server: FileServer) -> None:
    assert len(listed(server, [entry(f"{number}.json") for number in range(1001)])) == 1000


def test_a_repository_that_lists_nothing(server: FileServer) -> None:
    assert listed(server, []) == []
    with pytest.raises(DownloadError, match="is not a list of the files of k") as caught:
        listed(server, {"error": "x" * 200})
    assert len(str(caught.value.got)) == 100
