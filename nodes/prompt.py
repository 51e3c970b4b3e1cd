"""Nodes for prompts: layers, composed for a model, and a linter."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from . import host
from .text.compose import FORMS, compose
from .text.detect import LANGUAGES
from .text.layers import KINDS, MOST_EMPHASIS, RELATIONS, Layer
from .text.lint import count_tokens, fix, lint, report
from .text.targets import TARGETS
from .text.tokens import Tokenize, load_tokenizers

CATEGORY = "kandiflux/prompt"
LAYERS = "KANDIFLUX_PROMPT_LAYERS"
TARGET = (list(TARGETS), {"default": "flux-dev", "tooltip": "The model the prompt is for."})


class KandifluxPromptLayer:
    DESCRIPTION = (
        "One part of a prompt: a subject, what it does, the light, … Chain layers, and connect the last to Prompt "
        "Compose, which writes the prompt for the model you choose, in your words."
    )
    SEARCH_ALIASES = ["prompt builder", "structured prompt", "prompt part", "foreground background", "emphasis"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (LAYERS,)
    RETURN_NAMES = ("layers",)
    OUTPUT_TOOLTIPS = ("The layers so far, for another Prompt Layer or for Prompt Compose.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "kind": (
                    list(KINDS),
                    {"tooltip": "What the text describes. An action belongs to the subject before it."},
                ),
                "text": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "In plain words: a red fox. An action continues its subject: leaping over a log. If "
                        "empty, the layer is left out.",
                    },
                ),
                "emphasis": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": MOST_EMPHASIS,
                        "step": 0.05,
                        "tooltip": "A weight for SD1.5. For other models, layers above 1 come first in the prompt, "
                        "those below 1 last. 0 leaves the layer out.",
                    },
                ),
                "relation": (list(RELATIONS), {"tooltip": "Where it is, together with relation_to."}),
                "relation_to": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Words (the door, the left third of the frame), or another layer's name or kind. "
                        "For an action without a relation: the name of its subject.",
                    },
                ),
            },
            "optional": {
                "name": (
                    "STRING",
                    {"default": "", "tooltip": "A short name for other layers' relation_to: fox is said as the fox."},
                ),
                "layers": (LAYERS, {"tooltip": "The layers before this one."}),
            },
        }

    def run(
        self,
        kind: str,
        text: str,
        emphasis: float,
        relation: str,
        relation_to: str,
        name: str = "",
        layers: tuple[Layer, ...] = (),
    ) -> tuple[tuple[Layer, ...]]:
        return ((*layers, Layer(kind, text, emphasis, relation, relation_to, name)),)


class KandifluxPromptCompose:
    DESCRIPTION = (
        "Write the prompt of the layers for a model: sentences or JSON for FLUX, captions for Kandinsky 5, weighted "
        "phrases for SD1.5. The words stay yours."
    )
    SEARCH_ALIASES = ["write prompt", "join prompt", "flux prompt", "json prompt", "flux.2", "t5xxl clip_l"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("STRING",) * 5
    RETURN_NAMES = ("prompt", "negative", "t5xxl", "clip_l", "notes")
    OUTPUT_TOOLTIPS = (
        "The prompt, for CLIP Text Encode.",
        "The negative prompt; empty for FLUX, which has none.",
        "The prompt, for t5xxl of CLIPTextEncodeFlux or qwen25_7b of CLIPTextEncodeKandinsky5.",
        "As many phrases as CLIP-L reads, for clip_l of the same nodes.",
        "What was left out, and why, one note per line.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "layers": (LAYERS, {"tooltip": "From Prompt Layer."}),
                "target": TARGET,
                "form": (
                    list(FORMS),
                    {
                        "tooltip": "hierarchical: sentences, or phrases for SD1.5 and Kandinsky 2 and 3. numbered: one "
                        "numbered line per layer. json: the JSON of FLUX.2's prompting guide."
                    },
                ),
                "language": (
                    ["auto", *LANGUAGES],
                    {
                        "default": "auto",
                        "tooltip": "The language of the layers, by default that of their script. Labels and relations "
                        "are added in English only; nothing is translated.",
                    },
                ),
            }
        }

    def run(self, layers: tuple[Layer, ...], target: str, form: str, language: str) -> tuple[str, str, str, str, str]:
        made = compose(layers, target, language, form, tokenizers())
        return made.prompt, made.negative, made.t5xxl, made.clip_l, "\n".join(made.notes)


class KandifluxPromptLint:
    DESCRIPTION = (
        "Count the prompt's tokens for a model, and find what it does not take as it is meant: A1111's syntax, weights "
        "and negations for FLUX, quality tags, unbalanced parentheses, typing mistakes."
    )
    SEARCH_ALIASES = ["check prompt", "prompt linter", "token count", "prompt length", "validate prompt"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("text", "report")
    OUTPUT_TOOLTIPS = ("The text, with the fixes if mend is on.", "One line per finding, then the token counts.")
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "text": ("STRING", {"default": "", "multiline": True, "tooltip": "The prompt to check."}),
                "target": TARGET,
                "language": (
                    ["auto", *LANGUAGES],
                    {"default": "auto", "tooltip": "The prompt's language, by default that of its script."},
                ),
                "mend": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Apply the safe fixes: spaces, doubled words, tags without effect, weights that the "
                        "model does not read. No word is added.",
                    },
                ),
            }
        }

    def run(self, text: str, target: str, language: str, mend: bool) -> dict[str, Any]:
        said = report(lint(text, target, language, tokenizers()), count_tokens(text, target, tokenizers()), target)
        return {"ui": {"text": [said]}, "result": (fix(text, target, language) if mend else text, said)}


def tokenizers() -> dict[str, Tokenize]:
    """The tokenizers of this host: ComfyUI's own, and Kandinsky 2.1's if its folder is there."""
    here = host.current()
    clip = here.clip_tokenizer_folder()  # comfy/sd1_tokenizer
    return _loaded(clip and clip.parent, _mclip_folder(here.model_folders("kandinsky")))


_loaded = functools.cache(load_tokenizers)


def _mclip_folder(roots: list[Path]) -> Path | None:
    """The tokenizer folder of a Kandinsky 2.1 decoder among the official folders in `roots`."""
    for config in (file for root in roots for file in sorted(root.glob("*/tokenizer/tokenizer_config.json"))):
        try:
            kind = str(json.loads(config.read_text("utf-8")).get("tokenizer_class", ""))
        except ValueError:
            continue  # its loader says what is wrong with it
        if kind.startswith("XLMRoberta"):
            return config.parent
    return None


NODES = {
    "KandifluxPromptLayer": (KandifluxPromptLayer, "Prompt Layer (kandiflux)"),
    "KandifluxPromptCompose": (KandifluxPromptCompose, "Prompt Compose (kandiflux)"),
    "KandifluxPromptLint": (KandifluxPromptLint, "Prompt Lint (kandiflux)"),
}
