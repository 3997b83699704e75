"""What a transaction changes in the table `terms`, gathered so that each value is read and written once.

Many documents of one transaction stand under the same terms: 32 that share a name would otherwise read, copy and write
the same bitmap 32 times.
"""

from collections.abc import Iterator

from ..types import Metadata, MetadataValue
from .number_block import BLOCK_BITS, Run
from .roaring import CHUNK_BITS
from .selection import spans
from .term_keys import ALL_FIRST, ALL_LIVE, boolean_term, is_cut, name_term, numbers_term, part_key, string_term


class TermChanges:
    """Documents that come and go, in order: of two changes to one seq the later one holds."""

    def __init__(self) -> None:
        self.postings: dict[bytes, list[tuple[int, int, bool]]] = {}
        """By key: start, stop, and whether the seqs between stand under the term from now on."""
        self.numbers: dict[bytes, list[Run]] = {}
        """By key: start, stop, and the number that the seqs between have from now on."""
        self.long_strings: dict[bytes, bytes] = {}
        """By key: the string that the key holds only the beginning of."""

    def add(self, metadata: Metadata, seqs: range) -> None:
        """Note that a document's memories are there from now on."""
        self._change(metadata, seqs, True)

    def remove(self, metadata: Metadata, seqs: range) -> None:
        """Note that a document's memories are gone; `metadata` is what they were added with."""
        self._change(metadata, seqs, False)

    def _change(self, metadata: Metadata, seqs: range, present: bool) -> None:
        chunks = list(spans(seqs, CHUNK_BITS))
        if not chunks:
            return
        first, start, _ = chunks[0]
        self.postings.setdefault(part_key(ALL_FIRST, first), []).append((start, start + 1, present))
        for term, text in terms_of(metadata):
            for part, start, stop in chunks:
                key = part_key(term, part)
                self.postings.setdefault(key, []).append((start, stop, present))
                if text is not None:
                    self.long_strings[key] = text
        for name, value in metadata.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                term = numbers_term(name)
                for part, start, stop in spans(seqs, BLOCK_BITS):
                    run = (start, stop, value if present else None)
                    self.numbers.setdefault(part_key(term, part), []).append(run)


def terms_of(metadata: Metadata) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the terms that a document's postings stand under, with the string where a term holds only its beginning."""
    yield ALL_LIVE, None
    for name, value in metadata.items():
        yield name_term(name), None
        yield from _value_terms(name, value)


def _value_terms(name: str, value: MetadataValue) -> Iterator[tuple[bytes, bytes | None]]:
    if isinstance(value, bool):
        yield boolean_term(name, value), None
    elif isinstance(value, str):
        text = value.encode()
        yield string_term(name, text), text if is_cut(text) else None
