"""Load any RoPE decoder of Transformers with the memory attention, or refuse it with the reason."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from ..store.errors import InvalidArgument, NotFound
from .attention import NAME, LayerMemories
from .codebooks import FILE, Codebooks
from .progress_bars import downloads_only
from .writer import causal_mask

TINY = Path(__file__).parent / "tiny"
"""The model that comes with the package."""


def load_model(name_or_path: str | None, device: str, dtype: torch.dtype | None) -> PreTrainedModel:
    """Load weights with the memory attention.

    Args:
        name_or_path: a folder or a Hugging Face name; None is the packaged model.
        dtype: of the arithmetic; None is float32 on a CPU and the checkpoint's own elsewhere.

    Raises:
        NotFound: there is no such model, here or on the hub.
        InvalidArgument: its attention cannot read memories; the message says why.
    """
    source = str(TINY) if name_or_path is None else name_or_path
    wanted = dtype if dtype is not None else (torch.float32 if device == "cpu" else "auto")
    try:
        with downloads_only():
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                source, attn_implementation=NAME, dtype=wanted, local_files_only=os.path.isdir(source)
            )
    except OSError as error:
        raise NotFound(
            f"no model {source!r}: give a folder with config.json and weights, or a Hugging Face name "
            f"that can be reached ({str(error).splitlines()[0]})"
        ) from error
    except ValueError as error:
        raise InvalidArgument(f"{source!r} holds no decoder that Transformers can run here: {error}") from error
    # Transformers wraps `to` in a way that type checkers cannot follow.
    nn.Module.to(model, device)
    model.eval().requires_grad_(False)
    check_supported(model)
    return model


def load_tokenizer(name_or_path: str | None) -> PreTrainedTokenizerFast:
    """The tokenizer that stands beside the weights."""
    source = str(TINY) if name_or_path is None else name_or_path
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=os.path.isdir(source))
    except (OSError, ValueError) as error:
        raise NotFound(f"there is no tokenizer beside the weights of {source!r}: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InvalidArgument(f"the tokenizer of {source!r} has no fast form (tokenizer.json), which Memory3 needs")
    return tokenizer


def model_folder(name_or_path: str | None) -> Path:
    """The folder in which the files of a model lie that was loaded before."""
    source = str(TINY) if name_or_path is None else name_or_path
    path = cached_file(source, "config.json", local_files_only=True)
    assert path is not None, "it raises where the file is missing"
    return Path(path).parent


def load_codebooks(name_or_path: str | None, device: torch.device) -> Codebooks | None:
    """The codebooks that stand beside the weights, None if there are none.

    Raises:
        InvalidArgument: the file is damaged.
    """
    source = str(TINY) if name_or_path is None else name_or_path
    with downloads_only():
        path = cached_file(
            source,
            FILE,
            local_files_only=os.path.isdir(source),
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return None if path is None else Codebooks.load(Path(path), device)


def check_supported(model: PreTrainedModel) -> None:
    """Refuse a model that would read memories wrongly.

    Raises:
        InvalidArgument: names what the model has that Memory3 does not support.
    """
    config = model.config
    decoder = model.base_model
    if not hasattr(decoder, "rotary_emb") or not hasattr(decoder, "layers"):
        raise InvalidArgument(
            f"{config.model_type!r} is no decoder with rotary positions (RoPE); "
            "use one such as Llama, Qwen3, Mistral, Gemma or Phi-3"
        )
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if len(kinds) > 1 or not kinds <= {"full_attention", "sliding_attention"}:
        raise InvalidArgument(
            f"{config.model_type!r} mixes layers of the kinds {sorted(kinds)}; Memory3 needs one kind"
        )
    _probe(model)


@torch.inference_mode()
def _probe(model: PreTrainedModel) -> None:
    """Run two tokens, so that an option the attention refuses, or a model that ignores it, shows at once."""
    seen: list[int] = []

    class Recorder:
        def record(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
            seen.append(layer)

    memories: Mapping[int, LayerMemories] = {}
    model.base_model(
        input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device),
        attention_mask=causal_mask(2, model.device),
        use_cache=False,
        memories=memories,
        recorder=Recorder(),
    )
    if seen != list(range(model.config.num_hidden_layers)):
        raise InvalidArgument(
            f"{model.config.model_type!r} does not hand its attention to Transformers' attention interface in every "
            "layer, so its layers cannot read memories"
        )


def context_limit(model: PreTrainedModel) -> int:
    """Positions that the model can tell apart in one window.

    A rotation that changes with the length of the sequence (LongRoPE) counts as long as it does not change: memories
    were written with that of short ones, and sequences that run together share the one of the longest.
    """
    sliding: int | None = getattr(model.config, "sliding_window", None)
    limit: int = model.config.max_position_embeddings
    rotation: dict[str, Any] = getattr(model.config, "rope_parameters", None) or {}
    if rotation.get("rope_type") == "longrope":
        limit = min(limit, rotation.get("original_max_position_embeddings") or limit)
    if sliding is not None and getattr(model.config, "use_sliding_window", True):
        return min(sliding, limit)
    return limit
