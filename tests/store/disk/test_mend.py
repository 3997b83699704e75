"""Key-values whose pages do not fit together are copied where all of them can be read, and begin anew where not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from memory3.store.directory import DataDirectory
from memory3.store.disk import mend
from memory3.store.disk.durable import TEMPORARY
from memory3.store.disk.environment import DATA_FILE, UNFIT_FILE
from memory3.store.disk.mend import mended
from memory3.store.disk.page_check import look_at
from memory3.tests.reliability.pages import PAGE, Page, pages_in_use

from ..builders import DIMENSION, EMBEDDER, embedded

MODEL = "model"
COUNT = 300
FREED = 40


def value_of(seq: int) -> bytes:
    return b"%06d" % seq + bytes(5_000)


@pytest.fixture
def kv(tmp_path: Path) -> Path:
    """The key-values of a shard that is well closed: of several pages of keys, and with free pages."""
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION)
        results = collection.upsert([embedded(f"key {number}", f"text {number}") for number in range(COUNT)])
        collection.put_key_values(MODEL, [(result.version, value_of(result.version)) for result in results])
        collection.delete([f"key {number}" for number in range(FREED)])
    (found,) = tmp_path.glob("collections/*/shard-0000/kv")
    return found


def root_of(kv: Path) -> Path:
    return kv.parents[3]


def page_of(kv: Path, kind: str, table: str) -> Page:
    data = (kv / DATA_FILE).read_bytes()
    return next(page for page in pages_in_use(data) if (page.kind, page.table) == (kind, table))


def put(kv: Path, at: int, content: bytes) -> None:
    with (kv / DATA_FILE).open("r+b") as file:
        file.seek(at)
        file.write(content)


def in_page(kind: str, table: str, at: int, content: bytes) -> Callable[[Path], None]:
    return lambda kv: put(kv, page_of(kv, kind, table).start + at, content)


def name_used_page_free(kv: Path) -> None:
    start = page_of(kv, "leaf", "free").start
    node = start + int.from_bytes((kv / DATA_FILE).read_bytes()[start + 16 : start + 18], "little")
    put(kv, node + 8 + 8 + 8, page_of(kv, "leaf", "values").number.to_bytes(8, "little"))


HARMLESS: dict[str, Callable[[Path], None]] = {
    "the number of a page": in_page("leaf", "values", 7, b"\1"),
    "the number of a value's page": in_page("overflow", "values", 0, b"\x09"),
    "more pages of a value": in_page("overflow", "values", 12, b"\x09"),
    "a used page that is free": name_used_page_free,
}


def shorten(kv: Path) -> None:
    """One node fewer in a leaf."""
    page = page_of(kv, "leaf", "values")
    data = (kv / DATA_FILE).read_bytes()
    lower = int.from_bytes(data[page.start + 12 : page.start + 14], "little")
    put(kv, page.start + 12, (lower - 2).to_bytes(2, "little"))


def lengthen(kv: Path) -> None:
    """A value longer than the file, which ends who reads it."""
    page = page_of(kv, "leaf", "values")
    node = page.start + int.from_bytes((kv / DATA_FILE).read_bytes()[page.start + 16 : page.start + 18], "little")
    put(kv, node + 2, ((kv / DATA_FILE).stat().st_size // PAGE).to_bytes(2, "little"))


LOSSY: dict[str, Callable[[Path], None]] = {
    "a value's page of another kind": in_page("overflow", "values", 10, b"\2"),
    "a value that nothing leads to": shorten,
    "a value longer than the file": lengthen,
}


def assert_served(path: Path, kept: bool) -> None:
    with DataDirectory.open(path) as directory:
        collection = directory.collection("default")
        seqs = range(FREED + 1, COUNT + 1)
        values = [value_of(seq) if kept else None for seq in seqs]
        assert collection.fetch_key_values(MODEL, seqs) == values
        assert collection.check(full=True).problems == ()
        assert all(collection.put_key_values(MODEL, [(seq, value_of(seq)) for seq in seqs]))
        collection.delete([f"key {number}" for number in range(COUNT // 2)])
        assert collection.check(full=True).problems == ()


@pytest.mark.parametrize("ended", [0, 1])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_can_be_read_whole_is_copied(kv: Path, name: str, ended: int, caplog: pytest.LogCaptureFixture) -> None:
    """And is changed again, though it did not fit before."""
    HARMLESS[name](kv)
    (root_of(kv) / "lock").write_text(f"{ended}")
    unfit = look_at(kv / DATA_FILE).unfit
    assert unfit
    assert_served(root_of(kv), kept=True)
    assert look_at(kv / DATA_FILE).unfit is None
    assert unfit in caplog.text and "was copied" in caplog.text
    assert not list(kv.rglob(f"*{TEMPORARY}*")) and not (kv / UNFIT_FILE).exists()


@pytest.mark.parametrize("name", LOSSY)
def test_what_cannot_be_read_whole_begins_anew(kv: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    LOSSY[name](kv)
    assert look_at(kv / DATA_FILE).unfit
    before = (kv / DATA_FILE).read_bytes()
    assert not mended(kv)
    assert f"{kv} cannot be copied whole: " in caplog.text
    assert (kv / DATA_FILE).read_bytes() == before
    assert not list(kv.rglob(f"*{TEMPORARY}*"))
    assert_served(root_of(kv), kept=False)


def test_keys_that_change_places_are_not_copied(kv: Path) -> None:
    """The first two of a page, in which nobody looks at all of them before."""
    start = page_of(kv, "leaf", "values").start
    places = (kv / DATA_FILE).read_bytes()[start + 16 : start + 20]
    put(kv, start + 16, places[2:] + places[:2])
    assert not mended(kv)


def test_a_copy_is_made_in_several_transactions(kv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mend, "_BATCH_BYTES", 100_000)
    HARMLESS["the number of a page"](kv)
    mend._copy(kv)
    os.replace(kv / (DATA_FILE + TEMPORARY), kv / DATA_FILE)
    assert look_at(kv / DATA_FILE).unfit is None
    assert_served(root_of(kv), kept=True)


@pytest.mark.parametrize("limit", ["MENDED_BYTES_MAX", "free_bytes"])
def test_what_is_too_large_begins_anew(kv: Path, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (kv / DATA_FILE).stat().st_size
    monkeypatch.setattr(mend, limit, size - 1 if limit == "MENDED_BYTES_MAX" else lambda _: size)
    HARMLESS["the number of a page"](kv)
    assert_served(root_of(kv), kept=False)


def test_what_a_crash_left_of_a_copy_is_no_harm(kv: Path) -> None:
    (kv / (DATA_FILE + TEMPORARY)).write_bytes(b"half a copy")
    HARMLESS["the number of a page"](kv)
    assert_served(root_of(kv), kept=True)
