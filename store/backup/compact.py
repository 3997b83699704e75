"""Compaction: the free pages of an LMDB file go back to the file system, by a copy that takes the file's place."""

from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from threading import Lock

from ..disk import points
from ..disk.durable import TEMPORARY, disk_errors
from ..disk.environment import DATA_FILE, Environment
from ..errors import ResourceExhausted, Unavailable
from ..limits import COMPACT_SHARE, TOUCHED_LAST_MAX, TOUCHED_MAX
from .copying import GrowingCopy, frozen
from .progress import Tally
from .staging import check_space
from .writing import write_copy

_ROUNDS = 8


def bytes_to_compact(environment: Environment) -> int:
    """Return the size of the copy that a compaction makes; 0 when too little of the file is free to be worth one."""
    with environment.reading() as txn:
        used, free = environment.bytes_used(txn), environment.free_bytes(txn)
    return used if free * COMPACT_SHARE > used + free else 0


def compact(environment: Environment, writer: Lock, leaving: Callable[[], bool], tally: Tally) -> None:
    """Compact an environment while it is read and written. `writer` is the lock that all hold who write.

    The copy is made of one state. What is changed meanwhile is remembered, and changed in the copy too, until little
    is left; only for that and for the swap writers wait. For the swap reads under way are waited for, and new ones
    wait. A crash leaves the old file or the copy under the file's name, and perhaps an unfinished copy beside it, which
    is removed when the directory is opened.

    Raises:
        ResourceExhausted: the disk has no space for the copy, or too much was changed meanwhile; nothing is lost.
        Unavailable: `leaving` says that the environment is to be closed; nothing was changed.
        Corrupted: the copy is not what was read; nothing was changed.
    """
    size = bytes_to_compact(environment)
    if not size:
        return
    check_space(environment.path, size)
    copy = environment.path / (DATA_FILE + TEMPORARY)

    def written(piece: int) -> None:
        if leaving():
            raise Unavailable(f"{environment.path} is being closed; its compaction was given up")
        tally.add(piece)

    try:
        environment.watch()
        with frozen(environment) as state:
            write_copy(copy, state.pieces(), written)
            state.check_copy(copy)
        _swap(environment, copy, writer, lambda: written(0))
    finally:
        environment.unwatch()
        with disk_errors(f"removing {copy}"):
            copy.unlink(missing_ok=True)


def _swap(environment: Environment, path: Path, writer: Lock, look: Callable[[], None]) -> None:
    with closing(GrowingCopy(path, environment)) as copy:
        # Each round has less to do than the one before, as long as the disk takes more than the writers give.
        for _ in range(_ROUNDS):
            look()
            if len(_take(environment, copy)) <= TOUCHED_LAST_MAX:
                break
    with writer:
        with closing(GrowingCopy(path, environment)) as copy:
            _take(environment, copy)
        points.reached(points.COPIED, path)
        environment.replace_data(path)


def _take(environment: Environment, copy: GrowingCopy) -> Collection[tuple[str, bytes]]:
    touched = environment.watch()
    if touched.missed:
        raise ResourceExhausted(
            f"more than {TOUCHED_MAX} values changed while {environment.path} was compacted; "
            "nothing is lost; compact it when less is written"
        )
    copy.take(touched.keys)
    return touched.keys
