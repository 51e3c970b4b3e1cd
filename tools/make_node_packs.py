"""Writes runner/kandiflux/workflow/validation/node_packs.json.gz: which repository has which node classes.

The facts come from the file extension-node-map.json of the PyPI package comfyui-manager. A class may be in several
repositories: those with more stars come first. For packs whose classes it does not list, the file has a pattern of
their names; those that hold at the beginning or the end of a name are taken. Its list of ComfyUI's own classes is old:
those of a new ComfyUI, started with --disable-all-custom-nodes, are added. Run it again for a newer list:

    pip download --no-deps comfyui-manager
    curl http://127.0.0.1:8188/object_info > object_info.json
    python tools/make_node_packs.py comfyui_manager-*.whl object_info.json 0.33.0
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "runner/kandiflux/workflow/validation/node_packs.json.gz"
COMFYUI = ("comfyanonymous/ComfyUI", "Comfy-Org/ComfyUI")
CORE = "comfy-core"
"""What the editor writes into `cnr_id` of ComfyUI's own nodes."""

_REPOSITORY = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def node_packs(node_map: dict[str, Any], stats: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Returns the classes of each repository on GitHub, and the repositories by the patterns of their classes' names.

    ComfyUI's own classes are first, then those of repositories by stars, most first.
    """
    packs: dict[str, list[str]] = {}
    patterns: dict[str, str] = {}
    for url in sorted(node_map, key=lambda url: (-stats.get(url, {}).get("stars", 0), url)):
        matched = _REPOSITORY.fullmatch(url)
        if matched is None:
            continue
        repository = CORE if matched[1] in COMFYUI else matched[1]
        classes, about = node_map[url]
        packs[repository] = sorted({name for name in classes if isinstance(name, str)})
        pattern = about.get("nodename_pattern", "")
        if pattern.startswith("^") or pattern.endswith("$"):
            patterns.setdefault(pattern, repository)
    core = packs.pop(CORE, [])
    return {CORE: core, **{repository: names for repository, names in packs.items() if names}}, patterns


def main(wheel: Path, object_info: Path, comfyui_version: str) -> None:
    """Reads the package and the classes of this version of ComfyUI, and writes the list."""
    with zipfile.ZipFile(wheel) as package:
        entry = package.getinfo("comfyui_manager/extension-node-map.json")
        node_map = json.loads(package.read(entry))
        stats = json.loads(package.read("comfyui_manager/github-stats.json"))
    packs, patterns = node_packs(node_map, stats)
    packs[CORE] = sorted({*packs[CORE], *json.loads(object_info.read_bytes())})
    version = wheel.name.split("-")[1]
    date = "{:04}-{:02}-{:02}".format(*entry.date_time)
    source = f"extension-node-map.json of comfyui-manager {version}, {date}, {entry.file_size} bytes"
    source += f"; ComfyUI {comfyui_version}"
    found = {"source": source, "packs": packs, "patterns": patterns}
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    TARGET.write_bytes(gzip.compress(text.encode(), mtime=0))
    classes = len({name for names in packs.values() for name in names})
    print(f"{source}: {classes} classes, {len(packs)} repositories, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
