"""The payloads of the records, byte by byte as docs/format.md gives them: pure functions, no LMDB.

Every decoder raises Corrupted for bytes that its encoder cannot have made.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from .disk.seal import Bytes
from .errors import Corrupted, UnsupportedFormat
from .metadata import DIGEST_BYTES, decode_metadata, encode_metadata
from .types import Metadata, Vector

FORMAT: Final = 2
LAYOUT: Final = 1
NEVER: Final = 0.0
"""The time of expiry of a document that has none."""
WRITTEN: Final = 1
DELETED: Final = 2

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_SEQ = struct.Struct(">Q")
_DOCUMENT = struct.Struct(f"<BQIdd{DIGEST_BYTES}s")
_MEMORY = struct.Struct("<BIIH")
_CHANGE = struct.Struct("<BdQIH")
_MARK = struct.Struct("<dH")
_EXPIRY = struct.Struct("<I")
_FINGERPRINT = struct.Struct("<IIQ")
_VALUE_KEY = struct.Struct(">IQ")
VALUE_KEY = np.dtype([("number", ">u4"), ("seq", ">u8")])
"""The same for many keys in one array."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an environment is, and whose."""

    magic: str
    id: str
    collection: str
    embedder: str
    dimension: int
    shard: int


class DocumentRecord(NamedTuple):
    """A document without its text; its memories are `first_seq` and those that follow, `memories` in all.

    A tuple, because a recall makes one for each hit, and a frozen dataclass takes three times as long.
    """

    first_seq: int
    memories: int
    updated_at: float
    expires_at: float
    digest: bytes
    metadata: Metadata

    @property
    def version(self) -> int:
        return self.first_seq + self.memories - 1

    @property
    def seqs(self) -> range:
        return range(self.first_seq, self.first_seq + self.memories)

    def has_ended(self, now: float) -> bool:
        return self.expires_at != NEVER and self.expires_at <= now


class MemoryRecord(NamedTuple):
    """A reference's text, and its place `ordinal` among the `total` references of the document under `key`."""

    key: str
    ordinal: int
    total: int
    text: str


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """What happened at a seq: a memory written or a document deleted, and the seqs forgotten by it."""

    kind: int
    at: float
    key: str
    forgotten: range


@dataclass(frozen=True, slots=True)
class Mark:
    """A damaged value: where it stands, since when that is known, and what is wrong with it."""

    at: float
    key: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class FingerprintRecord:
    """A model whose key-values are stored: its number in the keys, the size of each value, how many there are."""

    number: int
    value_bytes: int
    count: int


def encode_seq(seq: int) -> bytes:
    return _SEQ.pack(seq)


def decode_seq(key: Bytes) -> int:
    return int(_unpack(_SEQ, key, "seq")[0])


def encode_u64(number: int) -> bytes:
    return _U64.pack(number)


def decode_u64(payload: Bytes) -> int:
    return int(_unpack(_U64, payload, "number")[0])


def encode_u32(number: int) -> bytes:
    return _U32.pack(number)


def decode_u32(payload: Bytes) -> int:
    return int(_unpack(_U32, payload, "number")[0])


def encode_identity(identity: Identity) -> bytes:
    return json.dumps({"format": FORMAT, **asdict(identity)}, sort_keys=True, separators=(",", ":")).encode()


def decode_identity(payload: Bytes) -> Identity:
    """Decode an identity.

    Raises:
        UnsupportedFormat: it is of another format version.
        Corrupted: it is no identity.
    """
    try:
        fields = json.loads(bytes(payload))
        check_format(fields, "an LMDB environment")
        del fields["format"]
        return Identity(**fields)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Corrupted(f"the identity cannot be read: {error}") from error


def check_format(fields: Mapping[str, object], what: str) -> None:
    """Raise UnsupportedFormat unless `fields["format"]` is the version that this release reads."""
    if fields["format"] != FORMAT:
        raise UnsupportedFormat(
            f"{what} has format version {fields['format']}, this release reads version {FORMAT}; "
            "open it with the release that wrote it"
        )


def encode_document(record: DocumentRecord) -> bytes:
    head = _DOCUMENT.pack(
        LAYOUT, record.first_seq, record.memories, record.updated_at, record.expires_at, record.digest
    )
    return head + encode_metadata(record.metadata)


def decode_document(payload: Bytes) -> DocumentRecord:
    layout, first_seq, memories, updated_at, expires_at, digest = _unpack_from(_DOCUMENT, payload, "document")
    if layout != LAYOUT or not first_seq or not memories:
        raise Corrupted(f"a document of layout {layout} with {memories} memories from seq {first_seq}")
    metadata = decode_metadata(payload[_DOCUMENT.size :])
    return DocumentRecord(first_seq, memories, updated_at, expires_at, digest, metadata)


def encode_memory(record: MemoryRecord) -> bytes:
    key = record.key.encode()
    return _MEMORY.pack(LAYOUT, record.ordinal, record.total, len(key)) + key + record.text.encode()


def decode_memory(payload: Bytes) -> MemoryRecord:
    layout, ordinal, total, key_bytes = _unpack_from(_MEMORY, payload, "memory")
    start = _MEMORY.size + key_bytes
    if layout != LAYOUT or ordinal >= total or not key_bytes or len(payload) <= start:
        raise Corrupted(f"a memory of layout {layout}, place {ordinal} of {total}, {len(payload)} bytes")
    return MemoryRecord(_text(payload[_MEMORY.size : start]), ordinal, total, _text(payload[start:]))


def encode_vector(vector: Vector) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def decode_vector(payload: Bytes) -> Vector:
    """Return the vector, shape (D,), float32; it shares the payload's memory."""
    if not len(payload) or len(payload) % 4:
        raise Corrupted(f"a vector of {len(payload)} bytes")
    return np.frombuffer(payload, dtype="<f4")


def encode_change(record: ChangeRecord) -> bytes:
    key = record.key.encode()
    return _CHANGE.pack(record.kind, record.at, record.forgotten.start, len(record.forgotten), len(key)) + key


def decode_change(payload: Bytes) -> ChangeRecord:
    kind, at, first, count, key_bytes = _unpack_from(_CHANGE, payload, "change")
    if kind not in (WRITTEN, DELETED) or len(payload) != _CHANGE.size + key_bytes:
        raise Corrupted(f"a change of kind {kind}, {len(payload)} bytes")
    return ChangeRecord(kind, at, _text(payload[_CHANGE.size :]), range(first, first + count))


def encode_mark(mark: Mark) -> bytes:
    return _MARK.pack(mark.at, len(mark.key)) + mark.key + mark.reason.encode()


def decode_mark(payload: Bytes) -> Mark:
    at, key_bytes = _unpack_from(_MARK, payload, "quarantine mark")
    start = _MARK.size + key_bytes
    if len(payload) < start:
        raise Corrupted(f"a quarantine mark of {len(payload)} bytes")
    return Mark(at, bytes(payload[_MARK.size : start]), _text(payload[start:]))


def encode_expiry(entry: tuple[str, int]) -> bytes:
    """Encode a document's key and the number of its memories."""
    key, memories = entry
    return _EXPIRY.pack(memories) + key.encode()


def decode_expiry(payload: Bytes) -> tuple[str, int]:
    (memories,) = _unpack_from(_EXPIRY, payload, "time of expiry")
    if not memories or len(payload) == _EXPIRY.size:
        raise Corrupted(f"a time of expiry of {memories} memories, {len(payload)} bytes")
    return _text(payload[_EXPIRY.size :]), memories


def encode_answer(answer: tuple[bytes, Any]) -> bytes:
    """Encode the digest of a request and its answer, any JSON."""
    digest, fields = answer
    return digest + json.dumps(fields, separators=(",", ":")).encode()


def decode_answer(payload: Bytes) -> tuple[bytes, Any]:
    try:
        return bytes(payload[:DIGEST_BYTES]), json.loads(bytes(payload[DIGEST_BYTES:]))
    except (ValueError, RecursionError) as error:
        raise Corrupted(f"an answer of {len(payload)} bytes cannot be read: {error}") from error


def encode_request_id(request_id: str) -> bytes:
    return request_id.encode()


def decode_request_id(payload: Bytes) -> str:
    return _text(payload)


def encode_fingerprint(record: FingerprintRecord) -> bytes:
    return _FINGERPRINT.pack(record.number, record.value_bytes, record.count)


def decode_fingerprint(payload: Bytes) -> FingerprintRecord:
    return FingerprintRecord(*_unpack(_FINGERPRINT, payload, "fingerprint"))


def encode_value_key(fingerprint_number: int, seq: int) -> bytes:
    return _VALUE_KEY.pack(fingerprint_number, seq)


def decode_value_key(key: Bytes) -> tuple[int, int]:
    """Return the fingerprint's number and the seq."""
    number, seq = _unpack(_VALUE_KEY, key, "key of key-values")
    return number, seq


def _unpack(form: struct.Struct, payload: Bytes, what: str) -> tuple[int, ...]:
    if len(payload) != form.size:
        raise Corrupted(f"a {what} of {len(payload)} bytes, expected {form.size}")
    return form.unpack(payload)


def _unpack_from(form: struct.Struct, payload: Bytes, what: str) -> tuple[Any, ...]:
    if len(payload) < form.size:
        raise Corrupted(f"a {what} of {len(payload)} bytes, expected at least {form.size}")
    return form.unpack_from(payload)


def _text(piece: Bytes) -> str:
    try:
        return str(piece, "utf-8")
    except UnicodeDecodeError as error:
        raise Corrupted(f"text is not UTF-8: {error}") from error
