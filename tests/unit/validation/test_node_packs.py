"""Which pack has a node class that a server lacks, and how the missing classes are grouped."""

from __future__ import annotations

import re

import pytest
from kandiflux.util.paths import workflows_folder
from kandiflux.workflow.validation.findings import Finding, Pack
from kandiflux.workflow.validation.node_packs import (
    CORE,
    find_packs,
    group_by_pack,
    pack_source,
    same_without_pack,
)

IMPACT = "ltdrdata/ComfyUI-Impact-Pack"


def name_of(class_type: str) -> str | None:
    found = find_packs([class_type], {})
    return found[class_type].repository or found[class_type].name if found else None


@pytest.mark.parametrize(
    ("class_type", "repository"),
    [
        ("IPAdapterAdvanced", "cubiq/ComfyUI_IPAdapter_plus"),
        ("UnetLoaderGGUF", "city96/ComfyUI-GGUF"),
        ("CannyEdgePreprocessor", "Fannovel16/comfyui_controlnet_aux"),
        ("KSampler (Efficient)", "jags111/efficiency-nodes-comfyui"),
        ("ShowText|pysssss", "pythongosssss/ComfyUI-Custom-Scripts"),
        ("VHS_VideoCombine", "Kosinkadink/ComfyUI-VideoHelperSuite"),
        ("StyleModelApplySimple", "kaibioinfo/ComfyUI_AdvancedRefluxControl"),
        ("comfy-kandinsky22-movq-decoder", "vsevolod-oparin/comfyui-kandinsky22"),
        ("KSampler", CORE),
        # These are in no list: packs that make their classes when they start.
        ("Power Lora Loader (rgthree)", "rgthree/rgthree-comfy"),
        ("NunchakuFluxDiTLoader", "nunchaku-tech/ComfyUI-nunchaku"),
        ("easy not listed yet", "yolain/ComfyUI-Easy-Use"),
        ("KandinskyModelLoader", "kandiflux/kandiflux"),
        ("KandinskyVAELoader", "kandiflux/kandiflux"),
        ("Kandinsky3TextEncode", "kandiflux/kandiflux"),
        ("KandifluxReduxMix", "kandiflux/kandiflux"),
        ("KandinskyV5_Sampler", "Ada123-a/ComfyUI-Kandinsky"),
        ("KandinskyHQVAEDecode", "Ada123-a/ComfyUI-Kandinsky"),
        ("Nobody Knows This", None),
    ],
)
def test_the_pack_of_a_class_without_a_server(class_type: str, repository: str | None) -> None:
    assert name_of(class_type) == repository


def test_where_the_list_comes_from_is_said() -> None:
    said = r"extension-node-map\.json of comfyui-manager [\d.]+, \d{4}-\d\d-\d\d, \d+ bytes; ComfyUI [\d.]+"
    assert re.fullmatch(said, pack_source())


def test_the_file_is_asked_first_then_the_manager_then_the_list() -> None:
    node_map = {
        "comfyui-impact-pack": [["FaceDetailer", "Riddle"], {"title_aux": "Impact Pack"}],
        "https://github.com/sphinx/ComfyUI-Riddles.git": [["Mystery"], {}],
        "https://github.com/comfyanonymous/ComfyUI": [["Newest"], {}],
        "broken": 5,
    }
    said = {"Riddle": Pack("riddles", "1.2")}
    assert find_packs(["FaceDetailer", "Riddle", "Mystery", "Newest", "VHS_LoadVideo"], said, node_map) == {
        "Riddle": Pack("riddles", "1.2"),
        "FaceDetailer": Pack("comfyui-impact-pack", source="manager"),
        "Mystery": Pack("ComfyUI-Riddles", None, "sphinx/ComfyUI-Riddles", "manager"),
        "Newest": Pack(CORE, source="manager"),
        "VHS_LoadVideo": Pack("ComfyUI-VideoHelperSuite", None, "Kosinkadink/ComfyUI-VideoHelperSuite", "list"),
    }


def test_of_several_packs_with_a_class_one_that_is_needed_anyway_is_meant() -> None:
    node_map = {"a": [["Both"], {}], "b": [["Both", "Only B"], {}]}
    assert find_packs(["Both"], {}, node_map)["Both"].name == "a"
    assert find_packs(["Both", "Only B"], {}, node_map)["Both"].name == "b"
    assert find_packs(["Both", "Mine"], {"Mine": Pack("B")}, node_map)["Both"].name == "b"


def test_the_repository_of_a_pack_that_the_file_only_names() -> None:
    found = find_packs(["FaceDetailer"], {"FaceDetailer": Pack("comfyui-impact-pack", "8.1")})
    assert found == {"FaceDetailer": Pack("comfyui-impact-pack", "8.1", IMPACT)}


def missing(node_id: str, class_type: str, pack: Pack | None) -> Finding:
    return Finding("missing_node", "gone", node_id, "T", class_type, hint="Install it.", pack=pack)


def test_missing_classes_are_grouped_by_pack() -> None:
    findings = [
        missing("1", "Lost", None),
        missing("2", "A", Pack("comfyui-a")),
        missing("3", "B1", Pack("b")),
        missing("4", "B2", Pack("b")),
        missing("5", "B1", Pack("b")),
        missing("6", "A", Pack("ComfyUI_A", None, "o/ComfyUI_A", "list")),
        missing("7", "Lost", None),
        missing("8", "Lost too", None),
        Finding("out_of_range", "is out of range", "9"),
    ]
    first, second, last = group_by_pack(findings)
    assert (first.pack, first.classes, first.count) == (Pack("b"), {"B1": ("3", "5"), "B2": ("4",)}, 3)
    assert (second.pack, second.classes) == (Pack("ComfyUI_A", None, "o/ComfyUI_A", "list"), {"A": ("2", "6")})
    assert (last.pack, last.classes, last.hint) == (None, {"Lost": ("1", "7"), "Lost too": ("8",)}, "Install it.")
    assert last.as_dict() == {"count": 3, "classes": {"Lost": ["1", "7"], "Lost too": ["8"]}}
    assert first.as_dict()["pack"] == {"name": "b", "source": "file"}


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        (["latents", "prior-loader", "positive-text-encoder"], "kandinsky22_text_to_image"),
        (["latents", "image-encoder", "prior-averaging-2"], "kandinsky22_mix_text_and_picture"),
        (["img-latents", "image-encoder", "prior-averaging-2"], "kandinsky22_image_to_image"),
        (["latents", "image-encoder", "hint-combiner"], "kandinsky22_depth"),
    ],
)
def test_the_workflow_that_does_the_same_as_an_older_packs(classes: list[str], name: str) -> None:
    said = same_without_pack([f"comfy-kandinsky22-{one}" for one in classes])
    assert f"`kandiflux run {name}`" in str(said)
    assert (workflows_folder() / f"{name}.json").is_file()


def test_kandinsky_5_is_in_comfyui_itself() -> None:
    assert str(same_without_pack(["KandinskyV5_Loader"])).endswith("its template video_kandinsky5_t2v")
    picture = ["KandinskyV5_Loader", "KandinskyV5_ImageToVideoLatent"]
    assert str(same_without_pack(picture)).endswith("its template video_kandinsky5_i2v")
    assert same_without_pack(["KSampler"]) is None
