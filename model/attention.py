"""The attention function that Transformers calls: it reads memories and lets the writer see keys and values.

Importing this module registers it under the name "memory3"; a model loaded or switched to
`attn_implementation="memory3"` then takes more keyword arguments in its call: `memories`, `recorder` and
`mass_recorder`, or `step` for packed tokens of many sequences.

Dimensions: `B` batch, `H` query heads, `G` KV heads, `T` queries, `S` context keys, `M` memory tokens, `D` head size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from ..kernels.reference import attend
from ..store.errors import InvalidArgument

NAME = "memory3"

# Options that some models pass to their attention and that change its result; read without them, answers would be
# wrong in silence. Each is refused by name.
UNSUPPORTED_OPTIONS = {
    "softcap": "soft-capped scores (Gemma 2)",
    "s_aux": "attention sinks (GPT-OSS)",
    "sinks": "attention sinks",
    "indices": "sparse attention that chooses its own tokens (DeepSeek 3.2)",
    "block_indices": "sparse attention that chooses its own blocks",
    "position_bias": "additive position biases",
    "head_mask": "head masks",
}

# Options that change nothing here: windows are bounded by `context_limit` (loading.py), masks are always given, and
# the rest is for other parts of a model. What is in neither list is refused too, since nobody looked at it.
HARMLESS_OPTIONS = frozenset(
    {
        "cache_position",
        "is_causal",
        "logits_to_keep",
        "num_items_in_batch",
        "output_attentions",
        "output_hidden_states",
        "position_ids",
        "return_dict",
        "sliding_window",
        "use_cache",
    }
)


@dataclass(frozen=True, slots=True)
class LayerMemories:
    """The memories that one layer reads: `key` and `value` (B, G, M, D).

    `mask` (B, G, M) says which tokens take part (bool), or what is added to their scores (float); None means all do.
    """

    key: Tensor
    value: Tensor
    mask: Tensor | None = None

    def __getitem__(self, rows: slice) -> "LayerMemories":
        """The memories of some rows of the batch."""
        return LayerMemories(self.key[rows], self.value[rows], None if self.mask is None else self.mask[rows])


class Recorder(Protocol):
    """Sees every layer's rotated query (B, H, T, D), key and value (B, G, T, D) as a batch passes through."""

    def record(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None: ...


class MassRecorder(Protocol):
    """Sees the shares (B, H, T, M) of the softmax that memory tokens get, in every layer that reads memories."""

    def record(self, layer: int, weights: Tensor) -> None: ...


class Step(Protocol):
    """Keeps the contexts of many sequences and attends for the packed tokens of one step (model/engine/step.py)."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Query (1, H, N, D), key and value (1, G, N, D) of N packed tokens to (1, N, H, D)."""
        ...


def memory_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    memories: Mapping[int, LayerMemories] | None = None,
    recorder: Recorder | None = None,
    mass_recorder: MassRecorder | None = None,
    step: Step | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend to the context and, in layers named in `memories`, to these memories with it in one softmax.

    A layer without memories is handed to PyTorch's SDPA just as Transformers does, so a model that reads nothing
    gives exactly the result it gives without Memory3.

    Returns:
        (B, T, H, D), and None for the weights.

    Raises:
        InvalidArgument: the model passes an option that this function does not support.
    """
    for option, given in options.items():
        if given is not None and option not in HARMLESS_OPTIONS:
            meaning = UNSUPPORTED_OPTIONS.get(option, "unknown to Memory3")
            raise InvalidArgument(
                f"this model's attention uses {option!r} ({meaning}), which Memory3 does not support; "
                "use a model without it"
            )
    if dropout:
        raise InvalidArgument(f"attention dropout is {dropout}; Memory3 trains without it: set it to 0")
    layer: int = module.layer_idx  # type: ignore[assignment]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if step is not None:
        return step.attend(layer, query, key, value, scale), None
    if recorder is not None:
        recorder.record(layer, query, key, value)
    memory = None if memories is None else memories.get(layer)
    if memory is None and not module.training:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return output, None
    weights = None
    if memory is not None and mass_recorder is not None:
        weights = query.new_empty(*query.shape[:3], memory.key.shape[2])
    output = attend(
        query,
        key,
        value,
        scale=scale,
        mask=attention_mask,
        memory_key=None if memory is None else memory.key,
        memory_value=None if memory is None else memory.value,
        memory_mask=None if memory is None else memory.mask,
        memory_weights=weights,
    )
    if weights is not None and mass_recorder is not None:
        mass_recorder.record(layer, weights)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, memory_attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
