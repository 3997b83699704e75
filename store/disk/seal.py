"""Checksums: a sealed value is its XXH3_64, seeded with its place, and its payload (docs/format.md)."""

import struct

from xxhash import xxh3_64_intdigest

from ..errors import Corrupted

Bytes = bytes | memoryview

_CHECKSUM = struct.Struct("<Q")


class Damaged(Corrupted):
    """The value at `key` of `table` is damaged; `reason` says how."""

    def __init__(self, table: str, key: bytes, reason: str) -> None:
        super().__init__(f"the value of {describe(table, key)} is damaged: {reason}; it is no longer served")
        self.table = table
        self.key = key
        self.reason = reason


class Missing(Damaged):
    """There is no value at `key` of `table`, though another names it."""


def describe(table: str, key: bytes) -> str:
    """Name a place in words that a person can search for."""
    if table in ("memories", "vectors", "changes") and len(key) == 8:
        return f"seq {int.from_bytes(key, 'big')} in {table}"
    if table == "values" and len(key) == 12:
        return f"seq {int.from_bytes(key[4:], 'big')} in {table} of fingerprint {int.from_bytes(key[:4], 'big')}"
    return f"key {key.decode('utf-8', 'backslashreplace')!r} in {table}"


def seal(table: str, key: bytes, payload: Bytes) -> bytes:
    """Put the checksum in front of a payload."""
    return _CHECKSUM.pack(_checksum(table, key, payload)) + payload


def unseal(table: str, key: bytes, sealed: Bytes) -> memoryview:
    """Return the payload of a sealed value, without copying it.

    Raises:
        Damaged: the value is too short, or its checksum is not that of these bytes at this place.
    """
    if len(sealed) < _CHECKSUM.size:
        raise Damaged(table, key, f"{len(sealed)} bytes are too short for a checksum")
    payload = memoryview(sealed)[_CHECKSUM.size :]
    (expected,) = _CHECKSUM.unpack_from(sealed)
    found = _checksum(table, key, payload)
    if found != expected:
        raise Damaged(table, key, f"its checksum is {found:016x}, stored is {expected:016x}")
    return payload


def _checksum(table: str, key: bytes, payload: Bytes) -> int:
    # The seed ties the payload to its place without copying the two together.
    # By position: named, the seed would take xxhash longer to find than a small value to hash.
    return xxh3_64_intdigest(payload, xxh3_64_intdigest(table.encode() + b"\0" + key))
