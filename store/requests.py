"""Answers kept for requests that are sent again: what was done is not done twice, whatever happened meanwhile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from hashlib import blake2b
from typing import Any, TypeVar

from . import limits
from .disk.environment import Environment, Table, Transaction, WriteTransaction
from .errors import InvalidArgument
from .filters.language import Filter
from .format import decode_answer, decode_request_id, decode_seq, encode_answer, encode_request_id, encode_seq
from .metadata import DIGEST_BYTES, content_digest
from .types import DeleteReceipt, EmbeddedDocument, UpsertResult

T = TypeVar("T")


def digest_of_upsert(documents: Sequence[EmbeddedDocument]) -> bytes:
    digest = blake2b(digest_size=DIGEST_BYTES)
    for embedded in documents:
        document = embedded.document
        digest.update(content_digest(document, ""))
        digest.update(repr((document.key, document.expires_at, embedded.expected_version)).encode())
    return digest.digest()


def digest_of_delete(keys: Sequence[str], expected: Mapping[str, int]) -> bytes:
    return blake2b(repr((list(keys), sorted(expected.items()))).encode(), digest_size=DIGEST_BYTES).digest()


def digest_of_filter(filter: Filter) -> bytes:
    return blake2b(_canonical(filter).encode(), digest_size=DIGEST_BYTES).digest()


def _canonical(value: object) -> str:
    """Spell a filter the same way each time: the order of a set is no part of it."""
    if isinstance(value, frozenset):
        return repr(sorted(map(repr, value)))
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_canonical, value)) + ")"
    if is_dataclass(value):
        return type(value).__name__ + _canonical(tuple(getattr(value, one.name) for one in fields(value)))
    return repr(value)


def upsert_results_to_json(results: Sequence[UpsertResult]) -> Any:
    return [asdict(result) for result in results]


def upsert_results_from_json(answer: Any) -> list[UpsertResult]:
    return [UpsertResult(**result) for result in answer]


def receipt_to_json(receipt: DeleteReceipt) -> Any:
    return asdict(receipt)


def receipt_from_json(answer: Any) -> DeleteReceipt:
    deleted, missing, positions = (tuple(answer[name]) for name in ("deleted", "missing", "positions"))
    return DeleteReceipt(deleted, missing, answer["memories"], positions)


@dataclass(frozen=True, slots=True)
class Request:
    """A caller's name for one request, and a digest of what it asks for."""

    id: str
    digest: bytes


class Requests:
    """The tables `requests` and `request_order` of one environment."""

    def __init__(self, environment: Environment) -> None:
        self._answers = environment.table("requests", encode_answer, decode_answer)
        self._order = environment.table("request_order", encode_request_id, decode_request_id)

    @property
    def tables(self) -> tuple[Table[Any], ...]:
        return self._answers, self._order

    def holds(self, txn: Transaction, request: Request) -> bool:
        """Say whether an answer is kept under this id, damaged or not."""
        return self._answers.exists(txn, request.id.encode())

    def once(
        self,
        txn: WriteTransaction,
        request: Request | None,
        change: Callable[[WriteTransaction], T],
        to_json: Callable[[T], Any],
        from_json: Callable[[Any], T],
    ) -> T:
        """Carry out a change and keep its answer, or return the answer that was kept for the same request.

        Raises:
            InvalidArgument: the id was used for something else.
        """
        if request is None:
            return change(txn)
        key = request.id.encode()
        kept = self._answers.get(txn, key)
        if kept is not None:
            digest, answer = kept
            if digest != request.digest:
                raise InvalidArgument(f"request_id {request.id!r} was used for another request; give each its own")
            return from_json(answer)
        result = change(txn)
        self._answers.put(txn, key, (request.digest, to_json(result)))
        last = self._order.last_key(txn)
        number = decode_seq(last) + 1 if last else 1
        self._order.put(txn, encode_seq(number), request.id, append=True)
        self._trim(txn)
        return result

    def _trim(self, txn: WriteTransaction) -> None:
        while self._order.count(txn) > limits.REQUESTS_KEPT:
            oldest = next(self._order.items(txn))
            self._order.delete(txn, oldest[0])
            if isinstance(oldest[1], str):
                self._answers.delete(txn, oldest[1].encode())
