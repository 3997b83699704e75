"""Writing: what is kept of a reference depends on the reference alone, and gradients flow through it.

Dimensions: `N` references, `G` KV heads, `T` tokens, `K` kept tokens, `D` head size.
"""

from random import Random

import pytest
import torch
from memory3.model.language_model import WRITE_BATCH, LanguageModel
from memory3.model.layout import REFERENCE_TOKENS, MemoryLayout
from memory3.model.selection import RULES
from memory3.model.writer import write_references
from memory3.store.errors import InvalidArgument
from torch import Tensor, nn

from .builders import FAMILIES, projections, random_tokens, tokenizer_of
from .conftest import Load

WORDS = ["the", "bees", "of", "roof", "and", "the", "honey", "the", "sells", "the", "and", "of", "Mira"]
"""Few words, so that most come again within a text: equal words are what selection finds hardest to rank."""


def texts(count: int, seed: int = 0) -> list[str]:
    random = Random(seed)
    return [" ".join(random.choices(WORDS, k=random.randint(1, 40))) for _ in range(count)]


def layout(rule: str = "attention_sum", kept: int = 8) -> MemoryLayout:
    return MemoryLayout((0, 2), kept, rule, stored="float32")


def key_values(model: LanguageModel, values: list[bytes]) -> list[tuple[Tensor, int]]:
    return [model.checkpoint.form.decode(value) for value in values]


@pytest.mark.parametrize("rule", RULES)
def test_key_values_do_not_depend_on_the_batch(rule: str, load: Load) -> None:
    """A batch of different lengths, in any order, equals one reference at a time.

    Equal words once tied in the first layer, and the batch's shape decided which of them was kept.
    """
    model = load("llama", layout(rule))
    given = texts(WRITE_BATCH * 2 + 3)
    together = key_values(model, model.write(given))
    backwards = key_values(model, model.write(given[::-1]))[::-1]
    for number, text in enumerate(given):
        (alone,) = key_values(model, model.write([text]))
        for written in (together[number], backwards[number]):
            assert written[1] == alone[1]
            torch.testing.assert_close(written[0], alone[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_writes_alike_in_a_batch_and_alone(name: str, load: Load) -> None:
    model = load(name, layout("attention_max_value"))
    given = texts(5, seed=4)
    for text, (tensor, tokens) in zip(given, key_values(model, model.write(given)), strict=True):
        (alone,) = key_values(model, model.write([text]))
        assert tokens == alone[1]
        torch.testing.assert_close(tensor, alone[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("tokens", [1, 3, 8, 9, REFERENCE_TOKENS])
def test_a_memory_has_as_many_tokens_as_are_kept_or_there(tokens: int, load: Load) -> None:
    model = load("llama", layout())
    first = model.checkpoint.tokenizer.decode(random_tokens(1, 3)[:1])
    assert isinstance(first, str)
    text = first + "!" * (tokens - 1)
    assert len(model.checkpoint.encode(text)) == tokens
    (value,) = model.write([text])
    assert len(value) == model.key_value_bytes
    tensor, kept = model.checkpoint.form.decode(value)
    assert kept == min(tokens, 8)
    assert (tensor[..., :kept, :].abs().amax(dim=-1) > 0).all()
    assert (tensor[..., kept:, :] == 0).all()


def test_a_longer_text_is_shortened_where_that_is_asked_for(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    model = load("llama")
    first, longer = "!" * 128, "!" * 140
    assert len(model.checkpoint.encode(longer)) == 140
    assert model.write([longer, "a bee"], shorten=True) == model.write([first, "a bee"])
    assert "140 tokens of model" in caplog.text


def test_texts_of_no_token_or_too_many_are_refused(load: Load) -> None:
    model = load("llama", layout())
    with pytest.raises(InvalidArgument, match="has 0"):
        model.write(["a bee", ""])
    with pytest.raises(InvalidArgument, match="has 129; cut it"):
        model.write(["!" * 129])
    assert model.write([]) == []


def test_prefix_and_padding_are_never_kept(load: Load) -> None:
    """Every kept key is, bit for bit nearly, a rotated key of the reference's own tokens."""
    model = load("llama", layout(kept=REFERENCE_TOKENS))
    given = ["bees", "the honey of the roof and the bees"]
    for text, (tensor, kept) in zip(given, key_values(model, model.write(given)), strict=True):
        prefix, row = model.checkpoint.prefix, model.checkpoint.encode(text)
        assert kept == len(row)
        seen: dict[int, Tensor] = {}

        class Recorder:
            def __init__(self, seen: dict[int, Tensor]) -> None:
                self._seen = seen

            def record(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
                del query, value
                self._seen[layer] = key

        tokens = torch.tensor([[*prefix, *row]])
        model.checkpoint.model.base_model(input_ids=tokens, use_cache=False, recorder=Recorder(seen))
        for number, layer in enumerate((0, 2)):
            expected = seen[layer][0, :, len(prefix) :]
            torch.testing.assert_close(tensor[number, 0, :, :kept], expected, atol=1e-5, rtol=0)


def test_stopping_behind_the_last_memory_layer_changes_nothing(load: Load) -> None:
    """Layers behind it are not run, and what is kept is what a whole pass computes."""
    checkpoint = load("llama", layout()).checkpoint
    tokens, valid = checkpoint.padded([checkpoint.encode(text) for text in texts(4)])
    with torch.no_grad():
        with projections(checkpoint.model) as run:
            first_three = write_references(checkpoint.model, tokens, valid, MemoryLayout((0, 2), 8))
        all_four = write_references(checkpoint.model, tokens, valid, MemoryLayout((0, 2, 3), 8))
    assert sorted(run) == [0, 1, 2]
    assert sorted(first_three) == [0, 2] and sorted(all_four) == [0, 2, 3]
    for layer in (0, 2):
        assert torch.equal(first_three[layer].key, all_four[layer].key)
        assert torch.equal(first_three[layer].value, all_four[layer].value)
        assert torch.equal(first_three[layer].real, all_four[layer].real)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_flow_through_kept_keys_and_values(rule: str, load: Load) -> None:
    """And only through them: projections behind the last memory layer get none."""
    checkpoint = load("llama", layout(rule)).checkpoint
    model: nn.Module = checkpoint.model
    tokens, valid = checkpoint.padded([checkpoint.encode(text) for text in texts(4)])
    model.requires_grad_(True)
    try:
        kept = write_references(checkpoint.model, tokens, valid, layout(rule))
        loss = torch.stack([part.sum() for layer in kept.values() for part in (layer.key, layer.value)]).sum()
        named = dict(model.named_parameters())
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    finally:
        model.requires_grad_(False)
    reached = {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None and gradient.any()}
    assert {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"} <= reached
    assert {f"model.layers.{n}.self_attn.{p}_proj.weight" for n in (0, 2) for p in "kv"} <= reached
    assert not [name for name in reached if name.startswith("model.layers.3") or "layers.2.self_attn.q" in name]


def test_the_tokenizer_of_the_tests_is_the_loaded_one(load: Load) -> None:
    """What these tests count in tokens is counted as the model does."""
    assert load("llama").checkpoint.encode(" ".join(WORDS)) == tokenizer_of().encode(" ".join(WORDS))
