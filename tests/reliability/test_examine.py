"""The examination itself: each kind of wrong answer is noticed, or the proofs would prove nothing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.placement import shard_of_key
from memory3.store.types import Change, Count, Hit
from memory3.tests.reliability.access import Store
from memory3.tests.reliability.changing import Changer
from memory3.tests.reliability.content import DIMENSION, EMBEDDER, FILTERS, embedded_of, expiring, texts_of, values_of
from memory3.tests.reliability.examine import examine
from memory3.tests.reliability.oracle import ABSENT, Oracle
from memory3.tests.reliability.watching import Watching

MODEL = "model a"
SHARDS = 2
KEYS = [f"k-{number}" for number in range(40)]
A, B, C, D, E = [key for key in KEYS if shard_of_key(key, SHARDS) == 0][:5]
ELSEWHERE = next(key for key in KEYS if shard_of_key(key, SHARDS) == 1)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with DataDirectory.open(tmp_path) as directory:
        yield directory.create_collection("default", EMBEDDER, DIMENSION, SHARDS)


@pytest.fixture
def oracle(collection: Collection) -> Oracle:
    """Of three documents, one with key-values, and one that was deleted."""
    oracle = Oracle(SHARDS)
    for key in (A, B, C, D):
        with oracle.change({key: "1"}):
            collection.upsert([embedded_of(key, "1")])
    write_values(collection, oracle, A)
    assert examine(Store.of_collection(collection), oracle) == []
    with oracle.change({D: ABSENT}):
        collection.delete([D])
    assert examine(Store.of_collection(collection), oracle) == []
    return oracle


def write_values(collection: Collection, oracle: Oracle, key: str, of_text: str = "") -> None:
    (stored,) = collection.get([key])
    assert stored is not None
    texts = zip(stored.memories, texts_of(key, "1"), strict=True)
    collection.put_key_values(MODEL, [(seq, values_of(MODEL, seq, of_text or text)) for seq, text in texts])
    oracle.wrote(MODEL, list(stored.memories))


def expired(collection: Collection, oracle: Oracle) -> None:
    """Something that has expired for the oracle and not for the store."""
    version = expiring("2", time.time() + 60)
    with oracle.change({A: version}):
        collection.upsert([embedded_of(A, version)])
    oracle.clock = lambda: time.time() + 120


CHANGES: dict[str, tuple[Callable[[Collection, Oracle], object], str]] = {
    "a document lost": (lambda collection, _: collection.delete([A]), f"{A!r} is 'absent'"),
    "an old version": (lambda collection, _: collection.upsert([embedded_of(A, "0")]), f"{A!r} is '0'"),
    "a deleted document": (lambda collection, _: collection.upsert([embedded_of(D, "1")]), f"{D!r} is '1'"),
    "a stranger": (lambda collection, _: collection.upsert([embedded_of(E, "1")]), "never written"),
    "an expired document": (expired, f"{A!r} is '2@"),
    "wrong key-values": (lambda collection, oracle: write_values(collection, oracle, B, "other"), "are wrong"),
    "lost key-values": (lambda _, oracle: oracle.wrote(MODEL, list(range(1, 99))), "are lost"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_not_acknowledged_is_noticed(collection: Collection, oracle: Oracle, name: str) -> None:
    change, words = CHANGES[name]
    change(collection, oracle)
    assert any(words in problem for problem in examine(Store.of_collection(collection), oracle))


def unfiltered(store: Store) -> Any:
    return lambda token, filter: store.page(token, None)


def with_wrong_values(store: Store) -> Any:
    def recall(vector: Any, k: int, filter: Any, fingerprint: str | None) -> list[Hit]:
        return [replace(hit, key_values=b"another's") for hit in store.recall(vector, k, filter, fingerprint)]

    return recall


ANSWERS: dict[str, tuple[str, Callable[[Store], Any], str]] = {
    "a get without one": ("get", lambda store: lambda keys: [None] * len(keys), "get and list differ"),
    "a recall without the best": ("recall", lambda store: lambda *of: store.recall(*of)[1:], "too much"),
    "a recall in another order": ("recall", lambda store: lambda *of: store.recall(*of)[::-1], "order"),
    "a recall with other key-values": ("recall", with_wrong_values, "wrong key-values"),
    "a list that does not filter": ("page", unfiltered, "list gives and lacks"),
    "a count that is off": ("count", lambda store: lambda filter: Count(1, 1), "there are Count"),
    "key-values of the dead": ("fetch", lambda _: lambda _, seqs: [b"shines through"] * len(seqs), "forgotten seq"),
    "a check that fails": ("check", lambda store: lambda: ("something",), "check: something"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_wrong_answer_is_noticed(collection: Collection, oracle: Oracle, name: str) -> None:
    call, wrong, words = ANSWERS[name]
    store = Store.of_collection(collection)
    problems = examine(replace(store, **{call: wrong(store)}), oracle)
    assert any(words in problem for problem in problems)


def test_every_filter_matches_some_and_not_all(collection: Collection) -> None:
    store = Store.of_collection(collection)
    collection.upsert([embedded_of(key, "7") for key in KEYS[::2]] + [embedded_of(key, "3") for key in KEYS[1::2]])
    assert all(0 < store.count(filter).documents < len(KEYS) for filter in FILTERS)


def test_a_call_that_was_cut_off_stands_whole_or_not_at_all(collection: Collection, oracle: Oracle) -> None:
    """In each shard: between two of them a call may be cut in half."""
    with pytest.raises(RuntimeError), oracle.change({A: "2", B: "2", ELSEWHERE: "2"}):
        raise RuntimeError("cut off")
    before = oracle.copy()
    collection.upsert([embedded_of(A, "2")])
    assert any("a part stands" in problem for problem in examine(Store.of_collection(collection), oracle))
    collection.upsert([embedded_of(B, "2")])
    assert examine(Store.of_collection(collection), before) == []


def test_a_copy_holds_what_came_before_and_of_what_came_meanwhile_a_beginning(
    collection: Collection, oracle: Oracle
) -> None:
    moment = oracle.moment()
    for version in ("2", "3"):
        with oracle.change({A: version}):
            pass
    with oracle.change({B: "3"}):
        pass
    held = oracle.copy(moment)
    assert examine(Store.of_collection(collection), held.copy(moment)) == []
    collection.upsert([embedded_of(A, "2")])
    assert examine(Store.of_collection(collection), held.copy(moment)) == []
    collection.upsert([embedded_of(B, "3")])
    assert any("a part stands" in problem for problem in examine(Store.of_collection(collection), held.copy(moment)))
    collection.upsert([embedded_of(A, "3")])
    assert examine(Store.of_collection(collection), held.copy(moment)) == []
    collection.delete([A])
    assert examine(Store.of_collection(collection), held.copy(moment)) != []


WRONG: dict[str, tuple[str, Callable[[Store], Any], str]] = {
    "a request is carried out twice": (
        "upsert",
        lambda store: lambda versions, expected, _: store.upsert(versions, {}, None),
        "sent again is answered",
    ),
    "a version is not looked at": (
        "upsert",
        lambda store: lambda versions, _, request: store.upsert(versions, {}, request),
        "was stored over version",
    ),
    "a delete says nothing": (
        "delete",
        lambda store: lambda keys, request: replace(store.delete(keys, request), deleted=()),
        "its delete says False",
    ),
    "a filter deletes too much": (
        "delete_matching",
        lambda store: lambda filter, request: store.delete(KEYS, request),
        "asked for",
    ),
    "key-values are not taken": ("put", lambda store: lambda fingerprint, values: 0, "were not taken"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_change_that_is_answered_wrongly_is_noticed(collection: Collection, name: str) -> None:
    call, wrong, words = WRONG[name]
    store, changer = Store.of_collection(collection), Changer(Oracle(SHARDS), KEYS[:12], 0)
    for turn in range(120):
        changer.change(replace(store, **{call: wrong(store)}), f"{turn}")
    assert any(words in problem for problem in changer.violations)


def test_changes_that_are_answered_rightly_are_no_violation(collection: Collection) -> None:
    oracle, store = Oracle(SHARDS), Store.of_collection(collection)
    changer = Changer(oracle, KEYS[:12], 0)
    for turn in range(200):
        changer.change(store, f"{turn}")
    assert changer.violations == [] and examine(store, oracle) == []


def watched(collection: Collection, oracle: Oracle, versions: dict[str, str]) -> list[Change]:
    """What is told of the shard of the first keys, after one more call with these versions."""
    with oracle.change(versions):
        collection.upsert([embedded_of(key, version) for key, version in versions.items() if version])
        collection.delete([key for key, version in versions.items() if not version])
    return collection.changes(0, 1_000)


def judged(collection: Collection, oracle: Oracle, told: list[Change]) -> list[str]:
    watching = Watching(oracle, SHARDS)
    watching.begin([0], [], {})
    for change in told:
        watching.tell(change)
    documents = Store.of_collection(collection).documents()
    return watching.violations + watching.judge({document.key: document.version for document in documents})


TOLD: dict[str, tuple[Callable[[list[Change]], list[Change]], str]] = {
    "the last upsert is not told": (lambda told: told[:-2] + told[-1:], "told last was ('upsert', "),
    "the last delete is not told": (lambda told: told[:-1], f"{B!r} is gone, told last was"),
    "nothing is told of a key": (lambda told: [one for one in told if one.key != B], "nothing of it was told"),
    "nothing is told of what stands": (lambda told: [one for one in told if one.key != C], "told last was None"),
    "a change comes too late": (lambda told: [*told[:-2], told[-1], told[-2]], "comes after seq"),
    "a change comes twice": (lambda told: [*told, told[-1]], "comes after seq"),
    "an upsert too much": (lambda told: [*told, replace(told[0], seq=told[-1].seq + 1)], "not asked for"),
    "a delete too much": (lambda told: [*told, replace(told[-1], key=C, seq=told[-1].seq + 1)], "not asked for"),
    "a delete of what is gone": (lambda told: [*told, replace(told[-1], seq=told[-1].seq + 1)], "was deleted"),
    "a stranger": (lambda told: [*told, replace(told[0], key=E, seq=told[-1].seq + 1)], "not asked for"),
    "a change of another shard": (lambda told: [*told, replace(told[0], key=ELSEWHERE)], "is of shard 0"),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_watch_that_tells_something_else_is_noticed(collection: Collection, oracle: Oracle, name: str) -> None:
    wrong, words = TOLD[name]
    told = watched(collection, oracle, {A: "2", B: ABSENT})
    assert judged(collection, oracle, told) == []
    assert any(words in problem for problem in judged(collection, oracle, wrong(told)))


def test_a_delete_may_be_told_once_a_document_has_expired(collection: Collection, oracle: Oracle) -> None:
    version = expiring("2", time.time() + 60)
    told = watched(collection, oracle, {A: version})
    assert judged(collection, oracle, told) == []
    ended = [*told, Change(told[-1].seq + 1, "delete", A, time.time())]
    assert any("not asked for" in problem for problem in judged(collection, oracle, ended))
    oracle.clock = lambda: time.time() + 120
    assert not any("not asked for" in problem for problem in judged(collection, oracle, ended))
