"""The catalog file: which collections a data directory holds, and where (docs/format.md)."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from .disk.durable import write_file
from .errors import Corrupted
from .format import FORMAT, check_format
from .types import CollectionInfo


@dataclass(frozen=True, slots=True)
class Catalog:
    """The collections by name, each with the number of its directory; numbers are never used twice."""

    next_directory: int
    collections: dict[str, tuple[CollectionInfo, int]]

    def with_collection(self, info: CollectionInfo) -> "Catalog":
        """Return the catalog with one more collection, in directory `next_directory`."""
        added = {**self.collections, info.name: (info, self.next_directory)}
        return Catalog(self.next_directory + 1, added)

    def without(self, name: str) -> "Catalog":
        return replace(self, collections={key: entry for key, entry in self.collections.items() if key != name})


def write_catalog(path: Path, catalog: Catalog) -> None:
    """Replace the catalog file durably."""
    fields = {
        "format": FORMAT,
        "next_directory": catalog.next_directory,
        "collections": [
            {
                "name": info.name,
                "embedder": info.embedder,
                "dimension": info.dimension,
                "shards": info.shards,
                "directory": directory,
            }
            for info, directory in catalog.collections.values()
        ],
    }
    write_file(path, json.dumps({**fields, "checksum": checksum_of(fields)}, indent=1).encode())


def read_catalog(path: Path) -> Catalog:
    """Read the catalog file; a missing one is an empty catalog only in a directory that was just made.

    Raises:
        Corrupted: it is missing or damaged.
        UnsupportedFormat: it was written in another format version.
    """
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
        check_format(fields, str(path))
        found, expected = fields.pop("checksum"), checksum_of(fields)
        if found != expected:
            raise Corrupted(f"{path} is damaged: its checksum is {expected}, stored is {found}")
        return Catalog(fields["next_directory"], dict(_entry(entry) for entry in fields["collections"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupted(f"{path} cannot be read: {error}; restore it from a copy") from error


def _entry(entry: dict[str, Any]) -> tuple[str, tuple[CollectionInfo, int]]:
    info = CollectionInfo(entry["name"], entry["embedder"], entry["dimension"], entry["shards"])
    return info.name, (info, entry["directory"])


def checksum_of(fields: dict[str, Any]) -> str:
    """Return the XXH3_64 of a JSON object, in hex, whatever the order and spaces of its text."""
    return xxhash.xxh3_64_hexdigest(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())
