"""Lay out the shipped workflows, and write what they show in App Mode and where their notes lead.

Each node is measured in the real editors, in LiteGraph and in Nodes 2.0, on a ComfyUI that has no models: loaders that
miss a file are higher. Groups and their nodes then flow from left to right. A link that would run behind a node goes
around it through reroutes. A node belongs to the group that its middle lies in, so put new ones there.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runner"), str(ROOT / "tools")]

from tests.editor.browser import editor_at
from tests.editor.drawing import Box, drawing, runs_behind
from tests.editor.lone_editor import LAYOUT_EDITORS, editor_package
from tests.support.hosts import running_comfyui

EXAMPLES = """examples:
  KANDIFLUX_EDITORS=~/editors/1.58.1 python tools/lay_out.py             all of them
  KANDIFLUX_EDITORS=~/editors/1.58.1 python tools/lay_out.py flux_dev
"""

Point = tuple[float, float]

WORKFLOWS = ROOT / "workflows"
PAGE = "https://github.com/kandiflux/kandiflux/blob/main/docs/workflows.md"
LINK_TEXT = "Files, presets and more"
SECTIONS = {
    "flux": "flux1",
    "kandinsky22_pocket": "kandinsky-22-with-the-pocket-weights",
    "kandinsky22": "kandinsky-22",
    "kandinsky21": "kandinsky-21",
    "kandinsky3": "kandinsky-3",
    "": "stable-diffusion-15-and-upscaling",
}
"""The page's sections, by what a workflow's name begins with."""

TITLE, GROUP_TITLE, PAD = 30, 40, 20
BETWEEN_NODES, BETWEEN_COLUMNS, BETWEEN_GROUPS = 30, 80, 50
LANE, TURN, CLEARANCE = 14, 40, 6
"""Between two lanes of links; from a node to the first turn beside it; from a link to a node."""

REROUTE_REACH = 20.0
"""The editor's default setting of how far a reroute bends the curves that meet in it."""

OUTSIDE = 400
"""How much longer a way may be if it stays within the groups."""

WIDTHS = {
    "MarkdownNote": 400, "CLIPTextEncode": 400, "KandinskyPrior": 400, "Kandinsky3TextEncode": 400,
    "KandinskyBlend": 400, "SaveImage": 380, "VAEDecode": 240, "VAEEncode": 240, "ConditioningZeroOut": 260,
    "GetImageSize": 240, "ReferenceLatent": 240, "JoinImageWithAlpha": 260, "SplitImageWithAlpha": 260,
    "KandinskyPriorLoader": 420, "KandinskyDecoderLoader": 420, "KandinskyVAELoader": 420,
    "KandinskyModelLoader": 420, "KandinskyCLIPLoader": 400, "CLIPVisionLoader": 400, "StyleModelLoader": 400,
}  # fmt: skip
WIDTH = 310
TEXTS_AND_PICTURES = {
    "CLIPTextEncode", "KandinskyPrior", "Kandinsky3TextEncode", "KandinskyBlend", "SaveImage", "LoadImage",
}  # fmt: skip
"""Keep the height they are saved with; all others are as high as they must be."""


@dataclass
class Sizes:
    """What the editors measured, each in both modes.

    `saved`: heights of nodes in LiteGraph, without their titles. `drawn`: the largest heights, with titles. `ends`: for
    each link how far inside its nodes' edges and below their tops it begins and ends.
    """

    saved: dict[int, float] = field(default_factory=dict)
    drawn: dict[int, float] = field(default_factory=dict)
    ends: dict[int, list[tuple[float, float, float, float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, drawn: dict[str, Any], vue: bool) -> None:
        boxes: dict[int, Box] = {node["id"]: node["box"] for node in drawn["nodes"]}
        for node in drawn["nodes"]:
            height = node["box"][3] - node["box"][1] + math.ceil(node["cut"][1])
            self.drawn[node["id"]] = max(height, self.drawn.get(node["id"], 0))
            if not vue:
                self.saved[node["id"]] = max(height - TITLE, self.saved.get(node["id"], 0))
        for link in drawn["links"]:
            source, target, curve = boxes[link["source"]], boxes[link["target"]], link["curves"][0]
            start, end = (source[2] - curve[0], curve[1] - source[1]), (curve[6] - target[0], curve[7] - target[1])
            self.ends[link["id"]].append((*start, *end))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="workflows; all if left out")
    names = parser.parse_args().names or sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    workflows = {name: json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8")) for name in names}
    groups = {name: members(workflow) for name, workflow in workflows.items()}
    for name, workflow in workflows.items():
        unroute(workflow)
        link_to_page(workflow, name)
        for columns in groups[name].values():
            set_widths(columns)
    for name, sizes in measure(workflows).items():
        workflow = workflows[name]
        arrange(workflow, groups[name], sizes)
        for problem in route(workflow, sizes):
            print(f"{name}: {problem}", file=sys.stderr)
        workflow["extra"]["linearData"] = app_of(workflow)
        (WORKFLOWS / f"{name}.json").write_text(json.dumps(workflow, indent=2, ensure_ascii=False) + "\n", "utf-8")


def measure(workflows: dict[str, dict[str, Any]]) -> dict[str, Sizes]:
    sizes = {name: Sizes() for name in workflows}
    with tempfile.TemporaryDirectory() as folder, running_comfyui(Path(folder), packs=(ROOT,)) as host:
        (host.input / "example.png").write_bytes((ROOT / "docs" / "demo.png").read_bytes())
        for version in LAYOUT_EDITORS:
            with editor_at(host.url, editor_package(version)) as page:
                for name, workflow in workflows.items():
                    for vue in (False, True):
                        sizes[name].add(drawing(page, workflow, vue), vue)
                        for node in workflow["nodes"]:  # Nodes 2.0 draws nodes at least as high as they are saved
                            node["size"][1] = math.ceil(sizes[name].saved[node["id"]])
    return sizes


def members(workflow: dict[str, Any]) -> dict[int, list[list[dict[str, Any]]]]:
    """Returns each group's columns of nodes, by its index. Links lead from one column to a later one."""
    inside: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for node in workflow["nodes"]:
        nearest = min(range(len(workflow["groups"])), key=lambda index: _away(workflow["groups"][index], node))
        inside[0 if node["type"] == "MarkdownNote" else nearest].append(node)
    columns = {}
    for index, nodes in inside.items():
        notes = [node for node in nodes if node["type"] == "MarkdownNote"]
        others = sorted((node for node in nodes if node not in notes), key=lambda node: node["pos"][::-1])
        depth = depths([node["id"] for node in others], _links(workflow))
        levels = range(max(depth.values(), default=0) + 1)
        columns[index] = [[node for node in others if depth[node["id"]] == level] for level in levels]
        columns[index][0] += notes
    return columns


def depths(ids: Sequence[int], links: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Returns for each of `ids` its column: after all that lead to it, and otherwise close to what it leads to.

    ValueError if the links form a cycle.
    """
    within = {(source, target) for source, target in links if source in ids and target in ids and source != target}
    depth = dict.fromkeys(ids, 0)
    for _ in ids:
        late = [(source, target) for source, target in within if depth[target] <= depth[source]]
        for source, target in late:
            depth[target] = depth[source] + 1
        if not late:
            break
    else:
        raise ValueError(f"a cycle between {sorted(within)}")
    for start in set(ids) - {target for _, target in within}:
        following = [depth[target] for source, target in within if source == start]
        depth[start] = min(following, default=1) - 1
    return depth


def set_widths(columns: list[list[dict[str, Any]]]) -> None:
    for column in columns:
        width = max(WIDTHS.get(node["type"], WIDTH) for node in column)
        for node in column:
            keeps = node["type"] in TEXTS_AND_PICTURES
            node["size"] = [width, node["size"][1] if keeps else 10]


def arrange(workflow: dict[str, Any], groups: dict[int, list[list[dict[str, Any]]]], sizes: Sizes) -> None:
    """Sets positions and sizes of nodes and groups: groups in columns as nodes in groups, the columns equally high."""
    home = {node["id"]: index for index, columns in groups.items() for column in columns for node in column}
    between = [(home[source], home[target]) for source, target in _links(workflow)]
    depth = depths(sorted(groups, key=lambda index: workflow["groups"][index]["bounding"][0]), between)
    depth[0] = 0
    lanes = GROUP_TITLE if len(workflow["links"]) > 4 else 0
    left, lowest = 0.0, 0.0
    stretch = []
    for level in range(max(depth.values()) + 1):
        stack = [index for index in depth if depth[index] == level]
        top, width = 0.0, max(width_of(groups[index]) for index in stack)
        for index in stack:
            spare = width - width_of(groups[index])
            # A single column stands at the right, close to what its links lead to.
            x, bottom = left + PAD + (spare if len(groups[index]) == 1 else 0), 0.0
            for column in groups[index]:
                y = top + GROUP_TITLE + lanes
                for node in column:
                    node["pos"] = [x, y + TITLE]
                    y += math.ceil(sizes.drawn[node["id"]]) + BETWEEN_NODES
                x += column[0]["size"][0] + BETWEEN_COLUMNS + spare / max(1, len(groups[index]) - 1)
                bottom = max(bottom, y - BETWEEN_NODES + PAD)
            workflow["groups"][index]["bounding"] = [left, top, width + 2 * PAD, bottom - top]
            top = bottom + BETWEEN_GROUPS
        stretch.append(workflow["groups"][stack[-1]])
        lowest = max(lowest, top - BETWEEN_GROUPS)
        left += width + 2 * PAD + BETWEEN_GROUPS
    for group in stretch:
        group["bounding"][3] = lowest - group["bounding"][1]
    for node in workflow["nodes"]:
        node["pos"] = [round(value) for value in node["pos"]]
    for group in workflow["groups"]:
        group["bounding"] = [round(value) for value in group["bounding"]]


def width_of(columns: list[list[dict[str, Any]]]) -> float:
    return sum(column[0]["size"][0] + BETWEEN_COLUMNS for column in columns) - BETWEEN_COLUMNS


def unroute(workflow: dict[str, Any]) -> None:
    for name in ("reroutes", "linkExtensions"):
        workflow["extra"].pop(name, None)


def route(workflow: dict[str, Any], sizes: Sizes) -> list[str]:
    """Leads links around the nodes that they would run behind. Returns what could not be led around."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    boxes: dict[int, Box] = {}
    for id, node in nodes.items():
        left, top = node["pos"][0], node["pos"][1] - TITLE
        boxes[id] = (left, top, left + node["size"][0], top + sizes.drawn[id])
    router = Router(boxes, [_title_box(group) for group in workflow["groups"]])
    problems = []
    hidden: dict[tuple[int, int], list[Link]] = defaultdict(list)
    for id, source, slot, target, *_ in workflow["links"]:
        link = Link.between(id, source, target, boxes, sizes.ends[id])
        if boxes[source][2] > boxes[target][0]:
            problems.append(f"a link from {name_of(nodes[source])} leads back")
        if any(router.behind([spline(*ends)], link) for ends in link.ends):
            hidden[source, slot].append(link)
    for (source, _), links in sorted(hidden.items(), key=lambda net: -max(boxes[link.target][0] for link in net[1])):
        if wrong := router.lead(links):
            problems.append(f"a link from {name_of(nodes[source])} runs behind a node ({wrong})")
    if router.reroutes:
        workflow["extra"] |= {"reroutes": router.reroutes, "linkExtensions": router.last_reroutes}
    return problems


@dataclass
class Link:
    """A link between two nodes, and its two ends in each editor and mode."""

    id: int
    source: int
    target: int
    ends: list[tuple[Point, Point]]

    @classmethod
    def between(cls, id: int, source: int, target: int, boxes: Mapping[int, Box], inside: Sequence[Any]) -> Link:
        (_, top, right, _), (left, target_top, _, _) = boxes[source], boxes[target]
        return cls(id, source, target, [((right - a, top + b), (left + c, target_top + d)) for a, b, c, d in inside])


@dataclass
class Router:
    """Finds ways between nodes: horizontal lanes, each for the links of one output, that no other lane touches."""

    boxes: Mapping[int, Box]
    titles: Sequence[Box]
    reroutes: list[dict[str, Any]] = field(default_factory=list)
    last_reroutes: list[dict[str, int]] = field(default_factory=list)
    lanes: list[tuple[float, float, float]] = field(default_factory=list)
    turns: dict[float, int] = field(default_factory=lambda: defaultdict(int))
    """By the edge of a column of nodes, how many links turn beside it."""

    def lead(self, links: Sequence[Link]) -> int:
        """Adds reroutes for links of one output. Returns how many nodes they still run behind: 0 if there is a way."""
        right, lefts = self.boxes[links[0].source][2], [self.boxes[link.target][0] for link in links]
        first = right + TURN + LANE * self.turns[right]
        lasts = [left - TURN - LANE * self.turns[left] for left in lefts]
        best: tuple[int, int, list[list[Point]]] | None = None
        heights = self._heights(links, first, max(lasts))
        for steep, y in [*((False, y) for y in heights), *((True, y) for y in heights)]:
            paths: list[list[Point]] = [[(first, y), (last, y)] for last in lasts]
            if steep:  # a long way up or down bulges less if it turns once more near its end
                for link, path in zip(links, paths, strict=True):
                    end = link.ends[0][1][1]
                    path.append((path[-1][0], round(end + math.copysign(2 * TURN, y - end))))
            wrong = sum(
                self.behind(rerouted(start, path, end), link, self.titles)
                for link, path in zip(links, paths, strict=True)
                for start, end in link.ends
            )
            if best is None or wrong < best[0]:
                best = (wrong, y, paths)
            if not wrong:
                break
        assert best is not None
        wrong, y, paths = best
        self.lanes.append((y, first, max(lasts)))
        for edge in (right, *lefts):
            self.turns[edge] += 1
        for link, path in zip(links, paths, strict=True):
            self._save(link, path)
        return wrong

    def behind(self, curves: Sequence[Sequence[float]], link: Link, titles: Sequence[Box] = ()) -> int:
        """Returns how many nodes that it does not join, and titles of groups, a link runs behind."""
        others = [box for id, box in self.boxes.items() if id not in (link.source, link.target)]
        return sum(runs_behind(curves, box, -CLEARANCE) for box in (*others, *titles))

    def _heights(self, links: Sequence[Link], first: float, last: float) -> list[int]:
        """Returns the free heights of a lane from `first` to `last`, those with the shortest ways first."""
        lowest = round(max(box[3] for box in self.boxes.values()))
        ways = []
        for y in range(-60, lowest + 80, 4):
            if not any(abs(y - lane) < LANE and left < last and first < right for lane, left, right in self.lanes):
                length = abs(y - links[0].ends[0][0][1]) + sum(abs(y - link.ends[0][1][1]) for link in links)
                ways.append((length + (0 if GROUP_TITLE <= y <= lowest else OUTSIDE), y))
        return [y for _, y in sorted(ways)]

    def _save(self, link: Link, path: Sequence[Point]) -> None:
        parent: int | None = None
        for point in path:
            step = {"parentId": parent} if parent else {}
            same = [one for one in self.reroutes if one["pos"] == [*point] and one.get("parentId") == parent]
            if not same:
                same = [{"id": len(self.reroutes) + 1, **step, "pos": [*point], "linkIds": []}]
                self.reroutes += same
            same[0]["linkIds"].append(link.id)
            parent = same[0]["id"]
        self.last_reroutes.append({"id": link.id, "parentId": parent or 0})


def spline(start: Point, end: Point, out: Point | None = None, into: Point | None = None) -> list[float]:
    """Returns a link as the editor draws it (pathRenderer.ts): a Bézier curve of eight numbers."""
    reach = max(30.0, math.dist(start, end) * 0.25)
    out, into = out or (reach, 0.0), into or (-reach, 0.0)
    return [*start, start[0] + out[0], start[1] + out[1], end[0] + into[0], end[1] + into[1], *end]


def rerouted(start: Point, points: Sequence[Point], end: Point) -> list[list[float]]:
    """Returns the curves of a link through reroutes, as the editor draws them (Reroute.ts)."""
    way = [start, *points, end]
    curves, out = [], None
    for before, here, after in zip(way[:-2], way[1:-1], way[2:], strict=True):
        angle = (_direction(before, here) + _direction(here, after)) / 2
        reach = min(REROUTE_REACH, math.dist(before, here) * 0.25)
        curves.append(spline(before, here, out, (-reach * math.cos(angle), -reach * math.sin(angle))))
        reach = min(REROUTE_REACH, math.dist(here, after) * 0.25)
        out = (reach * math.cos(angle), reach * math.sin(angle))
    return [*curves, spline(way[-2], end, out)]


def app_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """Returns what App Mode shows: the widgets of the workflow's parameters, described, and the saved pictures."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    inputs = []
    for parameter in workflow["extra"]["kandiflux"]["parameters"].values():
        places = parameter.get("nodes") or [[parameter["node"], parameter["input"]]]
        for id, widget in places:
            which = f"{name_of(nodes[id])}: " if len(places) > 1 else ""
            inputs.append([id, widget, {"description": which + parameter["description"]}])
    return {"inputs": inputs, "outputs": [node["id"] for node in nodes.values() if node["type"] == "SaveImage"]}


def name_of(node: dict[str, Any]) -> str:
    return node.get("title") or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node["type"])


def link_to_page(workflow: dict[str, Any], name: str) -> None:
    section = next(section for begin, section in SECTIONS.items() if name.startswith(begin))
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    text = note["widgets_values"][0].partition(f"\n\n[{LINK_TEXT}]")[0]
    note["widgets_values"] = [f"{text}\n\n[{LINK_TEXT}]({PAGE}#{section})"]


def _links(workflow: dict[str, Any]) -> list[tuple[int, int]]:
    return [(link[1], link[3]) for link in workflow["links"]]


def _title_box(group: dict[str, Any]) -> Box:
    left, top = group["bounding"][:2]
    return left, top, left + 16 * len(group["title"]), top + GROUP_TITLE


def _direction(start: Point, end: Point) -> float:
    return math.atan2(end[1] - start[1], end[0] - start[0])


def _away(group: dict[str, Any], node: dict[str, Any]) -> float:
    """How far a node's middle is from a group; 0 inside."""
    (x, y, width, height), at = group["bounding"], [node["pos"][i] + node["size"][i] / 2 for i in (0, 1)]
    return max(x - at[0], at[0] - x - width, 0) + max(y - at[1], at[1] - y - height, 0)


if __name__ == "__main__":
    main()
