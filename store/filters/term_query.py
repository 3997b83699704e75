"""How a filter finds its memories: each condition is looked up in the table `terms`, and the sets are put together."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from pyroaring import BitMap

from ..disk.environment import Table, Transaction
from ..disk.seal import Damaged
from .language import And, Exists, Filter, In, Kind, Not, Or, Range, within
from .number_block import BLOCK_BITS, NumberBlock, Numbers
from .posting import Posting
from .roaring import CHUNK_BITS, Positions, bitmap_of
from .selection import Selection
from .term_keys import (
    ALL_FIRST,
    ALL_LIVE,
    PARTS,
    boolean_term,
    name_term,
    numbers_term,
    part_key,
    part_of,
    string_keys,
    string_term,
)

T = TypeVar("T")

_BLOCKS_BITS = CHUNK_BITS - BLOCK_BITS
"""Blocks of a chunk, as a power of two."""
_NUMBERS_COST, _STRINGS_COST = 100, 10_000


class TermQuery:
    """Looks filters up in one state of the table."""

    def __init__(self, postings: Table[Posting], numbers: Table[NumberBlock], txn: Transaction) -> None:
        self._postings = postings
        self._numbers = numbers
        self._txn = txn

    def live(self) -> Selection:
        """Return all live memories."""
        parts = self._under(self._postings, ALL_LIVE, range(PARTS))
        return Selection({part: posting.bitmap for part, posting in parts})

    def first(self) -> Selection:
        """Return the first memory of each document."""
        parts = self._under(self._postings, ALL_FIRST, range(PARTS))
        return Selection({part: posting.bitmap for part, posting in parts})

    def matching(self, filter: Filter) -> Selection:
        """Return the live memories that match.

        Raises:
            Damaged: a value that this needs is damaged.
        """
        return self._among(filter, self.live())

    def _among(self, filter: Filter, among: Selection) -> Selection:
        """Return those of `among` that match: no part of a filter looks where an earlier part left nothing."""
        if not among:
            return among
        match filter:
            case And(parts):
                for part in sorted(parts, key=_cost):
                    among = self._among(part, among)
                return among
            case Or(parts):
                found = Selection({})
                for part in sorted(parts, key=_cost):
                    found |= self._among(part, among - found)
                return found
            case Not(part):
                return among - self._among(part, among)
            case Exists(name):
                return self._union([name_term(name)], among)
            case In(name, Kind.NUMBER, values):
                numbers = Numbers(value for value in values if not isinstance(value, str))
                return self._by_numbers(name, among, lambda block: block.equal(numbers))
            case In(name, Kind.BOOLEAN, values):
                return self._union([boolean_term(name, bool(value)) for value in values], among)
            case In(name, _, values):
                return self._union(sorted(string_term(name, str(value).encode()) for value in values), among)
            case Range(name, Kind.NUMBER, lower, upper):
                return self._by_numbers(name, among, lambda block: block.between(lower, upper))
            case Range():
                return self._by_strings(filter, among)

    def _union(self, terms: Iterable[bytes], among: Selection) -> Selection:
        union = _Union()
        for term in terms:
            for part, posting in self._under(self._postings, term, among.numbers):
                union.add(part, posting)
        return union.selection() & among

    def _by_numbers(self, name: str, among: Selection, choose: Callable[[NumberBlock], Positions]) -> Selection:
        numbers = among.numbers
        blocks = range(numbers.start << _BLOCKS_BITS, numbers.stop << _BLOCKS_BITS)
        found: dict[int, list[Positions]] = {}
        for part, block in self._under(self._numbers, numbers_term(name), blocks):
            if not among.meets(range(part << BLOCK_BITS, (part + 1) << BLOCK_BITS)):
                continue
            positions = choose(block)
            if len(positions):
                chunk, place = divmod(part, 1 << _BLOCKS_BITS)
                found.setdefault(chunk, []).append(positions + np.uint16(place << BLOCK_BITS))
        return Selection({chunk: bitmap_of(np.concatenate(pieces)) for chunk, pieces in found.items()}) & among

    def _by_strings(self, span: Range, among: Selection) -> Selection:
        start, stop = string_keys(span)
        union = _Union()
        for key, posting in self._postings.items(self._txn, start):
            if key >= stop:
                break
            if isinstance(posting, Damaged):
                raise posting
            if posting.string is None or within(span, posting.string.decode()):
                union.add(part_of(key), posting)
        return union.selection() & among

    def _under(self, table: Table[T], term: bytes, parts: range) -> Iterator[tuple[int, T]]:
        """Yield what stands under a term in these parts of the seqs."""
        for key, value in table.items(self._txn, part_key(term, parts.start)):
            if not key.startswith(term) or part_of(key) >= parts.stop:
                return
            if isinstance(value, Damaged):
                raise value
            yield part_of(key), value


class _Union:
    """Postings put together. Of those that hold one seq many are gathered before they become a bitmap."""

    def __init__(self) -> None:
        self._chunks: dict[int, BitMap] = {}
        self._singles: dict[int, list[int]] = {}

    def add(self, number: int, posting: Posting) -> None:
        if posting.single is not None:
            self._singles.setdefault(number, []).append(posting.single)
        else:
            self._add(number, posting.bitmap)

    def selection(self) -> Selection:
        for number, positions in self._singles.items():
            self._add(number, bitmap_of(np.unique(np.array(positions, np.uint16))))
        return Selection(self._chunks)

    def _add(self, number: int, bitmap: BitMap) -> None:
        if number in self._chunks:
            self._chunks[number] |= bitmap
        else:
            self._chunks[number] = bitmap


def _cost(filter: Filter) -> int:
    """About how long a condition takes, in postings read: only the order counts."""
    match filter:
        case And(parts) | Or(parts):
            return sum(_cost(part) for part in parts)
        case Not(part):
            return _cost(part)
        case In(_, Kind.NUMBER) | Range(_, Kind.NUMBER):
            return _NUMBERS_COST
        case In(_, _, values):
            return len(values)
        case Range():
            return _STRINGS_COST
        case Exists():
            return 1
