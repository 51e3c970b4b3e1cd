"""docs/rooms.svg shows the rooms as they are."""

from __future__ import annotations

import subprocess
import sys

from tests.support.places import ROOT


def test_the_drawing_is_up_to_date() -> None:
    code = "from draw_rooms import *; assert set(PLACES) == {*imports()}; print(drawing(), end='')"
    drawn = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tools", capture_output=True, text=True, check=True)
    assert drawn.stdout == (ROOT / "docs" / "rooms.svg").read_text("utf-8"), "run tools/draw_rooms.py"
