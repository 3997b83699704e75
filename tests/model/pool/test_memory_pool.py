"""The memory pool hands out the right memories: tiers, counts, damage, and a storm of loads and evictions."""

import os
import threading
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from random import Random

import pytest
import torch
from memory3.model.key_values import KeyValueForm
from memory3.model.layout import MemoryLayout
from memory3.model.pool.memory_pool import MemoryPool
from memory3.model.source import MemorySource
from memory3.store.errors import Unavailable
from memory3.store.types import Hit

from ..builders import hit

FORM = KeyValueForm(MemoryLayout((1, 3), kept_tokens=4, rule="key_value_norm", stored="float32"), 2, 8)


class Source(MemorySource):
    """Key-values whose numbers are all `seq`, plus the scope's own; some gone, some damaged."""

    def __init__(self, scope: Hashable = "a", offset: float = 0.0) -> None:
        self._scope = scope
        self.offset = offset
        self.gone: set[int] = set()
        self.damaged: set[int] = set()
        self.fetched: list[int] = []
        self.noted: list[int] = []
        self.down = False
        self.uncounted = False

    @property
    def scope(self) -> Hashable:
        return self._scope

    def recall(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        raise AssertionError("the pool does not recall")

    def note_reads(self, hits: Sequence[Hit]) -> None:
        if self.uncounted:
            raise Unavailable("the store is closed")
        self.noted += [found.seq for found in hits]

    def live(self, hits: Sequence[Hit]) -> list[bool]:
        return [found.seq not in self.gone for found in hits]

    def key_values(self, hits: Sequence[Hit]) -> list[bytes | None]:
        if self.down:
            raise Unavailable("the store is down")
        self.fetched += [found.seq for found in hits]
        return [self._value(found.seq) for found in hits]

    def _value(self, seq: int) -> bytes | None:
        if seq in self.gone:
            return None
        tokens = 1 + seq % 4
        layers, _, groups, _, size = FORM.shape
        value = FORM.encode(torch.full((layers, 2, groups, tokens, size), seq + self.offset), tokens)
        return value[:-1] if seq in self.damaged else value


def pool_of(slots: int = 8, ram_bytes: int = 1 << 20) -> MemoryPool:
    return MemoryPool(FORM, device=torch.device("cpu"), dtype=torch.float32, slots=slots, ram_bytes=ram_bytes)


def holds(pool: MemoryPool, slot: int | None, seq: int, offset: float = 0.0) -> bool:
    """Whether a slot holds exactly the memory `seq`, in every layer."""
    assert slot is not None
    tokens = 1 + seq % 4
    return int(pool.layer(0).tokens[slot]) == tokens and all(
        bool((part[:, :tokens] == seq + offset).all())
        for number in range(2)
        for part in (pool.layer(number).key[slot], pool.layer(number).value[slot])
    )


def test_a_load_brings_each_memory_into_a_slot_of_its_own() -> None:
    pool, source = pool_of(), Source()
    slots = pool.load(source, [hit(3), hit(5), hit(6)])
    assert len(set(slots)) == 3 and all(holds(pool, slot, seq) for slot, seq in zip(slots, (3, 5, 6), strict=True))
    assert pool.load(source, [hit(5), hit(3)]) == [slots[1], slots[0]]
    assert source.fetched == [3, 5, 6] and source.noted == [5, 3]
    stats = pool.stats()
    assert (stats.device_hits, stats.fetched, stats.memories, stats.pinned) == (2, 3, 3, 3)


@pytest.mark.parametrize("stored", ["int8", "int4"])
def test_whole_numbers_stay_so_and_mean_what_their_codes_mean(stored: str) -> None:
    form = KeyValueForm(MemoryLayout((0, 2), kept_tokens=4, stored=stored), kv_heads=2, head_size=6)
    vectors = torch.randn(2, 2, 2, 3, 6, generator=torch.Generator().manual_seed(3))
    value = form.encode(vectors, 3)
    source = Source()
    source.__dict__["key_values"] = lambda hits: [value for _ in hits]
    pool = MemoryPool(form, device=torch.device("cpu"), dtype=torch.float32, slots=3, ram_bytes=0)
    slots = pool.load(source, [hit(1), hit(2)])
    exact, _ = form.decode(value)
    for number in range(2):
        held = pool.layer(number)
        assert held.key.dtype == held.value.dtype == torch.int8
        read = held.multiplied()
        for slot in slots:
            assert slot is not None and int(held.tokens[slot]) == 3
            torch.testing.assert_close(read.key[slot], exact[number, 0], rtol=0, atol=0)
            torch.testing.assert_close(read.value[slot], exact[number, 1], rtol=0, atol=0)


def test_slots_that_nothing_lies_in_take_no_memory() -> None:
    """On a CPU pages of memory that nobody touched do not exist."""
    resident = Path("/proc/self/statm")
    if not resident.exists():
        pytest.skip("only Linux says how much of a process is in memory")
    form = KeyValueForm(MemoryLayout(tuple(range(8)), kept_tokens=32, stored="float32"), kv_heads=8, head_size=128)
    before = int(resident.read_text().split()[1])
    pool = MemoryPool(form, device=torch.device("cpu"), dtype=torch.float32, slots=512, ram_bytes=0)
    grown = (int(resident.read_text().split()[1]) - before) * os.sysconf("SC_PAGE_SIZE")
    held = sum(part.nbytes for number in range(8) for part in (pool.layer(number).key, pool.layer(number).value))
    assert held == 1 << 30 and grown < 64 << 20


def test_what_was_pushed_out_comes_back_from_ram() -> None:
    pool, source = pool_of(slots=2), Source()
    for seq in (1, 2, 3, 1):
        slots = pool.load(source, [hit(seq)])
        assert holds(pool, slots[0], seq)
        pool.release([slot for slot in slots if slot is not None])
    assert source.fetched == [1, 2, 3] and pool.stats().ram_hits == 1
    # What was not fetched is told as read.
    assert source.noted == [1]


def test_ram_is_bounded_in_bytes() -> None:
    pool, source = pool_of(slots=1, ram_bytes=2 * FORM.bytes), Source()
    for seq in (1, 2, 3, 1):
        pool.release([slot for slot in pool.load(source, [hit(seq)]) if slot is not None])
    assert source.fetched == [1, 2, 3, 1] and pool.stats().ram_bytes == 2 * FORM.bytes


def test_the_same_seq_of_another_collection_or_shard_is_another_memory() -> None:
    pool = pool_of()
    first, second = Source("a"), Source("b", offset=0.5)
    slots = pool.load(first, [hit(1)]) + pool.load(second, [hit(1)])
    assert holds(pool, slots[0], 1) and holds(pool, slots[1], 1, 0.5)
    other = Hit("k", "t", 1.0, 1, {}, seq=1, shard=1)
    assert pool.load(first, [other])[0] not in slots


def test_gone_and_damaged_memories_are_counted_and_the_others_come() -> None:
    pool, source = pool_of(), Source()
    source.gone, source.damaged = {2}, {3}
    slots = pool.load(source, [hit(1), hit(2), hit(3), hit(4)])
    assert [slot is None for slot in slots] == [False, True, True, False]
    assert holds(pool, slots[0], 1) and holds(pool, slots[3], 4)
    stats = pool.stats()
    assert (stats.gone, stats.failed) == (1, 1)
    # Damage is not kept: the next load asks the source again, which has been mended.
    source.damaged = set()
    assert holds(pool, pool.load(source, [hit(3)])[0], 3)


def test_where_every_slot_is_read_a_load_fails_and_spoils_nothing() -> None:
    pool, source = pool_of(slots=2), Source()
    slots = pool.load(source, [hit(1), hit(2)])
    assert pool.load(source, [hit(3)]) == [None] and pool.stats().failed == 1
    assert holds(pool, slots[0], 1) and holds(pool, slots[1], 2)
    pool.release([slot for slot in slots[:1] if slot is not None])
    assert holds(pool, pool.load(source, [hit(3)])[0], 3) and holds(pool, slots[1], 2)


def test_a_memory_named_twice_in_a_load_takes_one_slot() -> None:
    pool, source = pool_of(), Source()
    slots = pool.load(source, [hit(1), hit(1)])
    assert slots[0] == slots[1] and pool.stats().memories == 1
    pool.release([slot for slot in slots if slot is not None])
    assert pool.stats().pinned == 0


def test_a_source_that_is_down_leaves_no_pins() -> None:
    pool, source = pool_of(), Source()
    pool.load(source, [hit(1)])
    source.down = True
    with pytest.raises(Unavailable):
        pool.load(source, [hit(1), hit(2)])
    pool.release([pool.load(source, [hit(1)])[0] or 0] * 2)
    assert pool.stats().pinned == 0


def test_a_load_that_cannot_be_counted_leaves_no_pins() -> None:
    """Once what had just been filled stayed pinned for ever."""
    pool, source = pool_of(), Source()
    source.uncounted = True
    with pytest.raises(Unavailable):
        pool.load(source, [hit(1), hit(2)])
    assert pool.stats().pinned == 0


@pytest.mark.parametrize("ram_bytes", [0, 20 * FORM.bytes])
def test_a_storm_of_loads_and_evictions_never_shows_another_memory(ram_bytes: int) -> None:
    """Eight readers of 60 memories in 24 slots, each with up to three pinned: what is pinned is always itself."""
    pool, end = pool_of(slots=24, ram_bytes=ram_bytes), time.monotonic() + 3
    wrong: list[int] = []
    loads = [0] * 8

    def read(number: int) -> None:
        random, source = Random(number), Source()
        while time.monotonic() < end:
            seqs = random.sample(range(60), 3)
            slots = pool.load(source, [hit(seq) for seq in seqs])
            for _ in range(random.randrange(3)):
                wrong.extend(seq for seq, slot in zip(seqs, slots, strict=True) if not holds(pool, slot, seq))
            loads[number] += 1
            pool.release([slot for slot in slots if slot is not None])

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = pool.stats()
    assert wrong == [] and min(loads) > 20
    assert (stats.failed, stats.gone, stats.pinned, stats.memories) == (0, 0, 0, 24)
    assert stats.device_hits + stats.ram_hits + stats.fetched == 3 * sum(loads)
    assert stats.device_hits > 0 and stats.fetched > 60
