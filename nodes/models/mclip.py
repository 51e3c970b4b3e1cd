"""M-CLIP, the text encoder of Kandinsky 2.1's decoder: XLM-RoBERTa and a projection to CLIP's text space.

Reference: `MultilingualCLIP` of Kandinsky 2.1; Carlsson et al., "Cross-lingual and Multilingual CLIP", 2022.
"""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, XLMRobertaConfig, XLMRobertaModel

# transformers 5 creates this name on access; pyright doesn't see it.
Tokenizer: Any = transformers.XLMRobertaTokenizerFast  # pyright: ignore[reportAttributeAccessIssue]


class MCLIPConfig(XLMRobertaConfig):
    """XLM-RoBERTa's config plus the projection's input and output width, named as in the published config.json."""

    model_type = "M-CLIP"

    def __init__(self, transformerDimensions: int = 1024, numDims: int = 768, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transformerDimensions = transformerDimensions
        self.numDims = numDims


class MCLIP(PreTrainedModel):
    """M-CLIP. A PreTrainedModel, because transformers' from_pretrained also restores non-persistent buffers."""

    config_class = MCLIPConfig

    def __init__(self, config: MCLIPConfig) -> None:
        super().__init__(config)
        self.transformer = XLMRobertaModel(config)  # its pooler is in the published weights, but not used
        self.LinearTransformation = nn.Linear(config.transformerDimensions, config.numDims)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """input_ids and attention_mask [B, T] (1 = token) → pooled [B, D], last hidden states [B, T, W] including
        padding."""
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(states.dtype)
        return self.LinearTransformation((states * mask).sum(1) / mask.sum(1)), states
