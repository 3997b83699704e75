"""Key-values as bytes: what is encoded is decoded, what is damaged is refused, and empty slots weigh nothing.

Dimensions: `L` memory layers, `G` KV heads, `K` kept tokens, `D` head size, `M` memory tokens.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.kernels.reference import attend
from memory3.model.key_values import KeyValueForm
from memory3.model.layout import STORED_DTYPES, MemoryLayout
from memory3.store.errors import Corrupted

forms = st.builds(
    lambda layers, kept, stored, heads, size: KeyValueForm(
        MemoryLayout(tuple(range(layers)), kept, "attention_sum", stored=stored), heads, size
    ),
    st.integers(1, 3),
    st.integers(1, 9),
    st.sampled_from(sorted(STORED_DTYPES)),
    st.integers(1, 3),
    st.integers(1, 5),
)


def drawn(form: KeyValueForm, tokens: int, seed: int = 0) -> torch.Tensor:
    layers, two, heads, _, size = form.shape
    return torch.randn(layers, two, heads, tokens, size, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=60)
@given(form=forms, data=st.data())
def test_what_is_encoded_is_decoded(form: KeyValueForm, data: st.DataObject) -> None:
    tokens = data.draw(st.integers(1, form.layout.kept_tokens))
    key_values = drawn(form, tokens)
    value = form.encode(key_values, tokens)
    assert len(value) == form.bytes
    tensor, real = form.decode(value)
    assert real == tokens and tensor.shape == form.shape and tensor.dtype == STORED_DTYPES[form.layout.stored]
    assert torch.equal(tensor[..., :tokens, :], key_values.to(tensor.dtype))
    assert not tensor[..., tokens:, :].any()


def test_the_bytes_are_as_the_format_says() -> None:
    """Written down in the module: a little-endian count, then the array in rising order."""
    form = KeyValueForm(MemoryLayout((1,), 2, stored="float32"), kv_heads=1, head_size=1)
    value = form.encode(torch.tensor([1.0, -2.0]).view(1, 2, 1, 1, 1), 1)
    assert value.hex() == "01000000" + "0000803f" + "00000000" + "000000c0" + "00000000"


@pytest.mark.parametrize("change", [-1, 1, 2, -4, 100])
def test_another_size_is_refused(change: int) -> None:
    form = KeyValueForm(MemoryLayout((0, 1), 4), kv_heads=2, head_size=8)
    value = form.encode(drawn(form, 4), 4)
    wrong = value[:change] if change < 0 else value + bytes(change)
    with pytest.raises(Corrupted, match="write them again"):
        form.decode(wrong)
    with pytest.raises(Corrupted):
        form.layers([value, wrong], torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("tokens", [0, 5, 2**32 - 1])
def test_an_impossible_number_of_tokens_is_refused(tokens: int) -> None:
    form = KeyValueForm(MemoryLayout((0, 1), 4), kv_heads=2, head_size=8)
    value = form.encode(drawn(form, 4), 4)
    with pytest.raises(Corrupted, match=f"name {tokens} tokens"):
        form.decode(tokens.to_bytes(4, "little") + value[4:])


@pytest.mark.parametrize("value", [b"", b"\x01\x00"])
def test_next_to_nothing_is_refused(value: bytes) -> None:
    with pytest.raises(Corrupted):
        KeyValueForm(MemoryLayout((0,), 4), 2, 8).decode(value)


def test_layers_lay_memories_side_by_side_and_mask_what_is_not_there() -> None:
    form = KeyValueForm(MemoryLayout((1, 3), 4, stored="float32"), kv_heads=2, head_size=8)
    parts = [drawn(form, tokens, seed) for seed, tokens in enumerate((4, 1, 3))]
    values = [form.encode(part, part.shape[3]) for part in parts]
    layers = form.layers(values, torch.device("cpu"), torch.float32)
    assert sorted(layers) == [1, 3]
    query, key, value = (
        torch.randn(1, heads, 3, 8, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2)
    )
    for number, layer in enumerate((1, 3)):
        memory = layers[layer]
        assert memory.key.shape == memory.value.shape == (1, 2, 12, 8) and memory.mask is not None
        assert memory.mask.shape == (1, 2, 12) and memory.mask[0, 0].tolist() == [
            *[True] * 4,
            *[True, False, False, False],
            *[True, True, True, False],
        ]
        # Poison in the slots that are not there changes nothing: attention equals that over the real tokens alone.
        hole = ~memory.mask[..., None]
        got = attend(
            query,
            key,
            value,
            scale=0.3,
            memory_key=memory.key.masked_fill(hole, 50.0),
            memory_value=memory.value.masked_fill(hole, 50.0),
            memory_mask=memory.mask,
        )
        joined = torch.cat([part[number] for part in parts], dim=2)
        expected = attend(query, key, value, scale=0.3, memory_key=joined[:1], memory_value=joined[1:])
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


def test_the_order_of_memories_does_not_matter_to_attention() -> None:
    form = KeyValueForm(MemoryLayout((0,), 3, stored="float32"), kv_heads=1, head_size=4)
    values = [form.encode(drawn(form, tokens, tokens), tokens) for tokens in (3, 2, 1)]
    query, key, value = (torch.randn(1, 1, 2, 4, generator=torch.Generator().manual_seed(n)) for n in range(3))
    results = []
    for order in (values, values[::-1]):
        memory = form.layers(order, torch.device("cpu"), torch.float32)[0]
        results.append(
            attend(
                query,
                key,
                value,
                scale=0.5,
                memory_key=memory.key,
                memory_value=memory.value,
                memory_mask=memory.mask,
            )
        )
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=1e-6)
