"""A loaded model with all that reading and writing need to know about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..store.types import Hit
from .attention import LayerMemories
from .codebooks import Codebooks
from .key_values import KeyValueForm
from .layout import MemoryLayout, fingerprint_of
from .recall_weight import recall_bias


@dataclass(frozen=True)
class Checkpoint:
    """Weights, tokenizer and layout; `name` is for people, the fingerprint for machines.

    `codebooks` are there when the layout's stored form needs them.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    layout: MemoryLayout
    codebooks: Codebooks | None = None

    @cached_property
    def fingerprint(self) -> str:
        codebooks = "" if self.codebooks is None else self.codebooks.digest
        return fingerprint_of(self.model, self.tokenizer, self.layout, codebooks)

    @cached_property
    def form(self) -> KeyValueForm:
        config = self.model.config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return KeyValueForm(self.layout, config.num_key_value_heads, size, self.codebooks)

    @property
    def bos(self) -> list[int]:
        """The token that begins a sequence; none for a model that has no such token (Qwen)."""
        token: int | None = self.tokenizer.bos_token_id
        return [] if token is None else [token]

    @cached_property
    def prefix(self) -> list[int]:
        """`<s>Reference:`, before every reference and before the context."""
        return [*self.bos, *self.encode(self.layout.prefix)]

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        named = self.model.generation_config.eos_token_id if self.model.generation_config is not None else None
        ids = named if isinstance(named, list) else [named, self.tokenizer.eos_token_id]
        return frozenset(token for token in ids if token is not None)

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def text(self, tokens: Sequence[int]) -> str:
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        assert isinstance(text, str)
        return text.strip()

    def layers_of(self, memories: Sequence[tuple[Hit, bytes]]) -> dict[int, LayerMemories] | None:
        """What each layer reads of memories recalled together, weighed by their similarity if the layout says so.

        None for no memories.
        """
        if not memories:
            return None
        weight = self.layout.recall_weight
        bias = recall_bias(torch.tensor([hit.score for hit, _ in memories]), weight) if weight else None
        return self.form.layers([value for _, value in memories], self.model.device, self.model.dtype, bias)

    def padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows behind the prefix, padded: tokens (N, T) int64, and (N, T) bool, True for the rows' own tokens."""
        width = len(self.prefix) + max(map(len, rows))
        tokens = torch.zeros(len(rows), width, dtype=torch.long)
        valid = torch.zeros(len(rows), width, dtype=torch.bool)
        for number, row in enumerate(rows):
            whole = [*self.prefix, *row]
            tokens[number, : len(whole)] = torch.tensor(whole)
            valid[number, len(self.prefix) : len(whole)] = True
        return tokens.to(self.model.device), valid.to(self.model.device)
