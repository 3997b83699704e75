"""Documents as callers see them, over the records: put together from memories, compared with what stands.

Every method takes a transaction, so that one call sees, or changes, one state.
"""

from collections.abc import Iterable, Sequence

from .environment import Transaction, WriteTransaction
from .format import DocumentRecord
from .metadata import content_digest
from .page_token import decode_page_token, encode_page_token
from .records import Records
from .seal import Damaged
from .types import Count, DeleteReceipt, Document, EmbeddedDocument, Page, StoredDocument, UpsertResult


class Documents:
    """The documents of one shard."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def count(self, txn: Transaction) -> Count:
        return Count(self._records.documents.count(txn), self._records.memories.count(txn))

    def unchanged(self, txn: Transaction, documents: Iterable[Document]) -> set[str]:
        """Return the keys of those documents that stand with exactly this content, whole."""
        return {document.key for document in documents if self._standing(txn, document)}

    def upsert(self, txn: WriteTransaction, embedded: EmbeddedDocument, at: float) -> UpsertResult:
        """Store a document in the place of what stood under its key, unless that has the same content."""
        document = embedded.document
        record = self._standing(txn, document)
        if record is not None:
            return UpsertResult(document.key, record.version, False, record.memories)
        record = self._records.write(txn, embedded, self._digest(document), at)
        return UpsertResult(document.key, record.version, True, record.memories)

    def delete(self, txn: WriteTransaction, keys: Iterable[str], at: float) -> DeleteReceipt:
        """Forget the documents of these keys; a key that comes twice counts once."""
        forgotten = {key: self._records.delete(txn, key, at) for key in dict.fromkeys(keys)}
        return DeleteReceipt(
            deleted=tuple(key for key, memories in forgotten.items() if memories is not None),
            missing=tuple(key for key, memories in forgotten.items() if memories is None),
            memories=sum(memories or 0 for memories in forgotten.values()),
            position=self._records.position(txn),
        )

    def get(self, txn: Transaction, keys: Sequence[str]) -> list[StoredDocument | None]:
        """Return the document of each key, None where there is none.

        Raises:
            Damaged: one of them is damaged.
        """
        records = [(key, self._records.documents.get(txn, key.encode())) for key in keys]
        return [self._stored(txn, key, record) if record else None for key, record in records]

    def page(self, txn: Transaction, limit: int, page_token: str) -> Page:
        """Return up to `limit` documents in the byte order of their keys, after the token's page.

        Raises:
            Damaged: one of them is damaged.
            InvalidArgument: the token is none of ours.
        """
        # The least key after `key` is `key` and a NUL, which no key holds.
        start = decode_page_token(page_token) + b"\0" if page_token else b""
        documents: list[StoredDocument] = []
        for key, record in self._records.documents.items(txn, start):
            if len(documents) == limit:
                return Page(tuple(documents), encode_page_token(documents[-1].key.encode()))
            if isinstance(record, Damaged):
                raise record
            documents.append(self._stored(txn, key.decode(), record))
        return Page(tuple(documents), "")

    def _standing(self, txn: Transaction, document: Document) -> DocumentRecord | None:
        # What is damaged does not count as standing, so that sending it again mends it.
        key = document.key.encode()
        try:
            record = self._records.documents.get(txn, key)
        except Damaged:
            return None
        if record is None or record.digest != self._digest(document):
            return None
        return record if self._records.is_whole(txn, key, record) else None

    def _stored(self, txn: Transaction, key: str, record: DocumentRecord) -> StoredDocument:
        text = "".join(self._records.texts(txn, key, record))
        return StoredDocument(key, text, record.metadata, record.version, tuple(record.seqs), record.updated_at)

    def _digest(self, document: Document) -> bytes:
        return content_digest(document, self._records.identity.embedder)
