"""The reference over pages and slots equals `attend` on each block's keys and values, laid side by side by hand.

Dimensions: those of kernels/blocks.py.
"""

import pytest
import torch
from memory3.kernels.blocks import PAGE_TOKENS, Blocks, Pages, Slots
from memory3.kernels.reference import attend, attend_blocks
from torch import Tensor

HEADS, GROUPS, SIZE, KEPT = 4, 2, 8, 3
SCALE = 0.37


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(values: list[list[int]]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


PAGES = Pages(drawn(6, GROUPS, PAGE_TOKENS, SIZE, seed=1), drawn(6, GROUPS, PAGE_TOKENS, SIZE, seed=2))
SLOTS = Slots(
    drawn(4, GROUPS, KEPT, SIZE, seed=3), drawn(4, GROUPS, KEPT, SIZE, seed=4), torch.tensor([3, 2, 0, 1]).int()
)
QUERY = drawn(9, HEADS, SIZE, seed=5)
BLOCKS = Blocks(
    first=torch.tensor([0, 6, 1], dtype=torch.int32),
    queries=torch.tensor([1, 3, 4], dtype=torch.int32),
    length=torch.tensor([130, 64, 4], dtype=torch.int32),
    pages=whole([[4, 0, 2], [1, 9, 9], [3, 9, 9]]),
    slots=whole([[1, -1, 0], [3, 3, -1], [2, -1, -1]]),
    bias=drawn(3, 3, seed=6),
    queries_max=4,
    length_max=130,
)


def by_hand(block: int) -> Tensor:
    """The results (T, H, D) of a block by `attend`."""
    assert BLOCKS.bias is not None
    first, queries, length = (int(one[block]) for one in (BLOCKS.first, BLOCKS.queries, BLOCKS.length))
    places = [int(place) for place in BLOCKS.pages[block]][: -(-length // PAGE_TOKENS)]
    key, value = (torch.cat([one[p] for p in places], dim=1)[:, :length] for one in (PAGES.key, PAGES.value))
    chosen = [(int(slot), float(bias)) for slot, bias in zip(BLOCKS.slots[block], BLOCKS.bias[block], strict=True)]
    read = [(slot, int(SLOTS.tokens[slot]), bias) for slot, bias in chosen if slot >= 0 and SLOTS.tokens[slot] > 0]
    if not read:
        read = [(0, 0, 0.0)]
    mask = torch.cat([torch.full((tokens,), bias) for _, tokens, bias in read])
    return attend(
        QUERY[None, first : first + queries].transpose(1, 2),
        key[None],
        value[None],
        scale=SCALE,
        memory_key=torch.cat([SLOTS.key[slot, :, :tokens] for slot, tokens, _ in read], dim=1)[None],
        memory_value=torch.cat([SLOTS.value[slot, :, :tokens] for slot, tokens, _ in read], dim=1)[None],
        memory_mask=mask.expand(1, GROUPS, -1),
    )[0].transpose(0, 1)


@pytest.mark.parametrize("block", range(3))
def test_each_block_equals_attention_over_its_own_tokens(block: int) -> None:
    out, _ = attend_blocks(QUERY, PAGES, SLOTS, BLOCKS, scale=SCALE)
    first, queries = int(BLOCKS.first[block]), int(BLOCKS.queries[block])
    torch.testing.assert_close(out[first : first + queries], by_hand(block), atol=1e-6, rtol=1e-6)


def test_queries_of_no_block_are_zero_and_unread_memories_have_no_mass() -> None:
    out, mass = attend_blocks(QUERY, PAGES, SLOTS, BLOCKS, scale=SCALE, mass=True)
    assert mass is not None and mass.shape == (9, HEADS, 3)
    assert not out[5].any() and not mass[5].any()
    assert (mass[0][:, [0, 2]] > 0).all() and not mass[0, :, 1].any()
    assert not mass[1:5].any()
    # A memory that is named twice is read twice, each time with its own bias.
    assert BLOCKS.bias is not None
    ratio = (BLOCKS.bias[1, 1] - BLOCKS.bias[1, 0]).exp()
    torch.testing.assert_close(mass[6:9, :, 1], mass[6:9, :, 0] * ratio)


def test_values_that_name_their_memory_show_the_mass() -> None:
    """With values of 1 in memory r and 0 elsewhere, the result is the mass of memory r."""
    ones = Slots(SLOTS.key, torch.zeros_like(SLOTS.value), SLOTS.tokens)
    ones.value[1] = 1.0
    zeros = Pages(PAGES.key, torch.zeros_like(PAGES.value))
    out, mass = attend_blocks(QUERY, zeros, ones, BLOCKS, scale=SCALE, mass=True)
    assert mass is not None
    torch.testing.assert_close(out[0], mass[0, :, 0][:, None].expand(HEADS, SIZE))


def test_without_slots_no_memory_is_read() -> None:
    out, mass = attend_blocks(QUERY, PAGES, None, BLOCKS, scale=SCALE, mass=True)
    none = Slots(SLOTS.key, SLOTS.value, torch.zeros_like(SLOTS.tokens))
    assert mass is not None and not mass.any()
    torch.testing.assert_close(out, attend_blocks(QUERY, PAGES, none, BLOCKS, scale=SCALE)[0])
