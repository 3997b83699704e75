"""The numbers of a step, which go to the device in one copy: each copy costs more than the few numbers it moves."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ALIGNED = 16
"""Bytes: a kernel is compiled anew for a pointer that is no multiple of this."""
_TYPES = {"q": torch.int64, "i": torch.int32, "f": torch.float32}


@dataclass(frozen=True, slots=True)
class Numbers:
    """What becomes one tensor: `kind` is "q" for int64, "i" for int32, "f" for float32."""

    kind: str
    values: Sequence[float]
    shape: tuple[int, ...]


def packed(arrays: Sequence[Numbers], device: torch.device) -> Tensor:
    """All arrays behind each other (bytes,) uint8 on the host, where `device` copies from without waiting."""
    content = bytearray()
    for numbers in arrays:
        content += array(numbers.kind, numbers.values).tobytes()
        content += bytes(-len(content) % _ALIGNED)
    host = torch.frombuffer(content, dtype=torch.uint8)
    # Pinned memory that is let go of is not used anew before the copies from it are done.
    return host.pin_memory() if device.type == "cuda" else host


def cut(buffer: Tensor, arrays: Sequence[Numbers]) -> list[Tensor]:
    """The arrays as views into a buffer that holds them, or will hold them, as `packed` lays them."""
    tensors, start = [], 0
    for numbers in arrays:
        kind = _TYPES[numbers.kind]
        end = start + len(numbers.values) * kind.itemsize
        tensors.append(buffer[start:end].view(kind).view(numbers.shape))
        start = -(-end // _ALIGNED) * _ALIGNED
    return tensors
