"""The bytes that an old read holds, against what LMDB does with them."""

import random
from contextlib import ExitStack
from pathlib import Path

import pytest
from memory3.store.disk.environment import DATA_FILE, Environment, Table
from memory3.store.disk.free_pages import bytes_freed_since
from memory3.store.errors import Corrupted

PAGE = 4_096
VALUE = 20_000
SPARE = 16 * PAGE
"""What a commit takes for the tree itself."""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment.create(tmp_path / "environment", 1 << 30, durable=False)


@pytest.fixture
def table(environment: Environment) -> Table[bytes]:
    return environment.table("values", bytes, bytes)


def write(environment: Environment, table: Table[bytes], commits: int, values: int = 20) -> None:
    """Replace the same values in so many commits: each frees what the one before it took."""
    for number in range(commits):
        with environment.writing() as txn:
            for key in range(values):
                table.put(txn, b"%d" % key, b"%d" % number + bytes(VALUE))


def held(environment: Environment) -> int:
    with environment.reading() as txn:
        assert 0 <= environment.held_bytes(txn) <= environment.free_bytes(txn)
        return environment.held_bytes(txn)


def test_nothing_is_held_without_an_old_read(environment: Environment, table: Table[bytes]) -> None:
    assert held(environment) == 0
    write(environment, table, 5)
    assert held(environment) == 0
    with environment.reading() as txn:
        assert environment.held_bytes(txn) == 0
    environment.close()


def test_what_an_old_read_holds_makes_the_file_grow_and_nothing_else_does(
    environment: Environment, table: Table[bytes]
) -> None:
    write(environment, table, 10)
    before = environment.file_bytes()
    with environment.reading() as old:
        write(environment, table, 1)
        # And what the commit that it sees has freed.
        assert 0 < held(environment) < 3 * 20 * VALUE
        write(environment, table, 30)
        grown, found = environment.file_bytes(), held(environment)
        assert table.get(old, b"0") == b"9" + bytes(VALUE)
        # Of what is dead all but what was free before the read is held.
        assert found > 30 * 20 * VALUE and grown - before == pytest.approx(found, rel=0.1)
        # A younger read sees less, and what the older one holds is held.
        with environment.reading():
            write(environment, table, 1)
            assert held(environment) > found
    # Nothing is held any more: as much as was held is written, and the file stays as it is.
    assert held(environment) == 0
    write(environment, table, 25)
    assert environment.file_bytes() <= grown + 3 * 20 * VALUE
    environment.close()


@pytest.mark.parametrize(("commits", "values"), [(1, 1), (3, 400), (700, 1)])
def test_every_size_of_list_is_read(environment: Environment, table: Table[bytes], commits: int, values: int) -> None:
    """Entries on pages of their own, and lists with branches."""
    write(environment, table, 2, values)
    with environment.reading():
        start = environment.reach()
        write(environment, table, commits, values)
        assert held(environment) == pytest.approx(environment.reach() - start + values * VALUE, rel=0.1, abs=SPARE)
    environment.close()


def test_a_damaged_list_is_refused_and_harms_nobody(environment: Environment, table: Table[bytes]) -> None:
    choose = random.Random(0)
    write(environment, table, 3)
    with ExitStack() as old:
        old.enter_context(environment.reading())
        write(environment, table, 60, 3)
        with environment.reading() as txn:
            first = txn.id() - 60
        data = (environment.path / DATA_FILE).read_bytes()
    whole = bytes_freed_since(environment.path / DATA_FILE, first)
    environment.close()
    copy = environment.path / "copy"
    found: list[int] = []
    refused: list[str] = []
    lists = [start for start in range(2 * PAGE, len(data), PAGE) if data[start + 10] in (1, 2)]
    for turn in range(2_000):
        damaged = bytearray(data)
        for _ in range(8):
            damaged[choose.choice(lists) + choose.randrange(PAGE)] = choose.choice((0, 1, 2, 255))
        damaged[choose.choice((40, 64, 152, PAGE + 40, PAGE + 64, PAGE + 152)) + turn % 2] ^= turn % 3
        copy.write_bytes(damaged)
        try:
            found.append(bytes_freed_since(copy, first))
        except Corrupted as error:
            refused.append(str(error))
    assert whole in found and refused and all("list of free pages" in words for words in refused)


def test_damage_is_told_and_costs_nothing(
    environment: Environment, table: Table[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise Corrupted("its list")

    monkeypatch.setattr("memory3.store.disk.environment.bytes_freed_since", refuse)
    with environment.reading():
        write(environment, table, 1)
        with environment.reading() as txn, pytest.raises(Corrupted, match="its list"):
            environment.held_bytes(txn)
    assert not environment.broken
    environment.close()
