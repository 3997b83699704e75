"""Key-values of one memory as bytes, and the bytes of several memories as what each layer reads.

A value is a little-endian uint32, the number of tokens kept (a short reference has fewer than the layout keeps),
then the array (memory layers, 2, KV heads, kept tokens, head size) in the layout's stored dtype; entries of tokens
that are not there are zero. So all values of a fingerprint have one size.

Dimensions: `L` memory layers, `G` KV heads, `K` kept tokens, `D` head size, `S` memories.
"""

import builtins
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..store.errors import Corrupted
from .attention import LayerMemories
from .layout import STORED_DTYPES, MemoryLayout
from .recall_weight import spread

_HEADER = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class KeyValueForm:
    """The shape of a model's key-values."""

    layout: MemoryLayout
    kv_heads: int
    head_size: int

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        return len(self.layout.layers), 2, self.kv_heads, self.layout.kept_tokens, self.head_size

    @property
    def dtype(self) -> torch.dtype:
        return STORED_DTYPES[self.layout.stored]

    @property
    def bytes(self) -> int:
        """Bytes of one memory."""
        size: int = torch.Size(self.shape).numel() * self.dtype.itemsize
        return _HEADER.size + size

    def encode(self, key_values: Tensor, tokens: int) -> builtins.bytes:
        """Bytes of key-values (L, 2, G, `tokens`, D)."""
        whole = torch.zeros(self.shape, dtype=self.dtype)
        whole[..., :tokens, :] = key_values.to(self.dtype)
        return _HEADER.pack(tokens) + whole.view(torch.uint8).numpy().tobytes()

    def decode(self, value: builtins.bytes) -> tuple[Tensor, int]:
        """Key-values (L, 2, G, K, D) and how many tokens of them are real.

        Raises:
            Corrupted: the value has another size, or names more tokens than the layout keeps.
        """
        if len(value) != self.bytes:
            raise Corrupted(f"key-values have {len(value)} bytes, this model's have {self.bytes}; write them again")
        tokens = _HEADER.unpack_from(value)[0]
        if not 1 <= tokens <= self.layout.kept_tokens:
            raise Corrupted(f"key-values name {tokens} tokens, this model keeps 1 to {self.layout.kept_tokens}")
        flat = torch.frombuffer(bytearray(value[_HEADER.size :]), dtype=self.dtype)
        return flat.view(self.shape), tokens

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
        decoded = [self.decode(value) for value in values]
        tensor = torch.stack([key_values for key_values, _ in decoded]).to(device=device, dtype=dtype)
        counts = torch.tensor([tokens for _, tokens in decoded], device=device)
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
