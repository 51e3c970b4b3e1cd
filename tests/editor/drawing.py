"""What the editor draws of a workflow: the boxes of nodes and groups, the curves of links, and text that is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.editor.browser import APP

Box = Sequence[float]
"""Left, top, right, bottom."""

_STEADY = 3
_MOST = 100

SHOW = f"""async ([workflow, vue, left, top]) => {{
    const app = {APP}
    await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', vue)
    await app.loadGraphData(workflow, true, false, null, {{
        showMissingNodesDialog: false, showMissingModelsDialog: false
    }})
    const ds = app.canvas.ds
    ds.scale = 1
    ds.offset = [100 - left, 100 - top]
    app.canvas.setDirty(true, true)
}}"""

DRAWING = f"""async (vue) => {{
    const app = {APP}
    const canvas = app.canvas
    const toGraph = (rect) => {{
        const origin = canvas.canvas.getBoundingClientRect()
        const [x, y] = canvas.ds.offset
        return [rect.left - origin.left - x, rect.top - origin.top - y,
                rect.right - origin.left - x, rect.bottom - origin.top - y]
    }}
    const element = (node) => document.querySelector(`[data-node-id="${{node.id}}"]`)
    const boxOf = (node) => {{
        if (!vue) return [node.pos[0], node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT,
                          node.pos[0] + node.size[0], node.pos[1] + node.size[1]]
        const box = toGraph(element(node).getBoundingClientRect())
        for (const part of element(node).querySelectorAll('*')) {{  // such as the footer of a loader that misses a file
            const rect = part.getBoundingClientRect()
            if (rect.height) box[3] = Math.max(box[3], toGraph(rect)[3])
        }}
        return box
    }}
    const cut = (node) => {{
        const root = vue ? element(node) : node.widgets[0].element
        const scrolling = [root, ...root.querySelectorAll('*')].filter((part) =>
            part.tagName !== 'TEXTAREA' && ['auto', 'scroll'].includes(getComputedStyle(part).overflowY))
        return [Math.max(0, ...scrolling.map((part) => part.scrollWidth - part.clientWidth)),
                Math.max(0, ...scrolling.map((part) => part.scrollHeight - part.clientHeight))]
    }}
    canvas.draw(true, true)
    await new Promise((resolve) => requestAnimationFrame(resolve))
    return {{
        nodes: app.graph.nodes.map((node) => ({{
            id: +node.id, title: node.title, box: boxOf(node), cut: node.type === 'MarkdownNote' ? cut(node) : [0, 0],
        }})),
        groups: app.graph.groups.map((group) => ({{
            title: group.title, head: group.titleHeight,
            box: [group.pos[0], group.pos[1], group.pos[0] + group.size[0], group.pos[1] + group.size[1]],
        }})),
        links: [...app.graph.links.values()].map((link) => {{
            const parts = [link]
            while (parts[0].parentId != null) parts.unshift(app.graph.reroutes.get(parts[0].parentId))
            const curves = parts.map((part) => part.path.recorded.slice(0, 2).flat())
            return {{ id: +link.id, source: +link.origin_id, target: +link.target_id, curves }}
        }}),
    }}
}}"""
"""Boxes, and each link as Bézier curves of eight numbers, in the graph's coordinates. `cut`: how many pixels of a
note's text are out of sight, across and down."""


def drawing(page: Any, workflow: dict[str, Any], vue: bool) -> dict[str, Any]:
    """What the editor in `page` draws of the workflow in Nodes 2.0 or in the classic mode, once it stays the same."""
    left, top, right, bottom = bounds(workflow)
    page.set_viewport_size({"width": round(right - left) + 800, "height": round(bottom - top) + 800})
    ids = {node["id"] for node in workflow["nodes"]}
    steady, last = 0, None
    for _ in range(_MOST):
        if (
            last is None or {node["id"] for node in last["nodes"]} != ids
        ):  # a new page opens a workflow of its own, late
            page.evaluate(SHOW, [workflow, vue, left, top])
        page.wait_for_timeout(150)  # there is no event for "all is measured": sizes come in several rounds
        drawn = page.evaluate(DRAWING, vue)
        steady, last = (steady + 1 if drawn == last else 0), drawn
        if steady == _STEADY:
            return drawn
    raise TimeoutError("the editor keeps moving what it draws")


def bounds(workflow: dict[str, Any]) -> Box:
    """Of all groups."""
    boxes = [group["bounding"] for group in workflow["groups"]]
    return (
        *(min(box[i] for box in boxes) for i in (0, 1)),
        *(max(box[i] + box[i + 2] for box in boxes) for i in (0, 1)),
    )


def runs_behind(curves: Sequence[Sequence[float]], box: Box, margin: float) -> bool:
    """Whether one of the Bézier curves comes more than `margin` pixels into the box (less than -margin near to it)."""
    left, top, right, bottom = box[0] + margin, box[1] + margin, box[2] - margin, box[3] - margin
    near = [
        curve
        for curve in curves  # a curve stays within its four points
        if min(curve[::2]) < right and max(curve[::2]) > left and min(curve[1::2]) < bottom and max(curve[1::2]) > top
    ]
    return any(left < x < right and top < y < bottom for curve in near for x, y in _along(curve))


def _along(curve: Sequence[float], steps: int = 48) -> list[tuple[float, float]]:
    def at(t: float, axis: int) -> float:
        a, b, c, d = curve[axis::2]
        return (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d

    return [(at(step / steps, 0), at(step / steps, 1)) for step in range(steps + 1)]
