"""Large new files, written a piece at a time."""

import os
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import xxhash

from ..disk import points
from ..disk.durable import disk_errors, sync_directory
from ..limits import COPY_SYNC_BYTES


def write_pieces(path: Path, pieces: Generator[bytes], written: Callable[[int], None]) -> str:
    """Write a new file durably; return the XXH3_128 of its bytes. `written` is told of the size of each piece.

    Raises:
        ResourceExhausted: the disk is full; a part of the file is left, for the caller to remove.
    """
    checksum = xxhash.xxh3_128()
    unsynced = 0
    # Closed here, also when writing fails: an exception would keep it open as long as somebody looks at it.
    with closing(pieces), disk_errors(f"writing {path}"), open(path, "wb", buffering=0) as file:
        for piece in pieces:
            points.reached(points.COPYING, path)
            _write_all(file.fileno(), piece)
            checksum.update(piece)
            unsynced += len(piece)
            if unsynced >= COPY_SYNC_BYTES:
                # A little at a time: one sync of everything at the end would hold up the commits of those who serve.
                os.fdatasync(file.fileno())
                unsynced = 0
            written(len(piece))
        os.fsync(file.fileno())
        sync_directory(path.parent)
    return checksum.hexdigest()


def _write_all(descriptor: int, piece: bytes) -> None:
    # A disk that fills up takes a part of a write; the next one is refused.
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
