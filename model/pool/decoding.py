"""Decoding of memories into slots of the pool: in plain PyTorch, or by kernels that write nothing in between.

Codes that are whole numbers times a scale can stay so, in a quarter of the bytes that float32 takes.

Dimensions: `N` memories, `L` memory layers, `S` slots, `G` KV heads, `K` kept tokens, `D` head size, `W` bytes of a
vector.
"""

from collections.abc import Sequence

from torch import Tensor

from ...kernels.blocks import Slots
from ..codebooks import Residual
from ..codec import Codec, Integers


def decode_plainly(codec: Codec, planes: Sequence[Tensor], slots: Tensor, key: Tensor, value: Tensor) -> None:
    """Write memories of any codec.

    Args:
        planes: (N, L, 2, G, K, W) uint8, as the codec takes them.
        slots: (N,) int32, all different.
        key, value: (L, S, G, K, D), the pool.
    """
    # (N, L, 2, G, K, D) to (L, N, G, K, D) twice
    keys, values = codec.decode(planes).to(key.dtype).permute(2, 1, 0, 3, 4, 5)
    places = slots.long()
    key[:, places] = keys
    value[:, places] = values


def unpack_numbers(codec: Integers, planes: Sequence[Tensor], slots: Tensor, numbers: Slots) -> None:
    """Write the whole numbers of memories and their scales, for kernels that multiply as they read.

    Args:
        planes, slots: as above.
        numbers: key and value (L, S, G, K, D) int8 with scales (L, S, G, K), the pool.
    """
    assert numbers.scales is not None
    places = slots.long()
    # (N, L, 2, G, K, ...) to (2, L, N, G, K, ...)
    whole, scales = (part.permute(2, 1, 0, *range(3, part.ndim)) for part in codec.numbers(planes))
    for held, parts in (((numbers.key, numbers.value), whole), (numbers.scales, scales)):
        for room, part in zip(held, parts, strict=True):
            room[:, places] = part.to(room.dtype)


def decode_by_kernels(codec: Codec, planes: Sequence[Tensor], slots: Tensor, key: Tensor, value: Tensor) -> None:
    """The same on a GPU."""
    from ...kernels.gpu.codes import decode_integers_into, decode_residual_into

    if isinstance(codec, Integers):
        decode_integers_into(planes[0], planes[1], codec.bits, slots, key, value)
    elif isinstance(codec, Residual):
        decode_residual_into(planes[0], codec.codebooks.bits, codec.codebooks.tables.to(key.device), slots, key, value)
    else:
        decode_plainly(codec, planes, slots, key, value)
