"""Documents as callers see them, over the records: put together from memories, compared with what stands.

Every method takes a transaction, so that one call sees, or changes, one state.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal

from . import limits
from .disk.environment import Transaction, WriteTransaction
from .disk.seal import Damaged, Missing
from .errors import Aborted, FailedPrecondition
from .expiry import Entry, whole
from .filters.language import Filter
from .filters.selection import Selection
from .filters.term_changes import TermChanges
from .filters.terms import check_match
from .format import NEVER, WRITTEN, DocumentRecord, decode_seq, encode_seq
from .metadata import content_digest
from .page_token import decode_page_token, encode_page_token
from .reads import Reads
from .records import Records
from .types import (
    Change,
    Count,
    DeleteReceipt,
    Document,
    EmbeddedDocument,
    MemoryReads,
    Page,
    StoredDocument,
    UpsertResult,
)


class Documents:
    """The documents of one shard, those that have expired left out; `now` is the time that says which."""

    def __init__(self, records: Records, reads: Reads) -> None:
        self._records = records
        self._reads = reads

    def count(self, txn: Transaction, now: float, filter: Filter | None = None) -> Count:
        ended = self.ended(txn, now)
        if filter is None:
            documents, memories = self._records.documents.count(txn), self._records.memories.count(txn)
            return Count(documents - len(ended), memories - sum(map(len, ended.values())))
        selection = self._records.terms.matching(txn, filter)
        gone = [seqs for seqs in ended.values() if seqs.start in selection]
        documents = (selection & self._records.terms.first(txn)).count
        return Count(documents - len(gone), selection.count - sum(map(len, gone)))

    def ended(self, txn: Transaction, now: float) -> dict[str, range]:
        """Return the memories of documents that have expired and are not deleted yet, by key."""
        return {entry.key: entry.seqs for entry in whole(self._records.expiry.ended(txn, now))}

    def unchanged(self, txn: Transaction, documents: Iterable[Document], now: float) -> set[str]:
        """Return the keys of those documents that stand with exactly this content, whole."""
        return {document.key for document in documents if self._standing(txn, document, now)}

    def upsert(self, txn: WriteTransaction, documents: Iterable[EmbeddedDocument], at: float) -> list[UpsertResult]:
        """Store each document in the place of what stood under its key, unless that has the same content.

        Raises:
            Aborted: another version stands there than was expected.
        """
        terms = TermChanges()
        results = [self._upsert(txn, embedded, at, terms) for embedded in documents]
        self._records.terms.apply(txn, terms)
        return results

    def _upsert(self, txn: WriteTransaction, embedded: EmbeddedDocument, at: float, terms: TermChanges) -> UpsertResult:
        document = embedded.document
        if embedded.expected_version is not None:
            self._expect(txn, document.key, embedded.expected_version, at)
        record = self._standing(txn, document, at)
        if record is not None:
            return UpsertResult(document.key, record.version, False, record.memories)
        record = self._records.write(txn, embedded, self._digest(document), at, terms)
        return UpsertResult(document.key, record.version, True, record.memories)

    def delete(self, txn: WriteTransaction, keys: Iterable[str], at: float) -> DeleteReceipt:
        """Forget the documents of these keys; a key that comes twice counts once."""
        # To the caller what has expired was gone before; it goes for good all the same.
        ended = {key for key in keys if self._has_ended(txn, key, at)}
        terms = TermChanges()
        forgotten = {key: self._records.delete(txn, key, at, terms) for key in dict.fromkeys(keys)}
        self._records.terms.apply(txn, terms)
        deleted = {key: memories for key, memories in forgotten.items() if memories is not None and key not in ended}
        return DeleteReceipt(
            deleted=tuple(deleted),
            missing=tuple(key for key in forgotten if key not in deleted),
            memories=sum(deleted.values()),
            positions=(self._records.position(txn),),
        )

    def delete_matching(self, txn: WriteTransaction, filter: Filter, at: float) -> DeleteReceipt:
        """Forget the documents that match. What the log tells of it is their keys."""
        keys = self._keys_of(txn, self._records.terms.matching(txn, filter))
        return self.delete(txn, [key for key in keys if self._is_to_go(txn, key, filter, at)], at)

    def expect(self, txn: Transaction, versions: Mapping[str, int], now: float) -> None:
        """Verify that these versions stand under these keys, 0 where there is none.

        Raises:
            Aborted: names the first that does not.
        """
        for key, version in versions.items():
            self._expect(txn, key, version, now)

    def sweep(self, txn: WriteTransaction, now: float, limit: int) -> int:
        """Delete documents that have expired, of up to `limit` memories or one document; return how many.

        Raises:
            Damaged: a document that has expired is not found, though its memories are there.
        """
        ended = list(_within(limit, self._records.expiry.ended(txn, now)))
        if any(isinstance(entry, Damaged) for entry in ended):
            self._records.rebuild_expiry(txn)
            ended = list(_within(limit, self._records.expiry.ended(txn, now)))
        entries = whole(ended)
        terms = TermChanges()
        for entry in entries:
            if self._is_to_be_swept(txn, entry, now):
                self._records.delete(txn, entry.key, now, terms)
            # Also an entry that outlived its document, because the document's record was damaged when it went.
            self._records.expiry.remove(txn, entry.at, entry.seqs)
        self._records.terms.apply(txn, terms)
        return len(entries)

    def changes(self, txn: Transaction, after: int, limit: int) -> list[Change]:
        """Return the changes after seq `after`, of which `limit` entries of the log are read.

        Raises:
            FailedPrecondition: the log does not reach back so far.
            Damaged: one of them is damaged.
        """
        if after + 1 < self._records.changes_from(txn):
            raise FailedPrecondition(
                f"the log begins at seq {self._records.changes_from(txn)}, what came after {after} is no longer in it; "
                "list the documents anew and watch from the positions that stats gives"
            )
        found: list[Change] = []
        for place, change in islice(self._records.changes.items(txn, encode_seq(after + 1)), limit):
            if isinstance(change, Damaged):
                raise change
            kind: Literal["upsert", "delete"] = "upsert" if change.kind == WRITTEN else "delete"
            told = Change(decode_seq(place), kind, change.key, change.at)
            # A document's memories have a change each, and its version is the last of them.
            if found and (found[-1].kind, found[-1].key) == (kind, change.key):
                found.pop()
            found.append(told)
        return found

    def get(self, txn: Transaction, keys: Sequence[str], now: float) -> list[StoredDocument | None]:
        """Return the document of each key, None where there is none.

        Raises:
            Damaged: one of them is damaged.
        """
        records = [(key, self._visible(txn, key, now)) for key in keys]
        return [self._stored(txn, key, record) if record else None for key, record in records]

    def page(self, txn: Transaction, limit: int, page_token: str, now: float, filter: Filter | None = None) -> Page:
        """Return up to `limit` documents, of those that match, in the byte order of their keys, after the token's page.

        Raises:
            Damaged: one of them is damaged.
            InvalidArgument: the token is none of ours.
        """
        # The least key after `key` is `key` and a NUL, which no key holds.
        start = decode_page_token(page_token) + b"\0" if page_token else b""
        documents: list[StoredDocument] = []
        for key, record in self._listed(txn, start, filter):
            if len(documents) == limit:
                return Page(tuple(documents), encode_page_token(documents[-1].key.encode()))
            if isinstance(record, Damaged):
                raise record
            if filter is not None:
                check_match(filter, key.decode(), record.metadata)
            if not record.has_ended(now):
                documents.append(self._stored(txn, key.decode(), record))
        return Page(tuple(documents), "")

    def _listed(
        self, txn: Transaction, start: bytes, filter: Filter | None
    ) -> Iterator[tuple[bytes, DocumentRecord | Damaged]]:
        """Yield documents, of those that match, from key `start` on."""
        if filter is None:
            yield from self._records.documents.items(txn, start)
            return
        selection = self._records.terms.matching(txn, filter)
        if selection.count <= limits.SORTED_KEYS_MAX:
            keys = sorted(key.encode() for key in self._keys_of(txn, selection))
            for key in keys[bisect_left(keys, start) :]:
                try:
                    record = self._records.documents.get(txn, key)
                    if record is not None:
                        yield key, record
                except Damaged as damage:
                    yield key, damage
            return
        for key, found in self._records.documents.items(txn, start):
            # Whether a damaged one would match nobody knows, so it is told of.
            if isinstance(found, Damaged) or found.first_seq in selection:
                yield key, found

    def _keys_of(self, txn: Transaction, selection: Selection) -> Iterator[str]:
        """Yield the keys of the documents whose memories these are."""
        for seq in selection & self._records.terms.first(txn):
            memory = self._records.memories.get(txn, encode_seq(seq))
            if memory is not None:
                yield memory.key

    def _visible(self, txn: Transaction, key: str, now: float) -> DocumentRecord | None:
        record = self._records.documents.get(txn, key.encode())
        return None if record is None or record.has_ended(now) else record

    def _has_ended(self, txn: Transaction, key: str, now: float) -> bool:
        try:
            record = self._records.documents.get(txn, key.encode())
        except Damaged:
            return False
        return record is not None and record.has_ended(now)

    def _is_to_go(self, txn: Transaction, key: str, filter: Filter, now: float) -> bool:
        try:
            record = self._records.documents.get(txn, key.encode())
        except Damaged:
            return True
        if record is not None:
            check_match(filter, key, record.metadata)
        return record is None or not record.has_ended(now)

    def _is_to_be_swept(self, txn: Transaction, entry: Entry, now: float) -> bool:
        """Say whether what an entry of `expiry` tells of, whose time has come, still stands."""
        memory_stands = self._records.is_live(txn, entry.seqs.start)
        try:
            record = self._records.documents.get(txn, entry.key.encode())
        except Damaged:
            # Seqs are never given twice, so it is the damaged version that the entry tells of.
            return memory_stands
        if record is None and memory_stands:
            raise Missing(self._records.documents.name, entry.key.encode(), "it is missing, though it is to expire")
        return record is not None and record.has_ended(now)

    def _expect(self, txn: Transaction, key: str, expected: int, now: float) -> None:
        record = self._visible(txn, key, now)
        version = record.version if record else 0
        if version != expected:
            raise Aborted(
                f"document {key!r} has version {version}, expected was {expected}; read it again and repeat"
                if version
                else f"there is no document {key!r}, expected was version {expected}; read it again and repeat"
            )

    def _standing(self, txn: Transaction, document: Document, now: float) -> DocumentRecord | None:
        # What is damaged does not count as standing, so that sending it again mends it.
        try:
            record = self._visible(txn, document.key, now)
        except Damaged:
            return None
        if record is None or record.digest != self._digest(document):
            return None
        if record.expires_at != (document.expires_at or NEVER):
            return None
        return record if self._records.is_whole(txn, document.key.encode(), record) else None

    def _stored(self, txn: Transaction, key: str, record: DocumentRecord) -> StoredDocument:
        text = "".join(self._records.texts(txn, key, record))
        return StoredDocument(
            key,
            text,
            record.metadata,
            record.version,
            tuple(record.seqs),
            record.updated_at,
            record.expires_at or None,
            tuple(map(self._reads.of, record.seqs)),
        )

    def most_read(self, txn: Transaction, limit: int, now: float) -> list[MemoryReads]:
        """Return up to `limit` of the memories that are read most, most reads first, without those that are damaged."""
        found: list[MemoryReads] = []
        for seq, reads in self._reads.most() if limit else ():
            if len(found) == limit:
                break
            try:
                memory = self._records.memories.get(txn, encode_seq(seq))
            except Damaged:
                continue
            if memory is not None and not self._has_ended(txn, memory.key, now):
                found.append(MemoryReads(memory.key, seq, reads))
        return found

    def _digest(self, document: Document) -> bytes:
        return content_digest(document, self._records.identity.embedder)


def _within(memories: int, entries: Iterable[Entry | Damaged]) -> Iterator[Entry | Damaged]:
    """Yield the first entry, and those after it that have so many memories together with it."""
    for number, entry in enumerate(entries):
        memories -= 1 if isinstance(entry, Damaged) else len(entry.seqs)
        if number and memories < 0:
            return
        yield entry
