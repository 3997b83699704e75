"""Builders for the model's tests: small models of each family with random weights, saved and loaded as real ones are.

Dimensions: `B` batch, `H` query heads, `G` KV heads, `T` tokens, `D` head size.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from memory3.model.source import MemorySource
from memory3.store.types import Hit
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    StableLmConfig,
)

CORPUS = """Mira Sandoval keeps bees on the roof of the old post office and sells their honey on Saturdays. Her brother
Tomas repairs clocks in the harbour; the ferry to the island leaves at nine. Question: who keeps bees? Answer: Mira."""

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    # Larger than usual, so that attention is far from uniform and a wrong position or mask shows.
    "initializer_range": 0.15,
}

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 512}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "original_max_position_embeddings": 512,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 2.1, 2.2, 2.3],
    "factor": 4.0,
}

FAMILIES = ("llama", "qwen3", "mistral", "gemma", "phi3")
"""The families that the model layer must read memories with."""

SCALED = ("llama-yarn", "llama-llama3", "phi3-partial", "phi3-longrope")
"""Variants whose rotation is scaled or partial."""


def config_of(name: str, vocabulary: int) -> PreTrainedConfig:
    """A small configuration by name."""
    shape = {**SHAPE, "vocab_size": vocabulary}
    full = ["full_attention"] * shape["num_hidden_layers"]
    made: dict[str, Any] = {
        "llama": lambda: LlamaConfig(**shape),
        "llama-yarn": lambda: LlamaConfig(**shape, rope_parameters=YARN),
        "llama-llama3": lambda: LlamaConfig(**shape, rope_parameters=LLAMA3),
        "qwen3": lambda: Qwen3Config(**shape),
        "mistral": lambda: MistralConfig(**shape, sliding_window=None),
        "mistral-window": lambda: MistralConfig(**shape, sliding_window=512),
        "gemma": lambda: GemmaConfig(**shape),
        "phi3": lambda: Phi3Config(**shape),
        "phi3-partial": lambda: Phi3Config(**shape, rope_parameters=PARTIAL),
        "phi3-longrope": lambda: Phi3Config(**shape, rope_parameters=LONGROPE, original_max_position_embeddings=512),
        "gemma2": lambda: Gemma2Config(**shape),
        "gemma2-full": lambda: Gemma2Config(**shape, layer_types=full),
        "gemma3": lambda: Gemma3TextConfig(**shape, layer_types=[*full[:-1], "sliding_attention"]),
        "gpt_neox": lambda: GPTNeoXConfig(
            vocab_size=vocabulary, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4
        ),
        "phi": lambda: PhiConfig(**_without(shape, "head_dim")),
        "stablelm": lambda: StableLmConfig(**_without(shape, "head_dim")),
        "gpt2": lambda: GPT2Config(
            vocab_size=vocabulary, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1
        ),
    }
    config: PreTrainedConfig = made[name]()
    return config


def _without(shape: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in shape.items() if key != name}


def tokenizer_of() -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `CORPUS`, with `<s>`, `</s>` and `<pad>` as tokens 0, 1 and 2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>", "<pad>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def save(name: str, folder: Path, seed: int = 0) -> Path:
    """Save a model of `config_of(name)` with random weights and its tokenizer; return the folder."""
    tokenizer = tokenizer_of()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config_of(name, len(tokenizer)))
    # Norm weights start at one (or zero): moved, so that leaving one out shows.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain(folder: Path) -> PreTrainedModel:
    """The saved model as Transformers itself runs it."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="sdpa", dtype=torch.float32
    )
    model.eval().requires_grad_(False)
    return model


def random_tokens(seed: int, count: int, vocabulary: int = 300) -> list[int]:
    """Ordinary tokens, none of them special."""
    random = Random(seed)
    return [random.randrange(3, vocabulary) for _ in range(count)]


@dataclass
class Projections:
    """What one layer's attention projects, before positions: query (B, H, T, D), key and value (B, G, T, D)."""

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass
class _Hooks:
    outputs: dict[tuple[int, str], Tensor] = field(default_factory=dict)

    def keep(self, layer: int, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            del module, inputs
            self.outputs[layer, name] = output.detach()

        return hook


@contextlib.contextmanager
def projections(model: PreTrainedModel) -> Iterator[dict[int, Projections]]:
    """Hook the projections of every layer; after a forward pass in the block, the dictionary is filled on leaving."""
    hooks = _Hooks()
    handles = []
    decoder: Any = model.base_model
    for number, layer in enumerate(decoder.layers):
        attention = layer.self_attn
        names = ("q_proj", "k_proj", "v_proj", "qkv_proj", "q_norm", "k_norm")
        present = [name for name in names if hasattr(attention, name)]
        handles += [getattr(attention, name).register_forward_hook(hooks.keep(number, name)) for name in present]
    result: dict[int, Projections] = {}
    try:
        yield result
    finally:
        for handle in handles:
            handle.remove()
    for number in sorted({layer for layer, _ in hooks.outputs}):
        result[number] = _split({name: out for (layer, name), out in hooks.outputs.items() if layer == number})


def _split(outputs: dict[str, Tensor]) -> Projections:
    heads, groups, size = SHAPE["num_attention_heads"], SHAPE["num_key_value_heads"], SHAPE["head_dim"]
    if "qkv_proj" in outputs:
        query, key, value = outputs["qkv_proj"].split([heads * size, groups * size, groups * size], dim=-1)
    else:
        query, key = outputs.get("q_norm", outputs["q_proj"]), outputs.get("k_norm", outputs["k_proj"])
        value = outputs["v_proj"]
    batch, tokens = value.shape[:2]
    return Projections(
        query.reshape(batch, tokens, heads, size).transpose(1, 2),
        key.reshape(batch, tokens, groups, size).transpose(1, 2),
        value.reshape(batch, tokens, groups, size).transpose(1, 2),
    )


def hit(number: int, text: str = "") -> Hit:
    return Hit(key=f"key-{number}", text=text, score=1.0 - number / 100, version=number, metadata={}, seq=number)


class Scripted(MemorySource):
    """A memory source whose n-th query finds the n-th list of memories (the last one from then on).

    Attributes:
        queries: all queries so far.
    """

    def __init__(self, script: Sequence[Sequence[int]], values: dict[int, bytes], gone: Sequence[int] = ()) -> None:
        self._script = script
        self._values = values
        self._gone = set(gone)
        self.queries: list[str] = []

    def recall(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        found = []
        for query in queries:
            chosen = self._script[min(len(self.queries), len(self._script) - 1)]
            self.queries.append(query)
            found.append([hit(number) for number in chosen][:k])
        return found

    def key_values(self, hits: Sequence[Hit]) -> list[bytes | None]:
        return [None if found.seq in self._gone else self._values[found.seq] for found in hits]
