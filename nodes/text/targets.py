"""The models a prompt is written for: what each reads, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

FLUX, SD15, KANDINSKY = "flux", "sd15", "kandinsky"
CLIP, T5, MCLIP = "clip", "t5", "mclip"


@dataclass(frozen=True)
class Encoder:
    """A text encoder: the tokenizer it uses, and the tokens it takes, its own marks included.

    `beyond` is what becomes of the rest: "lost", "chunked" (encoded in further chunks of 75), "unread" (encoded, but
    the model reads only the first chunk), or "untrained" (read, but longer than any prompt the model has seen).
    """

    tokenizer: str
    title: str
    limit: int
    beyond: str


@dataclass(frozen=True)
class Target:
    name: str
    title: str
    family: str
    encoders: tuple[Encoder, ...]
    reads_weights: bool = False
    """Whether `(words:1.2)` does there what people expect of it."""
    negative_prompt: bool = True

    @property
    def drops_parentheses(self) -> bool:
        """Whether ComfyUI takes parentheses for weights before this model sees them: Kandinsky's nodes do not."""
        return self.family != KANDINSKY


_CLIP_BESIDE_T5 = Encoder(CLIP, "CLIP-L", 77, "unread")
TARGETS = {
    target.name: target
    for target in (
        Target("flux-dev", "FLUX.1 dev", FLUX, (Encoder(T5, "T5", 512, "untrained"), _CLIP_BESIDE_T5),
               negative_prompt=False),
        Target("flux-schnell", "FLUX.1 schnell", FLUX, (Encoder(T5, "T5", 256, "untrained"), _CLIP_BESIDE_T5),
               negative_prompt=False),
        Target("sd15", "SD1.5", SD15, (Encoder(CLIP, "CLIP-L", 77, "chunked"),), reads_weights=True),
        Target("kandinsky-2.1", "Kandinsky 2.1", KANDINSKY,
               (Encoder(CLIP, "CLIP-L", 77, "lost"), Encoder(MCLIP, "M-CLIP", 77, "lost"))),
        Target("kandinsky-2.2", "Kandinsky 2.2", KANDINSKY, (Encoder(CLIP, "CLIP-bigG", 77, "lost"),)),
        Target("kandinsky-3", "Kandinsky 3", KANDINSKY, (Encoder(T5, "FLAN-UL2", 128, "lost"),)),
    )
}  # fmt: skip
ALIASES = {
    "flux": "flux-dev",
    "flux.1-dev": "flux-dev",
    "flux1-dev": "flux-dev",
    "flux.1-schnell": "flux-schnell",
    "flux1-schnell": "flux-schnell",
    "sd1.5": "sd15",
    "sd": "sd15",
    "kandinsky": "kandinsky-2.2",
    "kandinsky21": "kandinsky-2.1",
    "kandinsky22": "kandinsky-2.2",
    "kandinsky3": "kandinsky-3",
}


def find_target(name: str) -> Target:
    """The target called `name`. Raises ValueError for an unknown one."""
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in TARGETS:
        raise ValueError(f"Expected a target among {', '.join([*TARGETS, 'flux', 'kandinsky'])}, got {name!r}.")
    return TARGETS[key]
