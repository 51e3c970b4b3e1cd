"""The models a prompt is written for: their text encoders, and how much of a prompt each reads.

Limits of FLUX.2 are those of github.com/black-forest-labs/flux2 (MAX_LENGTH), of Kandinsky 5 those of the configs in
github.com/kandinskylab/kandinsky-5.
"""

from __future__ import annotations

from dataclasses import dataclass

FLUX, FLUX2, SD15, KANDINSKY, KANDINSKY5 = "flux", "flux2", "sd15", "kandinsky", "kandinsky5"
CLIP, T5, MCLIP, QWEN, MISTRAL = "clip", "t5", "mclip", "qwen", "mistral"


@dataclass(frozen=True)
class Encoder:
    """A text encoder: its tokenizer, and the number of tokens it takes, `marks` (special and template tokens) included.

    `beyond` is what happens to further tokens: "lost" (cut off), "chunked" (encoded in further chunks of 75), "unread"
    (only the first chunk is used), or "untrained" (used, but no prompt in training was as long).
    """

    tokenizer: str
    title: str
    limit: int
    beyond: str
    marks: int = 2


@dataclass(frozen=True)
class Target:
    name: str
    title: str
    family: str
    encoders: tuple[Encoder, ...]
    negative_prompt: bool = True
    reads_weights: bool = False
    """Whether `(words:1.2)` has the effect people expect."""
    parses_parentheses: bool = False
    """Whether ComfyUI takes parentheses for weights before the model sees them."""
    sentences: bool = True
    """Whether it was trained with sentences, or with phrases between commas."""
    english_only: bool = False


_CLIP_BESIDE = Encoder(CLIP, "CLIP-L", 77, "unread")
TARGETS = {
    target.name: target
    for target in (
        Target("flux-dev", "FLUX.1 dev", FLUX, (Encoder(T5, "T5", 512, "untrained", 1), _CLIP_BESIDE),
               negative_prompt=False, parses_parentheses=True, english_only=True),
        Target("flux-schnell", "FLUX.1 schnell", FLUX, (Encoder(T5, "T5", 256, "untrained", 1), _CLIP_BESIDE),
               negative_prompt=False, parses_parentheses=True, english_only=True),
        Target("sd15", "SD1.5", SD15, (Encoder(CLIP, "CLIP-L", 77, "chunked"),),
               reads_weights=True, parses_parentheses=True, sentences=False, english_only=True),
        Target("kandinsky-2.1", "Kandinsky 2.1", KANDINSKY,
               (Encoder(CLIP, "CLIP-L", 77, "lost"), Encoder(MCLIP, "M-CLIP", 77, "lost")), sentences=False),
        Target("kandinsky-2.2", "Kandinsky 2.2", KANDINSKY, (Encoder(CLIP, "CLIP-bigG", 77, "lost"),),
               sentences=False),
        Target("kandinsky-3", "Kandinsky 3", KANDINSKY, (Encoder(T5, "FLAN-UL2", 128, "lost", 1),), sentences=False),
        # ComfyUI has no file of Mistral's tokenizer (it is in the text encoder's): counted by an estimate.
        Target("flux2-dev", "FLUX.2 dev", FLUX2, (Encoder(MISTRAL, "Mistral", 512, "untrained", 34),),
               negative_prompt=False),
        Target("flux2-klein", "FLUX.2 klein", FLUX2, (Encoder(QWEN, "Qwen3", 512, "untrained", 12),),
               negative_prompt=False),
        Target("kandinsky-5", "Kandinsky 5 Image", KANDINSKY5,
               (Encoder(QWEN, "Qwen2.5-VL", 512, "untrained", 1), _CLIP_BESIDE)),
        Target("kandinsky-5-video", "Kandinsky 5 Video", KANDINSKY5,
               (Encoder(QWEN, "Qwen2.5-VL", 256, "untrained", 1), _CLIP_BESIDE)),
    )
}  # fmt: skip
ALIASES = {
    "flux": "flux-dev",
    "flux.1-dev": "flux-dev",
    "flux1-dev": "flux-dev",
    "flux.1-schnell": "flux-schnell",
    "flux1-schnell": "flux-schnell",
    "flux2": "flux2-dev",
    "flux.2": "flux2-dev",
    "flux.2-dev": "flux2-dev",
    "flux.2-klein": "flux2-klein",
    "sd1.5": "sd15",
    "sd": "sd15",
    "kandinsky": "kandinsky-2.2",
    "kandinsky21": "kandinsky-2.1",
    "kandinsky22": "kandinsky-2.2",
    "kandinsky3": "kandinsky-3",
    "kandinsky5": "kandinsky-5",
}


def find_target(name: str) -> Target:
    """The target called `name`. Raises ValueError for an unknown one."""
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in TARGETS:
        raise ValueError(
            f"Expected a target among {', '.join([*TARGETS, 'flux', 'flux2', 'kandinsky'])}, got {name!r}."
        )
    return TARGETS[key]
