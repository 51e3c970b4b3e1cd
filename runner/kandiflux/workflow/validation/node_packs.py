"""Finds the custom-node pack of a node class that a server lacks.

The workflow file may name it; else the server's ComfyUI-Manager is asked, then the list that comes with kandiflux
(node_packs.json.gz, written by tools/make_node_packs.py), then the class's name is compared with the habits of packs.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from kandiflux.util.json_values import as_list
from kandiflux.workflow.validation.findings import Finding, Pack

__all__ = ["CORE", "MissingPack", "find_packs", "group_by_pack", "install_text", "pack_source", "same_without_pack"]

_MOST_NAMED = 6
CORE = "comfy-core"
"""The name of ComfyUI's own nodes in files and in the list."""

_COMFYUI = frozenset({"comfyanonymous/ComfyUI", "Comfy-Org/ComfyUI", CORE})
_GITHUB = re.compile(r"(?:https://)?(?:www\.)?github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
_NAMES = (
    (r"\|pysssss$", "pythongosssss/ComfyUI-Custom-Scripts"),
    (r" \(Image Saver\)$", "alexopus/ComfyUI-Image-Saver"),
    (r" \(LoraManager\)$", "willmiao/ComfyUI-Lora-Manager"),
    (r"KJ(v\d)?$", "kijai/ComfyUI-KJNodes"),
    (r"^(Deep|Google|Argos)Translat", "AlekPet/ComfyUI_Custom_Nodes_AlekPet"),
    (r"^(DownloadAndLoad)?Hy3D", "kijai/ComfyUI-Hunyuan3DWrapper"),
    (r"^ACN_", "Kosinkadink/ComfyUI-Advanced-ControlNet"),
    (r"^ADE_", "Kosinkadink/ComfyUI-AnimateDiff-Evolved"),
    (r"^CR ", "Suzie1/ComfyUI_Comfyroll_CustomNodes"),
    (r"^Clown", "ClownsharkBatwing/RES4LYF"),
    (r"^FL_", "filliptm/ComfyUI_Fill-Nodes"),
    (r"^Impact[A-Z]", "ltdrdata/ComfyUI-Impact-Pack"),
    (r"^Kandiflux|^Kandinsky(?!V5_|HQ|5)", "kandiflux/kandiflux"),
    (r"^Kandinsky(V5_|HQ)", "Ada123-a/ComfyUI-Kandinsky"),
    (r"^Layer(Utility|Mask|Color|Filter|Style): ?", "chflame163/ComfyUI_LayerStyle"),
    (r"^Nunchaku", "nunchaku-tech/ComfyUI-nunchaku"),
    (r"^VHS_", "Kosinkadink/ComfyUI-VideoHelperSuite"),
    (r"^WanVideo", "kijai/ComfyUI-WanVideoWrapper"),
    (r"^easy ", "yolain/ComfyUI-Easy-Use"),
)
"""How well-known packs name their classes, for classes that are newer than the list."""


@dataclass(frozen=True)
class MissingPack:
    """A pack that the server lacks, and what the workflow needs of it: node ids by class. None: its name is unknown."""

    pack: Pack | None
    classes: Mapping[str, tuple[str, ...]]
    hint: str

    @property
    def count(self) -> int:
        """The number of nodes."""
        return sum(map(len, self.classes.values()))

    @property
    def can_be_installed(self) -> bool:
        """Whether it is a pack with a name. ComfyUI's own classes come with an update."""
        return self.pack is not None and self.pack.name != CORE

    def __str__(self) -> str:
        name = self.pack.name if self.pack else "unknown pack"
        return f"{name} ({self.count} node{'s' if self.count > 1 else ''})"

    def as_dict(self) -> dict[str, Any]:
        """Returns it as JSON."""
        known = {"pack": self.pack.as_dict()} if self.pack else {}
        return {**known, "count": self.count, "classes": {name: list(ids) for name, ids in self.classes.items()}}


@dataclass(frozen=True)
class _PackList:
    source: str
    by_class: Mapping[str, tuple[str, ...]]
    patterns: tuple[tuple[re.Pattern[str], str], ...]


@functools.cache
def _shipped() -> _PackList:
    packed = files("kandiflux.workflow.validation").joinpath("node_packs.json.gz").read_bytes()
    data = json.loads(gzip.decompress(packed))
    by_class: dict[str, tuple[str, ...]] = {}
    for repository, names in data["packs"].items():
        for name in names:
            by_class[name] = (*by_class.get(name, ()), repository)
    patterns = [*_NAMES, *data["patterns"].items()]
    return _PackList(data["source"], by_class, tuple((re.compile(name), pack) for name, pack in patterns))


def pack_source() -> str:
    """Returns where the shipped list comes from, with its date and size."""
    return _shipped().source


def find_packs(
    classes: Iterable[str], declared: Mapping[str, Pack], node_map: Mapping[str, Any] | None = None
) -> dict[str, Pack]:
    """Returns the packs of node classes, as far as they are known.

    declared: those that the file names. node_map: ComfyUI-Manager's answer, `{pack: [[class, …], {…}], …}`.
    """
    managed: dict[str, list[Pack]] = {}
    for key, entry in (node_map or {}).items():
        for name in as_list(next(iter(as_list(entry)), None)):
            managed.setdefault(str(name), []).append(_pack(key, "manager"))
    known = {name: managed.get(name) or _candidates(name) for name in classes}
    found: dict[str, Pack] = {}
    for name, pack in declared.items():
        same = next((one for one in known.get(name, ()) if _key(one) == _key(pack)), pack)
        found[name] = pack if pack.repository else replace(pack, repository=same.repository)
    needed = set(map(_key, found.values()))
    # Classes of few packs first: of several packs that have a class, one that is needed anyway is probably meant.
    for name in sorted(known.keys() - found.keys(), key=lambda name: (len(known[name]), name)):
        if known[name]:
            found[name] = next((pack for pack in known[name] if _key(pack) in needed), known[name][0])
            needed.add(_key(found[name]))
    return found


def _candidates(class_type: str) -> list[Pack]:
    shipped = _shipped()
    if class_type in shipped.by_class:
        return [_pack(repository, "list") for repository in shipped.by_class[class_type]]
    return [_pack(repository, "name") for pattern, repository in shipped.patterns if pattern.search(class_type)]


def _pack(key: str, source: str) -> Pack:
    """Makes a pack of a name in the registry, a repository `owner/name`, or a URL."""
    on_github = _GITHUB.fullmatch(key)
    name = on_github[1] if on_github else key
    if name in _COMFYUI:
        return Pack(CORE, source=source)
    return Pack(name.rpartition("/")[2], repository=name, source=source) if "/" in name else Pack(name, source=source)


def _key(pack: Pack) -> str:
    """Returns what a pack's name in the registry and that of its repository have in common, as a rule."""
    return re.sub(r"[\W_]+", "", pack.name).casefold().removeprefix("comfyui")


def group_by_pack(findings: Iterable[Finding]) -> tuple[MissingPack, ...]:
    """Groups missing nodes by pack, those with most nodes first; nodes of unknown packs are last."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.kind == "missing_node":
            key = _key(finding.pack) if finding.pack else f" {finding.hint}"
            groups.setdefault(key, []).append(finding)
    found: list[MissingPack] = []
    for group in groups.values():
        classes: dict[str, tuple[str, ...]] = {}
        for one in group:
            classes[one.class_type] = (*classes.get(one.class_type, ()), one.node_id)
        packs = [one.pack for one in group if one.pack is not None]
        best = next((pack for pack in packs if pack.repository), packs[0] if packs else None)
        hint = next(one.hint for one in group if one.pack is best or one.pack == best)
        found.append(MissingPack(best, classes, str(hint)))
    return tuple(sorted(found, key=lambda missing: (missing.pack is None, -missing.count)))


def install_text(packs: Iterable[MissingPack]) -> str:
    """Returns what to install and update, as in `install 2 packs: a (5 nodes), b (1 node)`; empty if not known."""
    packs = list(packs)
    names = [str(missing) for missing in packs if missing.can_be_installed]
    more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    parts = [f"install {len(names)} pack{'s' if len(names) > 1 else ''}: {', '.join(names[:_MOST_NAMED] + more)}"]
    updated = [missing.count for missing in packs if missing.pack and missing.pack.name == CORE]
    return "; ".join((parts if names else []) + [f"update ComfyUI (its own nodes: {count})" for count in updated])


def same_without_pack(classes: Collection[str]) -> str | None:
    """Returns what does the same as a workflow with nodes of an older Kandinsky pack; None if it has none."""
    old = {name.removeprefix("comfy-kandinsky22-") for name in classes if name.startswith("comfy-kandinsky22-")}
    if old:
        if "hint-combiner" in old:
            name = "kandinsky22_depth"
        elif "img-latents" in old:
            name = "kandinsky22_image_to_image"
        elif "image-encoder" in old:
            name = "kandinsky22_mix_text_and_picture"
        else:
            name = "kandinsky22_text_to_image"
        return f"kandiflux does the same without that pack: its workflow {name}, as in `kandiflux run {name}`"
    if any(name.startswith("KandinskyV5_") for name in classes):
        name = "i2v" if "KandinskyV5_ImageToVideoLatent" in classes else "t2v"
        return f"ComfyUI does the same without that pack: its template video_kandinsky5_{name}"
    return None
