"""A damaged environment copied value by value into a new file, where that loses nothing, in a process of its own.

Pages that do not fit together may still lead to all that they hold: the number of a page is wrong, or a list of free
pages names others. LMDB's own copy takes such pages as they are. Read through, and put into a new file one by one, the
values are what they were, and the pages fit. All are there when each table has as many as LMDB has counted, in the
order of their keys; whether each is whole its checksum says, as ever.

    python -m memory3.store.disk.mend PATH
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import lmdb

from ..errors import Memory3Error
from ..limits import BYTES_RESERVED, KEY_VALUES_BYTES_MAX
from .child import end_with_the_caller, start
from .durable import TEMPORARY, disk_errors, free_bytes, sync_directory
from .environment import DATA_FILE, TABLES_MAX, Environment

MENDED_BYTES_MAX = 3 << 30
"""Of a file: copying it takes a minute or less, for which its directory's other collections wait."""
_BATCH_BYTES = 32 << 20
"""Of a transaction: its pages are held in memory."""

_log = logging.getLogger(__name__)


class _Incomplete(Exception):
    """Not all can be read; says what is missing."""


def mended(environment: Path) -> bool:
    """Put a whole copy in the place of an environment's file, which nobody has open; False where there can be none."""
    file = environment / DATA_FILE
    copy = file.with_name(DATA_FILE + TEMPORARY)
    try:
        with disk_errors(f"copying {file}"):
            size = file.stat().st_size
            if size > MENDED_BYTES_MAX or size > free_bytes(environment) - BYTES_RESERVED:
                return False
            copy.unlink(missing_ok=True)
            with start(__name__, str(environment)) as child:
                assert child.stdout is not None
                told = child.stdout.read().decode("utf-8", "backslashreplace").strip()
            if child.returncode:
                copy.unlink(missing_ok=True)
                why = told or f"the process that read it ended with {child.returncode}"
                _log.warning("%s cannot be copied whole: %s", environment, why)
                return False
            os.replace(copy, file)
            sync_directory(environment)
    except Memory3Error as error:
        _log.warning("%s could not be copied: %s", environment, error)
        return False
    return True


def _main(path: str) -> int:
    end_with_the_caller()
    try:
        _copy(Path(path))
    except (Memory3Error, lmdb.Error, _Incomplete) as error:
        print(error)
        return 1
    return 0


def _copy(path: Path) -> None:
    source = Environment(path, KEY_VALUES_BYTES_MAX, durable=True)
    file = str(path / (DATA_FILE + TEMPORARY))
    with (
        lmdb.open(
            file, subdir=False, lock=False, sync=False, max_dbs=TABLES_MAX, map_size=KEY_VALUES_BYTES_MAX
        ) as target,
        source.reading() as txn,
        txn.cursor() as cursor,
    ):
        names = [bytes(name) for name, _ in cursor]
        _need(len(names) == int(txn.stat()["entries"]), "not all tables are there")
        for name in names:
            table = source.lmdb.open_db(name, txn=txn, create=False)
            _copy_table(txn, table, target, target.open_db(name), name.decode("utf-8", "backslashreplace"))
        target.sync(True)
    source.close()


def _copy_table(txn: Any, table: Any, target: lmdb.Environment, into: Any, name: str) -> None:
    expected = int(txn.stat(table)["entries"])
    count = size = 0
    changing = target.begin(write=True)
    with txn.cursor(table) as cursor:
        for key, value in cursor:
            count += 1
            _need(count <= expected, f"table {name!r} has more values than it says")
            _need(changing.put(key, value, db=into, append=True), f"table {name!r} has keys out of order")
            size += len(key) + len(value)
            if size >= _BATCH_BYTES:
                changing.commit()
                changing, size = target.begin(write=True), 0
    changing.commit()
    _need(count == expected, f"table {name!r} has {count} of its {expected} values")


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Incomplete(otherwise)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
