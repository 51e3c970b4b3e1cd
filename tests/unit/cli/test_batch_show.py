"""The lines that a batch draws on a terminal."""

from __future__ import annotations

import io
import time

import pytest
from kandiflux.batch.events import BatchEvent
from kandiflux.cli.batch_show import live
from rich.console import Console


def test_the_last_word_is_that_of_the_last_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed when all is done stands above lines that say so, however long ago they were last drawn."""
    screen = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=80))
    with live(lambda: []) as show:
        show.event(BatchEvent("planned", {"total": 1, "done": 0, "new": 1, "unlisted": 0, "files_gone": 0}))
        while "0 of 1 done" not in screen.getvalue():
            time.sleep(0.01)
        show.event(BatchEvent("done", {"index": 1, "server": "a", "seconds": 0.1, "files": []}))
        screen.seek(screen.truncate(0))
        show.event(BatchEvent("written", {"path": "report.html"}))
        drawn = screen.getvalue()
    assert "wrote report.html" in drawn
    assert "1 of 1 done" in drawn
    assert "0 of 1 done" not in drawn
