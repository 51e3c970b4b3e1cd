"""Image embeds: mixing, interpolating, saving, loading, and being refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nodes import embeds as module
from nodes.embeds import ImageEmbeds, KandinskyEmbeddingMix, load_embeds, require_width, save_embeds
from nodes.sampling.mixing import interpolate, mix, slerp

A, DIFFERENCE = (torch.randn(1, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
B = A + DIFFERENCE  # at less than a right angle, as image embeds are


def test_sum_is_the_plain_weighted_sum() -> None:
    assert torch.equal(mix([A, B], [0.3, 2.0]), 0.3 * A + 2.0 * B)


def test_normalised_ignores_the_scale_of_weights_and_keeps_length() -> None:
    got = mix([A, B], [1.0, 3.0], "normalised")
    torch.testing.assert_close(got, mix([A, B], [0.25, 0.75], "normalised"))
    torch.testing.assert_close(got.norm(), 0.25 * A.norm() + 0.75 * B.norm())
    assert mix([A, B], [0.25, 0.75]).norm() < got.norm()


def test_slerp_goes_along_the_arc() -> None:
    x, y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    torch.testing.assert_close(slerp(x, y, 0.5), torch.tensor([[1.0, 1.0]]) / 2**0.5 * 3)
    torch.testing.assert_close(slerp(x, y, 0.0), x)
    torch.testing.assert_close(slerp(x, y, 1.0), y)
    torch.testing.assert_close(slerp(x, 2 * x, 0.5), 1.5 * x)
    torch.testing.assert_close(mix([x, y], [0.0, 1.0], "slerp"), y)


@pytest.mark.parametrize("method", ["sum", "normalised", "slerp"])
def test_interpolation_starts_and_ends_at_its_ends(method: str) -> None:
    strip = interpolate(A, B, 5, method)
    assert strip.shape == (5, 8)
    torch.testing.assert_close(strip[:1], A)
    torch.testing.assert_close(strip[-1:], B)
    steps = (strip[1:] - strip[:-1]).norm(dim=-1)
    assert steps.max() < 2 * steps.min()


def test_a_batch_mixes_with_a_single() -> None:
    batch = torch.randn(3, 8)
    torch.testing.assert_close(mix([batch, A], [0.5, 0.5]), 0.5 * batch + 0.5 * A)


@pytest.mark.parametrize(
    ("parts", "weights", "method", "message"),
    [
        ([A, torch.randn(1, 4)], [1, 1], "sum", "different Kandinsky versions"),
        ([torch.randn(2, 8), torch.randn(3, 8)], [1, 1], "sum", r"batches of one size, or of 1, got \[2, 3\]"),
        ([A, B], [1], "sum", "as many weights as embeds"),
        ([A, B], [1, -1], "slerp", "weights of 0 or more"),
        ([A, B], [0, 0], "normalised", "not all 0"),
        ([A, B], [1, 1], "lerp", "Expected a method"),
    ],
)
def test_what_does_not_mix_says_why(parts: list[torch.Tensor], weights: list[float], method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mix(parts, weights, method)


def test_mix_node_leaves_out_what_is_not_connected() -> None:
    (blend,) = KandinskyEmbeddingMix().run(
        "sum", embeds_1=ImageEmbeds(A, {}), weight_1=0.5, weight_2=9.0, embeds_3=ImageEmbeds(B, {}), weight_3=0.25
    )
    assert torch.equal(blend.values, 0.5 * A + 0.25 * B)


def test_embeds_of_another_version_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"expected image embeds 1280 wide \(Kandinsky 2.2\), got 768 wide \(Kandinsky 2.1\)"
    ):
        require_width(ImageEmbeds(torch.zeros(1, 768), {}), 1280, "The decoder d")


def test_nan_is_refused_at_once() -> None:
    for wrong in ("nan", "inf", "-inf"):
        values = torch.zeros(3, 8)
        values[1, 5] = float(wrong)  # one of many
        with pytest.raises(ValueError, match="dtype fp32 or bf16"):
            ImageEmbeds(values, {})


def test_embeds_have_a_batch_and_a_width() -> None:
    for shape in ((8,), (1, 2, 8)):
        with pytest.raises(ValueError, match=r"Expected image embeds of shape \[batch, width\]"):
            ImageEmbeds(torch.zeros(shape), {})


def test_one_embed_serves_every_row() -> None:
    assert torch.equal(ImageEmbeds(A, {}).rows(3), A.repeat(3, 1))
    both = ImageEmbeds(torch.cat([A, B]), {})
    assert torch.equal(both.rows(2), both.values)
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"Expected 1 or {count} image embeds, got a batch of 2"):
            both.rows(count)


def test_save_and_load(tmp_path: Path) -> None:
    positive = ImageEmbeds(A, {"prompt": "красный круг"})
    first = save_embeds(tmp_path, "mine", positive, ImageEmbeds(B, {}))
    second = save_embeds(tmp_path, "mine", positive, ImageEmbeds(A, {}))
    assert (first.name, second.name) == ("mine_00001.safetensors", "mine_00002.safetensors")
    got, negative = load_embeds(first)
    assert torch.equal(got.values, A)
    assert got.origin == {"prompt": "красный круг"}
    assert torch.equal(negative.values, B)
    assert torch.equal(load_embeds(second)[1].values, A)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_a_file_without_negative_embeds_is_an_error_only_for_who_uses_them(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file({"image_embeds": A}, path, {"format": module.FORMAT})
    positive, negative = load_embeds(path)
    assert torch.equal(positive.values, A)
    assert (str(negative), negative == negative, len({negative})) == ("MissingEmbeds('old.safetensors')", True, 1)
    for use in (lambda: negative.values, lambda: negative.rows(2), lambda: negative.width):
        with pytest.raises(ValueError, match=r"old\.safetensors was saved without negative image embeds\. Use"):
            use()


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "a/b", "", "..", "c:\\x"])
def test_saving_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    path = save_embeds(tmp_path / "out", name, ImageEmbeds(A, {}), ImageEmbeds(B, {}))
    assert path.parent == tmp_path / "out"
    assert [file.parent for file in tmp_path.rglob("*.safetensors")] == [tmp_path / "out"]


def test_loading_something_else_says_so(tmp_path: Path) -> None:
    save_file({"weight": A}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="expected image embeds saved by Kandinsky Save Embeds"):
        load_embeds(tmp_path / "other.safetensors")
    whole = save_embeds(tmp_path, "cut", ImageEmbeds(A, {}), ImageEmbeds(B, {}))
    whole.write_bytes(whole.read_bytes()[:-4])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load_embeds(whole)


def test_load_node_lists_and_names_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = module.host.Host()
    host.add_model_folder("kandinsky_embeds", tmp_path)
    monkeypatch.setattr(module.host, "current", lambda: host)
    path = save_embeds(tmp_path, "mine", ImageEmbeds(A, {}), ImageEmbeds(B, {}))
    node = module.KandinskyLoadEmbeds()
    assert node.INPUT_TYPES()["required"]["file"][0] == [path.name]
    assert torch.equal(node.run(path.name)[0].values, A)
    with pytest.raises(FileNotFoundError, match=r"Available: mine_00001\.safetensors"):
        node.run("../mine_00001.safetensors")


def test_a_file_in_two_folders_is_the_first_folder_s_and_a_change_of_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = module.host.Host()
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second, tmp_path / "not there"):
        host.add_model_folder("kandinsky_embeds", folder)
    monkeypatch.setattr(module.host, "current", lambda: host)
    save_embeds(second, "mine", ImageEmbeds(B, {}), ImageEmbeds(A, {}))
    node, name = module.KandinskyLoadEmbeds(), "mine_00001.safetensors"
    before = node.IS_CHANGED(name)
    assert torch.equal(node.run(name)[0].values, B)
    save_embeds(first, "mine", ImageEmbeds(torch.cat([A, A]), {}), ImageEmbeds(B, {}))
    assert torch.equal(node.run(name)[0].values, torch.cat([A, A]))
    assert torch.equal(node.run(name)[1].values, B)
    assert before != node.IS_CHANGED(name) == node.IS_CHANGED(name)
    assert node.IS_CHANGED("other.safetensors") == ""
