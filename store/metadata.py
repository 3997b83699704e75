"""Metadata as bytes, and the digest that tells whether a document's content is already stored (docs/format.md)."""

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING

from .errors import Corrupted
from .types import Document, Metadata, MetadataValue

if TYPE_CHECKING:
    # Only for the checker: the client validates documents too, and has no xxhash.
    from .disk.seal import Bytes

DIGEST_BYTES = 16

_COUNT = struct.Struct("<H")
_ENTRY = struct.Struct("<BH")
_LENGTH = struct.Struct("<I")
_INTEGER = struct.Struct("<q")
_FLOAT = struct.Struct("<d")

_STRING, _INT, _REAL, _BOOL = 1, 2, 3, 4


def encode_metadata(metadata: Metadata) -> bytes:
    """Encode validated metadata; equal metadata gives equal bytes, whatever the order of its entries."""
    entries = sorted((key.encode(), value) for key, value in metadata.items())
    pieces = [_COUNT.pack(len(entries))]
    for key, value in entries:
        kind, encoded = _encode_value(value)
        pieces += (_ENTRY.pack(kind, len(key)), key, encoded)
    return b"".join(pieces)


def decode_metadata(encoded: "Bytes") -> dict[str, MetadataValue]:
    """Decode what `encode_metadata` made.

    Raises:
        Corrupted: the bytes are anything else.
    """
    try:
        return _decode(bytes(encoded))
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise Corrupted(f"metadata of {len(encoded)} bytes cannot be read: {error}") from error


def content_digest(document: Document, embedder: str) -> bytes:
    """Return 16 bytes that are the same for the same text, metadata and embedder, and for nothing else."""
    metadata = encode_metadata(document.metadata)
    digest = blake2b(digest_size=DIGEST_BYTES)
    for piece in (embedder.encode(), metadata):
        digest.update(_LENGTH.pack(len(piece)))
        digest.update(piece)
    digest.update(document.text.encode())
    return digest.digest()


def _encode_value(value: MetadataValue) -> tuple[int, bytes]:
    # bool before int: in Python every bool is an int.
    if isinstance(value, bool):
        return _BOOL, bytes([value])
    if isinstance(value, int):
        return _INT, _INTEGER.pack(value)
    if isinstance(value, float):
        return _REAL, _FLOAT.pack(value)
    encoded = value.encode()
    return _STRING, _LENGTH.pack(len(encoded)) + encoded


def _decode(encoded: bytes) -> dict[str, MetadataValue]:
    (count,) = _COUNT.unpack_from(encoded)
    offset = _COUNT.size
    metadata: dict[str, MetadataValue] = {}
    for _ in range(count):
        kind, key_bytes = _ENTRY.unpack_from(encoded, offset)
        start = offset + _ENTRY.size
        offset = start + key_bytes
        # Cut short, it would leave too few bytes for the value.
        key = encoded[start:offset].decode()
        metadata[key], offset = _decode_value(kind, encoded, offset)
    if offset != len(encoded) or len(metadata) != count:
        raise Corrupted(f"metadata ends at byte {offset} of {len(encoded)} with {len(metadata)} of {count} entries")
    return metadata


def _decode_value(kind: int, encoded: bytes, offset: int) -> tuple[MetadataValue, int]:
    if kind == _STRING:
        (length,) = _LENGTH.unpack_from(encoded, offset)
        offset += _LENGTH.size
        return _piece(encoded, offset, length).decode(), offset + length
    if kind == _INT:
        return int(_INTEGER.unpack_from(encoded, offset)[0]), offset + _INTEGER.size
    if kind == _REAL:
        return float(_FLOAT.unpack_from(encoded, offset)[0]), offset + _FLOAT.size
    if kind == _BOOL and encoded[offset] in (0, 1):
        return bool(encoded[offset]), offset + 1
    raise Corrupted(f"metadata holds a value of unknown kind {kind}")


def _piece(encoded: bytes, offset: int, length: int) -> bytes:
    piece = encoded[offset : offset + length]
    if len(piece) != length:
        raise Corrupted(f"metadata ends {length - len(piece)} bytes early")
    return piece
