"""Restoring a backup to a new data directory, once every byte of it is found to be what was written."""

from collections.abc import Generator
from pathlib import Path, PurePosixPath

import xxhash

from ..disk.durable import disk_errors, make_directory
from ..disk.lock_file import server_address
from ..errors import Corrupted, DirectoryInUse
from ..limits import COPY_PIECE_BYTES
from ..types import BackupReport
from .manifest import DATA, BackupFile, Manifest, read_manifest
from .progress import Progress, Tally
from .staging import check_free, check_space, staged
from .writing import write_copy

_NAMES = frozenset({"format.json", "catalog.json", "collections"})


def restore(backup: str | Path, data: str | Path, progress: Progress | None = None) -> BackupReport:
    """Make the new data directory `data` of a backup, and return what it holds.

    Everything is compared with the manifest before anything is written. `progress` is told of bytes, each of which
    counts when it is compared and when it is written; what it raises stops the work, which leaves nothing behind.

    Raises:
        Corrupted: a file of the backup is damaged, too short or missing; names it.
        FailedPrecondition: there is no backup, or there is something at `data`.
        DirectoryInUse: `data` is being served.
        UnsupportedFormat: the backup was made in another format version.
        ResourceExhausted: the disk of `data` has too little space.
    """
    backup, data = Path(backup).absolute(), Path(data).absolute().resolve()
    _check_target(data)
    manifest = read_manifest(backup)
    tally = Tally(progress, 2 * manifest.bytes)
    _verify(backup, manifest, tally)
    make_directory(data.parent)
    check_space(data.parent, manifest.bytes)
    with staged(data, _NAMES) as folder:
        for file in manifest.files:
            target = folder / PurePosixPath(file.path).relative_to(DATA)
            make_directory(target.parent)
            # Compared once more: between two readings a disk may have failed, or somebody changed the file.
            _compare(backup, file, write_copy(target, _pieces(backup / file.path), tally.add), target.stat().st_size)
    return manifest.report(backup)


def verify(backup: str | Path, progress: Progress | None = None) -> BackupReport:
    """Compare every file of a backup with the manifest, write nothing, and return what the backup holds.

    Raises:
        Corrupted: a file of the backup is damaged, too short or missing; names it.
        FailedPrecondition: there is no backup.
        UnsupportedFormat: it was made in another format version.
    """
    backup = Path(backup).absolute()
    manifest = read_manifest(backup)
    _verify(backup, manifest, Tally(progress, manifest.bytes))
    return manifest.report(backup)


def _check_target(data: Path) -> None:
    address = server_address(data)
    if address is not None:
        raise DirectoryInUse(
            f"data directory {data} is served at {address}; restore to another path, or stop the server and move "
            "the directory away",
            address,
        )
    check_free(data)


def _verify(backup: Path, manifest: Manifest, tally: Tally) -> None:
    for file in manifest.files:
        checksum, size = xxhash.xxh3_128(), 0
        for piece in _pieces(backup / file.path):
            checksum.update(piece)
            size += len(piece)
            tally.add(len(piece))
        _compare(backup, file, checksum.hexdigest(), size)


def _pieces(path: Path) -> Generator[bytes]:
    with disk_errors(f"reading {path}"):
        try:
            with open(path, "rb", buffering=0) as opened:
                while piece := opened.read(COPY_PIECE_BYTES):
                    yield piece
        except FileNotFoundError:
            raise Corrupted(f"{path} is missing from the backup; restore another backup") from None


def _compare(backup: Path, file: BackupFile, checksum: str, size: int) -> None:
    path = backup / file.path
    if size != file.bytes:
        raise Corrupted(f"{path} has {size} bytes, its backup had {file.bytes}; restore another backup")
    if checksum != file.checksum:
        raise Corrupted(f"{path} is damaged: its checksum is {checksum}, expected {file.checksum}; restore another")
