"""The examination itself: each kind of wrong answer is noticed, or the proofs would prove nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.tests.reliability.content import DIMENSION, EMBEDDER, embedded_of, texts_of, values_of
from memory3.tests.reliability.examine import Store, examine
from memory3.tests.reliability.oracle import ABSENT, Oracle

MODEL = "model a"


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with DataDirectory.open(tmp_path) as directory:
        yield directory.create_collection("default", EMBEDDER, DIMENSION)


@pytest.fixture
def oracle(collection: Collection) -> Oracle:
    """Of three documents, one with key-values, and one that was deleted."""
    oracle = Oracle()
    for key in "abcd":
        with oracle.change({key: "1"}):
            collection.upsert([embedded_of(key, "1")])
    write_values(collection, oracle, "a")
    assert examine(Store.of_collection(collection), oracle) == []
    with oracle.change({"d": ABSENT}):
        collection.delete(["d"])
    assert examine(Store.of_collection(collection), oracle) == []
    return oracle


def write_values(collection: Collection, oracle: Oracle, key: str, of_text: str = "") -> None:
    (stored,) = collection.get([key])
    assert stored is not None
    texts = zip(stored.memories, texts_of(key, "1"), strict=True)
    collection.put_key_values(MODEL, [(seq, values_of(MODEL, seq, of_text or text)) for seq, text in texts])
    oracle.wrote(MODEL, list(stored.memories))


CHANGES: dict[str, tuple[Callable[[Collection, Oracle], object], str]] = {
    "a document lost": (lambda collection, _: collection.delete(["a"]), "'a' is 'absent'"),
    "an old version": (lambda collection, _: collection.upsert([embedded_of("a", "0")]), "'a' is '0'"),
    "a deleted document": (lambda collection, _: collection.upsert([embedded_of("d", "1")]), "'d' is '1'"),
    "a stranger": (lambda collection, _: collection.upsert([embedded_of("e", "1")]), "never written"),
    "wrong key-values": (lambda collection, oracle: write_values(collection, oracle, "b", "other"), "are wrong"),
    "lost key-values": (lambda _, oracle: oracle.wrote(MODEL, list(range(1, 99))), "are lost"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_not_acknowledged_is_noticed(collection: Collection, oracle: Oracle, name: str) -> None:
    change, words = CHANGES[name]
    change(collection, oracle)
    assert any(words in problem for problem in examine(Store.of_collection(collection), oracle))


def dead(store: Store, collection: Collection) -> Any:
    return lambda fingerprint, seqs: [b"shines through"] * len(seqs)


ANSWERS: dict[str, tuple[str, Callable[[Store, Collection], Any], str]] = {
    "a get without one": ("get", lambda store, _: lambda keys: [None] * len(keys), "get and list differ"),
    "a recall without the best": ("recall", lambda store, _: lambda v, k: store.recall(v, k)[1:], "too much"),
    "a recall in another order": ("recall", lambda store, _: lambda v, k: store.recall(v, k)[::-1], "order"),
    "key-values of the dead": ("fetch", dead, "forgotten seq"),
    "a check that fails": ("check", lambda store, _: lambda: ("something",), "check: something"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_wrong_answer_is_noticed(collection: Collection, oracle: Oracle, name: str) -> None:
    call, wrong, words = ANSWERS[name]
    store = Store.of_collection(collection)
    problems = examine(replace(store, **{call: wrong(store, collection)}), oracle)
    assert any(words in problem for problem in problems)


def test_a_call_that_was_cut_off_stands_whole_or_not_at_all(collection: Collection, oracle: Oracle) -> None:
    with pytest.raises(RuntimeError), oracle.change({"a": "2", "b": "2"}):
        raise RuntimeError("cut off")
    before = oracle.copy()
    collection.upsert([embedded_of("a", "2")])
    assert any("a part stands" in problem for problem in examine(Store.of_collection(collection), oracle))
    collection.upsert([embedded_of("b", "2")])
    assert examine(Store.of_collection(collection), before) == []
