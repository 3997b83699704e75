"""The engine over pages and slots, as on a GPU, gives what the one-at-a-time path gives.

Once with the kernels' reference for long runs, and once with the kernels themselves, which without a GPU run in
Triton's interpreter, for a few tokens.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from memory3.kernels.blocks import Blocks, Pages, Slots
from memory3.kernels.reference import attend_blocks
from memory3.model.codebooks import Codebooks, Residual
from memory3.model.codec import Codec, Floats, Integers
from memory3.model.engine.paged import Kernels, Paged, PagedAttention, gpu_kernels
from memory3.model.engine.step import Work
from memory3.model.key_values import KeyValueForm
from memory3.model.language_model import LanguageModel
from memory3.model.layout import MemoryLayout
from memory3.model.pool.decoding import decode_by_kernels, decode_plainly
from memory3.model.pool.memory_pool import MemoryPool
from memory3.model.source import GenerationOptions
from memory3.store.errors import InvalidArgument

from ..conftest import Load
from .test_engine import LAYOUT, REQUESTS, SMALL, Found, endless, engine_of, prompt, read


def reference(
    query: torch.Tensor, pages: Pages, slots: Slots | None, blocks: Blocks, *, scale: float, out: torch.Tensor
) -> None:
    found, _ = attend_blocks(query, pages, slots, blocks, scale=scale)
    for first, queries in zip(blocks.first.tolist(), blocks.queries.tolist(), strict=True):
        out[first : first + queries] = found[first : first + queries]


REFERENCE = Kernels(reference, reference)


@pytest.fixture
def model(load: Load) -> LanguageModel:
    return endless(load("llama", LAYOUT))


@pytest.mark.parametrize("weight", [0.0, 40.0])
def test_each_gets_what_it_would_get_alone(weight: float, model: LanguageModel) -> None:
    weighed = endless(model, layout=replace(LAYOUT, recall_weight=weight))
    source = Found(weighed)
    expected = [read(list(weighed.generate(text, source, options=options))) for text, options in REQUESTS]
    with engine_of(weighed, replace(SMALL, waiting_max=20, context_tokens_max=1_024), REFERENCE) as engine:
        generations = [engine.generate(text, source, options=options) for text, options in REQUESTS]
        assert [read(list(generation)) for generation in generations] == expected


def test_the_kernels_themselves_give_the_same_tokens(model: LanguageModel) -> None:
    """Prompts of several chunks with memories, one without, and decoding beside them."""
    pytest.importorskip("triton", reason="the kernels need Triton (Linux only)")
    requests = [
        (prompt(3, 40), GenerationOptions(max_tokens=4, memories=2)),
        (prompt(5, 4), GenerationOptions(max_tokens=3, memories=0)),
        (prompt(8, 6), GenerationOptions(max_tokens=4, memories=3)),
    ]
    source = Found(model)
    expected = [read(list(model.generate(text, source, options=options))) for text, options in requests]
    with engine_of(model, SMALL, gpu_kernels(16)) as engine:
        generations = [engine.generate(text, source, options=options) for text, options in requests]
        assert [read(list(generation)) for generation in generations] == expected


def test_heads_that_the_kernels_do_not_take_are_refused() -> None:
    pytest.importorskip("triton", reason="the kernels need Triton (Linux only)")
    with pytest.raises(InvalidArgument, match="heads of 512"):
        gpu_kernels(512)


def paged(pool: MemoryPool, rows: int = 3, tokens: int = 512) -> Paged:
    return Paged(
        layers=2, memory_layers=(1,), kv_heads=2, head_size=16, rows=rows, tokens=tokens, pool=pool, kernels=REFERENCE
    )


def pool_of(form: KeyValueForm) -> MemoryPool:
    return MemoryPool(form, device=torch.device("cpu"), dtype=torch.float32, slots=8, ram_bytes=0)


def test_pages_are_given_back_and_never_shared() -> None:
    store = paged(pool_of(KeyValueForm(MemoryLayout((1,), stored="float32"), 2, 16)))
    for _ in range(20):
        for row, tokens in enumerate((1, 64, 200)):
            store.open(row, tokens)
        held = [page for pages in store._pages for page in pages]
        # The last row is nobody's.
        assert [len(pages) for pages in store._pages] == [1, 1, 4, 1] and len(set(held)) == len(held)
        store.close(1)
        store.open(1, 250)
        held = [page for pages in store._pages for page in pages]
        assert len(set(held)) == len(held) == 10
        for row in range(3):
            store.close(row)
    # The first page is nobody's.
    assert sorted(store._free) == list(range(1, 1 + 512 // 64 + 3))


def test_pages_come_as_they_are_needed_and_what_lies_in_them_stays() -> None:
    pool = pool_of(KeyValueForm(MemoryLayout((1,), stored="float32"), 2, 16))
    kernels = replace(REFERENCE, static=False)
    store = Paged(
        layers=2, memory_layers=(1,), kv_heads=2, head_size=16, rows=3, tokens=512, pool=pool, kernels=kernels
    )
    assert store._key.shape[1] == 1
    store.open(0, 100)
    (first, second), there = store._pages[0], store._key.shape[1]
    for part in (store._key, store._value):
        part[:, [first, second]] = torch.arange(2.0)[None, :, None, None, None] + 1
    store.open(1, 300)
    store.open(2, 112)
    assert there < store._key.shape[1] <= 1 + 512 // 64 + 3
    for part in (store._key, store._value):
        assert (part[:, first] == 1).all() and (part[:, second] == 2).all()
    held = [page for pages in store._pages for page in pages]
    assert len(set(held)) == len(held) and max(held) < store._key.shape[1]


def test_a_row_that_was_closed_reads_nothing_of_who_had_it() -> None:
    store = paged(pool_of(KeyValueForm(MemoryLayout((1,), stored="float32"), 2, 16)))
    store.open(0, 64)
    store.read(0, [3, 4], [0.0, -1.0])
    store.close(0)
    store.open(0, 64)
    attention = store.pack([Work(0, [5], 0, 0, reads=True)], [0]).attention
    assert isinstance(attention, PagedAttention) and attention.parts[0][1].slots.shape == (1, 0)


def _codecs() -> dict[str, Codec]:
    generator = torch.Generator().manual_seed(0)
    bits = (5, 3, 4)
    tables = torch.randn(1, 2, sum(1 << width for width in bits), 16, generator=generator).half()
    return {
        "bfloat16": Floats(16, torch.bfloat16),
        "int8": Integers(16, 8),
        "int4": Integers(16, 4),
        "rq14": Residual(Codebooks(bits, tables)),
    }


@pytest.mark.parametrize("name", ["bfloat16", "int8", "int4", "rq14"])
def test_codes_are_decoded_into_slots_alike_by_kernels(name: str) -> None:
    pytest.importorskip("triton", reason="the kernels need Triton (Linux only)")
    codec = _codecs()[name]
    vectors = torch.randn(3, 2, 2, 2, 4, 16, generator=torch.Generator().manual_seed(1))
    planes: list[Any] = [torch.stack(part) for part in zip(*map(codec.encode, vectors), strict=True)]
    slots = torch.tensor([4, 0, 2], dtype=torch.int32)
    pools = torch.full((2, 2, 2, 6, 2, 4, 16), float("nan"))
    decode_plainly(codec, planes, slots, *pools[0])
    decode_by_kernels(codec, planes, slots, *pools[1])
    torch.testing.assert_close(pools[1], pools[0], rtol=0, atol=0, equal_nan=True)
    assert pools[0][:, :, slots.long()].isfinite().all() and pools[0][:, :, [1, 3, 5]].isnan().all()
