"""Files, folders and standard input as documents; what cannot be read is named and the rest goes on."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from ..store.errors import InvalidArgument
from ..store.types import Document
from ..store.validation import check_expiry
from .html import text_of_html

TEXT_SUFFIXES = frozenset({".md", ".markdown", ".txt"})
HTML_SUFFIXES = frozenset({".html", ".htm"})
LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})
SUFFIXES = TEXT_SUFFIXES | HTML_SUFFIXES | LINES_SUFFIXES
FILE_BYTES_MAX = 64 << 20
"""A larger file is refused unless it is read line by line."""
LINE_BYTES_MAX = 64 << 20
_FIELDS = frozenset({"key", "text", "metadata", "expires_at"})


class Unreadable(Exception):
    """A document cannot be made of this; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A file or line that became no document, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """A document, where it came from, and how many bytes of input it stands for."""

    document: Document
    name: str
    size: int


Source: TypeAlias = Found | Bad


@dataclass(frozen=True, slots=True)
class File:
    """A file to add, under the key that its document gets (JSON lines bring their own keys)."""

    path: Path
    key: str
    size: int


def files_of(paths: Iterable[Path]) -> list[File | Bad]:
    """The files that the user named, and those of known kinds in the folders named, in the order of their names."""
    found: list[File | Bad] = []
    for path in paths:
        if os.path.isdir(path):  # Path.is_dir raises where it may not look; `_file` says then what is wrong
            found += _walk(path)
        else:
            found.append(_file(path, path.name))
    return found


def documents_of_files(files: Iterable[File | Bad]) -> Iterator[Source]:
    """Read each file; a key that two of them would share is kept by the first."""
    first: dict[str, str] = {}
    for file in files:
        for source in [file] if isinstance(file, Bad) else _read(file):
            if isinstance(source, Found):
                key = source.document.key
                if key in first:
                    source = Bad(source.name, f"its key {key!r} is already that of {first[key]}; add them one by one")
                else:
                    first[key] = source.name
            yield source


def document_of_stream(stream: BinaryIO, key: str) -> Iterator[Source]:
    """The whole of a stream as one text under `key`."""
    data = stream.read(FILE_BYTES_MAX + 1)
    yield _guarded("standard input", len(data), lambda: Document(key, _text(data)))


def documents_of_lines(lines: Iterable[bytes], name: str) -> Iterator[Source]:
    """A document from each line: a JSON object with `key`, `text` and, if wanted, `metadata` and `expires_at`."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _guarded(f"{name}:{number}", len(line), partial(_document_of_line, line))


def _walk(folder: Path) -> list[File | Bad]:
    found: list[File | Bad] = []
    for root, folders, names in os.walk(folder, onerror=lambda error: found.append(_bad_folder(folder, error))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                file = Path(root, name)
                found.append(_file(file, file.relative_to(folder).as_posix()))
    return found


def _bad_folder(folder: Path, error: OSError) -> Bad:
    return Bad(str(error.filename or folder), f"the folder cannot be read: {error.strerror or error}")


def _file(path: Path, key: str) -> File | Bad:
    try:
        if not path.is_file():
            return Bad(str(path), "not a file" if path.exists() else "no such file or folder")
        return File(path, key, path.stat().st_size)
    except OSError as error:
        return Bad(str(path), error.strerror or str(error))


def _read(file: File) -> Iterator[Source]:
    suffix = file.path.suffix.lower()
    if suffix in LINES_SUFFIXES:
        yield from _read_lines(file)
        return
    decode = text_of_html if suffix in HTML_SUFFIXES else _text
    yield _guarded(str(file.path), file.size, lambda: Document(file.key, decode(_bytes(file))))


def _read_lines(file: File) -> Iterator[Source]:
    try:
        with file.path.open("rb") as stream:
            lines = iter(lambda: stream.readline(LINE_BYTES_MAX), b"")
            yield from documents_of_lines(lines, str(file.path))
    except OSError as error:
        yield Bad(str(file.path), error.strerror or str(error))


def _guarded(name: str, size: int, read: Callable[[], Document]) -> Source:
    try:
        document = read()
    except (Unreadable, InvalidArgument) as error:
        return Bad(name, str(error))
    except OSError as error:
        return Bad(name, error.strerror or str(error))
    if not document.text.strip():
        return Bad(name, "it holds no text")
    return Found(document, name, size)


def _bytes(file: File) -> bytes:
    if file.size > FILE_BYTES_MAX:
        raise Unreadable(f"it has {file.size} bytes, at most {FILE_BYTES_MAX} are read; cut it into several")
    return file.path.read_bytes()


def _text(data: bytes) -> str:
    if len(data) > FILE_BYTES_MAX:
        raise Unreadable(f"it has more than {FILE_BYTES_MAX} bytes; cut it into several")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 at byte {error.start}; convert it first") from error


def _document_of_line(line: bytes) -> Document:
    try:
        entry: Any = json.loads(_text(line))
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from error
    except RecursionError as error:
        raise Unreadable("nested too deeply") from error
    if not isinstance(entry, dict):
        raise Unreadable("not an object with key and text")
    if unknown := sorted(entry.keys() - _FIELDS):
        raise Unreadable(f"unknown field {unknown[0]!r}; known are key, text, metadata and expires_at")
    key, text, metadata = entry.get("key"), entry.get("text"), entry.get("metadata", {})
    if not isinstance(key, str) or not isinstance(text, str):
        raise Unreadable("key and text must both be there and be strings")
    if not isinstance(metadata, dict):
        raise Unreadable("metadata must be an object")
    document = Document(key, text, metadata, entry.get("expires_at"))
    check_expiry(document)
    return document
