"""The keys of the table `terms`, byte by byte as docs/format.md gives them.

A term is what postings stand under: all live memories, a name, or a name with a value. A key is a term and the number
of a part of the seqs. All keys of a term, and all terms of one kind and name, lie together, strings in their order.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from ..errors import Corrupted
from .language import Range

LIVE: Final = 0
NAME: Final = 1
STRING: Final = 2
BOOLEAN: Final = 3
NUMBER: Final = 4
FIRST: Final = 5

STRING_BYTES_KEPT: Final = 128
"""Bytes of a string that its key holds; of a longer one so many, and a digest of all."""

PARTS: Final = 1 << 63
"""More than any part's number: seqs are below this."""

ALL_LIVE: Final = bytes([LIVE, 0])
ALL_FIRST: Final = bytes([FIRST, 0])
"""The first memory of each document, so that documents are counted and named without a look at every memory."""

_PART_BYTES: Final = 8
_DIGEST_BYTES: Final = 16
_ESCAPED_NUL: Final = b"\x00\xff"
_WHOLE: Final = b"\x00\x01"
_CUT: Final = b"\x00\x02"
_PAST: Final = b"\xff" * 25
"""Put to a term or the beginning of one: after all keys that begin so, of whatever digest and part."""


@dataclass(frozen=True, slots=True)
class TermKey:
    """A key taken apart: `value` is what the key holds of it, and `cut` says that this is the beginning of a string."""

    kind: int
    name: str
    value: bytes
    cut: bool
    part: int


def name_term(name: str) -> bytes:
    return _start(NAME, name)


def numbers_term(name: str) -> bytes:
    """Return the one term under which all numbers of a name stand."""
    return _start(NUMBER, name)


def boolean_term(name: str, value: bool) -> bytes:
    return _start(BOOLEAN, name) + bytes([value])


def strings_of(name: str) -> bytes:
    """Return how the terms of all strings of a name begin."""
    return _start(STRING, name)


def string_term(name: str, value: bytes) -> bytes:
    """Return the term of a string in UTF-8."""
    if len(value) <= STRING_BYTES_KEPT:
        return strings_of(name) + _escaped(value) + _WHOLE
    # Cryptographic, so that nobody can make another text that is taken for this one.
    digest = blake2b(value, digest_size=_DIGEST_BYTES).digest()
    return strings_of(name) + _escaped(value[:STRING_BYTES_KEPT]) + _CUT + digest


def string_keys(span: Range) -> tuple[bytes, bytes]:
    """Return the keys from which on, and before which, the keys of all strings of a range lie.

    What lies there besides are cut strings that begin as a bound does that is longer than its key: only the whole
    string tells.
    """
    prefix = strings_of(span.name)
    start, stop = prefix, prefix + _PAST
    if span.lower is not None:
        start = _edge(prefix, str(span.lower.value).encode(), past=not span.lower.inclusive, past_cut=False)
    if span.upper is not None:
        stop = _edge(prefix, str(span.upper.value).encode(), past=span.upper.inclusive, past_cut=True)
    return start, stop


def is_cut(value: bytes) -> bool:
    return len(value) > STRING_BYTES_KEPT


def part_key(term: bytes, part: int) -> bytes:
    return term + part.to_bytes(_PART_BYTES, "big")


def part_of(key: bytes) -> int:
    """Return the number of the part that a key stands for."""
    return int.from_bytes(key[-_PART_BYTES:], "big")


def decode_key(key: bytes) -> TermKey:
    """Take a key apart.

    Raises:
        Corrupted: it is none.
    """
    try:
        kind, name_bytes = key[0], key[1]
        name = key[2 : 2 + name_bytes].decode()
        value, part = key[2 + name_bytes : -_PART_BYTES], part_of(key)
        cut = False
        if kind == STRING:
            value, cut = _string(value)
        term = TermKey(kind, name, value, cut, part)
    except (ValueError, IndexError) as error:
        raise Corrupted(f"a key of {len(key)} bytes cannot be read: {error}") from error
    if not _fits(term) or len(key) < 2 + name_bytes + _PART_BYTES:
        raise Corrupted(f"a key of kind {kind} and {len(key)} bytes")
    return term


def _start(kind: int, name: str) -> bytes:
    encoded = name.encode()
    return bytes([kind, len(encoded)]) + encoded


def _edge(prefix: bytes, value: bytes, past: bool, past_cut: bool) -> bytes:
    """Where the keys of a string begin, or end for `past`; of one that is cut, the keys of all that begin like it."""
    end = _escaped(value[:STRING_BYTES_KEPT])
    if is_cut(value):
        return prefix + end + _CUT + (_PAST if past_cut else b"")
    return prefix + end + _WHOLE + (_PAST if past else b"")


def _escaped(value: bytes) -> bytes:
    # What ends a string is less than any byte within one, so that "a" comes before "a\0" and that before "ab".
    return value.replace(b"\x00", _ESCAPED_NUL)


def _string(encoded: bytes) -> tuple[bytes, bool]:
    """Return the string, or the beginning of it, and whether it is only the beginning."""
    end = encoded.index(b"\x00")
    while encoded.startswith(_ESCAPED_NUL, end):
        end = encoded.index(b"\x00", end + len(_ESCAPED_NUL))
    value, rest = encoded[:end].replace(_ESCAPED_NUL, b"\x00"), encoded[end:]
    cut = rest != _WHOLE
    if cut and (not rest.startswith(_CUT) or len(rest) != len(_CUT) + _DIGEST_BYTES or len(value) != STRING_BYTES_KEPT):
        raise ValueError("a string that ends otherwise than strings do")
    return value, cut


def _fits(term: TermKey) -> bool:
    if term.kind == STRING:
        return bool(term.name) and len(term.value) <= STRING_BYTES_KEPT
    if term.kind == BOOLEAN:
        return bool(term.name) and term.value in (b"\x00", b"\x01")
    return (
        term.kind in (LIVE, FIRST, NAME, NUMBER) and not term.value and bool(term.name) == (term.kind in (NAME, NUMBER))
    )
