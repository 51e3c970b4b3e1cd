"""M-CLIP, which reads the prompt for Kandinsky 2.1's decoder: XLM-RoBERTa and a projection to CLIP's text space.

Reference: `MultilingualCLIP` of Kandinsky 2.1; Carlsson et al., "Cross-lingual and Multilingual CLIP", 2022.
"""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, XLMRobertaConfig, XLMRobertaModel

# transformers 5 makes this name when it is asked for, out of pyright's sight.
Tokenizer: Any = transformers.XLMRobertaTokenizerFast  # pyright: ignore[reportAttributeAccessIssue]


class MCLIPConfig(XLMRobertaConfig):
    """XLM-RoBERTa's, with the widths on both sides of the projection, called as in the published config.json."""

    model_type = "M-CLIP"

    def __init__(self, transformerDimensions: int = 1024, numDims: int = 768, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transformerDimensions = transformerDimensions
        self.numDims = numDims


class MCLIP(PreTrainedModel):
    """Tokens to (pooled text embeds, hidden states). Loads by transformers' own means, for its buffers' sake."""

    config_class = MCLIPConfig

    def __init__(self, config: MCLIPConfig) -> None:
        super().__init__(config)
        self.transformer = XLMRobertaModel(config)  # its pooler is among the weights; nothing reads it
        self.LinearTransformation = nn.Linear(config.transformerDimensions, config.numDims)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """input_ids and attention_mask [B, T] (1 = a token) → pooled [B, D], hidden states [B, T, W]; those of
        padding, too."""
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        seen = attention_mask[..., None].to(states.dtype)
        return self.LinearTransformation((states * seen).sum(1) / seen.sum(1)), states
