"""A walk through whole environments in a process of its own, so that a damaged page ends that one and not the store.

LMDB trusts the inside of its pages: some damage ends the process that comes there (docs/reliability.md). The walk does
what a store does, reads, deletes and copies, with all that is there, in transactions that are never committed. What it
dies of is marked, and from then on refused.

    python -m memory3.store.disk.walk PATH ...
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from ..errors import Memory3Error, Unavailable
from ..limits import KEY_VALUES_BYTES_MAX
from .child import end_with_the_caller, start
from .environment import Environment

_DEADLY = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
_BATCH = 1_000
_STEPS = (3, 1)
"""Of a batch every third key is removed, then every one: pages that are left half empty are joined otherwise."""

_LARGE = 4 << 20
_PLACES = [b"identity", *(bytes([byte]) for byte in range(256))]
"""Keys that are looked for in every table; the first is what every opening asks for."""

_log = logging.getLogger(__name__)


def ended_by(environments: Sequence[Path]) -> dict[Path, str]:
    """Walk through environments that nobody has open; return those that end a process, and by which signal."""
    found: dict[Path, str] = {}
    remaining = list(environments)
    while remaining:
        try:
            passed, signal_name = _walk(remaining)
        except Unavailable as error:
            _log.warning("environments could not be walked through: %s", error)
            break
        if signal_name is None:
            break
        if passed == len(remaining):
            # It came to its end, and only then it showed that its memory was damaged: by whom shows one by one.
            if passed == 1:
                return found | {remaining[0]: signal_name}
            for environment in remaining:
                found |= ended_by([environment])
            break
        found[remaining[passed]] = signal_name
        del remaining[: passed + 1]
    return found


def _walk(environments: Sequence[Path]) -> tuple[int, str | None]:
    """Return how many environments were passed, and the name of the signal that ended the walk in the next one."""
    with start(__name__, *map(str, environments)) as child:
        assert child.stdout is not None
        passed = len(child.stdout.read().splitlines())
    if -child.returncode in _DEADLY:
        return passed, signal.Signals(-child.returncode).name
    if child.returncode:
        # Not for damage's sake: there may be too little memory, or somebody ended it.
        _log.warning("environments could not be walked through: the walk ended with %d", child.returncode)
    return passed, None


def _main(paths: Sequence[str]) -> None:
    end_with_the_caller()
    for path in paths:
        # What is damaged otherwise is found, and told of, by whoever comes there.
        with suppress(Memory3Error, lmdb.Error):
            _visit(Environment(Path(path), KEY_VALUES_BYTES_MAX, durable=True))
        print("passed", flush=True)


def _visit(environment: Environment) -> None:
    with environment.reading() as txn, txn.cursor() as cursor:
        names = [bytes(name) for name, _ in cursor]
    for name in names:
        with suppress(lmdb.Error):
            table = environment.lmdb.open_db(name, create=False)
            _look_up(environment, table)
            _visit_table(environment, table)
    with open(os.devnull, "wb") as nowhere:
        environment.lmdb.copyfd(nowhere.fileno(), compact=True)


def _look_up(environment: Environment, table: Any) -> None:
    """Look for keys all over the table, and from its end, whatever is found at its beginning."""
    for key in _PLACES:
        with suppress(Memory3Error), environment.reading() as txn:
            txn.get(key, db=table)
    with suppress(Memory3Error), environment.reading() as txn, txn.cursor(table) as cursor:
        for last, value in islice(cursor.iterprev(), _BATCH):
            bytes(value[-1:])
            txn.get(_next(bytes(last)), db=table)


def _visit_table(environment: Environment, table: Any) -> None:
    start = b""
    while True:
        keys: list[bytes] = []
        with suppress(Memory3Error), environment.reading() as txn, txn.cursor(table) as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for found, value in islice(cursor, _BATCH):
                    # Of a value only its last byte: it is on pages that follow each other.
                    bytes(value[-1:])
                    keys.append(bytes(found))
        for step in _STEPS:
            with suppress(lmdb.Error), environment.lmdb.begin(write=True) as changing:
                for key in keys[::step]:
                    changing.get(_next(key), db=table)
                    changing.delete(key, db=table)
                # For so many pages in a row LMDB goes through all that are free.
                changing.put(b"walk", bytes(_LARGE), db=table)
                changing.abort()
        # Where keys are out of order it would come back to where it was.
        if len(keys) < _BATCH or keys[-1] < start:
            return
        start = keys[-1] + b"\0"


def _next(key: bytes) -> bytes:
    """A key that comes soon after: perhaps one that is stored, and that nobody comes to from leaf to leaf."""
    # Where a page is damaged even an empty key is found.
    return key[:-1] + bytes([min(key[-1] + 1, 255)]) if key else b"\0"


if __name__ == "__main__":
    _main(sys.argv[1:])
