"""The report of a batch: what it shows of each job, and that nothing in it is obeyed by a browser."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kandiflux.batch.ledger import LEDGER, Ledger, Saved
from kandiflux.batch.report import REPORT, write_report
from PIL import Image


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Four jobs: one with a picture, a file and a text, one that failed, one that waits, one on a server."""
    Image.new("RGB", (600, 300), "red").save(tmp_path / "a&b.png")
    (tmp_path / "a&b.wav").touch()
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        with ledger.listing({}) as listing:
            for number, name in enumerate(("a&b", "bad_one", "third", "fourth"), 1):
                listing.add(name, number, [0, 0], {"steps": number, "cfg": 2.50, "model": "<m>"}, name)
        done, failed, _ = (ledger.begin("http://<gpu>") for _ in range(3))
        assert done
        assert failed
        size = (tmp_path / "a&b.png").stat().st_size
        files = [Saved("a&b.png", "image", "", size), Saved("a&b.wav", "audio", "", 1)]
        ledger.done(done, files, texts=["<said>"], seconds=1.234)
        error = {
            "error": "NodeFailed",
            "message": "no <colour>\x1b",
            "hint": "Do it.",
            "traceback": ["line 1\n", "<2>"],
        }
        ledger.failed(failed, error)
        yield ledger


def test_what_a_report_shows(ledger: Ledger, tmp_path: Path) -> None:
    sheets = [tmp_path / "batch sheet.png"]
    path = write_report(ledger, tmp_path, "A <title>", varying={"steps"}, sheets=sheets)
    page = path.read_text("utf-8")
    assert path == tmp_path / REPORT
    assert "<title>A &lt;title&gt;: 1 of 4 done</title>" in page
    counts = '<b>1</b> done</li><li class="bad"><b>1</b> failed</li><li class=""><b>2</b> not done yet</li>'
    assert f"{counts}<li><b>4</b> in total</li>" in page
    assert "<dl><dt>cfg</dt><dd>2.5</dd><dt>model</dt><dd>&lt;m&gt;</dd></dl></details>" in page, "the same in all"
    row = "<td>http://&lt;gpu&gt;</td><td>1</td><td>1.23</td><td>1.23</td>"
    assert f"{row}</tr>\n</table></div>\n" in page
    small = base64.b64decode(re.findall(r"base64,([^\"]+)", page)[0])
    assert Image.open(io.BytesIO(small)).size == (256, 128)
    assert '<a href="batch%20sheet.png">batch sheet.png</a>' in page
    (done,) = re.findall(r'<li class="job">.*', page)
    assert "<h3>a&amp;b</h3>" in done
    assert done.count("data:image/webp;base64,") == done.count('<a href="a%26b.png">') == 1
    assert 'alt="steps 1, cfg 2.5, model &lt;m&gt;"' in done
    assert '<a href="a%26b.wav">a&amp;b.wav</a>' in done
    assert "<pre>&lt;said&gt;</pre>" in done
    assert done.endswith(
        "<dl><dt>steps</dt><dd>1</dd><dt>time</dt><dd>1.23 s</dd><dt>server</dt><dd>http://&lt;gpu&gt;</dd></dl></li>"
    )
    failed = page[page.index('<li class="job failed">') :].partition("</li>")[0]
    assert "<h3>bad_<wbr>one: NodeFailed</h3>" in failed
    assert '<p class="message">no &lt;colour&gt;\\x1b\nHint: Do it.</p>' in failed
    assert "<pre>line 1\n&lt;2&gt;</pre>" in failed
    assert failed.endswith("<dt>steps</dt><dd>2</dd><dt>server</dt><dd>http://&lt;gpu&gt;</dd></dl>")
    assert '<h2 id="failed">Failed: 1</h2>' in page
    assert '<h2 id="waiting">Not done yet: 2</h2>' in page
    assert list(tmp_path.glob(".*.part")) == []


def test_what_there_is_nothing_of_is_left_out(tmp_path: Path) -> None:
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        with ledger.listing({}) as listing:
            listing.add("a", 1, [0, 0], {"steps": 1}, "a")
        attempt = ledger.begin("http://a")
        assert attempt
        ledger.done(attempt, [], seconds=100.0)
        page = write_report(ledger, tmp_path, "T", varying={"steps"}).read_text()
    for absent in ("In every job", 'id="failed"', 'id="waiting"', "failed</li>", "<img", '<div class="pictures">'):
        assert absent not in page
    assert "<td>100</td><td>100</td>" in page, "seconds without fractions"


def test_many_jobs_have_smaller_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.batch.report._MANY", 2)
    Image.new("RGB", (600, 300), "red").save(tmp_path / "a.png")
    file = Saved("a.png", "image", "", (tmp_path / "a.png").stat().st_size)
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        with ledger.listing({}) as listing:
            for number in range(1, 4):
                listing.add(str(number), number, [0, 0], {}, f"a{number}")
        for number in range(1, 4):
            attempt = ledger.begin("http://a")
            assert attempt
            ledger.done(attempt, [replace(file, path=f"a{number}.png")])
            Image.new("RGB", (600, 300), "red").save(tmp_path / f"a{number}.png")
            page = write_report(ledger, tmp_path, "T", varying=()).read_text()
            pictures = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="a\d"', page)
            assert len(pictures) == number
            small = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
            assert small.size == ((256, 128) if number <= 2 else (112, 56))


@pytest.mark.parametrize(
    ("separator", "count", "whole"), [("", 20_000, True), ("", 20_001, False), ("\n", 400, True), ("\n", 401, False)]
)
def test_a_long_text_is_shortened(separator: str, count: int, whole: bool, tmp_path: Path) -> None:
    text = separator.join("x" * count)
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        with ledger.listing({}) as listing:
            listing.add("a", 1, [0, 0], {}, "a")
        attempt = ledger.begin("http://a")
        assert attempt
        ledger.done(attempt, [], texts=[text])
        page = write_report(ledger, tmp_path, "T", varying=()).read_text()
    assert (text in page) == whole


def test_the_page_closes_what_it_opens(ledger: Ledger, tmp_path: Path) -> None:
    page = write_report(ledger, tmp_path, "T", varying={"steps"}).read_text("utf-8")
    for tag in ("ul", "li", "details", "dl", "table", "main", "header", "p", "pre", "h2", "h3", "div", "script"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag
    script = page[page.index("<script>") + 8 : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in page, "or the browser does not run it"


@pytest.mark.parametrize(("seconds", "shown"), [(99.5, "99.50"), (100.0, "100"), (0.0, "0.00"), (None, "")])
def test_seconds(seconds: float | None, shown: str, tmp_path: Path) -> None:
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        with ledger.listing({}) as listing:
            listing.add("a", 1, [0, 0], {}, "a")
        attempt = ledger.begin("http://a")
        assert attempt
        ledger.done(attempt, [], seconds=seconds)
        page = write_report(ledger, tmp_path, "T", varying=()).read_text()
    assert f"<td>{shown}</td><td>{shown}</td></tr>" in page
    assert (f"<dt>time</dt><dd>{shown} s</dd>" in page) == (seconds is not None)
