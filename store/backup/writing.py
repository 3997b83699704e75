"""Large new files, written a piece at a time."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import xxhash

from ..disk import points
from ..disk.durable import disk_errors, sync_directory, write_steadily
from ..limits import COPY_SYNC_BYTES


def write_copy(path: Path, pieces: Generator[bytes], written: Callable[[int], None]) -> str:
    """Write a new file durably; return the XXH3_128 of its bytes. `written` is told of the size of each piece.

    Raises:
        ResourceExhausted: the disk is full; a part of the file is left, for the caller to remove.
    """
    checksum = xxhash.xxh3_128()

    def told() -> Iterator[bytes]:
        for piece in pieces:
            points.reached(points.COPYING, path)
            checksum.update(piece)
            yield piece
            written(len(piece))

    # Closed here, also when writing fails: an exception would keep it open as long as somebody looks at it.
    with closing(pieces), disk_errors(f"writing {path}"), open(path, "wb", buffering=0) as file:
        write_steadily(file, told(), COPY_SYNC_BYTES)
        sync_directory(path.parent)
    return checksum.hexdigest()
