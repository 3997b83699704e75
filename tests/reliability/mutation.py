"""Bytes that are almost right: what a fuzzer makes of valid input. Simple and seeded, so that any input comes back."""

import random
from collections.abc import Callable

EXTREMES = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"\x00" * 8,
    b"{}",
)
ROUNDS_MAX = 4
RANDOM_BYTES_MAX = 200


def mutated(data: bytes, choose: random.Random) -> bytes:
    """Change `data` in one to a few places; now and then return bytes that have nothing to do with it."""
    if choose.random() < 0.05:
        return choose.randbytes(choose.randrange(RANDOM_BYTES_MAX))
    changed = bytearray(data)
    for _ in range(choose.randint(1, ROUNDS_MAX)):
        choose.choice(_WAYS)(changed, choose)
    return bytes(changed)


def _flip(data: bytearray, choose: random.Random) -> None:
    if data:
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def _set(data: bytearray, choose: random.Random) -> None:
    if data:
        data[choose.randrange(len(data))] = choose.randrange(256)


def _extreme(data: bytearray, choose: random.Random) -> None:
    at, value = choose.randrange(len(data) + 1), choose.choice(EXTREMES)
    data[at : at + len(value)] = value


def _cut(data: bytearray, choose: random.Random) -> None:
    del data[choose.randrange(len(data) + 1) :]


def _take_out(data: bytearray, choose: random.Random) -> None:
    at = choose.randrange(len(data) + 1)
    del data[at : at + choose.randint(1, 16)]


def _double(data: bytearray, choose: random.Random) -> None:
    at = choose.randrange(len(data) + 1)
    data[at:at] = data[at : at + choose.randint(1, 16)]


def _insert(data: bytearray, choose: random.Random) -> None:
    at = choose.randrange(len(data) + 1)
    data[at:at] = choose.randbytes(choose.randint(1, 8))


_WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _set,
    _extreme,
    _cut,
    _take_out,
    _double,
    _insert,
)
