"""Files that are whole or absent, whatever happens in between."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from ..errors import Memory3Error, ResourceExhausted, Unavailable
from . import points

TEMPORARY = ".tmp"
_SYNC_BYTES = 4 << 20
"""A long file is brought to the disk in steps of this size."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The error numbers of a disk, a quota or a file that may not grow."""


def disk_error(error: OSError, doing: str) -> Memory3Error:
    """Say in our words what the operating system refused."""
    if error.errno in FULL:
        return ResourceExhausted(f"the disk is full: {doing}: {error.strerror}; free some space and try again")
    return Unavailable(f"{doing}: {error}")


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Raise ResourceExhausted when the disk is full, and Unavailable for other refusals of the operating system."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, doing) from error


def write_file(path: Path, *pieces: bytes | memoryview) -> None:
    """Replace `path` by these bytes, durably: a crash leaves the old file or the new one.

    Raises:
        ResourceExhausted: the disk is full; the old file stands.
    """
    write_pieces(path, pieces)


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Replace `path` by bytes that are made while they are written, durably; whatever they raise, the old file stands.

    Raises:
        ResourceExhausted: the disk is full; the old file stands.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    with disk_errors(f"writing {path}"):
        try:
            with open(temporary, "wb", buffering=0) as file:
                write_steadily(file, _passing(pieces, path), _SYNC_BYTES)
            points.reached(points.BEFORE_RENAME, path)
            os.replace(temporary, path)
        except Exception:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
        points.reached(points.RENAMED, path)


def write_steadily(file: FileIO, pieces: Iterable[bytes | memoryview], sync_bytes: int) -> None:
    """Write pieces to an unbuffered file, bringing them to the disk whenever `sync_bytes` have come together.

    One sync of everything at the end would hold up the commits of those who serve.
    """
    unsynced = 0
    for piece in pieces:
        # A disk that fills up takes a part of a write; the next one is refused.
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
        unsynced += len(piece)
        if unsynced >= sync_bytes:
            os.fdatasync(file.fileno())
            unsynced = 0
    os.fsync(file.fileno())


def _passing(pieces: Iterable[bytes | memoryview], path: Path) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        points.reached(points.WRITING_FILE, path)
        yield piece


def free_bytes(path: Path) -> int:
    """Return how many bytes of the file system that `path` is on this process may still take."""
    with disk_errors(f"looking at the space of {path}"):
        disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def make_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing, so that they survive a power failure."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with disk_errors(f"creating {path}"):
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there, so that it does not come back after a power failure."""
    with disk_errors(f"removing {path}"):
        if path.exists():
            path.unlink()
            sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a rename is not, until then."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    points.reached(points.DIRECTORY_SYNCED, path)
