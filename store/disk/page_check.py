"""Whether the pages of an LMDB file fit together: what LMDB takes for granted, and what some damage ends a process by.

LMDB checks that a page which it is led to lies before the last one, and nothing within it: a wrong length leads it
out of the page or out of the file (docs/reliability.md). Here all pages that the newest commit leads to are looked at,
those of a level together: their kind, the places and lengths of their nodes, and that none is led to twice. What keys
and values hold is not looked at; checksums are for that.

Of a large file a part can be looked at: the smaller tables first, and of long values only where they lie. Of what
their own pages say, of which there are many, LMDB checks the kind by itself, and trusts the number only to free them.

`P` pages, `N` nodes, `B` bytes of a page.
"""

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from .meta_pages import MAGIC, PAGE_BYTES, VERSION

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
T = TypeVar("T", Numbers, list[bytes])

_META_BYTES = 152
_KIND = struct.Struct("<16xII16xI")
"""Of a meta page: magic, version, size of a page."""
# The tables of free pages and of tables, the last page that was ever used, the number of the commit.
_META = struct.Struct("<40x48s48sQQ")
# Flags, depth, number of branch, leaf and overflow pages and of entries, root.
_TABLE = struct.Struct("<4xHHQQQQQ")
_NONE = (1 << 64) - 1
_METAS = 2
_HEADER_BYTES, _NODE_BYTES, _NUMBER_BYTES = 16, 8, 8
_BRANCH, _LEAF, _OVERFLOW = 0x01, 0x02, 0x04
_ELSEWHERE, _TABLE_RECORD = 0x01, 0x02
"""Flags of a node: its data have pages of their own; they are the record of a table."""
_KEY_BYTES_MAX = 511
_DEPTH_MAX = 32
_PAGES_MAX = 1 << 28
_AT_ONCE = 1_024
"""Pages looked at together."""


class _Unfit(Exception):
    """What does not fit, in words."""


class Look(NamedTuple):
    """What does not fit, in words, None if all fits; and how many bytes of pages were looked at."""

    unfit: str | None
    bytes: int


def look_at(file: Path, bytes_max: float = math.inf) -> Look:
    """Look at up to about `bytes_max` of the pages of a data file that nobody changes.

    Nothing is unfit where there are no pages to look at, which LMDB will refuse by itself.

    Raises:
        OSError: the file cannot be read.
    """
    with _File(file) as opened:
        head = opened.read(0, _META_BYTES)
        if len(head) < _META_BYTES:
            return Look(None, 0)
        magic, version, page_bytes = _KIND.unpack_from(head)
        if (magic, version) != (MAGIC, VERSION) or page_bytes not in PAGE_BYTES or opened.size < _METAS * page_bytes:
            return Look(None, 0)
        unfit = None
        pages = _Pages(opened, page_bytes, bytes_max / page_bytes)
        try:
            pages.check()
        except _Unfit as found:
            unfit = str(found)
        return Look(unfit, pages.looked_at * page_bytes)


class _File:
    """A file that is read in places. Not mapped: a disk that fails is then an error, and ends no process."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, start)

    def read_pages(self, numbers: Numbers, page_bytes: int) -> Bytes:
        """Return the pages (P, B) of these numbers, those that lie behind each other in one go."""
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        runs = [(int(run[0]) * page_bytes, len(run) * page_bytes) for run in np.split(numbers, breaks) if len(run)]
        # All are asked of the disk at once, before the first is waited for.
        if hasattr(os, "posix_fadvise"):
            for start, size in runs:
                os.posix_fadvise(self._descriptor, start, size, os.POSIX_FADV_WILLNEED)
        data = b"".join(self.read(start, size) for start, size in runs)
        return np.frombuffer(data, np.uint8).reshape(len(numbers), page_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class _Table:
    """What LMDB has written down of a table."""

    name: str
    flags: int
    depth: int
    branches: int
    leaves: int
    overflow: int
    entries: int
    root: int

    @classmethod
    def of(cls, name: str, record: bytes) -> "_Table":
        return cls(name, *_TABLE.unpack(record))

    @property
    def pages(self) -> int:
        return self.branches + self.leaves + self.overflow


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The nodes (N,) of pages (P, B): the row of each one's page, its place in that, and its fields."""

    raw: Bytes
    rows: Numbers
    places: Numbers
    low: Numbers
    flags: Numbers
    keys: Numbers

    @property
    def contents(self) -> Numbers:
        return self.places + _NODE_BYTES + self.keys

    @property
    def first(self) -> npt.NDArray[np.bool_]:
        """Whether each is the first of its page."""
        return np.append(True, self.rows[1:] != self.rows[:-1])

    def keys_of(self, numbers: Numbers) -> list[bytes]:
        """Return the keys of the nodes of these numbers."""
        data = self.raw.tobytes()
        starts = self.rows[numbers] * self.raw.shape[1] + self.places[numbers] + _NODE_BYTES
        return [
            data[start : start + size] for start, size in zip(starts.tolist(), self.keys[numbers].tolist(), strict=True)
        ]

    def bytes_at(self, places: Numbers, chosen: npt.NDArray[np.bool_], count: int) -> Bytes:
        """Return `count` bytes (N', count) at places (N,) of the chosen nodes, which lie within their pages."""
        found: Bytes = self.raw[self.rows[chosen, None], places[chosen, None] + np.arange(count)]
        return found


class _Pages:
    """The pages of a file. `looked_at` counts them: of a larger file up to `most`, and the few that name tables."""

    def __init__(self, file: _File, page_bytes: int, most: float) -> None:
        self.looked_at = 0
        self._file = file
        self._most = most
        self._page_bytes = page_bytes
        self._whole = file.size // page_bytes
        metas = [_META.unpack(file.read(number * page_bytes, _META.size)) for number in range(_METAS)]
        free, main, self._last, _ = max(metas, key=lambda meta: meta[3])
        self._free, self._main = _Table.of("free", free), _Table.of("main", main)

    def check(self) -> None:
        """Raise _Unfit if anything does not fit."""
        # Free pages at the end need not be in the file.
        _need(self._last < _PAGES_MAX, self._main, f"has {self._last} pages")
        self._seen = np.zeros(self._last + 1, np.bool_)
        self._seen[:_METAS] = True
        tables = [*self._walk(self._main), self._free]
        for table in tables:
            _need(table.pages <= self._last, table, f"has {table.pages} pages")
        for table in sorted(tables, key=lambda table: table.branches + table.leaves):
            if self.looked_at + table.branches + table.leaves <= self._most:
                self._walk(table)

    def _walk(self, table: _Table) -> list[_Table]:
        """Look at all pages of a table; return the tables whose records are its values."""
        if table.root == _NONE:
            _need(not table.depth and not table.pages and not table.entries, table, "is empty, with pages")
            return []
        _need(0 < table.depth <= _DEPTH_MAX, table, f"is {table.depth} pages deep")
        level, branches = np.array([min(table.root, np.iinfo(np.int64).max)], np.int64), 0
        # The least key that each page of the level may have; of the first page there is none.
        bounds: list[bytes] = [b""]
        for _ in range(table.depth - 1):
            self._claim(table, level, there=True)
            branches += len(level)
            level, bounds = self._children(table, level, bounds)
        self._claim(table, level, there=True)
        _need((branches, len(level)) == (table.branches, table.leaves), table, "has another number of pages")
        found: list[_Table] = []
        entries = overflow = 0
        last = b""
        for part, least in zip(_parts(level), _parts(bounds), strict=True):
            nodes = self._leaves(table, part)
            entries += len(nodes.rows)
            overflow += self._elsewhere(table, nodes)
            found += _records(table, nodes)
            if table is self._free:
                # Its keys are numbers, and in another order.
                self._check_free(nodes)
            else:
                last = _in_order(table, nodes, least, last)
        _need((entries, overflow) == (table.entries, table.overflow), table, "has another number of values")
        return found

    def _claim(self, table: _Table, numbers: Numbers, there: bool) -> None:
        """Note that a table leads to these pages, once, and that they may be led to."""
        inside = (numbers >= 0) & (numbers <= self._last)
        if there:
            inside &= numbers < self._whole
        _need(bool(inside.all()), table, "leads out of the file")
        _need(not self._seen[numbers].any(), table, "leads to a page of another")
        _need(len(np.unique(numbers)) == len(numbers), table, "leads to a page twice")
        self._seen[numbers] = True

    def _children(self, table: _Table, numbers: Numbers, bounds: list[bytes]) -> tuple[Numbers, list[bytes]]:
        """Return the children of branch pages, and the least key that each of them may have."""
        children: list[Numbers] = []
        found: list[bytes] = []
        for part, least in zip(_parts(numbers), _parts(bounds), strict=True):
            nodes = self._nodes(table, part, _BRANCH)
            first = nodes.first
            # All but the first of a page have a key: it is what tells which child to go to.
            _need(bool((nodes.keys[~first] > 0).all()), table, "has a branch without a key")
            self._fit(table, nodes, nodes.contents)
            children.append(nodes.low | nodes.flags << 32)
            keys = iter(nodes.keys_of(np.flatnonzero(~first)))
            found += [
                least[row] if of_page else next(keys)
                for row, of_page in zip(nodes.rows.tolist(), first.tolist(), strict=True)
            ]
        return np.concatenate(children), found

    def _leaves(self, table: _Table, numbers: Numbers) -> _Nodes:
        nodes = self._nodes(table, numbers, _LEAF)
        kinds = (0, _ELSEWHERE, _TABLE_RECORD) if table is self._main else (0, _ELSEWHERE)
        _need(bool(np.isin(nodes.flags, kinds).all() and (nodes.keys > 0).all()), table, "has nodes of no kind")
        sizes = np.where(nodes.flags & _ELSEWHERE, _NUMBER_BYTES, nodes.low)
        self._fit(table, nodes, nodes.contents + sizes)
        return nodes

    def _nodes(self, table: _Table, numbers: Numbers, kind: int) -> _Nodes:
        """Return the nodes of these pages, all of which lie within them up to their keys' lengths."""
        raw = self._file.read_pages(numbers, self._page_bytes)
        self.looked_at += len(numbers)
        words = raw.view("<u2")
        own = raw[:, :8].copy().view("<u8")[:, 0]
        flags, lower, upper = words[:, 5:8].T.astype(np.int64)
        _need(bool((own == numbers).all() and (flags == kind).all()), table, "leads to a page of another kind")
        # A branch of one child is no branch, but in the list of free pages.
        least = _HEADER_BYTES + (4 if kind == _BRANCH and table is not self._free else 2)
        fits = (lower >= least) & (lower <= upper) & (lower % 2 == 0) & (upper <= self._page_bytes)
        _need(bool(fits.all()), table, "has a page whose nodes have no room")
        counts = (lower - _HEADER_BYTES) // 2
        rows = np.repeat(np.arange(len(numbers)), counts)
        numbered = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = words[rows, _HEADER_BYTES // 2 + numbered].astype(np.int64)
        inside = (places >= upper[rows]) & (places <= self._page_bytes - _NODE_BYTES) & (places % 2 == 0)
        _need(bool(inside.all()), table, "has a node outside of its page")
        low, high, of_node, keys = (words[rows, places // 2 + field].astype(np.int64) for field in range(4))
        _need(bool((keys <= _KEY_BYTES_MAX).all()), table, "has a key that is too long")
        return _Nodes(raw, rows, places, low | high << 16, of_node, keys)

    def _fit(self, table: _Table, nodes: _Nodes, ends: Numbers) -> None:
        """See that the nodes of each page, which end at `ends` (N,), fill it from the first to its end, one by one."""
        order = np.lexsort((nodes.places, nodes.rows))
        rows, starts, ends = nodes.rows[order], nodes.places[order], (ends + ends % 2)[order]
        last = np.append(rows[1:] != rows[:-1], True)
        following = np.where(last, self._page_bytes, np.append(starts[1:], 0))
        _need(bool((ends == following).all()), table, "has nodes that overlap, or leave gaps")
        first = np.append(True, last[:-1])
        upper = nodes.raw.view("<u2")[rows[first], 7]
        _need(bool((starts[first] == upper).all()), table, "has a page that begins elsewhere")

    def _elsewhere(self, table: _Table, nodes: _Nodes) -> int:
        """See where values with pages of their own lie, and in a small file what these say; return how many pages."""
        chosen = nodes.flags & _ELSEWHERE > 0
        if not chosen.any():
            return 0
        firsts = nodes.bytes_at(nodes.contents, chosen, _NUMBER_BYTES).view("<u8")[:, 0]
        runs = (_HEADER_BYTES - 1 + nodes.low[chosen]) // self._page_bytes + 1
        there = min(self._last + 1, self._whole)
        _need(bool((firsts < there).all() and runs.sum() <= there), table, "leads out of the file")
        heads = firsts.astype(np.int64)
        _need(bool((heads + runs <= there).all()), table, "leads out of the file")
        if self._whole <= self._most:
            self._look_at_values(table, heads, runs)
        return int(runs.sum())

    def _look_at_values(self, table: _Table, heads: Numbers, runs: Numbers) -> None:
        """See that each of these pages is the first of as many that hold a value, and are nobody else's."""
        places = np.arange(runs.sum()) - np.repeat(np.cumsum(runs) - runs, runs)
        self._claim(table, np.repeat(heads, runs) + places, there=True)
        data = b"".join(self._file.read(number * self._page_bytes, _HEADER_BYTES) for number in heads.tolist())
        head = np.frombuffer(data, np.uint8).reshape(-1, _HEADER_BYTES)
        self.looked_at += len(heads)
        own, kinds, lengths = (
            np.ascontiguousarray(head[:, part]).view(form)[:, 0]
            for part, form in ((slice(0, 8), "<u8"), (slice(10, 12), "<u2"), (slice(12, 16), "<u4"))
        )
        fits = (own == heads) & (kinds == _OVERFLOW) & (lengths == runs)
        _need(bool(fits.all()), table, "leads to a value's pages, which are none")

    def _check_free(self, nodes: _Nodes) -> None:
        """See that the pages which these nodes of the list of free pages name are nobody's."""
        for number in range(len(nodes.rows)):
            chosen = np.arange(len(nodes.rows)) == number
            size = int(nodes.low[number])
            if nodes.flags[number] & _ELSEWHERE:
                head = int(nodes.bytes_at(nodes.contents, chosen, _NUMBER_BYTES).view("<u8")[0, 0])
                content = np.frombuffer(self._file.read(head * self._page_bytes + _HEADER_BYTES, size), np.uint8)
            else:
                content = nodes.bytes_at(nodes.contents, chosen, size)[0]
            _need(size >= _NUMBER_BYTES and not size % _NUMBER_BYTES, self._free, f"has an entry of {size} bytes")
            numbers = np.ascontiguousarray(content).view("<u8")
            count = int(numbers[0])
            _need(count < len(numbers), self._free, f"has an entry of {count} pages")
            named = numbers[1 : count + 1]
            _need(bool((named <= self._last).all() and (named[:-1] > named[1:]).all()), self._free, "is out of order")
            self._claim(self._free, named.astype(np.int64), there=False)


def _records(table: _Table, nodes: _Nodes) -> list[_Table]:
    found = []
    for number in np.flatnonzero(nodes.flags & _TABLE_RECORD):
        place, row = int(nodes.contents[number]), nodes.raw[nodes.rows[number]]
        _need(int(nodes.low[number]) == _TABLE.size, table, "has a record of another size")
        name = bytes(row[place - int(nodes.keys[number]) : place]).decode("utf-8", "backslashreplace")
        found.append(_Table.of(name, bytes(row[place : place + _TABLE.size])))
        _need(not found[-1].flags, found[-1], "is of another kind")
    return found


def _in_order(table: _Table, nodes: _Nodes, bounds: Sequence[bytes], last: bytes) -> bytes:
    """See that the keys of leaves keep to the bounds by which they are found, from the `last` key before them on.

    Of each page only the first and the last; the last of all is returned.
    """
    first = nodes.first
    firsts = nodes.keys_of(np.flatnonzero(first))
    lasts = nodes.keys_of(np.flatnonzero(np.append(first[1:], True)))
    for bound, least, greatest in zip(bounds, firsts, lasts, strict=True):
        _need(last < bound <= least if bound else not last, table, "has keys where nobody looks for them")
        _need(least <= greatest, table, "has keys out of order")
        last = greatest
    return last


def _parts(items: T) -> list[T]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]


def _need(holds: bool, table: _Table, otherwise: str) -> None:
    if not holds:
        raise _Unfit(f"table {table.name!r} {otherwise}")
