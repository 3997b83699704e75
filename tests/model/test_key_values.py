"""Key-values as bytes: what is encoded is decoded, what is damaged is refused, and empty slots weigh nothing.

Dimensions: `L` memory layers, `G` KV heads, `K` kept tokens, `D` head size, `M` memory tokens.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.kernels.reference import attend
from memory3.model.codebooks import Codebooks, stage_bits
from memory3.model.key_values import KeyValueForm
from memory3.model.layout import STORED, STORED_DTYPES, MemoryLayout
from memory3.store.errors import Corrupted, InvalidArgument

every_stored = pytest.mark.parametrize("stored", STORED)
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


def of(stored: str, kept: int = 4, size: int = 8) -> KeyValueForm:
    """A form of two layers and two heads, with codebooks where it needs them."""
    bits = stage_bits(size)
    tables = torch.randn(1, 2, sum(1 << width for width in bits), size, generator=torch.Generator().manual_seed(1))
    codebooks = Codebooks(bits, tables.half()) if stored == "rq14" else None
    return KeyValueForm(MemoryLayout((0, 1), kept, stored=stored), 2, size, codebooks)


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


def test_codes_come_before_scales() -> None:
    """All numbers, then all scales, each in rising order: 1 is bfloat16's 3f80, and the empty token is zeros."""
    form = KeyValueForm(MemoryLayout((1,), 2, stored="int8"), kv_heads=1, head_size=3)
    value = form.encode(torch.tensor([127.0, -1.0, 2.0, 254.0, 0.0, -254.0]).view(1, 2, 1, 1, 3), 1)
    assert value.hex() == "01000000" + "7fff02" + "000000" + "7f0081" + "000000" + "803f" + "0000" + "0040" + "0000"
    form = KeyValueForm(MemoryLayout((1,), 2, stored="int4"), kv_heads=1, head_size=3)
    value = form.encode(torch.tensor([7.0, -1.0, 2.0, 14.0, 0.0, -14.0]).view(1, 2, 1, 1, 3), 1)
    assert value.hex() == "01000000" + "270f" + "0000" + "9700" + "0000" + "803f" + "0000" + "0040" + "0000"


@every_stored
@pytest.mark.parametrize("tokens", [1, 3, 4])
def test_memories_read_together_are_what_each_is_alone(stored: str, tokens: int) -> None:
    """Sizes are odd, so that nothing in a value lies at a multiple of two."""
    form = of(stored, size=9)
    parts = [drawn(form, count, seed) for seed, count in enumerate((tokens, 4, 2))]
    values = [form.encode(part, part.shape[3]) for part in parts]
    assert {len(value) for value in values} == {form.bytes}
    layers = form.layers(values, torch.device("cpu"), torch.float32)
    for number, layer in enumerate(form.layout.layers):
        for memory, value in enumerate(values):
            alone, count = form.decode(value)
            place = slice(4 * memory, 4 * memory + count)
            assert torch.equal(layers[layer].key[0, :, place], alone[number, 0, :, :count].float())
            assert torch.equal(layers[layer].value[0, :, place], alone[number, 1, :, :count].float())


@every_stored
def test_bytes_of_tokens_that_are_not_there_are_zero(stored: str) -> None:
    """Whatever the codec, so that a short reference gives nothing away of what lay in memory before."""
    form, longer = of(stored), of(stored, kept=7)
    value, padded = (f.encode(drawn(form, 3), 3) for f in (form, longer))
    assert len(padded) - len(value) == 3 * (form.bytes - 4) // 4
    assert sorted(padded[4:].replace(b"\0", b"")) == sorted(value[4:].replace(b"\0", b""))


def test_rq14_needs_codebooks_that_fit() -> None:
    layout = MemoryLayout((0, 1), stored="rq14")
    with pytest.raises(InvalidArgument, match="memory3 train-codec"):
        KeyValueForm(layout, 2, 8)
    codebooks = of("rq14", size=8).codebooks
    with pytest.raises(InvalidArgument, match=r"heads of 8, this model has 2 and 16"):
        KeyValueForm(layout, 2, 16, codebooks)


@every_stored
@pytest.mark.parametrize("change", [-1, 1, 2, -4, 100])
def test_another_size_is_refused(change: int, stored: str) -> None:
    form = of(stored)
    value = form.encode(drawn(form, 4), 4)
    wrong = value[:change] if change < 0 else value + bytes(change)
    with pytest.raises(Corrupted, match="write them again"):
        form.decode(wrong)
    with pytest.raises(Corrupted):
        form.layers([value, wrong], torch.device("cpu"), torch.float32)


@every_stored
@pytest.mark.parametrize("tokens", [0, 5, 2**32 - 1])
def test_an_impossible_number_of_tokens_is_refused(tokens: int, stored: str) -> None:
    form = of(stored)
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
