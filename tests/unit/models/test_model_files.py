"""What workflows say of model files, what is believed of it, and which names mean the same file."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kandiflux.models.file_hashes import digest_of, hash_kind, why_unverifiable
from kandiflux.models.known_models import folder_of_class, folder_of_input, known_model
from kandiflux.models.model_files import (
    ModelFile,
    declared_models,
    is_model_name,
    is_pickle,
    same_file,
    stands_for,
    why_misplaced,
    why_unsafe,
)
from kandiflux.models.web_address import parse_address, shortened, shown_address


def declared(**about: Any) -> ModelFile:
    (model,) = declared_models([{"name": "x.pt", **about}])
    return model


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, {}),
        ({"directory": "loras", "size": 5}, {"directory": "loras", "size": 5}),
        ({"hash": "AB" * 32}, {"hash": "ab" * 32}),
        ({"hash": "AB", "hash_type": "SHA-512"}, {"hash": "ab", "hash_type": "sha512"}),
        ({"hash": ""}, {}),
        ({"size": 0}, {}),
        ({"size": -1}, {}),
        ({"size": 1}, {"size": 1}),
        ({"size": 2**62 - 1}, {"size": 2**62 - 1}),
        ({"size": 2**62}, {}),
        ({"size": True}, {}),
        ({"size": 5.0}, {}),
        ({"url": "https://a/b"}, {"url": "https://a/b"}),
        ({"url": "https://user:pass@a/b@c"}, {"url": "https://a/b@c"}),
        ({"url": "https://a/b//c@d"}, {"url": "https://a/b//c@d"}),
        ({"url": "https://a/b?c=http://d@e"}, {"url": "https://a/b?c=http://d@e"}),
        ({"url": "https://huggingface.co/a/b/blob/main/blob/x"}, {"url": "https://huggingface.co/a/b/resolve/main/blob/x"}),
        ({"url": "https://other.co/a/b/blob/main/x"}, {"url": "https://other.co/a/b/blob/main/x"}),
        ({"url": "https://huggingface.co/a/b/resolve/main/x?a=/blob/"},
         {"url": "https://huggingface.co/a/b/resolve/main/x?a=/blob/"}),
        ({"url": "http://[::1"}, {"url": "http://[::1"}),
    ],
)  # fmt: skip
def test_what_a_workflow_says_of_a_file(about: dict[str, Any], expected: dict[str, Any]) -> None:
    assert declared(**about) == ModelFile("x.pt", **expected)


def test_entries_without_a_name_are_left_out() -> None:
    assert [model.name for model in declared_models([{"url": "https://a"}, {"name": 5}, {"name": "a"}, 5, None])] == [
        "a"
    ]


FULL = ModelFile("x.pt", "loras", "https://a/b", "ab", "md5", 5)


def test_what_one_source_does_not_know_is_filled_from_another() -> None:
    bare, other = ModelFile("x.pt"), ModelFile("y.pt", "vae", "https://c/d", "cd", "sha1", 6)
    assert bare.filled_from(None) == bare
    assert bare.filled_from(FULL) == FULL
    assert FULL.filled_from(other) == FULL
    assert ModelFile("x.pt", size=0).filled_from(FULL).size == 0
    # A hash goes with its kind.
    assert (ModelFile("x.pt", hash="cd").filled_from(FULL).hash_type, bare.filled_from(FULL).hash_type) == (
        "sha256",
        "md5",
    )


def test_a_file_as_json() -> None:
    assert ModelFile("x.pt").as_dict() == {"name": "x.pt"}
    assert FULL.as_dict() == {
        "name": "x.pt", "directory": "loras", "url": "https://a/b", "hash": "ab", "hash_type": "md5", "size": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "weights", "pickle"),
    [("a.safetensors", True, False), ("a.sft", True, False), ("a.gguf", True, False), ("a.onnx", True, False),
     ("a.PT2", True, False), ("sub/a.CKPT", True, True), ("a.pt", True, True), ("a.pth", True, True),
     ("a.bin", True, True), ("a.pkl", True, True), ("a.json", False, False), ("pt", False, False),
     ("a.pt/b", False, False), ("", False, False)],
)  # fmt: skip
def test_files_of_weights_by_their_suffix(name: str, weights: bool, pickle: bool) -> None:
    assert (is_model_name(name), is_pickle(name)) == (weights, pickle)
    assert not is_model_name(5)


@pytest.mark.parametrize(
    ("value", "found"),
    [("a/x.pt", "a\\x.pt"), ("a\\x.pt", "a\\x.pt"), ("b/x.pt", "b/x.pt"), ("c/y.pt", "y.pt"), ("z.pt", None),
     ("", None),
     # Two files have this name.
     ("x.pt", None), ("c/x.pt", None),
     # Files of many models have these names, and choices that are not files have no folder.
     ("flux/diffusion_pytorch_model.fp16.safetensors", None), ("model-00001-of-00002.bin", None), ("b/euler", None),
     ("vae-ft-mse.pt", "sd/vae-ft-mse.pt")],
)  # fmt: skip
def test_the_same_file_on_another_system_or_in_another_folder(value: str, found: str | None) -> None:
    shared = ["sd/diffusion_pytorch_model.fp16.safetensors", "k/model-00001-of-00002.bin"]
    names = [5, "y.pt", "a\\x.pt", "b/x.pt", "a/euler", "sd/vae-ft-mse.pt", *shared]
    assert same_file(value, names) == found


@pytest.mark.parametrize(
    ("value", "name", "does"),
    [("x.pt", "x.pt", True), ("sub/x.pt", "x.pt", True), ("sub\\x.pt", "x.pt", True), ("sub\\x.pt", "sub/x.pt", True),
     ("k", "k/unet/x.pt", True), ("k", "k2/x.pt", False), ("y.pt", "x.pt", False), ("x.pt", "sub/x.pt", False),
     ("", "x.pt", False), ("", "/x", False)],
)  # fmt: skip
def test_what_a_choice_stands_for(value: str, name: str, does: bool) -> None:
    assert stands_for(value, name) is does


@pytest.mark.parametrize(
    ("name", "directory", "said"),
    [
        ("x.pt", "loras", None),
        ("x.pt", None, "does not name its model folder"),
        ("a/b/c/d/e/f/g/x.pt", "loras", None),
        ("a/b/c/d/e/f/g/h/x.pt", "loras", "too long"),
        ("n" * 197 + ".pt", "loras", None),
        ("n" * 198 + ".pt", "loras", "too long"),
        ("é" * 98 + ".pt", "loras", None),
        ("é" * 99 + ".pt", "loras", "too long"),
        ("x.yaml", "configs", None),
        ("x.YML", "configs", None),
        ("x.txt", "kandinsky", None),
        ("x.txt", "loras", "does not have the suffix of a weight file (.bin, .ckpt,"),
        ("x.py", "kandinsky", "does not have the suffix of a weight file"),
        ("null.pt", "loras", None),
        ("com.pt", "loras", None),
        ("con .pt", "loras", "is not a plain file name"),
        ("x.pt", "a", None),
        ("x.pt", "a" * 100, None),
        ("x.pt", "a" * 101, "is not the name of a model folder"),
        ("x.pt", "a_b-c.d", None),
        ("x.pt", "a.", "is not the name of a model folder"),
        ("x.pt", "Datasets", "is not the name of a model folder"),
        ("x.pt", "aux", "is not the name of a model folder"),
    ],
)
def test_where_a_file_may_be_written(name: str, directory: str | None, said: str | None) -> None:
    found = why_misplaced(ModelFile(name, directory))
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"url": "https://a/b"}, None),
        ({}, None),
        ({"url": "ftp://a/b"}, "'ftp://a/b' is not a valid http or https URL"),
        ({"url": "https://a/b", "hash": "ab" * 32}, None),
        ({"hash": "ab"}, "'ab' is not a sha256 hash, which has 64 hexadecimal digits"),
    ],
)
def test_what_is_wrong_with_a_file(about: dict[str, Any], said: str | None) -> None:
    assert why_unsafe(ModelFile("x.pt", "loras", **about)) == said
    assert "model folder" in str(why_unsafe(ModelFile("x.pt", None, **about)))


# Hashes


@pytest.mark.parametrize(
    ("text", "kind"),
    [("SHA-256", "sha256"), ("sha_512", "sha512"), ("SHA3-256", "sha3_256"), ("Blake2b", "blake2b"),
     ("AutoV2", "autov2"), ("BLAKE3", "blake3"), ("CRC-32", "crc-32"), ("shake_128", "shake_128")],
)  # fmt: skip
def test_kinds_of_hashes(text: str, kind: str) -> None:
    assert hash_kind(text) == kind


@pytest.mark.parametrize(
    ("kind", "digits"), [("sha256", 64), ("md5", 32), ("sha1", 40), ("autov2", 10), ("sha512", 128), ("sha3_256", 64)]
)
def test_the_digits_of_a_hash(kind: str, digits: int) -> None:
    assert why_unverifiable(kind, "a" * digits) is None
    for wrong in ("a" * (digits - 1), "a" * (digits + 1), "g" * digits, ""):
        assert f"which has {digits} hexadecimal digits" in str(why_unverifiable(kind, wrong))


def test_a_large_file_is_read_in_pieces(tmp_path: Any) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"a" * (5 << 20))
    seen: list[int] = []
    assert digest_of(file, "autov2", seen.append) == digest_of(file, "sha256")[:10]
    assert seen == [4 << 20, 5 << 20]


def test_blake3_is_computed_by_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", SimpleNamespace(blake3=hashlib.blake2s))
    (tmp_path / "x").write_bytes(b"abc")
    assert digest_of(tmp_path / "x", "blake3") == hashlib.blake2s(b"abc").hexdigest()
    assert why_unverifiable("blake3", "a" * 64) is None
    assert "has 64 hexadecimal digits" in str(why_unverifiable("blake3", "a" * 10))
    monkeypatch.setitem(sys.modules, "blake3", None)
    assert "needs the package blake3" in str(why_unverifiable("blake3", "a" * 64))


# What is known


@pytest.mark.parametrize(
    ("name", "directory", "known"),
    [
        ("ae.safetensors", None, True),
        ("ae.safetensors", "vae", True),
        ("flux\\ae.safetensors", "vae", True),
        ("flux/ae.safetensors", "", True),
        ("ae.safetensors", "loras", False),
        ("nobody.safetensors", None, False),
        ("kandinsky-2-2-movq.safetensors", "vae", True),
    ],
)
def test_files_that_are_widely_known(name: str, directory: str | None, known: bool) -> None:
    found = known_model(name, directory)
    assert (found is not None) is known
    assert found is None or name.endswith(found.name)


@pytest.mark.parametrize(
    ("name", "directory", "size"),
    [
        ("flux1-dev.safetensors", "diffusion_models", 23802932552),
        ("flux1-dev-fp8.safetensors", "checkpoints", 17246524772),
        ("flux1-schnell.safetensors", "diffusion_models", 23782506688),
        ("flux1-schnell-fp8.safetensors", "checkpoints", None),
        ("clip_l.safetensors", "text_encoders", 246144152),
        ("t5xxl_fp16.safetensors", "text_encoders", 9787841024),
        ("t5xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders", 5157348688),
        ("ae.safetensors", "vae", 335304388),
        ("flux1-fill-dev.safetensors", "diffusion_models", None),
        ("flux1-canny-dev-lora.safetensors", "loras", None),
        ("flux1-redux-dev.safetensors", "style_models", None),
        ("sigclip_vision_patch14_384.safetensors", "clip_vision", None),
        ("flux1-dev-kontext_fp8_scaled.safetensors", "diffusion_models", 11904640136),
        ("v1-5-pruned-emaonly-fp16.safetensors", "checkpoints", None),
    ],
)
def test_what_is_known_of_a_file(name: str, directory: str, size: int | None) -> None:
    """A wrong size would refuse the right file."""
    found = known_model(name)
    assert found is not None
    assert (found.directory, found.size) == (directory, size)
    assert why_unsafe(found) is None
    assert (found.url or "").startswith("https://huggingface.co/")
    assert (found.url or "").endswith(f"/{name}")
    assert why_unverifiable("sha256", found.hash or "") is None


@pytest.mark.parametrize(
    ("part", "size"),
    [
        ("prior", 4104940968),
        ("text-encoder", 2778702976),
        ("image-encoder", 3689912664),
        ("decoder", 5012309584),
        ("decoder-inpaint", 5012378704),
        ("controlnet-depth", 5013798992),
        ("movq", 271380364),
    ],
)
def test_the_sizes_of_kandinskys_files(part: str, size: int) -> None:
    name = f"kandinsky-2-2-{part}.safetensors"
    assert known_model(name) == ModelFile(name, size=size)


@pytest.mark.parametrize(
    ("kind", "name", "folder"),
    [
        ("CheckpointLoaderSimple", "ckpt_name", "checkpoints"), ("Anything", "unet_name", "diffusion_models"),
        ("Anything", "vae_name", "vae"), ("Anything", "lora_name", "loras"),
        ("Anything", "control_net_name", "controlnet"),
        ("CLIPLoader", "clip_name", "text_encoders"), ("DualCLIPLoader", "clip_name2", "text_encoders"),
        ("CLIPVisionLoader", "clip_name", "clip_vision"), ("UpscaleModelLoader", "model_name", "upscale_models"),
        ("Anything", "model_name", None), ("Anything", "clip_names", None), ("Anything", "2", None),
    ],
)  # fmt: skip
def test_the_folder_of_an_input(kind: str, name: str, folder: str | None) -> None:
    assert folder_of_input(kind, name) == folder


def test_the_folder_of_a_loader() -> None:
    assert [folder_of_class(kind) for kind in ("VAELoader", "DualCLIPLoader", "Nobody")] == [
        "vae",
        "text_encoders",
        None,
    ]


# Addresses


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("https://a.example/b?c=d", "https://a.example/b?c=d"),
        ("HTTP://A.example/B", "http://a.example/B"),
        ("https://user:pass@a/b", "https://a/b"),
        ("https://user@a/b", "https://a/b"),
        ("ftp://a/b", None),
        ("https:///b", None),
        ("a/b", None),
        ("http://a:99999/", None),
    ],
)
def test_addresses_are_checked_and_lose_their_credentials(url: str, parsed: str | None) -> None:
    found = parse_address(url)
    assert (found and found.url) == parsed


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@a/b", "https://a/b"),
        ("https://a/b?x=1&token=t&y=2", "https://a/b?x=1&token=…&y=2"),
        ("https://a/b?API_KEY=t#end", "https://a/b?API_KEY=…#end"),
        ("https://a/b?my-secret-1=t&password=p&sig=s", "https://a/b?my-secret-1=…&password=…&sig=…"),
        ("https://a/b?X-Amz-Credential=t&X-Amz-Signature=s", "https://a/b?X-Amz-Credential=…&X-Amz-Signature=…"),
        ("https://a/token=b?c=d", "https://a/token=b?c=d"),
        ("https://a/b/" + "c" * 188, "https://a/b/" + "c" * 188),
        ("https://a/b/" + "c" * 189, "https://a/b/" + "c" * 187 + "…"),
    ],
)
def test_addresses_in_messages_have_no_secrets_and_are_not_too_long(url: str, shown: str) -> None:
    assert shown_address(url) == shown
    assert shortened(url, 5) == "http…"
