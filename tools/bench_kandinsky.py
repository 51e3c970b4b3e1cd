"""Measure Kandinsky 2.2 here against diffusers: the same weights and inputs, in turn, medians, and ours over theirs.

A step is measured as it comes in a run: what a side makes once a run is made before, and is part of the whole picture's
row. Loading and memory are measured in fresh processes, in turn, too. docs/performance.md has results.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

EXAMPLES = """examples:
  python tools/bench_kandinsky.py                         pocket weights, every row: exit code 1 if a bar is missed
  python tools/bench_kandinsky.py --rows unet movq --repeats 30 --threads 1
  python tools/bench_kandinsky.py --weights full --repeats 3       random weights of the published sizes: 10 GB of disk
                                                          and 12 GB of memory
  python tools/bench_kandinsky.py --weights full --folder /big/full     write them there, and leave them for next time
  python tools/bench_kandinsky.py --device cuda --json > bench.json
"""

ROWS = {
    "prior": "prior, a step",
    "unet": "UNet, a step",
    "movq": "MOVQ, decode",
    "picture": "end to end",
    "load": "load",
    "first": "process start to first picture",
    "memory": "peak memory",
}
STEPS_ROWS, PROBED_ROWS = ("prior", "unet", "movq", "picture"), ("load", "first", "memory")
BARS = {"picture": 0.8, "load": 0.6}
"""Ours over theirs, at most; 1 for the other rows."""
SIDES = ("ours", "theirs")
PROMPT = "a red circle on a blue background"
SEED = 3


@dataclass(frozen=True)
class Job:
    """What both sides are given."""

    prior: Path
    decoder: Path
    size: int
    prior_steps: int
    steps: int
    device: str
    threads: int | None
    guidance: float = 4.0


@dataclass(frozen=True)
class Row:
    """Medians of one row's measurements (seconds, or bytes for memory), and their ratio."""

    row: str
    ours: float
    theirs: float
    ratio: float
    bar: float
    repeats: int

    @property
    def met(self) -> bool:
        return round(self.ratio, 2) <= self.bar


Measured = dict[str, list[float]]
"""Side → a measurement for each repeat."""
Note = Callable[[str], None]


# --- The two sides: each has load(part), and a callable for every row ------------------------------------------------


class Ours:
    def __init__(self, job: Job) -> None:
        from nodes import host

        class Resident(host.Host):
            """No host, with the networks left on the job's device, as the other side leaves them."""

            def device(self) -> Any:
                return torch.device(job.device)

            @contextmanager
            def loaded(self, module: Any, memory: int = 0) -> Iterator[Any]:
                yield self.device()

        import torch

        resident = Resident()
        host.current = lambda: resident  # pyright: ignore[reportAttributeAccessIssue]
        self.job = job

    def load(self, part: str) -> None:
        import torch

        from nodes.decoders import read_decoder, read_movq
        from nodes.models.loader import load_prior
        from nodes.networks import load_model, load_vae

        if part == "prior":
            self.prior = load_prior(self.job.prior)
            networks: tuple[Any, ...] = (self.prior.text_encoder, self.prior.image_encoder, self.prior.prior)
        else:
            file, decoder = read_decoder(self.job.decoder, "decoder")
            self.vae = load_vae(*read_movq(self.job.decoder), torch.float32)
            self.decoder = load_model(file, decoder, torch.float32)
            network: Any = decoder.network
            self.image_width: int = network.image_width
            networks = (self.decoder.unet, self.vae.movq)
        for network in networks:
            network.to(self.job.device)

    def step_prior(self, x: Any, t: Any, embeds: Any, states: Any, mask: Any) -> Callable[[], Any]:
        conditions = self.prior.prior.prepare(embeds, states, mask)
        return lambda: self.prior.prior(x, t, conditions)

    def step_unet(self, x: Any, t: Any, embeds: Any) -> Callable[[], Any]:
        unet: Any = self.decoder.unet
        conditions = unet.prepare(embeds)
        return lambda: unet(x, t, conditions)

    def decode_movq(self, latents: Any) -> Callable[[], Any]:
        return lambda: self.vae.movq.decode(latents)

    def draw(self) -> Any:
        """[1, H, W, 3] in 0..1."""
        from nodes.pipelines import embeds_to_latents, latents_to_image, text_to_embeds

        job = self.job
        embeds, away = text_to_embeds(self.prior, PROMPT, "", SEED, job.prior_steps, job.guidance)
        size = (job.size, job.size)
        latents, vae = embeds_to_latents(self.decoder, embeds, away, size, SEED, job.steps, job.guidance, vae=self.vae)
        return latents_to_image(vae, latents).numpy()

    def size_of(self, part: str) -> tuple[int, int]:
        """(image embeds' width, text tokens)."""
        if part == "prior":
            return self.prior.width, self.prior.prior.config.num_embeddings
        return self.image_width, 0


class Theirs:
    prior: Any
    decoder: Any

    def __init__(self, job: Job) -> None:
        from diffusers.utils import logging

        logging.disable_progress_bar()
        self.job = job

    def load(self, part: str) -> None:
        import torch
        from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

        kind: Any = KandinskyV22PriorPipeline if part == "prior" else KandinskyV22Pipeline
        folder = self.job.prior if part == "prior" else self.job.decoder
        pipeline = kind.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True).to(self.job.device)
        pipeline.set_progress_bar_config(disable=True)
        setattr(self, part, pipeline)

    def step_prior(self, x: Any, t: Any, embeds: Any, states: Any, mask: Any) -> Callable[[], Any]:
        network = self.prior.prior
        return lambda: network(x, t, embeds, states, mask.bool(), return_dict=False)[0]

    def step_unet(self, x: Any, t: Any, embeds: Any) -> Callable[[], Any]:
        network, conditions = self.decoder.unet, {"image_embeds": embeds}
        return lambda: network(x, t, None, added_cond_kwargs=conditions, return_dict=False)[0]

    def decode_movq(self, latents: Any) -> Callable[[], Any]:
        network = self.decoder.movq
        return lambda: network.decode(latents, force_not_quantize=True, return_dict=False)[0]

    def draw(self) -> Any:
        import torch

        job = self.job
        embeds = self.prior(
            PROMPT,
            num_inference_steps=job.prior_steps,
            guidance_scale=job.guidance,
            generator=torch.Generator().manual_seed(SEED),
        )
        return self.decoder(
            embeds.image_embeds,
            embeds.negative_image_embeds,
            height=job.size,
            width=job.size,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance,
            generator=torch.Generator().manual_seed(SEED),
            output_type="np",
        ).images


def side(name: str, job: Job) -> Any:
    return Ours(job) if name == "ours" else Theirs(job)


# --- Measuring -------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], Any], device: str) -> float:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def in_turn(calls: dict[str, Callable[[], Any]], repeats: int, device: str, note: Note, row: str) -> Measured:
    """Ours, theirs, ours, theirs …, after one of each that is not counted. Their answers must agree."""
    first = {name: call() for name, call in calls.items()}
    apart = abs(first["ours"] - first["theirs"]).max() / abs(first["theirs"]).max()
    note(f"{ROWS[row]}: the two differ by {apart:.1e} of the largest value at most")
    measured: Measured = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            measured[name].append(seconds(call, device))
    return measured


def measure_here(rows: Sequence[str], job: Job, repeats: int, note: Note) -> dict[str, Measured]:
    """The rows that both sides run in this process."""
    import torch

    rows = [row for row in STEPS_ROWS if row in rows]
    measured: dict[str, Measured] = {}
    if not rows:
        return measured
    set_threads(job)
    both = {name: side(name, job) for name in SIDES}
    held: set[str] = set()

    def have(*parts: str) -> None:
        """Load what a row needs, and drop what it does not: at full size, two priors and two UNets are 19 GB."""
        for part in held.difference(parts):
            for one in both.values():
                delattr(one, part)
        for part in set(parts) - held:
            note(f"loading the {part}")
            for one in both.values():
                one.load(part)
        held.clear()
        held.update(parts)

    torch.manual_seed(SEED)
    time_of = torch.tensor([500, 500], device=job.device)
    latent = job.size // 8
    with torch.inference_mode():
        for row in rows:
            have(*{"prior": ("prior",), "picture": ("prior", "decoder")}.get(row, ("decoder",)))
            calls: dict[str, Callable[[], Any]]
            if row == "prior":
                width, tokens = both["ours"].size_of("prior")
                shapes = ((2, width), (2, width), (2, tokens, width))
                x, embeds, states = (torch.randn(shape, device=job.device) for shape in shapes)
                mask = (torch.arange(tokens, device=job.device) < torch.tensor([[2], [12]], device=job.device)).float()
                calls = {name: one.step_prior(x, time_of, embeds, states, mask) for name, one in both.items()}
            elif row == "unet":
                embeds = torch.randn((2, both["ours"].size_of("decoder")[0]), device=job.device)
                x = torch.randn((2, 4, latent, latent), device=job.device)
                calls = {name: one.step_unet(x, time_of, embeds) for name, one in both.items()}
            elif row == "movq":
                latents = torch.randn((1, 4, latent, latent), device=job.device)
                calls = {name: one.decode_movq(latents) for name, one in both.items()}
            else:
                calls = {name: one.draw for name, one in both.items()}
            measured[row] = in_turn(calls, repeats, job.device, note, row)
    return measured


def set_threads(job: Job) -> None:
    import torch

    if job.threads:
        torch.set_num_threads(job.threads)


def probe(name: str, job: Job) -> dict[str, float]:
    """In a process of its own: seconds to load, imports apart; seconds from its start to the first picture, imports and
    all; bytes at the peak."""
    begin = time.perf_counter()
    import torch

    if name == "ours":
        from transformers import CLIPTokenizer  # noqa: F401

        import nodes.pipelines  # noqa: F401
    else:
        from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline  # noqa: F401
    gc.collect()  # or what the imports left falls to one side's loading or the other's, by chance

    set_threads(job)
    one = side(name, job)
    load = seconds(lambda: [one.load(part) for part in ("prior", "decoder")], job.device)
    one.draw()
    first = time.perf_counter() - begin
    cuda = job.device.startswith("cuda")
    return {"load": load, "first": first, "memory": torch.cuda.max_memory_allocated() if cuda else peak_memory()}


def peak_memory() -> float:
    """This process's largest resident size so far, in bytes, mapped files included."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_apart(rows: Sequence[str], job: Job, repeats: int, note: Note) -> dict[str, Measured]:
    """The rows that want a fresh process for each measurement; all of them come from the same ones."""
    rows = [row for row in PROBED_ROWS if row in rows]
    measured: dict[str, Measured] = {row: {name: [] for name in SIDES} for row in rows}
    if not rows:
        return measured
    for i in range(repeats + 1):
        for name in SIDES:
            note(f"fresh process {i}/{repeats}: {name}" + (", not counted" if i == 0 else ""))
            asked = json.dumps(asdict(job), default=str)
            command = [sys.executable, __file__, "--probe", name, asked]
            answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            if i:
                found = json.loads(answer.stdout.splitlines()[-1])
                for row in rows:
                    measured[row][name].append(found[row])
    return measured


def summary(measured: dict[str, Measured]) -> list[Row]:
    rows = []
    for row, sides in measured.items():
        ours, theirs = (statistics.median(sides[name]) for name in SIDES)
        rows.append(Row(row, ours, theirs, ours / theirs, BARS.get(row, 1.0), len(sides["ours"])))
    return rows


def table(rows: Sequence[Row]) -> str:
    lines = ["| | ours | diffusers | ratio | bar | |", "|---|---|---|---|---|---|"]
    for row in rows:
        ours, theirs = (quantity(row.row, value) for value in (row.ours, row.theirs))
        met = "met" if row.met else "**missed**"
        lines.append(f"| {ROWS[row.row]} | {ours} | {theirs} | {row.ratio:.2f} | {row.bar:g} | {met} |")
    return "\n".join(lines)


def quantity(row: str, value: float) -> str:
    if row == "memory":
        return f"{value / 2**20:.0f} MiB"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


# --- Random weights of the published sizes ---------------------------------------------------------------------------


def write_full(folder: Path, note: Note) -> None:
    """A prior folder and a decoder folder as published but for random weights and small CLIP encoders. Networks that
    are there already are left."""
    from nodes.models.movq import MOVQ, MOVQConfig
    from nodes.models.prior import PriorConfig, PriorTransformer
    from nodes.models.unet2 import UNet2, UNet2Config

    pocket = ROOT / "weights" / "pocket"
    for kind in ("prior", "decoder"):
        target, source = folder / kind, pocket / f"kandinsky-2-2-pocket-{kind}"
        target.mkdir(parents=True, exist_ok=True)
        for path in source.rglob("*"):
            if path.is_file() and path.suffix != ".safetensors":
                (target / path.relative_to(source)).parent.mkdir(exist_ok=True)
                shutil.copy(path, target / path.relative_to(source))
    networks: dict[str, tuple[Any, Any]] = {
        "prior/prior": (PriorTransformer, PriorConfig()),
        "decoder/unet": (UNet2, UNet2Config()),
        "decoder/movq": (MOVQ, MOVQConfig()),
    }
    for name, (kind, config) in networks.items():
        edit_json(folder / name / "config.json", {**asdict(config)})
        file = folder / name / "diffusion_pytorch_model.safetensors"
        if not file.is_file():
            note(f"writing random weights: {file}")
            write_random(kind(config, device="meta"), file)
    tokens, width = PriorConfig().num_embeddings, PriorConfig().embedding_dim
    edit_json(folder / "prior" / "tokenizer" / "tokenizer_config.json", {"model_max_length": tokens})
    write_encoders(folder / "prior", tokens, width)


def edit_json(file: Path, changes: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write_random(network: Any, file: Path) -> None:
    """Weights that keep a signal about as large as it came; norms' scales about 1."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    tensors = {}
    for key, value in network.state_dict().items():
        tensors[key] = torch.randn(value.shape) * (0.6 / value[0].numel() ** 0.5 if value.ndim > 1 else 0.1)
        if value.ndim == 1 and key.endswith("weight"):
            tensors[key] += 1
    save_file(tensors, file)


def write_encoders(folder: Path, tokens: int, width: int) -> None:
    """CLIP encoders of one layer, the text's as wide as the published one: the prior reads its hidden states."""
    import torch
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    torch.manual_seed(SEED)
    text = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    text.update({"hidden_size": width, "projection_dim": width, "num_hidden_layers": 1})
    text.update({"num_attention_heads": 20, "max_position_embeddings": tokens, "dtype": "float32"})
    vision = CLIPVisionConfig.from_pretrained(folder / "image_encoder")
    vision.update({"projection_dim": width, "num_hidden_layers": 1, "dtype": "float32"})
    CLIPTextModelWithProjection(text).save_pretrained(folder / "text_encoder")
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")


# --- The command -----------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", choices=("pocket", "full"), default="pocket")
    parser.add_argument("--folder", type=Path, help="where full-size weights are kept (a temporary one, deleted after)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--repeats", type=int, default=10, help="measurements of each side in this process (10)")
    parser.add_argument("--processes", type=int, default=5, help="and in fresh processes (5)")
    parser.add_argument("--size", type=int, help="side of the pictures in pixels, a multiple of 64 (128; full: 256)")
    parser.add_argument("--prior-steps", type=int, help="(25; full: 2)")
    parser.add_argument("--steps", type=int, help="decoder steps (30; full: 2)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (as many as torch takes)")
    parser.add_argument("--json", action="store_true", help="print the rows with every measurement as JSON")
    parser.add_argument("--probe", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a bar is missed."""
    arguments = parse(argv)
    if arguments.probe:
        name, asked = arguments.probe
        values = json.loads(asked)
        job = Job(**values | {"prior": Path(values["prior"]), "decoder": Path(values["decoder"])})
        print(json.dumps(probe(name, job)))
        return 0

    def note(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with weights(arguments, note) as (prior, decoder):
        full = arguments.weights == "full"
        job = Job(
            prior,
            decoder,
            size=arguments.size or (256 if full else 128),
            prior_steps=arguments.prior_steps or (2 if full else 25),
            steps=arguments.steps or (2 if full else 30),
            device=arguments.device,
            threads=arguments.threads,
        )
        measured = measure_apart(arguments.rows, job, arguments.processes, note)
        measured = measure_here(arguments.rows, job, arguments.repeats, note) | measured
    rows = summary(measured)
    if arguments.json:
        print(json.dumps([asdict(row) | {"met": row.met, "measured": measured[row.row]} for row in rows], indent=1))
    else:
        print(table(rows))
    return 0 if all(row.met for row in rows) else 1


@contextmanager
def weights(arguments: argparse.Namespace, note: Note) -> Iterator[tuple[Path, Path]]:
    """The prior's folder and the decoder's."""
    if arguments.weights == "pocket":
        pocket = ROOT / "weights" / "pocket"
        yield pocket / "kandinsky-2-2-pocket-prior", pocket / "kandinsky-2-2-pocket-decoder"
        return
    with tempfile.TemporaryDirectory(prefix="kandinsky-full-") as temporary:
        folder = arguments.folder or Path(temporary)
        write_full(folder, note)
        yield folder / "prior", folder / "decoder"


if __name__ == "__main__":
    sys.exit(main())
