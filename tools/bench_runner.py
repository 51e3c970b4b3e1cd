"""Measure the runner beside what it competes with, on one server and in one run.

    latency      one job, from the prompt in hand to its picture in memory
    throughput   many jobs of one picture each, from the first POST to the last job's end; once with hardly any work
                 (16² pixels), once with a little (2048²)
    memory       peak of a process that holds many queued jobs
    waiting      CPU time of a process that waits for a job
    start        `kandiflux run`, from the process's start to its first request

"bare" is the protocol loop of the official websocket example script (a socket, a POST, frames until the node is null,
history, view), and for throughput POSTs one after another over one connection, then polling until the queue is empty,
with nothing followed and nothing fetched: the least that can be done. "bare, fetched" is the loop with all jobs posted
at once: what anybody who wants the pictures has to do. docs/performance.md has results.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "runner")]

EXAMPLES = """examples:
  python tools/bench_runner.py                            on a lite host of its own
  python tools/bench_runner.py --server http://127.0.0.1:8188 --rows latency throughput
  python tools/bench_runner.py --others ENV/bin/python    beside comfy-api-simplified and comfy-cli, installed there
"""

ROWS = ("latency", "throughput", "memory", "waiting", "start")
SMALL, LARGE = 16, 2048
"""Sides of the pictures in pixels: hardly any work for the server, and a little."""


@dataclass(frozen=True)
class Row:
    """What was measured, in `unit`; `ratio` to the bare loop where there is one; `bar`: at most, or, for throughput,
    at least."""

    row: str
    side: str
    value: float
    unit: str
    ratio: float | None = None
    bar: float | None = None
    met: bool | None = None


Note = Callable[[str], None]


def nodes(number: int, side: int = SMALL) -> dict[str, Any]:
    """A prompt that no other number's is, so that no cache answers it."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": side, "height": side, "batch_size": 1, "color": number % 0xFFFFFF},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix(number)}},
    }


def prefix(number: int) -> str:
    """SaveImage looks at every file of the folder for the next free number, so no folder may become large."""
    return f"bench/{number // 50}/{number}"


class Numbers:
    """Numbers that this server has not seen."""

    def __init__(self) -> None:
        self._next = int(time.time()) % 100_000 * 100

    def take(self, count: int = 1) -> range:
        first, self._next = self._next, self._next + count
        return range(first, first + count)


# --- The least that can be done -------------------------------------------------------------------------------------


class Bare:
    """One websocket, one job at a time."""

    def __init__(self, url: str) -> None:
        import websocket

        self.url, self.client_id = url, str(uuid.uuid4())
        self.socket = websocket.WebSocket()
        self.socket.connect(f"{url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}")

    def run(self, prompt: dict[str, Any]) -> list[bytes]:
        prompt_id = self.post(prompt)
        while self.ended() != prompt_id:
            pass
        return self.fetch(prompt_id)

    def ended(self) -> str:
        """The next prompt of which the websocket says that nothing runs any more."""
        while True:
            frame = self.socket.recv()
            if not isinstance(frame, str):
                continue
            message = json.loads(frame)
            if message["type"] == "executing" and message["data"]["node"] is None:
                return message["data"]["prompt_id"]

    def fetch(self, prompt_id: str) -> list[bytes]:
        with urllib.request.urlopen(f"{self.url}/history/{prompt_id}") as answer:
            outputs = json.loads(answer.read())[prompt_id]["outputs"]
        return [self.view(image) for output in outputs.values() for image in output["images"]]

    def post(self, prompt: dict[str, Any]) -> str:
        body = json.dumps({"prompt": prompt, "client_id": self.client_id}).encode()
        request = urllib.request.Request(f"{self.url}/prompt", data=body)
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())["prompt_id"]

    def view(self, image: dict[str, str]) -> bytes:
        query = urllib.parse.urlencode({key: image[key] for key in ("filename", "subfolder", "type")})
        with urllib.request.urlopen(f"{self.url}/view?{query}") as answer:
            return answer.read()


def bare_throughput(url: str, numbers: Sequence[int], side: int = SMALL) -> float:
    """Seconds for all, with nothing followed and nothing fetched."""
    import requests

    with requests.Session() as session:
        begin = time.perf_counter()
        for number in numbers:
            session.post(f"{url}/prompt", json={"prompt": nodes(number, side)}).raise_for_status()
        while True:
            queue = session.get(f"{url}/queue").json()
            if not queue["queue_running"] and not queue["queue_pending"]:
                return time.perf_counter() - begin
            time.sleep(0.02)


def fetching_throughput(url: str, numbers: Sequence[int], side: int = SMALL) -> float:
    """Seconds for all, each followed over the websocket, and its picture fetched."""
    bare = Bare(url)
    begin = time.perf_counter()
    with ThreadPoolExecutor(1) as poster:
        posted = [poster.submit(bare.post, nodes(number, side)) for number in numbers]
        for _ in numbers:
            if len(bare.fetch(bare.ended())) != 1:
                raise RuntimeError("Expected a picture from each job.")
        for post in posted:
            post.result()
    seconds = time.perf_counter() - begin
    bare.socket.close()
    return seconds


# --- Ours, in this process ------------------------------------------------------------------------------------------


def our_throughput(url: str, numbers: Sequence[int], side: int = SMALL) -> float:
    """Seconds from the first POST to the last job's end, as a batch, with every picture fetched and saved."""
    from kandiflux.batch import Batch, BatchEvent, JobList, read_jobs

    times: list[float] = []

    def note_time(event: BatchEvent) -> None:
        if event.kind in ("sent", "done"):
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        workflow, jobs = write_files(Path(folder), numbers, side)
        batch = Batch(str(workflow), JobList(rows=read_jobs(jobs)), Path(folder, "out"), servers=[url], pages=False)
        summary = batch.run(note_time)
    if summary.done != len(numbers):
        raise RuntimeError(f"Expected {len(numbers)} jobs to be done, got {summary}.")
    return times[-1] - times[0]


def write_files(folder: Path, numbers: Sequence[int], side: int = SMALL) -> tuple[Path, Path]:
    """A workflow in the API format, and a list of jobs that make each of `numbers` of it."""
    workflow, jobs = folder / "workflow.json", folder / "jobs.jsonl"
    workflow.write_text(json.dumps(nodes(0, side)))
    rows = ({"1.color": number % 0xFFFFFF, "2.filename_prefix": prefix(number)} for number in numbers)
    jobs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return workflow, jobs


# --- The rows -------------------------------------------------------------------------------------------------------


def latency(url: str, numbers: Numbers, repeats: int, others: Path | None, note: Note) -> list[Row]:
    from kandiflux import Client

    bare = Bare(url)
    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    with Client(url) as client:

        def ours(prompt: dict[str, Any]) -> list[bytes]:
            return [image.read() for image in client.submit(prompt).result().images]

        calls = {"bare": bare.run, "ours": ours}
        for i in range(repeats + 3):
            for name, call in list(calls.items())[:: 1 if i % 2 else -1]:
                prompt = nodes(numbers.take()[0])
                begin = time.perf_counter()
                pictures = call(prompt)
                if i >= 3:
                    seconds[name].append(time.perf_counter() - begin)
                if len(pictures) != 1:
                    raise RuntimeError(f"Expected a picture from {name}, got {len(pictures)}.")
    bare.socket.close()
    if others is not None:
        note("latency of comfy-api-simplified")
        prompts = [nodes(number) for number in numbers.take(repeats + 3)]
        answer = subprocess.run(
            [str(others), "-c", SIMPLIFIED, url],
            input=json.dumps(prompts),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds["comfy-api-simplified"] = json.loads(answer.stdout.splitlines()[-1])[3:]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        compared("latency", name, value * 1000, "ms", medians["bare"] * 1000, 1.05) for name, value in medians.items()
    ]


SIMPLIFIED = """
import json, sys, time
from comfy_api_simplified import ComfyApiWrapper
api, seconds = ComfyApiWrapper(sys.argv[1]), []
import asyncio
for prompt in json.load(sys.stdin):
    begin = time.perf_counter()
    prompt_id, _ = asyncio.run(api.queue_prompt_and_wait(prompt))
    history = api.get_history(prompt_id)[prompt_id]
    for output in history["outputs"].values():
        for image in output["images"]:
            api.get_image(image["filename"], image["subfolder"], image["type"])
    seconds.append(time.perf_counter() - begin)
print(json.dumps(seconds))
"""


def throughput(url: str, numbers: Numbers, jobs: int, note: Note) -> list[Row]:
    calls = {"bare": bare_throughput, "bare, fetched": fetching_throughput, "ours": our_throughput}
    rows: list[Row] = []
    for side, count in ((SMALL, jobs), (LARGE, max(jobs // 10, 10))):
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for i in range(4):
            for name, call in calls.items():
                now = count if i else 20
                note(f"throughput, {now} jobs of {side}²: {name}" + ("" if i else ", not counted"))
                seconds = call(url, numbers.take(now), side)
                if i:
                    rates[name].append(now / seconds)
        medians = {name: statistics.median(values) for name, values in rates.items()}
        about = f"throughput, {side}²"
        rows += [compared(about, name, value, "jobs/s", medians["bare"], 0.95) for name, value in medians.items()]
    return rows


def compared(row: str, side: str, value: float, unit: str, bare: float, bar: float) -> Row:
    """A row beside the bare loop's; only ours has a bar."""
    ratio = value / bare
    if side != "ours":
        return Row(row, side, value, unit, ratio)
    met = round(ratio, 2) >= bar if bar < 1 else round(ratio, 2) <= bar
    return Row(row, side, value, unit, ratio, bar, met)


def memory(url: str, numbers: Numbers, jobs: int, note: Note) -> list[Row]:
    note(f"memory of a batch of {jobs} jobs")
    with tempfile.TemporaryDirectory() as folder:
        workflow, listed = write_files(Path(folder), numbers.take(jobs))
        arguments = [
            "batch",
            str(workflow),
            "--jobs",
            str(listed),
            "--server",
            url,
            "--out",
            f"{folder}/out",
            "--quiet",
        ]
        process = subprocess.Popen(kandiflux(*arguments), stdout=subprocess.PIPE, text=True, env=environment())
        for _ in range(100):  # by then every job is listed and the servers have their backlogs
            if process.stdout is not None and not process.stdout.readline():
                raise RuntimeError("Expected the batch to save pictures, but it ended.")
        peak = peak_memory(process.pid) / 2**20
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    return [Row("memory", "ours", peak, "MB", None, 150, peak < 150)]


def peak_memory(pid: int) -> float:
    """Largest resident size so far, in bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def waiting(url: str, seconds: float, note: Note) -> list[Row]:
    note(f"CPU of waiting for a job of {seconds:g} s")
    answer = subprocess.run(
        [sys.executable, __file__, "--wait", url, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment(),
    )
    share = float(answer.stdout.splitlines()[-1]) * 100
    return [Row("waiting", "ours", share, "% of a core", None, 1.0, share < 1.0)]


def wait(url: str, seconds: float) -> float:
    """The CPU time that waiting for one slow node takes this process, over the time it waits."""
    from kandiflux import Client

    prompt = {
        "1": {"class_type": "ProbeSteps", "inputs": {"steps": 1, "delay": seconds, "preview": "none"}},
        "2": {"class_type": "ProbeShow", "inputs": {"value": ["1", 0]}},
    }
    with Client(url) as client:
        job = client.submit(prompt)
        begin, used = time.monotonic(), cpu_seconds()
        job.result()
        return (cpu_seconds() - used) / (time.monotonic() - begin)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def start(repeats: int, others: Path | None, note: Note) -> list[Row]:
    """A server that only listens: when does the first connection come?"""
    with tempfile.TemporaryDirectory() as folder:
        workflow, _ = write_files(Path(folder), [0])
        url = "http://127.0.0.1:{port}"
        commands = {"ours": (kandiflux("run", str(workflow), "--server", url, "--out", folder), environment())}
        if others is not None:
            comfy = [str(others.with_name("comfy")), "--skip-prompt", "run", "--workflow", str(workflow)]
            commands["comfy-cli"] = ([*comfy, "--host", "127.0.0.1", "--port", "{port}"], dict(os.environ))
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for i in range(repeats + 1):
            for name, (command, variables) in commands.items():
                note(f"start {i}/{repeats}: {name}")
                taken = first_connection(command, variables)
                if i:
                    seconds[name].append(taken)
    rows = []
    for name, values in seconds.items():
        value = statistics.median(values)
        rows.append(Row("start", name, value, "s", None, *((0.7, value < 0.7) if name == "ours" else (None, None))))
    return rows


def first_connection(command: Sequence[str], variables: dict[str, str]) -> float:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        port = str(listener.getsockname()[1])
        begin = time.perf_counter()
        process = subprocess.Popen(
            [part.replace("{port}", port) for part in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=variables,
        )
        try:
            connection, _ = listener.accept()
            seconds = time.perf_counter() - begin
            connection.close()
        finally:
            process.kill()
            process.wait()
    return seconds


def kandiflux(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kandiflux", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "runner")}


# --- The command ----------------------------------------------------------------------------------------------------


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The one that is named, or a lite host of our own, with the tests' slow node."""
    if url is not None:
        yield url.rstrip("/")
        return
    with tempfile.TemporaryDirectory() as folder:
        pack = ROOT / "tests" / "protocol_pack"
        command = kandiflux("host", "--port", "0", "--cpu", "--node-pack", str(pack))
        command += ["--output", f"{folder}/output", "--temp", f"{folder}/temp"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
        )
        try:
            line = process.stdout.readline().strip() if process.stdout is not None else ""
            if not line:
                raise RuntimeError("The lite host did not start: try `kandiflux host`.")
            yield line
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def table(rows: Sequence[Row]) -> str:
    lines = ["| | side | | to the bare loop | bar | |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = {None: "", True: "met", False: "**missed**"}[row.met]
        bar = "" if row.bar is None else f"{row.bar:g}"
        lines.append(f"| {row.row} | {row.side} | {row.value:.3g} {row.unit} | {ratio} | {bar} | {met} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--server", help="URL; without one a lite host is started")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--repeats", type=int, default=60, help="of latency (60); a tenth as many of start")
    parser.add_argument("--jobs", type=int, default=1000, help="of throughput (1000)")
    parser.add_argument("--queued", type=int, default=10_000, help="jobs of the memory row (10000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of waiting (10)")
    parser.add_argument("--others", type=Path, help="a Python that has comfy-api-simplified and comfy-cli")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--wait", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.wait:
        print(wait(arguments.wait[0], float(arguments.wait[1])))
        return 0

    def note(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    rows: list[Row] = []
    numbers = Numbers()
    with server(arguments.server) as url:
        if "latency" in arguments.rows:
            rows += latency(url, numbers, arguments.repeats, arguments.others, note)
        if "throughput" in arguments.rows:
            rows += throughput(url, numbers, arguments.jobs, note)
        if "waiting" in arguments.rows:
            rows += waiting(url, arguments.seconds, note)
        if "memory" in arguments.rows:
            rows += memory(url, numbers, arguments.queued, note)
    if "start" in arguments.rows:
        rows += start(max(3, arguments.repeats // 10), arguments.others, note)
    print(json.dumps([asdict(row) for row in rows], indent=1) if arguments.json else table(rows))
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
