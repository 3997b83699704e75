"""Bytes that are almost right: what a fuzzer makes of valid input. Simple and seeded, so that any input comes back."""

import json
import random
from collections.abc import Callable
from typing import Any

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
    b"[" * 20_000,
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


def reshuffled(data: bytes) -> bytes:
    """JSON whose parts have changed places, as far as the bytes are JSON: the form is right and the sense is not."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return data
    choose = random.Random(data)
    parts = [whole]
    for part in parts:
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []

    def shuffled(part: Any) -> Any:
        if choose.random() < 0.1:
            return choose.choice([*parts, None, 1 << 70, float("nan"), "\ud800", [], {}])
        if isinstance(part, dict):
            return {name: shuffled(of) for name, of in part.items()}
        return [shuffled(of) for of in part] if isinstance(part, list) else part

    return json.dumps(shuffled(whole)).encode()


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
