"""Where the engine's thread spends its time on a CPU: attention, and whole steps."""

import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from memory3.model.engine.engine import Engine
from memory3.model.engine.step import Attention, Packed, Work
from torch import Tensor

PARTS = ("attend", "step")

Seconds = MutableMapping[str, float]
"""Seconds by part, added up."""


def time_engine(engine: Engine, seconds: Seconds) -> None:
    """Add to `seconds` what the engine's thread takes for each of `PARTS`; not on a device, which nobody waits for."""
    if engine.pool.device.type != "cpu":
        return
    pack, forward = engine._context.pack, engine._forward

    def timed_pack(works: Sequence[Work], last: Sequence[int]) -> Packed:
        packed = pack(works, last)
        return replace(packed, attention=TimedAttention(packed.attention, seconds))

    def step(works: Sequence[Work], rows: Sequence[int]) -> Tensor:
        with timed(seconds, "step"):
            return forward(works, rows)

    engine._context.__dict__["pack"] = timed_pack
    engine.__dict__["_forward"] = step


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
