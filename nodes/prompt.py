"""Prompt layers, composed for a model, and the linter of prompts."""

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
LANGUAGE = (
    ["auto", *LANGUAGES],
    {"default": "auto", "tooltip": "The prompt's language; auto: that of its words. Nothing is translated."},
)


class KandifluxPromptLayer:
    DESCRIPTION = (
        "One thing a prompt says: a subject, what it does, the light, … Chain layers and give them to Prompt Compose, "
        "which writes the prompt for the model you choose."
    )
    SEARCH_ALIASES = ["prompt builder", "structured prompt", "prompt part", "foreground background", "emphasis"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (LAYERS,)
    RETURN_NAMES = ("layers",)
    OUTPUT_TOOLTIPS = ("The layers so far: for a further Prompt Layer, or for Prompt Compose.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "kind": (
                    list(KINDS),
                    {"tooltip": "What the text tells of. An action belongs to the subject before it."},
                ),
                "text": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "In plain words, as after “there is”: a red fox. Empty: the layer is left out.",
                    },
                ),
                "emphasis": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": MOST_EMPHASIS,
                        "step": 0.05,
                        "tooltip": "1 is normal, 0 leaves the layer out. A weight for SD1.5, said in words elsewhere.",
                    },
                ),
                "relation": (list(RELATIONS), {"tooltip": "Where it is with regard to another layer."}),
                "relation_to": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "That other layer's name or kind. For an action without a relation: whose it is.",
                    },
                ),
            },
            "optional": {
                "name": ("STRING", {"default": "", "tooltip": "What other layers call this one."}),
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
        "Write the prompt that says the layers: sentences for FLUX, weighted phrases and a negative prompt for SD1.5, "
        "one sentence for Kandinsky."
    )
    SEARCH_ALIASES = ["write prompt", "join prompt", "flux prompt", "natural language prompt", "t5xxl clip_l"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("STRING",) * 5
    RETURN_NAMES = ("prompt", "negative", "t5xxl", "clip_l", "notes")
    OUTPUT_TOOLTIPS = (
        "The prompt.",
        "The negative prompt; empty for FLUX, which has none.",
        "FLUX's text for T5, for CLIPTextEncodeFlux; the prompt itself.",
        "FLUX's text for CLIP-L: phrases, as many as it reads.",
        "What was left out or changed, and why; a line each.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "layers": (LAYERS, {"tooltip": "From Prompt Layer."}),
                "target": TARGET,
                "form": (
                    list(FORMS),
                    {"tooltip": "For FLUX. hierarchical: flowing sentences. numbered: a numbered line for each."},
                ),
                "language": LANGUAGE,
            }
        }

    def run(self, layers: tuple[Layer, ...], target: str, form: str, language: str) -> tuple[str, str, str, str, str]:
        made = compose(layers, target, language, form, tokenizers())
        return made.prompt, made.negative, made.t5xxl, made.clip_l, "\n".join(made.notes)


class KandifluxPromptLint:
    DESCRIPTION = (
        "Say what the model will not take as it is meant, and what to write instead: weights and negations in FLUX, "
        "keyword soup, tags of other programs, slips, too many tokens."
    )
    SEARCH_ALIASES = ["check prompt", "prompt linter", "token count", "prompt length", "validate prompt"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("text", "report")
    OUTPUT_TOOLTIPS = ("The text; mended if you chose to.", "A line for each finding, and the tokens.")
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "text": ("STRING", {"default": "", "multiline": True, "tooltip": "The prompt to look at."}),
                "target": TARGET,
                "language": LANGUAGE,
                "mend": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Mend what can be mended without knowing what you mean: spaces, doubled words, tags "
                        "that do nothing, weights in FLUX.",
                    },
                ),
            }
        }

    def run(self, text: str, target: str, language: str, mend: bool) -> dict[str, Any]:
        said = report(lint(text, target, language, tokenizers()), count_tokens(text, target, tokenizers()), target)
        return {"ui": {"text": [said]}, "result": (fix(text, target, language) if mend else text, said)}


def tokenizers() -> dict[str, Tokenize]:
    """The tokenizers that this host has: ComfyUI's own, and Kandinsky 2.1's where its folder is."""
    here = host.current()
    clip = here.clip_tokenizer_folder()
    t5 = clip.parent / "text_encoders" / "t5_tokenizer" if clip else None  # they lie so in ComfyUI
    return _loaded(clip, t5, _mclip_folder(here.model_folders("kandinsky")))


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
    "KandifluxPromptLayer": (KandifluxPromptLayer, "Prompt Layer"),
    "KandifluxPromptCompose": (KandifluxPromptCompose, "Prompt Compose"),
    "KandifluxPromptLint": (KandifluxPromptLint, "Prompt Lint"),
}
