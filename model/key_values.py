"""Key-values of one memory as bytes, and the bytes of several memories as what each layer reads.

A value is a little-endian uint32, the number of tokens kept (a short reference has fewer than the layout keeps), then
one array (memory layers, 2, KV heads, kept tokens, bytes) for each plane of the codec: for floats the numbers
themselves in the layout's stored dtype, for whole numbers these and then their scales (model/codec.py). Bytes of tokens
that are not there are zero. So all values of a fingerprint have one size.

Dimensions: `L` memory layers, `G` KV heads, `K` kept tokens, `D` head size, `S` memories, `W` bytes of a vector.
"""

import builtins
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..store.errors import Corrupted, InvalidArgument
from .attention import LayerMemories
from .codebooks import Codebooks, Residual
from .codec import Codec, Floats, Integers
from .layout import STORED_DTYPES, TRAINED, MemoryLayout
from .recall_weight import spread

_HEADER = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class KeyValueForm:
    """The shape of a model's key-values, and how they are stored."""

    layout: MemoryLayout
    kv_heads: int
    head_size: int
    codebooks: Codebooks | None = None

    def __post_init__(self) -> None:
        if self.layout.stored == TRAINED:
            if self.codebooks is None:
                raise InvalidArgument(
                    f"key-values are to be stored as {TRAINED}, but no codebooks stand beside this model's weights; "
                    "train them with `memory3 train-codec`"
                )
            self.codebooks.check(len(self.layout.layers), self.head_size)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        return len(self.layout.layers), 2, self.kv_heads, self.layout.kept_tokens, self.head_size

    @property
    def codec(self) -> Codec:
        if self.layout.stored in STORED_DTYPES:
            return Floats(self.head_size, STORED_DTYPES[self.layout.stored])
        if self.codebooks is not None and self.layout.stored == TRAINED:
            return Residual(self.codebooks)
        return Integers(self.head_size, {"int8": 8, "int4": 4}[self.layout.stored])

    @property
    def bytes(self) -> int:
        """Bytes of one memory."""
        return _HEADER.size + prod(self.shape[:-1]) * sum(self.codec.widths)

    def encode(self, key_values: Tensor, tokens: int) -> builtins.bytes:
        """Bytes of key-values (L, 2, G, `tokens`, D), coded on their device.

        Raises:
            InvalidArgument: the codec cannot write them.
        """
        missing = self.layout.kept_tokens - tokens
        planes = [pad(plane, (0, 0, 0, missing)).cpu().numpy().tobytes() for plane in self.codec.encode(key_values)]
        return b"".join([_HEADER.pack(tokens), *planes])

    def decode(self, value: builtins.bytes) -> tuple[Tensor, int]:
        """Key-values (L, 2, G, K, D) and how many tokens of them are real; the others mean nothing.

        Raises:
            Corrupted: the value has another size, or names more tokens than the layout keeps.
        """
        tensor, tokens = self.decoded([value], torch.device("cpu"))
        return tensor[0], int(tokens)

    def check(self, value: builtins.bytes) -> int:
        """How many tokens a value keeps.

        Raises:
            Corrupted: it has another size, or names more tokens than the layout keeps.
        """
        if len(value) != self.bytes:
            raise Corrupted(f"key-values have {len(value)} bytes, this model's have {self.bytes}; write them again")
        tokens: int = _HEADER.unpack_from(value)[0]
        if not 1 <= tokens <= self.layout.kept_tokens:
            raise Corrupted(f"key-values name {tokens} tokens, this model keeps 1 to {self.layout.kept_tokens}")
        return tokens

    def decoded(self, values: Sequence[builtins.bytes], device: torch.device) -> tuple[Tensor, Tensor]:
        """Key-values (S, L, 2, G, K, D) of several memories, decoded on the device, and the tokens as in `planes`."""
        planes, counts = self.planes(values, device)
        return self.codec.decode(planes), counts

    def planes(self, values: Sequence[builtins.bytes], device: torch.device) -> tuple[list[Tensor], Tensor]:
        """The planes (S, L, 2, G, K, W) uint8 of several memories and how many tokens of each are real (S,) int32.

        The bytes go to the device as they are.

        Raises:
            Corrupted: a value has another size, or names more tokens than the layout keeps.
        """
        counts = torch.tensor([self.check(value) for value in values], device=device, dtype=torch.int32)
        joined = bytearray().join(memoryview(value)[_HEADER.size :] for value in values)
        data = torch.frombuffer(joined, dtype=torch.uint8).view(len(values), -1).to(device)
        vectors, codec = self.shape[:-1], self.codec
        parts = data.split([prod(vectors) * width for width in codec.widths], dim=1)
        return [part.reshape(len(values), *vectors, -1) for part in parts], counts

    def layers(
        self,
        values: Sequence[builtins.bytes],
        device: torch.device,
        dtype: torch.dtype,
        bias: Tensor | None = None,
    ) -> dict[int, LayerMemories]:
        """What each memory layer reads: keys and values (1, G, S * K, D) of the memories side by side.

        `bias` (S,) is added to the attention scores of each memory's tokens.
        """
        tensor, counts = self.decoded(values, device)
        tensor = tensor.to(dtype)
        count, kept = len(values), self.layout.kept_tokens
        real = torch.arange(kept, device=device)[None] < counts[:, None]
        taking_part = real if bias is None else spread(bias.to(device=device, dtype=dtype), real)
        mask = taking_part.reshape(1, 1, count * kept).expand(1, self.kv_heads, -1)
        # (S, L, 2, G, K, D) to (L, 2, G, S * K, D)
        joined = tensor.permute(1, 2, 3, 0, 4, 5).reshape(*self.shape[:3], count * kept, self.head_size)
        return {
            layer: LayerMemories(joined[number, 0][None], joined[number, 1][None], mask)
            for number, layer in enumerate(self.layout.layers)
        }
