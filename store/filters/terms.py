"""What finds the memories that match a filter: their metadata turned round, in the table `terms` of the records.

Every method takes a transaction of that environment, so that terms and documents change together.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from pyroaring import BitMap

from ..disk.environment import Environment, Transaction, WriteTransaction
from ..disk.seal import Damaged
from ..types import Metadata
from .language import Filter, matches
from .number_block import EMPTY, decode_numbers, encode_numbers
from .posting import Posting, decode_posting, encode_posting
from .selection import Selection
from .term_changes import TermChanges
from .term_checks import check_terms
from .term_query import TermQuery

NAME = "terms"

_REBUILD_DOCUMENTS = 20_000
_DROP_KEYS = 10_000


def check_match(filter: Filter, key: str, metadata: Metadata) -> None:
    """Verify that a document that was found matches.

    A flipped bit in a key hides a value from those who look for it, and nothing there says so: what is searched for by
    what it has not is then found where it has it.

    Raises:
        Damaged: it does not.
    """
    if not matches(filter, metadata):
        raise Damaged(NAME, b"", f"document {key!r} was found by a filter that it does not match")


class Terms:
    """The table `terms`: postings and blocks of numbers, told apart by their keys."""

    def __init__(self, environment: Environment) -> None:
        self.postings = environment.table(NAME, encode_posting, decode_posting)
        self.numbers = environment.table(NAME, encode_numbers, decode_numbers)

    def add(self, txn: WriteTransaction, metadata: Metadata, seqs: range) -> None:
        """Put a document's memories under its metadata. For many documents gather `TermChanges`.

        Raises:
            Damaged: a value that these seqs belong in is damaged.
        """
        changes = TermChanges()
        changes.add(metadata, seqs)
        self.apply(txn, changes)

    def remove(self, txn: WriteTransaction, metadata: Metadata, seqs: range) -> None:
        """Take a document's memories away; `metadata` is what they were added with. Raises as `add` does."""
        changes = TermChanges()
        changes.remove(metadata, seqs)
        self.apply(txn, changes)

    def apply(self, txn: WriteTransaction, changes: TermChanges) -> None:
        """Write what was gathered, each value once, in the order of the keys; raises as `add` does."""
        for key, runs in sorted(changes.postings.items()):
            self._apply_runs(txn, key, runs, changes.long_strings.get(key))
        for key, values in sorted(changes.numbers.items()):
            block = (self.numbers.get(txn, key) or EMPTY).changed(values)
            if len(block):
                self.numbers.put(txn, key, block)
            else:
                self.numbers.delete(txn, key)

    def matching(self, txn: Transaction, filter: Filter) -> Selection:
        """Return the live memories whose documents match.

        Raises:
            Damaged: a value that this needs is damaged.
        """
        return TermQuery(self.postings, self.numbers, txn).matching(filter)

    def live(self, txn: Transaction) -> Selection:
        """Return all live memories; raises as `matching` does."""
        return TermQuery(self.postings, self.numbers, txn).live()

    def first(self, txn: Transaction) -> Selection:
        """Return the first memory of each document; raises as `matching` does."""
        return TermQuery(self.postings, self.numbers, txn).first()

    def rebuild(self, txn: WriteTransaction, items: Iterable[tuple[Metadata, range]]) -> None:
        """Start over from the metadata and seqs of all documents."""
        while keys := list(islice(self.postings.keys(txn), _DROP_KEYS)):
            for key in keys:
                self.postings.delete(txn, key)
        remaining = iter(items)
        while batch := list(islice(remaining, _REBUILD_DOCUMENTS)):
            changes = TermChanges()
            for metadata, seqs in batch:
                changes.add(metadata, seqs)
            self.apply(txn, changes)

    def check(self, txn: Transaction, items: Iterable[tuple[Metadata, range]]) -> Iterator[str]:
        """Yield a sentence for everything in which the table differs from the metadata and seqs of all documents."""
        return check_terms(self.postings, self.numbers, txn, items)

    def _apply_runs(
        self, txn: WriteTransaction, key: bytes, runs: Iterable[tuple[int, int, bool]], string: bytes | None
    ) -> None:
        standing = self.postings.get(txn, key)
        bitmap = standing.bitmap if standing else BitMap()
        for start, stop, present in runs:
            if present:
                bitmap.add_range(start, stop)
            else:
                bitmap.remove_range(start, stop)
        if bitmap:
            self.postings.put(txn, key, Posting(bitmap, string))
        else:
            self.postings.delete(txn, key)
