import threading
from pathlib import Path

import lmdb
import pytest
from memory3.store.backup.copying import frozen
from memory3.store.backup.writing import write_copy
from memory3.store.disk.environment import Environment
from memory3.store.errors import Cancelled, Corrupted

from ..builders import put_raw


def filled(path: Path, values: int) -> Environment:
    environment = Environment.create(path, 1 << 30, durable=True)
    tables = [environment.table(name, bytes, bytes) for name in ("one", "two", "none")]
    for size in (100, 9000):
        with environment.writing() as txn:
            for number in range(values):
                for table in tables[:2]:
                    table.put(txn, b"%08d" % number, b"x" * size)
    with environment.writing() as txn:
        for number in range(0, values, 2):
            tables[0].delete(txn, b"%08d" % number)
    return environment


@pytest.mark.parametrize("values", [0, 1, 5, 1000])
def test_the_size_of_a_copy_is_known_before(tmp_path: Path, values: int) -> None:
    environment = filled(tmp_path / "from", values)
    with frozen(environment) as state:
        copy = b"".join(state.pieces())
        assert len(copy) == state.bytes
        (tmp_path / "copy").write_bytes(copy)
        state.check_copy(tmp_path / "copy")
    environment.close()
    with lmdb.open(str(tmp_path / "copy"), subdir=False, readonly=True, lock=False, max_dbs=3) as opened:
        two = opened.open_db(b"two", create=False)
        with opened.begin(db=two) as txn:
            assert txn.stat(two)["entries"] == values
            assert sum(len(value) for _, value in txn.cursor()) == values * (9000 + 8)


def test_a_copy_given_up_ends_lmdb_s_work(tmp_path: Path) -> None:
    environment = filled(tmp_path / "from", 1000)
    for _ in range(5):
        with frozen(environment) as state:
            pieces = state.pieces()
            next(pieces)
            pieces.close()
    assert environment.oldest_reader() == 0
    environment.close()


def test_a_copy_that_cannot_be_written_has_ended_before_its_state_is_let_go(tmp_path: Path) -> None:
    """LMDB would read on in a transaction that is no more; the exception, while it is handled, kept the copy open."""
    environment = filled(tmp_path / "from", 1000)

    def refuse(size: int) -> None:
        raise Cancelled("enough")

    with frozen(environment) as state:
        with pytest.raises(Cancelled) as refused:
            write_copy(tmp_path / "copy", state.pieces(), refuse)
        assert refused.traceback and "memory3-copy" not in {thread.name for thread in threading.enumerate()}
    environment.close()


def test_a_copy_that_lacks_something_is_noticed(tmp_path: Path) -> None:
    environment = filled(tmp_path / "from", 10)
    with frozen(environment) as state:
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "data.mdb").write_bytes(b"".join(state.pieces()))
        put_raw(tmp_path / "copy", "none", b"key", b"value")
        with pytest.raises(Corrupted, match="'none': 1"):
            state.check_copy(tmp_path / "copy" / "data.mdb")
        (tmp_path / "copy" / "data.mdb").write_bytes(b"nonsense" * 2000)
        with pytest.raises(Corrupted):
            state.check_copy(tmp_path / "copy" / "data.mdb")
    environment.close()
