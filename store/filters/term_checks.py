"""Verifying the table `terms` against the documents that it is made of, in sentences that name what differs.

Everything that the documents put there is looked up, a batch at a time, and counted by kind and name. What stands there
besides is found by the counts: nothing is missing, and yet there is more.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from pyroaring import BitMap

from ..disk.environment import Table, Transaction
from ..disk.seal import Damaged
from ..errors import Corrupted
from ..types import Metadata
from .number_block import BLOCK_BITS, EMPTY, NumberBlock
from .posting import Posting
from .roaring import CHUNK_BITS
from .term_changes import TermChanges
from .term_keys import BOOLEAN, FIRST, LIVE, NAME, NUMBER, STRING, TermKey, decode_key

Counts = Counter[tuple[int, str]]
"""Memories by kind of term and name."""

_BATCH = 20_000
_KINDS = {NAME: "any value", STRING: "strings", BOOLEAN: "booleans", NUMBER: "numbers"}


def check_terms(
    postings: Table[Posting], numbers: Table[NumberBlock], txn: Transaction, items: Iterable[tuple[Metadata, range]]
) -> Iterator[str]:
    """Yield a sentence for everything in which the table differs from the metadata and seqs of all documents."""
    expected: Counts = Counter()
    remaining = iter(items)
    while batch := list(islice(remaining, _BATCH)):
        changes = TermChanges()
        for metadata, seqs in batch:
            changes.add(metadata, seqs)
        yield from _missing_postings(postings, txn, changes, expected)
        yield from _missing_numbers(numbers, txn, changes, expected)
    found: Counts = Counter()
    yield from _count(postings, numbers, txn, found)
    for kind, name in sorted(expected.keys() | found.keys()):
        if expected[kind, name] != found[kind, name]:
            yield (
                f"terms hold {found[kind, name]} memories under {_words(kind, name)}, "
                f"the documents have {expected[kind, name]}"
            )


def _missing_postings(table: Table[Posting], txn: Transaction, changes: TermChanges, expected: Counts) -> Iterator[str]:
    for key, runs in changes.postings.items():
        wanted = BitMap()
        for start, stop, _ in runs:
            wanted.add_range(start, stop)
        term = decode_key(key)
        expected[term.kind, term.name] += len(wanted)
        try:
            posting = table.get(txn, key)
        except Damaged:
            continue  # told by the walk over all values
        missing = wanted - posting.bitmap if posting else wanted
        if missing:
            yield _lacks(term, (term.part << CHUNK_BITS) + missing.min(), len(missing))
        elif posting and posting.string != changes.long_strings.get(key):
            yield f"terms hold another string under {_words(term.kind, term.name)} than its key was made of"


def _missing_numbers(
    table: Table[NumberBlock], txn: Transaction, changes: TermChanges, expected: Counts
) -> Iterator[str]:
    for key, runs in changes.numbers.items():
        term = decode_key(key)
        wanted = EMPTY.changed(runs)
        expected[term.kind, term.name] += len(wanted)
        try:
            block = table.get(txn, key) or EMPTY
        except Damaged:
            continue
        # Written over by what the documents say, the block is as it was, or a number was missing or another one.
        differs = block.changed(runs).differs(block)
        if len(differs):
            yield _lacks(term, (term.part << BLOCK_BITS) + int(differs[0]), len(differs))


def _count(postings: Table[Posting], numbers: Table[NumberBlock], txn: Transaction, found: Counts) -> Iterator[str]:
    """Count what stands in the table, and yield what cannot be read. One walk, each value decoded as its key says."""
    for key, posting in postings.items(txn):
        try:
            term = decode_key(key)
        except Corrupted as error:
            yield f"terms hold what is no term: {error}"
            continue
        value = posting if term.kind != NUMBER else _numbers(numbers, txn, key)
        if isinstance(value, Damaged):
            yield str(value)
        else:
            found[term.kind, term.name] += len(value.positions if isinstance(value, NumberBlock) else value.bitmap)


def _numbers(table: Table[NumberBlock], txn: Transaction, key: bytes) -> NumberBlock | Damaged:
    try:
        return table.get(txn, key) or EMPTY
    except Damaged as damage:
        return damage


def _lacks(term: TermKey, seq: int, count: int) -> str:
    memories = f"memory {seq} is" if count == 1 else f"memory {seq} and {count - 1} more are"
    return f"{memories} not under {_words(term.kind, term.name, term)} in terms as the documents say"


def _words(kind: int, name: str, term: TermKey | None = None) -> str:
    if kind in (LIVE, FIRST):
        return "all live memories" if kind == LIVE else "the first memories of documents"
    value = ""
    if term and kind in (STRING, BOOLEAN):
        value = f" {term.value.decode('utf-8', 'backslashreplace')!r:.60}"
    return f"metadata {name!r}, {_KINDS[kind]}{value}"
