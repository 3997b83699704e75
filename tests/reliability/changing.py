"""One caller's changes, made by chance, in all the ways a store takes them; what it answers is judged at once."""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from memory3.store.errors import Aborted
from memory3.store.types import DeleteReceipt, UpsertResult

from .access import Store
from .content import FILTERS, FINGERPRINTS, expiring, expiry_of, matches, owner_of, texts_of, values_of
from .oracle import ABSENT, Oracle, standing

T = TypeVar("T")

BATCH_MAX = 3
DELETE_SHARE = 0.25
MATCHING_SHARE = 0.3
"""Of the deletes, those by filter."""
REQUEST_SHARE = 0.4
AGAIN_SHARE = 0.1
EXPECTED_SHARE = 0.15
VALUES_SHARE = 0.6
LIFETIMES_S = (None, None, None, None, -1.0, 0.05, 0.4, 1.5, 3_600.0)
"""When documents expire, from when they are written on."""
KEPT = 4
"""Requests that may be sent again."""
SOON_S = 60.0
"""What expires within it may be gone before the next call."""


@dataclass(slots=True)
class _Sent:
    """A request with an id: what it changes, how to send it, and its answer, None as long as there is none."""

    versions: dict[str, str]
    send: Callable[[Store], Any]
    answer: Any = None


class Changer:
    """Changes keys of one owner, a call at a time; outlives the stores that it is given."""

    def __init__(self, oracle: Oracle, keys: Sequence[str], seed: object) -> None:
        self.violations: list[str] = []
        self._oracle = oracle
        self._keys = keys
        self._choose = random.Random(f"{seed}")
        self._sent: deque[_Sent] = deque(maxlen=KEPT)

    def copy(self, oracle: Oracle, seed: object) -> "Changer":
        """One that goes on from here, with a copy of the oracle."""
        other = Changer(oracle, self._keys, seed)
        other._sent.extend(_Sent(sent.versions, sent.send, sent.answer) for sent in self._sent)
        return other

    def change(self, store: Store, name: str) -> None:
        """Make one change; `name` is one that no version had before."""
        choose = self._choose
        if self._sent and self._sent[-1].answer is None:
            # Cut off: whether or not it was carried out, sent again it stands once.
            self._carry_out(self._sent[-1], store)
        elif self._sent and choose.random() < AGAIN_SHARE:
            self._send_again(store)
        elif choose.random() < DELETE_SHARE:
            self._delete(store, name)
        elif choose.random() < EXPECTED_SHARE:
            self._upsert_over_a_version(store, name)
        else:
            self._upsert(store, name)

    def _some_keys(self) -> list[str]:
        return self._choose.sample(self._keys, self._choose.randint(1, BATCH_MAX))

    def _version(self, name: str) -> str:
        lifetime = self._choose.choice(LIFETIMES_S)
        return name if lifetime is None else expiring(name, round(self._oracle.clock() + lifetime, 3))

    def _upsert(self, store: Store, name: str) -> None:
        version = self._version(name)
        versions = dict.fromkeys(self._some_keys(), version)
        results = self._request(store, versions, name, lambda to, request: to.upsert(versions, {}, request))
        self._judge_results(results, versions)
        if self._choose.random() < VALUES_SHARE:
            self._write_values(store, next(iter(versions)), version)

    def _upsert_over_a_version(self, store: Store, name: str) -> None:
        key, version = self._choose.choice(self._keys), self._version(name)
        if self._expires_soon(self._oracle.version(key)):
            return
        (stored,) = store.get([key])
        seq = stored.version if stored else 0
        if self._choose.random() < 0.5:
            versions = {key: version}
            send = self._request(store, versions, name, lambda to, request: to.upsert(versions, {key: seq}, request))
            self._judge_results(send, versions)
            return
        try:
            store.upsert({key: version}, {key: seq + 1}, None)
        except Aborted:
            return
        self.violations.append(f"{key!r} was stored over version {seq + 1}, though version {seq} stood there")

    def _delete(self, store: Store, name: str) -> None:
        keys, filter = self._some_keys(), None
        versions = {key: self._oracle.version(key) for key in self._keys}
        if self._choose.random() < MATCHING_SHARE and None not in versions.values():
            filter = {"$and": [{"owner": owner_of(keys[0])}, self._choose.choice(FILTERS)]}
            keys = [key for key, one in versions.items() if one and matches(filter, key, one)]
        began = self._oracle.clock()

        def send(to: Store, request: str | None) -> DeleteReceipt:
            return to.delete(keys, request) if filter is None else to.delete_matching(filter, request)

        receipt = self._request(store, dict.fromkeys(keys, ABSENT), name, send)
        self._judge_receipt(receipt, keys, versions, began)

    def _request(self, store: Store, versions: dict[str, str], name: str, send: Callable[[Store, str | None], T]) -> T:
        """Send a call, now and then as a request that is kept to be sent again."""
        if self._choose.random() >= REQUEST_SHARE:
            with self._oracle.change(versions):
                return send(store, None)
        self._sent.append(_Sent(versions, lambda to: send(to, name)))
        answer: T = self._carry_out(self._sent[-1], store)
        return answer

    def _carry_out(self, sent: _Sent, store: Store) -> Any:
        with self._oracle.change(sent.versions):
            sent.answer = sent.send(store)
        return sent.answer

    def _send_again(self, store: Store) -> None:
        """Nothing may come of it but the same answer: that it changes nothing the next examination sees."""
        sent = self._choose.choice(self._sent)
        answer = sent.send(store)
        if answer != sent.answer:
            self.violations.append(f"a request sent again is answered with {answer}, first with {sent.answer}")

    def _judge_results(self, results: Sequence[UpsertResult], versions: Mapping[str, str]) -> None:
        for (key, version), result in zip(versions.items(), results, strict=True):
            if (result.key, result.changed, result.memories) != (key, True, len(texts_of(key, version))):
                self.violations.append(f"the upsert of {key!r} in version {version!r} is answered with {result}")

    def _judge_receipt(
        self, receipt: DeleteReceipt, keys: Sequence[str], versions: Mapping[str, str | None], began: float
    ) -> None:
        for key in keys:
            version, told = versions[key], key in receipt.deleted
            might = {bool(standing(version or ABSENT, now)) for now in (began, self._oracle.clock())}
            if version is not None and told not in might:
                self.violations.append(f"{key!r} was {version or 'absent'!r}, its delete says {told}")
        if not set(receipt.deleted) <= set(keys):
            self.violations.append(f"deleted were {receipt.deleted}, asked for {keys}")

    def _write_values(self, store: Store, key: str, version: str) -> None:
        if self._expires_soon(version):
            return
        (stored,) = store.get([key])
        if stored is None:
            self.violations.append(f"{key!r} of version {version!r} is absent after its upsert was acknowledged")
            return
        for fingerprint in FINGERPRINTS:
            texts = zip(stored.memories, texts_of(key, version), strict=True)
            values = {seq: values_of(fingerprint, seq, text) for seq, text in texts}
            if store.put(fingerprint, values) != len(values):
                self.violations.append(f"key-values of {key!r} were not taken, though it lives")
            self._oracle.wrote(fingerprint, values)

    def _expires_soon(self, version: str | None) -> bool:
        return version is None or (expiry_of(version) or float("inf")) < self._oracle.clock() + SOON_S
