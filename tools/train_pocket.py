"""Train the pocket weights from nothing: drawn pictures, no downloads, on CPU or CUDA."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import torch
from pocket.export import export
from pocket.train_decoder import finish_decoder, polish_decoder, train_decoder
from pocket.train_encoders import polish_encoders, train_encoders
from pocket.train_movq import polish_movq, train_movq
from pocket.train_prior import polish_prior, train_prior

TRAINERS: dict[str, Callable[[Path, int, torch.device], None]] = {
    "movq": train_movq,
    "movq_polish": polish_movq,
    "encoders": train_encoders,
    "encoders_polish": polish_encoders,
    "prior": train_prior,
    "prior_polish": polish_prior,
    "decoder": train_decoder,
    "decoder_polish": polish_decoder,
    "decoder_finish": finish_decoder,
}
PARTS = (*TRAINERS, "export")

EXAMPLES = """examples:
  python tools/train_pocket.py                       everything, in order, into weights/pocket
  python tools/train_pocket.py --parts movq          one part; what it needs must have been trained
  python tools/train_pocket.py --work /tmp/pocket    keep checkpoints there; run again to resume

Beside each other, each with a part of the threads, can run: the two of movq and the two of the encoders; then prior and
the two of the decoder.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to train (default: all)")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "pocket", help="folder for checkpoints")
    parser.add_argument("--out", type=Path, default=ROOT / "weights" / "pocket", help="where export writes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    parser.add_argument("--seed", type=int, default=22)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    arguments.work.mkdir(parents=True, exist_ok=True)
    device = torch.device(arguments.device)
    for part in arguments.parts:
        if part == "export":
            export(arguments.work, arguments.out, arguments.seed)
        else:
            TRAINERS[part](arguments.work, arguments.seed, device)


if __name__ == "__main__":
    main()
