"""How kernels are launched: tiles, warps and stages by head size, dtype and device, and what a kernel gets of a tensor.

The settings are such that nothing spills and all fits the shared memory (bench/kernel_resources.py shows it for sm_80
and sm_90 without a GPU); which of the sound ones is fastest, `bench/kernels.py --tune` finds on a device.

Dimensions: those of kernels/blocks.py.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..blocks import Blocks, Slots

HEAD_SIZE_MAX = 256
LANES = 16
"""The least that a matrix product of a tile takes in each dimension."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Keys that are read at a time (a divisor of a page), warps of a program, and loads that are under way."""

    tile: int
    warps: int
    stages: int


# By kernel and size of a head as the kernel lays it out; for numbers of 2 bytes.
_SETTINGS = {
    "decode": {64: Settings(64, 4, 5), 128: Settings(64, 4, 4), 256: Settings(32, 4, 4)},
    "prefill": {64: Settings(64, 4, 3), 128: Settings(64, 4, 2), 256: Settings(32, 8, 2)},
}
# Products of float32 as such run without tensor cores, and a tile takes twice the room.
_SETTINGS_FLOAT32 = {64: Settings(32, 8, 2), 128: Settings(16, 8, 2), 256: Settings(16, 8, 2)}


def settings(kernel: str, size: int, query: Tensor) -> Settings:
    """How a kernel is launched for heads that take `size` dimensions of its tiles."""
    known = _SETTINGS_FLOAT32 if query.dtype == torch.float32 else _SETTINGS[kernel]
    return known[min(most for most in known if size <= most)]


class KeyValues(NamedTuple):
    """Keys and values as a kernel gets them; strides in elements, so that both may be views into larger pools."""

    key: Tensor
    value: Tensor
    s_key: tuple[int, ...]
    s_value: tuple[int, ...]


class Table(NamedTuple):
    """A tensor with two dimensions or more, and its strides."""

    data: Tensor
    s: tuple[int, ...]


def key_values(key: Tensor, value: Tensor) -> KeyValues:
    return KeyValues(key, value, key.stride(), value.stride())


def table(data: Tensor) -> Table:
    return Table(data, data.stride())


def power_of_two(number: int) -> int:
    """The least power of two that is not less than a number."""
    return 1 << (number - 1).bit_length()


def head_parts(size: int) -> tuple[int, int]:
    """A head size as powers of two: one, or two where that leaves less empty (80 is 64 + 16, 96 is 64 + 32)."""
    assert 1 <= size <= HEAD_SIZE_MAX, f"heads of {size}; the kernels take up to {HEAD_SIZE_MAX}"
    whole = max(LANES, power_of_two(size))
    main = whole // 2
    rest = max(LANES, power_of_two(max(1, size - main)))
    return (main, rest) if LANES <= main < size and main + rest < whole else (whole, 0)


def memory_tile(slots: Slots | None, blocks: Blocks, tile: int) -> int:
    """How many tokens of memories are read at a time: all of a block's, if they are no more than a tile."""
    tokens = 0 if slots is None else slots.key.shape[2] * blocks.slots.shape[1]
    return min(tile, max(LANES, power_of_two(max(1, tokens))))


def check_arrays(*arrays: Tensor) -> None:
    """Arrays of numbers that kernels read by place alone."""
    assert all(one.dtype == torch.int32 and one.is_contiguous() for one in arrays), "int32, one behind the other"


@lru_cache
def processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
