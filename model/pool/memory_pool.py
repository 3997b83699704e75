"""The memory pool: decoded memories in fixed slots on the device, codes in RAM behind it, the store behind that.

A memory is named by the store's collection, its shard and its seq; a memory never changes, so what lies under a name is
never stale (the pool belongs to one model, whose fingerprint all its key-values have). What is read is pinned, and its
slot is not filled anew before it is released.

Dimensions: `L` memory layers, `S` slots, `G` KV heads, `K` kept tokens, `D` head size, `N` memories of a load.
"""

import logging
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from ...kernels.blocks import Slots
from ...store.errors import Corrupted
from ...store.types import Hit
from ..codec import Integers
from ..key_values import KeyValueForm
from ..source import MemorySource
from .code_cache import CodeCache
from .decoding import decode_by_kernels, decode_plainly, unpack_numbers
from .slot_table import SlotTable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Where memories were found since the start, how many could not be read, and what is held now.

    `gone` were deleted between recall and load; `failed` are damaged, could not be fetched, or found no free slot.
    """

    device_hits: int
    ram_hits: int
    fetched: int
    gone: int
    failed: int
    memories: int
    pinned: int
    ram_bytes: int


class MemoryPool:
    """Loads and hands out memories; any number of threads may call it. Loads go one at a time, releases never wait."""

    def __init__(
        self, form: KeyValueForm, *, device: torch.device, dtype: torch.dtype, slots: int, ram_bytes: int
    ) -> None:
        layers, _, groups, kept, size = form.shape
        self._form = form
        self.device = device
        self.dtype = dtype
        # A CPU's kernels are bound by what they read, and multiply as they do.
        whole = device.type == "cpu" and dtype == torch.float32 and isinstance(form.codec, Integers)
        # Nothing is touched before it is filled, so that on a CPU unused slots cost no memory.
        shape = (layers, slots, groups, kept)
        key, value = (torch.empty(*shape, size, device=device, dtype=torch.int8 if whole else dtype) for _ in range(2))
        tokens = torch.zeros(slots, device=device, dtype=torch.int32)
        self._slots = Slots(key, value, tokens, (torch.empty(shape), torch.empty(shape)) if whole else None)
        self._table = SlotTable(slots)
        self._codes = CodeCache(ram_bytes)
        self._counts = dict.fromkeys(("device_hits", "ram_hits", "fetched", "gone", "failed"), 0)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        # Copies and decoding do not wait for the attention that runs meanwhile, nor does it for them.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def layer(self, number: int) -> Slots:
        """What the `number`-th memory layer reads."""
        held = self._slots
        scales = None if held.scales is None else (held.scales[0][number], held.scales[1][number])
        return Slots(held.key[number], held.value[number], held.tokens, scales)

    def load(self, source: MemorySource, hits: Sequence[Hit]) -> list[int | None]:
        """The slot of each memory, pinned until `release`; None for one that is gone or could not be loaded.

        Raises:
            Error: the source could not be asked at all; nothing is pinned.
        """
        keys = _keys(source, hits)
        with self._loading:
            with self._lock:
                found = [self._table.pin(key) for key in keys]
                self._counts["device_hits"] += sum(slot is not None for slot in found)
            try:
                missing = [number for number, slot in enumerate(found) if slot is None]
                values, fetched = self._values(source, [keys[n] for n in missing], [hits[n] for n in missing])
                for number, slot in zip(missing, self._fill([keys[n] for n in missing], values), strict=True):
                    found[number] = slot
                fresh = {missing[number] for number in fetched}
                # What is fetched counts as read by itself.
                source.note_reads([hit for number, hit in enumerate(hits) if number not in fresh])
            except BaseException:
                self.release([slot for slot in found if slot is not None])
                raise
        return found

    def codes(self, source: MemorySource, hits: Sequence[Hit]) -> list[bytes | None]:
        """The key-values of each memory as they are stored; None for one that is gone.

        Raises:
            Error: the source could not be asked.
        """
        return self._values(source, _keys(source, hits), hits)[0]

    def release(self, slots: Sequence[int]) -> None:
        """Undo the pins of one load."""
        with self._lock:
            for slot in slots:
                self._table.release(slot)

    def stats(self) -> PoolStats:
        with self._lock:
            return PoolStats(
                **self._counts, memories=len(self._table), pinned=self._table.pinned, ram_bytes=self._codes.bytes
            )

    def _values(
        self, source: MemorySource, keys: Sequence[Hashable], hits: Sequence[Hit]
    ) -> tuple[list[bytes | None], list[int]]:
        """Coded key-values from RAM, or else from the source; and the places of those from the source."""
        with self._lock:
            values = [self._codes.get(key) for key in keys]
            self._counts["ram_hits"] += sum(value is not None for value in values)
        wanted = [number for number, value in enumerate(values) if value is None]
        if not wanted:
            return values, wanted
        fetched = source.key_values([hits[number] for number in wanted])
        with self._lock:
            for number, value in zip(wanted, fetched, strict=True):
                values[number] = value
                if value is None:
                    self._counts["gone"] += 1
                else:
                    self._counts["fetched"] += 1
                    self._codes.put(keys[number], value)
        return values, wanted

    def _fill(self, keys: Sequence[Hashable], values: Sequence[bytes | None]) -> list[int | None]:
        """Decode what is there into slots, and let it be found."""
        slots: list[int | None] = [None] * len(keys)
        with self._lock:
            for number, value in enumerate(values):
                if value is not None and self._sound(keys[number], value):
                    slots[number] = self._table.take()
                    self._counts["failed"] += slots[number] is None
        filled = [number for number, slot in enumerate(slots) if slot is not None]
        try:
            self._decode([slot for slot in slots if slot is not None], [values[n] or b"" for n in filled])
        except BaseException:
            with self._lock:
                for slot in slots:
                    if slot is not None:
                        self._table.give_back(slot)
            raise
        with self._lock:
            for number, slot in enumerate(slots):
                if slot is not None:
                    slots[number] = self._put(keys[number], slot)
        return slots

    def _put(self, key: Hashable, slot: int) -> int:
        """Let a filled slot be found; of a memory that a load names twice, the first slot serves both."""
        there = self._table.pin(key)
        if there is not None:
            self._table.give_back(slot)
            return there
        self._table.put(key, slot)
        return slot

    def _sound(self, key: Hashable, value: bytes) -> bool:
        try:
            self._form.check(value)
        except Corrupted as error:
            _log.warning("a memory is not read: %s", error)
            self._codes.drop(key)
            self._counts["failed"] += 1
            return False
        return True

    def _decode(self, slots: Sequence[int], values: Sequence[bytes]) -> None:
        if not slots:
            return
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            planes, tokens = self._form.planes(values, self.device)
            places = torch.tensor(slots, device=self.device, dtype=torch.int32)
            held, codec = self._slots, self._form.codec
            if held.scales is not None and isinstance(codec, Integers):
                unpack_numbers(codec, planes, places, held)
            else:
                decode = decode_by_kernels if self.device.type == "cuda" else decode_plainly
                decode(codec, planes, places, held.key, held.value)
            held.tokens[places.long()] = tokens
        if self._stream is not None:
            self._stream.synchronize()


def _keys(source: MemorySource, hits: Sequence[Hit]) -> list[Hashable]:
    return [(source.scope, hit.shard, hit.seq) for hit in hits]
