"""What the fuzzer of decoders is told of each thing that is encoded and decoded."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from memory3.store.errors import Corrupted, Memory3Error


@dataclass(frozen=True, slots=True)
class Codec:
    """Something that is encoded and decoded: how to make one, and the errors that its decoder may raise.

    Its decoder gets one input where others get `share`; `seeds` makes mutated bytes more like right ones; `same` says
    whether what was decoded is what was made.
    """

    make: Callable[[random.Random], Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    errors: tuple[type[Memory3Error], ...] = (Corrupted,)
    share: int = 1
    seeds: Callable[[bytes], bytes] = bytes
    same: Callable[[Any, Any], bool] = lambda found, value: _same(found, value)


def _same(found: Any, value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(np.array_equal(found, value))
    if isinstance(found, memoryview):
        return bool(bytes(found) == value)
    return bool(found == value)
