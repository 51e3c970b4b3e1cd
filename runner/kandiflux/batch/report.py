"""Writes an HTML report of a batch: pictures, parameters, times and failures.

It is one file and loads nothing from the network. Thumbnails link to the saved pictures beside it.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kandiflux.batch.ledger import Counts, Entry, Ledger, Saved
from kandiflux.batch.thumbnails import thumbnail
from kandiflux.util.files import written_whole
from kandiflux.util.safe_text import escaped, shortened

__all__ = ["REPORT", "write_report"]

REPORT = "batch-report.html"
_MANY = 1000
"""With more pictures than this, thumbnails are reduced to `_TINY` pixels."""
_TINY = 112
_TEXT_LIMIT, _TEXT_LINES = 20_000, 400

_STYLE = """
:root { color-scheme: light dark; --ground: #fafaf8; --card: #fff; --ink: #1c1c1e; --muted: #5f5f63; --line: #dededa;
  --accent: #1f5fbf; --bad: #a3261b; --bad-ground: #fdf1ef; }
@media (prefers-color-scheme: dark) { :root { --ground: #17181a; --card: #202225; --ink: #ececee; --muted: #a4a5aa;
  --line: #36383d; --accent: #86b4ff; --bad: #ff9d92; --bad-ground: #2c1f1e; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 1.75rem 0 .75rem; font-size: 1.2rem; }
a { color: var(--accent); } :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.muted, dt, .place { color: var(--muted); } p { margin: .25rem 0; } #find { margin: 1.5rem 0 0; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; padding: 0; list-style: none; }
.counts b { font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.counts .bad b { color: var(--bad); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.wide { overflow-x: auto; }
label { display: inline-block; margin: .5rem .5rem .5rem 0; }
input { font: inherit; padding: .35rem .6rem; width: min(24rem, 100%); color: inherit; background: var(--card);
  border: 1px solid var(--muted); border-radius: 6px; }
.jobs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1rem; margin: 0;
  padding: 0; list-style: none; }
.job { padding: .75rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px; min-width: 0;
  content-visibility: auto; contain-intrinsic-size: auto 24rem; }
.job h3 { margin: 0 0 .5rem; font-size: .95rem; overflow-wrap: anywhere; }
.job img { display: block; max-width: 100%; height: auto; margin: 0 auto .25rem; border-radius: 4px; }
.pictures { display: flex; flex-wrap: wrap; gap: .25rem; justify-content: center; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .75rem; margin: .5rem 0 0; font-size: .875rem; }
dt, dd { margin: 0; overflow-wrap: anywhere; } dt { max-width: 9rem; }
.failed { background: var(--bad-ground); border-color: var(--bad); }
.message { margin: .5rem 0; color: var(--bad); white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin-top: .5rem; font-size: .875rem; } pre { overflow-x: auto; font-size: .8rem; }
@media print { .job { break-inside: avoid; content-visibility: visible; } #find { display: none; } }
"""

_SCRIPT = """
const box = document.getElementById('words'), found = document.getElementById('found');
const jobs = [...document.querySelectorAll('.job')].map(job => [job, job.textContent.toLowerCase()]);
document.getElementById('find').hidden = jobs.length < 2;
box.addEventListener('input', () => {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const [job, text] of jobs) {
    const matches = words.every(word => text.includes(word));
    job.hidden = !matches;
    shown += matches;
  }
  found.textContent = words.length ? `${shown} of ${jobs.length}` : '';
});
"""


def write_report(
    ledger: Ledger, folder: Path, title: str, *, varying: Collection[str], sheets: Sequence[Path] = ()
) -> Path:
    """Writes `batch-report.html` to the folder, and overwrites the report of an earlier run.

    varying: parameters to show with each job; the others are the same for all jobs, and are shown once.
    """
    path = folder / REPORT
    with written_whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(_parts(ledger, folder, title, varying, sheets))
    return path


def _parts(ledger: Ledger, folder: Path, title: str, varying: Collection[str], sheets: Sequence[Path]) -> Iterator[str]:
    counts = ledger.counts()
    script = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
    yield (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_html(title)}: '
        f'{counts.done} of {counts.total} done</title>\n<meta name="viewport" content="width=device-width">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_html(policy)}">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<header>\n<h1>{_html(title)}</h1>\n"
        f'<p class="muted">A batch run by kandiflux, as of {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}</p>\n'
    )
    yield _counts(counts)
    first = next(ledger.entries(), None)
    values: Mapping[str, Any] = first.values if first else {}
    shared = {name: value for name, value in values.items() if name not in varying}
    if shared:
        yield f"<details><summary>In every job</summary>{_table(shared)}</details>\n"
    yield from _servers(ledger)
    if sheets:
        links = " · ".join(f'<a href="{quote(sheet.name)}">{_html(sheet.name)}</a>' for sheet in sheets)
        yield f"<p>{links}</p>\n"
    yield (
        '</header>\n<main>\n<p id="find" hidden><label for="words">Show only jobs with</label>'
        '<input id="words" type="search" autocomplete="off"> <span id="found" role="status"></span></p>\n'
    )
    if counts.failed:
        yield f'<h2 id="failed">Failed: {counts.failed}</h2>\n<ul class="jobs">\n'
        for entry in ledger.entries("failed"):
            yield _failure(entry, varying)
        yield "</ul>\n"
    yield f'<h2 id="done">Done: {counts.done}</h2>\n<ul class="jobs">\n'
    for entry in ledger.entries("done"):
        yield _job(ledger, folder, entry, varying, small=counts.done > _MANY)
    yield "</ul>\n"
    if counts.waiting + counts.sent:
        yield (
            f'<h2 id="waiting">Not done yet: {counts.waiting + counts.sent}</h2>\n'
            "<p>Run the same command again to continue.</p>\n"
        )
    yield f"</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def _counts(counts: Counts) -> str:
    shown = [
        ("done", counts.done, ""),
        ("failed", counts.failed, "bad"),
        ("not done yet", counts.waiting + counts.sent, ""),
    ]
    items = "".join(
        f'<li class="{kind}"><b>{number}</b> {word}</li>' for word, number, kind in shown if number or word == "done"
    )
    return f'<ul class="counts">{items}<li><b>{counts.total}</b> in total</li></ul>\n'


def _servers(ledger: Ledger) -> Iterator[str]:
    rows = ledger.by_server()
    if not rows:
        return
    yield (
        '<div class="wide"><table>\n<tr><th scope="col">Server</th><th scope="col">Jobs done</th>'
        '<th scope="col">Seconds per job</th><th scope="col">Seconds in total</th></tr>\n'
    )
    for server, done, mean, total in rows:
        yield (f"<tr><td>{_html(server)}</td><td>{done}</td><td>{_seconds(mean)}</td><td>{_seconds(total)}</td></tr>\n")
    yield "</table></div>\n"


def _job(ledger: Ledger, folder: Path, entry: Entry, varying: Collection[str], *, small: bool) -> str:
    described = ", ".join(f"{name} {value}" for name, value in entry.values.items()) or entry.name
    pictures = ""
    links: list[Saved] = []
    for file in entry.files:
        webp = thumbnail(ledger, folder, file)
        if webp is None:
            links.append(file)
            continue
        if small:
            webp = _tiny(webp)
        data = base64.b64encode(webp).decode()
        pictures += (
            f'<a href="{quote(file.path)}"><img src="data:image/webp;base64,{data}" alt="{_html(described)}"></a>'
        )
    body = f'<div class="pictures">{pictures}</div>' if pictures else ""
    body += "".join(f'<p><a href="{quote(file.path)}">{_html(file.path.rpartition("/")[2])}</a></p>' for file in links)
    body += "".join(
        f"<details><summary>text</summary><pre>{_html(_short(text))}</pre></details>" for text in entry.texts
    )
    about = {
        **_selected(entry.values, varying),
        "time": None if entry.seconds is None else f"{_seconds(entry.seconds)} s",
        "server": entry.server,
    }
    return f'<li class="job"><h3>{_heading(entry)}</h3>{body}{_table(about)}</li>\n'


def _failure(entry: Entry, varying: Collection[str]) -> str:
    error = entry.error or {}
    message = "\n".join(
        str(line) for line in (error.get("message"), error.get("hint") and f"Hint: {error['hint']}") if line
    )
    traceback = "".join(str(line) for line in error.get("traceback") or ())
    more = f"<details><summary>traceback</summary><pre>{_html(_short(traceback))}</pre></details>" if traceback else ""
    about = {**_selected(entry.values, varying), "server": entry.server}
    return (
        f'<li class="job failed"><h3>{_heading(entry)}: {_html(str(error.get("error", "")))}</h3>'
        f'<p class="message">{_html(shortened(message))}</p>{more}{_table(about)}</li>\n'
    )


def _selected(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def _heading(entry: Entry) -> str:
    """Returns the name as HTML, with an optional line break after each `_`."""
    return _html(entry.name).replace("_", "_<wbr>")


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<dt>{_html(name)}</dt><dd>{_html(_shown(value))}</dd>" for name, value in values.items() if value is not None
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _html(text: str) -> str:
    """Escapes HTML and control characters."""
    return escape(escaped(text))


def _short(text: str) -> str:
    return shortened(text, _TEXT_LIMIT, _TEXT_LINES)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else shortened(str(value))


def _tiny(webp: bytes) -> bytes:
    from PIL import Image

    picture = Image.open(io.BytesIO(webp))
    picture.thumbnail((_TINY, _TINY))
    found = io.BytesIO()
    picture.save(found, "WEBP", quality=60, method=2)
    return found.getvalue()


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"
