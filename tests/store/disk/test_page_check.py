"""Pages that fit together are passed, whatever a store has been through; each kind of misfit is found."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from memory3.store.disk.environment import DATA_FILE
from memory3.store.disk.page_check import look_at
from memory3.tests.reliability.pages import PAGE, Page, pages_in_use

TABLES = ("records", "values")
LONG = 5 * PAGE
META_BYTES = 152


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two tables of two levels, with values on pages of their own, and a list of free pages."""
    with lmdb.open(str(tmp_path), map_size=1 << 30, max_dbs=4) as environment:
        fill(environment, 400)
        for name in TABLES:
            table = environment.open_db(name.encode())
            with environment.begin(write=True) as txn:
                for number in range(0, 400, 3):
                    txn.delete(key_of(number), db=table)
    return tmp_path / DATA_FILE


def fill(environment: lmdb.Environment, count: int) -> None:
    for name in TABLES:
        table = environment.open_db(name.encode())
        with environment.begin(write=True) as txn:
            for number in range(count):
                txn.put(key_of(number), bytes(LONG if name == "values" and number % 5 == 0 else 100), db=table)


def key_of(number: int) -> bytes:
    return f"key {number:06}".encode()


def page_of(file: Path, kind: str, table: str) -> Page:
    return next(page for page in pages_in_use(file.read_bytes()) if (page.kind, page.table) == (kind, table))


def put(file: Path, at: int, content: bytes) -> None:
    data = bytearray(file.read_bytes())
    data[at : at + len(content)] = content
    file.write_bytes(data)


def node_of(file: Path, page: Page, number: int = 0) -> int:
    """Where a node of a page lies in the file."""
    place = page.start + 16 + 2 * number
    return page.start + int.from_bytes(file.read_bytes()[place : place + 2], "little")


def test_pages_fit(file: Path) -> None:
    kinds = {(page.kind, page.table) for page in pages_in_use(file.read_bytes())}
    assert {("branch", "records"), ("leaf", "values"), ("overflow", "values"), ("leaf", "free")} <= kinds
    assert look_at(file).unfit is None


def test_they_fit_after_any_history(tmp_path: Path) -> None:
    """Values of all sizes that come, change and go, also under a read, and a table that is emptied."""
    choose = random.Random(3)
    file = tmp_path / DATA_FILE
    with lmdb.open(str(tmp_path), map_size=1 << 30, max_dbs=4) as environment:
        assert look_at(file).unfit is None
        tables = [environment.open_db(name.encode()) for name in TABLES]
        reading = environment.begin()
        for turn in range(60):
            with environment.begin(write=True) as txn:
                for _ in range(choose.randrange(200)):
                    key, table = bytes(choose.randrange(1, 400)) + choose.randbytes(2), choose.choice(tables)
                    if choose.random() < 0.4:
                        txn.delete(key, db=table)
                    else:
                        txn.put(key, bytes(choose.choice([0, 1, 100, 2_000, 3_000, LONG, 20 * LONG])), db=table)
                if turn == 40:
                    txn.drop(tables[0], delete=False)
            if turn % 7 == 0:
                reading.abort()
                reading = environment.begin()
            assert look_at(file).unfit is None
        reading.abort()


def test_a_list_of_free_pages_may_have_pages_of_its_own(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), map_size=1 << 30, max_dbs=4) as environment:
        fill(environment, 4_000)
        with environment.begin(write=True) as txn:
            txn.drop(environment.open_db(b"values", txn), delete=False)
    file = tmp_path / DATA_FILE
    assert any((page.kind, page.table) == ("overflow", "free") for page in pages_in_use(file.read_bytes()))
    assert look_at(file).unfit is None


@pytest.mark.parametrize("size", [0, 100, META_BYTES, PAGE, 2 * PAGE - 1])
def test_a_file_without_pages_is_left_to_lmdb(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])
    assert look_at(file).unfit is None


@pytest.mark.parametrize("at", [16, 20, 40])
def test_pages_of_another_kind_are_left_to_lmdb(file: Path, at: int) -> None:
    """Another program's file, another version's, or pages of a size that there is none of."""
    harm = in_page("leaf", "records", 10, b"\x01")
    harm(file)
    put(file, at, b"\x55")
    assert look_at(file).unfit is None


def test_a_file_that_is_cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: 8 * PAGE])
    assert look_at(file).unfit is not None


Harm = Callable[[Path], None]


def in_page(kind: str, table: str, at: int, content: bytes) -> Harm:
    return lambda file: put(file, page_of(file, kind, table).start + at, content)


def in_node(kind: str, table: str, at: int, content: bytes, number: int = 0) -> Harm:
    return lambda file: put(file, node_of(file, page_of(file, kind, table), number) + at, content)


def in_value(at: int, content: bytes) -> Harm:
    """In the number of the page where the first value of `values` that has its own begins, behind its key."""
    key = len(key_of(0))
    return lambda file: put(file, elsewhere(file) + 8 + key + at, content)


def elsewhere(file: Path) -> int:
    page = page_of(file, "leaf", "values")
    data = file.read_bytes()
    places = range(page.start + 16, page.start + struct.unpack_from("<H", data, page.start + 12)[0], 2)
    nodes = [page.start + int.from_bytes(data[place : place + 2], "little") for place in places]
    return next(node for node in nodes if data[node + 4] & 1)


def root_of(file: Path, number: int) -> int:
    """Where the newest meta page keeps the record of the table of free pages or of tables."""
    data = file.read_bytes()
    newest = max(range(2), key=lambda meta: struct.unpack_from("<Q", data, meta * PAGE + 144)[0])
    return newest * PAGE + 40 + 48 * number


def free_number(file: Path) -> int:
    """Where the first page stands that is free, in an entry of the list."""
    return node_of(file, page_of(file, "leaf", "free")) + 8 + 8 + 8


def name_used_page_free(file: Path) -> None:
    used = page_of(file, "leaf", "records").number
    put(file, free_number(file), used.to_bytes(8, "little"))


def lead_twice(file: Path) -> None:
    branch = page_of(file, "branch", "records")
    data = file.read_bytes()
    first, second = (node_of(file, branch, number) for number in (0, 1))
    put(file, second, data[first : first + 6])


def in_leaf_after_first(at: int, content: bytes) -> Harm:
    """In the first node of the second leaf of `records`."""

    def harm(file: Path) -> None:
        leaves = [page for page in pages_in_use(file.read_bytes()) if (page.kind, page.table) == ("leaf", "records")]
        put(file, node_of(file, leaves[1]) + at, content)

    return harm


HARMS: dict[str, tuple[Harm, str]] = {
    "the number of a page": (in_page("leaf", "records", 0, b"\xff"), "page of another kind"),
    "a leaf that is a branch": (in_page("leaf", "records", 10, b"\x01"), "page of another kind"),
    "a branch that is a leaf": (in_page("branch", "records", 10, b"\x02"), "page of another kind"),
    "a leaf without nodes": (in_page("leaf", "records", 12, struct.pack("<H", 16)), "no room"),
    "a branch of one child": (in_page("branch", "records", 12, struct.pack("<H", 18)), "no room"),
    "nodes behind the page": (in_page("leaf", "records", 14, struct.pack("<H", 5_000)), "no room"),
    "a node in the free space": (in_page("leaf", "records", 16, struct.pack("<H", 20)), "outside of its page"),
    "a node at the end": (in_page("leaf", "records", 16, struct.pack("<H", PAGE - 2)), "outside of its page"),
    "a node at an odd place": (in_page("leaf", "records", 16, struct.pack("<H", PAGE - 101)), "outside of its page"),
    "a longer value": (in_node("leaf", "records", 0, b"\x80"), "overlap"),
    "a value longer than the file": (in_node("leaf", "records", 2, b"\xff\xff"), "overlap"),
    "a shorter key": (in_node("leaf", "records", 6, b"\x07"), "overlap"),
    "a key longer than keys may be": (in_node("leaf", "records", 6, b"\xff\x7f"), "too long"),
    "an empty key": (in_node("leaf", "records", 6, b"\0\0"), "no kind"),
    "a table among values": (in_node("leaf", "records", 4, b"\x02"), "no kind"),
    "a record of another size": (in_node("leaf", "main", 6, b"\x03"), "overlap"),
    "a child behind the last page": (in_node("branch", "records", 0, b"\xff\xff\xff\xff"), "out of the file"),
    "a branch's empty key": (in_node("branch", "records", 6, b"\0\0", 1), "without a key"),
    "a branch's greater key": (in_node("branch", "records", 8, b"z", 1), "where nobody looks"),
    "a branch's smaller key": (in_node("branch", "records", 8, b"a", 1), "where nobody looks"),
    "a first key that is too small": (in_leaf_after_first(8, b"a"), "where nobody looks"),
    "a first key that is too great": (in_node("leaf", "records", 8, b"z"), "out of order"),
    "a child that is another's": (lead_twice, "twice"),
    "a value behind the last page": (in_value(0, b"\xff\xff\xff\xff"), "out of the file"),
    "a value on a meta page": (in_value(0, struct.pack("<Q", 0)), "page of another"),
    "a value of pages beyond the end": (
        lambda file: put(file, elsewhere(file), b"\xff\xff\xff\x7f"),
        "out of the file",
    ),
    "a value's page of another kind": (in_page("overflow", "values", 10, b"\x02"), "which are none"),
    "more pages of a value": (in_page("overflow", "values", 12, b"\x09"), "which are none"),
    "the number of a value's page": (in_page("overflow", "values", 0, b"\x09"), "which are none"),
    "a used page that is free": (name_used_page_free, "leads to a page of another"),
    "a free page behind the last": (lambda file: put(file, free_number(file), b"\xff" * 8), "out of order"),
    "more free pages than there are": (lambda file: put(file, free_number(file) - 8, b"\xff" * 8), "entry of"),
    "no depth": (lambda file: put(file, root_of(file, 1) + 6, b"\0\0"), "0 pages deep"),
    "another depth": (lambda file: put(file, root_of(file, 1) + 6, b"\2\0"), "another kind"),
    "another number of leaves": (lambda file: put(file, root_of(file, 1) + 16, b"\x07"), "number of pages"),
    "another number of values": (lambda file: put(file, root_of(file, 1) + 32, b"\x07"), "number of values"),
    "no root": (lambda file: put(file, root_of(file, 1) + 40, b"\xff" * 8), "is empty, with pages"),
    "a root behind the last page": (
        lambda file: put(file, root_of(file, 0) + 40, struct.pack("<Q", 1 << 40)),
        "out of the file",
    ),
    "a last page beyond all": (lambda file: put(file, root_of(file, 1) + 55, b"\x01"), "has 7"),
}


@pytest.mark.parametrize("name", HARMS)
def test_what_does_not_fit_is_found(file: Path, name: str) -> None:
    harm, told = HARMS[name]
    harm(file)
    assert told in (look_at(file).unfit or "it fits")


OF_VALUES = {
    "a value on a meta page",
    "a value's page of another kind",
    "more pages of a value",
    "the number of a value's page",
}
"""What only the pages of values say, or show."""


@pytest.mark.parametrize("name", HARMS)
def test_of_a_large_file_the_trees_are_looked_at(file: Path, name: str) -> None:
    trees = [page for page in pages_in_use(file.read_bytes()) if page.kind in ("branch", "leaf")]
    harm, told = HARMS[name]
    harm(file)
    look = look_at(file, len(trees) * PAGE)
    assert look.bytes <= len(trees) * PAGE
    assert look.unfit is None if name in OF_VALUES else told in (look.unfit or "it fits")


@pytest.mark.parametrize("table", TABLES)
def test_of_a_large_file_the_smaller_tables_are_looked_at(file: Path, table: str) -> None:
    """A table for which there is no time is passed over, and what comes before it is not."""
    trees = [page for page in pages_in_use(file.read_bytes()) if page.kind in ("branch", "leaf")]
    largest = max(TABLES, key=lambda name: sum(page.table == name for page in trees))
    put(file, page_of(file, "leaf", table).start + 10, b"\x01")
    unfit = look_at(file, (len(trees) - 1) * PAGE).unfit
    assert (unfit is None) == (table == largest)


def test_nothing_else_is_raised(file: Path) -> None:
    """Whatever bytes a page has, something is told of it, or it fits."""
    whole, choose = file.read_bytes(), random.Random(7)
    pages = pages_in_use(whole)
    told = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(choose.choice([1, 1, 2, 20])):
            used = choose.choice(choose.choice(pages).used)
            data[
                choose.choice(
                    [choose.randrange(used.start, used.stop), min(used.start + choose.randrange(32), used.stop)]
                )
            ] = choose.randrange(256)
        file.write_bytes(data)
        told += look_at(file).unfit is not None
    assert 100 < told < 500
