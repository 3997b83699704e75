"""What would end the process that serves ends another one first, and is then named and left out."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.disk import walk
from memory3.store.disk.environment import DATA_FILE, DEADLY_FILE, UNFIT_FILE
from memory3.store.disk.page_check import look_at
from memory3.store.disk.set_aside import set_aside
from memory3.store.errors import Corrupted
from memory3.store.placement import shard_of_key
from memory3.tests.reliability.pages import PAGE, pages_in_use

from ..builders import DIMENSION, EMBEDDER, embedded, vector_of

SHARDS = 2
KEYS = [f"key {number}" for number in range(40)]
LONG = "long " * 1_000
"""Longer than a page, as the key-values are too."""
LOST = 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two shards with key-values, well closed."""
    with DataDirectory.open(tmp_path) as directory:
        collection = directory.create_collection("default", EMBEDDER, DIMENSION, SHARDS)
        results = collection.upsert([embedded(key, key + LONG) for key in KEYS])
        collection.put_key_values("model", [(result.version, bytes(5_000)) for result in results])
    return tmp_path


def environments(path: Path) -> list[Path]:
    return sorted(file.parent for file in path.glob(f"collections/*/shard-*/*/{DATA_FILE}"))


def change_first_node(environment: Path, table: str, field: int, value: int) -> None:
    """Change two bytes of the first node of a leaf page."""
    data = bytearray((environment / DATA_FILE).read_bytes())
    page = next(page for page in pages_in_use(bytes(data)) if (page.kind, page.table) == ("leaf", table))
    node = page.start + int.from_bytes(data[page.start + 16 : page.start + 18], "little")
    data[node + field : node + field + 2] = value.to_bytes(2, "little")
    (environment / DATA_FILE).write_bytes(data)


def make_deadly(environment: Path, table: str) -> None:
    """Let a value be longer than the file: reading its end ends a process by SIGBUS."""
    change_first_node(environment, table, 2, (environment / DATA_FILE).stat().st_size // PAGE)


def misnumber(environment: Path, table: str = "documents") -> None:
    """Let a page have another number, which LMDB does not look at."""
    data = bytearray((environment / DATA_FILE).read_bytes())
    page = next(page for page in pages_in_use(bytes(data)) if (page.kind, page.table) == ("leaf", table))
    data[page.start + 7] ^= 1
    (environment / DATA_FILE).write_bytes(data)


def ended_before(path: Path, times: int) -> None:
    """As if processes had ended without closing the directory."""
    (path / "lock").write_text(f"{times}")


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], Collection]]:
    """Open the collection; it is closed in the end."""
    directories = []

    def collection() -> Collection:
        directories.append(DataDirectory.open(path))
        return directories[-1].collection("default")

    yield collection
    for directory in directories:
        directory.close()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if data files were too large to look at their pages before each opening."""
    monkeypatch.setattr("memory3.store.disk.set_aside.LOOKED_AT_TOGETHER_BYTES_MAX", 0)


@pytest.mark.parametrize("ended", [0, 2])
def test_what_is_whole_is_passed_and_unchanged(path: Path, ended: int) -> None:
    before = {environment: (environment / DATA_FILE).read_bytes() for environment in environments(path)}
    set_aside(environments(path), environments(path)[::2], ended)
    assert {environment: (environment / DATA_FILE).read_bytes() for environment in environments(path)} == before
    assert list(path.rglob(DEADLY_FILE)) == []


@pytest.mark.parametrize("ended", [0, 1, 2])
def test_a_shard_that_ends_processes_is_left_out(path: Path, opened: Callable[[], Collection], ended: int) -> None:
    shard = environments(path)[2].parent
    make_deadly(shard / "records", "memories")
    ended_before(path, ended)
    collection = opened()
    assert [one.relative_to(shard).as_posix() for one in path.rglob(DEADLY_FILE)] == [f"records/{DEADLY_FILE}"]
    (hits,) = collection.recall(vector_of(KEYS[0] + LONG)[None], 100)
    assert {hit.key for hit in hits} == {key for key in KEYS if shard_of_key(key, SHARDS) != LOST}
    with pytest.raises(Corrupted, match=r"its pages .* \(.*\); restore it from a copy, and remove"):
        collection.get([key for key in KEYS if shard_of_key(key, SHARDS) == LOST])


def test_what_does_not_fit_and_ends_nobody_is_read_and_not_changed(
    path: Path, opened: Callable[[], Collection]
) -> None:
    """A page of another number: what is on it is served."""
    whole, records = (environments(path)[number] for number in (1, 2 * LOST + 1))
    misnumber(records)
    collection = opened()
    assert [one.parent for one in path.rglob(UNFIT_FILE)] == [records]
    assert collection.stats().missing_shards == ()
    assert None not in collection.get(KEYS)
    for key in KEYS:
        if shard_of_key(key, SHARDS) == LOST:
            with pytest.raises(
                Corrupted, match=r"another kind.*it can be read, and not changed: restore it from a copy"
            ):
                collection.delete([key])
        else:
            collection.upsert([embedded(key, "anew")])
    with pytest.raises(Corrupted, match="not changed"):
        collection.compact()
    assert any("can be read and not changed: its pages" in problem for problem in collection.check(False).problems)
    assert None not in collection.get(KEYS)
    assert look_at(whole / DATA_FILE).unfit is None


def test_what_was_not_looked_at_again_stays_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many files are looked at as that takes no time; first those that few pages are enough of."""
    one, other = (environments(path)[number] for number in (1, 3))
    for environment in (one, other):
        misnumber(environment)
    set_aside(environments(path), [], 0)
    assert {found.parent for found in path.rglob(UNFIT_FILE)} == {one, other}
    for name in ("LOOKED_AT_BYTES_MAX", "LOOKED_AT_TOGETHER_BYTES_MAX"):
        monkeypatch.setattr(f"memory3.store.disk.set_aside.{name}", (other / DATA_FILE).stat().st_size)
    for environment in (one, other):
        (environment / UNFIT_FILE).write_text("as it was")
    set_aside(environments(path), [other], 0)
    assert (one / UNFIT_FILE).read_text() == "as it was" and not (other / UNFIT_FILE).exists()


def test_what_fits_again_is_changed_again(path: Path) -> None:
    """A copy in its place."""
    records = environments(path)[1]
    copy = (records / DATA_FILE).read_bytes()
    misnumber(records)
    set_aside(environments(path), [], 0)
    assert (records / UNFIT_FILE).exists()
    (records / DATA_FILE).write_bytes(copy)
    set_aside(environments(path), [], 0)
    assert not (records / UNFIT_FILE).exists()


def test_what_does_not_fit_is_not_opened_after_a_process_has_ended(
    path: Path, opened: Callable[[], Collection]
) -> None:
    """Whether it was that, nobody knows."""
    records = environments(path)[2 * LOST + 1]
    misnumber(records)
    ended_before(path, 1)
    assert opened().stats().missing_shards == (LOST,)
    assert "do not fit together (table 'documents' leads to a page of another kind)" in (
        (records / DEADLY_FILE).read_text()
    )


def test_what_cannot_be_read_is_left_to_whoever_opens_it(path: Path) -> None:
    for environment in environments(path):
        (environment / DATA_FILE).unlink()
        (environment / DATA_FILE).mkdir()
    set_aside(environments(path), [], 1)
    assert list(path.rglob(DEADLY_FILE)) == []


@pytest.mark.usefixtures("large")
def test_an_empty_key_does_not_end_the_walk(path: Path) -> None:
    change_first_node(environments(path)[1], "documents", 6, 0)
    make_deadly(environments(path)[3], "memories")
    set_aside(environments(path), [], 2)
    assert [one.parent for one in path.rglob(DEADLY_FILE)] == [environments(path)[3]]


def test_what_ends_the_walk_only_at_its_end_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever damages the process's memory may end it when it is done with all."""
    paths = [tmp_path / name for name in ("one", "bad", "another")]
    code = "import os, sys; [print('passed', flush=True) for _ in sys.argv[1:]]; 'bad' in str(sys.argv) and os.abort()"

    def start(module: str, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(walk, "start", start)
    assert walk.ended_by(paths) == {paths[1]: "SIGABRT"}
    assert walk.ended_by(paths[::2]) == {}


def test_it_is_left_out_from_then_on(path: Path) -> None:
    make_deadly(environments(path)[2 * LOST + 1], "memories")
    ended_before(path, 2)
    for _ in range(3):
        with DataDirectory.open(path) as directory:
            assert directory.collection("default").stats().missing_shards == (LOST,)


@pytest.mark.parametrize("ended", [0, 2])
def test_key_values_that_end_processes_are_written_again(
    path: Path, opened: Callable[[], Collection], ended: int
) -> None:
    make_deadly(environments(path)[0], "values")
    ended_before(path, ended)
    collection = opened()
    assert list(path.rglob(DEADLY_FILE)) == []
    lost = [key for key in KEYS if shard_of_key(key, SHARDS) == 0]
    assert len(collection.cold("model", 100)) == len(lost)
    assert collection.check(full=True).problems == ()


@pytest.mark.usefixtures("large")
def test_large_files_are_walked_through_once_processes_have_ended(path: Path, opened: Callable[[], Collection]) -> None:
    make_deadly(environments(path)[2 * LOST + 1], "memories")
    ended_before(path, 2)
    assert opened().stats().missing_shards == (LOST,)
    assert "end processes (SIGBUS)" in (environments(path)[2 * LOST + 1] / DEADLY_FILE).read_text()


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("times", [0, 1])
def test_nobody_walks_before_processes_have_ended(path: Path, times: int) -> None:
    """It takes as long as reading everything."""
    make_deadly(environments(path)[2 * LOST + 1], "memories")
    ended_before(path, times)
    with DataDirectory.open(path) as directory:
        assert directory.collection("default").stats().missing_shards == ()
        assert list(path.rglob(DEADLY_FILE)) == []


def test_a_walk_that_finds_nothing_counts_from_one_again(path: Path, opened: Callable[[], Collection]) -> None:
    ended_before(path, 2)
    opened()
    assert (path / "lock").read_text() == "1"
