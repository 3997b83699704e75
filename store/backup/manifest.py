"""`backup.json`: what a backup holds, and the size and checksum of each of its files (docs/format.md)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ..catalog import checksum_of
from ..disk.durable import write_file
from ..errors import Corrupted, FailedPrecondition, UnsupportedFormat
from ..format import FORMAT, check_format
from ..types import BackupReport, CollectionBackup

MANIFEST: Final = "backup.json"
DATA: Final = "data"
"""The folder within a backup that holds what a data directory holds."""
_MAGIC = "memory3 backup"
_LAYOUT = 1


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A file of a backup: its path within it, with slashes, its size, and the XXH3_128 of its bytes in hex."""

    path: str
    bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Manifest:
    started_at: float
    collections: tuple[CollectionBackup, ...]
    files: tuple[BackupFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def report(self, path: Path) -> BackupReport:
        return BackupReport(str(path), self.started_at, self.collections, len(self.files), self.bytes)


def write_manifest(backup: Path, manifest: Manifest) -> None:
    """Write the manifest durably; the last file of a backup."""
    fields = {"magic": _MAGIC, "layout": _LAYOUT, "format": FORMAT, **asdict(manifest)}
    # As JSON has it, where tuples are lists: what is read must have the checksum of what was written.
    fields = json.loads(json.dumps(fields))
    write_file(backup / MANIFEST, json.dumps({**fields, "checksum": checksum_of(fields)}, indent=1).encode())


def read_manifest(backup: Path) -> Manifest:
    """Read the manifest of a backup.

    Raises:
        FailedPrecondition: there is no backup.
        Corrupted: the manifest is damaged.
        UnsupportedFormat: it was written in another format version.
    """
    path = backup / MANIFEST
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FailedPrecondition(
            f"{backup} is not a whole backup: there is no {MANIFEST} in it; name the directory that `backup` made"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise Corrupted(f"{path} cannot be read: {error}; restore another backup") from error
    try:
        return _manifest(path, fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupted(f"{path} cannot be read: {error!r}; restore another backup") from error


def _manifest(path: Path, fields: dict[str, Any]) -> Manifest:
    found, expected = fields.pop("checksum"), checksum_of(fields)
    if found != expected:
        raise Corrupted(f"{path} is damaged: its checksum is {expected}, stored is {found}; restore another backup")
    if fields["magic"] != _MAGIC or fields["layout"] != _LAYOUT:
        raise UnsupportedFormat(
            f"{path} is {fields['magic']!r} of layout {fields['layout']}, this release reads {_MAGIC!r} of layout "
            f"{_LAYOUT}; restore it with the release that made it"
        )
    check_format(fields, str(path))
    collections = tuple(_collection(entry) for entry in fields["collections"])
    return Manifest(fields["started_at"], collections, tuple(_file(entry) for entry in fields["files"]))


def _collection(entry: Mapping[str, Any]) -> CollectionBackup:
    return CollectionBackup(entry["name"], entry["documents"], entry["memories"], tuple(entry["positions"]))


def _file(entry: Mapping[str, Any]) -> BackupFile:
    file = BackupFile(**entry)
    place = PurePosixPath(file.path)
    if place.parts[:1] != (DATA,) or ".." in place.parts:
        raise ValueError(f"a file at {file.path!r}")
    return file
