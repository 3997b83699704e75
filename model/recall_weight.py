"""How much a memory's place in the recall counts when it is read: a prior on its attention.

The paper reads all recalled memories alike, so the model alone has to tell the right one from four that tell the same
of other things. Recall knows more: how near each lies to the query. Here a memory that lies `gap` behind the best one
has `weight * gap` taken from the scores of all its tokens, before the one softmax over memories and context: its
attention is multiplied by exp(-weight * gap), a prior in the sense of retrieval-augmented training (REALM's p(z | x)).
Memories that lie equally near are read alike, the best one just as without a prior, and weight 0 is the paper.
"""

from torch import Tensor


def recall_bias(scores: Tensor, weight: float) -> Tensor:
    """What is added to the attention scores of each memory.

    Args:
        scores: (..., S) similarities of the memories recalled together.
        weight: how much a score falls for each point of similarity behind the best.

    Returns:
        (..., S) float, 0 for the best memory and below for the others.
    """
    return weight * (scores - scores.amax(dim=-1, keepdim=True))


def spread(bias: Tensor, real: Tensor) -> Tensor:
    """The bias of each memory (..., S) on its tokens `real` (..., S, K) bool, -inf on those that are not there."""
    return bias[..., None].expand_as(real).masked_fill(~real, float("-inf"))
