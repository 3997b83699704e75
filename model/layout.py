"""What of a reference is kept, and the fingerprint that names whose key-values these are."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import xxhash
from tokenizers import Tokenizer
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from ..store.errors import InvalidArgument
from .prompts import REFERENCE_PREFIX
from .selection import RULES

REFERENCE_TOKENS = 128
"""Most tokens of a reference; the context starts behind this many positions, whatever the references' own length."""

CONFIG_KEY = "memory3"
"""Under this name a checkpoint's config.json may hold its layout."""

_NOT_ARITHMETIC = frozenset(
    (
        "_name_or_path architectures attention_dropout bos_token_id dtype eos_token_id initializer_range "
        f"pad_token_id tie_word_embeddings transformers_version use_cache {CONFIG_KEY}"
    ).split()
)
"""Settings of a configuration that change no key-values; the others may (heads, norms, positions, scales)."""

STORED_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
TRAINED = "rq14"
"""The stored form that needs codebooks beside the weights (model/codebooks.py)."""
STORED = (*STORED_DTYPES, "int8", "int4", TRAINED)
"""How key-values may be stored (model/codec.py)."""


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """Which layers are memory layers, how many tokens each KV head keeps and by which rule, and how they are stored.

    `recall_weight` is how much a memory's attention scores fall for each point of similarity that it lies behind the
    best memory recalled with it (model/recall_weight.py); 0, the paper's way, reads all alike. It changes how
    key-values are read and not what they are, so it is no part of the fingerprint.
    """

    layers: tuple[int, ...]
    kept_tokens: int = 8
    rule: str = "attention_sum"
    prefix: str = REFERENCE_PREFIX
    stored: str = "bfloat16"
    recall_weight: float = 0.0

    def __post_init__(self) -> None:
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise InvalidArgument(f"memory layers {self.layers} must be one or more layers in rising order")
        if not 1 <= self.kept_tokens <= REFERENCE_TOKENS:
            raise InvalidArgument(f"kept_tokens is {self.kept_tokens}; keep 1 to {REFERENCE_TOKENS}")
        if self.rule not in RULES:
            raise InvalidArgument(f"there is no selection rule {self.rule!r}; choose one of {', '.join(RULES)}")
        if self.stored not in STORED:
            raise InvalidArgument(f"key-values are stored as one of {', '.join(STORED)}, not {self.stored!r}")
        if not 0 <= self.recall_weight < math.inf:
            raise InvalidArgument(f"recall_weight is {self.recall_weight}; give 0 or more")


def layout_of(config: PreTrainedConfig) -> MemoryLayout:
    """The checkpoint's layout, or the paper's: the first half of its layers, 8 tokens, attention received."""
    named: dict[str, Any] | None = getattr(config, CONFIG_KEY, None)
    if named is None:
        return MemoryLayout(layers=tuple(range(max(1, config.num_hidden_layers // 2))))
    known = {field.name for field in fields(MemoryLayout)}
    if unknown := sorted(named.keys() - known):
        raise InvalidArgument(f"the checkpoint's layout has unknown settings {', '.join(unknown)}")
    return MemoryLayout(**{**named, "layers": tuple(named.get("layers", ()))})


def check_layout(layout: MemoryLayout, config: PreTrainedConfig) -> None:
    """Refuse a layout that names layers which a model does not have.

    Raises:
        InvalidArgument: names the layer.
    """
    for layer in layout.layers:
        if not 0 <= layer < config.num_hidden_layers:
            raise InvalidArgument(
                f"memory layer {layer} does not exist in a model of {config.num_hidden_layers} layers"
            )


def fingerprint_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, layout: MemoryLayout, codebooks: str = ""
) -> str:
    """32 hex digits over weights, tokenizer, positions and layout: whatever changes key-values changes them.

    Args:
        codebooks: names those that key-values are coded with, empty when there are none.
    """
    digest = xxhash.xxh3_128()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
    # A copy without padding and truncation: calls set and unset them, and writing uses neither.
    spelling = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    spelling.no_padding()
    spelling.no_truncation()
    digest.update(spelling.to_str().encode())
    settings = {name: value for name, value in model.config.to_diff_dict().items() if name not in _NOT_ARITHMETIC}
    written = {name: value for name, value in asdict(layout).items() if name != "recall_weight"}
    named = [settings, tokenizer.bos_token_id, written]
    digest.update(json.dumps(named, sort_keys=True, default=str).encode())
    digest.update(codebooks.encode())
    return digest.hexdigest()
