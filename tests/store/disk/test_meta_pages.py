"""A damaged meta page must not take back what was acknowledged."""

from pathlib import Path

import lmdb
import pytest
from memory3.store.disk.meta_pages import check_meta_pages
from memory3.store.errors import Corrupted

from ..builders import KEY_VALUES, RECORDS, collection_at, embedded

VERSION_AT, MAP_BYTES_AT, LAST_PAGE_AT, NUMBER_AT = 20, 32, 136, 144
PAGE = 4_096


def flip(file: Path, at: int, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[at + bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def numbers(file: Path) -> list[int]:
    data = file.read_bytes()
    return [int.from_bytes(data[at : at + 8], "little") for at in (NUMBER_AT, PAGE + NUMBER_AT)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two documents with key-values, of which the last commit deleted one."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("a", "one"), embedded("b", "two")])
        collection.put_key_values("model", [(1, b"value"), (2, b"value")])
        collection.save()
        collection.delete(["a"])
        collection.close(save=False)
    return tmp_path


# Bit 1 is left out: it turns a number into the neighbour on the other side, or does not, as the number is.
@pytest.mark.parametrize("bit", [0, 2, 3, 7, 31, 63])
@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_number_does_not_bring_back_what_was_deleted(data: Path, place: int, bit: int) -> None:
    """The number of the newest page lost a bit, LMDB went by the other page, and the deleted document answered."""
    flip(data / RECORDS / "data.mdb", place * PAGE + NUMBER_AT, bit)
    with pytest.raises(Corrupted, match="do not follow each other"), collection_at(data):
        pass


@pytest.mark.parametrize("at", [NUMBER_AT, VERSION_AT, PAGE + VERSION_AT])
def test_key_values_with_a_damaged_meta_page_begin_anew(data: Path, at: int) -> None:
    """An unknown version passed for a store that may be tried again, and kept the collection from being opened."""
    flip(data / KEY_VALUES / "data.mdb", at, 5)
    with collection_at(data) as collection:
        assert collection.fetch_key_values("model", [1, 2]) == [None, None]
        assert collection.check(full=True).problems == ()


@pytest.mark.parametrize("at", [MAP_BYTES_AT, LAST_PAGE_AT])
def test_a_size_that_no_process_can_map_is_damage(data: Path, at: int) -> None:
    """It passed for a machine without memory, and kept the collection from being opened for its key-values' sake."""
    flip(data / KEY_VALUES / "data.mdb", at, 45)
    with collection_at(data) as collection:
        assert collection.fetch_key_values("model", [1, 2]) == [None, None]
        assert collection.check(full=True).problems == ()


def test_whole_files_pass(data: Path, tmp_path: Path) -> None:
    """One that was never written to, one after each of some commits, and both kinds of copy."""
    environment = lmdb.open(str(tmp_path / "new"), map_size=1 << 20)
    file = tmp_path / "new" / "data.mdb"
    seen = []
    for number in range(4):
        check_meta_pages(file)
        seen.append(numbers(file))
        with environment.begin(write=True) as txn:
            txn.put(b"key", b"%d" % number)
    assert seen[0] == [0, 0] and len({tuple(pair) for pair in seen}) == 4
    for compact in (False, True):
        (tmp_path / f"copy {compact}").mkdir()
        environment.copy(str(tmp_path / f"copy {compact}"), compact=compact)
        check_meta_pages(tmp_path / f"copy {compact}" / "data.mdb")
    environment.close()


@pytest.mark.parametrize("content", [b"", b"short", bytes(20_000), b"\xff" * 20_000])
def test_what_is_no_lmdb_file_is_left_to_lmdb(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    check_meta_pages(tmp_path / "data.mdb")
