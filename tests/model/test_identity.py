"""A memory is what it claims to be: read whole it equals its text in the context; unread it changes nothing.

Dimensions: `B` batch, `G` KV heads, `T` tokens, `V` vocabulary.
"""

from collections.abc import Callable

import pytest
import torch
from memory3.model.context import Context
from memory3.model.language_model import LanguageModel
from memory3.model.layout import REFERENCE_TOKENS, MemoryLayout
from memory3.model.schedule import CHUNK_TOKENS
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from .builders import FAMILIES, SCALED, random_tokens
from .conftest import Load

DENSE = MemoryLayout(layers=(0, 1, 2, 3), kept_tokens=128, stored="float32")
families = pytest.mark.parametrize("name", FAMILIES)


def text_of(model: LanguageModel, seed: int, tokens: int) -> str:
    """A text of exactly so many tokens."""
    words = [
        "Mira",
        "keeps",
        "bees",
        "on",
        "the",
        "roof",
        "of",
        "old",
        "post",
        "office",
        "and",
        "sells",
        "their",
        "honey",
        "Tomas",
        "repairs",
        "clocks",
        "ferry",
    ]
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(seed)).tolist()
    text = " ".join(words[number % len(words)] for number in order[:tokens])
    cut = model.checkpoint.tokenizer.decode(model.checkpoint.encode(text)[:tokens])
    assert isinstance(cut, str)
    assert len(model.checkpoint.encode(cut)) == tokens
    return cut


def in_context(model: PreTrainedModel, prefix: list[int], reference: list[int], context: list[int]) -> Tensor:
    """Logits (T, V) of the context behind prefix and reference in one pass; it starts behind 128 positions."""
    tokens = [*prefix, *reference, *context]
    start = len(prefix) + REFERENCE_TOKENS
    positions = [*range(len(prefix) + len(reference)), *range(start, start + len(context))]
    mask = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()[None, None]
    logits: Tensor = model(
        input_ids=torch.tensor([tokens]),
        attention_mask=mask,
        position_ids=torch.tensor([positions]),
        use_cache=False,
    ).logits[0]
    return logits[-len(context) :]


@pytest.mark.parametrize("name", FAMILIES + SCALED)
@pytest.mark.parametrize("tokens", [128, 37])
def test_a_dense_memory_equals_its_reference_in_the_context(
    name: str, tokens: int, load: Load, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    model = load(name, DENSE)
    checkpoint = model.checkpoint
    text = text_of(model, 3, tokens)
    reference, context = checkpoint.encode(text), random_tokens(5, 20)
    expected = in_context(plain_model(name), checkpoint.prefix, reference, context)

    memories = checkpoint.form.layers(model.write([text]), checkpoint.model.device, checkpoint.model.dtype)
    reading = Context(checkpoint.model)
    reading.extend(checkpoint.prefix)
    reading.skip(REFERENCE_TOKENS)
    # All but the last few tokens as a prompt, then token by token, as in decoding.
    got = [reading.extend(context[:15], memories)]
    got += [reading.extend([token], memories) for token in context[15:]]
    torch.testing.assert_close(torch.stack(got), expected[14:], atol=1e-5, rtol=0)
    without = in_context(plain_model(name), checkpoint.prefix, [], context)
    assert (expected - without).abs().max() > 0.01, "the reference makes no difference: the comparison shows nothing"


@families
def test_without_memory_a_whole_sequence_equals_plain_transformers(
    name: str, load: Load, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    tokens = torch.tensor([random_tokens(1, 90)])
    ours, theirs = load(name).checkpoint.model, plain_model(name)
    assert ours.config._attn_implementation == "memory3" and theirs.config._attn_implementation == "sdpa"
    for use_cache in (False, True):
        assert torch.equal(
            ours(input_ids=tokens, use_cache=use_cache).logits, theirs(input_ids=tokens, use_cache=use_cache).logits
        )


@families
def test_without_memory_decoding_step_by_step_equals_plain_transformers(
    name: str, load: Load, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    tokens = torch.tensor([random_tokens(2, 30)])
    logits = []
    for model in (load(name).checkpoint.model, plain_model(name)):
        cache = DynamicCache(config=model.config)
        steps = [model(input_ids=tokens[:, :12], past_key_values=cache, use_cache=True).logits]
        steps += [
            model(input_ids=tokens[:, at : at + 1], past_key_values=cache, use_cache=True).logits
            for at in range(12, 30)
        ]
        logits.append(torch.cat(steps, dim=1))
    assert logits[0].shape[1] == 30
    assert torch.equal(logits[0], logits[1])


@families
@pytest.mark.parametrize("side", ["left", "right"])
def test_without_memory_a_ragged_batch_equals_plain_transformers(
    name: str, side: str, load: Load, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    lengths = [9, 25, 17]
    tokens = torch.full((3, 25), 2)
    mask = torch.zeros(3, 25, dtype=torch.long)
    for row, length in enumerate(lengths):
        place = slice(25 - length, 25) if side == "left" else slice(0, length)
        tokens[row, place] = torch.tensor(random_tokens(row, length))
        mask[row, place] = 1
    ours, theirs = load(name).checkpoint.model, plain_model(name)
    got = ours(input_ids=tokens, attention_mask=mask).logits
    assert torch.equal(got, theirs(input_ids=tokens, attention_mask=mask).logits)
    assert got[mask.bool()].isfinite().all()


@families
def test_a_context_without_memories_is_a_plain_sequence(
    name: str, load: Load, plain_model: Callable[[str], PreTrainedModel]
) -> None:
    """In steps of any size, the logits are those of one pass over the whole."""
    tokens = random_tokens(4, CHUNK_TOKENS + 9)
    context = Context(load(name).checkpoint.model)
    got = [context.extend(tokens[:CHUNK_TOKENS])] + [context.extend([token]) for token in tokens[CHUNK_TOKENS:]]
    expected = plain_model(name)(input_ids=torch.tensor([tokens])).logits[0, CHUNK_TOKENS - 1 :]
    torch.testing.assert_close(torch.stack(got), expected, atol=1e-5, rtol=0)


def test_layers_that_are_no_memory_layers_read_nothing(load: Load) -> None:
    """A memory for a layer changes that layer's output and those behind it, none before."""
    model = load("llama", MemoryLayout(layers=(2,), stored="float32"))
    checkpoint = model.checkpoint
    memories = checkpoint.form.layers(model.write([text_of(model, 1, 30)]), torch.device("cpu"), torch.float32)
    tokens = torch.tensor([random_tokens(6, 8)])
    without = checkpoint.model(input_ids=tokens, output_hidden_states=True).hidden_states
    read = checkpoint.model(input_ids=tokens, output_hidden_states=True, memories=memories).hidden_states
    assert [torch.equal(a, b) for a, b in zip(without, read, strict=True)] == [True, True, True, False, False]
