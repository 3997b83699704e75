"""The trained tables of `rq14`, kept beside a model's weights, and the codec that uses them.

The paper codes a vector of 80 dimensions in 14 bytes: two residual stages of 14 bits, then 8 sub-vectors of 10 bits,
behind a rotation (FAISS: `OPQ20_80,Residual2x14,PQ8x10`). Here all stages are residual stages over the whole vector,
with the same numbers of bits: sums of table entries, of which rotated sub-vectors are a special case.

Dimensions: `D` head size, `E` entries of a table, `Y` tables, one for all memory layers or one for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..kernels.codes import code_bytes, decode_residual, pack
from ..store.errors import InvalidArgument
from .codec import check_finite
from .residual import encode

FILE = "codec.safetensors"
BITS_OF_A_DIMENSION = 1.35
"""The paper's: 108 bits for 80 dimensions."""
STAGE_BITS, REST_BITS = 14, 10


def stage_bits(size: int) -> tuple[int, ...]:
    """Bits of the stages for vectors of a head size: two of 14 bits, then 10 bits each, 1.35 bits a dimension in all.

    Heads too small for that have two shorter stages only.
    """
    wanted = BITS_OF_A_DIMENSION * size
    first = min(STAGE_BITS, max(1, round(wanted / 2)))
    return first, first, *[REST_BITS] * max(0, round((wanted - 2 * first) / REST_BITS))


@dataclass(frozen=True, slots=True, eq=False)
class Codebooks:
    """Tables (Y, 2, E, D) float16, for keys and for values, and the bits of their stages."""

    bits: tuple[int, ...]
    tables: Tensor

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Codebooks":
        """Read what `save` wrote.

        Raises:
            InvalidArgument: the file holds no codebooks, or damaged ones.
        """
        try:
            found = load_file(path, device=str(device))
            stages, tables = found["bits"], found["tables"]
        except (OSError, KeyError, SafetensorError) as error:
            raise InvalidArgument(f"{path} holds no codebooks ({error}); {_TRAIN}") from error
        bits = tuple(map(int, stages.flatten())) if stages.dtype == torch.int64 else ()
        sound = bits and all(1 <= width <= STAGE_BITS for width in bits) and tables.dtype == torch.float16
        if not sound or tables.ndim != 4 or tables.shape[1:3] != (2, sum(1 << width for width in bits)):
            raise InvalidArgument(
                f"{path} holds tables of the shape {tuple(tables.shape)} for stages of {bits} bits, which do not fit; "
                f"{_TRAIN}"
            )
        if not tables.isfinite().all():
            raise InvalidArgument(f"{path} holds numbers that are not finite; {_TRAIN}")
        return cls(bits, tables)

    def save(self, folder: Path) -> None:
        save_file({"bits": torch.tensor(self.bits), "tables": self.tables.contiguous().cpu()}, folder / FILE)

    @property
    def layers(self) -> int:
        """Memory layers that have a table of their own; 1 if all share one."""
        return self.tables.shape[0]

    @property
    def digest(self) -> str:
        """Names these codebooks in a model's fingerprint."""
        content = xxhash.xxh3_128(self.tables.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return f"{self.bits} {tuple(self.tables.shape)} {content.hexdigest()}"

    def check(self, layers: int, size: int) -> None:
        """Refuse codebooks of another model.

        Raises:
            InvalidArgument: names the shapes.
        """
        if self.layers not in (1, layers) or self.tables.shape[-1] != size:
            raise InvalidArgument(
                f"the codebooks are for {self.layers} memory layers and heads of {self.tables.shape[-1]}, this model "
                f"has {layers} and {size}; {_TRAIN}"
            )


@dataclass(frozen=True, slots=True)
class Residual:
    """The codec `rq14`: the nearest sum of table entries, one of each stage."""

    codebooks: Codebooks

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def widths(self) -> tuple[int, ...]:
        return (code_bytes(self.codebooks.bits),)

    def encode(self, vectors: Tensor) -> list[Tensor]:
        check_finite(vectors)
        layers, _, groups, tokens, size = vectors.shape
        tables = self._tables(vectors.device)
        coded = torch.empty(layers, 2, groups, tokens, *self.widths, dtype=torch.uint8, device=vectors.device)
        for table in range(len(tables)):
            part = self._part(table)
            for kind in range(2):
                numbers = encode(
                    vectors[part, kind].reshape(-1, size).float(), self.codebooks.bits, tables[table, kind].float()
                )
                coded[part, kind] = pack(numbers, self.codebooks.bits).view(coded[part, kind].shape)
        return [coded]

    def decode(self, planes: Sequence[Tensor]) -> Tensor:
        codes = planes[0]
        tables = self._tables(codes.device)
        decoded = torch.empty(*codes.shape[:-1], tables.shape[-1], device=codes.device)
        for table in range(len(tables)):
            part = self._part(table)
            for kind in range(2):
                decoded[:, part, kind] = decode_residual(codes[:, part, kind], self.codebooks.bits, tables[table, kind])
        return decoded

    def _tables(self, device: torch.device) -> Tensor:
        return self.codebooks.tables.to(device)

    def _part(self, table: int) -> slice:
        """The memory layers, by place, that a table is for."""
        return slice(None) if self.codebooks.layers == 1 else slice(table, table + 1)


_TRAIN = "train codebooks for it with `memory3 train-codec`"
