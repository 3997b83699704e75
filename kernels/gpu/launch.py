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
    """Rows of a tile at most, keys that are read at a time (a divisor of a page), warps, and loads under way."""

    rows: int
    tile: int
    warps: int
    stages: int


# By the dimensions that a head takes in tiles, at most; of 2 bytes each. Decoding has as many rows as it needs.
_DECODE = {64: Settings(64, 64, 4, 5), 128: Settings(64, 64, 4, 4), 256: Settings(64, 32, 4, 4)}
_PREFILL = {
    80: {64: Settings(64, 64, 4, 3), 128: Settings(64, 32, 4, 3), 256: Settings(64, 32, 8, 3)},
    90: {64: Settings(64, 64, 4, 3), 128: Settings(64, 64, 4, 3), 256: Settings(64, 32, 8, 3)},
}
# Products of float32 as such run without tensor cores, from registers, and a tile takes twice the room.
_FLOAT32 = {64: Settings(16, 32, 4, 2), 128: Settings(16, 16, 8, 2), 256: Settings(16, 16, 8, 2)}


def decode_settings(size: int, query: Tensor) -> Settings:
    return _fitting(_FLOAT32 if query.dtype == torch.float32 else _DECODE, size)


def prefill_settings(size: int, query: Tensor) -> Settings:
    known = _PREFILL[90 if capability(query.device) >= 90 else 80]
    return _fitting(_FLOAT32 if query.dtype == torch.float32 else known, size)


def _fitting(known: dict[int, Settings], size: int) -> Settings:
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


def head_whole(size: int) -> int:
    """A head size as one power of two."""
    assert 1 <= size <= HEAD_SIZE_MAX, f"heads of {size}; the kernels take up to {HEAD_SIZE_MAX}"
    return max(LANES, power_of_two(size))


def head_parts(size: int) -> tuple[int, int]:
    """A head size as powers of two: one, or two where that leaves less empty (80 is 64 + 16, 96 is 64 + 32)."""

    whole = head_whole(size)
    main = whole // 2
    rest = max(LANES, power_of_two(max(1, size - main)))
    return (main, rest) if LANES <= main < size and main + rest < whole else (whole, 0)


def memory_tile(slots: Slots | None, blocks: Blocks, tile: int) -> int:
    """How many tokens of memories are read at a time: all of a block's, if they are no more than a tile."""
    assert slots is None or slots.scales is None, "a GPU's kernels read keys and values that are decoded"
    tokens = 0 if slots is None else slots.key.shape[2] * blocks.slots.shape[1]
    return min(tile, max(LANES, power_of_two(max(1, tokens))))


def check_arrays(*arrays: Tensor) -> None:
    """Arrays of numbers that kernels read by place alone."""
    assert all(one.dtype == torch.int32 and one.is_contiguous() for one in arrays), "int32, one behind the other"


@lru_cache
def capability(device: torch.device) -> int:
    """90 for sm_90; without a GPU (Triton's interpreter) that of the least device."""
    if device.type != "cuda":
        return 80
    major, minor = torch.cuda.get_device_capability(device)
    return major * 10 + minor


@lru_cache
def processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
