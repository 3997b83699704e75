"""Compaction: the free pages of an LMDB file go back to the file system, by a copy that takes the file's place."""

from collections.abc import Callable

from . import points
from .copying import frozen
from .durable import TEMPORARY, disk_errors
from .environment import DATA_FILE, Environment
from .errors import Unavailable
from .limits import COMPACT_SHARE
from .progress import Tally
from .staging import check_space
from .writing import write_pieces


def bytes_to_compact(environment: Environment) -> int:
    """Return the size of the copy that a compaction makes; 0 when too little of the file is free to be worth one."""
    with environment.reading() as txn:
        used, free = environment.bytes_used(txn), environment.free_bytes(txn)
    return used if free * COMPACT_SHARE > used + free else 0


def compact(environment: Environment, leaving: Callable[[], bool], tally: Tally) -> None:
    """Compact an environment that nobody changes meanwhile: the caller holds the lock of those who write.

    Reads go on while the copy is made. For the swap the reads under way are waited for, and new ones wait. A crash
    leaves the old file or the copy under the file's name, and perhaps an unfinished copy beside it, which is removed
    when the directory is opened.

    Raises:
        ResourceExhausted: the disk has no space for the copy; nothing was changed.
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
        with frozen(environment) as state:
            write_pieces(copy, state.pieces(), written)
            state.check_copy(copy)
        points.reached(points.COPIED, copy)
        environment.replace_data(copy)
    finally:
        with disk_errors(f"removing {copy}"):
            copy.unlink(missing_ok=True)
