"""The file beside the records that holds the index as it was at some seq (docs/format.md)."""

import struct
from dataclasses import dataclass
from pathlib import Path

import xxhash

from .durable import write_file
from .errors import Corrupted

_MAGIC = b"M3INDEX\0"
_LAYOUT = 1
EXACT = 1
"""Kind of index: exact inner product."""

_HEADER = struct.Struct("<8sHHI16sQQQQ")
_CHECKSUM = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An index of `count` vectors of size `dimension`, serialised, current up to `seq` of the shard `shard_id`."""

    dimension: int
    shard_id: str
    seq: int
    count: int
    payload: bytes | memoryview


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the snapshot durably.

    Raises:
        ResourceExhausted: the disk is full; the old snapshot stands.
    """
    write_file(path, _encode_header(snapshot), snapshot.payload)


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot and verify it whole.

    Raises:
        Corrupted: it is missing, damaged, cut short or of an unknown layout.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Corrupted(f"the index snapshot cannot be read: {error}") from error
    return decode_snapshot(data)


def decode_snapshot(data: bytes) -> Snapshot:
    start = _HEADER.size + _CHECKSUM.size
    if len(data) < start:
        raise Corrupted(f"an index snapshot of {len(data)} bytes is shorter than its header")
    if xxhash.xxh3_64_intdigest(data[: _HEADER.size]) != _CHECKSUM.unpack_from(data, _HEADER.size)[0]:
        raise Corrupted("the header of the index snapshot fails its checksum")
    magic, layout, kind, dimension, shard_id, seq, count, size, checksum = _HEADER.unpack_from(data)
    if (magic, layout, kind) != (_MAGIC, _LAYOUT, EXACT):
        raise Corrupted(f"an index snapshot of layout {layout} and kind {kind} cannot be read")
    payload = memoryview(data)[start:]
    if len(payload) != size or xxhash.xxh3_64_intdigest(payload) != checksum:
        raise Corrupted(f"the index snapshot's {len(payload)} bytes fail their checksum, expected {size} bytes")
    return Snapshot(dimension, shard_id.hex(), seq, count, payload)


def _encode_header(snapshot: Snapshot) -> bytes:
    header = _HEADER.pack(
        _MAGIC,
        _LAYOUT,
        EXACT,
        snapshot.dimension,
        bytes.fromhex(snapshot.shard_id),
        snapshot.seq,
        snapshot.count,
        len(snapshot.payload),
        xxhash.xxh3_64_intdigest(snapshot.payload),
    )
    return header + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(header))
