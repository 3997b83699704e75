"""Whole numbers of one scale a vector: how far they may be off, at the edges too, and what is refused.

Dimensions: `L` memory layers, `G` KV heads, `T` tokens, `D` head size, `W` bytes of a vector in one plane.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.model.codec import Floats, Integers
from memory3.store.errors import InvalidArgument
from torch import Tensor

SIZES = [1, 2, 3, 16, 63, 64, 80, 111, 128]
integers = pytest.mark.parametrize("bits", [8, 4])


def drawn(size: int, seed: int = 0) -> Tensor:
    """Keys and values (L, 2, G, T, D) of two layers, heads and five tokens."""
    return torch.randn(2, 2, 2, 5, size, generator=torch.Generator().manual_seed(seed))


def through(codec: Integers, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """What is decoded of vectors (..., D), and their scales (..., 1)."""
    planes = codec.encode(vectors)
    assert [plane.shape for plane in planes] == [(*vectors.shape[:-1], width) for width in codec.widths]
    assert all(plane.dtype == torch.uint8 for plane in planes)
    scales = planes[1].contiguous().view(torch.bfloat16).float()
    return codec.decode([plane[None] for plane in planes])[0], scales


@integers
@pytest.mark.parametrize("size", SIZES)
def test_a_number_is_off_by_at_most_half_a_scale(bits: int, size: int) -> None:
    vectors = drawn(size)
    decoded, scales = through(Integers(size, bits), vectors)
    assert decoded.shape == vectors.shape and decoded.dtype == torch.float32
    assert ((decoded - vectors).abs() <= scales / 2 * (1 + 1e-6)).all()
    # The scale itself is no larger than it must be: that of the largest number, but for bfloat16's rounding.
    top = {8: 127, 4: 7}[bits]
    largest = vectors.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(scales, largest / top, rtol=2**-8, atol=0)


@integers
@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-(2.0**126), 2.0**126, width=32, allow_subnormal=False), min_size=1, max_size=20))
def test_the_bound_holds_for_numbers_of_any_size(bits: int, numbers: list[float]) -> None:
    """Also where numbers of very different size stand in one vector, and near the ends of what float32 holds."""
    vectors = torch.tensor(numbers, dtype=torch.float32)[None]
    decoded, scales = through(Integers(len(numbers), bits), vectors)
    assert decoded.isfinite().all()
    assert ((decoded.double() - vectors.double()).abs() <= scales.double() / 2 * (1 + 1e-6)).all()


@integers
def test_numbers_that_the_scale_divides_are_exact(bits: int) -> None:
    top = {8: 127, 4: 7}[bits]
    vectors = torch.arange(-top, top + 1).float()[None] * torch.tensor([[0.25], [3.0]])
    decoded, scales = through(Integers(2 * top + 1, bits), vectors)
    assert scales.flatten().tolist() == [0.25, 3.0]
    assert torch.equal(decoded, vectors)


@integers
def test_each_vector_has_a_scale_of_its_own(bits: int) -> None:
    """A large token, head, layer, key does not blur a small one: the relative error is that of the vector alone."""
    vectors = drawn(64)
    factors = 10.0 ** torch.randint(-6, 6, vectors.shape[:-1], generator=torch.Generator().manual_seed(1))[..., None]
    decoded, _ = through(Integers(64, bits), vectors * factors)
    alone, _ = through(Integers(64, bits), vectors)
    bound = {8: 1e-4, 4: 3e-2}[bits]
    for made, wanted in ((decoded, vectors * factors), (alone, vectors)):
        assert ((made - wanted).square().sum(-1) < bound * wanted.square().sum(-1)).all()


@integers
def test_nothing_is_written_as_zeros(bits: int) -> None:
    codec = Integers(63, bits)
    planes = codec.encode(torch.zeros(1, 2, 1, 3, 63))
    assert not any(plane.any() for plane in planes)
    assert not codec.decode([plane[None] for plane in planes]).any()


@integers
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused(bits: int, bad: float) -> None:
    vectors = drawn(8)
    vectors[1, 1, 0, 3, 5] = bad
    with pytest.raises(InvalidArgument, match="not finite"):
        Integers(8, bits).encode(vectors)


def test_the_order_of_int4_in_its_bytes() -> None:
    """Dimensions 0 and 2 share the first byte, 0 in its low half; the high half of the last belongs to nobody."""
    numbers, scale = Integers(3, 4).encode(torch.tensor([[7.0, -2.0, -7.0]]))
    assert numbers.tolist() == [[0x97, 0x0E]] and scale.view(torch.bfloat16).tolist() == [[1.0]]


def test_the_bytes_of_a_vector() -> None:
    assert Integers(80, 8).widths == (80, 2)
    assert Integers(80, 4).widths == (40, 2) and Integers(63, 4).widths == (32, 2)
    assert Floats(80, torch.bfloat16).widths == (160,) and Floats(80, torch.float32).widths == (320,)


@integers
def test_half_precision_is_coded_as_the_numbers_it_holds(bits: int) -> None:
    codec = Integers(16, bits)
    for dtype in (torch.bfloat16, torch.float16):
        vectors = drawn(16).to(dtype)
        for made, wanted in zip(codec.encode(vectors), codec.encode(vectors.float()), strict=True):
            assert torch.equal(made, wanted)
