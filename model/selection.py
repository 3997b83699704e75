"""Which tokens of a reference are kept: the rules, by name (paper: sparse memory).

Each rule scores every token of a reference for each KV head; the tokens with the highest scores are kept. The rule is
part of the fingerprint, because key-values kept by another rule are other memories.

Dimensions: `B` batch, `H` query heads, `G` KV heads, `T` tokens, `D` head size.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def key_value_norm(query: Tensor, key: Tensor, value: Tensor, valid: Tensor, scale: float) -> Tensor:
    """Length of the key times length of the value; needs no attention at all."""
    return _length(key) * _length(value)


def _received(query: Tensor, key: Tensor, valid: Tensor, scale: float) -> Tensor:
    """Attention of every query to every token without a causal mask, (B, G, H / G, T, T), of valid queries only."""
    batch, heads, tokens, size = query.shape
    groups = key.shape[1]
    query = query.float().reshape(batch, groups, heads // groups, tokens, size)
    scores = query @ key.float()[:, :, None].transpose(3, 4) * scale
    weights = torch.softmax(scores.masked_fill(~valid[:, None, None, None, :], float("-inf")), dim=-1)
    return weights * valid[:, None, None, :, None]


def attention_sum(query: Tensor, key: Tensor, value: Tensor, valid: Tensor, scale: float) -> Tensor:
    """The paper's rule: attention received, summed over all queries (and over the query heads of a KV head)."""
    return _received(query, key, valid, scale).sum(dim=(2, 3))


def attention_max(query: Tensor, key: Tensor, value: Tensor, valid: Tensor, scale: float) -> Tensor:
    """The greatest attention received from any one query."""
    return _received(query, key, valid, scale).amax(dim=(2, 3))


def attention_max_value(query: Tensor, key: Tensor, value: Tensor, valid: Tensor, scale: float) -> Tensor:
    """The greatest attention received from any one query, times the length of the value."""
    return attention_max(query, key, value, valid, scale) * _length(value)


def _length(vectors: Tensor) -> Tensor:
    length: Tensor = vectors.float().norm(dim=-1)
    return length


Rule = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""(query (B, H, T, D), key and value (B, G, T, D), valid (B, T) bool, scale) to scores (B, G, T), float32.

Query and key come without their rotation by position.
"""

PAPERS_RULE = "attention_sum"

RULES: dict[str, Rule] = {
    PAPERS_RULE: attention_sum,
    "attention_max": attention_max,
    "attention_max_value": attention_max_value,
    "key_value_norm": key_value_norm,
}

WITHOUT_POSITIONS = frozenset({"attention_sum", "attention_max", "attention_max_value"})
"""Rules whose scores change with positions, so that the rotation has to be undone for them."""


def keep(scores: Tensor, valid: Tensor, kept_tokens: int) -> tuple[Tensor, Tensor]:
    """The `K` best tokens in the order of the text; of equally good ones the first.

    In the first layer a word scores alike wherever it stands, but for the last bits of the sum, and these change with
    the shape of the batch. They are rounded off, so that a reference keeps the same tokens in every batch.

    Args:
        scores: (B, G, T).
        valid: (B, T) bool; other tokens (prefix, padding) are never kept.

    Returns:
        Indices (B, G, K) and whether each is a real token (B, G, K), where K is `kept_tokens` or `T` if less.
    """
    scores = _rounded(scores).masked_fill(~valid[:, None, :], float("-inf"))
    best = scores.argsort(dim=-1, descending=True, stable=True)[..., :kept_tokens]
    indices = best.sort(dim=-1).values
    return indices, scores.gather(-1, indices).isfinite()


def _rounded(scores: Tensor) -> Tensor:
    """Scores rounded to 12 significant bits."""
    bits = scores.float().view(torch.int32)
    return ((bits + 0x800) & ~0xFFF).view(torch.float32)
