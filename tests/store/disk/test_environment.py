"""Disks and maps that are full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.errors import Corrupted, ResourceExhausted

from ..builders import KEY_VALUES, RECORDS, SNAPSHOT, collection_at, embedded, largest_file


def fill(collection: Collection) -> int:
    """Upsert until nothing more fits; return how many were taken."""
    for number in range(10_000):
        try:
            collection.upsert([embedded(f"fill {number}", "x" * 3000 + str(number))])
        except ResourceExhausted as error:
            assert "records" in str(error)  # noqa: PT017  # any of many calls may be the one that fails
            return number
    raise AssertionError("everything fits")


def test_a_full_map_refuses_a_write_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(limits, "BYTES_RESERVED", 0)
    with collection_at(tmp_path) as collection:
        taken = fill(collection)
        assert 0 < taken == collection.count().documents
        with pytest.raises(ResourceExhausted):
            collection.upsert([embedded("small", "x"), embedded("large", "y" * (1 << 20))])
        assert collection.get(["small", "large"]) == [None, None]
        assert collection.check(full=True).problems == ()
    with collection_at(tmp_path) as collection:
        assert collection.count().documents == taken
        assert collection.check(full=True).problems == ()


def test_a_full_disk_refuses_a_write_whole_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("first", "text")])
        with largest_file((tmp_path / RECORDS / "data.mdb").stat().st_size + (64 << 10)):
            taken = fill(collection)
            assert collection.count().documents == taken + 1
        assert collection.check(full=True).problems == ()
        collection.upsert([embedded("later", "x" * 100_000)])
        assert collection.count().documents == taken + 2
    with collection_at(tmp_path) as collection:
        assert collection.count().documents == taken + 2
        assert collection.check(full=True).problems == ()


def test_a_full_disk_refuses_key_values_whole(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(str(i), f"text {i}") for i in range(20)])
        collection.put_key_values("model", [(1, b"x" * 10_000)])
        with (
            largest_file((tmp_path / KEY_VALUES / "data.mdb").stat().st_size + 8192),
            pytest.raises(ResourceExhausted, match="kv"),
        ):
            collection.put_key_values("model", [(seq, b"x" * 10_000) for seq in range(2, 21)])
        assert collection.stats().warm == {"model": 1}
        assert collection.put_key_values("model", [(2, b"y" * 10_000)]) == [True]
        assert collection.check(full=True).problems == ()


def test_a_full_disk_keeps_the_old_snapshot(tmp_path: Path) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("first", "text")])
        collection.save()
        saved = (tmp_path / SNAPSHOT).read_bytes()
        collection.upsert([embedded("second", "text")])
        with largest_file(64), pytest.raises(ResourceExhausted, match="disk is full"):
            collection.save()
        assert (tmp_path / SNAPSHOT).read_bytes() == saved
        assert [entry.name for entry in (tmp_path / SNAPSHOT).parent.glob("*.tmp")] == []


READ_ALL = """
import sys
sys.path.insert(0, sys.argv[2])
from builders import collection_at
from memory3.store.errors import Corrupted

damaged = False
try:
    with collection_at(sys.argv[1]) as collection:
        for number in range(40):
            try:
                (stored,) = collection.get([f"key {number}"])
                assert stored is None or stored.text == f"text {number} " * 500
                (value,) = collection.fetch_key_values("model", [number + 1])
                assert value in (None, bytes([number + 1]) * 9_000)
            except Corrupted:
                damaged = True
        damaged = bool(collection.check(full=True).problems) or damaged
except Corrupted:
    damaged = True
sys.exit(3 if damaged else 0)
"""


@pytest.mark.parametrize(("environment", "code"), [(RECORDS, 3), (KEY_VALUES, 0)], ids=["records", "key-values"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_damage_and_not_the_end_of_the_process(
    tmp_path: Path, environment: Path, code: int, share: float
) -> None:
    """LMDB reads its file as memory: beyond the file's end that ended the whole server with SIGBUS.

    Key-values are not reported but begin anew: models can write them again.
    """
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded(f"key {number}", f"text {number} " * 500) for number in range(40)])
        collection.put_key_values("model", [(seq, bytes([seq]) * 9_000) for seq in range(1, 41)])
    file = tmp_path / environment / "data.mdb"
    os.truncate(file, int(file.stat().st_size * share))
    command = [sys.executable, "-c", READ_ALL, str(tmp_path), str(Path(__file__).parents[1])]
    assert subprocess.run(command, timeout=60).returncode == code


def test_a_file_cut_short_by_more_than_a_transaction_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text " * 20_000)])
    file = tmp_path / RECORDS / "data.mdb"
    size = file.stat().st_size
    os.truncate(file, size - (64 << 10))
    monkeypatch.setattr("memory3.store.disk.environment._SHORT_BYTES_MAX", 32 << 10)
    # In pages for which there is no time before an opening.
    monkeypatch.setattr("memory3.store.disk.set_aside.LOOKED_AT_TOGETHER_BYTES_MAX", 0)
    with pytest.raises(Corrupted, match=f"cut short: it has {size - (64 << 10)} bytes"), collection_at(tmp_path):
        pass


@pytest.mark.parametrize("table", [b"values", b"fingerprints", b"quarantine"])
@pytest.mark.parametrize("byte", [4, 40, 42])
def test_a_damaged_table_record_of_key_values_costs_key_values_and_nothing_else(
    tmp_path: Path, table: bytes, byte: int
) -> None:
    """LMDB calls it a bad transaction, which passed for `Unavailable` and kept the whole collection from opening."""
    with collection_at(tmp_path) as collection:
        collection.upsert([embedded("key", "text")])
        collection.put_key_values("model", [(1, b"value")])
    file = tmp_path / KEY_VALUES / "data.mdb"
    content = bytearray(file.read_bytes())
    at = content.find(table)
    assert at >= 0
    while at >= 0:  # the record of a table stands behind its name, here and in older pages
        content[at + len(table) + byte] ^= 4
        at = content.find(table, at + 1)
    file.write_bytes(content)
    with collection_at(tmp_path) as collection:
        assert collection.get(["key"])[0] is not None
        assert collection.fetch_key_values("model", [1]) in ([None], [b"value"])
        assert collection.check(full=True).problems == ()
