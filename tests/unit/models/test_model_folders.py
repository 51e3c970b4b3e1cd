"""Where a ComfyUI on this machine has its model files, and where new ones may go."""

from __future__ import annotations

from pathlib import Path

import pytest
from kandiflux.errors import UsageError
from kandiflux.models.model_files import ModelFile
from kandiflux.models.model_folders import ModelFolders


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    (tmp_path / "ComfyUI" / "models" / "loras").mkdir(parents=True)
    return tmp_path / "ComfyUI"


def with_extra(comfyui: Path, text: str) -> ModelFolders:
    pytest.importorskip("yaml")
    (comfyui / "extra_model_paths.yaml").write_text(text)
    return ModelFolders(comfyui)


def test_a_comfyui_is_known_by_its_models_or_by_its_folder_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a ComfyUI folder") as caught:
        ModelFolders(tmp_path / "gone")
    assert caught.value.got == "no such folder"
    with pytest.raises(UsageError) as caught:
        ModelFolders(tmp_path)
    assert caught.value.got == "a folder without models"
    (tmp_path / "folder_paths.py").touch()
    folders = ModelFolders(tmp_path)
    assert folders.find(ModelFile("x.pt")) is None
    assert folders.why_refused(ModelFile("x.pt", "mine")) is not None
    assert folders.why_refused(ModelFile("x.pt", "loras")) is None


@pytest.mark.parametrize(
    ("kind", "names"),
    [("loras", ["loras"]), ("unet", ["diffusion_models", "unet"]), ("diffusion_models", ["diffusion_models", "unet"]),
     ("clip", ["text_encoders", "clip"]), ("controlnet", ["controlnet", "t2i_adapter"])],
)  # fmt: skip
def test_the_folders_of_a_kind(comfyui: Path, kind: str, names: list[str]) -> None:
    assert ModelFolders(comfyui).places(kind) == [comfyui / "models" / name for name in names]


def test_folders_of_the_users_before_and_after_comfyuis_own(comfyui: Path, tmp_path: Path) -> None:
    folders = with_extra(comfyui, (
        f"one:\n  base_path: {tmp_path}/one\n  loras: a\n  clip: |\n    te\n\n    te2\n  number: 5\n"
        f"two:\n  is_default: true\n  loras: |\n    first\n    {tmp_path}/second\nthree:\n"
    ))  # fmt: skip
    own = comfyui / "models"
    assert folders.places("loras") == [comfyui / "first", tmp_path / "second", own / "loras", tmp_path / "one" / "a"]
    assert folders.places("clip") == [own / "text_encoders", own / "clip", tmp_path / "one/te", tmp_path / "one/te2"]
    assert folders.target(ModelFile("sub\\x.pt", "loras")) == comfyui / "first" / "sub" / "x.pt"
    assert folders.target(ModelFile("x.pt", "clip")) == own / "text_encoders" / "x.pt"


def test_more_files_of_paths_are_relative_to_where_they_lie(comfyui: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    more = tmp_path / "more.yaml"
    more.write_text("x:\n  loras: mine\n")
    assert ModelFolders(comfyui, [more]).places("loras")[-1] == tmp_path / "mine"
    more.write_text("x:\n  base_path: $KANDIFLUX_TEST_BASE/y\n  loras: mine\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KANDIFLUX_TEST_BASE", str(tmp_path / "base"))
        assert ModelFolders(comfyui, [more]).places("loras")[-1] == tmp_path / "base" / "y" / "mine"


@pytest.mark.parametrize("text", ["- a\n", "5\n", "x: 5\n", "x: [1]\n", "{\n", "x: \ud7ff\x00"])
def test_a_file_of_paths_that_cannot_be_read(comfyui: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"extra_model_paths\.yaml cannot be read"):
        with_extra(comfyui, text)


def test_an_empty_file_of_paths_says_nothing(comfyui: Path) -> None:
    assert with_extra(comfyui, "# nothing\n").places("loras") == [comfyui / "models" / "loras"]


def test_what_says_nothing_in_a_file_of_paths_does_not_hide_what_comes_after_it(comfyui: Path) -> None:
    folders = with_extra(
        comfyui, "empty:\none:\n  loras: 5\n  custom_nodes: code\n  vae: a\n  is_default: false\n  clip: b\n"
    )
    found = [folders.places(kind)[-1].relative_to(comfyui).as_posix() for kind in ("loras", "vae", "text_encoders")]
    assert found == ["models/loras", "a", "b"]


def test_a_file_is_found_in_each_of_the_folders_of_its_kind(comfyui: Path, tmp_path: Path) -> None:
    folders = with_extra(comfyui, f"x:\n  loras: {tmp_path}/more\n  mine: {tmp_path}/mine\n")
    assert folders.find(ModelFile("x.pt", "loras")) is None
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.pt").touch()
    assert folders.find(ModelFile("x.pt", "loras")) == tmp_path / "more" / "x.pt"
    assert folders.find(ModelFile("x.pt")) == tmp_path / "more" / "x.pt"
    assert folders.find(ModelFile("x.pt", "vae")) is None
    (comfyui / "models" / "loras" / "x.pt").touch()
    assert folders.find(ModelFile("x.pt", "loras")) == comfyui / "models" / "loras" / "x.pt"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "y.pt").touch()
    assert folders.find(ModelFile("y.pt")) == tmp_path / "mine" / "y.pt"
    (comfyui / "models" / "loras" / "sub").mkdir()
    (comfyui / "models" / "loras" / "sub" / "z.pt").touch()
    assert folders.find(ModelFile("sub\\z.pt", "loras")) == comfyui / "models" / "loras" / "sub" / "z.pt"
    assert folders.find(ModelFile("../loras/x.pt", "loras")) is None


def test_an_embedding_is_found_by_its_name_without_suffix(comfyui: Path) -> None:
    folder = comfyui / "models" / "embeddings" / "sub"
    folder.mkdir(parents=True)
    for name in ("a.txt", "a.safetensors", "ab.pt", "a.b.pt"):
        (folder / name).touch()
    find = ModelFolders(comfyui).find_stem
    assert find("embeddings", "sub/a") == folder / "a.safetensors"
    assert find("embeddings", "sub/a.b") == folder / "a.b.pt"
    assert find("embeddings", "sub/b") is find("embeddings", "a") is find("embeddings", "gone/a") is None


@pytest.mark.parametrize(
    ("name", "directory", "said"),
    [
        ("x.pt", "loras", None),
        ("sub/x.pt", "loras", None),
        ("x.pt", "vae", None),
        ("x.pt", None, "does not name its model folder"),
        ("../x.pt", "loras", "not a plain file name"),
        ("x.pt", "mine", "'mine' is not a known or existing model folder"),
        ("x.pt", "made", None),
        ("x.pt", "linked", "leads outside the model folder through a symbolic link"),
        ("x.pt", "gligen", "is in a folder of custom nodes"),
        ("out/x.pt", "loras", "leads outside the model folder through a symbolic link"),
        ("x.pt", "disk", "leads outside the model folder through a symbolic link"),
        ("x.pt", "style_models", None),
    ],
)
def test_where_a_new_file_may_go(comfyui: Path, tmp_path: Path, name: str, directory: str | None, said: str) -> None:
    models = comfyui / "models"
    for folder in (models / "made", comfyui / "custom_nodes" / "pack", tmp_path / "disk"):
        folder.mkdir(parents=True)
    (models / "linked").symlink_to(comfyui / "custom_nodes")
    (models / "gligen").symlink_to(comfyui / "custom_nodes" / "pack")
    (models / "disk").symlink_to(tmp_path / "disk")
    (models / "style_models").symlink_to(tmp_path / "disk")  # a known kind may lie on another disk
    (models / "loras" / "out").symlink_to(tmp_path / "disk")
    found = ModelFolders(comfyui).why_refused(ModelFile(name, directory))
    assert found is None if said is None else said in str(found)


def test_folders_of_custom_nodes_that_the_user_names_are_refused_too(comfyui: Path, tmp_path: Path) -> None:
    folders = with_extra(
        comfyui, f"x:\n  is_default: true\n  custom_nodes: {tmp_path}/code\n  vae: {tmp_path}/code/vae\n"
    )
    assert "custom nodes" in str(folders.why_refused(ModelFile("x.pt", "vae")))
    assert folders.places("custom_nodes") == [comfyui / "models" / "custom_nodes"]
