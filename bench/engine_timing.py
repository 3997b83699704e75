"""Where the engine's thread spends its time on a CPU: copying memories into rows, attention, and whole steps."""

import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from memory3.model.engine.engine import Engine
from memory3.model.engine.rows import Rows
from memory3.model.engine.step import Attention, ContextStore, Packed, Work
from torch import Tensor

PARTS = ("copy", "attend", "step")

Seconds = MutableMapping[str, float]
"""Seconds by part, added up."""


def time_engine(engine: Engine, seconds: Seconds) -> None:
    """Add to `seconds` what the engine's thread takes for each of `PARTS`; not on a device, which nobody waits for."""
    if not isinstance(engine._context, Rows):
        return
    engine._context = TimedStore(engine._context, seconds)
    forward = engine._forward

    def step(works: Sequence[Work], rows: Sequence[int]) -> Tensor:
        with timed(seconds, "step"):
            return forward(works, rows)

    engine.__dict__["_forward"] = step


@dataclass(frozen=True, slots=True)
class TimedStore(ContextStore):
    """A context store whose copies of memories and whose attention are timed."""

    store: ContextStore
    seconds: Seconds

    def open(self, row: int, tokens: int) -> None:
        self.store.open(row, tokens)

    def read(self, row: int, slots: Sequence[int], bias: Sequence[float] | None) -> None:
        with timed(self.seconds, "copy"):
            self.store.read(row, slots, bias)

    def close(self, row: int) -> None:
        self.store.close(row)

    def pack(self, works: Sequence[Work], last: Sequence[int]) -> Packed:
        packed = self.store.pack(works, last)
        return replace(packed, attention=TimedAttention(packed.attention, self.seconds))


@dataclass(frozen=True, slots=True)
class TimedAttention(Attention):
    attention: Attention
    seconds: Seconds

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        with timed(self.seconds, "attend"):
            return self.attention.attend(layer, query, key, value, scale)


@contextmanager
def timed(seconds: Seconds, part: str) -> Iterator[None]:
    """Add what the block takes to a part."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] += time.perf_counter() - began
