"""Draws docs/rooms.svg: the rooms of the runner, with arrows to the rooms whose modules they import.

python tools/draw_rooms.py
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "runner" / "kandiflux"
PLACES = {
    "cli": (1, 0), "batch": (1, 1), "jobs": (1, 2), "workflow": (0.3, 3), "processes": (1.3, 3), "models": (0.3, 4),
    "api": (0.8, 5), "util": (1.3, 6), "lite": (2.4, 1),
}  # fmt: skip
"""Column and row: no arrow runs behind a room."""

WIDTH, HEIGHT, GAP = 250, 54, 44


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports, itself apart; config.py and errors.py count as `util`."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).parts
        if parts in (("__init__.py",), ("__main__.py",)):
            continue  # the public names, of all rooms
        room = parts[0] if len(parts) > 1 else "util"
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kandiflux."):
                other = (node.module or "").split(".")[1]
                found[room].add(other if (PACKAGE / other).is_dir() else "util")
    return {room: others - {room} for room, others in found.items()}


def purpose(room: str) -> str:
    """The first sentence of the room's docstring."""
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8"))) or ""
    return text.split("\n")[0].split(". ")[0].split(": ")[0].rstrip(".")


def drawing() -> str:
    """The SVG."""
    needs = imports()
    corners = {room: (GAP + x * (WIDTH + GAP), GAP + y * (HEIGHT + GAP)) for room, (x, y) in PLACES.items()}
    width, height = (
        max(corner[at] for corner in corners.values()) + size + GAP for at, size in ((0, WIDTH), (1, HEIGHT))
    )
    # An arrow that others imply (cli -> batch -> jobs) is left out.
    direct = {
        room: {other for other in others if not any(other in needs.get(between, set()) for between in others - {other})}
        for room, others in needs.items()
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">',
        '<defs><marker id="end" markerWidth="8" markerHeight="8" refX="7" refY="3" orient="auto">',
        '<path d="M0,0 L7,3 L0,6 z" fill="#667"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>',
    ]
    for room, (x, y) in corners.items():
        for other in sorted(direct.get(room, set())):
            to_x, to_y = corners[other]
            lines.append(
                f'<line x1="{x + WIDTH / 2:g}" y1="{y + HEIGHT:g}" x2="{to_x + WIDTH / 2:g}" y2="{to_y - 1:g}" '
                'stroke="#667" stroke-width="1.5" marker-end="url(#end)"/>'
            )
    for room, (x, y) in corners.items():
        lines += [
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef2fb" stroke="#4a63a5"/>',
            f'<text x="{x + WIDTH / 2:g}" y="{y + 22:g}" text-anchor="middle" font-weight="bold">{room}</text>',
            f'<text x="{x + WIDTH / 2:g}" y="{y + 41:g}" text-anchor="middle" font-size="11">'
            f"{escape(purpose(room))}</text>",
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "rooms.svg").write_text(drawing(), "utf-8")
