"""Whoever reads a table in parts comes to an end, whatever a flipped bit has made of one of its keys."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from memory3.store.checks import findings
from memory3.store.disk import walk
from memory3.store.disk.environment import DATA_FILE, Environment
from memory3.store.disk.page_check import look_at
from memory3.store.index import building
from memory3.store.index.building import Builder
from memory3.store.limits import KEY_VALUES_BYTES_MAX
from memory3.tests.reliability.pages import pages_in_use

from ..builders import RECORDS, collection_at, embedded

COUNT = 12
PARTS_MAX = 20 * COUNT
"""More than anybody needs who goes on, of one value each."""
Damage = Callable[[str], Path]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "less": lambda key: b"\0" * len(key),
    "greater": lambda key: b"\xff" * len(key),
    "a little greater": lambda key: key[:-1] + bytes([key[-1] + 3]),
}


PLACES = (1, 2, COUNT // 2)
"""Of the key that is changed, in its page: which keys look-ups come to hangs on it."""


@pytest.fixture(params=itertools.product(CHANGES, PLACES), ids=lambda drawn: f"{drawn[0]}, {drawn[1]}")
def damage(tmp_path: Path, request: pytest.FixtureRequest) -> Damage:
    """Change a key of a table's only page, which belongs before or behind others then; returns the directory."""
    changed, number = request.param

    def change(table: str) -> Path:
        with collection_at(tmp_path) as collection:
            collection.upsert([embedded(f"key {number:02}", f"text {number}") for number in range(COUNT)])
        file = tmp_path / RECORDS / DATA_FILE
        data = bytearray(file.read_bytes())
        pages = pages_in_use(bytes(data))
        page = next(page for page in pages if (page.kind, page.table) == ("leaf", table))
        place = page.start + 16 + 2 * number
        node = page.start + int.from_bytes(data[place : place + 2], "little")
        key = slice(node + 8, node + 8 + int.from_bytes(data[node + 6 : node + 8], "little"))
        data[key] = CHANGES[changed](bytes(data[key]))
        file.write_bytes(data)
        assert look_at(file).unfit is None
        return tmp_path

    return change


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("table", ["documents", "changes"])
def test_a_check_ends_and_tells_of_it(damage: Damage, table: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "_BATCH", size)
    looks = 0

    def look(done: int, total: int) -> None:
        nonlocal looks
        looks += 1
        assert looks < PARTS_MAX, "the check goes round in circles"

    with collection_at(damage(table)) as collection:
        assert collection.check(full=True, progress=look).problems


@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_index_is_built_of_each_memory_once(damage: Damage, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_SEQS_AT_ONCE", size)
    with collection_at(damage("memories")) as collection:
        records = collection._shards[0]._records
        with records.environment.writing() as txn:
            # The terms tell another number of memories, so that these themselves are looked through.
            records.terms.remove(txn, {}, range(1, 2))
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1
            assert looks < PARTS_MAX, "the index goes round in circles"

        seqs = Builder(records, lambda damages: None)._seqs(look).tolist()
        assert seqs == sorted(set(seqs)) and set(seqs) <= set(range(1, COUNT + 1))
        # Which others a look-up comes to hangs on LMDB.
        assert seqs


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_walk_ends(damage: Damage, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "_BATCH", size)
    looks = 0

    def next_of(key: bytes) -> bytes:
        nonlocal looks
        looks += 1
        assert looks < 20 * PARTS_MAX, "the walk goes round in circles"
        return key + b"\0"

    monkeypatch.setattr(walk, "_next", next_of)
    environment = Environment(damage("documents") / RECORDS, KEY_VALUES_BYTES_MAX, durable=True)
    walk._visit(environment)
    environment.close()
    assert looks
