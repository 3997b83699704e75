"""The calls that the proofs make of a store, of a collection in this process or of a server, in one form."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memory3.client import Client
from memory3.store.collection import Collection
from memory3.store.filters.language import Filter
from memory3.store.filters.parser import parse_filter
from memory3.store.types import Count, DeleteReceipt, Hit, StoredDocument, UpsertResult, Vector

from .content import document_of, embedded_of

FilterMapping = Mapping[str, Any]
Versions = Mapping[str, str]
"""The version of each key."""

PAGE = 50


@dataclass(frozen=True, slots=True)
class Store:
    """Each call with its arguments in this order: filters as callers write them or None, documents by their names."""

    get: Callable[[Sequence[str]], list[StoredDocument | None]]
    page: Callable[[str, FilterMapping | None], Any]
    count: Callable[[FilterMapping | None], Count]
    recall: Callable[[Vector, int, FilterMapping | None, str | None], list[Hit]]
    """Vector, k, filter, and the fingerprint whose key-values come with the hits, or None."""
    fetch: Callable[[str, Sequence[int]], list[bytes | None]]
    check: Callable[[], tuple[str, ...]]
    upsert: Callable[[Versions, Mapping[str, int], str | None], list[UpsertResult]]
    """Versions, the seqs expected to stand, and the id of the request or None."""
    delete: Callable[[Sequence[str], str | None], DeleteReceipt]
    delete_matching: Callable[[FilterMapping, str | None], DeleteReceipt]
    put: Callable[[str, Mapping[int, bytes]], int]
    """Returns how many were stored."""

    @classmethod
    def of_collection(cls, collection: Collection) -> "Store":
        return cls(
            get=collection.get,
            page=lambda token, filter: collection.list(PAGE, token, _parsed(filter)),
            count=lambda filter: collection.count(_parsed(filter)),
            recall=lambda vector, k, filter, fingerprint: collection.recall(
                vector[None], k, fingerprint, _parsed(filter), key_values=fingerprint is not None
            )[0],
            fetch=collection.fetch_key_values,
            check=lambda: collection.check(full=True).problems,
            upsert=lambda versions, expected, request: collection.upsert(
                [
                    replace(embedded_of(key, version), expected_version=expected.get(key))
                    for key, version in versions.items()
                ],
                request,
            ),
            delete=lambda keys, request: collection.delete(keys, None, request),
            delete_matching=lambda filter, request: collection.delete_matching(parse_filter(filter), request),
            put=lambda fingerprint, values: sum(collection.put_key_values(fingerprint, values.items())),
        )

    @classmethod
    def of_client(cls, client: Client) -> "Store":
        return cls(
            get=client.get,
            page=lambda token, filter: client.list(limit=PAGE, page_token=token, filter=filter),
            count=lambda filter: client.count(filter=filter),
            recall=lambda vector, k, filter, fingerprint: client.recall(
                vector, k, filter=filter, key_values=fingerprint
            ),
            fetch=client.fetch_key_values,
            check=lambda: client.check(full=True).problems,
            upsert=lambda versions, expected, request: client.upsert(
                [document_of(key, version) for key, version in versions.items()],
                expected_versions=expected,
                request_id=request,
            ),
            delete=lambda keys, request: client.delete(keys, request_id=request),
            delete_matching=lambda filter, request: client.delete(filter=filter, request_id=request),
            put=client.put_key_values,
        )

    def documents(self, filter: FilterMapping | None = None) -> Iterator[StoredDocument]:
        """Every document, or every one that matches, by `list`."""
        token = ""
        while True:
            page = self.page(token, filter)
            yield from page.documents
            token = page.next_page_token
            if not token:
                return


def _parsed(filter: FilterMapping | None) -> Filter | None:
    return None if filter is None else parse_filter(filter)
