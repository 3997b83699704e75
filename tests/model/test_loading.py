"""Loading: every supported family loads, and what cannot read memories is refused with the reason."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from memory3.model.attention import NAME, LayerMemories
from memory3.model.language_model import LanguageModel, _check_writing
from memory3.model.loading import context_limit
from memory3.store.errors import InvalidArgument, NotFound
from transformers import T5Config, T5ForConditionalGeneration

from .builders import FAMILIES, SCALED, plain, save
from .conftest import Load


@pytest.mark.parametrize("name", FAMILIES + SCALED)
def test_supported_families_load(name: str, load: Load) -> None:
    model = load(name)
    assert model.checkpoint.model.config._attn_implementation == NAME
    assert not model.checkpoint.model.training
    assert model.checkpoint.model.dtype == torch.float32
    assert model.checkpoint.form.shape == (2, 2, 2, 8, 16)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gemma2", "'gemma2' mixes layers of the kinds .*full_attention.*sliding_attention.*needs one kind"),
        ("gemma2-full", "'softcap' .*soft-capped scores.*does not support"),
        ("gemma3", "'gemma3_text' mixes layers"),
        ("gpt_neox", "'gpt_neox'.*use one such as Llama"),
        ("phi", "cannot be written with a model of type 'phi'.*use one such as Llama"),
        ("stablelm", "'stablelm' does not hand its attention to Transformers' attention interface"),
        ("gpt2", "'gpt2' is no decoder with rotary positions .*use one such as Llama"),
    ],
)
def test_a_model_that_would_read_wrongly_is_refused(name: str, message: str, tmp_path: Path) -> None:
    save(name, tmp_path)
    with pytest.raises(InvalidArgument, match=message):
        LanguageModel.load(str(tmp_path))


def test_a_model_that_is_no_decoder_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(InvalidArgument, match="holds no decoder that Transformers can run"):
        LanguageModel.load(str(tmp_path))


def test_an_option_that_changes_attention_is_refused(load: Load) -> None:
    """Whatever passes it: none is read over in silence."""
    model = load("llama").checkpoint.model
    tokens = torch.tensor([[3, 4]])
    known = ("softcap", "s_aux", "sinks", "indices", "block_indices", "position_bias", "head_mask")
    for option in (*known, "something_new", "cu_seq_lens_q"):
        with pytest.raises(InvalidArgument, match=f"'{option}'"):
            model(input_ids=tokens, **{option: torch.ones(1)})
        model(input_ids=tokens, **{option: None})


def test_keys_of_another_shape_than_the_configuration_says_are_refused(saved: Callable[[str], Path]) -> None:
    """As with models whose attention is compressed: their memories would be cut into wrong heads."""
    model: Any = LanguageModel.load(str(saved("llama")))
    made = replace(model.checkpoint)
    made.__dict__["form"] = replace(made.form, head_size=8)
    with pytest.raises(InvalidArgument, match="2 KV heads of 8; use another model"):
        _check_writing(made)


def test_dropout_of_attention_is_refused_in_training(saved: Callable[[str], Path]) -> None:
    model: Any = plain(saved("llama"))
    model.set_attn_implementation(NAME)
    model.train()
    tokens = torch.tensor([[3, 4]])
    assert model(input_ids=tokens).logits.isfinite().all()
    for layer in model.base_model.layers:
        layer.self_attn.attention_dropout = 0.1
    with pytest.raises(InvalidArgument, match=r"attention dropout is 0.1"):
        model(input_ids=tokens)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no model '/no/such/folder': give a folder with"):
        LanguageModel.load("/no/such/folder")
    with pytest.raises(NotFound, match="no model 'no name at all'"):
        LanguageModel.load("no name at all")
    with pytest.raises((NotFound, InvalidArgument), match=str(tmp_path)):
        LanguageModel.load(str(tmp_path))


def test_weights_without_a_tokenizer_are_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    plain(saved("llama")).save_pretrained(tmp_path)
    with pytest.raises((NotFound, InvalidArgument), match="tokenizer"):
        LanguageModel.load(str(tmp_path))


def test_the_window_of_a_model(load: Load) -> None:
    assert context_limit(load("llama").checkpoint.model) == 2048
    assert context_limit(load("mistral-window").checkpoint.model) == 512
    assert context_limit(load("qwen3").checkpoint.model) == 2048


def test_loading_in_half_precision_answers_as_in_full(saved: Callable[[str], Path], load: Load) -> None:
    half = LanguageModel.load(str(saved("llama")), dtype=torch.bfloat16)
    assert half.checkpoint.model.dtype == torch.bfloat16
    text = "the bees of the old roof and the honey"
    memories: list[dict[int, LayerMemories]] = []
    logits = []
    for model in (half, load("llama")):
        checkpoint = model.checkpoint
        memories.append(checkpoint.form.layers(model.write([text]), torch.device("cpu"), checkpoint.model.dtype))
        with torch.no_grad():
            logits.append(checkpoint.model(input_ids=torch.tensor([[3, 4, 5]]), memories=memories[-1]).logits.float())
    assert torch.nn.functional.cosine_similarity(logits[0][0, -1], logits[1][0, -1], dim=0) > 0.95


def test_a_window_ends_where_a_rotation_changes_with_length(load: Load) -> None:
    """Behind its first window LongRoPE turns all keys by other angles than those of memories written before."""
    assert context_limit(load("phi3-longrope").checkpoint.model) == 512
    assert context_limit(load("llama-yarn").checkpoint.model) == 2048
