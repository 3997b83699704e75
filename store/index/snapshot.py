"""The file beside the records that holds the index as it was at some seq (docs/format.md).

`N` entries, `D` embedding size, `L` lists.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from ..disk.durable import write_pieces
from ..errors import Corrupted
from ..limits import DIMENSION_MAX, LISTS_MAX
from ..types import IndexKind

_MAGIC = b"M3INDEX\0"
_LAYOUT = 2

_HEADER = struct.Struct("<8sHHI16sQQQII")
_PART = struct.Struct("<IIQ")
_CHECKSUM = struct.Struct("<Q")
_ID_BYTES = 8
_CENTROIDS, _RANGES, _ENTRIES, _END = 1, 2, 3, 4

Slice: TypeAlias = tuple[int, npt.NDArray[np.int64], npt.NDArray[np.uint8]]
"""Entries of one list: its number, ids (N,), codes (N, code bytes)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An index of the shard `shard_id`, current up to `seq`; entries may be newer, and some may come twice.

    Ids are seqs less `base`. `slices` are made or read while they are taken.
    """

    kind: IndexKind
    dimension: int
    shard_id: str
    base: int
    seq: int
    clustered_at: int
    """Seq at which the lists were made."""
    code_bytes: int
    centroids: npt.NDArray[np.float32]
    """(L, D); all zero for an exact index, and not in the file."""
    ranges: npt.NDArray[np.float32]
    """(2, D): the least value and the width of each component; all zero for an exact index, and not in the file."""
    slices: Iterable[Slice]


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the snapshot durably.

    Raises:
        ResourceExhausted: the disk is full; the old snapshot stands.
    """
    write_pieces(path, _pieces(snapshot))


@contextmanager
def read_snapshot(path: Path) -> Iterator[Snapshot]:
    """Open a snapshot and verify it while its slices are taken; only when all were taken is it known to be whole.

    Raises:
        Corrupted: it is missing, damaged, cut short or of an unknown layout.
    """
    try:
        with open(path, "rb") as file:
            yield decode_snapshot(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise Corrupted(f"the index snapshot cannot be read: {error}") from error


def decode_snapshot(file: BinaryIO, size: int) -> Snapshot:
    """Read a snapshot of `size` bytes from a file, which must stay open until the slices are taken.

    Raises:
        Corrupted: as `read_snapshot`.
    """
    return _Reader(file, size).snapshot()


def _pieces(snapshot: Snapshot) -> Iterator[bytes]:
    header = _HEADER.pack(
        _MAGIC,
        _LAYOUT,
        snapshot.kind,
        snapshot.dimension,
        bytes.fromhex(snapshot.shard_id),
        snapshot.base,
        snapshot.seq,
        snapshot.clustered_at,
        len(snapshot.centroids),
        snapshot.code_bytes,
    )
    yield header + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(header))
    total = 0
    for ordinal, (kind, number, entries, payload) in enumerate(_parts(snapshot)):
        part = _PART.pack(kind, number, total if kind == _END else entries) + payload
        total += entries
        yield part + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(part, seed=ordinal))


def _parts(snapshot: Snapshot) -> Iterator[tuple[int, int, int, bytes]]:
    if snapshot.kind is not IndexKind.EXACT:
        yield _CENTROIDS, 0, 0, snapshot.centroids.astype("<f4").tobytes()
        yield _RANGES, 0, 0, snapshot.ranges.astype("<f4").tobytes()
    for number, ids, codes in snapshot.slices:
        yield _ENTRIES, number, len(ids), ids.astype("<i8").tobytes() + codes.tobytes()
    yield _END, 0, 0, b""


class _Reader:
    """Reads a snapshot from its beginning to its end, each part verified before it is believed."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size
        self._ordinal = 0

    def snapshot(self) -> Snapshot:
        header = self._take(_HEADER.size)
        if _CHECKSUM.unpack(self._take(_CHECKSUM.size))[0] != xxhash.xxh3_64_intdigest(header):
            raise Corrupted("the header of the index snapshot fails its checksum")
        magic, layout, kind, dimension, shard_id, base, seq, clustered_at, lists, code_bytes = _HEADER.unpack(header)
        if (magic, layout) != (_MAGIC, _LAYOUT) or kind not in list(IndexKind):
            raise Corrupted(f"an index snapshot of layout {layout} and kind {kind} cannot be read")
        exact = kind == IndexKind.EXACT
        if not 1 <= dimension <= DIMENSION_MAX or not 1 <= lists <= LISTS_MAX:
            raise Corrupted(f"the index snapshot has {lists} lists of dimension {dimension}")
        if code_bytes != dimension * (4 if exact else 1):
            raise Corrupted(f"the index snapshot has codes of {code_bytes} bytes for dimension {dimension}")
        return Snapshot(
            IndexKind(kind),
            dimension,
            shard_id.hex(),
            base,
            seq,
            clustered_at,
            code_bytes,
            # As many as the header says may be more than there is memory for.
            np.broadcast_to(np.float32(0), (lists, dimension)) if exact else self._floats(_CENTROIDS, lists, dimension),
            np.zeros((2, dimension), np.float32) if exact else self._floats(_RANGES, 2, dimension),
            self._slices(lists, code_bytes),
        )

    def _floats(self, expected: int, rows: int, columns: int) -> npt.NDArray[np.float32]:
        kind, _, _, head = self._part_head()
        if kind != expected:
            raise Corrupted(f"the index snapshot has a part of kind {kind} in the place of kind {expected}")
        payload = self._payload(head, rows * columns * 4)
        return np.frombuffer(payload, "<f4").reshape(rows, columns).astype(np.float32)

    def _slices(self, lists: int, code_bytes: int) -> Iterator[Slice]:
        total = 0
        while True:
            kind, number, entries, head = self._part_head()
            if kind == _END:
                break
            if kind != _ENTRIES or number >= lists:
                raise Corrupted(f"the index snapshot has a part of kind {kind} for list {number}")
            payload = memoryview(self._payload(head, entries * (_ID_BYTES + code_bytes)))
            total += entries
            ids = np.frombuffer(payload[: entries * _ID_BYTES], "<i8").astype(np.int64)
            codes = np.frombuffer(payload[entries * _ID_BYTES :], np.uint8).reshape(entries, code_bytes)
            yield number, ids, codes
        self._payload(head, 0)
        if entries != total or self._left:
            raise Corrupted(f"the index snapshot ends after {total} entries, expected {entries}")

    def _part_head(self) -> tuple[int, int, int, bytes]:
        head = self._take(_PART.size)
        kind, number, entries = _PART.unpack(head)
        return kind, number, entries, head

    def _payload(self, head: bytes, size: int) -> bytes:
        payload = self._take(size)
        digest = xxhash.xxh3_64(head, seed=self._ordinal)
        digest.update(payload)
        if _CHECKSUM.unpack(self._take(_CHECKSUM.size))[0] != digest.intdigest():
            raise Corrupted(f"part {self._ordinal} of the index snapshot fails its checksum")
        self._ordinal += 1
        return payload

    def _take(self, size: int) -> bytes:
        # A damaged size is noticed here, before memory is asked for.
        if size > self._left:
            raise Corrupted(f"the index snapshot is cut short: {size} bytes wanted, {self._left} left")
        self._left -= size
        return self._file.read(size)
