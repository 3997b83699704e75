"""Disks and maps that are full."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.errors import ResourceExhausted

from .builders import KEY_VALUES, RECORDS, SNAPSHOT, collection_at, embedded


def fill(collection: Collection) -> int:
    """Upsert until nothing more fits; return how many were taken."""
    for number in range(10_000):
        try:
            collection.upsert([embedded(f"fill {number}", "x" * 3000 + str(number))])
        except ResourceExhausted as error:
            assert "records" in str(error)  # noqa: PT017  # any of many calls may be the one that fails
            return number
    raise AssertionError("everything fits")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_map_refuses_a_write_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_BYTES_MAX", 1 << 20)
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
